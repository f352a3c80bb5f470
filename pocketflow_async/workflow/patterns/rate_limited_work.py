"""Work that waits for a rate limiter first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from pocketflow_async.clock import clock
from pocketflow_async.resilience.limiting import Limiter
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
        limiter: Shared by all runs; it can be looked at, and `reset`. Its key, if it has one, is
            made of the inputs.
        timeout: Seconds that the work may take, waiting aside; None: no limit.
    """

    is_async: Final = True

    def __init__(self, work: Work, limiter: Limiter, timeout: float | None = None) -> None:
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

    def reset(self) -> Any:
        """Forget all calls so far; await what is returned if the limiter is one in Redis."""
        return self.limiter.reset()

    async def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Wait for the limiter, then do the work.

        Returns:
            What that yields; a dict has `_rate_limit_info` too: `tokens_remaining`,
            `requests_in_window` (of the limiter's last window, a
            second if it has none), `operation_duration` and `waited` (seconds).

        Raises:
            ExecutionTimeoutError: The work took too long.
            RateLimitExceeded: The limiter does not wait so long.
        """
        key = self.limiter.key
        asked = None if key is None else key.of(partial(_nothing, **inputs))
        admission = await self.limiter.take(asked)
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


def _nothing(**inputs: Any) -> None:
    """Stand for the work where its inputs are asked for the key."""
