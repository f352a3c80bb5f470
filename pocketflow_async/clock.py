"""Time and chance as parameters, so that tests of waits and timeouts take no time.

The engine waits and measures only through the clock of the current context. `using_clock` puts
another one in its place for a block and all that is started inside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar


class Clock:
    """The real clock. Subclass it to make another; all times are seconds."""

    def monotonic(self) -> float:
        """Return a moment that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Suspend the calling task. May be cancelled."""
        await asyncio.sleep(seconds)

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between *low* and *high*, for jitter."""
        import random  # noqa: PLC0415 (a millisecond that only jitter needs)

        return random.uniform(low, high)


_REAL = Clock()
_clock: ContextVar[Clock] = ContextVar("pocketflow_clock", default=_REAL)


def clock() -> Clock:
    """Return the clock of the current context."""
    return _clock.get()


@contextmanager
def using_clock(other: Clock) -> Generator[Clock, None, None]:
    """Make *other* the clock of the block and of every task started in it."""
    token = _clock.set(other)
    try:
        yield other
    finally:
        _clock.reset(token)
