"""The tracer's calls about lifecycles, compositions and errors."""

import asyncio

import pytest

from tracing import TracingConfig
from tracing.async_composition import AsyncFlowCompositionManager
from tracing.async_error_handling import AsyncErrorHandler
from tracing.async_lifecycle import AsyncLifecycleManager, AsyncNodeState, AsyncPhase
from tracing.core import LangfuseTracer


@pytest.fixture
def tracer():
    return LangfuseTracer(TracingConfig())


@pytest.mark.parametrize(
    ("get", "attribute", "cls"),
    [
        ("get_lifecycle_manager", "lifecycle_manager", AsyncLifecycleManager),
        ("get_composition_manager", "composition_manager", AsyncFlowCompositionManager),
        ("get_error_handler", "error_handler", AsyncErrorHandler),
    ],
)
def test_each_part_is_made_when_asked_for_and_once(tracer, get, attribute, cls):
    """None before, the same object afterwards, and its tracer is this one."""
    assert getattr(tracer, attribute) is None
    made = getattr(tracer, get)()
    assert isinstance(made, cls)
    assert made.tracer is tracer
    assert getattr(tracer, get)() is getattr(tracer, attribute) is made


async def test_a_lifecycle_by_hand_has_states_and_a_span(tracer, traces):
    """The lines of the guide's API reference, in their order."""
    await tracer.start_trace_async("F", {})
    span_id = await tracer.start_async_node_lifecycle("node_1", "Node", "exec")
    lifecycle = tracer.get_lifecycle_manager().get_lifecycle("node_1")
    await tracer.transition_async_node_state("node_1", "running", "exec")
    await tracer.suspend_async_node("node_1", "await_operation")
    assert lifecycle.current_state is AsyncNodeState.SUSPENDED
    await tracer.resume_async_node("node_1", "operation_complete")
    assert lifecycle.current_state is AsyncNodeState.RUNNING
    await tracer.transition_async_node_state("node_1", "completed")
    await tracer.end_node_span_async(span_id, output_data=1)
    tracer.end_trace({})

    assert span_id == "node_1_exec"
    assert (lifecycle.suspend_count, lifecycle.resume_count) == (1, 1)
    assert lifecycle.current_phase is AsyncPhase.EXEC
    assert [span.name for span in traces.one().children] == ["Node.exec"]


async def test_before_any_lifecycle_states_mean_nothing(tracer):
    """No manager is made for them."""
    await tracer.transition_async_node_state("n", "running")
    await tracer.suspend_async_node("n")
    await tracer.resume_async_node("n")

    assert tracer.lifecycle_manager is None


async def test_an_unknown_phase_is_exec_and_an_unknown_state_is_reported(tracer, caplog):
    """Neither raises; the state does not silently become RUNNING."""
    await tracer.start_async_node_lifecycle("n", "N", "thinking")
    lifecycle = tracer.get_lifecycle_manager().get_lifecycle("n")
    await tracer.transition_async_node_state("n", "confused")

    assert lifecycle.current_phase is AsyncPhase.EXEC
    assert lifecycle.current_state is AsyncNodeState.STARTING
    assert "the state of n is not changed" in caplog.text


async def test_a_composition_by_hand_is_a_span_around_what_follows(tracer, traces, shape):
    """start_async_flow_composition returns an id; complete_… ends the span with its status."""
    tracer.start_trace("F", {})
    execution_id = await tracer.start_async_flow_composition(
        "Group", "parallel", None, {"team": "a"}
    )
    tracer.end_node_span(tracer.start_node_span("N", "1", "exec"))
    await tracer.complete_async_flow_composition(
        execution_id, "failed", {"error": "no", "error_type": "ValueError"}
    )
    tracer.end_node_span(tracer.start_node_span("M", "2", "exec"))
    tracer.end_trace({})

    root = traces.one()
    assert shape(root)[3] == [
        ("span", "Group", "failed", [("span", "N.exec", "completed")]),
        ("span", "M.exec", "completed"),
    ]
    group = root.children[0]
    assert (group.attributes["flow.composition"], group.attributes["team"]) == ("parallel", "a")
    assert group.error.message == "no"


async def test_an_unknown_composition_type_is_sequential(tracer):
    """And an unknown id ends nothing."""
    await tracer.complete_async_flow_composition("nobody")
    execution_id = await tracer.start_async_flow_composition(
        flow_name="F", composition_type="spiral", parent_execution_id=None, metadata=None
    )
    manager = tracer.get_composition_manager()
    assert manager.active_executions[execution_id].composition_type.value == "sequential"
    await tracer.complete_async_flow_composition(execution_id=execution_id, status="completed")
    await tracer.complete_async_flow_composition(execution_id)
    assert manager.get_execution_statistics()["status_distribution"] == {"completed": 1}


async def test_the_execute_calls_are_those_of_the_manager(tracer):
    """Parallel, nested and batch, by place and by name."""

    async def answer(value):
        return value

    parent = await tracer.start_async_flow_composition("All")
    assert await tracer.execute_parallel_async_flows(
        [answer(1), answer(2)], ["a", "b"], parent
    ) == [
        1,
        2,
    ]
    assert await tracer.execute_nested_async_flow(answer(3), "c", parent_execution_id=parent) == 3
    assert await tracer.execute_batch_async_flows(
        flow_factory=answer, batch_data=[4, 5], flow_name="d", parallel=True
    ) == [4, 5]
    await tracer.complete_async_flow_composition(parent)


async def test_errors_are_handled_by_the_handler(tracer):
    """handle_async_error returns the event, with what it was told."""
    event = await tracer.handle_async_error(ValueError("no"), "node_1", "F", {"a": 1})

    assert (event.node_id, event.flow_name, event.context_data["a"]) == ("node_1", "F", 1)
    assert tracer.get_error_handler().error_events == [event]


async def test_the_end_of_a_trace_keeps_the_error_statistics(tracer):
    """What was handled in a run can still be asked for afterwards (defect 15)."""
    tracer.start_trace("F", {})
    await tracer.handle_async_error(ValueError("no"))
    tracer.end_trace({}, "error")
    await tracer.flush_async()

    assert tracer.get_error_handler().get_error_statistics()["total_errors"] == 1


async def test_safe_execution_and_timeouts(tracer):
    """A function is tried again; a timeout is raised and reported."""
    calls = []

    async def flaky():
        calls.append(1)
        if len(calls) < 2:
            raise ConnectionError
        return "up"

    assert (
        await tracer.safe_async_execute(flaky, "n", "F", timeout_seconds=10, retry_count=3) == "up"
    )
    with pytest.raises(TimeoutError):
        await tracer.with_timeout(asyncio.Event().wait(), 0.001, "n", "F")
    assert await tracer.with_cancellation_protection(asyncio.sleep(0, "kept"), "n", "F") == "kept"
