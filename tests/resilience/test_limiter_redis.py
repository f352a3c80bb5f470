"""The limit that processes share through Redis, against real servers."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.clock import Clock
from pocketflow_async.resilience import (
    RateLimitExceeded,
    RedisRateLimiter,
    RedisUnreachableError,
    Window,
)
from pocketflow_async.resilience.redis_window import SCRIPT, answer, micros
from tests.resilience import redis_limiter_kit
from tests.resilience.redis_limiter_kit import fullest, has_loaded, limiter_at, noting, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def client(redis_url):
    async with redis.asyncio.from_url(redis_url) as client:
        yield client


# what the script decides

TOLD_TIME = SCRIPT.replace("redis.call('TIME')", "{0, ARGV[9]}")
"""The same script, at a time that it is told."""


class Script:
    """The script at a time that it is told, for a window of *limit* thousand microseconds."""

    def __init__(self, url, limit, burst):
        self.client = redis.Redis.from_url(url)
        key = f"{{pf_test_script:{random.getrandbits(64)}}}"
        self.keys = [f"{key}:{name}" for name in ("calls", "tickets", "leases")]
        self.figures = (limit, 1000 * limit, burst, 1000 * burst)

    def ask(self, now, ticket="", patience=0):
        times = (ticket, patience, 10**6, 10**6, now)
        return answer(self.client.eval(TOLD_TIME, 3, *self.keys, *self.figures, *times))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.delete(*self.keys)
        self.client.close()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.integers(0, 1500), max_size=40))
def test_the_script_decides_like_the_window(redis_url, limit, burst, gaps):
    """Call by call it says what the pure window says: whether, what room, and how long until."""
    burst, now = min(limit, burst), 10**9
    window = Window(limit, 1000 * limit, burst)
    with Script(redis_url, limit, burst) as script:
        for gap in gaps:
            now += gap
            wait, admitted = window.wait(now), window.admit(now)
            said = script.ask(now)
            assert said.state == (admitted is not None)
            assert micros(said.wait) == wait
            if admitted is not None:
                assert (said.room, said.calls) == admitted


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 14))
def test_the_script_reckons_with_those_who_wait(redis_url, limit, taken, waiting):
    """Each that joins the queue is told, up to a second, what the pure window says."""
    window, now = Window(limit, 1000 * limit), 10**9
    with Script(redis_url, limit, limit) as script:
        for place in range(min(taken, limit)):
            assert script.ask(now + place).state == 1
            assert window.take(now + place)
        while script.ask(now + taken).state == 1:
            assert window.take(now + taken)
        for place in range(waiting):
            said = script.ask(now + taken, f"ticket {place}", -1)
            assert micros(said.wait) == min(10**6, window.wait(now + taken, place))
        assert script.client.zcard(script.keys[1]) == waiting


def test_a_server_whose_clock_is_set_back_holds_the_limit(redis_url):
    """What is noted moves with it: the waits are as they were, and those who wait stay."""
    with Script(redis_url, 3, 3) as script:
        hour, now = 3600 * 10**6, 10**15
        assert [script.ask(now + each).state for each in (0, 500, 1000)] == [1, 1, 1]
        assert script.ask(now + 1000, "waits", -1).wait == 0.002
        now -= hour
        assert script.ask(now + 1000).wait == 0.0025  # behind the one that waits
        assert script.ask(now + 1000, "waits", -1).wait == 0.002
        assert script.ask(now + 3000, "waits", -1).state == 1
        assert script.ask(now + 3499).state == 0
        assert script.ask(now + 3500).state == 1


def test_one_that_does_not_ask_again_loses_its_place(redis_url):
    """A second after it should have; until then a place is kept for it."""
    with Script(redis_url, 1, 1) as script:
        now = 10**15
        assert script.ask(now).state == 1
        assert script.ask(now, "dead", -1).wait == 0.001
        assert script.ask(now + 10**6).state == 0
        assert script.ask(now + 10**6 + 1000).state == 1


# over processes


def test_processes_together_are_never_over(redis_url, redis_prefix):
    """Four processes with 25 callers each: full windows, none over, all calls through."""
    script = Path(redis_limiter_kit.__file__)
    command = [sys.executable, "-P", str(script), redis_url, redis_prefix, "20", "0.2", "25", "2"]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    moments = [each for process in processes for each in json.loads(process.communicate()[0])]

    assert len(moments) == 200
    assert fullest(moments, 200_000) == 20
    assert max(moments) - min(moments) < 9 * 200_000 * 2  # 9 windows, were nobody ever late
    assert [process.returncode for process in processes] == [0] * 4


def test_a_process_that_is_killed_holds_nobody_up_for_long(redis_url, redis_prefix):
    """Its places in the queue lapse, and the others go on."""
    script = Path(redis_limiter_kit.__file__)
    command = [sys.executable, "-P", str(script), redis_url, redis_prefix, "1", "0.3", "10", "9"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    process.stdout.readline()
    process.stdin.write("go\n")
    process.stdin.flush()

    async def main():
        async with limiter_at(redis_url, redis_prefix, 1, 0.3) as limiter:
            tickets = limiter._asking._keys(None)[1]
            client = limiter._asking._client
            await until(lambda: has(client, tickets, 9))
            process.kill()
            process.communicate()
            async with asyncio.timeout(10):
                return (await limiter.take()).waited

    assert asyncio.run(main()) < 4


async def has(client, tickets, count):
    return await client.zcard(tickets) >= count


async def test_callers_pass_in_the_order_in_which_they_came(redis_url, redis_prefix):
    """Over two clients that know nothing of each other; none is overtaken by a newcomer."""
    passed = []
    async with (
        limiter_at(redis_url, redis_prefix, 2, 0.1) as one,
        limiter_at(redis_url, redis_prefix, 2, 0.1) as other,
    ):
        tickets, client = one._asking._keys(None)[1], one._asking._client

        async def take(number):
            await (one, other)[number % 2].take()
            passed.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(take(number))
                await until(lambda number=number: has(client, tickets, number + 1 - len(passed)))

    assert [number // 2 for number in passed] == [number // 2 for number in range(12)]
    assert one.waiting == other.waiting == 0
    assert one.statistics().admitted == 6


async def test_each_key_has_its_own_limit_and_keys_lapse(client, redis_prefix):
    """Keys come from the arguments; whatever is left in Redis has an end."""
    limiter = RedisRateLimiter(client, 1, 60, prefix=redis_prefix, key="{user}", wait=False)

    @limiter
    async def mail(user):
        return user

    assert [await mail("ann"), await mail("bob")] == ["ann", "bob"]
    with pytest.raises(RateLimitExceeded, match=r"try again in (59\.|60)"):
        await mail("ann")
    assert await limiter.try_take("ann") is None
    async with limiter.of("cy") as admission:
        assert admission == (0, 1, 0)
    keys = [key async for key in client.scan_iter(f"{redis_prefix}*")]
    assert len(keys) == 3
    for key in keys:
        assert 60_000 < await client.pttl(key) <= 70_001
    await limiter.reset("ann")
    assert await mail("ann") == "ann"
    assert limiter.statistics() == (4, 2, 0, 0.0, 0)


async def test_it_refuses_what_could_not_pass_in_time(client, redis_prefix):
    """At once, and without a place in the queue; those who can pass in time wait."""
    limiter = RedisRateLimiter(client, 1, 0.2, prefix=redis_prefix, max_wait=0.3)
    await limiter.take()
    waiting = asyncio.create_task(limiter.take())
    await until(lambda: limiter.waiting)
    with pytest.raises(RateLimitExceeded) as refused:
        await limiter.take()
    assert 0.3 < refused.value.retry_after <= 0.4
    assert (await waiting).waited == pytest.approx(0.2, abs=0.1)


async def test_a_burst_is_held_too(client, redis_prefix):
    """At most two at once of eight in 0.4 seconds: two in any tenth of a second."""
    limiter = RedisRateLimiter(client, 8, 0.4, burst=2, prefix=redis_prefix)
    moments = noting(limiter)
    await asyncio.gather(*(limiter.take() for _ in range(20)))
    assert fullest(moments, 100_000) == 2
    assert fullest(moments, 400_000) == 8


# cancelled


async def test_cancelled_waiters_use_nothing_up(client, redis_prefix):
    """They leave the queue, and those behind them pass as early as if they had not been there."""
    limiter = RedisRateLimiter(client, 1, 0.25, prefix=redis_prefix)
    await limiter.take()
    waiting = [asyncio.create_task(limiter.take()) for _ in range(50)]
    await until(lambda: limiter.waiting >= 50)
    last = asyncio.create_task(limiter.take())
    await until(lambda: limiter.waiting >= 51)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert (await last).waited < 1.5  # it looks again after a second, and would have waited 12
    assert limiter.waiting == 0
    assert await client.exists(*limiter._asking._keys(None)[1:]) == 0
    assert len(asyncio.all_tasks()) == 1


async def test_what_a_cancelled_caller_was_just_given_is_given_back(own_redis):
    """The answer to one that is cancelled while it is asking is waited for, and undone."""
    async with limiter_at(own_redis.url, "given", 1, 60.0) as limiter:
        client = limiter._asking._client
        await limiter.take()
        await limiter.reset()
        await client.execute_command("CLIENT", "PAUSE", "300")
        asking = asyncio.create_task(limiter.take())
        await asyncio.sleep(0.05)  # it is on its way by now
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await client.llen(limiter._asking._keys(None)[0]) == 0
        assert await limiter.try_take() is not None
        assert await limiter.try_take() is None


# faults


async def test_a_server_that_has_forgotten_the_script_gets_it_again(own_redis):
    """After SCRIPT FLUSH the count goes on as if nothing had been."""
    async with limiter_at(own_redis.url, "flushed", 3, 60.0, wait=False) as limiter:
        for left in (2, 1, 0):
            await limiter._asking._client.script_flush()
            assert (await limiter.take()).tokens_remaining == left
        with pytest.raises(RateLimitExceeded):
            await limiter.take()


async def test_redis_stopped_and_started_again(own_redis):
    """Who waits is told that Redis is away, so is who comes; after a restart the count stands."""
    async with limiter_at(own_redis.url, "stopped", 2, 60.0) as limiter:
        await limiter.take()
        await limiter.take()
        waiting = asyncio.create_task(limiter.take())
        await until(lambda: limiter.waiting)
        own_redis.kill()
        with pytest.raises(RedisUnreachableError):
            await waiting
        with pytest.raises(RedisUnreachableError):
            await limiter.take()
        assert limiter.waiting == 0
        own_redis.start()
        await until(lambda: has_loaded(limiter._asking._client))
        assert await limiter.try_take() is None
        await limiter.reset()
        assert await limiter.try_take() is not None


async def test_without_redis_each_process_may_hold_to_the_limit_by_itself(own_redis, caplog):
    """With what it has seen so far; Redis is tried again after a while, and is asked again then."""
    clock = Jumping()
    caplog.set_level("INFO", "pocketflow_async.resilience")
    options = {"when_away": "local", "retry_after": 5.0, "clock": clock, "wait": False}
    async with limiter_at(own_redis.url, "alone", 3, 60.0, **options) as limiter:
        await limiter.take()
        own_redis.kill()
        assert await limiter.take() == (1, 2, 0)
        assert await limiter.take() == (0, 3, 0)
        assert await limiter.try_take() is None
        with pytest.raises(RateLimitExceeded):
            await limiter.take()
        own_redis.start()
        await until(lambda: has_loaded(limiter._asking._client))
        with pytest.raises(RateLimitExceeded):
            await limiter.take()  # not asked yet
        clock.offset += 5.0
        assert await limiter.take() == (1, 2, 0)  # that of before and this one
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("rate limiter 'limiter' cannot ask Redis (ConnectionError")
    assert said[0].endswith("): this process holds to the limit by itself")
    assert said[1] == "rate limiter 'limiter' asks Redis again"
    assert limiter.statistics()[:3] == (4, 3, 0)


async def test_who_waits_goes_on_alone_when_redis_goes_away(own_redis):
    """It is let through by the limit of its own process."""
    async with limiter_at(own_redis.url, "alone", 1, 0.4, when_away="local") as limiter:
        await limiter.take()
        waiting = [asyncio.create_task(limiter.take()) for _ in range(2)]
        await until(lambda: limiter.waiting >= 2)
        own_redis.kill()
        async with asyncio.timeout(5):
            await asyncio.gather(*waiting)
    assert limiter.waiting == 0


async def test_a_server_that_does_not_answer_is_not_waited_for(own_redis):
    """After the timeout it is an error, or each process is alone."""
    async with (
        limiter_at(own_redis.url, "slow", 3, 60.0, timeout=0.1) as limiter,
        limiter_at(own_redis.url, "slow", 3, 60.0, timeout=0.1, when_away="local") as alone,
    ):
        await limiter.take()
        await limiter._asking._client.execute_command("CLIENT", "PAUSE", "600")
        with pytest.raises(TimeoutError, match=r"an answer of Redis took longer than 0\.1 s"):
            await limiter.take()
        assert await alone.take() == (2, 1, 0)


class Jumping(Clock):
    """A clock that may be set, and that does not sleep as long as it should."""

    offset = 0.0
    share = 1.0

    def monotonic(self):
        return super().monotonic() + self.offset

    async def asleep(self, seconds):
        self.offset += random.uniform(-100, 100)
        await super().asleep(seconds * random.uniform(0, self.share))


async def test_a_local_clock_that_jumps_changes_nothing(redis_url, redis_prefix):
    """Callers whose clocks go back and forth and wake them too early are never over."""
    async with (
        limiter_at(redis_url, redis_prefix, 5, 0.1, clock=Jumping()) as one,
        limiter_at(redis_url, redis_prefix, 5, 0.1, clock=Jumping()) as other,
    ):
        moments = noting(one), noting(other)
        await asyncio.gather(*(limiter.take() for limiter in (one, other) for _ in range(20)))
        together = [*moments[0], *moments[1]]
    assert len(together) == 40
    assert fullest(together, 100_000) == 5


# by a synchronous client


def test_threads_share_it_by_a_synchronous_client(redis_url, redis_prefix):
    """They block, are never over, and the thread of a decorated function waits too."""
    moments, lock = [], threading.Lock()
    with redis.Redis.from_url(redis_url) as client:
        limiter = RedisRateLimiter(client, 5, 0.1, prefix=redis_prefix)
        ask = limiter._asking.ask_blocking

        def noted(*arguments):
            said = ask(*arguments)
            with lock:
                moments.extend([said.at] * (said.state == 1))
            return said

        limiter._asking.ask_blocking = noted

        @limiter
        def work():
            return 1

        threads = [threading.Thread(target=lambda: [work() for _ in range(4)]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(moments) == 24
        assert fullest(moments, 100_000) == 5
        limiter.reset_blocking()
        assert limiter.try_take_blocking() == (4, 1, 0)
        with RedisRateLimiter(client, 5, 0.1, prefix=redis_prefix, wait=False) as admission:
            assert admission.requests_in_window == 2


async def test_tasks_may_await_it_with_a_synchronous_client(redis_url, redis_prefix):
    """Redis is asked in a thread; the loop goes on, and a cancelled one gives back."""
    with redis.Redis.from_url(redis_url) as client:
        limiter = RedisRateLimiter(client, 1, 0.2, prefix=redis_prefix)
        assert (await limiter.take()).waited == 0
        cancelled = asyncio.create_task(limiter.take())
        await until(lambda: limiter.waiting)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert client.exists(limiter._asking._keys(None)[1]) == 0
        assert 0 < (await limiter.take()).waited < 1.5
        await limiter.reset()
        assert await limiter.try_take() == (0, 1, 0)


def test_an_asynchronous_client_blocks_no_thread(redis_url):
    """Used without await, the limiter says what to do."""
    limiter = RedisRateLimiter(redis.asyncio.from_url(redis_url), 1)
    for use in (limiter.take_blocking, limiter.reset_blocking, lambda: limiter.call(print)):
        with pytest.raises(TypeError, match=r"await it, or make one with a redis\.Redis"):
            use()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"limit": 0}, ValueError, "limit must be at least 1"),
        ({"per": 0}, ValueError, "per must be above 0"),
        ({"burst": 9}, ValueError, "burst must be at most the limit"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"retry_after": -1}, ValueError, "retry_after must be above 0"),
        ({"when_away": "open"}, ValueError, "when_away must be 'raise' or 'local', not 'open'"),
        ({"client": object()}, TypeError, "client must be a redis.Redis"),
        ({"wait": False, "max_wait": 1}, ValueError, "give one"),
        ({"key": 5}, TypeError, "key must be"),
    ],
)
def test_wrong_arguments_are_named(redis_url, options, error, text):
    """The error names the argument and the value."""
    with redis.Redis.from_url(redis_url) as client, pytest.raises(error, match=text):
        RedisRateLimiter(**{"client": client, "limit": 5, **options})


def test_no_address_is_shown():
    """What is shown of it has neither the address of Redis nor its password."""
    client = redis.Redis.from_url("redis://user:s3cret@db.example:6379/0")
    limiter = RedisRateLimiter(client, 5, 60, name="mail")
    assert repr(limiter) == "<RedisRateLimiter 'mail', 5 in any 60 s>"
    assert (limiter.rate, limiter.limit, limiter.per, limiter.burst) == (5 / 60, 5, 60, 5)
