"""Who waits for a turn: tasks on any event loops, and threads, in the order in which they came."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from pocketflow_async.clock import Clock

LEAST: Final = 1e-6
"""Seconds of the shortest sleep, so that time moves on whatever the rounding."""

_LOOK_AGAIN: Final = 1.0
"""Seconds after which one behind another loop looks whether that still runs."""

_held_up: set[asyncio.AbstractEventLoop] = set()
"""Loops whose own thread waits in `ThreadTurn.called`, so that nothing on them can go on."""


class TaskTurn:
    """A task in a queue.

    Args:
        loop: The loop that it runs on.
    """

    __slots__ = ("_turn", "behind_others", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop | None = loop
        self.behind_others = False
        self._turn: asyncio.Future[None] | None = None

    @property
    def stands_still(self) -> bool:
        """Return whether it cannot go on, since nothing on its loop can."""
        loop = self.loop
        return loop is None or not loop.is_running() or loop in _held_up

    def expect(self) -> None:
        """Get ready to be called; under the lock of those who call."""
        if self.loop is not None:
            self._turn = self.loop.create_future()

    async def called(self) -> None:
        """Wait to be called; or, behind another loop, which may just stop, for a while at most."""
        turn = self._turn
        if turn is None or self.loop is None:
            return
        if not self.behind_others:
            await turn
            return
        again = self.loop.call_later(_LOOK_AGAIN, self._wake)
        try:
            await turn
        finally:
            again.cancel()

    def call(self) -> None:
        """Make it look again, on its own loop."""
        if self.loop is None or _running() is self.loop:
            self._wake()
            return
        with suppress(RuntimeError):  # that loop is closed, and all that was on it is gone
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


class ThreadTurn:
    """A thread in a queue. Where an event loop runs in it, all that is on that waits with it."""

    __slots__ = ("_held", "_turn", "behind_others", "loop")

    def __init__(self) -> None:
        self.loop = None
        self.behind_others = False
        self._turn = threading.Event()
        self._held = _running()
        if self._held is not None:
            _held_up.add(self._held)

    @property
    def stands_still(self) -> bool:
        """Return False: a thread goes on by itself."""
        return False

    def expect(self) -> None:
        """Get ready to be called; under the lock of those who call."""
        self._turn.clear()

    def called(self, clock: Clock, soonest: float) -> None:
        """Wait to be called, or for a while.

        Args:
            clock: If it is not the real one, it is asked to sleep, which nobody can cut short.
            soonest: Seconds after which it may be its turn.
        """
        if type(clock) is Clock:
            self._turn.wait(_LOOK_AGAIN if self.behind_others else None)
        else:
            clock.sleep(max(soonest, LEAST))

    def call(self) -> None:
        """Make it look again."""
        self._turn.set()

    def gone(self) -> None:
        """Let its loop go on."""
        if self._held is not None:
            _held_up.discard(self._held)


class Turns:
    """A queue of tasks and threads. Whoever uses it holds one lock over all calls."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: OrderedDict[TaskTurn | ThreadTurn, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, turn: object) -> bool:
        return turn in self._queue

    def join(self, me: TaskTurn | ThreadTurn) -> None:
        """Let *me* stand at the end."""
        queue = self._queue
        last = next(reversed(queue), me)
        me.behind_others = last.loop is not me.loop or last.behind_others
        queue[me] = None

    def is_first(self, me: TaskTurn | ThreadTurn) -> bool:
        """Return whether it is the turn of *me*."""
        self.drop_stopped()
        return next(iter(self._queue), None) is me

    def drop_stopped(self) -> None:
        """Let nobody wait for a loop that stands still. Who is on it joins again if it goes on."""
        queue = self._queue
        dropped = False
        while queue and (first := next(iter(queue))).stands_still:
            del queue[first]
            first.call()
            dropped = True
        if dropped and queue:
            next(iter(queue)).call()

    def leave(self, me: TaskTurn | ThreadTurn) -> None:
        """Let *me* leave, if it stands here; whoever is first then is called."""
        queue = self._queue
        if me not in queue:
            return
        was_first = next(iter(queue)) is me
        del queue[me]
        self.drop_stopped()
        if was_first and queue:
            next(iter(queue)).call()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
