"""Pools in a registry and in workflows: named by it, one for each loop, closed with it."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.resources import DatabasePoolFactory, ResourceRegistry
from pocketflow_async.runtime.async_local import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncWorkflowBuilder
from tests.resources import database_kit
from tests.resources.database_kit import at_rest, until
from tracing import trace_flow
from tracing.testing import capture

database = database_kit.database


async def test_a_registry_names_its_pools_and_closes_them(database):
    """The pool is called as in the registry; it is opened once, and closed at the end."""
    registry = ResourceRegistry()
    registry.register_factory("main_db", database.factory(max_size=3))
    async with registry:
        pools = await asyncio.gather(*(registry.get_resource("main_db") for _ in range(20)))
        pool = pools[0]
        assert all(each is pool for each in pools)
        assert pool.name == "main_db"
        assert (await registry.check_health("main_db"))["status"] == "healthy"
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        assert at_rest(pool)
    assert pool.is_closing()
    assert pool.get_size() == 0


async def test_each_loop_has_its_own_pool(database):
    """One registry over several event loops, one after another: each has a pool that works."""
    registry = ResourceRegistry()
    registry.register_factory("main_db", database.factory(max_size=3))
    pools = []

    async def once():
        pool = await registry.get_resource("main_db")
        pools.append(pool)
        return await pool.fetchval("SELECT 1")

    for _ in range(3):
        assert await asyncio.to_thread(asyncio.run, once()) == 1
    assert len({id(pool) for pool in pools}) == 3
    await asyncio.to_thread(asyncio.run, registry.cleanup())
    assert all(pool.is_closing() and pool.get_size() == 0 for pool in pools)


async def test_resource_nodes_and_code_use_it(database):
    """The blocks of the guides: a resource node with a query, and code with `acquire`."""
    registry = ResourceRegistry()
    registry.register_factory("main_db", database.factory(max_size=3))
    insert = database.sql("INSERT INTO logs VALUES (?, ?)")
    builder = AsyncWorkflowBuilder("guide", resource_registry=registry)
    builder.add_async_code(
        "insert",
        f"""
        db = await get_resource("main_db")
        async with db.acquire() as conn:
            await conn.execute("CREATE TABLE logs (id INTEGER, data VARCHAR(40))")
            for number in range(3):
                await conn.execute({insert!r}, number, "data")
            rows = await conn.fetch("SELECT * FROM logs")
        result = {{"rows": [dict(row) for row in rows], "table": "logs"}}
        """,
    )
    builder.add_resource_node(
        "query", "main_db", "fetch", {"query": "SELECT count(*) AS number FROM ${table}"}
    )
    builder.add_connection("insert", "table", "query", "table")
    with capture() as traces:
        runtime = trace_flow(AsyncLocalRuntime(resource_registry=registry))
        done = await runtime.execute_workflow_async(builder.build(), {})
        async with registry:
            pool = await registry.get_resource("main_db")
            await pool.execute("DROP TABLE logs")
    assert not done["errors"]
    assert [row["id"] for row in done["results"]["insert"]["rows"]] == [0, 1, 2]
    assert done["results"]["query"]["result"][0]["number"] == 3
    assert done["results"]["query"]["operation"] == "fetch"
    fetched = traces.one("guide").find("query").find("main_db.fetch")
    assert fetched.input == {"statement": "SELECT count(*) AS number FROM logs"}
    assert fetched.attributes["db.response.returned_rows"] == 1


async def test_the_registry_outlives_a_server_that_is_restarted(own_postgres):
    """A server that comes back is used again through the registry; a dead one is told of."""
    registry = ResourceRegistry(health_interval=0.01)
    given = DatabasePoolFactory.from_url(own_postgres.url, min_size=1, max_size=2)
    registry.register_factory("main_db", given, metadata={"circuit_breaker_threshold": 10_000})
    async with registry:
        pool = await registry.get_resource("main_db")
        assert await pool.fetchval("SELECT 1") == 1
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: pool.get_size() == 0)
        with pytest.raises(OSError, match="cannot connect to postgresql at 127"):
            await pool.fetchval("SELECT 1")
        await asyncio.to_thread(own_postgres.start)

        async def answers():
            try:
                return await (await registry.get_resource("main_db")).fetchval("SELECT 1") == 1
            except OSError:
                return False

        await until(answers)
