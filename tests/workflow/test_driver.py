"""One run of any workflow: what holds whatever its shape, and whatever fails."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.runtime.deadlines import Deadlines, ExecutionTimeoutError
from tests.workflow.runtime_kit import node, nothing_left, workflow
from tracing.testing import FakeClock

graphs = st.integers(1, 9).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.sets(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(
                lambda pair: pair[0] < pair[1]
            )
        ),
        st.lists(st.sampled_from([0, 0.1, 1, 2]), min_size=count, max_size=count),
        st.sets(st.integers(0, count - 1), max_size=2),
    )
)
"""How many nodes, which depend on which, how long each takes, and which fail."""


def built(graph, log=None):
    count, edges, seconds, failing = graph

    def work_of(number):
        async def work(**inputs):
            if log is not None:
                log.append(("start", number))
            await asyncio.sleep(seconds[number])
            if number in failing:
                raise ValueError(number)
            if log is not None:
                log.append(("end", number))
            return 1 + sum(inputs.values())

        return work

    return workflow(
        [node(f"n{number}", work_of(number)) for number in range(count)],
        *(f"n{a} -> n{b}" for a, b in sorted(edges)),
    )


@settings(deadline=None, max_examples=150)
@given(graphs, st.integers(1, 10))
def test_each_node_runs_once_after_all_it_needs_and_never_after_a_failed_one(graph, limit):
    """Every node is in exactly one of results, errors and skipped; no slot is lost."""
    count, edges, _, failing = graph
    log = []
    runtime = AsyncLocalRuntime(max_concurrent_nodes=limit)
    flow = built(graph, log)

    result = FakeClock().run(runtime.execute_workflow_async(flow))

    started = [number for what, number in log if what == "start"]
    assert len(started) == len(set(started))
    for source, target in edges:
        if target in started:
            assert log.index(("end", source)) < log.index(("start", target))
    ids = [*result["results"], *result["errors"], *result["skipped"]]
    assert sorted(ids) == sorted(flow.nodes)
    doomed = set(failing)
    for source, target in sorted(edges):  # sources come before their targets
        if source in doomed:
            doomed.add(target)
    assert set(result["results"]) == {f"n{n}" for n in range(count) if n not in doomed}
    assert runtime._slots.free == limit


@settings(deadline=None, max_examples=60)
@given(graphs)
def test_results_are_the_same_for_any_limit(graph):
    """In content and in order."""
    results = [
        FakeClock().run(
            AsyncLocalRuntime(max_concurrent_nodes=limit).execute_workflow_async(built(graph))
        )
        for limit in (1, 2, 10)
    ]

    for key in ("results", "errors", "status"):
        assert results[0][key] == results[1][key] == results[2][key]
    assert list(results[0]["results"]) == list(results[2]["results"])


@settings(deadline=None, max_examples=60)
@given(graphs, st.sampled_from([0.05, 0.5, 1.5]), st.integers(1, 4))
def test_cancelled_at_any_time_a_run_leaves_nothing(graph, after, limit):
    """Neither a task nor a slot; and another run beside it is not disturbed."""

    async def main():
        runtime = AsyncLocalRuntime(max_concurrent_nodes=limit)
        other = asyncio.create_task(runtime.execute_workflow_async(built(graph)))
        async with nothing_left():
            run = asyncio.create_task(runtime.execute_workflow_async(built(graph)))
            await asyncio.sleep(after)
            run.cancel()
            await asyncio.wait([run])
            await other
        assert runtime._slots.free == limit
        return other.result()

    alone = FakeClock().run(AsyncLocalRuntime().execute_workflow_async(built(graph)))

    assert FakeClock().run(main())["results"] == alone["results"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20), st.integers(0, 20)), max_size=12))
def test_one_timer_does_for_all_deadlines(tasks):
    """Each task is late exactly when it takes longer than it may, whenever it began."""

    async def main():
        deadlines = Deadlines(asyncio.get_running_loop())

        async def one(begin, limit, takes):
            await asyncio.sleep(begin)
            start = asyncio.get_running_loop().time()
            try:
                await deadlines.within(limit + 0.5, asyncio.sleep(takes))
            except ExecutionTimeoutError:
                assert asyncio.get_running_loop().time() == start + limit + 0.5
                return True
            return False

        late = await asyncio.gather(*(one(*task) for task in tasks))
        deadlines.close()
        assert not deadlines._due
        assert not deadlines._late
        return late

    assert FakeClock().run(main()) == [takes > limit for _, limit, takes in tasks]
