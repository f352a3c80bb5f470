"""A store in PostgreSQL: servers that go away, answers that are lost, and who is told what."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from pocketflow_async.infrastructure.store import (
    MemoryStore,
    PostgresStore,
    StoreUnavailable,
    UnstorableError,
    postgres_link,
    postgres_schema,
)
from pocketflow_async.infrastructure.store.postgres_errors import meaning, place
from tests.infrastructure.store_kit import a_run, an_entry, timeless, until
from tests.service_kit import free_port


@pytest.fixture
async def schema(postgres_schema):
    """Return a schema of the test's own."""
    return postgres_schema


@pytest.fixture
async def store(postgres_url, schema):
    """Return an open store."""
    async with PostgresStore(postgres_url, schema=schema) as store:
        yield store


@pytest.fixture
async def sql(postgres_url, schema):
    """Return a connection of somebody else."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f'SET search_path = "{schema}"')
    yield connection
    await connection.close()


async def connections(sql, schema):
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    return await sql.fetchval(query, f"pocketflow {schema}")


class Proxy:
    """Stands between a store and its server, and loses what it is told to.

    Attributes:
        mode: "pass"; "lose": the next answers are lost, and the connection with them; "swallow":
            nothing is answered any more; "cut": the connection ends once a question has gone on.
    """

    def __init__(self, url):
        self._to = urlsplit(url)
        self.mode = "pass"
        self.cuts = 0

    @asynccontextmanager
    async def open(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield self._to._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()
        finally:
            server.close()

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        pipes = [
            asyncio.ensure_future(self._pipe(reader, back, asks=True)),
            asyncio.ensure_future(self._pipe(there, writer, asks=False)),
        ]
        await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        for end in (writer, back):
            end.close()
        await asyncio.gather(writer.wait_closed(), back.wait_closed(), return_exceptions=True)

    async def _pipe(self, source, sink, asks):
        while data := await source.read(65536):
            if not asks and self.mode == "swallow":
                continue
            if not asks and self.mode == "lose":
                self._cut()
                return
            sink.write(data)
            await sink.drain()
            if asks and self.mode == "cut":
                self._cut()
                return

    def _cut(self):
        self.mode = "pass"
        self.cuts += 1


@pytest.fixture
async def proxy(postgres_url):
    """Return a proxy to the server."""
    return Proxy(postgres_url)


@pytest.fixture
async def lossy(proxy, schema):
    """Return a store behind the proxy, with one connection that has been used."""
    async with proxy.open() as url, PostgresStore(url, schema=schema, size=1) as store:
        # All statements are known to the connection: a change is one question and one answer.
        await store.create_run(a_run("warm", owner=None))
        await store.claim("warm", "me", 60)
        await store.renew("warm", "me", 1, 60)
        await store.append("warm", "me", 1, entries=[an_entry(1)])
        await store.change_emergency("warm", lambda row: row)
        await store.put_if_absent("warm", b"1")
        await store.add("warm", 1)
        await store.delete("warm")
        await store.take("warm")
        await store._link.rows(postgres_link.sql.RECALL, uuid4())
        yield store


# --- answers that are lost ------------------------------------------------------------------------

CHANGES = {
    "put": lambda store: store.put("k", b"2"),
    "put_if_absent": lambda store: store.put_if_absent("new", b"1"),
    "add": lambda store: store.add("n", 5),
    "take": lambda store: store.take("k"),
    "delete": lambda store: store.delete("k"),
    "change_emergency": lambda store: store.change_emergency(
        "c", lambda row: replace(row, metadata={"n": row.metadata.get("n", 0) + 1})
    ),
    "create_run": lambda store: store.create_run(a_run("new"), lease=60, state={"s": b"1"}),
    "claim": lambda store: store.claim("free", "me", 60),
    "renew": lambda store: store.renew("r", "me", 1, 60),
    "append": lambda store: store.append("r", "me", 1, entries=[an_entry(1)], release=True),
}


@pytest.mark.parametrize("mode", ["lose", "cut"])
@pytest.mark.parametrize("name", CHANGES)
async def test_changes_whose_answer_is_lost_are_done_once(lossy, proxy, name, mode):
    """The connection ends before or after the commit: the change is done once, and answered."""
    results = []
    for store in (MemoryStore(), lossy):
        await store.put_many({"k": b"1", "n": b"1"})
        await store.create_run(a_run(), lease=60)
        await store.create_run(a_run("free", owner=None))
        if store is lossy:
            proxy.mode = mode
        answer = await CHANGES[name](store)
        values = await store.get_many(["k", "n", "new", "s"])
        runs = [run for run in await store.runs() if run.run_id != "warm"]
        rest = await store.emergency("c"), await store.entries("r")
        results.append(timeless([answer, values, runs, rest]))

    assert proxy.cuts == 1
    assert results[0] == results[1]


async def test_a_change_that_is_still_under_way_is_not_done_a_second_time(lossy, proxy, sql):
    """The server works on at what was cut off; the second try waits for it, and finds it done."""
    await lossy.put("n", b"1")
    lock = sql.transaction()
    await lock.start()
    await sql.execute("SELECT 1 FROM state WHERE key = 'n' FOR UPDATE")
    proxy.mode = "cut"
    task = asyncio.create_task(lossy.add("n", 10))

    async def both_wait():
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return await sql.fetchval(query) >= 2

    await until(both_wait)
    await lock.commit()

    assert await task == 11
    assert await lossy.get("n") == b"11"


async def test_claims_that_are_still_under_way_are_ours(lossy, proxy, sql):
    """Who finds its run claimed by its own first try has claimed it."""
    await lossy.create_run(a_run(owner=None))
    lock = sql.transaction()
    await lock.start()
    await sql.execute("SELECT 1 FROM runs FOR UPDATE")
    proxy.mode = "cut"
    task = asyncio.create_task(lossy.claim("r", "me", 60))

    async def both_wait():
        return await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") >= 2

    await until(both_wait)
    await lock.commit()

    assert ((await task).owner, (await task).fence) == ("me", 1)


async def test_who_cannot_be_told_is_told_so(proxy, schema):
    """If the server does not come back, the error says that the change may have been kept."""
    async with proxy.open() as url:
        store = PostgresStore(url, schema=schema, patience=0.3)
        await store.put("a", b"1")
        proxy.mode = "swallow"
        with pytest.raises(StoreUnavailable, match="not known whether the last change was kept"):
            await store.put("a", b"2")
        with pytest.raises(StoreUnavailable) as told:
            await store.get("a")
        assert "not known" not in str(told.value)
        assert (await store.health())["status"] == "unhealthy"
        proxy.mode = "pass"

        assert await store.get("a") in (b"1", b"2")
        assert (await store.health())["status"] == "healthy"
        await store.close()


async def test_cut_connections_cost_nothing(store, sql, schema):
    """Somebody ends all connections, again and again, while 10 tasks work: nothing is lost."""
    await store.create_run(a_run(), lease=600)
    sums, over = [], False

    async def counter():
        while not over:
            sums.append(await store.add("n", 1))

    async def writer():
        place = 0
        while not over:
            place += 1
            await store.append("r", "me", 1, entries=[an_entry(place)])
        return place

    tasks = [asyncio.create_task(counter()) for _ in range(9)]
    writing = asyncio.create_task(writer())
    for _ in range(10):
        seen = len(sums)

        async def moved(seen=seen):
            return len(sums) > seen + 30

        await until(moved)
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
        assert await sql.fetch(query, f"pocketflow {schema}")
    over = True
    await asyncio.gather(*tasks)
    places = await writing

    assert sorted(sums) == list(range(1, len(sums) + 1))
    assert await store.get("n") == b"%d" % len(sums)
    assert [entry.place for entry in await store.entries("r")] == list(range(1, places + 1))


async def test_servers_that_are_restarted_cost_nothing(own_postgres):
    """Stopped in good order and killed while 8 tasks work: each sum is counted once, or waits."""
    sums, over = [], False

    async def counter():
        while not over:
            sums.append(await store.add("n", 1))

    async with PostgresStore(own_postgres.url, patience=60) as store:
        tasks = [asyncio.create_task(counter()) for _ in range(8)]
        for end in (own_postgres.stop, own_postgres.kill, own_postgres.kill):
            seen = len(sums)

            async def moved(seen=seen):
                return len(sums) > seen + 50

            await until(moved)
            await asyncio.to_thread(end)
            await asyncio.to_thread(own_postgres.start)
        over = True
        await asyncio.gather(*tasks)

        assert sorted(sums) == list(range(1, len(sums) + 1))
        assert await store.get("n") == b"%d" % len(sums)


async def test_servers_that_stay_away_are_named(own_postgres):
    """The error comes when patience is over, with host and port; health comes at once."""
    store = PostgresStore(own_postgres.url, patience=0.2)
    await store.put("a", b"1")
    await asyncio.to_thread(own_postgres.stop)

    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{own_postgres.port}.*Is it running"):
        await store.get("a")
    facts = await store.health()
    assert facts["status"] == "unhealthy"
    assert str(own_postgres.port) in facts["error"]

    await asyncio.to_thread(own_postgres.start)
    assert await store.get("a") == b"1"
    await store.close()


# --- the server and the schema --------------------------------------------------------------------


async def test_many_may_open_a_new_schema_at_once(postgres_url, schema):
    """Eight that are the first do not get in each other's way."""
    stores = [PostgresStore(postgres_url, schema=schema) for _ in range(8)]
    await asyncio.gather(*(store.add("n", 1) for store in stores))

    assert await stores[0].get("n") == b"8"
    await asyncio.gather(*(store.close() for store in stores))


async def test_schemas_are_made_whatever_their_name(postgres_url, unique):
    """A schema that is not there is made; capitals, quotes and spaces are part of its name."""
    schema = f'{unique} "O\'Hara" Ü'
    async with PostgresStore(postgres_url, schema=schema) as store:
        await store.put("a", b"1")
        assert await store.get("a") == b"1"
        query = "SELECT count(*) AS n FROM pg_namespace WHERE nspname = $1"
        assert (await store._link.rows(query, schema))[0]["n"] == 1
        await store._link.rows(f"DROP SCHEMA {postgres_schema.quoted(schema)} CASCADE")
        with pytest.raises(StoreUnavailable, match="has lost its tables"):
            await store.get("a")


async def test_older_schemas_are_upgraded(postgres_url, schema, sql, monkeypatch):
    """A newer program changes the tables and keeps what is there; an older one then refuses."""
    async with PostgresStore(postgres_url, schema=schema) as store:
        await store.put("a", b"1")
    with monkeypatch.context() as patch:
        newer = (*postgres_schema.UPGRADES, "CREATE TABLE more (x INT)")
        patch.setattr(postgres_schema, "UPGRADES", newer)
        for _ in range(2):
            async with PostgresStore(postgres_url, schema=schema) as store:
                assert await store.get("a") == b"1"
        assert await sql.fetch("SELECT * FROM more") == []

    with pytest.raises(StoreUnavailable, match=r"is of version 2.*Upgrade"):
        async with PostgresStore(postgres_url, schema=schema):
            pass


async def test_schemas_of_something_else_are_left_alone(postgres_url, schema, sql):
    """Tables that are there already are not mixed with ours."""
    await sql.execute("CREATE TABLE runs (x INT)")

    with pytest.raises(StoreUnavailable, match="tables of something else"):
        async with PostgresStore(postgres_url, schema=schema):
            pass

    names = await sql.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    assert [row["tablename"] for row in names] == ["runs"]


async def test_addresses_that_are_wrong_are_told_without_their_password():
    """Nobody there, no such database, and what is no address: what to do, and no secret."""
    port = free_port()
    for url, wanted in {
        f"postgresql://me:hunter2@127.0.0.1:{port}/db": f"127.0.0.1:{port}/db",
        f"postgresql://me:hun@ter2@127.0.0.1:{port}/db": f"127.0.0.1:{port}/db",
        "postgresql://me:hunter2@127.0.0.1:port/db": "127.0.0.1:port/db",
        f"postgresql://127.0.0.1:{port}/db?user=me&password=hunter2": f"127.0.0.1:{port}/db",
    }.items():
        store = PostgresStore(url, patience=0.05)
        with pytest.raises(StoreUnavailable) as told:
            await store.get("a")
        shown = [repr(store), str(told.value), str((await store.health()).get("error", ""))]
        assert "hunter2" not in "".join(shown)
        assert "ter2" not in "".join(shown)
        assert wanted in str(told.value)
        await store.close()


async def test_databases_that_are_not_there_are_told(postgres_url, unique):
    """The error comes at once: waiting would not help."""
    url = urlsplit(postgres_url)._replace(path=f"/{unique}").geturl()

    with pytest.raises(StoreUnavailable, match=r"has no such database.*createdb"):
        async with PostgresStore(url, patience=60):
            pass


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (asyncpg.DiskFullError("no space left"), "the disk is full.*Make room"),
        (asyncpg.InvalidPasswordError("no"), "lets nobody in so.*pg_hba"),
        (asyncpg.InsufficientPrivilegeError("no"), "does not allow that.*GRANT"),
        (asyncpg.ReadOnlySQLTransactionError("no"), "cannot be reached"),
        (asyncpg.TooManyConnectionsError("no"), "cannot be reached"),
        (asyncpg.ProgramLimitExceededError("no"), "not taken by PostgreSQL"),
        (TimeoutError(), "no answer in time"),
        (asyncpg.SyntaxOrAccessError("huh"), "refuses: huh"),
    ],
)
def test_troubles_are_told_in_our_words(error, wanted):
    """What asyncpg raises becomes an error that says where, what, and what to do."""
    told = meaning(error, "the place")

    assert isinstance(told, StoreUnavailable | UnstorableError)
    with pytest.raises(type(told), match=wanted):
        raise told


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://u:p@h:1/d?sslmode=require", "//h:1/d,"),
        ("postgresql://u:p/q@h/d", "//h/d,"),
        ("postgresql://u:p#q@h/d", "//h/d,"),
        ("postgresql://u:p?q@h/d", "//,"),
        ("postgresql:///d?host=/tmp", "///d,"),
    ],
)
def test_places_have_no_secrets(url, wanted):
    """However a password is written, it is no part of what is shown."""
    assert wanted in place(url, "s")


# --- its connections ------------------------------------------------------------------------------


async def test_closing_leaves_no_connection(postgres_url, schema, sql):
    """No more connections than it may have, and none when it is closed."""
    async with PostgresStore(postgres_url, schema=schema, size=3) as store:
        await asyncio.gather(*(store.add("n", 1) for _ in range(30)))
        assert await connections(sql, schema) == 3

    async def none_left():
        return await connections(sql, schema) == 0

    await until(none_left)


async def test_cancelled_callers_take_no_connection_with_them(postgres_url, schema):
    """100 that are cancelled in the middle leave a store that works, with all its places."""
    async with PostgresStore(postgres_url, schema=schema, size=2) as store:
        for number in range(100):
            task = asyncio.create_task(store.add("n", 1))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        before = int(await store.get("n") or b"0")
        assert before <= 100
        await asyncio.gather(*(store.add("n", 1) for _ in range(20)))
        assert await store.get("n") == b"%d" % (before + 20)


def test_one_store_may_be_used_by_one_loop_after_another(postgres_url, schema):
    """`asyncio.run` again and again: connections of a loop that is closed do not stay."""
    store = PostgresStore(postgres_url, schema=schema, size=2)

    async def last():
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = $1"

        async def one_left():
            return (await store._link.rows(query, f"pocketflow {schema}"))[0]["n"] == 1

        await until(one_left)
        await store.close()

    assert [asyncio.run(store.add("n", 1)) for _ in range(3)] == [1, 2, 3]
    asyncio.run(last())
    gc.collect()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_processes_connect_anew(postgres_url, schema):
    """Parent and child go on with the same store, and not with the same connections."""
    store = PostgresStore(postgres_url, schema=schema)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(store.add("n", 1))
    child = os.fork()
    if not child:
        code = 1
        try:
            assert asyncio.run(store.add("n", 10)) >= 11
            asyncio.run(store.close())
            code = 0
        finally:
            os._exit(code)
    loop.run_until_complete(store.add("n", 100))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert loop.run_until_complete(store.add("n", 1000)) == 1111
    loop.run_until_complete(store.close())
    loop.close()


async def test_outcomes_do_not_stay_for_ever(store, sql, monkeypatch):
    """What nobody can ask for any more is deleted, and values whose time is over with it."""
    for number in range(5):
        await store.put(f"k{number}", b"", 10)
    await sql.execute("UPDATE outcomes SET at = at - 7200")
    await sql.execute("UPDATE state SET until = until - 100")
    assert await sql.fetchval("SELECT count(*) FROM outcomes") == 5
    monkeypatch.setattr(store._link, "_sweep_at", 0.0)

    await store.put("k", b"")

    assert await sql.fetchval("SELECT count(*) FROM outcomes") == 1
    assert await sql.fetchval("SELECT count(*) FROM state") == 1


def test_outcomes_are_kept_longer_than_anybody_asks():
    """Nobody is as patient as an outcome is old when it is deleted."""
    assert "3600" in postgres_link.sql.SWEEP
