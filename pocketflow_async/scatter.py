"""Run one coroutine function over many items at once: structured, bounded, in order."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
)
from contextlib import aclosing, suppress
from typing import Any, Literal

Items = Iterable[Any] | AsyncIterable[Any]


async def scatter(
    call: Callable[[int, Any], Awaitable[Any]],
    items: Items,
    limit: int | None = None,
    on_error: Literal["raise", "collect"] = "raise",
    noun: str = "item",
) -> list[Any]:
    """Await `call(index, item)` for every item, each in a task and a context of its own.

    Args:
        call: What to do with an item.
        items: Any iterable or async iterable. With *limit* it is read only as far as there is room,
            so besides the results no more than *limit* items are in memory.
        limit: How many may run at once; None: all.
        on_error: "raise" cancels the rest at the first error; "collect" puts an `Exception` in the
            place of the item's result and goes on.
        noun: What an item is called in the note about further errors.

    Returns:
        The results in the order of the items.

    Raises:
        BaseException: The first error of an item, its type and identity unchanged. By then the
            other items have been cancelled and awaited; their own errors, if any, are in its
            notes and in its attribute `others`.

    Cancelling it cancels every item and waits for them.
    """
    batch = _Batch(call, on_error == "collect", noun)
    if limit is None and not isinstance(items, AsyncIterable):
        await batch.all_at_once(items)
    else:
        await batch.bounded(items, limit)
    return batch.complete()


class _Batch:
    """The state of one scatter."""

    __slots__ = (
        "call",
        "collect",
        "failures",
        "finished",
        "noun",
        "results",
        "stopping",
        "waiter",
    )

    def __init__(
        self, call: Callable[[int, Any], Awaitable[Any]], collect: bool, noun: str
    ) -> None:
        self.call = call
        self.collect = collect
        self.noun = noun
        self.results: list[Any] = []
        self.failures: list[tuple[int | None, BaseException]] = []
        self.finished = 0
        self.stopping = False
        self.waiter: asyncio.Future[None] | None = None

    async def one(self, index: int, item: Any) -> None:
        """Do one item, in its own task."""
        try:
            self.results[index] = await self.call(index, item)
            self.finished += 1
        except Exception as error:
            if self.collect:
                self.results[index] = error
                self.finished += 1
            else:
                self.fail(index, error)
                raise
        except GeneratorExit:  # the loop is gone; nobody waits any more
            raise
        except BaseException as error:
            if not self.stopping:  # else it is the batch that cancels it
                self.fail(index, error)
            raise

    def fail(self, index: int | None, error: BaseException) -> None:
        """Note the error of an item, or of the source (None), and wake who waits."""
        self.failures.append((index, error))
        self.wake()

    def wake(self, _: object = None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def pause(self) -> None:
        """Wait for a call of `wake`."""
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter

    async def all_at_once(self, items: Iterable[Any]) -> None:
        """Start every item, then wait for them in order.

        By hand and not with a TaskGroup: only tasks still at work when their turn comes need a
        callback, which saves a quarter of the time of a large batch.
        """
        create = asyncio.get_running_loop().create_task
        tasks: list[asyncio.Task[None]] = []
        try:
            everything = list(items)  # before the first one starts, as gather would
            self.results = [None] * len(everything)
            for index, item in enumerate(everything):
                tasks.append(create(self.one(index, item)))
            for task in tasks:
                while not task.done() and not self.failures:
                    task.add_done_callback(self.wake)
                    await self.pause()
                if self.failures:
                    break
        finally:
            if self.finished != len(tasks):
                await self.stop(tasks)
        self.check()

    async def bounded(self, items: Items, limit: int | None) -> None:
        """Start an item whenever there is room, and keep nothing of those that are done.

        By hand too: on Python 3.11 a TaskGroup that has failed leaves its caller's task marked as
        cancelled, which breaks every timeout around it.
        """
        tasks: set[asyncio.Task[None]] = set()

        def done(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled():
                task.exception()  # looked at: what matters is in the failures
            if not tasks:
                self.wake()

        def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = asyncio.get_running_loop().create_task(work)
            tasks.add(task)
            task.add_done_callback(done)
            return task

        start(self.feed(start, items, asyncio.Semaphore(limit) if limit else None))
        try:
            while tasks and not self.failures:
                await self.pause()
        finally:
            await self.stop(tasks)
        self.check()

    async def feed(
        self,
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        items: Items,
        slots: asyncio.Semaphore | None,
    ) -> None:
        """Read *items* in one task of its own, so that a failing item can interrupt it."""

        async def admit(item: Any) -> None:
            if slots is not None:
                await slots.acquire()
            self.results.append(None)
            task = start(self.one(len(self.results) - 1, item))
            if slots is not None:
                # Not in `one`: a task cancelled before its first step never gets there.
                task.add_done_callback(lambda _: slots.release())

        try:
            async with aclosing(closable(items)) as source:
                async for item in source:
                    await admit(item)
        except GeneratorExit:  # the loop is gone; nobody waits any more
            raise
        except BaseException as error:
            if not self.stopping or isinstance(error, Exception):
                self.fail(None, error)
            raise

    async def stop(self, started: Collection[asyncio.Task[None]]) -> None:
        """Cancel what was *started* and wait for it, however often the caller is told to hurry.

        Looked at again and again: a source that will not stop may start one more.
        """
        self.stopping = True
        told: asyncio.CancelledError | None = None
        while pending := [task for task in started if not task.done()]:
            for task in pending:
                task.cancel()
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                told = error
        for task in started:
            if not task.cancelled():
                task.exception()  # looked at: what matters is in the failures
        if told is not None:
            raise told

    def check(self) -> None:
        """Raise the first error, if there was one, with the others attached."""
        if not self.failures:
            return
        _, first = self.failures[0]
        others = self.failures[1:]
        if others:
            shown = "; ".join(_describe(self.noun, index, error) for index, error in others[:5])
            more = f"; and {len(others) - 5} more" if len(others) > 5 else ""
            with suppress(Exception):  # an exotic exception class must not hide itself
                first.add_note(f"{len(others)} more failed before they could stop: {shown}{more}")
                first.others = Others(error for _, error in others)  # type: ignore[attr-defined]
        try:
            raise first
        finally:
            del first, others  # the traceback holds this frame: no cycle

    def complete(self) -> list[Any]:
        """Return the results, or notice an item cancelled before it could say so."""
        if self.finished != len(self.results):
            raise asyncio.CancelledError("an item of the batch was cancelled from outside")
        return self.results


class Others(tuple[BaseException, ...]):
    """The further errors of a batch. Pickled it is empty, since any of them may not be."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[Others], tuple[()]]:
        return (Others, ())


def _describe(noun: str, index: int | None, error: BaseException) -> str:
    where = "the source" if index is None else f"{noun} {index}"
    return f"{where}: {type(error).__name__}: {error}"


async def closable(items: Items) -> AsyncGenerator[Any, None]:
    """Yield from *items*, closing an async source when the reader stops early."""
    if not isinstance(items, AsyncIterable):
        for item in items:
            yield item
        return
    source = aiter(items)
    try:
        async for item in source:
            yield item
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
