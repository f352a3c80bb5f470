"""Who waits for a place in a bulkhead: a task on its event loop, or a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable


class TaskWaiting:
    """A task that waits.

    Args:
        loop: The loop that it runs on.

    Attributes:
        has_place: Whether it has got its place.
        is_late: Whether its time in the queue is up.
        was_called: Whether its turn has come before.
    """

    __slots__ = ("_loop", "_turn", "has_place", "is_late", "was_called")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turn: asyncio.Future[None] | None = None
        self.has_place = False
        self.is_late = False
        self.was_called = False

    def expect(self) -> None:
        """Get ready to be called; under the lock of those who call."""
        self._turn = self._loop.create_future()

    async def called(self, due: float | None, give_up: Callable[[TaskWaiting], None]) -> None:
        """Wait to be called; at *due*, on the loop's clock, *give_up* is called first."""
        turn = self._turn
        if turn is None:
            return
        timer = None if due is None else self._loop.call_at(due, self._late, give_up)
        try:
            await turn
        finally:
            if timer is not None:
                timer.cancel()

    def call(self) -> bool:
        """Make it look again; return whether it will soon, since its loop runs."""
        self.was_called = True
        runs = self._loop.is_running()
        if runs and _running() is self._loop:
            self._wake()
            return True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # that loop is closed, and all that was on it is gone
            return False
        return runs

    def _late(self, give_up: Callable[[TaskWaiting], None]) -> None:
        give_up(self)
        self._wake()

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


class ThreadWaiting:
    """A thread that waits.

    Attributes:
        has_place: Whether it has got its place.
        is_late: Whether its time in the queue is up.
        was_called: Whether its turn has come before.
    """

    __slots__ = ("_turn", "has_place", "is_late", "was_called")

    def __init__(self) -> None:
        self._turn = threading.Event()
        self.has_place = False
        self.is_late = False
        self.was_called = False

    def expect(self) -> None:
        """Get ready to be called; under the lock of those who call."""
        self._turn.clear()

    def called(self, seconds: float | None) -> None:
        """Wait to be called, at most for *seconds*."""
        self._turn.wait(seconds)

    def call(self) -> bool:
        """Make it look again; return that it will."""
        self.was_called = True
        self._turn.set()
        return True


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
