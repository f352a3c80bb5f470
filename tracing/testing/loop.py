"""An event loop whose time jumps: what is waited for by the clock alone takes no real time.

When nothing is ready and no thread is at work, the loop goes straight to its next timer. So
`asyncio.sleep`, `asyncio.timeout` and `loop.call_later` take no real time, and always happen in the
same order. Work in threads (`asyncio.to_thread`, `run_in_executor`) is real: while it goes on, time
stands still. What waits for sockets or pipes is given a moment of real time before a jump.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_OWN_FILES = 1  # the pipe by which threads wake the loop
_here = threading.local()


class FakeTime:
    """A moment that moves only when told to.

    Attributes:
        now: Seconds since the beginning.
    """

    def __init__(self) -> None:
        self.now = 0.0


class FakeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, for `asyncio.Runner(loop_factory=FakeLoop)`.

    Args:
        time: Shared with others that should see the same time; its own when left out.
        patience: Real seconds that sockets and pipes are given before time jumps.
    """

    def __init__(self, time: FakeTime | None = None, patience: float = 0.05) -> None:
        self.fake_time = time or FakeTime()
        self.patience = patience
        self._working = 0
        self._all_back: asyncio.Future[None] | None = None
        self._threads: Executor | None = None
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self.fake_time.now

    def is_at_work(self) -> bool:
        """Return whether something real goes on in a thread, so that time must not jump."""
        return self._working > 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run *func* in a thread; time stands still until it has come back."""
        if executor is None:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(thread_name_prefix="fake-loop")
                self.set_default_executor(self._threads)  # so that it is shut down with the loop
            executor = self._threads
        call: Callable[..., T] = func
        if isinstance(executor, ThreadPoolExecutor):  # another one may want to pickle it
            call = partial(self._in_thread, func)
        work = executor.submit(call, *args)
        self._working += 1
        future = asyncio.wrap_future(work, loop=self)
        # Added after wrap_future's own, so that the result is with the loop before time may go on.
        work.add_done_callback(self._came_back)
        return future

    def sleep_in_thread(self, seconds: float) -> None:
        """Block the calling thread for *seconds* of virtual time."""
        woken = threading.Event()

        def lie_down() -> None:
            self._working -= 1
            self.call_later(seconds, get_up)

        def get_up() -> None:
            self._working += 1
            woken.set()

        self.call_soon_threadsafe(lie_down)
        woken.wait()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for all threads to end, however long that takes in real time."""
        while self._working:
            self._all_back = self.create_future()
            await self._all_back
        self._working += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._working -= 1

    def _in_thread(self, func: Callable[..., T], *args: object) -> T:
        _here.loop = self
        try:
            return func(*args)
        finally:
            _here.loop = None

    def _came_back(self, _: Future[Any]) -> None:
        try:
            self.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop is closed and counts no more
            return

    def _settle(self) -> None:
        self._working -= 1
        waiter = self._all_back
        if not self._working and waiter is not None and not waiter.done():
            waiter.set_result(None)


class _Jumping(selectors.DefaultSelector):
    """Asked by the loop to wait for the next timer, it moves the time there instead."""

    def __init__(self, loop: FakeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self._loop
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if loop.is_at_work():
            return super().select(None)
        files = len(self.get_map()) > _OWN_FILES
        events = super().select(loop.patience if files else 0)
        if not events and not loop.is_at_work():
            loop.fake_time.now += timeout
        return events


def home() -> FakeLoop | None:
    """Return the fake loop that runs here, or whose thread this is; None if there is none."""
    try:
        loop: object = asyncio.get_running_loop()
    except RuntimeError:
        loop = getattr(_here, "loop", None)
    return loop if isinstance(loop, FakeLoop) else None
