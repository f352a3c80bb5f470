"""The guides' blocks about patterns run as they stand, against real servers.

Named as in the other tests of blocks. Time is virtual where a block waits for seconds; the servers
are real all the same.
"""

from __future__ import annotations

import asyncio
import types
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncPatterns, AsyncWorkflowBuilder
from tests.resources.http_kit import Answer, serving


@pytest.fixture
def builder(block):
    """A builder to which the block has added its node or nodes."""
    builder = AsyncWorkflowBuilder("patterns")
    made = block.run(builder=builder, AsyncPatterns=AsyncPatterns)
    assert made["builder"] is builder
    return builder


@asynccontextmanager
async def running(builder):
    """Run workflows of *builder*; all that it has opened is closed at the end."""
    workflow = builder.build()
    async with builder.get_resource_registry(), AsyncLocalRuntime() as runtime:

        async def run(**inputs):
            return await runtime.execute_workflow_async(workflow, inputs)

        run.workflow = workflow
        yield run


async def results_of(running_now):
    """Return what the nodes of a run have yielded; fail if one has failed."""
    result = await running_now
    assert result["errors"] == {}
    assert result["skipped"] == {}
    return result["results"]


def json_of(*paths):
    """Return a handler that answers with its path, but never for the *paths*."""

    async def handle(asked):
        if asked.path in paths:
            await asyncio.Event().wait()
        return Answer(200, {"path": asked.path})

    return handle


# Batches, into PostgreSQL


@pytest.fixture
async def logs(postgres_url, postgres_schema):
    """An empty table `logs` that is found by its bare name, and what connects to it."""
    import asyncpg

    connection = await asyncpg.connect(
        postgres_url, server_settings={"search_path": postgres_schema}
    )
    await connection.execute("CREATE TABLE logs (id int PRIMARY KEY, data text)")
    yield connection
    await connection.close()


def with_pool(builder, url, schema):
    parts = urlsplit(url)
    builder.with_database(
        "db_pool",
        host=parts.hostname,
        port=parts.port,
        database=parts.path[1:],
        user=parts.username,
        password=parts.password,
        min_size=1,
        max_size=3,
        server_settings={"search_path": schema},
    )


def entries(numbers):
    return [types.SimpleNamespace(id=number, data=f"entry {number}") for number in numbers]


async def ids(logs):
    return [row["id"] for row in await logs.fetch("SELECT id FROM logs ORDER BY id")]


async def test_builder_built_in_async_patterns_batch_processing(
    block, builder, logs, postgres_url, postgres_schema
):
    """Of 250 items 200 are inserted by the run, and the other 50 in the cleanup."""
    with_pool(builder, postgres_url, postgres_schema)
    async with running(builder) as run:
        made = (await results_of(run(items=entries(range(250)))))["batch_insert"]
        assert await ids(logs) == list(range(200))

    assert made.pop("next_flush_in") == pytest.approx(5.0, abs=4.9)
    assert made == {
        "processed_count": 200,
        "results": [{"id": number, "inserted": True} for number in range(200)],
        "remaining_in_batch": 50,
        "flush_reason": "batch_full",
    }
    assert await ids(logs) == list(range(250))
    assert await logs.fetchval("SELECT data FROM logs WHERE id = 249") == "entry 249"


async def test_builder_built_in_async_patterns_batch_processing__many_runs(
    block, builder, logs, postgres_url, postgres_schema
):
    """Of 60 runs at once every item is inserted once, in batches of 100."""
    with_pool(builder, postgres_url, postgres_schema)
    async with running(builder) as run:
        given = [entries(range(start, start + 7)) for start in range(0, 420, 7)]
        made = await asyncio.gather(*(results_of(run(items=items)) for items in given))

    counts = [each["batch_insert"]["processed_count"] for each in made]
    assert sorted(counts) == [0] * 56 + [100] * 4
    assert await ids(logs) == list(range(420))


async def test_builder_built_in_async_patterns_batch_processing__fails(
    block, builder, logs, postgres_url, postgres_schema
):
    """A batch that the database refuses is kept, and inserted when that takes it."""
    with_pool(builder, postgres_url, postgres_schema)
    await logs.execute("ALTER TABLE logs RENAME TO elsewhere")
    async with running(builder) as run:
        result = await run(items=entries(range(100)))
        assert "UndefinedTableError" in result["errors"]["batch_insert"]
        await logs.execute("ALTER TABLE elsewhere RENAME TO logs")
        made = (await results_of(run(force_flush=True)))["batch_insert"]

    assert (made["processed_count"], made["remaining_in_batch"]) == (100, 0)
    assert await ids(logs) == list(range(100))


# Caches, in Redis


class Expensive:
    """What is called when the cache has nothing."""

    def __init__(self, value):
        self.value = value
        self.asked = []

    async def __call__(self, item_id):
        self.asked.append(item_id)
        await asyncio.sleep(0.01)
        return self.value


async def test_builder_built_in_async_patterns_cache_aside_pattern(block, builder, own_redis):
    """Of 50 runs at once one fetches; later ones find it, until its hour is over."""
    import redis.asyncio

    builder.with_cache("redis_cache", host="127.0.0.1", port=own_redis.port)
    call = Expensive(types.SimpleNamespace(data={"price": 7}))
    async with running(builder) as run:
        inputs = {"item_id": "a:1", "expensive_api_call": call}
        made = await asyncio.gather(*(results_of(run(**inputs)) for _ in range(50)))
        later = await results_of(run(**inputs))
        other = await results_of(run(**{**inputs, "item_id": 2}))

    assert call.asked == ["a:1", 2]
    assert [each["cache_store"]["data"] for each in [*made, later, other]] == [{"price": 7}] * 52
    assert not made[0]["cache_check"]["found_in_cache"]
    assert later["cache_check"] == {
        "found_in_cache": True,
        "cache_key": "expensive_data_a:1",
        "data": {"price": 7},
    }
    assert later["cache_store"]["from_cache"] is True
    async with redis.asyncio.from_url(own_redis.url) as client:
        assert await client.get("expensive_data_a:1") == b'{"price":7}'
        assert 3500 < await client.ttl("expensive_data_a:1") <= 3600


async def test_builder_built_in_async_patterns_cache_aside_pattern__cache_is_away(
    block, builder, own_redis
):
    """The value is fetched, and the error of the cache is told."""
    builder.with_cache("redis_cache", host="127.0.0.1", port=own_redis.port)
    own_redis.kill()
    call = Expensive(types.SimpleNamespace(data=[1, 2]))
    async with running(builder) as run:
        made = await results_of(run(item_id=1, expensive_api_call=call))

    assert made["cache_store"]["data"] == [1, 2]
    assert "ConnectionError" in made["cache_check"]["cache_error"]


@pytest.mark.parametrize("value", [0, "", None, False, [], {}, {"rows": [1]}])
async def test_migration_common_patterns_migration_cache_aside_pattern_after(
    block, builder, own_redis, value
):
    """Values that count as false are found again too."""
    builder.with_cache("redis", host="127.0.0.1", port=own_redis.port)
    operation = Expensive(value)
    async with running(builder) as run:
        inputs = {"item_id": 5, "expensive_operation": operation}
        first, second = [await results_of(run(**inputs)) for _ in range(2)]

    assert first["cache_store"]["data"] == second["cache_store"]["data"] == value
    assert second["cache_check"]["cache_key"] == "data_5"
    assert second["cache_check"]["found_in_cache"] is True
    assert operation.asked == [5]


# Timeouts, of real requests in virtual time


def with_clients(builder, url, *names):
    for name in names:
        builder.with_http_client(name, base_url=url)


@pytest.mark.parametrize(
    ("hanging", "source", "seconds"), [((), "primary", 0), (("/data",), "fallback", 5)]
)
def test_builder_built_in_async_patterns_timeout_with_fallback(
    block, builder, clock, hanging, source, seconds
):
    """The second service answers once the first has had its five seconds, and only then."""

    async def main():
        async with serving(json_of(*hanging)) as server:
            with_clients(builder, server.url, "primary_client", "fallback_client")
            async with running(builder) as run:
                began = clock.monotonic()
                made = await results_of(run())
                return made, clock.monotonic() - began, [asked.path for asked in server.asked]

    made, took, paths = clock.run(main())
    right = {"path": "/data" if source == "primary" else "/cached-data", "_source": source}
    if source == "fallback":
        right |= {"_primary_timeout": True, "_primary_error": None}
    assert made["fallback_service"] == right
    assert took == pytest.approx(seconds, abs=1)
    assert paths == (["/data"] if source == "primary" else ["/data", "/cached-data"])


async def test_builder_built_in_async_patterns_timeout_with_fallback__refused(block, builder):
    """Nobody listens where the first service should be: its error is told."""
    async with serving(json_of()) as server:
        with_clients(builder, "http://127.0.0.1:1", "primary_client")
        with_clients(builder, server.url, "fallback_client")
        async with running(builder) as run:
            made = (await results_of(run()))["fallback_service"]

    assert (made["path"], made["_source"]) == ("/cached-data", "fallback")
    assert made["_primary_timeout"] is False
    assert made["_primary_error"]


async def test_builder_built_in_async_patterns_parallel_fetch(block, builder):
    """All three at once, over one client."""
    async with serving(json_of()) as server:
        with_clients(builder, server.url, "api_client")
        async with running(builder) as run:
            made = (await results_of(run()))["multi_source_fetch"]

    names = ["users", "orders", "inventory"]
    assert made["successful"] == {name: {"path": f"/{name}"} for name in names}
    assert made["failed"] == {}
    assert made["statistics"] == {
        "total_operations": 3,
        "successful_count": 3,
        "failed_count": 0,
        "success_rate": 1.0,
    }


def test_builder_built_in_async_patterns_parallel_fetch__late(block, builder, clock):
    """One that hangs has failed after its ten seconds; the others are there."""

    async def main():
        async with serving(json_of("/orders")) as server:
            with_clients(builder, server.url, "api_client")
            async with running(builder) as run:
                began = clock.monotonic()
                made = await results_of(run())
                return made["multi_source_fetch"], clock.monotonic() - began

    made, took = clock.run(main())
    assert list(made["successful"]) == ["users", "inventory"]
    assert list(made["failed"]) == ["orders"]
    assert "10" in made["failed"]["orders"]
    assert made["statistics"]["failed_count"] == 1
    assert took == pytest.approx(10, abs=1)


# Circuit breakers, before a real service


class Service:
    """Calls a server over HTTP."""

    def __init__(self, client):
        self.client = client

    async def call(self):
        response = await self.client.get("/")
        response.raise_for_status()
        return Reply(data=await response.json())


class Reply(dict):
    """What the service answers, by attribute and by key."""

    __getattr__ = dict.__getitem__


def broken_and_mended(builder, clock, node_id):
    """Run the breaker of the block through its states; return what each run has come to."""
    status = 500
    made = {"failing": [], "answers": []}

    async def handle(asked):
        return Answer(status, {"n": 1})

    async def main():
        nonlocal status
        async with serving(handle) as server:
            with_clients(builder, server.url, "service_client")
            async with running(builder) as run:
                client = await builder.get_resource_registry().get_resource("service_client")
                inputs = {"external_service": Service(client)}
                made["failing"] = [await run(**inputs) for _ in range(5)]
                made["open"] = await results_of(run(**inputs))
                made["requests"] = len(server.asked)
                clock.advance(61)
                status = 200
                for _ in range(4):
                    made["answers"].append((await results_of(run(**inputs)))[node_id])
                made["breaker"] = run.workflow.nodes[node_id].work.breaker

    clock.run(main())
    return made


def test_builder_built_in_async_patterns_circuit_breaker(block, builder, clock):
    """Five failures open it; then nothing is asked for a minute, and then it closes again."""
    made = broken_and_mended(builder, clock, "protected_service")
    check_states(made, "protected_service")
    assert made["answers"][-1]["data"] == {"n": 1}
    assert made["answers"][-1]["success"] is True


def test_migration_common_patterns_migration_circuit_breaker_after(block, builder, clock):
    """The same, of another node."""
    made = broken_and_mended(builder, clock, "protected_call")
    check_states(made, "protected_call")
    assert made["answers"][-1]["data"] == {"n": 1}


def check_states(made, node_id):
    """Fail unless the breaker has opened with the fifth failure, and closed after its minute."""
    *raised, opening = made["failing"]
    assert all(list(result["errors"]) == [node_id] for result in raised)
    said = opening["results"][node_id]
    assert opening["errors"] == {}
    assert (said["success"], said["circuit_state"], said["failure_count"]) == (False, "open", 5)
    assert "500" in said["error"]
    refused = made["open"][node_id]
    assert refused["error"] == "Circuit breaker is OPEN"
    assert (refused["success"], refused["circuit_state"]) == (False, "open")
    assert 0 < refused["time_until_retry"] <= 60
    assert made["requests"] == 5
    assert made["answers"][-1]["_circuit_breaker_info"]["state"] == "closed"
    assert made["breaker"].is_closed
