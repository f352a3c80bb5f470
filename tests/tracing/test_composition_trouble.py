"""Compositions that are cancelled, left, or very many."""

import asyncio
import gc
import inspect
import tracemalloc
import warnings

import pytest

from tracing import TracingConfig
from tracing.async_composition import FlowCompositionType
from tracing.core import LangfuseTracer


@pytest.fixture
def tracer():
    return LangfuseTracer(TracingConfig())


@pytest.fixture
def manager(tracer):
    return tracer.get_composition_manager()


class Forever:
    """A flow that runs until it is cancelled, and takes a turn of the loop to end then."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.ended = False

    async def __call__(self, *_):
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def cancelled(task, *flows):
    """Cancel *task* once all *flows* have begun, and see that it was."""
    for flow in flows:
        await flow.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def run(manager, kind, flow):
    """Return the composition of that kind with *flow* in it."""
    return {
        "parallel": lambda: manager.execute_parallel_flows([flow], ["F"]),
        "sequential": lambda: manager.execute_sequential_flows([flow], ["F"]),
        "nested": lambda: manager.execute_nested_flow(flow, "F"),
        "batch": lambda: manager.execute_batch_flows(flow, [1], "F"),
        "parallel batch": lambda: manager.execute_batch_flows(flow, [1], "F", True),
        "conditional": lambda: manager.execute_conditional_flow(True, flow),
        "pipeline": lambda: manager.execute_pipeline([flow]),
    }[kind]()


KINDS = ["parallel", "sequential", "nested", "batch", "parallel batch", "conditional", "pipeline"]


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_caller_cancels_and_awaits_the_flows(manager, traces, kind):
    """No flow keeps running, nothing stays under way, and every span says cancelled (defect 25)."""
    flow = Forever()
    await cancelled(asyncio.create_task(run(manager, kind, flow)), flow)

    assert flow.ended
    assert manager.active_executions == {}
    assert {found.status for found in manager.completed_executions} == {"cancelled"}

    def outcomes(span):
        return {span.outcome}.union(*map(outcomes, span.children))

    assert outcomes(traces.one()) == {"cancelled"}


async def test_all_parallel_flows_are_awaited_when_the_caller_is_cancelled(manager):
    """Also those that take longer to end than others."""
    flows = [Forever() for _ in range(5)]
    names = [str(number) for number in range(5)]
    await cancelled(asyncio.create_task(manager.execute_parallel_flows(flows, names)), *flows)

    assert all(flow.ended for flow in flows)


async def test_a_timeout_around_a_composition_ends_its_flows(manager):
    """asyncio.timeout is a cancellation like any other."""
    flow = Forever()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await manager.execute_parallel_flows([flow], ["F"])

    assert flow.ended


async def stop():
    """Be cancelled by nobody but oneself."""
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def give_up():
    raise asyncio.CancelledError("by itself")


@pytest.mark.parametrize("flow", [stop, give_up], ids=["task", "raised"])
async def test_a_cancelled_flow_makes_the_composition_cancelled(manager, traces, flow):
    """The others run to their end; its place holds the CancelledError (defect 25)."""

    async def other():
        await asyncio.sleep(0)
        return "kept"

    found, kept = await manager.execute_parallel_flows([flow(), other()], ["Canc", "Other"])

    assert isinstance(found, asyncio.CancelledError)
    assert kept == "kept"
    root = traces.one()
    assert root.outcome == "cancelled"
    assert {child.name: child.outcome for child in root.children} == {
        "Canc": "cancelled",
        "Other": "completed",
    }
    assert asyncio.current_task().cancelling() == 0


async def test_a_failed_flow_counts_for_more_than_a_cancelled_one(manager, traces):
    """Both in one composition: failed."""

    async def fail():
        raise ValueError

    await manager.execute_parallel_flows([give_up(), fail()], ["C", "F"])

    assert traces.one().outcome == "failed"


async def test_a_flow_that_times_out_has_failed(manager, traces):
    """The status is failed, the outcome in the trace says how."""

    async def late():
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    (error,) = await manager.execute_parallel_flows([late()], ["Late"])

    assert isinstance(error, TimeoutError)
    assert manager.completed_executions[0].status == "failed"
    assert traces.one().children[0].outcome == "timed_out"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_composition_cancelled_before_it_begins_awaits_nothing(manager, kind):
    """Coroutines in it are closed: no warning that one was never awaited."""

    async def flow(*_):
        raise AssertionError("must not run")

    # Given as coroutines where that is possible: those are what the warning is about.
    given = flow if kind in ("batch", "parallel batch", "pipeline") else flow()

    async def main(given):
        asyncio.current_task().cancel()
        await run(manager, kind, given)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(main(given))
        del given
        gc.collect()
    assert manager.active_executions == {}


async def test_what_an_error_leaves_over_is_closed(manager):
    """Flows after the one that failed never run, and are closed."""

    async def fail():
        raise ValueError

    rest = asyncio.sleep(0)
    with pytest.raises(ValueError):
        await manager.execute_sequential_flows([fail(), rest], ["A", "B"])

    assert inspect.getcoroutinestate(rest) == inspect.CORO_CLOSED


async def test_a_handler_that_leaves_flows_behind_does_not_leave_them_running(manager):
    """A gather that fails fast would; they are cancelled and awaited."""
    flow = Forever()

    async def fail():
        await flow.begun.wait()
        raise ValueError("fast")

    async def careless(flows):
        return await asyncio.gather(*flows)

    manager.composition_handlers[FlowCompositionType.SEQUENTIAL] = careless
    with pytest.raises(ValueError, match="fast"):
        await manager.execute_sequential_flows([flow, fail], ["A", "B"])

    assert flow.ended
    assert manager.active_executions == {}


async def test_a_handler_without_tasks_does_not_swallow_the_cancellation(manager):
    """Flows that it awaits itself are cancelled with the caller, and the caller with them."""
    flow = Forever()

    async def in_turn(flows):
        return [await flow for flow in flows]

    manager.composition_handlers[FlowCompositionType.PARALLEL] = in_turn
    task = asyncio.create_task(manager.execute_parallel_flows([flow, flow], ["A", "B"]))
    await cancelled(task, flow)

    assert {found.status for found in manager.completed_executions} == {"cancelled"}


async def test_a_handler_may_leave_flows_out(manager):
    """Those that it does not await are closed, without a warning."""

    async def first_only(flows):
        return [await flows[0]]

    manager.composition_handlers[FlowCompositionType.PARALLEL] = first_only
    left = asyncio.sleep(0)

    assert await manager.execute_parallel_flows([asyncio.sleep(0, 1), left], ["A", "B"]) == [1]
    assert inspect.getcoroutinestate(left) == inspect.CORO_CLOSED


async def test_compositions_at_the_same_time_are_apart(manager, traces):
    """Ten at once through one manager: ten traces, each with its own flows."""
    meet = asyncio.Barrier(20)

    async def work(name):
        await meet.wait()
        return name

    async def one(number):
        names = [f"{number}a", f"{number}b"]
        return await manager.execute_parallel_flows([work(name) for name in names], names)

    results = await asyncio.gather(*[asyncio.create_task(one(number)) for number in range(10)])

    assert results == [[f"{number}a", f"{number}b"] for number in range(10)]
    found = {tuple(sorted(child.name for child in tree.roots[0].children)) for tree in traces.all()}
    assert found == {(f"{number}a", f"{number}b") for number in range(10)}


async def test_a_composition_never_completed_ends_with_its_trace(tracer, manager, traces):
    """Its span is closed and marked; completing it later is harmless."""
    tracer.start_trace("T", {})
    execution = await manager.start_flow_execution("F")
    tracer.end_trace({})
    await manager.complete_flow_execution(execution.execution_id)

    (span,) = traces.one().children
    assert span.attributes["flow.unfinished"] is True
    assert execution.status == "completed"


async def test_where_tracing_is_off_compositions_work():
    """Results, statuses and statistics do not need a trace."""
    manager = LangfuseTracer(TracingConfig(store="off")).get_composition_manager()

    assert await manager.execute_parallel_flows([asyncio.sleep(0, 1)], ["A"]) == [1]
    assert manager.get_execution_statistics()["status_distribution"] == {"completed": 2}


async def test_a_thousand_compositions_leave_a_bounded_trace_of_themselves(tracer, manager):
    """The last 1,000 executions are kept, all are counted, and memory stops growing (defect 14)."""

    async def runs(count):
        for _ in range(count):
            await manager.execute_parallel_flows([asyncio.sleep(0), asyncio.sleep(0)], ["A", "B"])
        await tracer.flush_async()
        gc.collect()

    await runs(600)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await runs(1_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert len(manager.completed_executions) == 1_000
    assert manager.get_execution_statistics()["completed_executions"] == 4_800
    # tracemalloc counts what is kept as new, as all of it was replaced: 1,000 of some 2 kB.
    assert grown < 3_000_000
    assert tracer._spans == tracer._traces == manager._spans == manager.active_executions == {}
