"""Defects of pocketflow_tracing 0.1.5 in runs at once and inside each other."""

import asyncio
import importlib

import pytest

from tracing import TracingConfig, current_span, trace_flow
from tracing.async_composition import AsyncFlowCompositionManager
from tracing.core import AsyncTraceContext, LangfuseTracer
from tracing.testing import capture, expect


@pytest.fixture(params=["pocketflow_async", "pocketflow"])
def engine(request):
    """Our engine and the original one: what is promised holds for flows of both."""
    return importlib.import_module(request.param)


@pytest.fixture
def seen():
    with capture() as traces:
        yield traces


class Meeting:
    """A node's exec that waits until all runs are in theirs."""

    def __init__(self, count):
        self.barrier = asyncio.Barrier(count)

    def node(self, engine):
        class Meet(engine.AsyncNode):
            async def exec_async(node, prep_res):
                await self.barrier.wait()

        return Meet()


async def test_defect_05_runs_of_one_flow_at_once_are_traces_of_their_own(engine, seen):
    """Two runs of one flow object, interleaved: each trace has its own spans, all of them ended."""
    flow = trace_flow(flow_name="F")(engine.AsyncFlow(start=Meeting(2).node(engine)))

    await asyncio.gather(flow.run_async({"run": 1}), flow.run_async({"run": 2}))

    assert str(seen) == "flow F: completed\n  node Meet: completed\n" * 2
    assert sorted(trace.root.input["run"] for trace in seen.all()) == [1, 2]


async def test_defect_06_the_end_of_one_run_does_not_touch_another(engine, seen):
    """A quick run ends in the middle of a slow one; nothing is cancelled, all is closed."""
    began, done = asyncio.Event(), asyncio.Event()

    class Wait(engine.AsyncNode):
        async def exec_async(self, prep_res):
            if prep_res == "slow":
                began.set()
                await done.wait()

        async def prep_async(self, shared):
            return shared["speed"]

    flow = trace_flow(flow_name="F")(engine.AsyncFlow(start=Wait()))
    slow = asyncio.create_task(flow.run_async({"speed": "slow"}))
    await began.wait()
    await flow.run_async({"speed": "quick"})
    assert [trace.outcome for trace in seen.all()] == ["running", "completed"]
    done.set()
    await slow

    assert {span.outcome for trace in seen.all() for span in trace.walk()} == {"completed"}


async def test_defect_07_items_at_once_have_spans_of_their_own(engine, seen):
    """Four items of a parallel batch node: four spans with different ids, each ended."""

    class Items(engine.AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return range(4)

        async def exec_async(self, item):
            await asyncio.sleep(0)
            return item

    await trace_flow()(engine.AsyncFlow(start=Items())).run_async({})

    items = [span for span in seen.one().walk() if span.kind == "item"]
    assert [(item.index, item.output, item.outcome) for item in items] == [
        (place, place, "completed") for place in range(4)
    ]
    assert len({item.span.span_id for item in items}) == 4


async def test_defect_08_what_is_nested_is_nested_in_the_trace(engine, seen):
    """A decorated flow in a node, and an undecorated one as a node: each under its own parent."""

    class Leaf(engine.AsyncNode):
        pass

    @trace_flow(flow_name="Decorated")
    class Decorated(engine.AsyncFlow):
        pass

    class Plain(engine.AsyncFlow):
        pass

    class Outer(engine.AsyncNode):
        async def exec_async(self, prep_res):
            await Decorated(start=Leaf()).run_async({})

    outer = Outer()
    outer >> Plain(start=Leaf())
    await trace_flow(flow_name="Root")(engine.AsyncFlow(start=outer)).run_async({})

    assert str(seen) == (
        "flow Root: completed\n"
        "  node Outer: completed\n"
        "    flow Decorated: completed\n"
        "      node Leaf: completed\n"
        "  flow Plain: completed\n"
        "    node Leaf: completed\n"
    )


async def test_defect_09_the_context_is_back_after_a_nested_flow(engine, seen):
    """Inside a node, before and after a nested traced flow, the current span is the same."""
    around = []

    @trace_flow()
    class Inner(engine.AsyncFlow):
        pass

    class Outer(engine.AsyncNode):
        async def exec_async(self, prep_res):
            around.append(current_span())
            await Inner(start=engine.AsyncNode()).run_async({})
            around.append(current_span())

    await trace_flow()(engine.AsyncFlow(start=Outer())).run_async({})

    assert around[0] is not None
    assert around[0] == around[1]
    assert current_span() is None


async def test_defect_09_trace_contexts_nest(seen):
    """`async with` inside `async with`: on exit the outer one is current again, then none."""
    tracer = LangfuseTracer(TracingConfig())
    outer = await tracer.start_trace_async("Outer", {})

    async with outer:
        inner = tracer.create_async_context("Inner", outer.trace_id)
        async with inner:
            assert AsyncTraceContext.get_current_context().flow_name == "Inner"
        assert AsyncTraceContext.get_current_context().flow_name == "Outer"

    assert AsyncTraceContext.get_current_context() is None


async def test_defect_21_a_config_shared_by_two_flows_is_not_changed(seen):
    """Each flow has its own session, whichever was decorated last."""
    from pocketflow_async import AsyncFlow, AsyncNode

    config = TracingConfig()

    @trace_flow(config, session_id="S1")
    class A(AsyncFlow):
        pass

    @trace_flow(config, session_id="S2")
    class B(AsyncFlow):
        pass

    await A(AsyncNode()).run_async({})
    await B(AsyncNode()).run_async({})

    assert [trace.summary.session_id for trace in seen.all()] == ["S1", "S2"]
    assert config.session_id is None


def manager():
    return AsyncFlowCompositionManager(LangfuseTracer(TracingConfig()))


async def test_defect_25_children_of_a_composition_see_their_own_execution(seen):
    """In flows at once, `get_current_execution` names the child itself."""
    compositions = manager()
    found = {}

    async def child(name):
        await asyncio.sleep(0)
        found[name] = compositions.get_current_execution().flow_name

    await compositions.execute_parallel_flows([child("A"), child("B")], ["A", "B"])

    assert found == {"A": "A", "B": "B"}


async def test_defect_25_a_cancelled_child_is_cancelled(seen):
    """Cancelled children and nested flows end as cancelled, and none is left running."""
    compositions = manager()

    async def cancelled():
        raise asyncio.CancelledError

    results = await compositions.execute_parallel_flows([cancelled()], ["canc"])
    assert isinstance(results[0], asyncio.CancelledError)
    with pytest.raises(asyncio.CancelledError):
        await compositions.execute_nested_flow(cancelled(), "N")

    ended = {each.flow_name: each.status for each in compositions.completed_executions}
    assert (ended["canc"], ended["N"]) == ("cancelled", "cancelled")
    assert compositions.active_executions == {}


async def test_defect_25_stacks_of_executions_are_not_shared(seen):
    """Two children at once that each start one more: both are two deep below their parent."""
    compositions = manager()
    barrier = asyncio.Barrier(2)
    depth = {}

    async def inner(name):
        await barrier.wait()
        depth[name] = len(compositions.get_execution_stack())

    async def child(name):
        await compositions.execute_nested_flow(inner(name), f"{name} inner")

    await compositions.execute_parallel_flows([child("a"), child("b")], ["a", "b"])

    assert depth["a"] == depth["b"]
    assert depth["a"] in (2, 3)  # with or without the composition around both
    expect(seen.one()).outcome("completed")
