"""Caches: memory against a model, and Redis with servers that go away and come back."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources import CacheClosedError, ResourceRegistry
from pocketflow_async.resources.cache import CacheFactory
from pocketflow_async.resources.expiring import Entry, Expiring
from tests.resources.proxy_kit import way_to
from tests.service_kit import free_port
from tracing.testing import FakeClock

keys = st.integers(0, 7)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.one_of(st.none(), st.integers(1, 20))),
        st.tuples(st.just("get"), keys, st.none()),
        st.tuples(st.just("pop"), keys, st.none()),
        st.tuples(st.just("wait"), st.integers(0, 9), st.none()),
    ),
    max_size=200,
)


class Model:
    """The same, written down as one says it: a list in order of use."""

    def __init__(self, limit):
        self.limit, self.kept = limit, []

    def live(self, now):
        self.kept = [one for one in self.kept if one[2] is None or one[2] > now]

    def get(self, key, now):
        self.live(now)
        found = [one for one in self.kept if one[0] == key]
        self.kept = [one for one in self.kept if one[0] != key] + found
        return found[0][1] if found else None

    def pop(self, key, now):
        value = self.get(key, now)
        self.kept = [one for one in self.kept if one[0] != key]
        return value

    def put(self, key, value, until, now):
        self.pop(key, now)
        self.kept.append((key, value, until))
        self.kept = self.kept[-self.limit :]


@given(st.integers(1, 5), steps)
def test_values_run_out_and_are_pushed_out_as_said(limit, steps):
    """What is got is what the model has, and there are never more than the limit."""
    values, model, now = Expiring(limit), Model(limit), 0.0
    for number, (what, key, lasts) in enumerate(steps):
        if what == "wait":
            now += key
        elif what == "put":
            until = None if lasts is None else now + lasts
            values.put(key, Entry(number, until), now)
            model.put(key, number, until, now)
        else:
            entry = getattr(values, what)(key, now)
            assert (entry and entry.value) == getattr(model, what)(key, now)
        assert len(values) <= limit
        assert len(values._ends) <= 2 * len(values) + 65
    assert [values.get(key, now) and values.get(key, now).value for key in range(8)] == [
        model.get(key, now) for key in range(8)
    ]


def memory(clock=None, **options):
    return CacheFactory("memory", clock=clock or FakeClock(), **options)


async def test_memory_keeps_values_as_they_are():
    """Also None, and what is false; get, set, setex, delete and exists are as in Redis."""
    cache = await memory().create()
    value = {"a": object()}

    assert await cache.get("a") is None
    assert await cache.set("a", value) is True
    assert await cache.get("a") is value
    for false in (0, "", b"", [], False):
        await cache.setex("f", 5, false)
        assert await cache.get("f") is false
    assert await cache.exists("a", "f", "no") == 2
    assert await cache.mget("a", "no") == await cache.mget(["a", "no"]) == [value, None]
    assert await cache.delete("a", "f", "no") == 2
    assert await cache.ping()
    assert cache.statistics()[:3] == (0, 8, 3)


async def test_memory_forgets_in_time():
    """By ttl, ex, px, expire and setex, in seconds or as a timedelta; persist takes it back."""
    clock = FakeClock()
    cache = await memory(clock).create()
    await cache.set("ttl", 1, 2)
    await cache.set("ex", 1, ex=timedelta(seconds=2))
    await cache.set("px", 1, px=2000)
    await cache.setex("setex", 2, 1)
    await cache.set("later", 1)
    assert await cache.ttl("later") == -1
    assert await cache.expire("later", 2)
    await cache.setex("kept", 2, 1)
    assert await cache.persist("kept")
    assert not await cache.persist("kept")
    assert [await cache.ttl(key) for key in ("ttl", "kept", "none")] == [2, -1, -2]
    clock.advance(1.999)
    assert await cache.exists("ttl", "ex", "px", "setex", "later", "kept") == 6
    clock.advance(0.001)
    assert await cache.keys() == ["kept"]
    assert len(cache) == 1
    assert not await cache.expire("ttl", 5)
    for wrong in ({"ttl": 0}, {"ex": -1}, {"px": 0}, {"ttl": 1, "px": 1}, {"nx": True, "xx": True}):
        with pytest.raises(ValueError):
            await cache.set("w", 1, **wrong)


async def test_memory_counts_and_sets_on_condition():
    """Counting keeps the time to live; nx and xx say None where they forbid."""
    clock = FakeClock()
    cache = await memory(clock).create()
    assert [await cache.incr("n"), await cache.incr("n", 4), await cache.decr("n")] == [1, 5, 4]
    await cache.set("t", "7", 5)
    assert await cache.incr("t") == 8
    assert await cache.ttl("t") == 5
    await cache.set("word", "x")
    with pytest.raises(ValueError):
        await cache.incr("word")
    assert await cache.set("n", 1, nx=True) is None
    assert await cache.set("new", 1, nx=True) is True
    assert await cache.set("other", 1, xx=True) is None
    assert [key async for key in cache.scan_iter("n*")] == ["n", "new"]
    await cache.clear()
    assert len(cache) == 0


async def test_memory_is_bounded():
    """What was not used for longest is pushed out."""
    cache = await memory(max_entries=3).create()
    for key in "abc":
        await cache.set(key, key)
    await cache.get("a")
    await cache.set("d", "d")
    assert await cache.mget("a", "b", "c", "d") == ["a", None, "c", "d"]
    assert cache.statistics().pushed_out == 1


def test_memory_outlives_an_event_loop():
    """The caches of one factory share what they keep; a closed one says so."""
    factory = memory()

    async def first():
        cache = await factory.create()
        await cache.set("a", 1)
        await factory.close(cache)
        with pytest.raises(RuntimeError, match="closed"):
            await cache.get("a")
        assert not cache.statistics().hits

    async def second():
        cache = await factory.create()
        assert await factory.check(cache)
        value = await cache.get("a")
        factory.terminate(cache)
        return value

    asyncio.run(first())
    assert asyncio.run(second()) == 1


def test_memory_counts_right_in_many_threads():
    """Eight event loops in eight threads add 500 each."""
    factory = memory()

    async def add():
        cache = await factory.create()
        for _ in range(500):
            await cache.incr("n")

    threads = [threading.Thread(target=lambda: asyncio.run(add())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(_value(factory, "n")) == 4000


async def _value(factory, key):
    return await (await factory.create()).get(key)


@asynccontextmanager
async def redis_at(url, **options):
    factory = CacheFactory("redis", url=url, **options)
    client = await factory.create()
    try:
        yield client
    finally:
        await factory.close(client)


async def test_redis_is_a_client_of_redis(redis_url, redis_prefix):
    """The uses of the guides, and everything else that a client has."""
    key = f"{redis_prefix}a"
    async with redis_at(redis_url) as cache:
        assert await cache.get(key) is None
        await cache.setex(key, 60, json.dumps({"n": 1}))
        assert json.loads(await cache.get(key)) == {"n": 1}
        assert 0 < await cache.ttl(key) <= 60
        async with cache.pipeline() as pipe:
            assert await pipe.set(key, "x").get(key).execute() == [True, b"x"]
        assert await cache.ping()
    async with redis_at(redis_url, decode_responses=True) as cache:
        assert await cache.get(key) == "x"


async def test_redis_host_and_port(redis_url, redis_prefix):
    """As `with_cache` has them; the check says whether it answers."""
    place = urlsplit(redis_url)
    factory = CacheFactory("redis", place.hostname, place.port)
    client = await factory.create()
    assert await factory.check(client)
    await factory.close(client)


async def test_redis_restarted_and_killed(own_redis):
    """Commands fail while it is away and work when it is back; what it has kept is there."""
    import redis.exceptions

    async with redis_at(own_redis.url) as cache:
        await cache.set("a", "1")
        own_redis.stop()
        own_redis.start()
        assert await cache.get("a") == b"1"
        own_redis.kill()
        async with asyncio.timeout(10):
            with pytest.raises(redis.exceptions.ConnectionError):
                await cache.get("a")
        own_redis.start()
        assert await cache.get("a") == b"1"


async def test_redis_comes_back_while_a_command_waits(own_redis):
    """A command that begins while the server is away is tried again until it is there."""
    from redis.asyncio.retry import Retry
    from redis.backoff import ConstantBackoff

    tried = asyncio.Event()

    class Pause(ConstantBackoff):
        def compute(self, failures):
            tried.set()
            return super().compute(failures)

    async with redis_at(own_redis.url, retry=Retry(Pause(0.05), 200)) as cache:
        await cache.set("a", "1")
        own_redis.stop()
        waiting = asyncio.create_task(cache.get("a"))
        await tried.wait()
        await asyncio.to_thread(own_redis.start)
        assert await asyncio.wait_for(waiting, 10) == b"1"


async def test_redis_connections_cut(redis_url, redis_prefix):
    """A connection that is reset is made anew within the same command."""
    place = urlsplit(redis_url)
    async with way_to(place.hostname, place.port) as way:
        async with redis_at(f"redis://127.0.0.1:{way.port}/0") as cache:
            for number in range(5):
                await cache.set(f"{redis_prefix}k", str(number))
                way.cut()
                assert await cache.get(f"{redis_prefix}k") == str(number).encode()
        await asyncio.wait_for(way.none_open.wait(), 5)


async def test_redis_cancelled_in_a_command(redis_url, redis_prefix):
    """An answer that comes too late goes to nobody else."""
    place = urlsplit(redis_url)
    async with way_to(place.hostname, place.port) as way:
        async with redis_at(f"redis://127.0.0.1:{way.port}/0", max_connections=2) as cache:
            await cache.set(f"{redis_prefix}a", "a")
            await cache.set(f"{redis_prefix}b", "b")
            way.passing.clear()
            sent = way.bytes_in
            tasks = [asyncio.create_task(cache.get(f"{redis_prefix}a")) for _ in range(2)]
            async with way.moved:
                await way.moved.wait_for(lambda: way.bytes_in > sent)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            way.passing.set()
            found = [await cache.get(f"{redis_prefix}b") for _ in range(3)]
            assert found == [b"b"] * 3
        await asyncio.wait_for(way.none_open.wait(), 5)


async def test_redis_that_does_not_answer(redis_url):
    """A command is given up in time, as redis says it; also in a pipeline."""
    import redis.exceptions

    place = urlsplit(redis_url)
    async with (
        way_to(place.hostname, place.port) as way,
        redis_at(f"redis://127.0.0.1:{way.port}/0", timeout=0.2) as cache,
    ):
        await cache.ping()
        way.passing.clear()
        with pytest.raises(redis.exceptions.TimeoutError, match=r"within 0\.2 s"):
            await cache.get("a")
        with pytest.raises(redis.exceptions.TimeoutError):
            await cache.pipeline().get("a").execute()
        way.passing.set()
        assert await cache.ping()


async def test_redis_nobody_there():
    """A closed port and an unknown name are connection errors, soon."""
    import redis.exceptions

    for url in (f"redis://:hidden@127.0.0.1:{free_port()}/0", "redis://:hidden@no.invalid/0"):
        async with redis_at(url) as cache:
            async with asyncio.timeout(20):
                with pytest.raises(redis.exceptions.ConnectionError) as caught:
                    await cache.get("a")
        assert "hidden" not in repr(caught.value)


def test_redis_after_its_loop_is_closed(redis_url):
    """What belongs to a closed loop is let go of, and nothing complains."""
    place = urlsplit(redis_url)

    async def use(port):
        factory = CacheFactory("redis", port=port, host="127.0.0.1")
        client = await factory.create()
        assert await client.ping()
        return factory, client

    async def main():
        async with way_to(place.hostname, place.port) as way:
            loop = asyncio.new_event_loop()
            factory, client = await asyncio.to_thread(loop.run_until_complete, use(way.port))
            loop.close()
            assert len(way.open) == 1
            factory.terminate(client)
            await asyncio.wait_for(way.none_open.wait(), 5)
            del client
            gc.collect()

    asyncio.run(main())


def test_what_a_cache_cannot_be():
    """Unknown back ends and options are refused when the factory is made."""
    with pytest.raises(ValueError, match="Unsupported cache backend: memcached"):
        CacheFactory("memcached")
    with pytest.raises(TypeError, match="takes no option 'prefix'"):
        CacheFactory("memory", prefix="x")
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="max_entries"):
            CacheFactory("memory", max_entries=wrong)


async def test_no_secret_is_shown():
    """Neither in the configuration nor in any repr."""
    factory = CacheFactory("redis", password="hidden", username="me", ssl_password="hidden")
    by_url = CacheFactory("redis", url="redis://me:hidden@localhost:6379/0")
    client = await by_url.create()
    shown = [factory.get_config(), factory, by_url.get_config(), by_url, client]
    assert "hidden" not in repr([*shown, client.connection_pool])
    assert factory.get_config()["host"] == "localhost"
    assert CacheFactory("memory").get_config() == {"backend": "memory", "max_entries": 10_000}
    await client.aclose()


@pytest.mark.parametrize("backend", ["redis", "memory"])
async def test_a_cache_that_its_registry_has_closed_is_used_no_more(backend, redis_url):
    """Who has kept it is told so; it does not connect again, in whatever way it is used."""
    options = {"url": redis_url} if backend == "redis" else {}
    async with ResourceRegistry() as registry:
        registry.register_factory("cache", CacheFactory(backend, **options))
        cache = await registry.get_resource("cache")
        await cache.get("nothing")
        kept = []
        if backend == "redis":
            listening = cache.pubsub()
            kept += [cache.pipeline().get("nothing").execute]
            kept += [lambda: listening.subscribe("nothing")]
        await registry.cleanup()
        for use in (lambda: cache.get("nothing"), cache.ping, *kept):
            with pytest.raises(CacheClosedError, match="cache 'cache' is closed: ask the registry"):
                await use()
        assert await (await registry.get_resource("cache")).ping()
    if backend == "redis":
        pool = cache.connection_pool
        assert not any(one.is_connected for one in pool._available_connections)
        assert not pool._in_use_connections


async def test_a_pool_of_ones_own_is_left_as_it_is(redis_url):
    """A client that was given it refuses; the pool goes on for others."""
    pool = redis.asyncio.ConnectionPool.from_url(redis_url)
    factory = CacheFactory("redis", connection_pool=pool)
    cache = await factory.create()
    await cache.ping()
    await factory.close(cache)

    with pytest.raises(CacheClosedError):
        await cache.get("nothing")
    async with redis.asyncio.Redis(connection_pool=pool) as other:
        assert await other.ping()
    await pool.disconnect()


async def test_a_client_of_redis_that_is_closed_by_hand_may_go_on(redis_url):
    """As redis has it: `async with cache` in one place does not take it from the others."""
    factory = CacheFactory("redis", url=redis_url)
    cache = await factory.create()
    async with cache:
        await cache.ping()
    assert await cache.ping()
    await factory.close(cache)
