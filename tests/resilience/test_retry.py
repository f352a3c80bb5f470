"""Retry: which errors are tried again, after how long, and what becomes of the last one."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import sys
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.clock import using_clock
from pocketflow_async.needing import need
from pocketflow_async.resilience.errors import (
    BatcherClosed,
    BulkheadFull,
    CallTimeoutError,
    CircuitBreakerOpen,
    RateLimitExceeded,
)
from pocketflow_async.resilience.policy import compose
from pocketflow_async.resilience.retry import Retry, longest_wait
from pocketflow_async.resilience.retry_after import parse_retry_after, wait_asked_for
from pocketflow_async.resilience.timeout import Timeout
from tests.resilience.policy_kit import Asynchronous, Flaky, Synchronous, watching
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock(luck=1.0)


@pytest.fixture(params=[Asynchronous, Synchronous])
def call(request, clock):
    return request.param(clock)


@pytest.fixture
def flaky(clock):
    def make(*errors, **more):
        return Flaky(*errors, clock=clock, **more)

    return make


def notes(error):
    return getattr(error, "__notes__", [])


# What is tried again


def test_a_call_that_succeeds_is_made_once(call, flaky, clock):
    """Its value comes as it is, whatever it is."""
    for value in (None, 0, "x"):
        fn = flaky(value=value)
        assert call(Retry(), fn) == value
        assert len(fn.times) == 1
    assert clock.waits == []


def test_it_is_tried_again_until_it_succeeds(call, flaky, clock):
    """With a growing wait before each further try."""
    fn = flaky(OSError("a"), KeyError("b"), value=7)

    assert call(Retry(), fn) == 7
    assert fn.times == pytest.approx([0, 0.1, 0.3])
    assert clock.waits == pytest.approx([0.1, 0.2])


def test_attempts_are_the_tries_in_all(call, flaky):
    """The last error comes as it is, with a note; its context is none of those before."""
    errors = [OSError(str(number)) for number in range(9)]
    fn = flaky(*errors)

    with pytest.raises(OSError) as caught:
        call(Retry(attempts=4), fn)

    assert caught.value is errors[3]
    assert notes(caught.value) == ["after 4 attempts"]
    assert len(fn.times) == 4
    assert errors[3].__context__ is None
    assert errors[3].__cause__ is None
    assert not any(map(notes, errors[:3]))


def test_one_attempt_is_no_retry(call, flaky, clock):
    """The error says nothing of attempts."""
    fn = flaky(OSError("down"))

    with pytest.raises(OSError) as caught:
        call(Retry(attempts=1), fn)

    assert notes(caught.value) == []
    assert clock.waits == []


def test_the_same_error_object_has_one_note(call, flaky):
    """Though it is raised at every try, and by call after call."""
    error = OSError("down")
    for _ in range(2):
        with pytest.raises(OSError):
            call(Retry(), flaky(*[error] * 9))

    assert notes(error) == ["after 3 attempts"]


class ApiError(Exception):
    """An error of the user's own."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


@pytest.mark.parametrize(
    ("on", "error", "tries"),
    [
        ((ConnectionError, TimeoutError), ConnectionResetError("x"), 3),
        ((ConnectionError, TimeoutError), ValueError("x"), 1),
        (ConnectionError, ConnectionError("x"), 3),
        ([ConnectionError], ConnectionError("x"), 3),
        ({ConnectionError}, ConnectionError("x"), 3),
        ((), ConnectionError("x"), 1),
        (lambda error: error.status >= 500, ApiError(503), 3),
        (lambda error: error.status >= 500, ApiError(404), 1),
        (lambda error: 1, ApiError(404), 3),
    ],
)
def test_only_what_is_meant_is_tried_again(call, flaky, on, error, tries):
    """A class, several of them, or a function decide."""
    fn = flaky(*[error] * 9)

    with pytest.raises(type(error)):
        call(Retry(on=on), fn)

    assert len(fn.times) == tries


def test_another_error_ends_it_in_the_middle(call, flaky):
    """It comes at once, with a note on which try it was."""
    fn = flaky(OSError("a"), ValueError("b"), OSError("c"))

    with pytest.raises(ValueError, match="b") as caught:
        call(Retry(on=OSError), fn)

    assert notes(caught.value) == ["after 2 attempts"]


def test_a_function_decides_once_about_each_error(call, flaky):
    """The last one included; about none that cannot be tried again."""
    asked = []

    def decide(error):
        asked.append(str(error))
        return True

    with pytest.raises(OSError):
        call(Retry(on=decide), flaky(*[OSError(str(n)) for n in range(9)]))
    assert asked == ["0", "1", "2"]
    with pytest.raises(OSError):
        call(Retry(on=decide, attempts=1), flaky(OSError("one")))
    assert asked == ["0", "1", "2"]


def test_what_a_function_that_decides_raises_is_raised(call, flaky):
    """The error that it was asked about is its context."""

    def decide(error):
        raise LookupError("which?")

    with pytest.raises(LookupError, match="which") as caught:
        call(Retry(on=decide), flaky(OSError("down")))
    assert isinstance(caught.value.__context__, OSError)


@pytest.mark.parametrize(
    ("error", "on", "tries"),
    [
        (CircuitBreakerOpen("api", 3), (Exception,), 1),
        (CircuitBreakerOpen("api", 3), (OSError, BatcherClosed, Exception), 1),
        (CircuitBreakerOpen("api", 3), CircuitBreakerOpen, 3),
        (CircuitBreakerOpen("api", 3), (OSError, CircuitBreakerOpen), 3),
        (CircuitBreakerOpen("api", 3), lambda error: True, 3),
        (BatcherClosed("b"), (Exception,), 1),
        (BatcherClosed("b"), RuntimeError, 1),
        (CallTimeoutError(1), (Exception,), 3),
        (CallTimeoutError(1), TimeoutError, 3),
        (RateLimitExceeded("api", 0.2), (Exception,), 3),
        (BulkheadFull("api", 1, 0), (Exception,), 3),
    ],
)
def test_an_open_breaker_is_left_alone_unless_it_is_named(call, flaky, error, on, tries):
    """And a closed batcher; other errors of policies are errors like any."""
    fn = flaky(*[error] * 9)

    with pytest.raises(type(error)):
        call(Retry(on=on), fn)

    assert len(fn.times) == tries


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_or_the_task_is_never_tried_again(flaky, clock, error):
    """Not at first, and not after other errors; a function is not even asked."""
    asked = []
    for before in ((), (OSError("a"),)):
        fn = flaky(*before, error)
        with using_clock(clock), pytest.raises(type(error)) as caught:
            Retry(on=lambda error: asked.append(error) or True).call(fn)
        assert caught.value is error
        assert len(fn.times) == 1 + len(before)
        assert notes(error) == []
    assert len(asked) == 1


@pytest.mark.parametrize("where", ["first", "later", "wait"])
def test_being_cancelled_ends_it(clock, where):
    """While it is at work, and while it waits: nothing is done any more."""
    calls = []

    async def work():
        calls.append(clock.monotonic())
        if where == "wait" or (where == "later" and len(calls) == 1):
            raise OSError("down")
        await asyncio.sleep(100)

    async def main():
        task = asyncio.create_task(Retry(base=10, cap=10).acall(work))
        await asyncio.sleep({"first": 1, "later": 11, "wait": 5}[where])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1000)

    clock.run(main())
    assert len(calls) == (2 if where == "later" else 1)


def test_a_timeout_around_all_tries_ends_them(clock, flaky):
    """One inside is an error like any other, and tried again."""

    async def slow():
        await asyncio.sleep(10)
        raise OSError

    with pytest.raises(CallTimeoutError):
        clock.run(compose(Timeout(25), Retry(attempts=9)).acall(slow))
    assert clock.monotonic() == 25
    with pytest.raises(CallTimeoutError) as caught:
        clock.run(compose(Retry(base=1), Timeout(2)).acall(slow))
    assert notes(caught.value) == ["after 3 attempts"]
    assert clock.monotonic() == 25 + 2 + 1 + 2 + 2 + 2


# After how long


@pytest.mark.parametrize("luck", [0.0, 0.25, 1.0])
def test_the_wait_is_drawn_from_between_nothing_and_the_longest(luck):
    """Full jitter: from the very first wait, so that not all callers come back at once."""
    clock = FakeClock(luck)
    with using_clock(clock), pytest.raises(OSError):
        Retry(attempts=6, base=1, cap=5).call(Flaky(*[OSError()] * 9, clock=clock))

    assert clock.waits == [luck * longest for longest in (1, 2, 4, 5, 5)]


def test_without_jitter_the_wait_is_the_longest():
    """By its own factor."""
    clock = FakeClock(0.0)
    retry = Retry(attempts=4, base=1, backoff=3, jitter=False)
    with using_clock(clock), pytest.raises(OSError):
        retry.call(Flaky(*[OSError()] * 9, clock=clock))

    assert clock.waits == [1, 3, 9]
    assert [retry.delay(attempt) for attempt in (1, 2, 5)] == [1, 3, 30]


positive = st.floats(0, 1e6)


@given(st.integers(1, 5000), positive, positive, st.floats(1, 1e3))
def test_the_longest_wait_grows_to_its_cap(attempt, base, cap, factor):
    """It never falls, never is above the cap, and no number of attempts is too large."""
    waits = [longest_wait(number, base, cap, factor) for number in (attempt, attempt + 1)]

    assert 0 <= waits[0] <= waits[1] <= cap
    assert longest_wait(1, base, cap, factor) == min(base, cap)


def test_no_wait_is_none_at_all(call, flaky, clock):
    """Other tasks still get their turn."""
    with pytest.raises(OSError):
        call(Retry(base=0), flaky(*[OSError()] * 9))
    assert clock.waits == [0, 0]


class Busy(Exception):
    """Says when to come back."""

    def __init__(self, retry_after):
        super().__init__("busy")
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("asked", "waits"),
    [(5, [5, 5]), (0.15, [0.15, 0.2]), (timedelta(minutes=1), [60, 60]), (0, [0.1, 0.2])],
)
def test_an_error_may_ask_for_a_longer_wait(call, flaky, clock, asked, waits):
    """Even one above the cap; a shorter one is not heeded."""
    with pytest.raises(Busy):
        call(Retry(cap=1), flaky(*[Busy(asked)] * 9))
    assert clock.waits == pytest.approx(waits)


@pytest.mark.parametrize("asked", [None, "soon", True, float("nan"), float("inf"), -3, object()])
def test_what_asks_for_no_time_is_not_heeded(call, flaky, clock, asked):
    """The error is tried again all the same."""
    with pytest.raises(Busy):
        call(Retry(), flaky(*[Busy(asked)] * 9))
    assert clock.waits == pytest.approx([0.1, 0.2])


def test_patience_has_an_end(call, flaky, clock):
    """An error that asks for more is raised at once, and says why: coming sooner is no use."""
    fn = flaky(OSError("a"), Busy(3600), value=1)

    with pytest.raises(Busy) as caught:
        call(Retry(), fn)

    assert notes(caught.value) == ["after 2 attempts: it asks to wait 3600 s, above patience=120"]
    assert len(clock.waits) == 1
    with pytest.raises(Busy) as caught:
        call(Retry(patience=1), flaky(Busy(2)))
    assert notes(caught.value) == ["after 1 attempt: it asks to wait 2 s, above patience=1"]


def test_the_error_of_an_http_client_asks_by_its_header(call, flaky, clock):
    """Such as that of httpx; any spelling, and any object with headers."""
    request = httpx.Request("GET", "http://localhost")
    response = httpx.Response(429, headers={"retry-after": "7"}, request=request)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        response.raise_for_status()
    asking = [caught.value]
    for headers in ({"Retry-After": "7"}, {"retry-after": b" 7 "}):
        own = ApiError(429)
        own.headers = headers
        other = ApiError(429)
        other.response = SimpleNamespace(headers=headers)
        asking += [own, other]

    assert [wait_asked_for(error) for error in asking] == [7] * 5
    fn = flaky(asking[0], value=1)
    assert call(Retry(), fn) == 1
    assert clock.waits == [7]


def test_errors_that_are_odd_ask_for_nothing():
    """Properties that raise and headers that are none do not hide the error."""

    class Odd(Exception):
        @property
        def response(self):
            raise RuntimeError("no response")

    plain = ApiError(1)
    plain.headers = ["Retry-After"]
    other = ApiError(1)
    other.headers = {"Retry-After": 7}

    assert wait_asked_for(Odd()) is None
    assert wait_asked_for(plain) is None
    assert wait_asked_for(other) is None
    assert wait_asked_for(httpx.ConnectError("x")) is None


@given(st.integers(-100, 10_000), st.integers(0, 2_000_000_000))
def test_a_date_is_counted_from_the_date_of_the_answer(seconds, sent):
    """So the two clocks need not be the same; a time that is over is no wait."""
    date = email.utils.formatdate(sent, usegmt=True)
    until = email.utils.formatdate(sent + seconds, usegmt=True)

    assert parse_retry_after(until, date) == max(0, seconds)


def test_a_date_without_another_is_counted_from_now():
    """And one of long ago is no wait; what is no date or number asks for nothing."""
    import time

    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 90 < parse_retry_after(soon) <= 101
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", "yesterday") == 0
    assert parse_retry_after("1.5") == 1.5
    assert parse_retry_after("-1") == 0
    for wrong in ("", "soon", "nan", "inf", "٣", "Wed, 99 Oct 2015 07:28:00 GMT"):
        assert parse_retry_after(wrong) is None


@given(st.text())
def test_any_text_is_a_header(text):
    """It asks for some finite time, or for none."""
    asked = parse_retry_after(text, text)
    assert asked is None or 0 <= asked < float("inf")


# The deadline


def test_no_try_begins_after_the_deadline(call, flaky, clock):
    """A wait that would end after it is not waited for; the error says why there is no more."""
    fn = flaky(*[OSError("down")] * 99, seconds=1)

    with pytest.raises(OSError) as caught:
        call(Retry(attempts=None, base=2, backoff=1, deadline=10), fn)

    assert fn.times == [0, 3, 6, 9]
    assert clock.monotonic() == 10
    assert notes(caught.value) == ["after 4 attempts: the next would begin after deadline=10"]


def test_a_try_at_work_is_not_interrupted_by_the_deadline(call, flaky):
    """What it yields late counts."""
    assert call(Retry(deadline=1), flaky(OSError(), value=3, seconds=0.8)) == 3
    with pytest.raises(OSError) as caught:
        call(Retry(deadline=1), flaky(OSError("a"), value=3, seconds=60))
    assert notes(caught.value) == ["after 1 attempt: the next would begin after deadline=1"]


def test_each_call_has_the_whole_deadline(call, flaky, clock):
    """It counts from the call, and not from when the policy was made."""
    retry = Retry(deadline=1)
    clock.advance(100)
    assert call(retry, flaky(OSError(), value=1)) == 1
    assert call(retry, flaky(OSError(), value=2)) == 2


# Who hears of it


def test_each_wait_is_told_before(call, flaky, clock):
    """What failed, which one it was, of how many, and how long the wait will be."""
    told = []
    errors = [OSError("a"), OSError("b"), OSError("c")]
    with pytest.raises(OSError):
        call(Retry(name="api", on_retry=told.append), flaky(*errors))

    assert told == [("api", 1, 3, errors[0], 0.1), ("api", 2, 3, errors[1], 0.2)]
    assert told[0].wait == 0.1


def test_who_is_told_may_take_time_and_may_end_it(clock, flaky):
    """What it raises is raised; and asynchronous ones are awaited."""
    told = []

    async def tell(retried):
        await asyncio.sleep(10)
        told.append(retried.attempt)
        if retried.attempt == 2:
            raise RuntimeError("halted")

    fn = flaky(*[OSError()] * 9)
    with pytest.raises(RuntimeError, match="halted"):
        Asynchronous(clock)(Retry(on_retry=tell), fn)
    assert told == [1, 2]
    assert fn.times == pytest.approx([0, 10.1])

    with using_clock(clock), pytest.raises(TypeError, match="on_retry is asynchronous"):
        Retry(on_retry=tell).call(flaky(OSError()))


def test_those_who_watch_see_attempts_waits_and_kinds_of_errors(call, flaky):
    """Not their texts, in which secrets may be; of a call that succeeds at once, just that."""
    with watching() as seen:
        call(Retry(name="api"), flaky(OSError("secret"), KeyError("secret"), value=1))
        call(Retry(), flaky(value=1))
        with pytest.raises(ValueError):
            call(Retry(on=OSError), flaky(ValueError()))

    assert seen[0] == (
        "policy",
        "api",
        {
            "flow.policy": "retry",
            "flow.retry.attempts": 3,
            "flow.retry.waited_seconds": 0.3,
            "flow.retry.errors": ["OSError", "KeyError"],
        },
    )
    assert seen[1][2] == {"flow.policy": "retry", "flow.retry.attempts": 1}
    assert seen[2][2] == {"flow.policy": "retry", "flow.retry.attempts": 1}


# As a loop


def test_a_loop_of_tries(clock, flaky):
    """The block that succeeds ends it; each try has its number."""
    numbers = []
    fn = flaky(OSError("a"), OSError("b"), value=7)

    async def main():
        async for attempt in Retry():
            with attempt:
                numbers.append(attempt.number)
                value = fn()
        return value

    assert clock.run(main()) == 7
    assert numbers == [1, 2, 3]
    assert clock.waits == pytest.approx([0.1, 0.2])


def test_a_loop_of_tries_in_a_thread(clock, flaky):
    """The same, with waits that block it."""
    fn = flaky(OSError("a"), OSError("b"), value=7)
    with using_clock(clock):
        for attempt in Retry():
            with attempt:
                value = fn()

    assert value == 7
    assert repr(attempt) == "<Try 3>"
    assert clock.waits == pytest.approx([0.1, 0.2])


def test_a_loop_raises_the_last_error(clock, flaky):
    """With its note, as a call would."""
    for error, tries in ((OSError("x"), 3), (ValueError("x"), 1)):
        fn = flaky(*[error] * 9)

        async def main(fn=fn):
            async for attempt in Retry(on=OSError):
                with attempt:
                    fn()

        with pytest.raises(type(error)) as caught:
            clock.run(main())
        assert caught.value is error
        assert len(fn.times) == tries
        assert notes(error) == (["after 3 attempts"] if tries > 1 else [])


def test_a_cancelled_loop_does_nothing_more(clock):
    """Not even what stands after the block."""
    after = []

    async def main():
        async for attempt in Retry():
            with attempt:
                await asyncio.sleep(100)
            after.append(attempt)

    async def cancelled():
        task = asyncio.create_task(main())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(cancelled())
    assert after == []


async def test_a_loop_that_is_left_leaves_nothing_behind():
    """No generator that somebody would have to close."""
    before = asyncio.all_tasks()

    async def main():
        async for attempt in Retry():
            with attempt:
                return 3
        return None

    assert await main() == 3
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def test_a_loop_keeps_its_deadline(clock, flaky):
    """From its beginning."""
    fn = flaky(*[OSError()] * 9, seconds=1)

    async def main():
        async for attempt in Retry(attempts=None, deadline=2, base=0.1):
            with attempt:
                fn()

    with pytest.raises(OSError):
        clock.run(main())
    assert fn.times == pytest.approx([0, 1.1])


# What is shared, and what is refused


def test_calls_at_the_same_time_do_not_mix(clock):
    """Hundreds of tasks with one policy: each has its own tries."""

    async def main():
        retry = Retry(attempts=4, base=1)
        left = dict.fromkeys(range(200), 3)

        async def work(key):
            await asyncio.sleep(key % 7)
            if left[key]:
                left[key] -= 1
                raise OSError(key)
            return key

        return await asyncio.gather(*(retry.acall(lambda k=k: work(k)) for k in range(200)))

    assert clock.run(main()) == list(range(200))


def test_one_policy_goes_from_loop_to_loop_and_through_threads(flaky):
    """It keeps nothing of a call."""
    import threading

    retry = Retry(base=0)
    for _ in range(2):

        async def main():
            return await retry.acall(flaky(OSError(), value=1).acall)

        assert asyncio.run(main()) == 1
    got = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(retry.call(flaky(OSError(), value=n))))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(8))


def test_a_policy_inside_another_has_its_own_tries(call, flaky):
    """Three times three."""
    fn = flaky(*[OSError("down")] * 99)
    with pytest.raises(OSError):
        call(compose(Retry(), Retry()), fn)
    assert len(fn.times) == 9


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"attempts": 0}, ValueError, "attempts must be at least 1"),
        ({"attempts": "3"}, TypeError, "attempts must be a whole number, not '3'"),
        ({"attempts": True}, TypeError, "attempts must be a whole number"),
        ({"attempts": None}, ValueError, "attempts=None needs a deadline"),
        ({"base": -1}, ValueError, "base must be at least 0"),
        ({"cap": float("inf")}, ValueError, "cap must be at least 0 and finite"),
        ({"cap": "1"}, TypeError, "cap must be a number"),
        ({"backoff": 0.5}, ValueError, "backoff must be at least 1"),
        ({"deadline": float("nan")}, ValueError, "deadline must be"),
        ({"patience": -1}, ValueError, "patience must be"),
        ({"on": "OSError"}, TypeError, "on must be error classes or a function, not 'OSError'"),
        ({"on": 3}, TypeError, "on must be error classes or a function, not 3"),
        ({"on": ["OSError"]}, TypeError, "on takes error classes, not 'OSError'"),
        ({"on": [int]}, TypeError, "on takes error classes, not <class 'int'>"),
        ({"on": asyncio.CancelledError}, ValueError, "on: CancelledError is no Exception"),
        ({"on_retry": 3}, TypeError, "on_retry must be a function, not 3"),
        ({"name": 3}, TypeError, "name must be a text"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, said):
    """The error names the argument and its value."""
    with pytest.raises(error, match=said.replace("(", r"\(")):
        Retry(**arguments)


def test_a_decorator_without_brackets_is_refused():
    """The function is no number of attempts."""
    with pytest.raises(TypeError, match="attempts must be a whole number, not <function"):

        @Retry
        def work(): ...


def test_it_shows_what_it_does():
    """Not how it was spelled."""
    shown = repr(Retry(on=OSError, deadline=5))
    assert shown == "Retry(attempts=3, base=0.1, cap=30, on=(OSError), deadline=5)"


def test_without_tenacity_the_error_names_the_extra(monkeypatch):
    """When the policy is made, and not when a call has failed."""
    monkeypatch.setitem(sys.modules, "tenacity", None)
    need.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"pip install 'pocketflow-async\[workflow\]'"):
            Retry()
    finally:
        need.cache_clear()
