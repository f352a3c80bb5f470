"""Breakers, retries and timeouts by the names of the guide, and what they must not do."""

from __future__ import annotations

import asyncio
import builtins
import pickle
import re
from typing import Any

import aiohttp
import asyncpg
import httpx
import pytest
import redis.exceptions

from pocketflow_async.infrastructure import resilience
from pocketflow_async.infrastructure.resilience import (
    CircuitBreaker,
    CircuitBreakerOpen,
    CircuitBreakerState,
    RetryConfig,
    RetryExhausted,
    TimeoutContext,
    is_transient,
    retry_async,
    with_retry,
    with_timeout,
)
from pocketflow_async.resilience import compose
from tests.engine.engine_kit import FakeClock


class Venue:
    """Fails as it is told, and counts how often it was asked."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def price(self, symbol: str = "BTC") -> str:
        self.calls += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return symbol


class Dead(Venue):
    """Never answers well."""

    async def price(self, symbol: str = "BTC") -> str:
        self.calls += 1
        raise ConnectionError("nobody there")


# --- timeouts -------------------------------------------------------------------------------------


async def test_timeouts_are_the_builtin_ones():
    """`TimeoutError` of the guide is a builtin TimeoutError, with what was slow and how long."""
    with pytest.raises(builtins.TimeoutError) as caught:
        async with with_timeout(0.01, "price of BTC"):
            await asyncio.Event().wait()

    assert isinstance(caught.value, resilience.TimeoutError)
    assert (caught.value.seconds, caught.value.operation) == (0.01, "price of BTC")


async def test_timeouts_are_tried_again_and_counted():
    """A hanging service is asked as often as may be, and opens its breaker."""
    calls = 0
    breaker = CircuitBreaker("venue", failure_threshold=3)

    @with_timeout(0.01)
    async def hang() -> None:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()

    async def guarded() -> Any:
        return await breaker.call(hang)

    with pytest.raises(RetryExhausted) as caught:
        await retry_async(guarded, config=RetryConfig(3), clock=FakeClock())

    assert calls == 3
    assert isinstance(caught.value.last_exception, TimeoutError)
    assert breaker.is_open


async def test_timeout_block_stops_its_body():
    """`TimeoutContext(0.05)` lets no longer body finish."""
    finished = False

    with pytest.raises(TimeoutError):
        async with TimeoutContext(0.05):
            await asyncio.sleep(30)
            finished = True

    assert not finished


# --- retries --------------------------------------------------------------------------------------


def lost(cls: type[Exception]) -> Exception:
    """Return an error of a library, however it is made."""
    error = cls.__new__(cls)
    Exception.__init__(error, "gone")
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        httpx.RemoteProtocolError("x"),
        httpx.HTTPStatusError("x", request=None, response=httpx.Response(503)),
        aiohttp.ServerDisconnectedError(),
        lost(aiohttp.ClientOSError),
        redis.exceptions.ConnectionError("x"),
        redis.exceptions.TimeoutError("x"),
        redis.exceptions.BusyLoadingError("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
        asyncpg.CannotConnectNowError("x"),
    ],
    ids=lambda error: f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}",
)
async def test_lost_connections_of_any_library_are_tried_again(error):
    """What is gone at the next try is asked for again, whoever's class the error is."""
    venue = Venue(error)

    assert is_transient(error)
    assert await retry_async(venue.price, clock=FakeClock()) == "BTC"
    assert venue.calls == 2


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        PermissionError(),
        httpx.UnsupportedProtocol("x"),
        httpx.HTTPStatusError("x", request=None, response=httpx.Response(404)),
        redis.exceptions.ResponseError("x"),
        asyncpg.UniqueViolationError("x"),
        CircuitBreakerOpen("venue", 5),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_would_fail_again_is_not_tried_again(error):
    """Mistakes, refusals and open breakers come as they are, after one call."""
    venue = Venue(error, error)

    with pytest.raises(type(error)) as caught:
        await retry_async(venue.price, clock=FakeClock())

    assert caught.value is error
    assert venue.calls == 1


async def test_waits_are_those_that_are_written_down():
    """From `min_wait`, doubled, up to `max_wait`; with jitter drawn from between 0 and that."""
    for jitter in (False, True):
        clock = FakeClock(luck=0.5)
        config = RetryConfig(5, min_wait=1, max_wait=5, jitter=jitter)
        with pytest.raises(RetryExhausted):
            await retry_async(Dead().price, config=config, clock=clock)
        assert clock.waits == ([0.5, 1, 2, 2.5] if jitter else [1, 2, 4, 5])


async def test_exhausted_tries_tell_of_the_last():
    """How many there were, and what the last one raised, which is also the cause."""
    venue = Dead()

    with pytest.raises(RetryExhausted, match="2 tries have failed; the last with Conn") as caught:
        await retry_async(venue.price, "ETH", config=RetryConfig(2), clock=FakeClock())

    assert (caught.value.attempts, venue.calls) == (2, 2)
    assert caught.value.__cause__ is caught.value.last_exception
    assert pickle.loads(pickle.dumps(caught.value)).attempts == 2


async def test_what_is_looked_for_between_tries_ends_them():
    """An error of `on_retry`, such as a halt, passes as it is, and nothing is tried after it."""
    venue = Dead()

    async def halted(_: Any) -> None:
        raise ConnectionError("halted")

    with pytest.raises(ConnectionError, match="halted"):
        await retry_async(venue.price, clock=FakeClock(), on_retry=halted)

    assert venue.calls == 1


async def test_cancelled_call_is_not_tried_again():
    """Who cancels gets their way."""
    started = asyncio.Event()
    calls = 0

    async def hang() -> None:
        nonlocal calls
        calls += 1
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(retry_async(hang, clock=FakeClock()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert calls == 1


async def test_decorator_has_all_forms():
    """With a config, with options, and bare."""
    for decorate in (
        with_retry(RetryConfig(2), clock=FakeClock()),
        with_retry(max_attempts=2, clock=FakeClock()),
        lambda function: with_retry(function, clock=FakeClock()),
    ):
        venue = Venue(ConnectionError())

        @decorate
        async def price(symbol: str, own: Venue = venue) -> str:
            """Return it."""
            return await own.price(symbol)

        assert await price("ETH") == "ETH"
        assert (venue.calls, price.__name__, price.__doc__) == (2, "price", "Return it.")


def test_decorator_refuses_what_it_cannot_do():
    """No plain function, no options twice, no unknown ones."""
    with pytest.raises(TypeError, match="async def"):
        with_retry(max_attempts=2)(len)
    with pytest.raises(TypeError, match="or its options"):
        with_retry(RetryConfig(), max_attempts=2)
    with pytest.raises(TypeError, match="tries"):
        with_retry(tries=2)


# --- breakers -------------------------------------------------------------------------------------


async def test_breaker_has_the_face_of_the_guide():
    """States, questions and statistics by the names of the guide."""
    clock = FakeClock()
    breaker = CircuitBreaker("venue", 2, 30.0, success_threshold=1, clock=clock)
    venue = Venue(ConnectionError(), ConnectionError())
    assert (breaker.state, breaker.is_closed) == (CircuitBreakerState.CLOSED, True)

    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.call(venue.price, "BTC")
    with pytest.raises(CircuitBreakerOpen) as caught:
        await breaker.call(venue.price, "BTC")
    assert (caught.value.name, caught.value.failures, caught.value.state) == ("venue", 2, "open")
    stats = breaker.get_stats()
    assert breaker.is_open
    assert (stats["name"], stats["state"], stats["failure_count"]) == ("venue", "open", 2)
    assert (stats["recent_failures"], stats["success_count"]) == (2, 0)
    assert stats["failure_threshold"] == stats["config"]["failure_threshold"] == 2
    assert stats["config"]["timeout_seconds"] == 30
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stats["opened_at"])

    clock.now += 30
    assert (breaker.state, breaker.is_half_open) == ("half_open", True)
    assert await breaker.call(venue.price, "ETH") == "ETH"
    assert breaker.state is CircuitBreakerState.CLOSED
    assert venue.calls == 3


async def test_breaker_can_be_forced():
    """Open until it is closed by hand, whatever the time."""
    clock = FakeClock()
    breaker = CircuitBreaker("venue", clock=clock)

    await breaker.force_open()
    clock.now += 1e6
    assert (breaker.state, breaker.is_open) == ("open", True)
    with pytest.raises(CircuitBreakerOpen):
        await breaker.call(Venue().price)
    await breaker.force_close()
    assert await breaker.call(Venue().price) == "BTC"
    await breaker.reset()
    assert breaker.get_stats()["success_count"] == 0


async def test_half_open_lets_one_of_fifty_through():
    """A venue that comes back is not run over."""
    clock = FakeClock()
    breaker = CircuitBreaker("venue", 1, 10.0, clock=clock)
    with pytest.raises(ConnectionError):
        await breaker.call(Dead().price)
    clock.now += 10
    at_work = 0
    go = asyncio.Event()

    async def probe() -> None:
        nonlocal at_work
        at_work += 1
        await go.wait()

    tasks = [asyncio.create_task(breaker.call(probe)) for _ in range(50)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert at_work == 1
    go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(isinstance(one, CircuitBreakerOpen) for one in found) == 49


async def test_mistakes_open_no_breaker():
    """A ValueError says nothing of the venue, and neither does a cancelled call."""
    breaker = CircuitBreaker("venue", 1)
    with pytest.raises(ValueError, match="x"):
        await breaker.call(Venue(ValueError("x")).price)
    task = asyncio.create_task(breaker.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert breaker.is_closed


async def test_wall_clock_moves_no_breaker(monkeypatch):
    """Setting the time of the machine back or forth neither opens nor closes one."""
    breaker = CircuitBreaker("venue", 1, 60.0, clock=FakeClock())
    with pytest.raises(ConnectionError):
        await breaker.call(Dead().price)

    for wall in (0.0, 4e9):
        monkeypatch.setattr("time.time", lambda wall=wall: wall)
        assert breaker.is_open


async def test_plain_functions_and_policies_go_with_it():
    """`call` takes what is not asynchronous; `policy` stands among other policies."""
    breaker = CircuitBreaker("venue", 1)

    assert await breaker.call(len, [1, 2]) == 2
    assert await breaker(Venue().price)("ETH") == "ETH"
    with pytest.raises(RetryExhausted):
        await retry_async(
            lambda: compose(breaker.policy).acall(Dead().price), config=RetryConfig(1)
        )
    assert breaker.is_open
