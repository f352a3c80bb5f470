"""Nodes that stand failures and limits of what they call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pocketflow_async.resilience.limiter import RateLimiter
from pocketflow_async.workflow.node_options import OPTIONS
from pocketflow_async.workflow.node_specs import make_spec, parted
from pocketflow_async.workflow.rate_limited_work import RateLimitedWork
from pocketflow_async.workflow.retried_work import JitteredPolicy, RetriedWork
from pocketflow_async.workflow.retrying import ErrorName
from pocketflow_async.workflow.spec import NodeSpec

_CODE = "AsyncPythonCodeNode"
_BY_THE_WORK = ("timeout", "max_concurrent_tasks")
"""Options that the work of a pattern enforces itself: neither delays nor waiting count."""


class AsyncPatterns:
    """Adds nodes of a pattern to a builder; each method returns the node's id.

    There are `retry_with_backoff` and `rate_limited`. Code strings may be indented as a whole;
    where code is taken, a function is too. What a pattern has to remember is kept by its node, of
    which all workflows that the builder builds have the same, and all their runs.
    """

    @staticmethod
    def retry_with_backoff(
        builder: Any,
        node_id: str,
        code: str | Callable[..., Any],
        *,
        max_retries: int = 3,
        initial_backoff: float = 1.0,
        backoff_factor: float = 2.0,
        max_backoff: float = 60.0,
        retry_on: Iterable[ErrorName] | ErrorName | None = None,
        description: str | None = None,
        **options: Any,
    ) -> str:
        """Add a node that is tried again when it has failed; return its id.

        It yields the dict that the code does, with `success` (True), `attempts` (of each: attempt,
        success, duration in seconds, error, error_type) and `total_attempts`; keys of those names
        in the code's own dict stay as they are. Anything else but None is under `value`. When the
        last attempt has failed, so has the node: `RuntimeError: Operation failed after 3 attempts:
        …`. An error that is not to be retried comes as it is.

        Args:
            builder: What the node is added to.
            node_id: Its id.
            code: What is tried; as for `add_async_code`.
            max_retries: Most attempts in all, the first included.
            initial_backoff: Seconds after the first failed attempt. Up to as many again are added
                to each delay by chance, so that not all callers come back at once.
            backoff_factor: What the delay is multiplied by from one attempt to the next.
            max_backoff: Most seconds of any delay.
            retry_on: Errors worth another attempt, classes or names such as `"TimeoutError"` and
                `"aiohttp.ClientError"`; None: all.
            description: For people.
            **options: As for `add_async_code`; `timeout` (30 seconds) is that of one attempt.

        Raises:
            TypeError: Something is of a wrong type, or unknown.
            ValueError: Something is out of range.
            WorkflowValidationError: The id is taken or cannot be one, or the code is no code.
        """
        if "retry_policy" in options:
            raise TypeError(
                f"node {node_id!r}: retry_with_backoff takes no retry_policy: it is one"
            )
        try:
            policy = JitteredPolicy(
                max_retries=max_retries,
                base_delay=initial_backoff,
                backoff_factor=backoff_factor,
                max_delay=max_backoff,
                retry_on=retry_on,
            )
        except (TypeError, ValueError) as error:
            said = str(error).replace("base_delay", "initial_backoff")
            said = said.replace("max_delay", "max_backoff")
            raise type(error)(f"node {node_id!r}: {said}") from error
        spec = _spec(node_id, code, {**options, "description": description, "retry_policy": policy})
        return _add(builder, spec, RetriedWork(spec.work, policy, spec.timeout))  # type: ignore[arg-type]  # made just now

    @staticmethod
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
        spec = _spec(node_id, code, {**options, "description": description})
        return _add(builder, spec, RateLimitedWork(spec.work, limiter, spec.timeout))  # type: ignore[arg-type]  # made just now


def _spec(node_id: str, code: str | Callable[..., Any], given: dict[str, Any]) -> NodeSpec:
    """Return the node that the code would be by itself."""
    return make_spec(_CODE, node_id, *parted(_CODE, {"code": code, **given}))


def _add(builder: Any, spec: NodeSpec, work: RetriedWork | RateLimitedWork) -> str:
    """Add *work* under the id of *spec*, with all that was said about that one."""
    add = getattr(builder, "add_node", None)
    if add is None:
        raise TypeError(
            f"node {spec.id!r}: a workflow builder is needed first, not {builder!r:.80}"
        )
    said = {
        name: value
        for name in OPTIONS
        if name not in _BY_THE_WORK and (value := getattr(spec, name)) is not None
    }
    added: str = add(work, spec.id, **said)
    return added
