"""The pattern of a node that is not run for a while when it has failed too often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pocketflow_async.resilience.breaker import CircuitBreaker
from pocketflow_async.workflow.patterns.adding import add_pattern, pattern_spec
from pocketflow_async.workflow.patterns.circuit_breaker_work import CircuitBreakerWork


def circuit_breaker(
    builder: Any,
    node_id: str,
    code: str | Callable[..., Any],
    *,
    failure_threshold: int = 5,
    reset_timeout: float = 60.0,
    breaker: CircuitBreaker | None = None,
    description: str | None = None,
    **options: Any,
) -> str:
    """Add a node that is not run for a while when it has failed too often; return its id.

    At the last of `failure_threshold` failures within two minutes, over all runs, its breaker
    opens. That failure, and from then on each run, yields a dict with `success` (False), `error`,
    `circuit_state` and `failure_count`, and `error_type` or `time_until_retry` (seconds); the
    failures before it are the node's. After `reset_timeout` one run at a time tries again: if it
    succeeds the breaker closes, else it is open again. Every error is a failure, one that took too
    long too; a run that is cancelled is none.

    It yields what the code does; a dict gets `_circuit_breaker_info`: `state` ("closed", "open",
    "half_open"), `failure_count` and `operation_duration` in seconds. The breaker is
    `workflow.nodes[node_id].work.breaker`, with `state`, `force_open`, `reset` and more.

    Args:
        builder: What the node is added to.
        node_id: Its id.
        code: What is guarded; as for `add_async_code`.
        failure_threshold: How many failures open it.
        reset_timeout: Seconds until it is tried again.
        breaker: A breaker to use in place of its own, for all else that one can be: with another
            window or judgement, or shared with other nodes, workflows or processes. The two above
            are then its own.
        description: For people.
        **options: As for `add_async_code`; `timeout` (30 seconds) is that of the code.

    Raises:
        TypeError: Something is of a wrong type, unknown, or given besides a breaker.
        ValueError: Something is out of range.
        WorkflowValidationError: The id is taken or cannot be one, or the code is no code.
    """
    if breaker is None:
        try:
            breaker = CircuitBreaker(
                node_id,
                failure_threshold=failure_threshold,
                reset_timeout=reset_timeout,
                is_failure=_every_error,
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"node {node_id!r}: {error}") from error
    elif not isinstance(breaker, CircuitBreaker):
        raise TypeError(f"node {node_id!r}: breaker must be a CircuitBreaker, not {breaker!r:.80}")
    elif (failure_threshold, reset_timeout) != (5, 60.0):
        raise TypeError(
            f"node {node_id!r}: failure_threshold and reset_timeout are those of its breaker: "
            "give them to that"
        )
    spec = pattern_spec(node_id, code, {**options, "description": description})
    return add_pattern(builder, spec, CircuitBreakerWork(spec.work, breaker, spec.timeout))  # type: ignore[arg-type]  # made just now


def _every_error(error: Exception) -> bool:
    return True
