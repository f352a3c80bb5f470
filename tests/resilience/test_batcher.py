"""`Batcher`: many callers, one call for all of them, and to each its own result."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import weakref

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.resilience.batcher import Batcher, batched
from pocketflow_async.resilience.errors import BatcherClosed
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


class Squares:
    """Squares its items; fails where one is in *bad*; keeps what it was given."""

    def __init__(self, *bad, seconds=0):
        self.batches = []
        self.bad = set(bad)
        self.seconds = seconds
        self.now = self.most = 0

    async def __call__(self, items):
        self.batches.append(items)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            if found := self.bad & set(items):
                raise ValueError(f"bad: {sorted(found)}")
        finally:
            self.now -= 1
        return [item * item for item in items]


async def add_all(batcher, items):
    return await asyncio.gather(*map(batcher.add, items), return_exceptions=True)


async def settled():
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_each_caller_gets_its_own_result():
    """Batches of the size, in order; what is left is processed when it is closed."""
    squares = Squares()
    async with Batcher(squares, size=4, interval=60) as batcher:
        adding = asyncio.create_task(add_all(batcher, range(10)))
        await settled()
        assert squares.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert batcher.statistics() == (2, 0, 2, 8, 0)
    assert squares.batches[2:] == [[8, 9]]
    assert await adding == [number**2 for number in range(10)]
    assert batcher.statistics() == (0, 0, 3, 10, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_the_oldest_waits_no_longer_than_the_interval(clock):
    """Counted from the first item, to the moment; then from the next first one."""
    squares = Squares()

    async def late(seconds, batcher):
        await asyncio.sleep(seconds)
        await batcher.add(seconds)
        return clock.monotonic()

    async def main():
        batcher = Batcher(squares, size=10, interval=5)
        ends = await asyncio.gather(*(late(seconds, batcher) for seconds in (0, 3, 4.5, 6, 20)))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return ends

    assert clock.run(main()) == [5, 5, 5, 11, 25]
    assert squares.batches == [[0, 3, 4.5], [6], [20]]


def test_its_clock_can_be_another():
    """The one that is given counts, not that of the context."""
    clock = FakeClock()
    batcher = Batcher(Squares(), interval=3600, clock=clock)

    assert asyncio.run(asyncio.wait_for(batcher.add(3), 10)) == 9
    assert clock.waits == [3600]


async def test_flush_processes_what_waits():
    """And waits for it; errors are the callers' alone."""
    squares = Squares(2)
    batcher = Batcher(squares, size=10, interval=None)
    await batcher.flush()
    adding = asyncio.create_task(add_all(batcher, [1, 2]))
    await settled()
    await batcher.flush()

    assert squares.batches == [[1, 2]]
    assert [type(error) for error in await adding] == [ValueError, ValueError]
    assert batcher.statistics().failures == 1


async def test_an_error_goes_to_all_callers_of_the_batch():
    """To each a copy of its own; other batches are not touched."""
    async with Batcher(Squares(2), size=2) as batcher:
        one, two, three, four = await add_all(batcher, [1, 2, 3, 4])

    assert str(one) == str(two) == "bad: [2]"
    assert one is not two
    assert (three, four) == (9, 16)


async def test_an_exception_in_place_of_a_result_is_for_that_caller():
    """The others of the batch get theirs."""

    def lookup(keys):
        return [KeyError(key) if key == "b" else key.upper() for key in keys]

    async with Batcher(lookup, size=3) as batcher:
        a, b, c = await add_all(batcher, "abc")

    assert (a, c) == ("A", "C")
    assert isinstance(b, KeyError)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1], "returned 1 results for 2 items"),
        ([1, 2, 3], "returned 3 results for 2 items"),
        ("ab", "a list with a result for each item"),
        ({1: 2, 3: 4}, "a list with a result for each item"),
        (7, "a list with a result for each item"),
    ],
)
async def test_results_must_fit_their_items(given, text):
    """Anything else is an error to all callers, with the name of the batcher."""
    async with Batcher(lambda items: given, size=2, name="mine") as batcher:
        found = await add_all(batcher, [1, 2])

    assert all(text in str(error) and "'mine'" in str(error) for error in found)


async def test_no_results_are_none_for_each():
    """As of a function that inserts rows."""
    async with Batcher(lambda items: None, size=2) as batcher:
        assert await add_all(batcher, [1, 2]) == [None, None]


async def test_falsy_items_and_results_are_items_and_results():
    """None, 0, empty texts and lists."""
    values = [None, 0, "", [], False]
    async with Batcher(lambda items: items, size=5) as batcher:
        assert await add_all(batcher, values) == values


async def test_synchronous_functions_run_in_a_thread():
    """The event loop goes on meanwhile; one that returns an awaitable is awaited."""
    threads = []

    def function(items):
        threads.append(threading.current_thread())
        return items

    async with Batcher(function, size=1) as batcher:
        assert await batcher.add(1) == 1
    async with Batcher(lambda items: Squares()(items), size=1) as batcher:
        assert await batcher.add(3) == 9
    assert threads[0] is not threading.main_thread()


def stop(items):
    """Give what a future cannot hold."""
    return [StopIteration(1)]


async def leave(items):
    raise SystemExit(1)


async def cancelled(items):
    raise asyncio.CancelledError(1)


@pytest.mark.parametrize(
    ("function", "text"),
    [(stop, "StopIteration"), (leave, "SystemExit"), (cancelled, "CancelledError")],
)
async def test_what_would_end_something_else_is_an_error(function, text):
    """StopIteration, SystemExit, and a cancellation that nobody has asked for."""
    async with Batcher(function, size=1) as batcher:
        with pytest.raises(RuntimeError, match=text):
            await batcher.add(1)


async def test_no_more_batches_at_a_time_than_said():
    """One, in order, unless it is said otherwise."""
    squares = Squares(seconds=0.001)
    async with Batcher(squares, size=10) as batcher:
        await add_all(batcher, range(100))
    assert squares.most == 1
    assert squares.batches == [list(range(start, start + 10)) for start in range(0, 100, 10)]

    squares = Squares(seconds=0.001)
    async with Batcher(squares, size=10, concurrency=3) as batcher:
        assert await add_all(batcher, range(100)) == [n * n for n in range(100)]
    assert squares.most == 3


async def test_callers_wait_for_room():
    """In order; no more items are held than there may be, and cancelled ones make room."""
    go = asyncio.Event()

    async def function(items):
        await go.wait()
        return items

    batcher = Batcher(function, size=2, max_waiting=4, interval=None)
    tasks = [asyncio.create_task(batcher.add(item)) for item in range(10)]
    await settled()
    assert batcher.statistics().waiting == 4
    tasks[5].cancel()
    go.set()
    await batcher.aclose()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert found[:4] == [0, 1, 2, 3]
    assert isinstance(found[5], asyncio.CancelledError)
    rest = [*found[4:5], *found[6:]]
    assert all(isinstance(each, BatcherClosed) or each in range(10) for each in rest)
    assert batcher.statistics().waiting == 0


async def test_a_cancelled_caller_takes_its_item_back():
    """It is not processed, and leaves no timer behind when it was the only one."""
    squares = Squares()
    batcher = Batcher(squares, size=3, interval=60)
    first, second = (asyncio.create_task(batcher.add(item)) for item in (1, 2))
    await settled()
    first.cancel()
    await settled()
    assert batcher.statistics().waiting == 1
    await batcher.flush()
    assert (await second, squares.batches) == (4, [[2]])

    only = asyncio.create_task(batcher.add(3))
    await settled()
    only.cancel()
    await settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_item_whose_batch_has_begun_is_processed_without_its_caller():
    """The others of the batch get their results."""
    squares = Squares(seconds=0.001)
    async with Batcher(squares, size=2) as batcher:
        first, second = (asyncio.create_task(batcher.add(item)) for item in (1, 2))
        await settled()
        first.cancel()
        assert await second == 4
    assert first.cancelled()
    assert squares.batches == [[1, 2]]


async def test_a_batch_whose_callers_are_all_gone_is_not_begun():
    """While another is at work, theirs waits, and is dropped."""
    squares = Squares(seconds=0.001)
    async with Batcher(squares, size=2) as batcher:
        tasks = [asyncio.create_task(batcher.add(item)) for item in range(4)]
        await settled()
        for task in tasks[2:]:
            task.cancel()
    assert await asyncio.gather(*tasks[:2]) == [0, 1]
    assert squares.batches == [[0, 1]]
    assert batcher.statistics() == (0, 0, 1, 2, 0)


async def test_closed_means_closed():
    """On this loop; closing twice is nothing more."""
    batcher = Batcher(Squares(), name="mine")
    async with batcher:
        pass
    await batcher.aclose()
    await batcher.flush()

    with pytest.raises(BatcherClosed, match="'mine' is closed"):
        await batcher.add(1)
    with pytest.raises(BatcherClosed):
        async with batcher:
            pass


async def test_an_error_in_the_block_still_processes_what_waits():
    """Nothing is lost on the way out."""
    squares = Squares()
    with pytest.raises(KeyError):
        async with Batcher(squares, interval=None) as batcher:
            adding = asyncio.create_task(batcher.add(5))
            await settled()
            raise KeyError
    assert await adding == 25


async def test_a_cancelled_close_ends_what_is_at_work():
    """Function, callers and those whose batch waits are all cancelled and awaited."""
    squares = Squares(seconds=60)
    batcher = Batcher(squares, size=1)
    adding = [asyncio.create_task(batcher.add(item)) for item in range(3)]
    await settled()
    closing = asyncio.create_task(batcher.aclose())
    await settled()
    closing.cancel()
    found = await asyncio.gather(*adding, closing, return_exceptions=True)

    assert all(isinstance(each, asyncio.CancelledError) for each in found)
    assert squares.batches == [[0]]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert batcher.statistics() == (0, 0, 1, 1, 1)


def test_a_loop_that_ends_ends_its_batches():
    """Callers that are cancelled with their loop leave nothing; the next loop begins anew."""
    squares = Squares(seconds=60)
    batcher = Batcher(squares, size=2)

    async def leave():
        tasks = [asyncio.create_task(batcher.add(item)) for item in range(5)]
        await settled()
        return tasks

    tasks = asyncio.run(leave())
    assert all(task.cancelled() for task in tasks)
    squares.seconds = 0
    assert asyncio.run(add_all(batcher, [6, 7])) == [36, 49]
    assert batcher.statistics().waiting == 0


def test_loops_in_threads_have_batches_of_their_own():
    """At the same time; every caller gets its result on its own loop."""
    loops = set()

    async def function(items):
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return [item * item for item in items]

    batcher, found = Batcher(function, size=7), {}

    async def many(start):
        async with batcher:
            return await add_all(batcher, range(start, start + 100 * 7))

    def work(start):
        found[start] = asyncio.run(many(start))

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[start] == [n * n for n in range(start, start + 700)] for start in found)
    assert len(loops) == 4
    assert batcher.statistics() == (0, 0, 400, 2800, 0)


def test_loops_that_are_gone_are_forgotten():
    """A batcher of the whole program keeps no loop alive."""
    batcher = Batcher(Squares(), size=1)
    loops = []

    async def once():
        await batcher.add(1)
        loops.append(weakref.ref(asyncio.get_running_loop()))

    for _ in range(3):
        asyncio.run(once())
    gc.collect()
    assert [loop() for loop in loops[:2]] == [None, None]


async def test_a_timer_that_somebody_cancels_is_made_again():
    """By the next item."""
    batcher = Batcher(Squares(), interval=0.001)
    first = asyncio.create_task(batcher.add(1))
    await settled()
    for task in asyncio.all_tasks() - {asyncio.current_task(), first}:
        task.cancel()
    await settled()
    assert await asyncio.gather(first, batcher.add(2)) == [1, 4]


async def test_a_cancelled_worker_leaves_nobody_waiting():
    """All that it had to do is cancelled with it, also before its first step."""
    for steps in (0, 3):
        batcher = Batcher(Squares(seconds=60), size=1)
        adding = [asyncio.create_task(batcher.add(item)) for item in range(3)]
        await asyncio.sleep(0)
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task(), *adding}:
            task.cancel()
        found = await asyncio.gather(*adding, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found)
        assert batcher.statistics()[:2] == (0, 0)


async def test_the_decorator_makes_a_function_of_one_item():
    """And has all that a batcher has."""

    @batched(size=3, name="squares")
    async def square(items: list[int]) -> list[int]:
        return [item * item for item in items]

    assert await asyncio.gather(square(1), square(2), square(3)) == [1, 4, 9]
    assert square.statistics().batches == 1
    assert repr(square) == "<Batcher 'squares', 3 items or 5.0 s>"


async def test_a_batch_is_a_step_for_those_who_watch():
    """Of kind policy, with size and reason; the items are its input."""
    steps = []
    with observing(steps.append):
        async with Batcher(Squares(), size=2, name="mine") as batcher:
            await add_all(batcher, [1, 2])

    (step,) = steps
    assert (step.kind, step.name, step.input, step.result) == ("policy", "mine", [1, 2], [1, 4])
    assert step.facts == {
        "flow.policy": "batcher",
        "flow.batcher.items": 2,
        "flow.batcher.reason": "batch_full",
    }


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"size": 0}, ValueError, "size must be at least 1"),
        ({"interval": 0}, ValueError, "interval must be above 0"),
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1"),
        ({"size": 5, "max_waiting": 4}, ValueError, "max_waiting must be at least 5"),
        ({"name": 3}, TypeError, "name must be a text"),
    ],
)
def test_wrong_options_are_refused_at_once(options, error, text):
    """With name and value."""
    with pytest.raises(error, match=text):
        Batcher(Squares(), **options)
    with pytest.raises(TypeError, match="needs a function"):
        Batcher(None)


async def test_many_items_cost_little():
    """50,000 of them in less than five seconds, on any machine."""
    began = time.perf_counter()
    async with Batcher(lambda items: items, size=500, max_waiting=50_000) as batcher:
        assert await add_all(batcher, range(50_000)) == list(range(50_000))
    assert time.perf_counter() - began < 5
    assert batcher.statistics().batches == 100


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_every_caller_gets_its_own(clock, seed):
    """1,000 callers at random moments, some cancelled, batches that fail: none is mixed up."""
    luck = random.Random(seed)
    processed = []

    async def function(items):
        await asyncio.sleep(luck.random())
        processed.extend(items)
        if luck.random() < 0.2:
            raise ConnectionError(str(items[0]))
        return [-item for item in items]

    async def one(item, batcher):
        await asyncio.sleep(luck.random() * 30)
        task = asyncio.create_task(batcher.add(item))
        if luck.random() < 0.2:
            await asyncio.sleep(luck.random() * 2)
            task.cancel()
        await asyncio.wait([task])
        return task

    async def main():
        batcher = Batcher(function, size=9, interval=1, concurrency=2, max_waiting=30)
        tasks = await asyncio.gather(*(one(item, batcher) for item in range(1, 1001)))
        await batcher.aclose()
        assert batcher.statistics()[:2] == (0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return tasks

    tasks = clock.run(main())
    assert len(processed) == len(set(processed))
    ended = {item: task for item, task in enumerate(tasks, 1) if not task.cancelled()}
    good = {item: task.result() for item, task in ended.items() if task.exception() is None}
    assert ended.keys() <= set(processed)
    assert good == {item: -item for item in good}
    assert {type(task.exception()) for item, task in ended.items() if item not in good} == {
        ConnectionError
    }
