"""Fallback: which errors have an answer, and whose it is."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from pocketflow_async.resilience.errors import CallTimeoutError, CircuitBreakerOpen
from pocketflow_async.resilience.fallback import Fallback
from pocketflow_async.resilience.policy import compose
from pocketflow_async.resilience.retry import Retry
from pocketflow_async.resilience.timeout import Timeout
from tests.resilience.policy_kit import Asynchronous, Flaky, Synchronous, watching
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=[Asynchronous, Synchronous])
def call(request, clock):
    return request.param(clock)


@pytest.fixture
def flaky(clock):
    def make(*errors, **more):
        return Flaky(*errors, clock=clock, **more)

    return make


def test_a_call_that_succeeds_needs_no_answer(call, flaky):
    """Also when what it yields is nothing much."""
    for value in (None, 0, "", 3):
        assert call(Fallback("other"), flaky(value=value)) == value


@pytest.mark.parametrize("answer", [None, 0, "", "x", [1], {"a": {"b": 1}}])
def test_a_value_is_the_answer(call, flaky, answer):
    """Whatever it is."""
    assert call(Fallback(answer), flaky(OSError())) == answer


def test_each_caller_has_an_answer_of_its_own(call, flaky):
    """What one does to it no other sees; what cannot be copied is shared."""
    policy = Fallback({"users": []})
    first = call(policy, flaky(OSError()))
    first["users"].append("x")
    assert call(policy, flaky(OSError())) == {"users": []}
    lock = threading.Lock()
    assert call(Fallback(lock), flaky(OSError())) is lock


def test_a_function_answers(call, flaky):
    """It is given the error, if it takes one."""
    error = OSError("down")
    assert call(Fallback(lambda error: ("answer", error)), flaky(error)) == ("answer", error)
    assert call(Fallback(lambda: "nothing taken"), flaky(error)) == "nothing taken"
    assert call(Fallback(lambda *all: all), flaky(error)) == (error,)
    assert call(Fallback(str), flaky(error)) == "down"


async def test_an_asynchronous_function_answers(flaky):
    """It is awaited; in a synchronous call it has no place, and the error says so."""

    async def answer(error):
        await asyncio.sleep(0)
        return str(error)

    assert await Fallback(answer).acall(flaky(OSError("down")).acall) == "down"
    with pytest.raises(TypeError, match="goes with asynchronous calls only") as caught:
        Fallback(answer).call(flaky(OSError("down")))
    assert isinstance(caught.value.__cause__, OSError)


def test_what_the_answer_raises_is_raised(call, flaky):
    """With the error that it was to answer as its context."""

    def answer(error):
        raise LookupError("nothing cached")

    with pytest.raises(LookupError) as caught:
        call(Fallback(answer), flaky(OSError("down")))
    assert isinstance(caught.value.__context__, OSError)


@pytest.mark.parametrize(
    ("on", "error", "is_answered"),
    [
        ((Exception,), OSError(), True),
        (OSError, ConnectionResetError(), True),
        ([KeyError, OSError], KeyError(), True),
        (OSError, KeyError(), False),
        (lambda error: "busy" in str(error), OSError("busy"), True),
        (lambda error: "busy" in str(error), OSError("gone"), False),
        (TimeoutError, CallTimeoutError(1), True),
        ((Exception,), CircuitBreakerOpen("api", 1), True),
    ],
)
def test_only_what_is_meant_is_answered(call, flaky, on, error, is_answered):
    """Anything else comes as it is."""
    if is_answered:
        assert call(Fallback(7, on=on), flaky(error)) == 7
        return
    with pytest.raises(type(error)) as caught:
        call(Fallback(7, on=on), flaky(error))
    assert caught.value is error


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)])
def test_who_ends_the_program_or_the_task_gets_no_answer(flaky, error):
    """It is no failure of the call."""
    with pytest.raises(type(error)):
        Fallback(7).call(flaky(error))


def test_a_cancelled_call_is_cancelled(clock):
    """And so is one whose answer takes its time."""

    async def main():
        for policy in (Fallback(7), Fallback(lambda error: asyncio.sleep(100))):
            task = asyncio.create_task(policy.acall(work))
            await asyncio.sleep(15)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def work():
        await asyncio.sleep(10)
        await asyncio.sleep(10)
        raise OSError

    clock.run(main())


def test_around_others_it_answers_for_what_they_make_of_it(clock, flaky):
    """After the last try, and when the time is up."""
    fn = flaky(*[OSError("down")] * 9)
    assert clock.run(compose(Fallback("none"), Retry()).acall(fn.acall)) == "none"
    assert len(fn.times) == 3
    slow = compose(Fallback("late", on=TimeoutError), Timeout(2))
    assert clock.run(slow.acall(lambda: asyncio.sleep(100))) == "late"


def test_as_a_decorator_it_keeps_the_colour(clock):
    """With arguments as ever."""

    @Fallback([], on=ConnectionError)
    async def newest(count):
        if count > 2:
            raise ConnectionError
        return list(range(count))

    @Fallback(0)
    def ratio(a, b):
        return a / b

    assert clock.run(newest(2)) == [0, 1]
    assert clock.run(newest(5)) == []
    assert (ratio(4, 2), ratio(4, 0)) == (2, 0)


def test_an_answer_is_told_to_who_watches_and_to_the_log(call, flaky, caplog):
    """Its value is not, nor the text of the error to who watches."""
    caplog.set_level(logging.DEBUG, "pocketflow_async.resilience")
    with watching() as seen:
        call(Fallback("secret", name="cached"), flaky(OSError("hidden")))
        call(Fallback("secret"), flaky(value=1))

    facts = {
        "flow.policy": "fallback",
        "flow.fallback.used": True,
        "flow.fallback.error": "OSError",
    }
    assert seen[0] == ("policy", "cached", facts)
    assert seen[1][2] == {"flow.policy": "fallback", "flow.fallback.used": False}
    (record,) = caplog.records
    assert record.getMessage() == "cached answers for OSError"
    assert record.levelno == logging.DEBUG


def test_what_cannot_be_is_refused():
    """And it shows what it does, but no value."""
    with pytest.raises(TypeError, match="on must be error classes or a function, not 3"):
        Fallback(1, on=3)
    with pytest.raises(ValueError, match="on: KeyboardInterrupt is no Exception"):
        Fallback(1, on=KeyboardInterrupt)
    assert repr(Fallback("secret", on=OSError)) == "Fallback(str, on=(OSError))"
    assert repr(Fallback(str)) == "Fallback(str, on=(Exception))"
