"""Each block of the guide's API reference, as a whole and line by line."""

import asyncio
import inspect

import pytest

from tests.guide.guide_kit import BLOCKS, arun, statements
from tracing import TracingConfig
from tracing.async_error_handling import AsyncErrorType
from tracing.async_lifecycle import AsyncNodeState
from tracing.core import AsyncTraceContext, LangfuseTracer

CLASSES = "test_api_reference_core_async_classes_"
METHODS = "test_api_reference_enhanced_langfusetracer_methods_"
REFERENCE = [name for name in BLOCKS if name.startswith("test_api_reference_")]


@pytest.fixture
def tracer():
    """Make a tracer without keys that is inside a trace, as the fragments take it to be."""
    tracer = LangfuseTracer(TracingConfig())
    tracer.trace_id = tracer.start_trace("Guide", {"in": 1})
    yield tracer
    tracer.end_trace({"out": 2})


async def flow(value="done"):
    await asyncio.sleep(0)
    return value


async def custom_handler(event):
    seen.append(event)


seen = []


@pytest.fixture
def names(tracer):
    """Return what the fragments take for granted; coroutines that were not used are closed."""
    given = {
        "tracer": tracer,
        "trace_id": tracer.trace_id,
        "flow_name": "TestFlow",
        "input_data": {"question": "?"},
        "node_id": "node_1",
        "node_name": "Node",
        "phase": "prep",
        "AsyncNodeState": AsyncNodeState,
        "AsyncErrorType": AsyncErrorType,
        "flows": [flow(1), flow(2)],
        "flow_names": ["one", "two"],
        "flow": flow(),
        "flow_factory": flow,
        "batch_data": [1, 2, 3],
        "parent_execution_id": None,
        "error": TimeoutError("late"),
        "custom_handler": custom_handler,
        "context_data": {"where": "here"},
        "coro": flow,
        "timeout_seconds": 5,
    }
    seen.clear()
    yield given
    for value in (*given["flows"], given["flow"]):
        value.close()


def lines():
    for name in REFERENCE:
        for place, statement in enumerate(statements(name), 1):
            label = name.removeprefix("test_api_reference_")
            yield pytest.param(name, place, id=f"{label}-line_{statement.lineno}")


@pytest.mark.parametrize(("name", "place"), list(lines()))
async def test_each_line(name, place, names, recwarn):
    """It runs after the lines before it, and warns of nothing."""
    await arun(name, upto=place, **names)

    assert [str(warning.message) for warning in recwarn] == []


async def test_api_reference_core_async_classes_asynctracecontext(names, traces):
    """The context is made current, in the trace of that id, and let go again."""
    made = await arun(CLASSES + "asynctracecontext", **names)
    assert isinstance(made["context"], AsyncTraceContext)
    assert made["context"].trace_id == names["trace_id"]

    async with made["context"]:
        found = AsyncTraceContext.get_current_context()
        assert (found.trace_id, found.flow_name) == (names["trace_id"], "TestFlow")


async def test_api_reference_core_async_classes_asynclifecyclemanager(names):
    """The lifecycle goes through the states that were asked for."""
    made = await arun(CLASSES + "asynclifecyclemanager", **names)
    lifecycle = made["lifecycle"]

    assert (lifecycle.suspend_count, lifecycle.resume_count) == (1, 1)
    assert lifecycle.current_state is AsyncNodeState.RUNNING
    assert [event.state.value for event in lifecycle.events] == [
        "starting",
        "running",
        "suspended",
        "resuming",
        "running",
    ]


async def test_api_reference_core_async_classes_asyncflowcompositionmanager(names):
    """Parallel results come in order, a nested one by itself; then a batch, factory and all."""
    code = CLASSES + "asyncflowcompositionmanager"
    made = await arun(code, upto=3, **names)
    assert made["results"] == [1, 2]
    names["flows"] = [flow(1), flow(2)]
    names["flow"].close()
    names["flow"] = flow()
    made = await arun(code, **names)

    assert (made["result"], made["results"]) == ("done", [1, 2, 3])
    counted = made["manager"].get_execution_statistics()
    assert counted["status_distribution"] == {"completed": counted["total_executions"]}


async def test_api_reference_core_async_classes_asyncerrorhandler(names):
    """The error is classified with its node and flow; handlers are called from then on."""
    made = await arun(CLASSES + "asyncerrorhandler", **names)
    event = made["error_event"]
    assert event.error_type is AsyncErrorType.TIMEOUT
    assert (event.node_id, event.flow_name) == ("node_1", "TestFlow")
    assert event.exception is names["error"]
    assert seen == []

    again = await made["handler"].handle_async_error(TimeoutError("again"))
    assert seen == [again]


async def test_api_reference_enhanced_langfusetracer_methods_async_context_management(names):
    """Both ways to a context."""
    made = await arun(METHODS + "async_context_management", **names)

    assert isinstance(made["async_context"], AsyncTraceContext)
    assert made["context"].trace_id == names["trace_id"]
    async with made["async_context"]:
        pass


async def test_api_reference_enhanced_langfusetracer_methods_async_node_lifecycle(names):
    """The span of the phase has the id that the contract says; the node is under way."""
    made = await arun(METHODS + "async_node_lifecycle", **names)

    assert made["span_id"] == "node_1_prep"
    lifecycle = names["tracer"].get_lifecycle_manager().get_lifecycle("node_1")
    assert (lifecycle.suspend_count, lifecycle.resume_count) == (1, 1)


async def test_api_reference_enhanced_langfusetracer_methods_async_flow_composition(names):
    """An execution with an id, and parallel flows with their results in order."""
    made = await arun(METHODS + "async_flow_composition", **names)

    assert isinstance(made["execution_id"], str)
    assert made["results"] == [1, 2]
    await names["tracer"].complete_async_flow_composition(made["execution_id"])


async def test_api_reference_enhanced_langfusetracer_methods_async_error_handling(names):
    """The error is an event; what is executed safely or in time gives its result."""
    names["coro"] = flow
    code = METHODS + "async_error_handling"
    made = await arun(code, upto=2, **names)
    assert made["error_event"].context_data["where"] == "here"
    assert made["result"] == "done"
    made = await arun(code, **names)

    assert made["result"] == "done"
    assert inspect.iscoroutinefunction(made["coro"])
