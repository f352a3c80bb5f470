"""CacheAside with a real Redis server: what is in it, and what happens when it goes away."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

from pocketflow_async.resilience import CacheAside
from tests.resilience.cache_kit import Backend


@pytest.fixture
async def client(redis_url):
    async with redis.asyncio.from_url(redis_url) as client:
        yield client


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("value", [None, 0, "", {"ü": [1.5, None]}])
async def test_values_are_kept_as_json_with_their_time(redis_url, redis_prefix, decode, value):
    """Whether it answers with bytes or with texts."""
    backend, key = Backend(value), f"{redis_prefix}k"
    async with redis.asyncio.from_url(redis_url, decode_responses=decode) as client:
        aside = CacheAside(client, key=key, ttl=60)
        assert [await aside.acall(backend), await aside.acall(backend)] == [value, value]
        assert 0 < await client.ttl(key) <= 60
        short = CacheAside(client, key=f"{key}2", ttl=0.25)
        await short.acall(backend)
        assert 0 < await client.pttl(f"{key}2") <= 250
        await aside.aforget(key)
        assert not await client.exists(key)

    assert backend.total == 2


async def test_ten_thousand_callers_load_once_with_one_connection(client, redis_prefix):
    """Nobody but the first one asks, so no more connections are opened."""
    backend = Backend(turns=50)
    fetch = CacheAside(client, key=f"{redis_prefix}{{key}}")(backend.__call__)
    values = await asyncio.gather(*(fetch(number % 3) for number in range(10_000)))

    assert set(values) == {"value"}
    assert backend.calls == {0: 1, 1: 1, 2: 1}
    assert len(client.connection_pool._available_connections) <= 3


async def test_it_goes_on_while_the_server_is_down_and_after(own_redis):
    """Calls are made while it is away, and values kept again as soon as it is back."""
    backend = Backend()
    async with redis.asyncio.from_url(own_redis.url) as client:
        aside = CacheAside(client, key="k")
        await aside.acall(backend)
        own_redis.stop()
        assert [await aside.acall(backend) for _ in range(2)] == ["value", "value"]
        assert backend.total == 3
        own_redis.start()
        assert [await aside.acall(backend) for _ in range(2)] == ["value", "value"]
        assert backend.total == 3
        assert aside.statistics().errors == 4


async def test_a_server_killed_in_the_middle_of_a_load_costs_no_value(own_redis):
    """All callers get it; only the cache has not."""
    gate = asyncio.Event()

    async def load():
        await gate.wait()
        return 1

    async with redis.asyncio.from_url(own_redis.url) as client:
        aside = CacheAside(client, key="k", name="users")
        tasks = [asyncio.create_task(aside.acall(load)) for _ in range(10)]
        while not aside.statistics().loads:  # noqa: ASYNC110 (it has passed the server by then)
            await asyncio.sleep(0)
        own_redis.kill()
        gate.set()
        assert await asyncio.gather(*tasks) == [1] * 10
        assert aside.statistics().errors == 1


async def test_a_caller_cancelled_while_it_looks_spoils_no_connection(client, redis_prefix):
    """Who is cancelled at any point leaves the others the right answers."""
    aside = CacheAside(client, key="k")
    for turns in range(12):
        key = f"{redis_prefix}{turns}"
        task = asyncio.create_task(aside.aget(key, Backend("lost")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        other = f"{redis_prefix}other{turns}"
        assert await aside.aget(other, Backend(turns)) == turns
        assert await aside.aget(other, Backend("lost")) == turns


def test_a_synchronous_client_works_in_threads_and_by_itself(redis_url, redis_prefix):
    """`in_thread` for asynchronous calls; `call` needs nothing."""
    with redis.from_url(redis_url) as client:
        aside = CacheAside(client, key=f"{redis_prefix}k", in_thread=True)
        backend = Backend([1])
        assert asyncio.run(aside.acall(backend)) == [1]
        assert asyncio.run(aside.acall(backend)) == [1]
        assert aside.call(lambda: pytest.fail("loaded again")) == [1]
        assert backend.total == 1


def test_each_event_loop_may_have_its_own_client(redis_url, redis_prefix):
    """A function gives the client of the loop; the values are the same."""
    backend, clients = Backend(), {}
    aside = CacheAside(lambda: clients[asyncio.get_running_loop()], key=f"{redis_prefix}k")

    async def ask():
        async with redis.asyncio.from_url(redis_url) as client:
            clients[asyncio.get_running_loop()] = client
            return await aside.acall(backend)

    assert [asyncio.run(ask()) for _ in range(3)] == ["value"] * 3
    assert backend.total == 1
