"""Timeouts, protection and retries; and that no signal is ever taken over."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import TracingConfig, trace_flow
from tracing.async_error_handling import AsyncErrorEvent, AsyncErrorHandler, AsyncErrorType
from tracing.core import LangfuseTracer

T = AsyncErrorType


class Waits:
    """A sleep that takes no time and remembers what was asked for."""

    def __init__(self):
        self.asked = []

    async def __call__(self, seconds):
        self.asked.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def handler(waits):
    return AsyncErrorHandler(LangfuseTracer(TracingConfig()), sleep=waits)


class Flaky:
    """A coroutine function that fails a number of times."""

    def __init__(self, failures, error=ConnectionError):
        self.left = failures
        self.error = error
        self.calls = []

    async def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if self.left:
            self.left -= 1
            raise self.error(f"{self.left} left")
        return "up"


def kinds(handler):
    return [event.error_type for event in handler.error_events]


async def test_a_function_is_really_tried_again(handler, waits):
    """Three failures and a success: four calls, growing waits, and no error to report."""
    flaky = Flaky(3)

    assert await handler.safe_async_execute(flaky, retry_count=3) == "up"

    assert len(flaky.calls) == 4
    assert waits.asked == pytest.approx([0.1, 0.2, 0.3])
    assert handler.error_events == []


async def test_a_function_may_have_arguments(handler):
    """They are given to each attempt."""
    flaky = Flaky(1)

    await handler.safe_async_execute(flaky, retry_count=1, args=(1,), kwargs={"b": 2})

    assert flaky.calls == [((1,), {"b": 2})] * 2


async def test_the_last_error_is_raised_and_reported_once(handler):
    """Two of two retries fail: three calls, one event with the attempt and the ids."""
    flaky = Flaky(9)

    with pytest.raises(ConnectionError, match="6 left"):
        await handler.safe_async_execute(flaky, "n1", "Flow", retry_count=2)

    (event,) = handler.error_events
    assert (event.node_id, event.flow_name) == ("n1", "Flow")
    assert event.context_data == {"attempt": 3, "max_attempts": 3, "timeout_seconds": None}


async def test_a_coroutine_object_is_run_once_and_says_so(handler):
    """Its own error is raised, with a note that a function could be tried again."""
    flaky = Flaky(9)

    with pytest.raises(ConnectionError, match="8 left") as caught:
        await handler.safe_async_execute(flaky(), retry_count=3)

    assert len(flaky.calls) == 1
    assert "a coroutine object can be awaited only once" in caught.value.__notes__[-1]
    assert kinds(handler) == [T.TASK_EXCEPTION]


async def test_without_retries_a_coroutine_object_needs_no_note(handler):
    """Nobody asked for a retry."""
    with pytest.raises(ConnectionError) as caught:
        await handler.safe_async_execute(Flaky(1)())

    assert not hasattr(caught.value, "__notes__")
    assert await handler.safe_async_execute(Flaky(0)()) == "up"


async def test_a_timeout_is_counted_once(handler):
    """Each attempt has its own time; at the end there is one error, a timeout."""
    calls = []

    async def slow():
        calls.append(1)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"not done after 0\.01 s"):
        await handler.safe_async_execute(slow, timeout_seconds=0.01, retry_count=1)

    assert len(calls) == 2
    found = handler.get_error_statistics()
    assert (found["total_errors"], found["timeout_tasks"]) == (1, 1)
    assert found["error_type_distribution"] == {"timeout": 1}


async def test_cancellation_is_never_tried_again_nor_swallowed(handler, waits):
    """A cancelled attempt ends the whole; the task is cancelled."""
    started = asyncio.Event()
    calls = []

    async def slow():
        calls.append(1)
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(handler.safe_async_execute(slow, retry_count=5))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (len(calls), waits.asked, task.cancelled()) == (1, [], True)
    assert kinds(handler) == [T.CANCELLATION]


async def test_what_cannot_be_run_is_refused(handler):
    """Neither a function nor awaitable, arguments for an awaitable, fewer than no retries."""
    with pytest.raises(TypeError, match="a function that makes one is needed, not 3"):
        await handler.safe_async_execute(3)
    work = Flaky(0)()
    with pytest.raises(TypeError, match="arguments need a function"):
        await handler.safe_async_execute(work, args=(1,))
    work.close()
    with pytest.raises(ValueError, match="retry_count must be 0 or more, not -1"):
        await handler.safe_async_execute(Flaky(0), retry_count=-1)


async def test_the_guides_lines():
    """The API reference of the tracer: safe_async_execute and with_timeout."""
    tracer = LangfuseTracer(TracingConfig())
    node_id, flow_name, timeout_seconds = "node_1", "Flow", 5
    coro = Flaky(0)()

    result = await tracer.safe_async_execute(
        coro, node_id, flow_name, timeout_seconds=10, retry_count=3
    )
    coro = Flaky(0)()
    again = await tracer.with_timeout(coro, timeout_seconds, node_id, flow_name)

    assert (result, again) == ("up", "up")


async def test_with_timeout_cancels_reports_and_raises(handler):
    """The work has ended by then; a timeout of its own is reported as well."""
    ended = []

    async def slow():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    with pytest.raises(TimeoutError):
        await handler.with_timeout(slow(), 0.01, "n1", "Flow")
    with pytest.raises(TimeoutError, match="0 left"):
        await handler.with_timeout(Flaky(1, TimeoutError), 5)

    assert ended == [1]
    first, second = handler.error_events
    assert (first.node_id, first.context_data) == ("n1", {"timeout_seconds": 0.01})
    assert second.error_type is T.TIMEOUT


async def test_protected_work_completes_although_the_caller_is_cancelled(handler):
    """The cancellation is delivered afterwards, even if it comes twice."""
    started, gate, done = asyncio.Event(), asyncio.Event(), []

    async def save():
        started.set()
        await gate.wait()
        done.append("saved")

    task = asyncio.create_task(handler.with_cancellation_protection(save(), "n1", "Flow"))
    await started.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert done == ["saved"]
    assert task.cancelled()
    assert kinds(handler) == [T.CANCELLATION]


async def test_protected_work_gives_its_result_or_its_error(handler):
    """Nobody is cancelled: it is as if there were no protection."""
    assert await handler.with_cancellation_protection(Flaky(0)) == "up"
    with pytest.raises(ConnectionError):
        await handler.with_cancellation_protection(Flaky(1)())

    assert handler.error_events == []


async def test_a_timeout_around_protected_work_comes_when_that_has_ended(handler):
    """asyncio.timeout is not confused: it raises TimeoutError, once the work is done."""
    done = []

    async def save():
        await asyncio.sleep(0.02)
        done.append("saved")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await handler.with_cancellation_protection(save())

    assert done == ["saved"]


async def test_an_error_of_protected_work_is_not_lost(handler, caplog):
    """The caller's cancellation goes on, with the error as its cause and in the log."""
    started, gate = asyncio.Event(), asyncio.Event()

    async def save():
        started.set()
        await gate.wait()
        raise OSError("disk")

    async def caller():
        try:
            await handler.with_cancellation_protection(save)
        except asyncio.CancelledError as error:
            return error.__cause__

    task = asyncio.create_task(caller())
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    gate.set()

    assert isinstance(await task, OSError)
    assert "disk" in caplog.text


async def test_no_signal_handler_is_installed(handler):
    """Neither for SIGINT nor for SIGTERM, whatever is reported."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    await handler.handle_async_error(KeyboardInterrupt())

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert kinds(handler) == [T.SIGNAL_INTERRUPT]


_PROGRAM = """
import asyncio, sys
from pocketflow_async import AsyncFlow, AsyncNode
from tracing import trace_flow

class Waits(AsyncNode):
    async def exec_async(self, prep_res):
        try:
            raise ValueError("first")
        except ValueError as error:
            await tracer.handle_async_error(error)
        print("ready", flush=True)
        await asyncio.sleep(60)

flow = trace_flow()(AsyncFlow(Waits()))
tracer = getattr(flow, "_tracer", None) or flow.__pocketflow_trace__.tracer
try:
    asyncio.run(flow.run_async({}))
except KeyboardInterrupt:
    kinds = [event.error_type.value for event in tracer.get_error_handler().error_events]
    print(kinds)
    sys.exit(42)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a child there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_work_after_an_error_was_reported(child_env, number):
    """Ctrl-C raises KeyboardInterrupt in the program; SIGTERM ends it."""
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], env=child_env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        out, _ = child.communicate(timeout=20)
    finally:
        child.kill()

    if number == signal.SIGINT:
        assert child.returncode == 42
        assert out.strip() == "['task_exception', 'cancellation']"
    else:
        assert child.returncode == -signal.SIGTERM


def test_a_strategy_is_run_to_its_end_before_the_run_is_over(store_path: Path) -> None:
    """`asyncio.run` ends right after the flow; by then the event says what the strategy did."""
    done = []

    class Fails(AsyncNode):
        async def exec_async(self, prep_res: object) -> None:
            raise TimeoutError("late")

    flow = trace_flow(AsyncFlow(Fails()))
    handler = flow._tracer.get_error_handler()

    async def strategy(event: AsyncErrorEvent) -> bool:
        await asyncio.sleep(0.01)
        done.append(event.error_type)
        return True

    handler.register_recovery_strategy(AsyncErrorType.TIMEOUT, strategy)
    with pytest.raises(TimeoutError):
        asyncio.run(flow.run_async({}))

    assert done == [AsyncErrorType.TIMEOUT]
    (event,) = [e for e in handler.error_events if e.error_type is AsyncErrorType.TIMEOUT]
    assert (event.recovery_attempted, event.recovery_successful) == (True, True)


def test_a_flow_may_have_a_tracer_of_its_own(store_path: Path) -> None:
    """A class that sets `self._tracer` itself is not in the way of ours, nor ours of it."""

    @trace_flow()
    class Mine(AsyncFlow):
        def __init__(self) -> None:
            super().__init__(AsyncNode())
            self._tracer = "mine"

    mine = Mine()
    asyncio.run(mine.run_async({}))

    assert mine._tracer == "mine"


def test_one_exception_object_is_counted_once_a_run_and_handler(store_path: Path) -> None:
    """Raised in three runs it is three errors; two handlers have their own counts."""
    error = ValueError("the same object each time")

    class Fails(AsyncNode):
        async def exec_async(self, prep_res: object) -> None:
            raise error

    flow = trace_flow(AsyncFlow(Fails()))
    handlers = [flow._tracer.get_error_handler(), AsyncErrorHandler(flow._tracer)]
    for _ in range(3):
        with pytest.raises(ValueError, match="the same object"):
            asyncio.run(flow.run_async({}))

    assert [handler.get_error_statistics()["total_errors"] for handler in handlers] == [3, 3]


def test_a_refused_coroutine_is_closed(store_path: Path) -> None:
    """A wrong retry_count is an error of its own, without a warning about the coroutine."""

    async def work() -> None:
        raise AssertionError("never run")

    handler = AsyncErrorHandler(LangfuseTracer(TracingConfig()))
    with pytest.raises(ValueError, match="retry_count"):
        asyncio.run(handler.safe_async_execute(work(), retry_count=-1))
