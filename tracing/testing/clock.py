"""A fake clock: retries, waits and timeouts of nodes and flows take no real time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from pocketflow_async.clock import Clock, using_clock
from tracing.testing.loop import FakeLoop, FakeTime, home

T = TypeVar("T")


class FakeClock(Clock):
    """The engine's clock in virtual time, and loops that share it.

    Everything that `run` runs is on it: the engine's waits and timeouts, `asyncio.sleep`,
    `asyncio.timeout`. Synchronous flows are on it inside `with fake_clock() as clock:`, which the
    fixture of that name has done. On an event loop that is not a `FakeLoop` the engine's waits take
    no real time either, but asyncio's own sleeps and timeouts do.

    Args:
        luck: Where in its range each random number lies, from 0.0 to 1.0, for jitter.

    Attributes:
        waits: Seconds of each wait between attempts so far, in order of their beginning.
    """

    def __init__(self, luck: float = 0.0) -> None:
        self.luck = luck
        self.waits: list[float] = []
        self._time = FakeTime()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run *coroutine* to its end on a new event loop in this clock's time; return its result.

        Raises:
            RuntimeError: An event loop runs in this thread already.
        """
        with using_clock(self), asyncio.Runner(loop_factory=self.loop) as runner:
            return runner.run(coroutine)

    def loop(self) -> FakeLoop:
        """Return a new event loop in this clock's time."""
        return FakeLoop(self._time)

    def advance(self, seconds: float) -> None:
        """Let time pass, as if the code at work had taken it."""
        self._now().now += seconds

    def monotonic(self) -> float:
        """Return the virtual time, in seconds; it begins at 0."""
        return self._now().now

    def sleep(self, seconds: float) -> None:
        """Let time pass; in a thread of the loop, wait for the loop to get there."""
        self.waits.append(seconds)
        loop = home()
        if loop is None or _runs_here():
            self.advance(seconds)
        else:
            loop.sleep_in_thread(seconds)

    async def asleep(self, seconds: float) -> None:
        """Suspend the calling task until time has got there. May be cancelled."""
        self.waits.append(seconds)
        if home() is None:
            self.advance(seconds)
            seconds = 0
        await asyncio.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        """Return the number between *low* and *high* that `luck` says."""
        return low + (high - low) * self.luck

    def _now(self) -> FakeTime:
        loop = home()
        return self._time if loop is None else loop.fake_time


@contextmanager
def fake_clock(luck: float = 0.0) -> Generator[FakeClock, None, None]:
    """Let waits and timeouts of synchronous flows in the block take no real time.

    Args:
        luck: See `FakeClock`.
    """
    clock = FakeClock(luck)
    with using_clock(clock):
        yield clock


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* in virtual time, as `asyncio.run` would in real time; return its result.

    Raises:
        RuntimeError: An event loop runs in this thread already.
    """
    return FakeClock().run(coroutine)


def _runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
