"""Defects of pocketflow_tracing 0.1.5 in errors, retries, recovery and lifecycles."""

import asyncio
from datetime import UTC

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, suspended
from tracing import TracingConfig, trace_flow
from tracing.async_error_handling import AsyncErrorEvent, AsyncErrorHandler, AsyncErrorType
from tracing.async_lifecycle import AsyncLifecycleManager
from tracing.core import LangfuseTracer
from tracing.testing import capture, expect


@pytest.fixture
def seen():
    with capture() as traces:
        yield traces


@pytest.fixture
def tracer(seen):
    return LangfuseTracer(TracingConfig())


class Flaky(AsyncNode):
    """Fails until its last attempt, and then falls back if it is to."""

    falls = False

    async def exec_async(self, prep_res):
        if self.falls or self.cur_retry < 2:
            raise ConnectionError("no answer")

    async def exec_fallback_async(self, prep_res, exc):
        if self.falls:
            return "instead"
        raise exc


class Falling(Flaky):
    falls = True


async def test_defect_15_error_statistics_outlive_the_trace(tracer):
    """After the end of a failed trace its errors are still counted."""
    async with await tracer.start_trace_async("F", {}):
        await tracer.handle_async_error(ValueError("x"), node_id="n", flow_name="F")
        tracer.end_trace({}, "error")

    assert tracer.get_error_handler().get_error_statistics()["total_errors"] == 1


async def test_defect_15_a_failing_run_is_in_the_statistics(seen):
    """An error of a node of a traced flow is counted, and stays so after the run."""

    @trace_flow()
    class Failing(AsyncFlow):
        pass

    class Wrong(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError("x")

    flow = Failing(Wrong())
    with pytest.raises(ValueError, match="x"):
        await flow.run_async({})

    statistics = flow._tracer.get_error_handler().get_error_statistics()
    assert statistics["total_errors"] == 1
    assert statistics["error_type_distribution"] == {"task_exception": 1}


async def test_defect_18_safe_async_execute_really_retries(tracer):
    """A coroutine function is called again until it succeeds."""
    calls = []

    async def work():
        calls.append(len(calls))
        if len(calls) < 4:
            raise ConnectionError
        return "done"

    assert await tracer.safe_async_execute(work, retry_count=3) == "done"
    assert calls == [0, 1, 2, 3]


async def test_defect_18_a_coroutine_object_raises_its_own_error(tracer):
    """What cannot be called again fails with the error of its only try."""

    async def work():
        raise ConnectionError("the real one")

    with pytest.raises(ConnectionError, match="the real one"):
        await tracer.safe_async_execute(work(), retry_count=3)


async def test_defect_18_a_timeout_is_counted_once(tracer):
    """One expired timeout is one error of that type."""
    with pytest.raises(TimeoutError):
        await tracer.safe_async_execute(asyncio.Event().wait, timeout_seconds=0.001)

    statistics = tracer.get_error_handler().get_error_statistics()
    assert (statistics["total_errors"], statistics["error_type_distribution"]) == (
        1,
        {"timeout": 1},
    )


@pytest.mark.parametrize("answer", [True, False, None])
async def test_defect_26_recovery_is_what_the_strategy_did(tracer, answer):
    """Without a strategy nothing is attempted; with one, its own answer is reported."""
    handler = AsyncErrorHandler(tracer)
    asked = []

    async def strategy(event):
        asked.append(event.error_type)
        return answer

    if answer is not None:
        handler.register_recovery_strategy(AsyncErrorType.TIMEOUT, strategy)
    event = await handler.handle_async_error(TimeoutError())

    assert event.recovery_attempted is (answer is not None)
    assert event.recovery_successful is bool(answer)
    assert asked == ([] if answer is None else [AsyncErrorType.TIMEOUT])


async def test_defect_27_attempts_and_fallback_are_parts_of_one_node_span(seen):
    """Three attempts: one span with three exec phases, each its own id; the fallback is seen."""
    first = Flaky(3)
    first >> Falling(2)
    await trace_flow(flow_name="F")(AsyncFlow(first)).run_async({})

    trace = seen.one()
    assert len(list(trace.walk())) == 3
    expect(trace.find("Flaky")).phases(["prep", "exec", "exec", "exec", "post"])
    expect(trace.find("Flaky")).retried_after(ConnectionError, ConnectionError)
    expect(trace.find("Falling")).phases(["prep", "exec", "exec", "fallback", "post"])
    expect(trace.find("Falling")).output("instead").outcome("completed")
    ids = [phase.span_id for span in trace.walk() for phase in span.phases]
    assert len(set(ids)) == len(ids)


async def test_defect_27_the_flow_of_an_error_is_the_flow(seen):
    """An error event of a run names the flow, and not the node, as its flow."""

    class Wrong(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError("x")

    @trace_flow(flow_name="TheFlow")
    class Failing(AsyncFlow):
        pass

    flow = Failing(Wrong())
    with pytest.raises(ValueError, match="x"):
        await flow.run_async({})

    events = flow._tracer.get_error_handler().error_events
    assert {event.flow_name for event in events} == {"TheFlow"}


async def test_defect_29_one_lifecycle_a_node_and_suspended_only_on_purpose(seen):
    """A node that awaits is running; SUSPENDED and its counters are for `suspended`."""

    class Awaiting(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    class Approval(AsyncNode):
        async def exec_async(self, prep_res):
            async with suspended("waiting for approval"):
                await asyncio.sleep(0)

    @trace_flow()
    class Both(AsyncFlow):
        pass

    first = Awaiting()
    first >> Approval()
    flow = Both(first)
    await flow.run_async({})

    lifecycles = flow._tracer.get_lifecycle_manager().completed_lifecycles
    found = {each.node_name: (each.suspend_count, each.resume_count) for each in lifecycles}
    assert found["Awaiting"] == (0, 0)
    assert found["Approval"] == (1, 1)
    assert [each.node_name for each in lifecycles].count("Awaiting") == 1


def test_defect_30_times_have_a_zone(tracer):
    """Timestamps of events and lifecycles are aware, in UTC."""
    times = [
        AsyncErrorEvent().timestamp,
        AsyncLifecycleManager(tracer).start_lifecycle("n", "N").start_time,
    ]

    assert [time.utcoffset() for time in times] == [UTC.utcoffset(None)] * 2


async def test_defect_30_the_traceback_is_that_of_the_error(tracer):
    """Outside an `except` block too, `traceback_str` shows the error and its lines."""
    try:
        raise ValueError("x")
    except ValueError as error:
        kept = error

    event = await tracer.handle_async_error(kept)

    assert event.traceback_str.endswith("ValueError: x\n")
    assert "test_defects_errors.py" in event.traceback_str
