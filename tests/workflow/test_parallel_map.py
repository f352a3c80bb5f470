"""Maps: each item once, in order, bounded, read no further than needed, nothing left behind."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.hooks import observing
from pocketflow_async.workflow.parallel_map import ItemsFailedError, check_items, run_map

number: ContextVar[int] = ContextVar("number", default=0)


class Gauge:
    """Counts what is at work, and what has been read and done."""

    def __init__(self, yields=0, fails=()):
        self.yields = yields
        self.fails = frozenset(fails)
        self.now = self.peak = self.read = self.ahead = 0
        self.seen = []

    def items(self, count):
        for item in range(count):
            self.read += 1
            self.ahead = max(self.ahead, self.read - len(self.seen))
            yield item

    async def async_items(self, count):
        for item in self.items(count):
            await asyncio.sleep(0)
            yield item

    async def __call__(self, item):
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            for _ in range((item * 7) % (self.yields + 1)):
                await asyncio.sleep(0)
            if item in self.fails:
                raise ValueError(f"item {item}")
            return item * 2
        finally:
            self.now -= 1
            self.seen.append(item)


def tasks():
    return asyncio.all_tasks() - {asyncio.current_task()}


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(0, 60),
    workers=st.integers(1, 12),
    batch=st.none() | st.integers(1, 15),
    yields=st.integers(0, 4),
    fails=st.sets(st.integers(0, 59), max_size=8),
    is_async=st.booleans(),
    timeout=st.none() | st.just(30),
)
def test_each_item_once_in_order_within_limits(
    count, workers, batch, yields, fails, is_async, timeout
):
    """Whatever the source and the failures: order, once each, never more than there are workers."""
    gauge = Gauge(yields, fails)

    async def main():
        source = gauge.async_items(count) if is_async else gauge.items(count)
        out = await run_map(
            gauge,
            source,
            max_workers=workers,
            batch_size=batch,
            timeout_per_item=timeout,
            continue_on_error=True,
        )
        assert not tasks()
        return out

    out = asyncio.run(main())

    failed = sorted(fails & set(range(count)))
    assert out["results"] == [item * 2 for item in range(count) if item not in fails]
    assert [entry["index"] for entry in out["errors"]] == failed
    assert [entry["item"] for entry in out["errors"]] == failed
    assert sorted(gauge.seen) == list(range(count))
    assert gauge.peak <= min(workers, batch or workers)
    assert gauge.ahead <= workers + 1  # one is at the door
    stats = out["statistics"]
    assert stats["total"] == count == stats["successful"] + stats["failed"]
    assert stats["failed"] == len(failed)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40),
    workers=st.integers(1, 8),
    after=st.integers(0, 30),
    is_async=st.booleans(),
    batch=st.none() | st.integers(1, 9),
)
def test_cancelling_leaves_nothing(count, workers, after, is_async, batch):
    """Cancelled at any moment, no item is at work any more when the map has ended."""
    gauge = Gauge(yields=5)

    async def main():
        source = gauge.async_items(count) if is_async else gauge.items(count)
        running = asyncio.create_task(
            run_map(gauge, source, max_workers=workers, batch_size=batch, timeout_per_item=9)
        )
        for _ in range(after):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled() or running.result()["statistics"]["total"] == count
        assert not tasks()

    asyncio.run(main())

    assert gauge.now == 0


async def test_first_failure_ends_the_map():
    """Without continue_on_error the rest is cancelled, and the error counts what has failed."""
    started, ended = [], []

    async def work(item):
        started.append(item)
        try:
            if item == 1:
                raise KeyError("zip")
            await asyncio.sleep(60)
        finally:
            ended.append(item)

    with pytest.raises(ItemsFailedError, match="Processing failed for 1 items") as caught:
        await run_map(work, range(100), max_workers=4)

    assert sorted(started) == sorted(ended)
    assert len(started) <= 5
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.errors[0]["error_type"] == "KeyError"
    assert "'total_errors': 1" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).errors == caught.value.errors
    assert not tasks()


async def test_without_fail_fast_all_items_come_to_an_end():
    """With fail_fast=False every item is done before the error, which then names them all."""
    gauge = Gauge(fails={1, 3})

    with pytest.raises(ItemsFailedError, match="for 2 items") as caught:
        await run_map(gauge, range(9), max_workers=2, fail_fast=False, batch_size=2)

    assert sorted(gauge.seen) == list(range(9))
    assert [entry["index"] for entry in caught.value.errors] == [1, 3]


async def test_an_item_that_takes_too_long_has_an_entry():
    """A timeout is an error of its item alone, and the item's finally has run."""
    ended = []

    async def work(item):
        try:
            await asyncio.sleep(60 if item % 2 else 0)
        finally:
            ended.append(item)

    out = await run_map(work, range(6), timeout_per_item=0.02, continue_on_error=True)

    assert [entry["index"] for entry in out["errors"]] == [1, 3, 5]
    assert {entry["error_type"] for entry in out["errors"]} == {"TimeoutError"}
    assert "longer than 0.02 s" in out["errors"][0]["error"]
    assert out["errors"][0]["duration"] >= 0.015
    assert out["errors"][0]["success"] is False
    assert sorted(ended) == list(range(6))
    assert out["statistics"]["successful"] == 3


async def test_an_item_may_have_timeouts_of_its_own():
    """The limit of the map does not take an inner timeout for its own, nor break one."""

    async def work(item):
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        except TimeoutError:
            return "inner"

    out = await run_map(work, range(3), timeout_per_item=5)

    assert out["results"] == ["inner"] * 3


async def test_an_item_that_survives_its_timeout_keeps_its_value():
    """An item that catches the cancellation and returns has succeeded, as with asyncio.timeout."""

    async def work(item):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "late"

    out = await run_map(work, [1], timeout_per_item=0.01)

    assert out["results"] == ["late"]


async def test_the_limit_covers_each_item_and_not_all_together():
    """Many items together may take far longer than one may."""
    out = await run_map(
        lambda item: time.sleep(0.02), range(6), max_workers=1, timeout_per_item=0.1
    )

    assert out["statistics"]["successful"] == 6


async def test_something_cancelled_within_an_item_is_its_failure():
    """A CancelledError that nobody sent to the item does not cancel the map."""

    async def work(item):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    out = await run_map(work, [1], continue_on_error=True, timeout_per_item=1)

    assert out["errors"][0]["error_type"] == "CancelledError"


async def test_an_item_that_cancels_itself_fails_the_map_but_not_its_caller():
    """Even a task that other code cancels ends in an error about items, not in a cancellation."""

    async def work(item):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(ItemsFailedError, match="cancelled by other code"):
        await run_map(work, [1, 2], continue_on_error=True)


async def test_synchronous_functions_run_in_threads_that_end_with_the_map():
    """They run side by side with the caller's context, and no thread is left."""
    before = set(threading.enumerate())
    number.set(7)
    meeting = threading.Barrier(3, timeout=5)

    def work(item):
        meeting.wait()
        return number.get() + item, threading.current_thread() is threading.main_thread()

    out = await run_map(work, range(3), max_workers=3)

    assert out["results"] == [(7, False), (8, False), (9, False)]
    assert set(threading.enumerate()) <= before


async def test_a_thread_keeps_its_place_after_its_timeout():
    """What cannot be stopped still counts as at work."""
    lock = threading.Lock()
    now = [0, 0]

    def work(item):
        with lock:
            now[0] += 1
            now[1] = max(now)
        time.sleep(0.03)
        with lock:
            now[0] -= 1

    out = await run_map(
        work, range(4), max_workers=2, timeout_per_item=0.005, continue_on_error=True
    )

    assert now == [0, 2]
    assert out["statistics"]["failed"] == 4


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_forgotten_await_is_an_error_of_the_item(kind):
    """A coroutine as the value of an item says what to do, and is closed."""

    async def inner():
        """Do nothing."""

    async def later(item):
        return inner()

    function = (lambda item: inner()) if kind == "sync" else later

    out = await run_map(function, [1], continue_on_error=True)

    assert "nobody awaits" in out["errors"][0]["error"]


async def test_stop_iteration_of_an_item_does_not_hang():
    """StopIteration, which no future can hold, becomes an error of its item."""
    out = await run_map(lambda item: next(iter(())), [1], continue_on_error=True)

    assert "StopIteration" in out["errors"][0]["error"]


async def test_items_have_contexts_of_their_own():
    """What one item sets in a context variable no other sees."""

    async def work(item):
        before = number.get()
        number.set(item)
        return before

    number.set(0)
    out = await run_map(work, [1, 2, 3], max_workers=1)

    assert out["results"] == [0, 0, 0]


async def test_an_error_of_the_source_is_raised_as_it_is():
    """A source that fails ends the map with its own error, whatever continue_on_error says."""

    def broken():
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await run_map(Gauge(), broken(), continue_on_error=True)


@pytest.mark.parametrize("batch", [None, 2])
async def test_an_async_source_is_closed_when_the_map_fails(batch):
    """The finally of an async generator has run by the time the error comes."""
    closed = []

    async def source():
        try:
            for item in range(100):
                yield item
        finally:
            closed.append(True)

    with pytest.raises(ItemsFailedError):
        await run_map(Gauge(fails={1}), source(), max_workers=2, batch_size=batch)

    assert closed == [True]


async def test_batches_come_one_after_the_other():
    """The next batch begins when all of the one before are done."""
    live, seen = set(), []

    async def work(item):
        live.add(item)
        seen.append({other // 3 for other in live})
        await asyncio.sleep(0.001 * (item % 3))
        live.discard(item)

    await run_map(work, range(9), batch_size=3)

    assert all(len(batches) == 1 for batches in seen)


async def test_results_may_be_dropped():
    """Without keep_results there are counts alone."""
    out = await run_map(Gauge(), range(50), keep_results=False, batch_size=10)

    assert out["results"] == []
    assert out["statistics"]["successful"] == 50


async def test_values_of_any_kind_are_results():
    """None and exceptions are results like others when they are returned."""
    error = ValueError("a value")

    async def work(item):
        return item

    assert (await run_map(work, [None, error, 0]))["results"] == [None, error, 0]


async def test_no_items_make_empty_results():
    """Nothing in, nothing out, and no division by zero."""
    out = await run_map(Gauge(), [], output_field="out")

    assert out["out"] == []
    assert out["statistics"]["average_duration"] == 0.0


async def test_durations_are_of_the_given_clock():
    """Total and average come from the clock that was passed in."""
    ticks = iter(range(100))

    async def work(item):
        """Do nothing."""

    out = await run_map(work, [1, 2], max_workers=1, clock=lambda: next(ticks))

    assert out["statistics"]["average_duration"] == 1.0
    assert out["statistics"]["total_duration"] == 5


async def test_watched_items_are_steps_with_their_place():
    """An observer sees one step an item, across batches; unwatched there is none."""
    steps = []

    with observing(steps.append):
        await run_map(Gauge(fails={4}), range(5), batch_size=2, name="m", continue_on_error=True)

    assert [(step.kind, step.name, step.index) for step in steps] == [
        ("item", "m", index) for index in range(5)
    ]
    assert [step.result for step in steps] == [0, 2, 4, 6, None]


@pytest.mark.parametrize("wrong", ["text", b"bytes", {"a": 1}, 5, None])
def test_what_is_no_list_of_items_is_refused(wrong):
    """Text, mappings and single values are no items; the message has the field and the type."""
    with pytest.raises(ValueError, match=r"'rows' must be a list or tuple, got \w+"):
        check_items(wrong, "rows")


@pytest.mark.parametrize("right", [[1], (1,), {1}, range(3), iter([1]), {1: 2}.values()])
def test_any_iterable_is_items(right):
    """Whatever can be gone over is."""
    assert check_items(right, "rows") is right


async def test_twenty_thousand_items_are_quick_and_leave_no_timers():
    """A trivial item with a timeout costs microseconds: one timer serves them all."""

    async def work(item):
        return item

    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)
    began = time.process_time()
    out = await run_map(work, range(20_000), max_workers=50, timeout_per_item=5)

    assert len(out["results"]) == 20_000
    assert (time.process_time() - began) / 20_000 < 60e-6  # 7 µs on a quiet machine
    assert sum(not timer.cancelled() for timer in loop._scheduled) <= before
