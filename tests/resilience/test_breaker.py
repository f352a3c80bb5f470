"""The circuit breaker around calls of both kinds: what counts, what it tells, who listens."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
from contextlib import contextmanager
from functools import partial

import aiohttp
import httpx
import pytest
import redis.exceptions

from pocketflow_async.clock import using_clock
from pocketflow_async.hooks import observing
from pocketflow_async.resilience import (
    BreakerEvent,
    BulkheadFull,
    CallTimeoutError,
    CircuitBreaker,
    CircuitBreakerOpen,
    RateLimitExceeded,
    compose,
    is_failure,
)
from tests.resilience.breaker_kit import Colour, Service
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=[True, False], ids=["async", "sync"])
def call(request):
    return Colour(request.param)


def down():
    return Service(ConnectionError("down"))


def failing(call, breaker, times=1, error=ConnectionError):
    """Let so many calls fail."""
    for _ in range(times):
        with pytest.raises(error):
            call(breaker, Service(error("down")))


def refused(call, breaker):
    """Return the error that stands in place of a call."""
    service = Service()
    with pytest.raises(CircuitBreakerOpen) as caught:
        call(breaker, service)
    assert service.calls == 0
    return caught.value


# The life of one


def test_it_opens_refuses_probes_and_closes(call, clock):
    """The service is called no more once it is open; one success closes it by default."""
    breaker = CircuitBreaker("venue", failure_threshold=3, reset_timeout=30, clock=clock)
    service = down()
    for _ in range(3):
        assert breaker.is_closed
        with pytest.raises(ConnectionError, match="down"):
            call(breaker, service)
    assert breaker.is_open
    for _ in range(5):
        error = refused(call, breaker)
    assert (error.name, error.failures, error.state, error.retry_after) == ("venue", 3, "open", 30)
    assert service.calls == 3

    clock.advance(30)
    assert breaker.is_half_open
    assert call(breaker, Service()) == 1
    assert breaker.state == "closed"


def test_a_failed_probe_opens_it_again(call, clock):
    """For its whole time; the error of the probe is the caller's."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30, clock=clock)
    failing(call, breaker)
    clock.advance(30)
    failing(call, breaker)
    assert refused(call, breaker).retry_after == 30
    assert breaker.statistics().opened_total == 2


def test_the_default_opens_at_five_failures_in_two_minutes(call, clock):
    """And not at five in more."""
    breaker = CircuitBreaker(clock=clock)
    for _ in range(10):
        failing(call, breaker)
        clock.advance(30)
    assert breaker.is_closed
    clock.advance(120)
    failing(call, breaker, 5)
    assert breaker.is_open


def test_as_a_decorator_it_guards_both_kinds(clock):
    """The function keeps its kind, its name and its arguments."""
    breaker = CircuitBreaker(failure_threshold=2, clock=clock)

    @breaker
    def price(symbol):
        raise OSError(symbol)

    @breaker
    async def aprice(symbol):
        raise OSError(symbol)

    assert price.__name__ == "price"
    with pytest.raises(OSError, match="BTC"):
        price("BTC")
    with pytest.raises(OSError, match="ETH"):
        asyncio.run(aprice("ETH"))
    with pytest.raises(CircuitBreakerOpen):
        price("BTC")
    with pytest.raises(CircuitBreakerOpen):
        asyncio.run(aprice("ETH"))


def test_as_a_block_it_guards_what_is_inside(call, clock):
    """Errors come as they are and count; open, the block is not entered."""
    breaker = CircuitBreaker(failure_threshold=2, clock=clock)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="down"):
            call.block(breaker, down())
    service = Service()
    with pytest.raises(CircuitBreakerOpen):
        call.block(breaker, service)
    assert service.calls == 0
    clock.advance(60)
    assert call.block(breaker, service) == 1
    assert breaker.is_closed


async def test_blocks_of_many_tasks_and_of_many_breakers_are_told_apart():
    """Each is left by whom it was entered, one inside the other or side by side."""
    outer, inner = CircuitBreaker("outer", failure_threshold=50), CircuitBreaker("inner")

    async def one(n):
        async with outer:
            await asyncio.sleep(0)
            async with inner, inner:
                await asyncio.sleep(0)
            if n % 2:
                raise OSError

    await asyncio.gather(*(one(n) for n in range(40)), return_exceptions=True)
    stands = outer.statistics()
    assert (stands.successes_total, stands.failures_total) == (20, 20)
    assert inner.statistics().successes_total == 80


async def test_a_block_that_is_left_elsewhere_says_so():
    """Another context does not know of it; a guard of its own does not mind."""
    breaker = CircuitBreaker("venue")
    await asyncio.create_task(breaker.__aenter__())
    with pytest.raises(RuntimeError, match=r"breaker\.guard\(\)"):
        await breaker.__aexit__(None, None, None)

    guard = breaker.guard()
    await asyncio.create_task(guard.__aenter__())
    await guard.__aexit__(None, None, None)
    assert breaker.statistics().successes_total == 1


def test_a_guard_tells_how_its_call_came_out(call, clock):
    """Its state before and after, whether it opened the breaker, and what refused it."""
    breaker = CircuitBreaker(failure_threshold=2, clock=clock)
    guards = [breaker.guard() for _ in range(4)]
    for guard in guards[:2]:
        with pytest.raises(ConnectionError):
            call.block(guard, down())
    with pytest.raises(CircuitBreakerOpen) as caught:
        call.block(guards[2], down())
    clock.advance(60)
    call.block(guards[3], Service())

    told = [(guard.state, guard.failures, guard.opened) for guard in guards]
    assert told == [
        ("closed", 1, False), ("open", 2, True), ("open", 2, False), ("closed", 0, False),
    ]  # fmt: skip
    assert guards[2].refusal is caught.value
    assert guards[1].refusal is None


def test_a_guard_is_for_one_call():
    """Another one is refused, and so is leaving what was not entered."""
    guard = CircuitBreaker().guard()
    with guard:
        pass
    with pytest.raises(RuntimeError, match="for one call"), guard:
        pass
    with pytest.raises(RuntimeError, match="before it was entered"):
        CircuitBreaker().guard().__exit__(None, None, None)


def test_a_coroutine_in_a_synchronous_call_is_refused():
    """It is a mistake of the caller, which says nothing of the service."""
    breaker = CircuitBreaker(failure_threshold=1)
    with pytest.raises(TypeError, match="acall"):
        breaker.call(Service().acall)
    assert breaker.is_closed


# What counts


async def test_a_service_that_hangs_opens_it_by_timeouts_inside():
    """Whichever timeout it is that the call itself runs into: it is a failure."""

    async def by_timeout():
        async with asyncio.timeout(0):
            await asyncio.sleep(10)

    async def by_wait_for():
        await asyncio.wait_for(asyncio.sleep(10), 0)

    async def by_policy():
        raise CallTimeoutError(1)

    breaker = CircuitBreaker(failure_threshold=3)
    for hang in (by_timeout, by_wait_for, by_policy):
        assert breaker.is_closed
        with pytest.raises(TimeoutError):
            await breaker.acall(hang)
    assert breaker.is_open


def test_a_timeout_around_it_is_a_cancellation_and_counts_if_it_was_slow(clock):
    """By itself it is none; with `slow_after` a service that hangs opens the breaker anyway."""

    async def main(breaker):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(breaker.acall(lambda: asyncio.sleep(10)), 5)
        return breaker.state

    assert clock.run(main(CircuitBreaker(failure_threshold=2))) == "closed"
    assert clock.run(main(CircuitBreaker(failure_threshold=2, slow_after=4))) == "open"
    assert clock.run(main(CircuitBreaker(failure_threshold=2, slow_after=6))) == "closed"


def test_a_slow_success_is_a_failure_if_that_is_wished(call, clock):
    """The result is the caller's nevertheless; just as long is not too long."""
    breaker = CircuitBreaker(failure_threshold=2, slow_after=4, clock=clock)

    def slow(seconds):
        clock.advance(seconds)
        return seconds

    assert call(breaker, lambda: slow(4)) == 4
    assert breaker.statistics().failures == 0
    assert [call(breaker, lambda: slow(5)) for _ in range(2)] == [5, 5]
    assert breaker.is_open


async def test_being_cancelled_is_no_failure_and_gives_the_place_back():
    """Of calls when it is closed, and of probes when it is half-open."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=0)
    entered = asyncio.Event()

    async def hang():
        entered.set()
        await asyncio.Event().wait()

    async def cancelled():
        entered.clear()
        task = asyncio.create_task(breaker.acall(hang))
        await entered.wait()
        held = breaker.statistics().probes
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return held

    assert await cancelled() == 0
    assert breaker.is_closed
    with pytest.raises(ConnectionError):
        await breaker.acall(down().acall)
    for _ in range(3):
        assert await cancelled() == 1
        assert breaker.is_half_open
        assert breaker.statistics().probes == 0
    assert await breaker.acall(Service().acall) == 1
    assert breaker.is_closed
    assert breaker.statistics().ignored_total == 4


def test_a_probe_that_is_thrown_away_gives_its_place_back():
    """A coroutine that nobody ends is closed when it is collected."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=0)
    with pytest.raises(ConnectionError):
        breaker.call(down())

    class Never:
        def __await__(self):
            yield

    async def hang():
        await Never()

    coroutine = breaker.acall(hang)
    coroutine.send(None)
    assert breaker.statistics().probes == 1
    del coroutine
    gc.collect()
    assert breaker.statistics().probes == 0
    assert breaker.is_half_open


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_end_of_the_program_is_no_failure(error):
    """It passes, and says nothing of the service."""
    breaker = CircuitBreaker(failure_threshold=1)
    with pytest.raises(error):
        breaker.call(Service(error()))
    assert breaker.is_closed


def unreadable():
    try:
        json.loads("<html>")
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("x"),
        OSError("x"),
        TimeoutError("x"),
        RuntimeError("x"),
        Exception("x"),
        CallTimeoutError(1),
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("x"),
        redis.exceptions.ConnectionError("x"),
        redis.exceptions.TimeoutError("x"),
        unreadable(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_what_speaks_against_the_service_is_a_failure(call, error):
    """Errors of clients need no builtin class above them; answers that cannot be read are some."""
    breaker = CircuitBreaker(failure_threshold=1)
    with pytest.raises(type(error)):
        call(breaker, Service(error))
    assert breaker.is_open


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        TypeError("x"),
        KeyError("x"),
        IndexError("x"),
        AttributeError("x"),
        NameError("x"),
        AssertionError("x"),
        CircuitBreakerOpen("inner", 5),
        RateLimitExceeded("inner", 1.0),
        BulkheadFull("inner", 1, 1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_mistakes_and_refusals_say_nothing(call, error, clock):
    """They do not open it; and a probe that ends so gives its place back."""
    breaker = CircuitBreaker(failure_threshold=1, clock=clock)
    for _ in range(3):
        with pytest.raises(type(error)):
            call(breaker, Service(error))
    assert breaker.is_closed

    failing(call, breaker)
    clock.advance(60)
    with pytest.raises(type(error)):
        call(breaker, Service(error))
    assert breaker.is_half_open
    assert call(breaker, Service()) == 1
    assert breaker.is_closed


def test_it_can_be_told_which_errors_are_failures(call, clock):
    """By a function that says yes, no (the service has answered), or nothing."""

    class Status(Exception):
        pass

    def by_status(error):
        if not isinstance(error, Status):
            return None
        return error.args[0] >= 500

    breaker = CircuitBreaker(failure_threshold=1, is_failure=by_status, clock=clock)
    for error in (Status(404), ConnectionError("x"), Status(500)):
        assert breaker.is_closed
        with pytest.raises(type(error)):
            call(breaker, Service(error))
    assert breaker.is_open
    clock.advance(60)
    with pytest.raises(Status):
        call(breaker, Service(Status(404)))
    assert breaker.is_closed


@pytest.mark.parametrize("classes", [ConnectionError, (ConnectionError, KeyError)])
def test_it_can_be_told_by_classes(call, clock, classes):
    """Other errors are answers, but mistakes still say nothing unless they are named."""
    breaker = CircuitBreaker(failure_threshold=1, is_failure=classes, clock=clock)
    with pytest.raises(PermissionError):
        call(breaker, Service(PermissionError("403")))
    assert breaker.is_closed
    assert breaker.statistics().successes_total == 1
    named = KeyError if isinstance(classes, tuple) else ConnectionResetError
    failing(call, breaker, error=named)
    assert breaker.is_open
    clock.advance(60)
    with pytest.raises(TypeError):
        call(breaker, Service(TypeError("x")))
    assert breaker.is_half_open


def test_a_result_may_be_a_failure(call):
    """Such as a response with status 503, which no client raises by itself."""
    breaker = CircuitBreaker(failure_threshold=2, is_bad_result=lambda status: status >= 500)
    for status in (404, 503, 503):
        assert breaker.is_closed
        assert call(breaker, partial(int, status)) == status
    assert breaker.is_open


def test_a_judgement_that_fails_is_logged_and_changes_no_call(call, caplog):
    """The error is the caller's and counts; the result is the caller's and is taken for good."""

    def broken(_):
        raise ZeroDivisionError

    breaker = CircuitBreaker(failure_threshold=1, is_failure=broken, is_bad_result=broken)
    assert call(breaker, Service()) == 1
    assert breaker.is_closed
    failing(call, breaker)
    assert breaker.is_open
    assert [record.getMessage() for record in caplog.records] == [
        "is_bad_result failed at a int; it is taken for good",
        "is_failure failed at a ConnectionError; it is taken for one",
    ]
    assert "down" not in caplog.text


def test_its_time_is_no_wall_clock(monkeypatch, call):
    """Setting the clock of the machine neither opens it early nor keeps it open."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=1000)
    failing(call, breaker)
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert breaker.is_open
    assert 999 < refused(call, breaker).retry_after <= 1000


def test_with_another_clock_no_time_has_passed(call):
    """As between a test in virtual time and what looks at the breaker after it."""
    breaker, clocks = CircuitBreaker(failure_threshold=1, reset_timeout=30), []
    for begin in (0, 1e9, 500):
        clocks.append(FakeClock())
        clocks[-1].advance(begin)
    with using_clock(clocks[0]):
        failing(call, breaker)
        clocks[0].advance(10)
    assert breaker.is_open
    assert breaker.statistics().retry_after == 20
    for clock, left in zip(clocks[1:], (20, 15), strict=True):
        with using_clock(clock):
            assert refused(call, breaker).retry_after == left
            clock.advance(5)
            assert refused(call, breaker).retry_after == left - 5
    assert breaker.statistics().opened_at == 485


# What it tells


def test_listeners_hear_each_change_once_and_in_order(call, clock):
    """Of all ways in which it may change; of nothing that changes nothing."""
    heard, late = [], []
    breaker = CircuitBreaker("venue", failure_threshold=1, clock=clock, on_event=heard.append)
    stop = breaker.listen(late.append)
    failing(call, breaker)
    refused(call, breaker)
    clock.advance(60)
    failing(call, breaker)
    clock.advance(61)
    assert breaker.state == "half_open"
    stop()
    stop()
    call(breaker, Service())
    breaker.force_open()
    breaker.force_open()
    breaker.reset()
    breaker.force_close()

    assert [tuple(event) for event in heard] == [
        ("venue", "closed", "open", "too many calls failed", 0),
        ("venue", "open", "half_open", "reset_timeout is over", 60),
        ("venue", "half_open", "open", "a probe failed", 60),
        ("venue", "open", "half_open", "reset_timeout is over", 121),
        ("venue", "half_open", "closed", "the probes succeeded", 121),
        ("venue", "closed", "forced_open", "force_open", 121),
        ("venue", "forced_open", "closed", "reset", 121),
    ]
    assert late == heard[:4]
    assert type(heard[0]) is BreakerEvent


def test_a_listener_may_do_with_it_what_it_likes(call, clock):
    """It may force the breaker, look at it, and fail; nothing of that reaches the call."""
    heard = []

    def stubborn(event):
        heard.append((event.before, event.after, breaker.state))
        if event.after == "open":
            breaker.force_close()

    def broken(event):
        raise RuntimeError("mine")

    breaker = CircuitBreaker(failure_threshold=1, clock=clock, on_event=[broken, stubborn])
    with pytest.raises(ConnectionError):
        call(breaker, down())
    assert heard == [("closed", "open", "open"), ("open", "closed", "closed")]


def test_a_listener_that_fails_is_logged(caplog):
    """With what it was told, and its own traceback."""

    def broken(event):
        raise RuntimeError("mine")

    CircuitBreaker("venue", on_event=broken).force_open()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "forced_open" in record.getMessage()
    assert "mine" in str(record.exc_info[1])


def test_statistics_tell_how_it_stands(call, clock):
    """Moments are those of its clock; all is counted since the last reset."""
    breaker = CircuitBreaker("venue", failure_threshold=3, slow_after=9, clock=clock)
    clock.advance(100)
    call(breaker, Service())
    failing(call, breaker, 2)
    with pytest.raises(ValueError, match="x"):
        call(breaker, Service(ValueError("x")))
    told = breaker.get_stats()
    config = told.pop("config")
    assert told == {
        "name": "venue",
        "state": "closed",
        "failure_count": 2,
        "success_count": 1,
        "recent_failures": 2,
        "total_failures": 2,
        "ignored_count": 1,
        "refused_count": 0,
        "opened_count": 0,
        "probes": 0,
        "last_failure_time": 100,
        "opened_at": None,
        "time_until_retry": None,
        "failure_threshold": 3,
    }
    assert config["window"] == 120.0
    assert config["slow_after"] == 9
    json.dumps(config)

    clock.advance(10)
    failing(call, breaker)
    clock.advance(10)
    refused(call, breaker)
    stands = breaker.statistics()
    assert (stands.state, stands.failures, stands.calls) == ("open", 3, 0)
    assert (stands.opened_at, stands.last_failure_time, stands.retry_after) == (110, 110, 50)
    assert (stands.refused_total, stands.opened_total) == (1, 1)

    breaker.reset()
    assert breaker.get_stats()["total_failures"] == 0
    assert breaker.get_stats()["last_failure_time"] is None
    assert repr(breaker) == "<CircuitBreaker 'venue' closed>"


def test_failures_leave_the_statistics_when_they_are_too_old(call, clock):
    """Even if no call comes any more."""
    breaker = CircuitBreaker(clock=clock)
    failing(call, breaker, 3)
    assert breaker.statistics().failures == 3
    clock.advance(120)
    assert breaker.statistics()[:3] == ("closed", 0, 0)


def watched(run):
    """Return the steps of *run*, each with its facts at the end."""
    steps = []

    @contextmanager
    def observer(step):
        try:
            yield
        finally:
            steps.append(step)

    with observing(observer):
        run()
    return [(step.kind, step.name, dict(step.facts)) for step in steps]


@pytest.mark.parametrize("how", ["call", "block"])
def test_whoever_watches_sees_each_call_with_its_facts(call, clock, how):
    """As a step of kind policy: the state before, what came of it, probes and refusals."""
    breaker = CircuitBreaker("venue", failure_threshold=1, clock=clock)
    way = call if how == "call" else call.block

    def run():
        way(breaker, Service())
        with pytest.raises(ConnectionError):
            way(breaker, down())
        with pytest.raises(CircuitBreakerOpen):
            way(breaker, Service())
        clock.advance(60)
        way(breaker, Service())

    common = {"flow.policy": "circuit_breaker"}
    facts = [
        {"flow.breaker.state": "closed", "flow.breaker.failures": 0},
        {
            "flow.breaker.state": "closed",
            "flow.breaker.failures": 0,
            "flow.breaker.became": "open",
        },
        {
            "flow.breaker.state": "open",
            "flow.breaker.failures": 1,
            "flow.breaker.refused": True,
        },
        {
            "flow.breaker.state": "half_open",
            "flow.breaker.failures": 1,
            "flow.breaker.probe": True,
            "flow.breaker.became": "closed",
        },
    ]
    assert watched(run) == [("policy", "venue", {**common, **fact}) for fact in facts]


def test_it_may_be_one_of_several(call, clock):
    """In `compose`, outside of what is guarded too."""
    outer = CircuitBreaker("outer", failure_threshold=1, clock=clock)
    inner = CircuitBreaker("inner", failure_threshold=1, clock=clock)
    both = compose(outer, inner)
    failing(call, both)
    assert (outer.state, inner.state) == ("open", "open")
    outer.reset()
    assert refused(call, both).name == "inner"
    assert outer.is_closed


# What is refused at once


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold"),
        ({"name": 7}, TypeError, "name"),
        ({"slow_after": 0}, ValueError, "slow_after"),
        ({"is_failure": 7}, TypeError, "is_failure"),
        ({"is_failure": KeyboardInterrupt}, TypeError, "KeyboardInterrupt"),
        ({"is_failure": (OSError, 7)}, TypeError, "is_failure"),
        ({"is_failure": Service().acall}, TypeError, "plain function"),
        ({"is_bad_result": Service().acall}, TypeError, "plain function"),
        ({"is_bad_result": 7}, TypeError, "is_bad_result"),
        ({"on_event": 7}, TypeError, "listener"),
        ({"on_event": [Service().acall]}, TypeError, "listener"),
        ({"shared": object()}, ValueError, "name"),
        ({"name": "x", "shared": object()}, TypeError, "shared must be a RedisBreakerState"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, error, text):
    """When the breaker is made, by name."""
    with pytest.raises(error, match=text):
        CircuitBreaker(**options)


def test_the_default_judgement_can_be_asked():
    """For those who want most of it."""
    assert is_failure(OSError()) is True
    assert is_failure(ValueError()) is None


async def test_refresh_is_nothing_where_nothing_is_shared():
    """It tells the state."""
    assert await CircuitBreaker().refresh() == "closed"
