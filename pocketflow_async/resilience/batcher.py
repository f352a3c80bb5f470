"""Calls of one item each, made together: a function gets many items at once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from pocketflow_async.arguments import whole
from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.hooks import Step, active
from pocketflow_async.offloading import offload
from pocketflow_async.resilience.batch_lane import Lane
from pocketflow_async.resilience.batching import Batch, Due
from pocketflow_async.resilience.errors import BatcherClosed

A = TypeVar("A")
B = TypeVar("B")


class BatcherStatistics(NamedTuple):
    """What a batcher has done, and has to do."""

    waiting: int
    """Items that were taken and whose batch has not come to its end."""
    working: int
    """Batches at work."""
    batches: int
    """Batches that have come to their end, those that failed among them."""
    items: int
    """Items in them."""
    failures: int
    """Batches that failed."""


class Batcher(Generic[A, B]):
    """Collects items from many callers, processes them together, and gives each its own result.

        async with Batcher(insert_many, size=500, interval=0.05) as batcher:
            row_id = await batcher.add(row)

    A batch begins when there are *size* items, when its oldest item is *interval* seconds old, at
    `flush`, and when the batcher is closed. When the function fails, all callers of the batch get
    its error; an exception in the place of a result is raised for that caller alone.

    A caller that is cancelled takes its item back, unless its batch has begun: then the item is
    processed, and the result is dropped. Each event loop, which may be in a thread of its own, has
    batches of its own, and is closed on its own.

    Args:
        function: Gets a list of items; returns as many results in the same order, or None for
            nothing at all. A synchronous one runs in a thread.
        size: Most items of a batch.
        interval: Most seconds that an item waits for others; None: until the batch is full.
        concurrency: Most batches at work at a time, for each loop. With 1 they are processed in
            order, and the function must not add to its own batcher.
        max_waiting: Most items that are taken and not yet processed, for each loop; callers
            beyond wait for room in the order in which they came. 10 times the size if left out.
        name: What it is called in traces and errors.
        clock: Its time; that of the context in which it is used if it is left out.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        function: Callable[[list[A]], Awaitable[Sequence[B] | None] | Sequence[B] | None],
        *,
        size: int = 100,
        interval: float | None = 5.0,
        concurrency: int = 1,
        max_waiting: int | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"a batcher needs a function, not {function!r:.80}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a text, not {name!r:.80}")
        Batch[A](size, interval)  # raises if they cannot be
        self.function = function
        self.size = size
        self.interval = interval
        self.concurrency = whole("concurrency", concurrency)
        self.max_waiting = (
            10 * size if max_waiting is None else whole("max_waiting", max_waiting, size)
        )
        self.name = name or "batcher"
        self._clock = clock
        self._is_async = _is_async(function)
        self._lock = threading.Lock()
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, Lane[A, B]] = WeakKeyDictionary()
        self._done = [0, 0, 0]  # batches, items, failures

    def __repr__(self) -> str:
        return f"<Batcher {self.name!r}, {self.size} items or {self.interval} s>"

    async def add(self, item: A) -> B:
        """Have *item* processed with others; return its result.

        Raises:
            BatcherClosed: It is closed on this loop.
            Exception: What the function raised, or gave in the place of the result.
        """
        return await self._lane().add(item)

    __call__ = add

    async def flush(self) -> None:
        """Process what waits on this loop now, and wait for it and for what is at work already.

        Errors go to those who added the items. When this is cancelled, the work goes on.
        """
        await self._lane().flush()

    async def aclose(self) -> None:
        """Take no more items on this loop, and process those that there are.

        When this is cancelled, so is what is at work, and those who wait for it.
        """
        await self._lane().close()

    async def __aenter__(self) -> Batcher[A, B]:
        if self._lane().is_closed:
            raise BatcherClosed(self.name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def statistics(self) -> BatcherStatistics:
        """Return what it has done, and has to do, on all loops."""
        with self._lock:
            lanes = list(self._lanes.values())
            batches, items, failures = self._done
        return BatcherStatistics(
            sum(len(lane.held) for lane in lanes),
            sum(len(lane.working) for lane in lanes),
            batches,
            items,
            failures,
        )

    def _lane(self) -> Lane[A, B]:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            with self._lock:
                for old in [old for old in self._lanes if old.is_closed()]:
                    del self._lanes[old]  # what was in there was for callers that are gone
                lane = self._lanes[loop] = Lane(self)
        return lane

    async def process(self, due: Due[A]) -> Sequence[Any]:
        """Return the results of a batch, one for each item.

        Raises:
            Exception: The function has failed, or has given another number of results.
        """
        hooks = active()
        if hooks is None:
            return await self._results(due.items)
        step = Step("policy", self.name, self, due.items, hooks)
        step.facts = {
            "flow.policy": "batcher",
            "flow.batcher.items": len(due.items),
            "flow.batcher.reason": due.reason,
        }
        with step:
            step.result = results = await self._results(due.items)
        return results

    async def _results(self, items: list[A]) -> Sequence[Any]:
        function: Callable[[list[A]], Any] = self.function
        failed = True
        try:
            given = function(items) if self._is_async else await offload(function, items)
            if inspect.isawaitable(given):
                given = await given
            results = _one_each(given, len(items), self.name)
            failed = False
        finally:
            with self._lock:
                self._done[0] += 1
                self._done[1] += len(items)
                self._done[2] += failed
        return results

    def time(self) -> Clock:
        """Return its clock."""
        return current_clock() if self._clock is None else self._clock


def batched(
    *,
    size: int = 100,
    interval: float | None = 5.0,
    concurrency: int = 1,
    max_waiting: int | None = None,
    name: str | None = None,
    clock: Clock | None = None,
) -> Callable[
    [Callable[[list[A]], Awaitable[Sequence[B] | None] | Sequence[B] | None]], Batcher[A, B]
]:
    """Make a function of many items a batcher, which is called with one: `await users(7)`.

    Args:
        size: As for `Batcher`, as are all others.
        interval: See there.
        concurrency: See there.
        max_waiting: See there.
        name: See there.
        clock: See there.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """
    return partial(
        Batcher,
        size=size,
        interval=interval,
        concurrency=concurrency,
        max_waiting=max_waiting,
        name=name,
        clock=clock,
    )


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    called = getattr(function, "__call__", None)  # noqa: B004 (of an object that is called)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _one_each(given: Any, count: int, name: str) -> Sequence[Any]:
    """Return what the function has given as one result for each item."""
    if given is None:
        return [None] * count
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise TypeError(
            f"batcher {name!r}: its function is to return a list with a result for each item, or "
            f"None, not {given!r:.80}"
        )
    if len(given) != count:
        raise ValueError(
            f"batcher {name!r}: its function returned {len(given)} results for {count} items"
        )
    return given
