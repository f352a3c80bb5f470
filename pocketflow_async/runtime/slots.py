"""How many nodes may be at work at a time, over all runs, and who is next: each run in turn.

A run has a `Share`. It asks for a slot, and either has it at once or is called when its turn comes;
so what waits is an entry in a queue and not a task. Runs may be on different event loops and
threads: a slot goes from one to the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

_Waiting: TypeAlias = tuple[asyncio.AbstractEventLoop, Callable[[Any], object], Any]
"""Who waits: its loop, and what to call there with what."""


class Slots:
    """A number of slots that runs share fairly: whoever waits, each run gets one in its turn.

    Args:
        limit: How many there are.

    Raises:
        TypeError: It is no whole number.
        ValueError: There would be none.
    """

    __slots__ = ("_free", "_lock", "_queue", "limit")

    def __init__(self, limit: int) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"a limit is a whole number, not {limit!r:.80}")
        if limit < 1:
            raise ValueError(f"a limit is at least 1, not {limit}")
        self.limit = limit
        self._free = limit
        self._lock = threading.Lock()
        self._queue: deque[Share] = deque()  # the shares that wait, each once

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return self._free

    def share(self, call: Callable[[Any], object]) -> Share:
        """Return the part of a new run, on the running event loop.

        Args:
            call: Called there with what waited, when that has its slot.
        """
        return Share(self, asyncio.get_running_loop(), call)

    def _grant(self) -> tuple[Share, _Waiting] | None:
        """Give a free slot to who is next, if somebody is; the lock is held."""
        if not self._queue or self._free <= 0:
            return None
        share = self._queue.popleft()
        waiting = share._waiting.popleft()
        if share._waiting:
            self._queue.append(share)
        self._free -= 1
        share.held += 1
        return share, waiting

    def _hand_out(self, here: asyncio.AbstractEventLoop | None) -> None:
        """Give the free slots to those who wait, each on its own loop."""
        while True:
            with self._lock:
                granted = self._grant()
            if granted is None:
                return
            share, (loop, call, item) = granted
            if loop is here:
                call(item)
                continue
            try:
                loop.call_soon_threadsafe(call, item)
            except RuntimeError:  # that loop is closed, and all that was on it is gone
                share._give_back()


class Share:
    """The slots of one run.

    Attributes:
        held: How many it has.
    """

    __slots__ = ("_call", "_is_open", "_loop", "_slots", "_waiting", "held")

    def __init__(
        self, slots: Slots, loop: asyncio.AbstractEventLoop, call: Callable[[Any], object]
    ) -> None:
        self._slots = slots
        self._loop = loop
        self._call = call
        self._waiting: deque[_Waiting] = deque()
        self._is_open = True
        self.held = 0

    def ask(self, item: Any) -> bool:
        """Take a slot and return True; or else queue *item*, for which `call` is called later."""
        slots = self._slots
        with slots._lock:
            if slots._free > 0:  # then nobody waits
                slots._free -= 1
                self.held += 1
                return True
            self._enqueue((self._loop, self._call, item))
        return False

    async def take(self) -> bool:
        """Wait for a slot, on whatever loop this is; return False if the run ends meanwhile."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        waiting: _Waiting = (loop, _wake, turn)
        slots = self._slots
        with slots._lock:
            if not self._is_open:
                return False
            if slots._free > 0:
                slots._free -= 1
                self.held += 1
                return True
            self._enqueue(waiting)
        try:
            await turn
        except BaseException:
            if not self._forget(waiting) and self._is_open:  # it was granted in the same moment
                self.release()
            raise
        return self._is_open

    def release(self) -> None:
        """Give a slot back; it goes to whoever is next."""
        slots = self._slots
        with slots._lock:
            self.held -= 1
            slots._free += 1
            if not slots._queue:
                return
        slots._hand_out(_running())

    def drop(self) -> None:
        """Wait for nothing any more; who does is told that the run ends."""
        slots = self._slots
        with slots._lock:
            self._is_open = False
            waiting, self._waiting = self._waiting, deque()
            if waiting:
                slots._queue.remove(self)
        for loop, call, item in waiting:
            if call is _wake:
                with suppress(RuntimeError):  # its loop is closed
                    loop.call_soon_threadsafe(call, item)

    def leave(self) -> None:
        """Give back all that is held, and wait for nothing any more."""
        slots = self._slots
        self.drop()
        with slots._lock:
            slots._free += self.held
            self.held = 0
        slots._hand_out(_running())

    def _enqueue(self, waiting: _Waiting) -> None:
        if not self._waiting:
            self._slots._queue.append(self)
        self._waiting.append(waiting)

    def _forget(self, waiting: _Waiting) -> bool:
        """Take *waiting* out of the queue; return whether it was still there."""
        slots = self._slots
        with slots._lock:
            if waiting not in self._waiting:
                return False
            self._waiting.remove(waiting)
            if not self._waiting:
                slots._queue.remove(self)
        return True

    def _give_back(self) -> None:
        slots = self._slots
        with slots._lock:
            self.held -= 1
            slots._free += 1


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
