"""AsyncPatterns.batch_processor: many items at once, over all runs, and none of them is lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import weakref
from collections import namedtuple

import pytest

from pocketflow_async.clock import clock as current_clock
from pocketflow_async.resources import ResourceRegistry
from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    Context,
    ErrorHandler,
    NodeExecutionError,
    RetryPolicy,
    WorkflowValidationError,
)
from tests.workflow.runtime_kit import nothing_left
from tracing.recorder import watching
from tracing.spans import recorder_here
from tracing.testing import FakeClock, capture

SUM = "batch_results = [sum(items)]"


@pytest.fixture
def clock():
    return FakeClock()


class Sink:
    """Takes batches; fails where one has an item of *bad*."""

    def __init__(self, *bad):
        self.batches = []
        self.bad = set(bad)
        self.began = asyncio.Event()
        self.seconds = 0

    async def __call__(self, items):
        self.began.set()
        if self.seconds:
            await current_clock().asleep(self.seconds)
        if self.bad & set(items):
            raise ValueError(f"bad: {items}")
        self.batches.append(items)
        return [f"done {item}" for item in items]

    @property
    def items(self):
        return sorted(item for batch in self.batches for item in batch)


def batching(code=SUM, size=5, interval=60.0, **options):
    builder = AsyncWorkflowBuilder()
    assert (
        AsyncPatterns.batch_processor(
            builder, "node", code, batch_size=size, flush_interval=interval, **options
        )
        == "node"
    )
    return builder.build()


def work_of(workflow):
    return workflow.nodes["node"].work


async def run(workflow, items=None, runtime=None, **inputs):
    """Run *workflow*; return what its node has yielded, or raise what it has raised."""
    given = inputs if items is None else {"items": items, **inputs}
    result = await (runtime or AsyncLocalRuntime()).execute_workflow_async(workflow, given)
    if result.exceptions:
        raise result.exceptions["node"]
    return result["results"]["node"]


# What a run yields


async def test_items_of_several_runs_make_a_batch():
    """Three wait; with three more a batch of five is full, and one waits for the next."""
    workflow = batching()
    first = await run(workflow, [1, 2, 3])
    second = await run(workflow, [4, 5, 6])

    assert first == {
        "processed_count": 0,
        "results": [],
        "remaining_in_batch": 3,
        "flush_reason": None,
        "next_flush_in": pytest.approx(60, abs=1),
    }
    assert second == {
        "processed_count": 5,
        "results": [15],
        "remaining_in_batch": 1,
        "flush_reason": "batch_full",
        "next_flush_in": pytest.approx(60, abs=1),
    }
    assert work_of(workflow).waiting == 1


async def test_all_full_batches_are_processed_at_once():
    """Of 250 items, two batches of 100; the other 50 wait, and are not dropped."""
    sink = Sink()
    workflow = batching(sink, 100)
    made = await run(workflow, range(250))

    assert [len(batch) for batch in sink.batches] == [100, 100]
    assert (made["processed_count"], made["remaining_in_batch"]) == (200, 50)
    assert made["results"] == [f"done {item}" for item in range(200)]

    made = await run(workflow, force_flush=True)
    assert (made["processed_count"], made["flush_reason"]) == (50, "forced")
    assert sink.items == list(range(250))


async def test_force_flush_leaves_nothing():
    """All there is, the last batch as small as it is; the reason is that of the last one."""
    made = await run(batching(), list(range(7)), force_flush=True)

    assert made == {
        "processed_count": 7,
        "results": [10, 11],
        "remaining_in_batch": 0,
        "flush_reason": "forced",
        "next_flush_in": 60.0,
    }
    assert (await run(batching(), [], force_flush=True))["flush_reason"] is None


def test_what_is_too_old_is_processed_by_the_next_run(clock):
    """The time counts from the oldest item, over runs; the reason says so."""
    workflow = batching(interval=5.0)

    async def runs():
        async with AsyncLocalRuntime() as runtime:
            made = [await run(workflow, [1], runtime)]
            await asyncio.sleep(3)
            made.append(await run(workflow, [2], runtime))
            clock.advance(2)
            made.append(await run(workflow, [3], runtime))
            return made

    first, second, third = clock.run(runs())
    assert [made["next_flush_in"] for made in (first, second, third)] == [5.0, 2.0, 5.0]
    assert (third["results"], third["flush_reason"]) == ([6], "time_based")


Row = namedtuple("Row", "id text")


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (range(2), [0, 1]),
        ({7}, [7]),
        ((n * n for n in range(3)), [0, 1, 4]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}, [{"a": 1}]),
        ("text", ["text"]),
        (b"bytes", [b"bytes"]),
        (0, [0]),
        (False, [False]),
        ([None, 0, ""], [None, 0, ""]),
        (Row(1, "x"), [Row(1, "x")]),
        ([], []),
        (None, []),
    ],
)
async def test_items_or_one_item(given, items):
    """Lists and the like are several items, texts, dicts and rows one; None is none at all."""
    made = await run(batching("batch_results = items"), given, force_flush=True)

    assert made["results"] == items
    assert made["processed_count"] == len(items)


@pytest.mark.parametrize(
    ("code", "results"),
    [
        ("batch_results = [n * 2 for n in items]", [2, 4]),
        (
            "batch_results = []\nfor n in items:\n    result = n\n    batch_results.append(n)",
            [1, 2],
        ),
        ("result = [n + 1 for n in items]", [2, 3]),
        ("return [n for n in items]", [1, 2]),
        ("return {'batch_results': (5,)}", [5]),
        ("result = {'inserted': len(items)}", [{"inserted": 2}]),
        ("result = 0", [0]),
        ("for n in items:\n    last = n", []),
        ("batch_results = None", []),
        ("await asyncio.sleep(0)", []),
        (lambda items: items[::-1], [2, 1]),
        (lambda items: {"batch_results": [len(items)]}, [2]),
        (lambda items: None, []),
    ],
)
async def test_where_the_results_are(code, results):
    """In `batch_results`, before `result`; or returned; by code that is indented or a function."""
    made = await run(batching(code), [1, 2], force_flush=True)

    assert (made["results"], made["processed_count"]) == (results, 2)


async def test_the_code_may_do_with_its_items_what_it_likes():
    """Its list is its own: what it takes out of it is still there when it fails."""
    workflow = batching("items.clear()\nraise ValueError('no')")
    with pytest.raises(ValueError, match="no"):
        await run(workflow, [1, 2], force_flush=True)

    assert work_of(workflow).waiting == 2
    work_of(workflow).reset()


async def test_other_inputs_and_resources_are_there():
    """An indented code with inputs of the run by name; a function gets what it asks for."""
    code = """
        batch_results = []
        for item in items:
            batch_results.append(await transform(item, factor))
    """

    async def transform(item, factor):
        return item * factor

    made = await run(batching(code, 2), [1, 2], transform=transform, factor=3)
    assert made["results"] == [3, 6]

    def insert(items, table, context: Context):
        return [f"{context.node_id}.{table}: {items}"]

    assert (await run(batching(insert, 1), [1], table="t"))["results"] == ["node.t: [1]"]


async def test_its_outputs_go_on_to_other_nodes():
    """By their names, or all of them; an unknown one is refused before any run."""
    builder = AsyncWorkflowBuilder()
    AsyncPatterns.batch_processor(builder, "node", SUM, batch_size=2)
    builder.add_async_code("after", "result = {'sum': sums[0], 'left': left}")
    builder.add_connection("node", "results", "after", "sums")
    builder.add_connection("node", "remaining_in_batch", "after", "left")
    result = await AsyncLocalRuntime().execute_workflow_async(builder, {"items": [1, 2]})
    assert result["results"]["after"] == {"sum": 3, "left": 0}

    builder.add_async_code("wrong", "result = n")
    builder.add_connection("node", "number", "wrong", "n")
    with pytest.raises(WorkflowValidationError, match="'number'"):
        builder.build()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch_size": 0}, ValueError, "node 'node': batch_size must be at least 1, not 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be a whole number"),
        ({"flush_interval": 0}, ValueError, "flush_interval must be above 0"),
        ({"flush_interval": "5"}, TypeError, "flush_interval must be a number"),
        ({"batchsize": 5}, TypeError, "batchsize"),
    ],
)
def test_wrong_options_are_refused_at_once(options, error, text):
    """With the node, the name and the value."""
    with pytest.raises(error, match=text):
        AsyncPatterns.batch_processor(AsyncWorkflowBuilder(), "node", SUM, **options)


async def test_without_an_interval_items_wait_for_others():
    """`next_flush_in` is None then; `force_flush` still works."""
    workflow = batching(interval=None)
    assert (await run(workflow, [1]))["next_flush_in"] is None
    assert (await run(workflow, [2], force_flush=True))["results"] == [3]


# Nothing is lost


def test_what_no_run_comes_for_is_processed_when_it_is_old(clock):
    """After the interval, to the moment; the result is kept with the work."""
    sink = Sink()
    workflow = batching(sink, interval=5.0)

    async def later():
        runtime = AsyncLocalRuntime()
        await run(workflow, [1, 2], runtime)
        await asyncio.sleep(4.999)
        assert sink.batches == []
        await asyncio.sleep(0.002)
        assert sink.batches == [[1, 2]]
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    clock.run(later())
    assert list(work_of(workflow).late_results) == [(2, ["done 1", "done 2"], "time_based")]
    assert work_of(workflow).statistics() == (0, 0, 0, 1, 2, 0)


async def test_cleanup_processes_what_waits():
    """As does leaving `async with`; nothing is left running, and both can be used again."""
    sink = Sink()
    workflow = batching(sink)
    async with nothing_left():
        async with AsyncLocalRuntime() as runtime:
            await run(workflow, [1, 2], runtime)
        assert sink.batches == [[1, 2]]
        await run(workflow, [3], runtime)
        await runtime.cleanup()
        await runtime.cleanup()

    assert sink.batches == [[1, 2], [3]]
    assert [late.flush_reason for late in work_of(workflow).late_results] == ["forced"] * 2


async def test_runs_that_leave_nothing_leave_no_task():
    """Nor does one that fails with nothing kept, or takes what others have left."""
    workflow = batching()
    async with nothing_left():
        await run(workflow, [1, 2, 3, 4, 5])
        await run(workflow, [])
    await run(workflow, [1])
    async with nothing_left():
        await run(workflow, [2, 3, 4, 5])
    gc.collect()
    assert work_of(workflow)._latest is None


def test_the_end_of_the_event_loop_processes_what_waits():
    """Each `asyncio.run` ends with an empty batch, also where nothing is awaited any more."""
    sink = Sink()
    workflow = batching(sink)
    asyncio.run(run(workflow, [1, 2]))
    assert sink.batches == [[1, 2]]

    asyncio.run(run(workflow, [3, 4]))
    assert sink.batches == [[1, 2], [3, 4]]


def test_the_synchronous_door_processes_what_waits():
    """At the end of each `execute`, in a thread too if the code is synchronous."""
    threads = []

    def insert(items):
        threads.append(threading.current_thread())

    with LocalRuntime() as runtime:
        runtime.execute(batching(insert), inputs={"items": [1]})
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_an_error_at_the_end_of_the_loop_keeps_the_items(caplog):
    """It is logged, and the next event loop tries again."""
    sink = Sink(1)
    workflow = batching(sink)
    with caplog.at_level(logging.WARNING, "pocketflow_async.workflow"):
        asyncio.run(run(workflow, [1, 2]))
    assert "'node': a batch of 2 items failed and is kept: ValueError: bad" in caplog.text
    assert "the event loop ends, and 2 items could not be processed" in caplog.text

    sink.bad.clear()
    assert asyncio.run(run(workflow, [3], force_flush=True))["processed_count"] == 3
    assert sink.items == [1, 2, 3]


def test_a_loop_that_was_closed_without_a_word_loses_nothing():
    """What waited there is processed by the next run, on the new loop, or by a cleanup."""
    sink = Sink()
    workflow = batching(sink)

    def abandoned(items):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(run(workflow, items))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False
        loop.close()

    abandoned([1, 2])
    asyncio.run(run(workflow, [3, 4, 5]))
    assert sink.batches == [[1, 2, 3, 4, 5]]

    abandoned([6])
    asyncio.run(work_of(workflow).aclose())
    assert sink.batches[1:] == [[6]]


async def test_concurrent_runs_share_the_batch():
    """100 runs with 7 items each: every item once, all batches full but the last."""
    sink = Sink()
    workflow = batching(sink, 10)
    runtime = AsyncLocalRuntime(max_concurrent_nodes=50)
    given = [list(range(start, start + 7)) for start in range(0, 700, 7)]
    made = await asyncio.gather(*(run(workflow, items, runtime) for items in given))
    await runtime.cleanup()

    assert sink.items == list(range(700))
    assert {len(batch) for batch in sink.batches} == {10}
    assert sum(each["processed_count"] for each in made) == 700


def test_threads_with_loops_of_their_own_share_the_batch():
    """Eight threads at once: every item once."""
    sink = Sink()
    workflow = batching(sink, 10)

    async def many(start):
        runtime = AsyncLocalRuntime()
        for item in range(start, start + 53):
            await run(workflow, item, runtime)

    threads = [
        threading.Thread(target=asyncio.run, args=(many(start * 100),)) for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.items == [start * 100 + item for start in range(8) for item in range(53)]
    assert work_of(workflow).waiting == 0


async def test_a_batch_that_fails_is_kept():
    """The run that processed it gets the error; other batches go on; force tries it again."""
    sink = Sink(2)
    workflow = batching(sink, 2)
    with pytest.raises(ValueError, match="bad") as caught:
        await run(workflow, [1, 2])
    assert "node 'node': 2 items are kept, and tried again" in caught.value.__notes__

    assert (await run(workflow, [3, 4]))["processed_count"] == 2
    assert work_of(workflow).statistics() == (2, 2, 0, 1, 2, 1)
    with pytest.raises(ValueError, match="bad"):
        await run(workflow, [5], force_flush=True)
    assert work_of(workflow).waiting == 3

    sink.bad.clear()
    made = await run(workflow, force_flush=True)
    assert made["processed_count"] == 3
    assert sink.items == [1, 2, 3, 4, 5]


async def test_results_before_the_failure_are_kept_too():
    """The run gets the error; what its first batch came to is with the late results."""
    workflow = batching(Sink(3), 2)
    with pytest.raises(ValueError, match="bad"):
        await run(workflow, [1, 2, 3, 4, 5, 6])

    assert list(work_of(workflow).late_results) == [(2, ["done 1", "done 2"], "batch_full")]
    assert work_of(workflow).waiting == 4
    work_of(workflow).reset()


def test_a_batch_that_failed_is_tried_again_after_the_interval(clock, caplog):
    """Again and again, each failure logged, until it works."""
    sink = Sink(1)
    workflow = batching(sink, interval=5.0)

    async def later():
        await run(workflow, [1, 2], AsyncLocalRuntime())
        await asyncio.sleep(11)
        assert work_of(workflow).statistics().failures == 2
        sink.bad.clear()
        await asyncio.sleep(5)
        assert sink.batches == [[1, 2]]

    clock.run(later())
    assert caplog.text.count("a batch of 2 items failed") == 2


async def test_cleanup_tells_what_it_could_not_process():
    """All else is cleaned up, nothing runs on, and the items are kept."""
    sink = Sink(1)
    workflow = batching(sink)
    other = batching(again := Sink())
    runtime = AsyncLocalRuntime()
    async with nothing_left():
        await run(workflow, [1, 2], runtime)
        await run(other, [3], runtime)
        with pytest.raises(NodeExecutionError, match="node 'node': 2 items could not be processed"):
            await runtime.cleanup()
    assert again.batches == [[3]]

    sink.bad.clear()
    await runtime.cleanup()
    assert sink.batches == [[1, 2]]


async def test_an_error_of_the_block_is_not_hidden_by_the_cleanup(caplog):
    """The cleanup's own error is in the log."""
    workflow = batching(Sink(1))
    with pytest.raises(KeyError, match="mine"):
        async with AsyncLocalRuntime() as runtime:
            await run(workflow, [1], runtime)
            raise KeyError("mine")
    assert "1 items could not be processed" in caplog.text
    work_of(workflow).reset()


async def test_attempts_of_a_node_add_their_items_once():
    """A retry policy tries the same batch again."""
    sink = Sink(1)
    attempts = []

    async def insert(items):
        attempts.append(items)
        if len(attempts) == 2:
            sink.bad.clear()
        return await sink(items)

    policy = RetryPolicy(max_retries=3, base_delay=0.001)
    workflow = batching(insert, 3, retry_policy=policy)
    made = await run(workflow, [1, 2, 3, 4])

    assert attempts == [[1, 2, 3]] * 2
    assert (made["processed_count"], made["remaining_in_batch"]) == (3, 1)
    await work_of(workflow).aclose()
    assert sink.items == [1, 2, 3, 4]


async def test_an_error_handler_gives_the_answer_and_the_items_are_kept():
    """The run goes on with the fallback."""
    workflow = batching(Sink(1), 1, error_handler=ErrorHandler("fallback", {"later": True}))

    assert await run(workflow, [1]) == {"later": True}
    assert work_of(workflow).waiting == 1
    work_of(workflow).reset()


def test_a_batch_has_its_time(clock):
    """`timeout` is that of one batch; what was too slow is kept."""
    sink = Sink()
    sink.seconds = 40
    workflow = batching(sink, 2)

    async def late():
        async with AsyncLocalRuntime() as runtime:
            with pytest.raises(TimeoutError, match="exceeded 30s"):
                await run(workflow, [1, 2], runtime)
            assert work_of(workflow).waiting == 2
            sink.seconds = 20
            made = await run(workflow, [3, 4, 5, 6], runtime, force_flush=True)
            assert made["processed_count"] == 6

    clock.run(late())
    assert clock.monotonic() == pytest.approx(90.0)


async def test_items_of_a_cancelled_run_are_processed_all_the_same():
    """Those that were at work go back, and are processed at once, with nobody waiting."""
    sink = Sink()
    sink.seconds = 60
    workflow = batching(sink, 2)
    async with AsyncLocalRuntime() as runtime:
        task = asyncio.create_task(run(workflow, [1, 2, 3], runtime))
        await sink.began.wait()
        sink.seconds = 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(sink.items) == [1, 2, 3]
    assert work_of(workflow).statistics().failures == 0


def test_a_loop_that_ends_while_a_batch_is_at_work_loses_nothing():
    """The run is cancelled with all other tasks; its items are processed before the loop ends."""
    sink = Sink()
    sink.seconds = 60
    workflow = batching(sink, 2)

    async def main():
        task = asyncio.create_task(run(workflow, [1, 2, 3], AsyncLocalRuntime()))
        await sink.began.wait()
        sink.seconds = 0
        return task  # kept, or it might be collected

    task = asyncio.run(main())
    assert task.cancelled()
    assert sink.items == [1, 2, 3]


class Table(list):
    """A resource that tells when it is closed."""

    async def aclose(self):
        self.append("closed")


def registered(table):
    registry = ResourceRegistry()
    registry.register_factory("db", lambda: table)
    return registry


async def test_late_batches_use_the_inputs_and_resources_of_the_last_run():
    """The resource is leased for the batch; the cleanup closes it after that."""
    table = Table()
    registry = registered(table)

    async def insert(items, name, context: Context):
        db = await context.get_resource("db")
        db.append((name, items, registry.get_metrics()["resources"]["db"]["leases"]))

    workflow = batching(insert)
    async with AsyncLocalRuntime(resource_registry=registry) as runtime:
        await run(workflow, [1], runtime, name="a")
        await run(workflow, [2], runtime, name="b")

    assert table == [("b", [1, 2], 1), "closed"]


@pytest.mark.parametrize(
    "code",
    [
        "db.append(items)",
        "import pocketflow_async.resources as here\n(await here.get_resource('db')).append(items)",
    ],
)
def test_at_the_end_of_the_loop_resources_are_still_there(code):
    """By name in the code, or from the context; they are closed after the batch."""
    table = Table()

    async def main():
        await run(batching(code), [1, 2], AsyncLocalRuntime(resource_registry=registered(table)))

    asyncio.run(main())
    assert table == [[1, 2], "closed"]


async def test_what_waits_keeps_nothing_of_its_run():
    """Neither its results nor its other nodes' inputs, for as long as an item may wait."""

    class Large:
        pass

    builder = AsyncWorkflowBuilder()
    AsyncPatterns.batch_processor(builder, "node", SUM)
    builder.add_async_code("other", "result = {'large': make()}", timeout=None)
    large = []

    def make():
        made = Large()
        large.append(weakref.ref(made))
        return made

    workflow = builder.build()
    result = await AsyncLocalRuntime().execute_workflow_async(
        workflow, {"node": {"items": [1]}, "other": {"make": make}}
    )
    assert result["results"]["node"]["remaining_in_batch"] == 1
    del result
    await asyncio.sleep(0.001)  # the loop lets go of the tasks that have ended
    gc.collect()
    assert large[0]() is None
    work_of(workflow).reset()


async def test_a_missing_resource_is_named_in_the_error():
    """Also where no run is left."""
    workflow = batching("db = await get_resource('db')")
    async with AsyncLocalRuntime() as runtime:
        await run(workflow, [1], runtime)
        with pytest.raises(NodeExecutionError, match="there is no resource 'db'"):
            await runtime.cleanup()
        work_of(workflow).reset()


async def test_flush_and_reset():
    """`flush` processes what waits and leaves the rest as it is; `reset` forgets it."""
    sink = Sink()
    workflow = batching(sink)
    work = work_of(workflow)
    async with nothing_left():
        await work.flush()
        await run(workflow, [1])
        await work.flush()
        await run(workflow, [2])
        work.reset()
        await work.aclose()
    assert sink.batches == [[1]]
    assert work.waiting == 0
    assert not work.late_results


async def test_items_that_are_really_lost_are_told():
    """Where the workflow and its loop are dropped with items in it, Python warns."""
    work = work_of(batching())
    work._store.take([1, 2])
    gc.collect()
    left = [work]
    del work
    with pytest.warns(ResourceWarning, match="2 items of a batch processor were never processed"):
        left.clear()


def test_one_builder_one_batch(clock):
    """All workflows that a builder builds share it, as they do other state."""
    builder = AsyncWorkflowBuilder()
    AsyncPatterns.batch_processor(builder, "node", SUM, batch_size=2)

    async def runs():
        async with AsyncLocalRuntime() as runtime:
            await run(builder.build(), [1], runtime)
            return await run(builder.build(), [2], runtime)

    assert clock.run(runs())["results"] == [3]


async def test_each_batch_is_in_the_trace():
    """Under the node whose run has processed it, with size and reason; late ones too."""
    workflow = batching(size=2)
    with capture() as seen:
        async with AsyncLocalRuntime() as runtime:
            with watching(recorder_here()):
                await run(workflow, [1, 2, 3], runtime)

        (trace,) = seen.all()
        root = trace.root
        assert [each.name for each in root.walk()] == [root.name, "node", "batcher", "batcher"]
        first, late = root.find_all("batcher")
        assert (first.input, first.output) == ([1, 2], [3])
        facts = ("flow.policy", "flow.batcher.items", "flow.batcher.reason")
        assert [first.attributes[name] for name in facts] == ["batcher", 2, "batch_full"]
        assert [late.attributes[name] for name in facts] == ["batcher", 1, "forced"]
        assert late.output == [3]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_nothing_is_lost(clock, seed):
    """200 runs at random moments, some cancelled, batches that fail or are late: all arrive.

    Of a cancelled run all items do or none; where nothing fails and nobody is cancelled, each item
    arrives once.
    """
    luck = random.Random(seed)
    is_calm = seed % 3 == 0
    batches, bad = [], not is_calm

    async def insert(items):
        await asyncio.sleep(luck.random() if bad or is_calm else 0.1)
        if bad and luck.random() < 0.3:
            raise ConnectionError("down")
        batches.append(items)
        return items

    workflow = batching(insert, 10, 3.0, timeout=0.9 if bad else None)

    async def one(number, runtime):
        items = [(number, place) for place in range(luck.randrange(8))]
        await asyncio.sleep(luck.random() * 20)
        task = asyncio.create_task(
            runtime.execute_workflow_async(
                workflow, {"items": items, "force_flush": luck.random() < 0.05}
            )
        )
        if not is_calm and luck.random() < 0.2:
            await asyncio.sleep(luck.random())
            task.cancel()
        await asyncio.wait([task])
        return items, task.cancelled()

    async def all_runs():
        nonlocal bad
        runtime = AsyncLocalRuntime(max_concurrent_nodes=100)
        given = await asyncio.gather(*(one(number, runtime) for number in range(200)))
        bad = False
        await runtime.cleanup()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return given

    given = clock.run(all_runs())
    arrived = [item for batch in batches for item in batch]
    for items, was_cancelled in given:
        count = sum(item in arrived for item in items)
        assert count == len(items) or (was_cancelled and count == 0)
    assert work_of(workflow).statistics()[:3] == (0, 0, 0)
    if is_calm:
        assert len(arrived) == len(set(arrived))
