"""Errors as events: types, severities, handlers, recovery, and what the engine reports."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from datetime import timedelta

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Flow, Node
from tracing import TracingConfig, trace_flow
from tracing.async_error_handling import (
    AsyncErrorEvent,
    AsyncErrorHandler,
    AsyncErrorSeverity,
    AsyncErrorType,
    async_error_handler,
)
from tracing.core import LangfuseTracer

T = AsyncErrorType


@pytest.fixture
def tracer():
    return LangfuseTracer(TracingConfig())


@pytest.fixture
def handler(tracer):
    return tracer.get_error_handler()


def traced(flow, **options):
    return trace_flow(config=TracingConfig(**options) if options else None)(flow)


def tracer_of(flow):
    return getattr(flow, "_tracer", None) or flow.__pocketflow_trace__.tracer


def handler_of(flow):
    return tracer_of(flow).get_error_handler()


def test_an_event_has_the_fields_and_defaults_of_the_contract():
    """Names, order and defaults are the original's; the time is UTC and says so."""
    event = AsyncErrorEvent()

    assert [field.name for field in dataclasses.fields(event)] == [
        "error_id", "error_type", "severity", "timestamp", "node_id", "flow_name", "task_id",
        "exception", "traceback_str", "context_data", "recovery_attempted",
        "recovery_successful", "metadata",
    ]  # fmt: skip
    assert (event.error_type, event.severity) == (T.TASK_EXCEPTION, AsyncErrorSeverity.MEDIUM)
    assert event.timestamp.utcoffset() == timedelta(0)
    assert [kind.value for kind in T] == [
        "cancellation", "timeout", "task_exception", "context_lost", "deadlock",
        "resource_exhaustion", "mixed_sync_async", "coroutine_not_awaited", "event_loop_closed",
        "signal_interrupt",
    ]  # fmt: skip
    assert [found.value for found in AsyncErrorSeverity] == ["low", "medium", "high", "critical"]


@pytest.mark.parametrize(
    ("error", "kind", "severity"),
    [
        (asyncio.CancelledError(), "cancellation", "medium"),
        (TimeoutError(), "timeout", "high"),
        (RuntimeError("Event loop is closed"), "event_loop_closed", "critical"),
        (RuntimeError("coroutine 'x' was never awaited"), "coroutine_not_awaited", "low"),
        (RuntimeError("a Deadlock!"), "deadlock", "critical"),
        (RuntimeError("else"), "task_exception", "low"),
        (MemoryError(), "resource_exhaustion", "critical"),
        (KeyboardInterrupt(), "signal_interrupt", "high"),
        (ValueError("deadlock"), "task_exception", "low"),
    ],
)
async def test_classification_and_severity(handler, error, kind, severity):
    """As the contract has them."""
    event = await handler.handle_async_error(error)

    assert (event.error_type.value, event.severity.value) == (kind, severity)
    assert handler._classify_error(error) is event.error_type
    assert handler._determine_severity(error, event.error_type) is event.severity


async def test_the_guides_lines(tracer):
    """The API reference: report an error, register a handler; through the tracer too."""
    heard = []
    error = TimeoutError("late")
    custom_handler = heard.append

    handler = AsyncErrorHandler(tracer)
    error_event = await handler.handle_async_error(error, node_id="node_1", flow_name="TestFlow")
    handler.register_error_handler(AsyncErrorType.TIMEOUT, custom_handler)
    again = await handler.handle_async_error(error)
    delegated = await tracer.handle_async_error(error, "node_1", "TestFlow", {"a": 1})

    assert (error_event.node_id, error_event.flow_name) == ("node_1", "TestFlow")
    assert heard == [again]
    assert (delegated.exception, delegated.context_data) == (error, {"a": 1})


async def test_the_traceback_is_the_exceptions_own(handler):
    """Outside an `except` block it is there as well, and not another's."""
    try:
        {}["missing"]
    except KeyError as caught:
        error = caught

    event = await handler.handle_async_error(error)

    assert event.traceback_str.startswith("Traceback (most recent call last):")
    assert event.traceback_str.endswith("KeyError: 'missing'\n")


async def test_statistics_have_the_keys_of_the_contract(handler):
    """One key while empty; then six."""
    assert handler.get_error_statistics() == {"total_errors": 0}

    await handler.handle_async_error(TimeoutError())
    await handler.handle_async_error(asyncio.CancelledError())
    await handler.handle_async_error(ValueError())

    assert handler.get_error_statistics() == {
        "total_errors": 3,
        "error_type_distribution": {"timeout": 1, "cancellation": 1, "task_exception": 1},
        "severity_distribution": {"high": 1, "medium": 1, "low": 1},
        "recovery_statistics": {"attempted": 0, "successful": 0},
        "cancelled_tasks": 1,
        "timeout_tasks": 1,
    }
    handler.cleanup()
    assert handler.get_error_statistics() == {"total_errors": 0}


async def test_handlers_may_be_plain_or_async_and_may_fail(handler, caplog):
    """All of the type are called in order; one that raises is logged."""
    heard = []

    async def slow(event):
        await asyncio.sleep(0)
        heard.append("async")

    def broken(event):
        raise RuntimeError("handler broke")

    handler.register_error_handler("timeout", broken)
    handler.register_error_handler(T.TIMEOUT, slow)
    handler.register_error_handler(T.TIMEOUT, lambda event: heard.append("plain"))
    handler.register_error_handler(T.DEADLOCK, lambda event: heard.append("other"))
    with pytest.raises(ValueError, match="no such error type: 'late'; choose one of cancel"):
        handler.register_error_handler("late", broken)

    await handler.handle_async_error(TimeoutError())

    assert heard == ["async", "plain"]
    assert "handler broke" in caplog.text


@pytest.mark.parametrize("answer", [True, False])
async def test_a_strategy_is_run_and_its_answer_reported(handler, answer):
    """What it returns is whether the recovery was successful."""
    tried = []

    async def strategy(event):
        tried.append(event.error_type)
        return answer

    handler.register_recovery_strategy(T.TIMEOUT, strategy)
    event = await handler.handle_async_error(TimeoutError())

    assert tried == [T.TIMEOUT]
    assert (event.recovery_attempted, event.recovery_successful) == (True, answer)
    assert handler.get_error_statistics()["recovery_statistics"] == {
        "attempted": 1,
        "successful": int(answer),
    }


async def test_without_a_strategy_nothing_is_said_to_be_recovered(handler):
    """There are no strategies of our own that only say True."""
    event = await handler.handle_async_error(TimeoutError())

    assert (event.recovery_attempted, event.recovery_successful) == (False, False)


async def test_a_strategy_that_raises_has_failed(handler, caplog):
    """Its error is logged, and the recovery was not successful."""

    async def strategy(event):
        raise OSError("strategy broke")

    handler.register_recovery_strategy("timeout", strategy)
    event = await handler.handle_async_error(TimeoutError())

    assert (event.recovery_attempted, event.recovery_successful) == (True, False)
    assert "strategy broke" in caplog.text


async def test_strategies_can_be_switched_off():
    """With async_error_recovery off none is run."""
    tracer = LangfuseTracer(TracingConfig(async_error_recovery=False))
    handler = tracer.get_error_handler()
    handler.register_recovery_strategy(T.TIMEOUT, lambda event: pytest.fail("it was run"))

    event = await handler.handle_async_error(TimeoutError())

    assert event.recovery_attempted is False


async def test_an_error_is_a_span_under_the_present_one(traces):
    """Reported inside a node, it is in the trace under that node, with the flow's own name."""

    class Careful(AsyncNode):
        async def exec_async(self, prep_res):
            await handler_of(flow).handle_async_error(OSError("disk"), context_data={"disk": 3})

    flow = trace_flow(flow_name="Outer")(AsyncFlow(Careful()))
    await flow.run_async({})

    (event,) = handler_of(flow).error_events
    root = traces.one()
    (node,) = root.children
    (span,) = node.children
    assert (root.outcome, node.outcome, span.outcome) == ("completed", "completed", "failed")
    assert span.name == "async_error_task_exception"
    assert span.error.type == "OSError"
    assert json.loads(span.input) == {"disk": 3}
    assert json.loads(span.output)["error_message"] == "disk"
    assert (span.attributes["flow_name"], span.attributes["severity"]) == ("Outer", "low")
    assert (event.flow_name, event.node_id) == ("Outer", node.span_id)


async def test_an_error_in_a_trace_by_hand_is_in_it(tracer, traces):
    """Between start_trace_async and end_trace, entered or not; and it is counted once."""
    context = await tracer.start_trace_async("ByHand", {})
    await tracer.handle_async_error(ValueError("early"))
    async with context:
        await tracer.handle_async_error(ValueError("inside"))
    tracer.end_trace({}, "error")

    (root,) = traces.all()[0].roots
    assert [child.error.message for child in root.children] == ["early", "inside"]
    events = tracer.get_error_handler().error_events
    assert [event.flow_name for event in events] == ["ByHand", "ByHand"]


async def test_a_failing_run_is_in_the_statistics_and_stays_there():
    """Also for a handler made after it; the end of a trace, or another run, wipes nothing."""

    class Bad(AsyncNode):
        async def exec_async(self, prep_res):
            if prep_res:
                raise ValueError("bad")

        async def prep_async(self, shared):
            return shared["bad"]

    flow = traced(AsyncFlow(Bad()))
    with pytest.raises(ValueError, match="bad"):
        await flow.run_async({"bad": True})
    handler = handler_of(flow)
    assert handler.get_error_statistics()["total_errors"] == 1
    with pytest.raises(ValueError, match="bad"):
        await flow.run_async({"bad": True})
    await flow.run_async({"bad": False})

    assert handler.get_error_statistics()["error_type_distribution"] == {"task_exception": 2}
    first, second = handler.error_events
    assert first.traceback_str.endswith("ValueError: bad\n")
    assert isinstance(second.exception, ValueError)
    assert (second.flow_name, second.metadata["node_name"]) == ("AsyncFlow", "Bad")


async def test_one_error_is_one_event_however_many_spans_it_leaves():
    """Retried twice, in an item of a batch in a nested flow: the last error counts, once."""

    class Bad(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return [1]

        async def exec_async(self, item):
            raise ValueError(f"attempt {self.cur_retry}")

    flow = traced(AsyncFlow(AsyncFlow(Bad(3))))
    handler = handler_of(flow)
    with pytest.raises(ValueError, match="attempt 2"):
        await flow.run_async({})

    (event,) = handler.error_events
    assert str(event.exception) == "attempt 2"


async def test_a_fallback_leaves_no_error():
    """What the node has dealt with itself is not reported."""

    class Dealt(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError

        async def exec_fallback_async(self, prep_res, exc):
            return "instead"

    flow = traced(AsyncFlow(Dealt(2)))
    handler = handler_of(flow)
    await flow.run_async({})

    assert handler.get_error_statistics() == {"total_errors": 0}


async def test_handlers_and_strategies_serve_the_engine_too():
    """For a failing node they run in a task; the error itself goes on."""
    heard = []
    done = asyncio.Event()

    class Bad(AsyncNode):
        async def exec_async(self, prep_res):
            raise TimeoutError("late")

    async def strategy(event):
        done.set()
        return True

    flow = traced(AsyncFlow(Bad()))
    handler = handler_of(flow)
    handler.register_error_handler(T.TIMEOUT, heard.append)
    handler.register_recovery_strategy(T.TIMEOUT, strategy)
    with pytest.raises(TimeoutError):
        await flow.run_async({})
    await done.wait()
    await asyncio.sleep(0)

    (event,) = handler.error_events
    assert heard == [event]
    assert event.recovery_successful is True


def test_in_a_sync_flow_handlers_are_done_before_the_error_goes_on():
    """There is no loop to run them on, so they run at once."""
    heard = []

    class Bad(Node):
        def exec(self, prep_res):
            raise OSError("disk")

    async def tell(event):
        await asyncio.sleep(0)
        heard.append(str(event.exception))

    flow = traced(Flow(Bad()))
    handler_of(flow).register_error_handler("task_exception", tell)
    with pytest.raises(OSError, match="disk"):
        flow.run({})

    assert heard == ["disk"]


async def test_a_flows_timeout_is_a_timeout_and_its_node_cancelled():
    """Two errors: the node's cancellation, and the flow's timeout, each once."""

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.Event().wait()

    flow = traced(AsyncFlow(Slow(), timeout=0.01))
    handler = handler_of(flow)
    with pytest.raises(TimeoutError):
        await flow.run_async({})

    assert [event.error_type for event in handler.error_events] == [T.CANCELLATION, T.TIMEOUT]


async def test_events_are_bounded_and_let_go_of_exceptions(handler):
    """Of 1,200 errors the last 1,000 are kept; the last 100 hold their exception."""
    for number in range(1_200):
        await handler.handle_async_error(ValueError(number))

    events = handler.error_events
    assert len(events) == 1_000
    assert [event.exception is None for event in events] == [True] * 900 + [False] * 100
    assert events[0].traceback_str == "ValueError: 200\n"


async def test_a_thread_without_its_context_is_noticed(tracer):
    """A span by hand in a bare thread while traces live: CONTEXT_LOST, which names the remedy."""
    handler = tracer.get_error_handler()
    found = []

    def work():
        found.append(handler.context_lost("a span of the node n1 began", "n1"))

    def in_thread():
        thread = threading.Thread(target=work, name="bare")
        thread.start()
        thread.join()

    in_thread()  # nothing is under way
    async with await tracer.start_trace_async("Live", {}):
        in_thread()
        await asyncio.to_thread(work)  # carries its context along
        work()
    tracer.end_trace()

    assert found[0] is found[2] is found[3] is None
    event = found[1]
    assert (event.error_type, event.severity) == (T.CONTEXT_LOST, AsyncErrorSeverity.HIGH)
    assert (event.node_id, event.flow_name, event.metadata["thread"]) == ("n1", "Live", "bare")
    assert "tracing.carry" in str(event.exception)


async def test_a_span_by_hand_from_a_bare_thread_is_reported(tracer):
    """The tracer's own calls notice it: the span is kept in the one live trace, and reported."""
    handler = tracer.get_error_handler()

    def work():
        tracer.end_node_span(tracer.start_node_span("Node", "n1", "exec"))

    async with await tracer.start_trace_async("Live", {}):
        thread = threading.Thread(target=work, name="bare")
        thread.start()
        thread.join()
    tracer.end_trace()

    assert [event.error_type for event in handler.error_events] == [T.CONTEXT_LOST]


async def test_the_decorator_reports_and_raises_again(handler):
    """Plain and async functions; the result is async, and an error is reported once."""

    @async_error_handler(handler)
    def plain(value):
        return value + 1

    @async_error_handler(handler)
    async def inner():
        raise KeyError("k")

    @async_error_handler(handler)
    async def outer():
        await inner()

    assert await plain(1) == 2
    with pytest.raises(KeyError):
        await outer()

    (event,) = handler.error_events
    assert event.context_data == {"function": "inner", "args": "()", "kwargs": "{}"}
    assert outer.__name__ == "outer"
