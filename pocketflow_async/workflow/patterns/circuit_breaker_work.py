"""Work that a circuit breaker guards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.clock import clock
from pocketflow_async.resilience.breaker import CircuitBreaker
from pocketflow_async.resilience.errors import CircuitBreakerOpen
from pocketflow_async.workflow.patterns.retried_work import (
    inputs_of,
    outputs_of,
    run_work,
    with_facts,
)
from pocketflow_async.workflow.spec import Context, Ports, Work

CIRCUIT_BREAKER_INFO: Final = "_circuit_breaker_info"
"""Key of what is added to a dict that the work yields."""
REFUSED: Final = ("success", "error", "circuit_state", "failure_count", "time_until_retry")
"""What it yields in place of the work."""
OPENED: Final = ("success", "error", "error_type", "circuit_state", "failure_count")
"""What it yields when the work has failed and that has opened the breaker."""


class CircuitBreakerWork:
    """Does what *work* does, unless *breaker* does not let it, over all runs.

    Args:
        work: What is guarded.
        breaker: Shared by all runs; it can be looked at, forced and `reset`.
        timeout: Seconds that the work may take; None: no limit.
    """

    is_async: Final = True

    def __init__(self, work: Work, breaker: CircuitBreaker, timeout: float | None = None) -> None:
        self.work = work
        self.breaker = breaker
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<CircuitBreakerWork {self.work!r}, {self.breaker!r}>"

    @property
    def inputs(self) -> Ports:
        """The inputs of what is guarded."""
        return inputs_of(self.work)

    @property
    def outputs(self) -> Ports:
        """The outputs of what is guarded, if it yields a dict, and what there may be instead."""
        return outputs_of(self.work, (CIRCUIT_BREAKER_INFO, *dict.fromkeys(REFUSED + OPENED)))

    def reset(self) -> None:
        """Close the breaker, and forget all calls so far."""
        self.breaker.reset()

    async def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Do the work, if the breaker lets it.

        Returns:
            What the work yields; a dict has `_circuit_breaker_info` too: `state` and
            `failure_count` of the breaker after it, `operation_duration` in seconds. If it was not
            let through: `success` (False), `error`, `circuit_state`, `failure_count` and
            `time_until_retry` in seconds, which is None where nobody knows. If it has failed and
            that has opened the breaker: `success` (False), `error`, `error_type`, `circuit_state`
            and `failure_count`.

        Raises:
            Exception: The work has failed, and the breaker stays as it was.
        """
        guard = self.breaker.guard()
        began = clock().monotonic()
        try:
            async with guard:
                value = await run_work(self.work, inputs, context, self.timeout)
                guard.result(value)
        except Exception as error:
            if isinstance(error, CircuitBreakerOpen) and error is guard.refusal:
                return _refused(error)
            if guard.opened:
                return {
                    "success": False,
                    "error": str(error),
                    "error_type": type(error).__name__,
                    "circuit_state": guard.state,
                    "failure_count": guard.failures,
                }
            raise
        if not isinstance(value, Mapping):
            return value
        info = {
            "state": guard.state,
            "failure_count": guard.failures,
            "operation_duration": clock().monotonic() - began,
        }
        return with_facts(value, {CIRCUIT_BREAKER_INFO: info})


def _refused(refusal: CircuitBreakerOpen) -> dict[str, Any]:
    """Return what is yielded in place of the work; one that is forced open is just open."""
    probing = refusal.state == "half_open"
    return {
        "success": False,
        "error": f"Circuit breaker is {'HALF_OPEN' if probing else 'OPEN'}",
        "circuit_state": "half_open" if probing else "open",
        "failure_count": refusal.failures,
        "time_until_retry": refusal.retry_after,
    }
