"""The guides' blocks about resources run as they stand, against real servers.

Named as in the other tests of blocks. What they say about where their servers are (`localhost` with
a database `myapp`, `https://api.example.com`) is turned to the servers of the tests.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import re
from urllib.parse import urlsplit

import pytest

from pocketflow_async import resources
from pocketflow_async.resources import ResourceFactory, ResourceRegistry
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncPatterns, AsyncWorkflowBuilder, WorkflowBuilder
from tests.guide_workflow.guide_blocks import BLOCKS
from tests.resources.http_kit import Answer, serving

USERS = [(1, "Ada", True), (2, "Bob", False), (3, "Cleo", True)]


@pytest.fixture
async def database(monkeypatch, postgres_url, unique):
    """A database of the test's own, with users; whatever database a block names is this one."""
    import asyncpg

    server = await asyncpg.connect(postgres_url)
    await server.execute(f'CREATE DATABASE "{unique}"')
    parts = urlsplit(postgres_url)
    place = {"host": parts.hostname, "port": parts.port, "database": unique}
    url = f"postgresql://{parts.netloc}/{unique}"
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE users (id int, name text, active boolean)")
    await connection.executemany("INSERT INTO users VALUES ($1, $2, $3)", USERS)
    await connection.close()
    real, given = resources.DatabasePoolFactory, []

    def turned(*args, **options):
        given.append(options)
        mine = {**options, **place, "user": parts.username, "password": parts.password}
        return real(*args, **mine)

    monkeypatch.setattr(resources, "DatabasePoolFactory", turned)
    yield given
    # Without FORCE: had a block left a connection open, this would fail.
    await server.execute(f'DROP DATABASE "{unique}"')
    await server.close()


@pytest.fixture
async def api(monkeypatch):
    """A web server; whatever address a block gives its client is this one."""
    rows = {"/data": [1, 2, 3]}

    async def handle(asked):
        return Answer(200, rows.get(asked.path, {"path": asked.path}))

    real = resources.HttpClientFactory
    async with serving(handle) as server:

        def turned(*args, **options):
            return real(*args, **{**options, "base_url": server.url})

        monkeypatch.setattr(resources, "HttpClientFactory", turned)
        yield server


async def run(workflow, inputs=None, **options):
    """Run *workflow*; fail if one of its nodes does. All that is opened is closed."""
    async with AsyncLocalRuntime(**options) as runtime:
        result = await runtime.execute_workflow_async(workflow, inputs)
    assert result["errors"] == {}
    assert result["skipped"] == {}
    return result


async def test_builder_building_async_workflows_resource_management__on_servers(
    block, database, api
):
    """The node asks PostgreSQL, through the pool of 5 to 20 connections that was declared."""
    builder = AsyncWorkflowBuilder()
    block.run(builder=builder)
    registry = builder.get_resource_registry()
    builder.add_async_code(
        "client", "response = await api_client.get('/me')\nresult = response.status"
    )
    result = await run(builder, resource_registry=registry)

    found = result["results"]["db_query"]
    assert [row["name"] for row in found["result"]] == ["Ada", "Cleo"]
    assert (found["resource"], found["operation"]) == ("main_db", "fetch")
    assert result["results"]["client"] == 200
    assert api.asked[0].headers["authorization"] == "Bearer token"
    assert (database[0]["min_size"], database[0]["max_size"]) == (5, 20)
    assert not registry.has_resource("main_db")
    shown = repr([builder.build().metadata, registry, registry.get_metrics()])
    assert "Bearer" not in shown


async def test_migration_migration_steps_update_resource_management_after__on_servers(
    block, database, api
):
    """A connection is acquired and given back."""
    builder = block.run(builder=AsyncWorkflowBuilder())["builder"]
    result = await run(builder, resource_registry=builder.get_resource_registry())

    assert [tuple(row) for row in result["results"]["db_query"]] == USERS
    assert result["metrics"].resource_access_count == {"main_db": 1}
    assert result["metrics"].resource_wait_seconds["main_db"] > 0


async def test_migration_migration_steps_update_error_handling_after__on_servers(block, api):
    """The client's answer is awaited, and so is its JSON."""
    builder = AsyncWorkflowBuilder().with_http_client("api")
    block.run(builder=builder, AsyncPatterns=AsyncPatterns)
    registry = builder.get_resource_registry()
    result = await run(builder, {"url": "/data"}, resource_registry=registry)

    assert result["results"]["api_call"]["value"] == [1, 2, 3]
    assert [asked.path for asked in api.asked] == ["/data"]


async def test_migration_complete_migration_example__after_on_servers(block, api):
    """The second half fetches through the client that it declares."""

    async def transform(item):
        return item * 10

    builder = block.run(part=slice(9, -3))["builder"]
    async with AsyncLocalRuntime(resource_registry=builder.get_resource_registry()) as runtime:
        result = await runtime.execute_workflow_async(builder.build(), {"transform": transform})

    assert result["results"]["fetch"]["value"] == [1, 2, 3]
    assert [asked.path for asked in api.asked] == ["/data"]


async def test_builder_advanced_features_custom_resource_factories(block):
    """The factory, which defines `create` alone, makes a session that sends its key."""
    builder = AsyncWorkflowBuilder()
    made = block.run(builder=builder)
    builder.add_async_code(
        "ask",
        "session = await get_resource('custom_service')\n"
        "async with session.get('/me') as response:\n"
        "    result = {'status': response.status, 'json': await response.json()}",
    )
    workflow = builder.build()
    registry = builder.get_resource_registry()
    factory = made["CustomServiceFactory"]

    assert issubclass(factory, ResourceFactory)
    assert workflow.metadata["resources"]["custom_service"] == {
        "factory_type": "CustomServiceFactory",
        "description": "Custom service client",
        "has_health_check": False,
        "has_cleanup": False,
    }
    assert "your-api-key" not in repr([workflow, dict(workflow.metadata), registry, vars(registry)])

    async def handle(asked):
        return Answer(
            200, {"key": asked.headers["x-api-key"]}, {"Content-Type": "application/json"}
        )

    async with serving(handle) as server:
        builder.require_resource("custom_service", factory("my key", server.url))
        result = await run(workflow, resource_registry=registry)
        await server.none_open.wait()

    assert result["results"]["ask"] == {"status": 200, "json": {"key": "my key"}}


async def test_runtime_quick_start_with_resource_management(block, database):
    """Nodes get the pool by `get_resource`; its password is shown nowhere."""
    builder = WorkflowBuilder()
    code = """
db = await get_resource("main_db")
result = await db.fetchval("SELECT count(*) FROM users")
"""
    builder.add_node("AsyncPythonCodeNode", "count", {"code": code})
    made = await block.arun(workflow=builder.build(), inputs={})

    assert made["result"]["results"] == {"count": {"result": 3}}
    assert made["result"]["metrics"].resource_access_count == {"main_db": 1}
    registry = made["registry"]
    assert isinstance(registry, ResourceRegistry)
    assert database[0]["password"] == "your_password"
    factories = [made_by.factory for made_by in registry._registered.values()]
    assert "your_password" not in repr([registry, factories, registry.get_metrics()])
    await made["runtime"].cleanup()


async def test_runtime_workflow_patterns_mixed_sync_async_support__on_servers(block, database):
    """The rows are asyncpg's; the synchronous node works on them."""
    registry = ResourceRegistry()
    registry.register_factory("main_db", resources.DatabasePoolFactory())
    async with AsyncLocalRuntime(resource_registry=registry) as runtime:
        made = await block.arun(runtime=runtime, WorkflowBuilder=WorkflowBuilder)

    names = [{"name": name.upper()} for _, name, _ in USERS]
    assert made["result"]["results"]["process"] == {"result": {"processed": names}}


def in_production(code):
    """Return *code* with its lines "In production: …" in force."""
    return re.subn(r"# In production(?:, would use)?: (.+)", r"\1", code)


async def test_builder_complete_example_high_performance_data_pipeline__in_production(
    database, api, capsys, monkeypatch
):
    """With the resources that the comments speak of: a pool, a client; all is closed at the end."""
    whole = BLOCKS["builder_complete_example_high_performance_data_pipeline"]
    code, changed = in_production(whole.code)
    noted = []
    execute = AsyncLocalRuntime.execute_workflow_async

    async def noting(self, *arguments):
        noted.append(await execute(self, *arguments))
        return noted[-1]

    monkeypatch.setattr(AsyncLocalRuntime, "execute_workflow_async", noting)
    monkeypatch.setattr(random, "random", lambda: 0.9)
    block = dataclasses.replace(whole, code=code)
    await asyncio.to_thread(block.run, __name__="__main__")  # it calls `asyncio.run`

    assert changed == 2
    assert "Pipeline completed successfully!" in capsys.readouterr().out
    metrics = noted[0]["metrics"]
    assert metrics.resource_access_count == {"main_db": 1, "api": 5}
    assert [user["id"] for user in noted[0]["results"]["aggregate_results"]["users"]] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert database[0]["password"] == "postgres"
