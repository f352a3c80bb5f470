"""Redis that is not there: what is said about it, and what it costs those who can do without."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from contextlib import asynccontextmanager

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from pocketflow_async.clock import Clock
from pocketflow_async.resilience import (
    CallTimeoutError,
    CircuitBreaker,
    RedisBreakerState,
    RedisRateLimiter,
    RedisUnreachableError,
    is_transient,
)
from pocketflow_async.resilience.redis_away import Away, lost_connection, trial_seconds, words
from tests.resilience.breaker_kit import Service
from tests.service_kit import free_port


class Ahead(Clock):
    """A clock that is ahead by as much as a test says."""

    offset = 0.0

    def monotonic(self):
        return super().monotonic() + self.offset


@pytest.fixture
async def nobody():
    """A client, with its own tries as it is usual, of a port that nobody listens on."""
    async with redis.asyncio.from_url(f"redis://me:hidden@127.0.0.1:{free_port()}") as client:
        yield client


@asynccontextmanager
async def silent():
    """Yield a client of a server that takes connections and says nothing."""

    async def serve(reader, writer):
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        async with redis.asyncio.Redis(port=port) as client:
            yield client
    finally:
        listener.close()
        await listener.wait_closed()


def seconds_since(began):
    return time.monotonic() - began


async def test_a_refused_connection_is_said_to_be_one(nobody):
    """Also when the client itself tries again, so that the time limit comes first."""
    limiter = RedisRateLimiter(nobody, 3, 60.0, name="mail", timeout=0.5)

    with pytest.raises(RedisUnreachableError, match="'mail' cannot ask Redis") as caught:
        await limiter.take()

    error = caught.value
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, TimeoutError)
    assert "Connect call failed" in str(error)
    assert error.name == "mail"
    assert isinstance(error.__cause__, (redis.ConnectionError, ConnectionError))
    assert is_transient(error)
    assert "hidden" not in str(error)


async def test_it_is_said_too_when_all_is_forgotten(nobody):
    """`reset` is a question like the others."""
    with pytest.raises(RedisUnreachableError):
        await RedisRateLimiter(nobody, 3, 60.0, timeout=0.5).reset()


@pytest.mark.parametrize("tries", [0, 3])
async def test_a_wrong_password_is_said_to_be_one(own_redis, tries):
    """It is not transient, and the password is not in the text."""
    url = own_redis.url.replace("redis://", "redis://somebody:s3cret@")
    retry = redis.asyncio.retry.Retry(NoBackoff(), tries)
    async with redis.asyncio.from_url(url, retry=retry) as client:
        with pytest.raises(RedisUnreachableError, match="AuthenticationError") as caught:
            await RedisRateLimiter(client, 3, 60.0).take()
    assert isinstance(caught.value.__cause__, redis.AuthenticationError)
    assert not is_transient(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_wrong_password_with_the_clients_own_tries(own_redis):
    """The time limit comes first; what the client has seen is said all the same."""
    url = own_redis.url.replace("redis://", "redis://somebody:s3cret@")
    async with redis.asyncio.from_url(url) as client:
        with pytest.raises(RedisUnreachableError, match="AuthenticationError"):
            await RedisRateLimiter(client, 3, 60.0, timeout=0.5).take()


def test_a_client_that_blocks_says_the_same():
    """Its own tries have come to an end then."""
    client = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 1))
    with client, pytest.raises(RedisUnreachableError, match="cannot ask Redis"):
        RedisRateLimiter(client, 3, 60.0).take_blocking()


async def test_a_server_that_says_nothing_is_a_timeout():
    """There was no error of a connection, so none is made up."""
    async with silent() as client:
        with pytest.raises(CallTimeoutError, match="an answer of Redis took longer"):
            await RedisRateLimiter(client, 3, 60.0, timeout=0.1).take()


async def test_an_error_of_another_call_is_not_taken_for_the_cause():
    """The caller may be dealing with a lost connection of its own."""
    async with silent() as client:
        limiter = RedisRateLimiter(client, 3, 60.0, timeout=0.1)
        try:
            raise ConnectionResetError("another one")
        except ConnectionResetError:
            with pytest.raises(CallTimeoutError):
                await limiter.take()


async def test_who_can_do_without_is_not_stalled_again_and_again(nobody):
    """One call finds out; for five seconds none asks, and then one does for a short time."""
    clock = Ahead()
    limiter = RedisRateLimiter(nobody, 1000, 60.0, when_away="local", clock=clock)

    await limiter.take()
    began = time.monotonic()
    for _ in range(4):
        clock.offset += 1.2
        await limiter.take()
    assert seconds_since(began) < 0.1
    clock.offset += 1.2
    began = time.monotonic()
    await asyncio.gather(*(limiter.take() for _ in range(50)))
    assert seconds_since(began) < 0.6  # not the second that an answer may take
    began = time.monotonic()
    await limiter.take()
    assert seconds_since(began) < 0.1


async def test_while_one_tries_the_others_go_on():
    """They do not wait for it."""
    clock = Ahead()
    async with silent() as client:
        options = {"timeout": 0.5, "when_away": "local", "clock": clock}
        limiter = RedisRateLimiter(client, 1000, 60.0, **options)
        await limiter.take()
        clock.offset += 6
        trying = asyncio.create_task(limiter.take())
        await asyncio.sleep(0)
        await asyncio.wait_for(limiter.take(), 5)
        assert not trying.done()
        await trying


async def test_redis_that_is_back_is_asked_again_by_all(own_redis):
    """The trial is answered, and those after it have their full time."""
    clock = Ahead()
    async with redis.asyncio.from_url(own_redis.url) as client:
        limiter = RedisRateLimiter(client, 10, 60.0, when_away="local", clock=clock)
        limiter._away.begins(clock.monotonic())
        clock.offset += 6
        await limiter.take()
        assert limiter._away.seconds_to_ask(clock.monotonic(), 1.0) == 1.0
        assert await client.exists("pocketflow:limiter:{limiter}:calls")


async def test_a_shared_breaker_tries_for_a_short_time(caplog, nobody):
    """One call finds out and says why; after the pause one tries, for a fifth of the time."""
    clock = Ahead()
    shared = RedisBreakerState(nobody, clock=clock)
    breaker = CircuitBreaker("venue", shared=shared)

    await breaker.acall(Service().acall)
    began = time.monotonic()
    await breaker.acall(Service().acall)
    assert seconds_since(began) < 0.1
    clock.offset += 6
    began = time.monotonic()
    await asyncio.gather(*(breaker.acall(Service().acall) for _ in range(50)))
    assert seconds_since(began) < 0.6
    assert not shared.is_there
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("Redis does not answer (ConnectionError: Connection refused): circuit")
    assert "hidden" not in caplog.text


async def test_the_log_of_a_limiter_says_why(caplog, nobody):
    """In the words of the system, without the address."""
    limiter = RedisRateLimiter(nobody, 3, 60.0, timeout=0.5, when_away="local")
    await limiter.take()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "cannot ask Redis (ConnectionError: Connection refused): this process" in said
    assert "127.0.0.1" not in said


def test_the_error_can_be_sent_to_another_process():
    """Its words and its name come along."""
    error = RedisUnreachableError("rate limiter", "mail", OSError("gone"))

    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(again), again.name) == (str(error), "mail")


# what decides


def test_only_a_time_limit_looks_for_what_was_before():
    """What the server says is what it says, whatever was handled meanwhile."""
    lost = redis.ConnectionError("gone")
    answered = redis.ResponseError("no")
    answered.__context__ = lost
    late = TimeoutError()
    late.__cause__ = asyncio.CancelledError()
    late.__cause__.__context__ = lost

    assert lost_connection(lost) is lost
    assert lost_connection(answered) is None
    assert lost_connection(late) is lost
    assert lost_connection(TimeoutError()) is None
    assert lost_connection(redis.TimeoutError("slow")) is None
    assert lost_connection(ValueError()) is None


def test_words_have_no_address():
    """The number of the system's error says it, or the server's own words about a login."""
    under = ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 6379)")
    lost = redis.ConnectionError("Error 111 connecting to 10.0.0.1:6379.")
    lost.__context__ = under

    assert words(lost) == "ConnectionError: Connection refused"
    assert words(redis.AuthenticationError("WRONGPASS no")) == "AuthenticationError: WRONGPASS no"
    assert words(redis.ConnectionError("at 10.0.0.1")) == "ConnectionError"
    assert words(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(0.05, 0.05), (0.2, 0.1), (1.0, 0.2), (5.0, 1.0), (30.0, 6.0)]
)
def test_a_trial_has_a_fifth_of_the_time(timeout, seconds):
    """But a tenth of a second, if there is so much."""
    assert trial_seconds(timeout) == pytest.approx(seconds)


def test_one_at_a_time_tries_after_the_pause():
    """The others need not ask until that has come to an end."""
    away = Away(5.0)

    assert away.seconds_to_ask(0.0, 1.0) == 1.0
    assert away.begins(0.0) is True
    assert away.begins(0.0) is False
    assert away.seconds_to_ask(4.9, 1.0) is None
    assert away.seconds_to_ask(5.0, 1.0) == pytest.approx(0.2)
    assert away.seconds_to_ask(5.1, 1.0) is None
    assert away.is_now
    assert away.ends() is True
    assert away.ends() is False
    assert away.seconds_to_ask(5.2, 1.0) == 1.0


def test_a_clock_that_was_set_back_does_not_make_the_pause_longer():
    """One that is behind by more than the pause is another clock."""
    away = Away(5.0)
    away.begins(1000.0)

    assert away.seconds_to_ask(999.0, 1.0) == pytest.approx(0.2)
