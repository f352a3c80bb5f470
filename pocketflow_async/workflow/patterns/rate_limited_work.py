"""Work that waits for a rate limiter first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.clock import clock
from pocketflow_async.resilience.limiter import RateLimiter
from pocketflow_async.workflow.patterns.retried_work import (
    inputs_of,
    outputs_of,
    run_work,
    with_facts,
)
from pocketflow_async.workflow.spec import Context, Ports, Work

RATE_LIMIT_INFO: Final = "_rate_limit_info"
"""Key of what is added to a dict that the work yields."""


class RateLimitedWork:
    """Does what *work* does, at most as often as *limiter* lets it, over all runs.

    Args:
        work: What is limited.
        limiter: Shared by all runs; it can be looked at, and `reset`.
        timeout: Seconds that the work may take, waiting aside; None: no limit.
    """

    is_async: Final = True

    def __init__(self, work: Work, limiter: RateLimiter, timeout: float | None = None) -> None:
        self.work = work
        self.limiter = limiter
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<RateLimitedWork {self.work!r}, {self.limiter!r}>"

    @property
    def inputs(self) -> Ports:
        """The inputs of what is limited."""
        return inputs_of(self.work)

    @property
    def outputs(self) -> Ports:
        """The outputs of what is limited, if it yields a dict, and what is added."""
        return outputs_of(self.work, (RATE_LIMIT_INFO,))

    def reset(self) -> None:
        """Forget all calls so far."""
        self.limiter.reset()

    async def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Wait for the limiter, then do the work.

        Returns:
            What that yields; a dict has `_rate_limit_info` too: `tokens_remaining`,
            `requests_in_window` (of the last second), `operation_duration` and `waited` (seconds).

        Raises:
            ExecutionTimeoutError: The work took too long.
        """
        admission = await self.limiter.take()
        began = clock().monotonic()
        value = await run_work(self.work, inputs, context, self.timeout)
        if not isinstance(value, Mapping):
            return value
        info = {
            "tokens_remaining": admission.tokens_remaining,
            "requests_in_window": admission.requests_in_window,
            "operation_duration": clock().monotonic() - began,
            "waited": admission.waited,
        }
        return with_facts(value, {RATE_LIMIT_INFO: info})
