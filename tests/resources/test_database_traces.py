"""In a trace one sees which pool, the statement, the wait and the rows; never an argument."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.flows import AsyncFlow
from pocketflow_async.nodes.asynchronous import AsyncNode
from pocketflow_async.resources.database_errors import PoolTimeoutError
from pocketflow_async.resources.uses import naming
from tests.resources import database_kit
from tests.resources.database_kit import until
from tracing import trace_flow
from tracing.testing import capture

database = database_kit.database
SECRET = "do-not-show-me"


class Job(AsyncNode):
    """Does what it is given."""

    async def exec_async(self, _):
        return await self.params["work"]()


async def run(work):
    """Return what is traced while *work* is done in a node of a flow."""

    @trace_flow
    class Flow(AsyncFlow):
        pass

    node = Job()
    flow = Flow(start=node)
    flow.set_params({"work": work})
    with capture() as traces:
        await flow.run_async({})
    return traces


async def opened(database, **options):
    """Return a pool that is called main_db, as a registry would."""
    with naming("main_db"):
        return await database.factory(**options).create()


async def test_statements_are_steps(database):
    """Each has the statement as input, the rows and the wait as facts, and no argument."""
    insert = database.sql("INSERT INTO logs VALUES (?, ?)")
    one = database.sql("SELECT * FROM logs WHERE data = ?")

    async def work():
        await pool.execute(insert, 1, SECRET)
        await pool.executemany(insert, [(2, SECRET), (3, SECRET)])
        async with pool.acquire() as connection:
            await connection.fetch("SELECT * FROM logs")
            await connection.fetchrow(one, SECRET)
        await pool.fetchval("SELECT count(*) FROM logs")

    async with await opened(database) as pool:
        await pool.execute("CREATE TABLE logs (id INTEGER, data VARCHAR(40))")
        traces = await run(work)
        await pool.execute("DROP TABLE logs")
    seen = [span for span in traces.one().walk() if span.kind == "resource"]
    names = ["execute", "executemany", "acquire", "fetch", "fetchrow", "fetchval"]
    assert [span.name for span in seen] == [f"main_db.{name}" for name in names]
    assert {span.outcome for span in seen} == {"completed"}
    execute, many, acquire, fetch, fetchrow, fetchval = seen
    assert [span.input for span in (execute, fetch)] == [
        {"statement": insert},
        {"statement": "SELECT * FROM logs"},
    ]
    for span in seen:
        assert span.attributes["flow.resource"] == "main_db"
        assert span.attributes["db.system.name"] == database.backend
        assert span.attributes["db.namespace"] == pool.where.database
    for span in (execute, many, acquire, fetchval):
        assert span.attributes["flow.resource.waited_seconds"] >= 0
    assert "flow.resource.waited_seconds" not in fetch.attributes
    assert fetch.attributes["db.response.returned_rows"] == 3
    assert fetchrow.attributes["db.response.returned_rows"] == 1
    assert execute.attributes["flow.resource.changed_rows"] == 1
    if database.backend != "sqlite":
        assert fetch.attributes["server.port"] == pool.where.port
    assert SECRET not in traces.tree(contents=True) + str([span.attributes for span in seen])


async def test_waits_are_seen(database):
    """Who waits for a connection has the seconds in the step; who waits in vain has the error."""

    async def work():
        late = asyncio.create_task(pool.fetchval("SELECT 1"))
        await until(lambda: pool.statistics().waiting == 1)
        await asyncio.sleep(0.02)
        with pytest.raises(PoolTimeoutError):
            await pool.acquire(timeout=0.01)
        await pool.release(connection)
        await late

    async with await opened(database, max_size=1) as pool:
        connection = await pool.acquire()
        traces = await run(work)
    assert traces.find("main_db.fetchval").attributes["flow.resource.waited_seconds"] >= 0.02
    failed = traces.find("main_db.acquire")
    assert failed.outcome == "timed_out"
    assert "1 of 1 are in use" in failed.error.message


async def test_failing_and_cancelled_statements_are_seen(database):
    """Their steps end as they did."""

    async def work():
        with pytest.raises(Exception, match="nowhere"):
            await pool.fetch("SELECT * FROM nowhere")
        task = asyncio.create_task(pool.fetch(database.endless))
        await until(lambda: pool.statistics().leases == 1)
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})

    async with await opened(database) as pool:
        traces = await run(work)
    failed, cancelled = traces.one().find_all("main_db.fetch")
    assert (failed.outcome, cancelled.outcome) == ("failed", "cancelled")


async def test_statements_are_redacted(database, monkeypatch):
    """A pattern that is to be redacted is taken out of statements, too."""

    async def work():
        await pool.fetchval("SELECT 'card-4711' /* card-4712 */")

    monkeypatch.setenv("POCKETFLOW_TRACE_REDACT_PATTERNS", r"card-\d+")
    async with await opened(database) as pool:
        traces = await run(work)
    said = traces.find("main_db.fetchval").input["statement"]
    assert "card-" not in said
    assert said.startswith("SELECT '")


async def test_statements_are_left_out_with_the_other_inputs(database, monkeypatch):
    """Who records no inputs records no statements; the facts are still there."""

    async def work():
        await pool.fetch("SELECT 1")

    monkeypatch.setenv("POCKETFLOW_TRACE_INPUTS", "false")
    async with await opened(database) as pool:
        traces = await run(work)
    span = traces.find("main_db.fetch")
    assert span.input is None
    assert span.attributes["db.response.returned_rows"] == 1


async def test_unwatched_nothing_is_told(database):
    """Without a trace there is no step, and the health check is none in any case."""
    async with await opened(database) as pool:
        with capture() as traces:
            await pool.fetch("SELECT 1")
        assert len(traces) == 0
        traces = await run(pool.check)
    assert [span.kind for span in traces.one().walk() if span.kind == "resource"] == []
