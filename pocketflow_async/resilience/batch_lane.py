"""What a batcher does on one event loop: who waits, what is at work, and the timer between."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pocketflow_async.resilience.batching import Batch, Due
from pocketflow_async.resilience.error_copies import copy_of
from pocketflow_async.resilience.errors import BatcherClosed
from pocketflow_async.resilience.tasks import stopped

if TYPE_CHECKING:
    from pocketflow_async.resilience.batcher import Batcher

A = TypeVar("A")
B = TypeVar("B")

_LEAST: Final = 1e-6
"""Seconds of the shortest sleep, so that time moves on whatever the rounding."""


class Entry(Generic[A, B]):
    """An item, and who waits for its result."""

    __slots__ = ("done", "item")

    def __init__(self, item: A, done: asyncio.Future[B]) -> None:
        self.item = item
        self.done = done


class Lane(Generic[A, B]):
    """The part of a batcher that is on one event loop; only touched there.

    Args:
        batcher: Whose part it is.
    """

    def __init__(self, batcher: Batcher[A, B]) -> None:
        self.batcher = batcher
        self.batch: Batch[Entry[A, B]] = Batch(batcher.size, batcher.interval)
        self.ready: deque[Due[Entry[A, B]]] = deque()  # not begun yet
        self.held: set[Entry[A, B]] = set()
        self.working: set[asyncio.Task[None]] = set()
        self.room = asyncio.Semaphore(batcher.max_waiting)
        self.timer: asyncio.Task[None] | None = None
        self.is_closed = False

    async def add(self, item: A) -> B:
        """Do as `Batcher.add`."""
        self._check_open()
        await self.room.acquire()
        try:
            self._check_open()  # that may have changed
        except BatcherClosed:
            self.room.release()
            raise
        entry: Entry[A, B] = Entry(item, asyncio.get_running_loop().create_future())
        self.held.add(entry)
        self._let_wait(entry)
        try:
            return await entry.done
        except asyncio.CancelledError:
            if self.batch.discard(entry):
                self._release(entry)
                self._stop_timer_if_idle()
            raise

    def _check_open(self) -> None:
        if self.is_closed:
            raise BatcherClosed(self.batcher.name)

    def _let_wait(self, entry: Entry[A, B]) -> None:
        batch = self.batch
        now = self.batcher.time().monotonic()
        batch.add(entry, now)
        if len(batch) >= batch.size:
            self._begin(batch.take(now))
        elif batch.interval is not None and (self.timer is None or self.timer.done()):
            self.timer = asyncio.create_task(self._tick(), name=f"{self.batcher.name} timer")

    async def _tick(self) -> None:
        """Begin batches when they are old enough, for as long as anything waits."""
        clock = self.batcher.time()
        while (at := self.batch.due_at()) < math.inf:
            now = clock.monotonic()
            if at > now:
                await clock.asleep(max(at - now, _LEAST))
                continue
            self._begin(self.batch.take(now), by_timer=True)
        self.timer = None

    def _begin(self, dues: list[Due[Entry[A, B]]], *, by_timer: bool = False) -> None:
        self.ready.extend(dues)
        free = self.batcher.concurrency - len(self.working)
        for _ in range(min(free, len(self.ready))):
            task = asyncio.create_task(self._work(), name=self.batcher.name)
            self.working.add(task)
            task.add_done_callback(self._gone)
        if not by_timer:
            self._stop_timer_if_idle()

    def _stop_timer_if_idle(self) -> None:
        if self.timer is not None and not len(self.batch):
            self.timer.cancel()
            self.timer = None

    async def _work(self) -> None:
        me = asyncio.current_task()
        try:
            while self.ready:
                await self._process(self.ready.popleft())
        finally:
            self.working.discard(me)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self.working.discard(task)
        if not task.cancelled():
            self._begin([])
        elif not self.working:  # nobody else would come for what is left
            while self.ready:
                self._end(self.ready.popleft())

    async def _process(self, due: Due[Entry[A, B]]) -> None:
        entries = [entry for entry in due.items if not entry.done.done()]
        try:
            if entries:
                items = [entry.item for entry in entries]
                results = await self.batcher.process(Due(items, due.reason))
                for entry, result in zip(entries, results, strict=True):
                    _settle(entry.done, result)
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            shown = _shown(error)
            for entry in entries:
                _settle(entry.done, copy_of(shown))
        finally:
            self._end(due)

    def _end(self, due: Due[Entry[A, B]]) -> None:
        for entry in due.items:
            entry.done.cancel()  # unless it has its result
            self._release(entry)

    def _release(self, entry: Entry[A, B]) -> None:
        self.held.discard(entry)
        self.room.release()

    async def flush(self) -> None:
        """Do as `Batcher.flush`."""
        self._begin(self.batch.take(self.batcher.time().monotonic(), force=True))
        waiting = [entry.done for entry in self.held]
        if waiting:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Do as `Batcher.aclose`."""
        self.is_closed = True
        timer = self.timer
        self._begin(self.batch.take(self.batcher.time().monotonic(), force=True))
        try:
            while self.working:
                await asyncio.wait(self.working)
        except asyncio.CancelledError:
            await stopped(self.working.copy())
            raise
        if timer is not None:
            await asyncio.wait([timer])


def _is_cancelled() -> bool:
    """Return whether the current task was told to end, and not just something inside it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _shown(error: BaseException) -> Exception:
    """Return *error* as one that callers can be given."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    # A future cannot hold StopIteration, SystemExit would end the event loop, and CancelledError
    # would look as if the caller were cancelled.
    shown = RuntimeError(f"the function of the batcher raised {error!r}")
    shown.__cause__ = error
    return shown


def _settle(done: asyncio.Future[Any], result: Any) -> None:
    if done.done():
        return
    if isinstance(result, BaseException):
        done.set_exception(_shown(result))
    else:
        done.set_result(result)
