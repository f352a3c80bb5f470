"""The pattern of a node that runs no more often than it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pocketflow_async.resilience.limiter import RateLimiter
from pocketflow_async.resilience.limiting import Limiter
from pocketflow_async.workflow.patterns.adding import add_pattern, pattern_spec
from pocketflow_async.workflow.patterns.rate_limited_work import RateLimitedWork

_RATE: Final = 10


def rate_limited(
    builder: Any,
    node_id: str,
    code: str | Callable[..., Any],
    *,
    requests_per_second: float = _RATE,
    burst_size: int | None = None,
    limiter: Limiter | None = None,
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
        limiter: Limits it in place of those two: one that several nodes share, an exact window
            (`RateLimiter.window`), or one that processes share (`RedisRateLimiter`). If it has a
            `key`, that is made of the node's inputs. If it does not wait, runs for which there is
            no room fail with RateLimitExceeded.
        description: For people.
        **options: As for `add_async_code`; `timeout` (30 seconds) is that of the code, without
            the waiting.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range.
        WorkflowValidationError: The id is taken or cannot be one, or the code is no code.
    """
    if limiter is None:
        limiter = _own(node_id, requests_per_second, burst_size)
    else:
        _check_only(node_id, limiter, requests_per_second, burst_size)
    spec = pattern_spec(node_id, code, {**options, "description": description})
    return add_pattern(builder, spec, RateLimitedWork(spec.work, limiter, spec.timeout))  # type: ignore[arg-type]  # made just now


def _own(node_id: str, requests_per_second: float, burst_size: int | None) -> RateLimiter:
    try:
        return RateLimiter(requests_per_second, burst_size)
    except (TypeError, ValueError) as error:
        said = str(error).replace("rate must", "requests_per_second must")
        said = said.replace("burst must", "burst_size must")
        raise type(error)(f"node {node_id!r}: {said}") from error


def _check_only(
    node_id: str, limiter: object, requests_per_second: float, burst_size: int | None
) -> None:
    if not isinstance(limiter, Limiter):
        raise TypeError(
            f"node {node_id!r}: limiter must be a RateLimiter or a RedisRateLimiter, "
            f"not {limiter!r:.80}"
        )
    if requests_per_second != _RATE or burst_size is not None:
        raise TypeError(
            f"node {node_id!r}: requests_per_second and burst_size are those of the limiter: "
            "give them to it"
        )
