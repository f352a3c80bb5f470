"""What tests of policies share: calls that fail as told, in both colours, and their traces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from pocketflow_async.clock import using_clock
from pocketflow_async.hooks import Step, observing
from pocketflow_async.resilience import Policy
from tracing.testing import FakeClock


class Flaky:
    """Raises these errors, one a call, then returns *value*; takes *seconds* each time.

    Attributes:
        times: When it was called.
    """

    def __init__(
        self, *errors: BaseException, value: Any = None, seconds: float = 0, clock: FakeClock
    ) -> None:
        self.errors = list(errors)
        self.value = value
        self.seconds = seconds
        self.clock = clock
        self.times: list[float] = []

    def __call__(self) -> Any:
        self.times.append(self.clock.monotonic())
        self.clock.advance(self.seconds)
        if self.errors:
            raise self.errors.pop(0)
        return self.value

    async def acall(self) -> Any:
        return self()


class Asynchronous:
    """Calls under a policy on an event loop, in the clock's time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def __call__(self, policy: Policy, function: Callable[[], Any]) -> Any:
        async def guarded() -> Any:
            return function()

        return self.clock.run(policy.acall(guarded))


class Synchronous:
    """Calls under a policy in this thread, in the clock's time."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def __call__(self, policy: Policy, function: Callable[[], Any]) -> Any:
        with using_clock(self.clock):
            return policy.call(function)


@contextmanager
def watching():
    """Watch the steps that end in the block; yields their kinds, names and facts."""
    seen: list[tuple[str, str, dict[str, Any]]] = []

    @contextmanager
    def noted(step: Step):
        try:
            yield
        finally:
            seen.append((step.kind, step.name, dict(step.facts or {})))

    with observing(noted):
        yield seen
