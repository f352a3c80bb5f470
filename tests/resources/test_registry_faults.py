"""Registries with real servers that fail: nothing is lost, and nothing is left open."""

from __future__ import annotations

import asyncio
from functools import partial

import asyncpg

from pocketflow_async.resources import DatabasePoolFactory, ResourceRegistry, get_resource
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncPatterns, AsyncWorkflowBuilder
from tests.resources.registry_kit import until


async def connections(url):
    """Return how many connections there are besides the one that asks."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def none_left(url):
    """Wait until the server knows of no connection of ours."""
    async with asyncio.timeout(10):
        while await connections(url):  # noqa: ASYNC110 (a server knows, and no event)
            await asyncio.sleep(0.01)


async def test_a_server_that_is_restarted_while_a_workflow_runs(own_postgres):
    """Each node that tries again succeeds; every row is there once; no connection is left."""
    factory = DatabasePoolFactory.from_url(own_postgres.url, min_size=1, max_size=3)
    builder = AsyncWorkflowBuilder(
        resource_registry=ResourceRegistry(health_interval=0.05, health_timeout=2)
    )
    builder.require_resource("db", factory)
    registry = builder.get_resource_registry()
    restarted, written = asyncio.Event(), []

    async def write(number):
        db = await get_resource("db")
        if number >= 5:
            await restarted.wait()
        await db.execute("INSERT INTO written VALUES ($1) ON CONFLICT DO NOTHING", number)
        written.append(number)
        return number

    for number in range(10):
        AsyncPatterns.retry_with_backoff(
            builder,
            f"write{number}",
            partial(write, number),
            max_retries=10,
            initial_backoff=0.1,
            max_backoff=0.5,
        )
    db = await registry.get_resource("db")
    await db.execute("CREATE TABLE written (number int PRIMARY KEY)")
    async with AsyncLocalRuntime(registry) as runtime:
        running = asyncio.create_task(runtime.execute_workflow_async(builder))
        await until(lambda: len(written) == 5)
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.to_thread(own_postgres.start)
        restarted.set()
        result = await running
        assert result["errors"] == {}
        db = await registry.get_resource("db")
        rows = await db.fetch("SELECT number FROM written ORDER BY number")

    assert [row["number"] for row in rows] == list(range(10))
    await none_left(own_postgres.url)


async def test_a_server_that_is_away_puts_creation_off_and_comes_back(own_postgres):
    """Health says so; after the wait the next one who asks has a pool again."""
    factory = DatabasePoolFactory.from_url(own_postgres.url, min_size=1, max_size=2)
    async with ResourceRegistry(health_interval=0, health_timeout=1) as registry:
        registry.register_factory("db", factory)
        first = await registry.get_resource("db")
        await asyncio.to_thread(own_postgres.kill)
        assert (await registry.check_health("db"))["status"] == "unhealthy"
        assert (await registry.check_health("db"))["status"] == "unhealthy"
        await asyncio.to_thread(own_postgres.start)
        assert (await registry.check_health("db"))["status"] == "healthy"
        second = await registry.get_resource("db")
        assert await second.fetchval("SELECT 1") == 1
        assert second is not first
        assert registry.get_metrics()["resources"]["db"]["recreations"] >= 1
    await none_left(own_postgres.url)


async def test_a_thousand_at_once_on_five_connections(own_postgres):
    """All get their turn, though the health of the busy pool is asked all the time."""
    factory = DatabasePoolFactory.from_url(own_postgres.url, min_size=1, max_size=5)
    async with ResourceRegistry(health_interval=0.001) as registry:
        registry.register_factory("db", factory)

        async def ask(number):
            async with registry.lease("db") as db, db.acquire() as connection:
                return await connection.fetchval("SELECT $1::int", number)

        found = await asyncio.gather(*(ask(number) for number in range(1000)))
        figures = registry.get_metrics()["resources"]["db"]
        assert await connections(own_postgres.url) <= 5

    assert found == list(range(1000))
    assert (figures["created"], figures["leases"]) == (1, 0)
    await none_left(own_postgres.url)
