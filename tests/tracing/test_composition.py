"""Compositions of flows: their results, executions, and spans."""

import asyncio
import inspect
from contextvars import ContextVar
from datetime import timedelta

import pocketflow
import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from tracing import TracingConfig, trace_flow
from tracing.async_composition import (
    AsyncFlowCompositionManager,
    AsyncFlowExecution,
    FlowCompositionType,
)
from tracing.core import LangfuseTracer

mark = ContextVar("mark", default="outside")


class Step(AsyncNode):
    async def exec_async(self, prep_res):
        return "done"

    async def post_async(self, shared, prep_res, exec_res):
        shared["seen"] = True
        return "over"


class Plain(Node):
    def post(self, shared, prep_res, exec_res):
        shared["seen"] = True
        return "over"


@pytest.fixture
def tracer():
    return LangfuseTracer(TracingConfig())


@pytest.fixture
def manager(tracer):
    return tracer.get_composition_manager()


async def answer(value):
    await asyncio.sleep(0)
    return value


async def fail(message="no"):
    raise ValueError(message)


def test_types_are_those_of_the_contract():
    """Six of them, with lower-case values."""
    assert [member.value for member in FlowCompositionType] == [
        "sequential",
        "parallel",
        "nested",
        "conditional",
        "batch",
        "pipeline",
    ]


def test_an_execution_has_the_defaults_of_the_contract():
    """Fields in their order, an id of its own, running, in aware time."""
    first, second = AsyncFlowExecution(), AsyncFlowExecution()

    assert list(inspect.signature(AsyncFlowExecution).parameters) == [
        "execution_id",
        "flow_name",
        "parent_execution_id",
        "composition_type",
        "start_time",
        "end_time",
        "status",
        "context_data",
        "child_executions",
        "concurrent_executions",
        "metadata",
    ]
    assert first.execution_id != second.execution_id
    assert (first.flow_name, first.parent_execution_id, first.status) == ("", None, "running")
    assert first.composition_type is FlowCompositionType.SEQUENTIAL
    assert (first.context_data, first.child_executions, first.metadata) == ({}, [], {})
    assert first.concurrent_executions == set()
    assert first.start_time.utcoffset() == timedelta(0)
    assert (first.duration_ms, first.is_completed) == (None, False)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_an_execution_is_over_after_three_statuses(manager, status):
    """is_completed and duration_ms say so."""
    execution = await manager.start_flow_execution("F")
    await manager.complete_flow_execution(execution.execution_id, status, {"why": 1})

    assert (execution.is_completed, execution.status) == (True, status)
    assert execution.duration_ms >= 0
    assert execution.metadata == {"why": 1}
    assert manager.completed_executions == [execution]
    assert manager.active_executions == {}


async def test_parallel_flows_return_results_in_order(manager, traces, shape):
    """The guide's line: results in the order of the flows, each flow under its name."""
    second_first = asyncio.Event()

    async def slow():
        await second_first.wait()
        return "slow"

    async def quick():
        second_first.set()
        return "quick"

    assert await manager.execute_parallel_flows([slow(), quick()], ["A", "B"]) == ["slow", "quick"]

    assert shape(traces.one()) == (
        "span",
        "ParallelFlowComposition",
        "completed",
        [("span", "A", "completed"), ("span", "B", "completed")],
    )
    whole = manager.completed_executions[-1]
    assert whole.metadata == {"flow_count": 2, "flow_names": ["A", "B"]}
    assert whole.concurrent_executions == set(whole.child_executions)
    assert len(whole.child_executions) == 2


async def test_what_a_parallel_flow_raises_is_returned_and_the_whole_has_failed(manager, traces):
    """Nothing is raised; composition and flow say failed, in statistics and in the trace."""
    good, bad = await manager.execute_parallel_flows([answer(1), fail()], ["Good", "Bad"])

    assert good == 1
    assert isinstance(bad, ValueError)
    root = traces.one()
    assert (root.outcome, root.error.message) == ("failed", "1 of 2 flows failed: Bad")
    assert [child.outcome for child in root.children] == ["completed", "failed"]
    assert root.children[1].error.message == "no"
    statuses = {found.flow_name: found.status for found in manager.completed_executions}
    assert statuses == {"Good": "completed", "Bad": "failed", "ParallelFlowComposition": "failed"}
    child = next(found for found in manager.completed_executions if found.flow_name == "Bad")
    assert child.metadata == {"error": "no", "error_type": "ValueError"}


async def test_a_number_of_names_that_does_not_match_is_refused(manager, tracer):
    """ValueError with the words of the contract; coroutines are closed, nothing has begun."""
    coroutine = answer(1)
    with pytest.raises(ValueError, match=r"^Number of flows must match number of flow names$"):
        await manager.execute_parallel_flows([coroutine], ["A", "B"])
    with pytest.raises(ValueError, match="Number of flows must match"):
        await manager.execute_sequential_flows([answer(2)], [])

    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert manager.get_execution_statistics() == {"total_executions": 0}


async def test_a_nested_flow_returns_and_raises_as_it_does(manager, traces, value):
    """One execution of type nested, with its result, or its error raised again."""
    assert await manager.execute_nested_flow(answer(7), "Good") == 7
    with pytest.raises(ValueError, match="no"):
        await manager.execute_nested_flow(flow=fail(), flow_name="Bad")

    good, bad = (tree.roots[0] for tree in traces.all())
    assert (good.name, good.outcome, value(good.output)) == ("Good", "completed", 7)
    assert (bad.name, bad.outcome, bad.error.message) == ("Bad", "failed", "no")
    assert [found.composition_type.value for found in manager.completed_executions] == [
        "nested",
        "nested",
    ]


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_names_its_flows_by_number(manager, traces, find, parallel):
    """`{flow_name}_batch_{i}` in `BatchFlow_{flow_name}`; parallel ones in one more wrapper."""
    results = await manager.execute_batch_flows(
        flow_factory=answer, batch_data=["a", "b"], flow_name="Item", parallel=parallel
    )

    assert results == ["a", "b"]
    root = traces.one()
    assert (root.name, root.attributes["flow.composition"]) == ("BatchFlow_Item", "batch")
    around = root.children[0] if parallel else root
    assert around.name == ("ParallelFlowComposition" if parallel else "BatchFlow_Item")
    assert [child.name for child in around.children] == ["Item_batch_0", "Item_batch_1"]
    whole = next(e for e in manager.completed_executions if e.flow_name == "BatchFlow_Item")
    assert whole.metadata == {"batch_size": 2, "parallel": parallel}


async def test_a_batch_stops_at_the_first_error_unless_parallel(manager, traces, find):
    """One after the other: raised, the rest not run. At the same time: returned, and failed."""
    ran = []

    async def work(number):
        ran.append(number)
        if number == 1:
            raise ValueError("one")
        return number

    with pytest.raises(ValueError, match="one"):
        await manager.execute_batch_flows(work, range(3), "Item")
    assert ran == [0, 1]
    zero, one, two = await manager.execute_batch_flows(work, range(3), "Item", True)
    assert (zero, str(one), two) == (0, "one", 2)
    for tree in traces.all():
        assert tree.roots[0].outcome == "failed"


async def test_sequential_flows_run_one_after_the_other(manager, traces, shape):
    """Each begins after the one before has ended; an error stops the rest."""
    order = []

    async def work(name):
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")
        return name

    assert await manager.execute_sequential_flows([work("a"), work("b")], ["A", "B"]) == ["a", "b"]
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    with pytest.raises(ValueError, match="no"):
        await manager.execute_sequential_flows([fail(), work("c")], ["F", "C"])
    assert "c begins" not in order

    _, bad = (tree.roots[0] for tree in traces.all())
    assert shape(bad) == (
        "span",
        "SequentialFlowComposition",
        "failed",
        [("span", "F", "failed")],
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (True, "yes"),
        (0, "no"),
        (lambda: True, "yes"),
        (lambda: answer(False), "no"),
    ],
    ids=["value", "falsy value", "function", "coroutine function"],
)
async def test_a_conditional_flow_runs_one_branch(manager, traces, condition, expected):
    """The condition may be a value, a function or a coroutine; the other branch is closed."""
    result = await manager.execute_conditional_flow(condition, answer("yes"), answer("no"), "If")

    assert result == expected
    branch = "then" if expected == "yes" else "otherwise"
    root = traces.one()
    assert (root.name, root.attributes["branch"]) == ("If", branch)
    assert [child.name for child in root.children] == [f"If_{branch}"]


async def test_a_condition_that_fails_runs_nothing(manager, traces):
    """Its error is raised, both branches are closed; without a branch the result is None."""
    with pytest.raises(ValueError, match="no"):
        await manager.execute_conditional_flow(fail(), answer("yes"), answer("no"))
    assert await manager.execute_conditional_flow(False, answer("yes")) is None

    bad, empty = (tree.roots[0] for tree in traces.all())
    assert (bad.outcome, bad.children) == ("failed", ())
    assert (empty.outcome, empty.children) == ("completed", ())


async def test_a_pipeline_hands_on_what_each_stage_returns(manager, traces, value):
    """Stages are functions, sync or async, or flow objects, which work on the value itself."""

    async def double(number):
        return number * 2

    stages = [double, lambda number: {"n": number + 1}, AsyncFlow(Step()), lambda shared: shared]
    result = await manager.execute_pipeline(stages, 5, "Line")

    assert result == {"n": 11, "seen": True}
    root = traces.one()
    assert (root.name, value(root.output)) == ("Line", result)
    assert [child.name for child in root.children] == [f"Line_stage_{i}" for i in range(4)]
    assert value(root.children[0].output) == 10


async def test_a_failed_stage_stops_the_pipeline(manager, traces, shape):
    """Its error is raised, and the stages after it do not run."""
    with pytest.raises(ValueError, match="4"):
        await manager.execute_pipeline([lambda n: n + 1, fail, answer], 3)

    assert shape(traces.one()) == (
        "span",
        "Pipeline",
        "failed",
        [("span", "Pipeline_stage_0", "completed"), ("span", "Pipeline_stage_1", "failed")],
    )


FORMS = {
    "coroutine": lambda: answer("over"),
    "coroutine function": lambda: lambda: answer("over"),
    "function": lambda: lambda: "over",
    "future": lambda: asyncio.ensure_future(answer("over")),
    "flow": lambda: AsyncFlow(Step()),
    "sync flow": lambda: Flow(Plain()),
    "flow factory": lambda: lambda: AsyncFlow(Step()),
    "flow class": lambda: Made,
    "flow of pocketflow": lambda: pocketflow.Flow(Theirs()),
    "decorated flow": lambda: trace_flow(AsyncFlow(Step())),
}


class Made(AsyncFlow):
    def __init__(self):
        super().__init__(start=Step())


class Theirs(pocketflow.Node):
    def post(self, shared, prep_res, exec_res):
        return "over"


@pytest.mark.filterwarnings("ignore:Flow ends")
@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
async def test_whatever_stands_for_a_flow_is_accepted(manager, make):
    """Everywhere: parallel, nested, sequential, batch and conditional."""
    assert await manager.execute_parallel_flows([make()], ["A"]) == ["over"]
    assert await manager.execute_nested_flow(make(), "A") == "over"
    assert await manager.execute_sequential_flows([make()], ["A"]) == ["over"]
    assert await manager.execute_batch_flows(lambda item: make(), [{}], "A") == ["over"]
    assert await manager.execute_conditional_flow(True, make()) == "over"


async def test_what_cannot_be_run_is_refused_with_words(manager):
    """A TypeError that says what to give."""
    with pytest.raises(TypeError, match="42 cannot be run: give a coroutine"):
        await manager.execute_nested_flow(42, "A")


async def test_a_flow_object_of_a_batch_gets_the_items_as_shared(manager):
    """One flow, as many `shared` as there are items."""
    items = [{"n": 1}, {"n": 2}]
    await manager.execute_batch_flows(AsyncFlow(Step()), items, "F", parallel=True)

    assert items == [{"n": 1, "seen": True}, {"n": 2, "seen": True}]


async def test_flows_hang_under_their_own_execution(tracer, traces, find):
    """The span of a flow, decorated or not, is below the child it runs in."""
    tracer.start_trace("Run", {})
    await tracer.execute_parallel_async_flows(
        [AsyncFlow(Step(), name="One"), trace_flow(flow_name="Two")(AsyncFlow(Step()))],
        ["A", "B"],
    )
    tracer.end_trace({})

    root = traces.one()
    (whole,) = root.children
    a, b = sorted(whole.children, key=lambda span: span.name)
    assert [span.name for span in a.children] == ["One"]
    assert [span.name for span in b.children] == ["Two"]
    assert all(len(find(span, "Step")) == 1 for span in (a, b))


async def test_children_hang_under_a_parent_begun_elsewhere(manager, traces, shape):
    """parent_execution_id says under which span, from any task."""

    async def begin():
        return await manager.start_flow_execution("Parent")

    parent = await asyncio.create_task(begin())
    await manager.execute_nested_flow(answer(1), "Child", parent.execution_id)
    await manager.complete_flow_execution(parent.execution_id)

    assert shape(traces.one()) == (
        "span",
        "Parent",
        "completed",
        [("span", "Child", "completed")],
    )
    assert len(parent.child_executions) == 1


async def test_each_child_is_in_a_context_of_its_own(manager):
    """Its own execution is current, two deep, and what it sets stays its own (defect 25)."""
    meet = asyncio.Barrier(2)
    seen = {}

    async def look(name):
        mark.set(name)
        await meet.wait()
        current = manager.get_current_execution()
        seen[name] = (current.flow_name, len(manager.get_execution_stack()), mark.get())

    await manager.execute_parallel_flows([look("a"), look("b")], ["A", "B"])
    assert seen == {"a": ("A", 2, "a"), "b": ("B", 2, "b")}
    assert (manager.get_current_execution(), manager.get_execution_stack()) == (None, [])

    async def alone():
        mark.set("alone")

    for run in (
        manager.execute_nested_flow(alone(), "N"),
        manager.execute_sequential_flows([alone()], ["S"]),
        manager.execute_pipeline([lambda _: alone()]),
    ):
        await run
        assert mark.get() == "outside"


async def test_stacks_of_tasks_are_apart(manager):
    """What one task has begun is not on the stack of another (defect 25)."""
    meet = asyncio.Barrier(2)
    depth = {}

    async def nest(name):
        outer = await manager.start_flow_execution(f"{name} outer")
        inner = await manager.start_flow_execution(f"{name} inner")
        await meet.wait()
        depth[name] = len(manager.get_execution_stack())
        assert manager.get_execution_stack() == [outer.execution_id, inner.execution_id]
        await meet.wait()
        await manager.complete_flow_execution(inner.execution_id)
        assert manager.get_current_execution() is outer
        await manager.complete_flow_execution(outer.execution_id)

    await asyncio.gather(nest("a"), nest("b"))

    assert depth == {"a": 2, "b": 2}


async def test_statistics_have_the_keys_of_the_contract(manager):
    """Of nothing a total of 0; else counts, the average, and distributions of what is over."""
    assert manager.get_execution_statistics() == {"total_executions": 0}
    await manager.execute_parallel_flows([answer(1), fail()], ["A", "B"])
    active = await manager.start_flow_execution("C", FlowCompositionType.NESTED)
    found = manager.get_execution_statistics()
    average = found.pop("average_duration_ms")
    manager.cleanup()

    assert average >= 0
    assert found == {
        "total_executions": 4,
        "active_executions": 1,
        "completed_executions": 3,
        "composition_type_distribution": {"sequential": 2, "parallel": 1},
        "status_distribution": {"completed": 1, "failed": 2},
    }
    assert active.status == "cancelled"


async def test_cleanup_ends_what_is_under_way_as_cancelled(manager, traces):
    """In the books and in the trace; then nothing is current."""
    await manager.start_flow_execution("F")
    manager.cleanup()

    assert traces.one().outcome == "cancelled"
    assert manager.get_current_execution() is None
    assert manager.get_execution_statistics()["status_distribution"] == {"cancelled": 1}


async def test_the_end_of_a_trace_leaves_other_compositions_alone(tracer, manager):
    """Only cleanup ends what is under way, and only you call it (defect 6)."""
    execution = await manager.start_flow_execution("F")
    tracer.start_trace("T", {})
    tracer.end_trace({})
    await tracer.flush_async()

    assert execution.status == "running"
    await manager.complete_flow_execution(execution.execution_id)


async def test_metadata_is_a_copy(manager, traces):
    """What the caller does with his dict afterwards changes nothing."""
    metadata = {"step": {"n": 1}}
    execution = await manager.start_flow_execution("F", metadata=metadata)
    metadata["other"] = True
    metadata["step"]["n"] = 2
    await manager.complete_flow_execution(execution.execution_id, metadata=None)

    assert "other" not in execution.metadata
    assert metadata == {"step": {"n": 2}, "other": True}


@pytest.mark.parametrize("kind", list(FlowCompositionType), ids=lambda kind: kind.value)
async def test_a_registered_handler_runs_the_flows(manager, kind):
    """A handler put in place of another is called, and returns the results."""
    original = manager.composition_handlers[kind]
    called = []

    async def mine(flows, *value):
        called.append(kind)
        return await original(flows, *value)

    manager.composition_handlers[kind] = mine
    await manager.execute_parallel_flows([answer(1)], ["A"])
    await manager.execute_nested_flow(answer(1), "A")
    await manager.execute_batch_flows(answer, [1], "A")
    await manager.execute_sequential_flows([answer(1)], ["A"])
    await manager.execute_conditional_flow(True, answer(1))
    assert await manager.execute_pipeline([answer], 1) == 1

    assert called == [kind]


def test_the_manager_may_be_made_by_hand(tracer):
    """AsyncFlowCompositionManager(tracer), as in the guide."""
    manager = AsyncFlowCompositionManager(tracer)

    assert (manager.tracer, manager.active_executions) == (tracer, {})
    assert manager.completed_executions == []
