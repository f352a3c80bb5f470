"""The pattern of a node that runs no more often than it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pocketflow_async.resilience.limiter import RateLimiter
from pocketflow_async.workflow.patterns.adding import add_pattern, pattern_spec
from pocketflow_async.workflow.patterns.rate_limited_work import RateLimitedWork


def rate_limited(
    builder: Any,
    node_id: str,
    code: str | Callable[..., Any],
    *,
    requests_per_second: float = 10,
    burst_size: int | None = None,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add a node that runs no more often than it may, over all runs; return its id.

    Runs wait in the order in which they come. In any span of time there are at most
    `requests_per_second * seconds + burst_size` of them. It yields what the code does; a dict
    gets `_rate_limit_info`: `tokens_remaining`, `requests_in_window` (in the last second),
    `operation_duration` and `waited` in seconds. The limiter is
    `workflow.nodes[node_id].work.limiter`; its `reset()` forgets all runs so far.

    Args:
        builder: What the node is added to.
        node_id: Its id.
        code: What is limited; as for `add_async_code`.
        requests_per_second: How often it may run on the long average.
        burst_size: How often at once, after a rest; twice the rate if it is left out, and at
            least 1.
        description: For people.
        **options: As for `add_async_code`; `timeout` (30 seconds) is that of the code, without
            the waiting.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range.
        WorkflowValidationError: The id is taken or cannot be one, or the code is no code.
    """
    try:
        limiter = RateLimiter(requests_per_second, burst_size)
    except (TypeError, ValueError) as error:
        said = str(error).replace("rate must", "requests_per_second must")
        said = said.replace("burst must", "burst_size must")
        raise type(error)(f"node {node_id!r}: {said}") from error
    spec = pattern_spec(node_id, code, {**options, "description": description})
    return add_pattern(builder, spec, RateLimitedWork(spec.work, limiter, spec.timeout))  # type: ignore[arg-type]  # made just now
