"""Random workflows from the builder to the results: what holds whatever their shape."""

from __future__ import annotations

import asyncio
import gc
import linecache

from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.runtime.events import NodeFinished, NodeReady, NodeSkipped, NodeStarted
from pocketflow_async.workflow import AsyncWorkflowBuilder, Workflow
from tests.workflow.whole_kit import (
    Log,
    built,
    check_result,
    expected,
    graphs,
    inputs,
    made,
    nothing_changed,
    outside,
)
from tracing.testing import FakeClock

RUNS = 200
limits = st.integers(1, 10)


async def run(flow, runtime, tag="t", log=None, **options):
    return await runtime.execute_workflow_async(flow, inputs(log or Log(), tag), **options)


@settings(deadline=None, max_examples=200)
@given(graphs(), limits, st.integers(1, 4))
def test_each_node_runs_once_after_all_it_needs_and_never_after_a_failed_one(graph, limit, threads):
    """And yields what it must, whatever it is made of; no slot and no task is lost."""
    log = Log()

    async def main():
        runtime = AsyncLocalRuntime(max_concurrent_nodes=limit, thread_pool_size=threads)
        async with runtime:
            result = await run(built(graph), runtime, log=log)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (runtime._slots.free, runtime._pool.slots.free) == (limit, threads)
        return result

    result = FakeClock().run(main())

    check_result(graph, result, "t", log)
    durations = result["metrics"].node_durations
    assert set(durations) >= {*result["results"], *result["errors"]}
    assert result["metrics"].concurrent_executions <= limit


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_results_are_the_same_for_any_limit(graph):
    """In content and in order; reasons and errors too."""
    flow = built(graph)
    found = []
    for limit in (1, 2, 3, 50):

        async def main(limit=limit):
            async with AsyncLocalRuntime(max_concurrent_nodes=limit) as runtime:
                return await run(flow, runtime)

        found.append(FakeClock().run(main()))

    for other in found[1:]:
        assert made(other) == made(found[0])
        assert other["errors"] == found[0]["errors"]
        assert set(other["skipped"]) == set(found[0]["skipped"])
    for result in found:
        check_result(graph, result, "t")


@settings(deadline=None, max_examples=60)
@given(graphs(), limits)
def test_a_reason_leads_to_what_failed_or_was_not_wanted(graph, limit):
    """Each skipped node names one that it needs, directly or not, and that has yielded nothing."""

    async def main():
        async with AsyncLocalRuntime(max_concurrent_nodes=limit) as runtime:
            return await run(built(graph), runtime)

    skipped = FakeClock().run(main())["skipped"]

    want = expected(graph)
    for number in want.skipped:
        reason = skipped[f"n{number}"]
        if reason == "its condition is false":
            assert graph.deeds[number] == "dropped"
            continue
        culprits, look = set(), [number]
        while look:
            for need in graph.needs(look.pop()):
                culprits.add(need)
                look.append(need)
        named = next(one for one in culprits if f"'n{one}'" in reason)
        assert named not in want.values
        assert ("failed" in reason) == (named in want.failed)


@settings(deadline=None, max_examples=60)
@given(graphs(), limits)
def test_the_events_tell_the_same_story(graph, limit):
    """Ready, started, finished, each once and in this order; then what the result says."""

    async def main():
        async with AsyncLocalRuntime(max_concurrent_nodes=limit) as runtime:
            flow = built(graph)
            return [event async for event in runtime.stream(flow, inputs(Log(), "t"))]

    events = FakeClock().run(main())

    result = events[-1].result
    check_result(graph, result, "t")
    of = {
        kind: [event.node_id for event in events if type(event) is kind]
        for kind in (NodeReady, NodeStarted, NodeFinished, NodeSkipped)
    }
    for ids in of.values():
        assert len(ids) == len(set(ids))
    assert set(of[NodeFinished]) == set(result["results"])
    assert set(of[NodeSkipped]) == set(result["skipped"])
    times = [event.at for event in events]
    assert times == sorted(times)


def finish_times(graph):
    """Return when each node ends if all can run that may: the critical path to it."""
    ends = {}
    for number, seconds in enumerate(graph.seconds):
        begin = max((ends[need] for need in graph.needs(number)), default=0)
        ends[number] = begin + (0 if graph.kinds[number] == "sync code" else seconds)
    return ends


@settings(deadline=None, max_examples=60)
@given(graphs(deeds=("fine",)))
def test_a_run_takes_exactly_as_long_as_its_critical_path(graph):
    """There are no level barriers: with slots for all nobody waits but for what it needs."""

    async def main():
        runtime = AsyncLocalRuntime(max_concurrent_nodes=100, thread_pool_size=100)
        async with runtime:
            return await run(built(graph), runtime)

    result = FakeClock().run(main())

    assert result["total_duration"] == max(finish_times(graph).values())


@settings(deadline=None, max_examples=40)
@given(graphs(), limits)
def test_nothing_is_left_behind_and_nothing_is_replaced(graph, limit):
    """No thread, hook, limit of the process, or function of asyncio; not even during the run."""
    before = outside()["asyncio"], outside()["asyncio.tasks"], outside()["builtins"]
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        async with AsyncLocalRuntime(max_concurrent_nodes=limit) as runtime:
            under_way = asyncio.ensure_future(run(built(graph), runtime))
            while not under_way.done():
                await asyncio.sleep(0.25)
                now = outside()
                seen.append((now["asyncio"], now["asyncio.tasks"], now["builtins"]))
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert loop.get_task_factory() is None
            assert loop.get_exception_handler() is None
        return await under_way

    with nothing_changed():
        check_result(graph, FakeClock().run(main()), "t")

    assert all(each == before for each in seen)


def test_the_durations_of_a_map_are_those_of_the_clock_too():
    """Of the context, as all others."""
    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map("m", "async def process_item(item):\n    await asyncio.sleep(item)")

    result = FakeClock().run(AsyncLocalRuntime().execute_workflow_async(builder, {"items": [1, 3]}))

    assert result["results"]["m"]["statistics"]["total_duration"] == 3
    assert result["results"]["m"]["statistics"]["average_duration"] == 2


def test_the_text_of_code_goes_with_its_workflow():
    """The linecache holds it as long as somebody may show it."""

    def here():
        return {name for name in linecache.cache if name.startswith("<node mayfly")}

    builder = AsyncWorkflowBuilder()
    builder.add_async_code("mayfly", "result = 1")
    flow = builder.build()
    asyncio.run(AsyncLocalRuntime().execute_workflow_async(flow))
    assert len(here()) == 1

    del builder, flow
    gc.collect()

    assert here() == set()


@settings(deadline=None, max_examples=8)
@given(st.lists(graphs(most=6), min_size=1, max_size=4), limits)
def test_two_hundred_runs_at_once_on_one_runtime_keep_apart(shapes, limit):
    """Of several workflows, some of them cancelled in the middle: each as if it were alone."""
    flows = [built(graph) for graph in shapes]
    logs = [Log() for _ in range(RUNS)]

    async def main():
        async with AsyncLocalRuntime(max_concurrent_nodes=limit, thread_pool_size=2) as runtime:
            tasks = [
                asyncio.create_task(run(flows[n % len(flows)], runtime, n, logs[n]))
                for n in range(RUNS)
            ]
            await asyncio.sleep(0.1)
            for n in range(0, RUNS, 10):
                tasks[n].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (runtime._slots.free, runtime._pool.slots.free) == (limit, 2)
        return done

    done = FakeClock().run(main())

    ids = set()
    for n, result in enumerate(done):
        if isinstance(result, asyncio.CancelledError):
            assert n % 10 == 0
            continue
        check_result(shapes[n % len(shapes)], result, n, logs[n])
        ids.add(result["workflow_id"])
    assert len(ids) >= RUNS - RUNS // 10


@settings(deadline=None, max_examples=40)
@given(graphs(), st.sampled_from([0.1, 0.6, 1.1]), st.integers(1, 3))
def test_a_run_that_is_out_of_time_leaves_nothing(graph, limit, slots):
    """It raises, or it was faster; either way all slots are free and no task is left."""

    async def main():
        async with AsyncLocalRuntime(max_concurrent_nodes=slots) as runtime:
            try:
                result = await run(built(graph), runtime, timeout=limit)
            except TimeoutError as error:
                result = error.result
            else:
                check_result(graph, result, "t")
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert (runtime._slots.free, runtime._pool.slots.free) == (slots, 4)
            return result

    result = FakeClock().run(main())

    want = expected(graph)
    assert set(result["results"]) <= {f"n{number}" for number in want.values}
    assert set(result["errors"]) <= {f"n{number}" for number in want.failed}


@settings(deadline=None, max_examples=20)
@given(graphs(deeds=("fine", "fine", "dropped", "handled")))
def test_the_synchronous_door_gives_the_same(graph):
    """On a loop of its own, in real time but without waits."""
    still = type(graph)(
        graph.kinds, graph.deeds, tuple(0 for _ in graph.seconds), graph.edges, graph.order
    )
    with nothing_changed(), LocalRuntime() as runtime:
        results, _ = runtime.execute(built(still), inputs(Log(), 5))

    want = expected(graph)
    assert list(results) == [f"n{number}" for number in graph.order if number in want.values]


@settings(deadline=None, max_examples=30)
@given(graphs(deeds=("fine", "fine", "flaky", "fails")))
def test_a_workflow_is_data_where_it_is_made_of_code(graph):
    """To JSON and back it runs as before."""
    kinds = tuple("sync code" if kind.startswith("sync") else "code" for kind in graph.kinds)
    graph = type(graph)(kinds, graph.deeds, graph.seconds, graph.edges, graph.order)
    again = Workflow.from_json(built(graph).to_json())
    log = Log()

    async def main():
        async with AsyncLocalRuntime() as runtime:
            return await run(again, runtime, log=log)

    check_result(graph, FakeClock().run(main()), "t", log)
