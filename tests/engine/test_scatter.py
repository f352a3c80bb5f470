"""Parallel batches: bounded, lazy, in order, collected, and nothing runs on after an error."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from pocketflow_async import (
    AsyncBatchNode,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
)
from pocketflow_async.scatter import scatter
from tests.engine.engine_kit import turns

pytestmark = pytest.mark.usefixtures("tidy")

LIMITS = [None, 1, 3, 100]
limits = pytest.mark.parametrize("limit", LIMITS)
several = pytest.mark.parametrize("limit", [None, 3, 100])  # at least two items at once


async def by_node(call: Callable[[Any], Any], items: Any, *args: Any, **options: Any) -> Any:
    """Run *call* on the items by an AsyncParallelBatchNode; return what its post gets."""

    class Batch(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return items

        async def exec_async(self, item):
            return await call(item)

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    return await Batch(*args, **options).run_async(None)


async def by_flow(call: Callable[[Any], Any], items: Any, **options: Any) -> Any:
    """The same by an AsyncParallelBatchFlow; return what each round did, in order."""
    done: dict[Any, Any] = {}

    class One(AsyncNode):
        async def exec_async(self, prep_res):
            done[self.params["item"]] = await call(self.params["item"])

    class Rounds(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return as_params(items)

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    actions = await Rounds(One(), **options).run_async(None)
    if actions is None:
        return [done[item] for item in sorted(done)]
    return [done.get(i) if a is None else a for i, a in enumerate(actions)]


def as_params(items: Any) -> Any:
    """Make params of the items, as lazily as the items themselves come."""
    if hasattr(items, "__aiter__"):
        return as_params_async(items)
    if isinstance(items, (list, tuple, range)):
        return [{"item": item} for item in items]
    return ({"item": item} for item in items)


async def as_params_async(items: Any) -> AsyncIterator[Any]:
    try:
        async for item in items:
            yield {"item": item}
    finally:
        await items.aclose()


async def by_scatter(call: Callable[[Any], Any], items: Any, **options: Any) -> Any:
    """The same by the function that both are made of."""
    return await scatter(
        lambda _, item: call(item),
        items,
        options.pop("concurrency", None),
        **options,
    )


@pytest.fixture(params=[by_node, by_flow, by_scatter])
def batch(request):
    return request.param


class Source:
    """Items by a generator or async generator; says how many were taken and whether it closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("ask for lazily() or slowly()")

    def plainly(self) -> Iterator[int]:
        try:
            for item in range(self.count):
                self.taken += 1
                yield item
        finally:
            self.closed = True

    async def lazily(self) -> AsyncIterator[int]:
        """Without ever waiting."""
        try:
            for item in range(self.count):
                self.taken += 1
                yield item
        finally:
            self.closed = True

    async def slowly(self) -> AsyncIterator[int]:
        """One loop turn per item."""
        try:
            for item in range(self.count):
                await asyncio.sleep(0)
                self.taken += 1
                yield item
        finally:
            await asyncio.sleep(0)
            self.closed = True

    async def then_stuck(self) -> AsyncIterator[int]:
        """All the items, and then nothing for ever."""
        try:
            for item in range(self.count):
                self.taken += 1
                yield item
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.closed = True


sources = pytest.mark.parametrize("source", ["plainly", "lazily", "slowly"])


class Stopped:
    """Items that wait to be cancelled and take several loop turns to clean up."""

    def __init__(self, cleanup: int = 5) -> None:
        self.cleanup = cleanup
        self.begun: list[Any] = []
        self.cleaned: list[Any] = []

    async def __call__(self, item: Any) -> None:
        self.begun.append(item)
        try:
            await asyncio.Event().wait()
        finally:
            await turns(self.cleanup)
            self.cleaned.append(item)


# --- bounds and order -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50, 1000])
@sources
async def test_never_more_at_once_than_asked(batch, limit, source):
    """`concurrency=N`: at most N items at work, and N as long as there are that many."""
    now = most = 0

    async def call(item):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await turns(3)
        now -= 1
        return item

    results = await batch(call, getattr(Source(60), source)(), concurrency=limit)

    assert results == list(range(60))
    assert most <= limit
    if source != "slowly":
        assert most == min(limit, 60)


@limits
async def test_results_are_in_the_order_of_the_items(batch, limit):
    """Whoever is done first: the results keep the order of the items."""

    async def call(item):
        await turns((item * 7) % 11)
        return item * 10

    assert await batch(call, range(20), concurrency=limit) == [item * 10 for item in range(20)]


@pytest.mark.parametrize("limit", [1, 2, 5])
@sources
async def test_a_generator_is_read_only_as_far_as_there_is_room(batch, limit, source):
    """Besides the N items at work, at most one more has been taken from the source."""
    feed = Source(40)
    begun = done = 0
    ahead = []

    async def call(item):
        nonlocal begun, done
        begun += 1
        ahead.append(feed.taken - done)
        await turns(2)
        ahead.append(feed.taken - done)
        done += 1

    await batch(call, getattr(feed, source)(), concurrency=limit)

    assert done == 40
    assert max(ahead) <= limit + 1


@limits
@pytest.mark.parametrize("items", [[], (), None, 0, "", range(0)])
async def test_an_empty_batch_has_no_results(limit, items):
    """Nothing to do is no error, whatever nothing looks like; post gets an empty list."""

    async def call(item):
        raise AssertionError("there is no item")

    assert await by_node(call, items, concurrency=limit) == []


@limits
@sources
async def test_an_empty_generator_has_no_results(batch, limit, source):
    """A source that yields nothing."""
    feed = Source(0)

    assert await batch(turns, getattr(feed, source)(), concurrency=limit) == []
    assert feed.closed


@pytest.mark.timeout(180)
@pytest.mark.parametrize("source", ["plainly", "lazily"])
async def test_memory_does_not_grow_with_the_batch(source):
    """100,000 items, 20 at once: only the list of results grows, at 8 bytes an item."""

    async def call(item):
        await asyncio.sleep(0)

    await by_scatter(call, getattr(Source(100), source)(), concurrency=20)  # warm up
    gc.collect()
    tracemalloc.start()
    try:
        results = await by_scatter(call, getattr(Source(100_000), source)(), concurrency=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(results) == 100_000
    assert peak < sys.getsizeof(results) * 2 + 500_000  # a list doubles while it is moved


@several
async def test_every_item_has_a_context_of_its_own(batch, limit):
    """What an item sets in a ContextVar is seen by no other item and not by the caller."""
    var = contextvars.ContextVar("var", default="caller")
    seen = {}

    async def call(item):
        before = var.get()
        var.set(item)
        await turns(3)
        seen[item] = (before, var.get())

    await batch(call, range(6), concurrency=limit)

    assert seen == {item: ("caller", item) for item in range(6)}
    assert var.get() == "caller"


# --- per item: retries, fallback, collect ---------------------------------------------------------


class Picky(AsyncParallelBatchNode):
    """Items fail as often as their number says; the fallback answers but for odd ones."""

    async def prep_async(self, shared):
        self.tries = {}
        return shared

    async def exec_async(self, item):
        self.tries[item] = self.tries.get(item, 0) + 1
        await turns(item)
        if self.tries[item] <= item:
            raise ValueError(item, self.cur_retry)
        return item

    async def exec_fallback_async(self, item, exc):
        if item % 2:
            raise exc
        return f"instead of {item}"

    async def post_async(self, shared, prep_res, exec_res):
        return exec_res


@limits
async def test_retries_and_fallback_are_per_item(limit):
    """An item that fails is tried again by itself; its fallback answers for it alone."""
    node = Picky(3, concurrency=limit)

    assert await node.run_async([0, 1, 2, 4, 0]) == [0, 1, 2, "instead of 4", 0]
    assert node.tries == {0: 2, 1: 2, 2: 3, 4: 3}


@limits
async def test_collect_puts_the_exception_in_the_items_place(limit):
    """`on_error="collect"`: the batch goes on, and the error is where the result would be."""
    results = await Picky(3, concurrency=limit, on_error="collect").run_async([1, 3, 0, 5, 6])

    assert [type(result) for result in results] == [int, ValueError, int, ValueError, str]
    assert results[1].args == (3, 2)
    assert results[1].__notes__ == ["in node Picky, exec, attempt 3 of 3"]


@limits
async def test_collect_in_a_batch_flow_gives_post_the_last_actions(limit):
    """Per round the last action, or its exception; without collect post gets None."""

    class Say(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            if self.params["n"] == 1:
                raise KeyError("one")
            return f"action {self.params['n']}"

    class Rounds(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{"n": n} for n in range(3)]

        async def post_async(self, shared, prep_res, exec_res):
            shared["post"] = (prep_res, exec_res)

    shared = {}
    await Rounds(Say(), concurrency=limit, on_error="collect").run_async(shared)

    rounds, actions = shared["post"]
    assert rounds == [{"n": n} for n in range(3)]
    assert (actions[0], actions[2]) == ("action 0", "action 2")
    assert isinstance(actions[1], KeyError)
    assert actions[1].__notes__ == ["in node Say, post"]


@limits
async def test_without_collect_post_of_a_batch_flow_gets_none(limit):
    """As in PocketFlow, with `concurrency` too."""
    got = []

    class Rounds(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{}, {}]

        async def post_async(self, shared, prep_res, exec_res):
            got.append(exec_res)

    await Rounds(AsyncNode(), concurrency=limit).run_async({})

    assert got == [None]


@limits
async def test_everything_may_fail_when_it_is_collected(batch, limit):
    """A batch of errors only is a list of errors."""

    async def call(item):
        raise ValueError(item)

    results = await batch(call, range(5), concurrency=limit, on_error="collect")

    assert [result.args for result in results] == [(item,) for item in range(5)]


@limits
async def test_an_error_of_the_source_is_never_collected(batch, limit):
    """There is no item to put it in the place of: it is raised, the items are stopped."""
    stopped = Stopped()

    async def items():
        yield 0
        await turns(3)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more") as caught:
        await batch(stopped, items(), concurrency=limit, on_error="collect")

    assert stopped.cleaned == stopped.begun == [0]
    assert not hasattr(caught.value, "others")


@limits
async def test_an_error_of_a_plain_generator_stops_the_items(batch, limit):
    """Prep's generator may fail while items are at work: they are cancelled and awaited."""
    stopped = Stopped()

    def items():
        yield from range(3)
        raise OSError("no more")

    async def call(item):
        if limit == 1:
            return  # else the source is not asked for more
        await stopped(item)

    with pytest.raises(OSError, match="no more"):
        await batch(call, items(), concurrency=limit)

    assert sorted(stopped.cleaned) == sorted(stopped.begun)


# --- the first error ------------------------------------------------------------------------------


class Odd(Exception):
    """An error whose type and identity must survive."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(code)
        self.detail = detail


@limits
async def test_the_first_error_is_the_callers_error(batch, limit):
    """Same object, same type, no group around it, no cause put on it."""
    error = Odd(7, detail="x")

    async def call(item):
        await turns(2)
        if item == 2:
            raise error
        await turns(10)

    with pytest.raises(Odd) as caught:
        await batch(call, range(5), concurrency=limit)

    assert caught.value is error
    assert error.__cause__ is None
    assert not isinstance(error.__context__, BaseExceptionGroup)


@several
async def test_the_others_are_cancelled_and_awaited_first(batch, limit):
    """Cleanup that takes several loop turns is over when the caller sees the error."""
    stopped = Stopped(cleanup=7)

    async def call(item):
        if item == 2:
            await turns(3)
            raise ValueError("boom")
        await stopped(item)

    with pytest.raises(ValueError, match="boom"):
        await batch(call, range(10), concurrency=limit)

    assert set(stopped.begun) >= {0, 1}
    assert sorted(stopped.cleaned) == sorted(stopped.begun)
    assert len(asyncio.all_tasks()) == 1


@limits
@pytest.mark.parametrize("source", ["plainly", "lazily", "slowly"])
async def test_no_item_begins_after_the_error(batch, limit, source):
    """Once an item has failed no further item begins, but for what the loop had scheduled."""
    failed = False
    late = []

    async def call(item):
        nonlocal failed
        if failed:
            late.append(item)
        await asyncio.sleep(0)
        failed = True
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await batch(call, getattr(Source(30), source)(), concurrency=limit)

    assert len(late) <= (1 if source == "slowly" else 0)


@several
async def test_errors_of_siblings_are_attached_to_the_first(batch, limit):
    """Those that fail while they are being stopped are in `.others` and in a note."""

    async def call(item):
        if item == 1:
            await turns(2)
            raise ValueError("first")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError(f"cleanup {item}") from None

    with pytest.raises(ValueError, match="first") as caught:
        await batch(call, range(3), concurrency=limit)

    assert sorted(error.args for error in caught.value.others) == [("cleanup 0",), ("cleanup 2",)]
    (text,) = [note for note in caught.value.__notes__ if "more failed" in note]
    assert text.startswith("2 more failed before they could stop: ")
    assert "KeyError: 'cleanup 0'" in text
    assert "KeyError: 'cleanup 2'" in text


async def test_a_long_list_of_others_is_cut_in_the_note():
    """Five are shown, the rest counted; `.others` has them all."""

    async def call(item):
        await asyncio.sleep(0)
        raise ValueError(item)

    with pytest.raises(ValueError) as caught:
        await by_node(call, range(9))

    error = caught.value
    assert error.args == (0,)
    assert [other.args for other in error.others] == [(item,) for item in range(1, 9)]
    assert (
        "8 more failed before they could stop: item 1: ValueError: 1; item 2: ValueError: 2; "
        "item 3: ValueError: 3; item 4: ValueError: 4; item 5: ValueError: 5; and 3 more"
    ) in error.__notes__


@several
async def test_one_error_alone_has_no_others(batch, limit):
    """Siblings that were merely cancelled did not fail."""

    async def call(item):
        if item == 0:
            await asyncio.sleep(0)
            raise ValueError("alone")
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="alone") as caught:
        await batch(call, range(4), concurrency=limit)

    assert not hasattr(caught.value, "others")
    assert not any("more failed" in note for note in getattr(caught.value, "__notes__", ()))


@limits
async def test_an_error_before_the_first_wait_is_the_callers_error(batch, limit):
    """An item that fails before anything suspends; with eager tasks even while it starts."""

    async def call(item):
        raise ValueError(item)

    with pytest.raises(ValueError) as caught:
        await batch(call, range(4), concurrency=limit)

    assert caught.value.args == (0,)
    assert all(isinstance(other, ValueError) for other in getattr(caught.value, "others", ()))


# --- sources --------------------------------------------------------------------------------------


@limits
@pytest.mark.parametrize("source", ["lazily", "slowly"])
async def test_an_async_generator_is_closed_when_an_item_fails(batch, limit, source):
    """Its `finally` has run before the caller sees the error."""
    feed = Source(50)

    async def call(item):
        await asyncio.sleep(0)
        if item == 3:
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await batch(call, getattr(feed, source)(), concurrency=limit)

    assert feed.closed


@limits
async def test_a_blocked_async_generator_is_interrupted_when_an_item_fails(batch, limit):
    """An error does not wait for a source that may never give another item."""
    feed = Source(2)

    async def call(item):
        await turns(3)
        if item == 1:
            raise ValueError("boom")

    async with asyncio.timeout(10):
        with pytest.raises(ValueError, match="boom"):
            await batch(call, feed.then_stuck(), concurrency=limit)

    assert feed.closed


@limits
async def test_a_source_that_fails_when_interrupted_is_among_the_others(limit):
    """The item's error stays the first; the source's own is attached."""

    async def items():
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            raise OSError("source cleanup")

    async def call(item):
        await turns(3)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        await by_scatter(call, items(), concurrency=limit)

    assert [type(other) for other in caught.value.others] == [OSError]
    assert "the source: OSError: source cleanup" in str(caught.value.__notes__)


@pytest.mark.parametrize("limit", [None, 3])
async def test_an_item_that_comes_in_spite_of_the_interruption_is_dropped(limit):
    """A source that swallows its cancellation and yields once more does no harm."""
    begun = []

    async def items():
        yield 0
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield 1

    async def call(item):
        begun.append(item)
        await turns(3)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        await by_scatter(call, items(), concurrency=limit)

    before = begun.copy()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*left, return_exceptions=True)
    assert not left, "an item is at work after the batch has raised"
    assert begun == before
    assert not hasattr(caught.value, "others")


@limits
async def test_a_source_whose_task_is_cancelled_is_not_at_its_end(batch, limit):
    """A batch that has not seen all its items cannot pretend to be complete."""

    async def items():
        yield 0
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
        yield 1

    async def call(item):
        return item

    with pytest.raises(asyncio.CancelledError):
        await batch(call, items(), concurrency=limit)


@limits
async def test_an_async_iterator_without_aclose_will_do(limit):
    """Any async iterable is taken, not only generators."""

    class Count:
        def __init__(self):
            self.n = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.n += 1
            if self.n > 4:
                raise StopAsyncIteration
            return self.n

    async def call(item):
        return item

    assert await by_node(call, Count(), concurrency=limit) == [1, 2, 3, 4]


@pytest.mark.parametrize("source", ["lazily", "slowly"])
async def test_a_sequential_batch_reads_and_closes_async_generators_too(source):
    """AsyncBatchNode goes through an async generator, and closes it when an item fails."""
    feed = Source(9)

    class One(AsyncBatchNode):
        async def prep_async(self, shared):
            return getattr(feed, source)()

        async def exec_async(self, item):
            if item == shared_limit:
                raise ValueError(item)
            return item * 2

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    shared_limit = 99
    assert await One().run_async(None) == [item * 2 for item in range(9)]
    feed, shared_limit = Source(9), 2
    with pytest.raises(ValueError):
        await One().run_async(None)
    assert (feed.taken, feed.closed) == (3, True)


# --- cancellation ---------------------------------------------------------------------------------


@limits
async def test_cancelling_the_batch_stops_every_item(batch, limit):
    """CancelledError arrives when every item has cleaned up."""
    stopped = Stopped(cleanup=5)
    task = asyncio.create_task(batch(stopped, range(6), concurrency=limit))
    await turns(6)
    assert len(stopped.begun) == min(limit or 6, 6)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert sorted(stopped.cleaned) == sorted(stopped.begun)


@limits
async def test_cancelling_again_during_the_cleanup_still_waits(batch, limit):
    """However often it is told: nothing of the batch is left when it ends."""
    active = 0

    async def call(item):
        nonlocal active
        active += 1
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(8):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    continue
            active -= 1

    task = asyncio.create_task(batch(call, range(4), concurrency=limit))
    await turns(6)
    for _ in range(3):
        task.cancel()
        await turns(2)
    assert not task.done()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert active == 0


@limits
async def test_cancelling_while_siblings_are_stopped_is_cancellation(batch, limit):
    """Told to stop while an item's error is on its way: CancelledError, not the error."""
    cleaning = asyncio.Event()
    active = 0

    async def call(item):
        nonlocal active
        active += 1
        try:
            if item == 0:
                await turns(4)
                raise ValueError("boom")
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            for _ in range(6):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    continue
            active -= 1

    task = asyncio.create_task(batch(call, range(3), concurrency=limit))
    await cleaning.wait()
    if limit != 1:
        await turns(8)  # item 0 is through with its cleanup, the others are in theirs
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert active == 0


@limits
async def test_a_timeout_around_the_batch_is_a_timeout(batch, limit):
    """asyncio.timeout knows its own cancellation again, and everything has been stopped."""
    stopped = Stopped()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await batch(stopped, range(3), concurrency=limit)

    assert stopped.begun
    assert sorted(stopped.cleaned) == sorted(stopped.begun)
    assert asyncio.current_task().cancelling() == 0


@limits
async def test_a_timeout_is_a_timeout_even_if_items_fail_on_the_way_out(batch, limit):
    """Errors made by the cancellation do not hide it."""

    async def call(item):
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cleanup")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await batch(call, range(3), concurrency=limit)


@limits
@pytest.mark.parametrize("source", ["plainly", "lazily", "slowly"])
async def test_a_failed_batch_leaves_the_caller_uncancelled(batch, limit, source):
    """Whoever catches the error can go on awaiting: no cancellation is left behind."""

    async def call(item):
        await asyncio.sleep(0)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await batch(call, getattr(Source(5), source)(), concurrency=limit)

    assert asyncio.current_task().cancelling() == 0
    await turns(3)


@limits
@pytest.mark.parametrize("source", ["plainly", "slowly"])
async def test_a_caller_that_once_ignored_a_cancellation_gets_the_error_too(batch, limit, source):
    """`cancelling()` is a count of old requests, not a sign that this batch was told to stop."""

    async def call(item):
        await asyncio.sleep(0)
        raise ValueError("boom")

    async def main():
        with suppress(asyncio.CancelledError):  # without uncancel, as careless code does
            await asyncio.Event().wait()
        with pytest.raises(ValueError, match="boom"):
            await batch(call, getattr(Source(5), source)(), concurrency=limit)
        await turns(3)
        return asyncio.current_task().cancelling()

    task = asyncio.create_task(main())
    await turns(2)
    task.cancel()

    assert await task == 1


@several
async def test_an_item_that_raises_cancelled_error_itself_cancels_the_batch(batch, limit):
    """It is no result and no Exception: the others are stopped, CancelledError arrives."""
    stopped = Stopped()
    mine = asyncio.CancelledError("mine")

    async def call(item):
        if item == 1:
            await turns(2)
            raise mine
        await stopped(item)

    with pytest.raises(asyncio.CancelledError) as caught:
        await batch(call, range(3), concurrency=limit)

    assert caught.value is mine
    assert sorted(stopped.cleaned) == sorted(stopped.begun)
    assert asyncio.current_task().cancelling() == 0


@several
@pytest.mark.parametrize("on_error", ["raise", "collect"])
async def test_an_item_whose_task_is_cancelled_from_outside_is_no_result(batch, limit, on_error):
    """There is nothing to put in its place, so the batch cannot pretend to be complete."""
    tasks: dict[int, asyncio.Task] = {}

    async def call(item):
        tasks[item] = asyncio.current_task()
        if item == 1:
            await asyncio.Event().wait()
        await turns(5)
        return item

    batch_task = asyncio.create_task(batch(call, range(3), concurrency=limit, on_error=on_error))
    await turns(4)
    tasks[1].cancel()

    with pytest.raises(asyncio.CancelledError):
        await batch_task
    assert not batch_task.cancelling()


# --- more than errors -----------------------------------------------------------------------------


class Halt(BaseException):
    """Not an Exception."""


@limits
@pytest.mark.parametrize("on_error", ["raise", "collect"])
async def test_a_base_exception_stops_the_batch(batch, limit, on_error):
    """It is neither retried nor collected; the others are stopped, and it arrives as it is."""
    stopped, halt = Stopped(), Halt("now")

    async def call(item):
        if item == 0:
            await turns(3)
            raise halt
        await stopped(item)

    with pytest.raises(Halt) as caught:
        await batch(call, range(3), concurrency=limit, on_error=on_error)

    assert caught.value is halt
    assert sorted(stopped.cleaned) == sorted(stopped.begun)


INTERRUPT = """
import asyncio, sys
from pocketflow_async import AsyncParallelBatchNode

cleaned = []

class Batch(AsyncParallelBatchNode):
    async def prep_async(self, shared):
        return range(3)

    async def exec_async(self, item):
        try:
            await asyncio.sleep(0)
            if item == 1:
                raise {error}
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(item)

try:
    asyncio.run(Batch(3, concurrency={limit}).run_async(None))
except {error} as error:
    print("raised", sorted(cleaned))
"""


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
async def test_control_c_in_an_item_ends_the_program_in_order(limit, error, child_env):
    """It passes through the loop; every item is stopped and nothing is complained about."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        INTERRUPT.format(error=error, limit=limit),
        env=child_env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()

    assert (out.decode(), err.decode()) == ("raised [0, 1, 2]\n", "")


@limits
async def test_a_batch_inside_a_batch_is_stopped_with_it(limit):
    """Cancellation goes down through nested batches and back up in order."""
    stopped = Stopped()

    async def outer(item):
        if item == 1:
            await turns(8)
            raise ValueError("outer")
        await by_node(stopped, range(3), concurrency=limit)

    with pytest.raises(ValueError, match="outer"):
        await by_node(outer, range(2))

    assert stopped.begun
    assert sorted(stopped.cleaned) == sorted(stopped.begun)


@limits
async def test_an_error_of_an_inner_batch_keeps_its_identity(limit):
    """Through two batches: the same object, not wrapped."""
    error = Odd(1, detail="deep")

    async def inner(item):
        await asyncio.sleep(0)
        raise error

    async def outer(item):
        return await by_node(inner, range(2), concurrency=limit)

    with pytest.raises(Odd) as caught:
        await by_node(outer, range(2), concurrency=limit)

    assert caught.value is error
