"""Pools of PostgreSQL: servers that go away and come back, connections that are killed, secrets."""

from __future__ import annotations

import asyncio
import traceback
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from pocketflow_async.resources.database import DatabasePoolFactory
from pocketflow_async.resources.database_errors import DatabaseUnreachableError
from tests.resources.database_kit import at_rest, until
from tests.service_kit import free_port

ODD = "p@ss:w/o%20rd'\"\\ #?&=ü"
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)
"""What those see whose connection is cut, or cannot be made."""


def factory_of(url, **options):
    return DatabasePoolFactory.from_url(url, **{"min_size": 1, **options})


@pytest.fixture
async def pool(postgres_url, postgres_schema):
    """Return a pool of up to 5 connections in a schema of the test's own."""
    settings = {"search_path": postgres_schema, "application_name": postgres_schema}
    factory = factory_of(postgres_url, max_size=5, server_settings=settings)
    async with await factory.create() as pool:
        yield pool


async def test_a_server_that_is_restarted_is_found_again(own_postgres):
    """Tasks that go on while it restarts lose what was at work, and nothing that was committed."""
    committed, lost, stop = set(), 0, False

    async def writer(number):
        nonlocal lost
        step = 0
        while not stop:
            step += 1
            key = number * 1_000_000 + step
            try:
                async with pool.acquire() as connection:
                    await connection.execute("INSERT INTO done VALUES ($1)", key)
                committed.add(key)
            except LOST:
                lost += 1
                await asyncio.sleep(0.01)

    async with await factory_of(own_postgres.url, min_size=3, max_size=5).create() as pool:
        await pool.execute("CREATE TABLE done (id BIGINT PRIMARY KEY)")
        tasks = [asyncio.create_task(writer(number)) for number in range(10)]
        for end in (own_postgres.stop, own_postgres.kill):
            before = len(committed)
            await until(lambda: len(committed) > before + 50)  # noqa: B023 (used at once)
            await asyncio.to_thread(end)
            seen = lost
            await until(lambda: lost > seen)  # noqa: B023 (likewise)
            await asyncio.to_thread(own_postgres.start)
        before = len(committed)
        await until(lambda: len(committed) > before + 50)
        stop = True
        await asyncio.gather(*tasks)

        assert committed <= {row["id"] for row in await pool.fetch("SELECT id FROM done")}
        await until(lambda: at_rest(pool))
        assert pool.get_size() <= 5


async def test_while_the_server_is_away_it_says_where(own_postgres):
    """A pool whose server has gone says whom it cannot reach, is not well, and has lost no slot."""
    async with await factory_of(own_postgres.url, max_size=2).create() as pool:
        await asyncio.to_thread(own_postgres.stop)
        await until(lambda: pool.get_size() == 0)
        for _ in range(5):
            with pytest.raises(DatabaseUnreachableError, match=f"127.0.0.1:{own_postgres.port}"):
                await pool.fetch("SELECT 1")
        with pytest.raises(DatabaseUnreachableError):
            await pool.check()
        assert at_rest(pool)
        await asyncio.to_thread(own_postgres.start)
        assert await pool.check() is True


async def test_killed_connections_are_replaced(pool):
    """Killed while idle nobody notices; killed at work its user gets the error, others do not."""
    name = await pool.fetchval("SHOW application_name")
    kill = "SELECT pg_terminate_backend($1)"
    async with pool.acquire() as idle:
        first = await idle.fetchval("SELECT pg_backend_pid()")
    async with pool.acquire() as connection, pool.acquire() as other:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        at_work = asyncio.create_task(connection.fetch("SELECT pg_sleep(60)"))
        await until(
            lambda: other.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", pid
            )
        )
        assert await other.fetchval(kill, pid)
        with pytest.raises(LOST):
            await at_work
        with pytest.raises(LOST):
            await connection.fetch("SELECT 1")
    await until(lambda: at_rest(pool))

    others = await asyncpg.connect(host="127.0.0.1", user="postgres", database="postgres")
    try:
        await others.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
            name,
        )
    finally:
        await others.close()
    await until(lambda: pool.get_size() <= pool.get_min_size())
    await until(lambda: _answers(pool))
    assert await pool.fetchval("SELECT pg_backend_pid()") not in (first, pid)
    assert at_rest(pool)


async def _answers(pool):
    try:
        return await pool.check()
    except LOST:
        return False


async def test_one_killed_between_its_work_and_its_return_harms_nobody(pool):
    """What was done on it is done: giving it back raises nothing."""
    async with pool.acquire() as connection:
        await connection.execute("CREATE TABLE kept (id INT)")
        pid = connection.get_server_pid()
        async with pool.acquire() as other:
            await other.fetchval("SELECT pg_terminate_backend($1)", pid)
    assert await pool.fetchval("SELECT count(*) FROM kept") == 0
    await until(lambda: at_rest(pool))


async def test_the_server_stops_what_nobody_waits_for(pool):
    """After a cancellation the statement does not go on at the server."""
    name = await pool.fetchval("SHOW application_name")
    running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query = $2"
    sleeping = "SELECT pg_sleep(600)"
    task = asyncio.create_task(pool.fetch(sleeping))
    await until(lambda: pool.fetchval(f"{running} AND state = 'active'", name, sleeping))
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await until(lambda: at_rest(pool))
    assert await pool.fetchval(f"{running} AND state = 'active'", name, sleeping) == 0


async def test_no_name_no_server_no_database(postgres_url):
    """What cannot be reached is named with host and port, and never with the password."""
    given = {"min_size": 1, "user": "who", "password": ODD}
    port = free_port()
    for host, number, says in (
        ("nowhere.invalid", None, "nowhere.invalid:5432"),
        ("127.0.0.1", port, f"127.0.0.1:{port}"),
    ):
        factory = DatabasePoolFactory(host=host, port=number, **given)
        with pytest.raises(DatabaseUnreachableError, match=says) as info:
            await factory.create()
        assert isinstance(info.value, OSError)
        text = "".join(traceback.format_exception(info.value)) + repr(info.value.__dict__)
        assert ODD not in text
        assert quote(ODD) not in text

    lazy = await DatabasePoolFactory(host="nowhere.invalid", **{**given, "min_size": 0}).create()
    async with lazy:
        with pytest.raises(DatabaseUnreachableError, match=r"nowhere\.invalid"):
            await lazy.acquire()
        assert at_rest(lazy)

    parts = urlsplit(postgres_url)
    wrong = DatabasePoolFactory(host=parts.hostname, port=parts.port, database="no such one")
    with pytest.raises(asyncpg.InvalidCatalogNameError) as info:
        await wrong.create()
    assert "database 'no such one'" in info.value.__notes__[0]


async def test_a_server_that_does_not_answer_is_given_up():
    """Who accepts and says nothing is given up after `connect_timeout`; nothing is left open."""

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()
        left.append(writer)

    left = []
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    for backend in ("postgresql", "mysql"):
        factory = DatabasePoolFactory(backend, "127.0.0.1", port, connect_timeout=0.1)
        with pytest.raises(DatabaseUnreachableError, match="no answer in time"):
            await factory.create()
    await until(lambda: len(left) == 2)
    silent.close()
    await silent.wait_closed()


async def test_odd_credentials_open_the_door(own_postgres):
    """User, password and database may hold any sign, given apart or written into a URL."""
    user, database = 'o\'dd "user"@x/%41', "o'dd db/%41?"
    async with await factory_of(own_postgres.url).create() as pool:
        quoted = [text.replace('"', '""') for text in (user, database)]
        secret = ODD.replace("'", "''")
        await pool.execute(f"CREATE ROLE \"{quoted[0]}\" LOGIN PASSWORD '{secret}'")
        await pool.execute(f'CREATE DATABASE "{quoted[1]}" OWNER "{quoted[0]}"')
    rules = own_postgres.folder / "pg_hba.conf"
    await asyncio.to_thread(own_postgres.stop)
    rules.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    await asyncio.to_thread(own_postgres.start)

    given = {"host": "127.0.0.1", "port": own_postgres.port, "user": user, "database": database}
    place = f"127.0.0.1:{own_postgres.port}"
    credentials = f"{quote(user, safe='')}:{quote(ODD, safe='')}"
    url = f"postgresql://{credentials}@{place}/{quote(database, safe='')}"

    async def secret_later():
        return ODD

    for factory in (
        DatabasePoolFactory(**given, password=ODD, min_size=1),
        DatabasePoolFactory(**given, password=secret_later, min_size=1),
        DatabasePoolFactory.from_url(url, min_size=1),
    ):
        async with await factory.create() as pool:
            assert await pool.fetchval("SELECT current_user") == user
            assert await pool.fetchval("SELECT current_database()") == database
            for text in (repr(factory), repr(pool), str(pool.where), str(factory.get_config())):
                assert "p@ss" not in text
                assert "p%40ss" not in text

    wrong = DatabasePoolFactory(**given, password=ODD.upper())
    with pytest.raises(asyncpg.InvalidPasswordError) as info:
        await wrong.create()
    assert ODD.upper() not in "".join(traceback.format_exception(info.value))


async def test_what_is_not_here_is_of_asyncpg(pool):
    """The pool and its connections have the rest of asyncpg's, and its records."""
    await pool.execute("CREATE TABLE logs (id INT, data TEXT)")
    await pool.copy_records_to_table("logs", records=[(1, "a"), (2, "b")])
    async with pool.acquire() as connection:
        assert isinstance((await connection.fetch("SELECT * FROM logs"))[0], asyncpg.Record)
        statement = await connection.prepare("SELECT data FROM logs WHERE id = $1")
        assert await statement.fetchval(2) == "b"
        async with connection.transaction(isolation="serializable", readonly=True):
            found = [row["id"] async for row in connection.cursor("SELECT id FROM logs")]
        assert found == [1, 2]
        assert connection.is_in_transaction() is False
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with connection.transaction(readonly=True):
                await connection.execute("DELETE FROM logs")
    with pytest.raises(AttributeError):
        pool._nothing


async def test_the_batch_block_of_the_guide_works(pool):
    """`conn.execute("INSERT INTO logs VALUES ($1, $2)", …)` inside `async with db.acquire()`."""
    await pool.execute("CREATE TABLE logs (id INT, data TEXT)")
    async with pool.acquire() as conn:
        for number in range(3):
            await conn.execute("INSERT INTO logs VALUES ($1, $2)", number, f"data {number}")
        result = await conn.fetch("SELECT * FROM logs")
    assert [dict(row) for row in result] == [{"id": n, "data": f"data {n}"} for n in range(3)]


async def test_cancelled_while_giving_back(pool):
    """The connection comes back although the task that gives it back is cancelled."""
    for _ in range(20):
        connection = await pool.acquire()
        task = asyncio.create_task(pool.release(connection))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    await until(lambda: at_rest(pool))
    assert pool.get_size() <= 5


async def test_cancelled_while_the_pool_is_opened(postgres_url, unique):
    """A pool that is cancelled at any moment of its opening leaves no connection."""
    settings = {"application_name": unique}
    factory = factory_of(postgres_url, min_size=3, max_size=5, server_settings=settings)
    for turn in range(12):
        task = asyncio.create_task(factory.create())
        await asyncio.sleep(turn * 0.002)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            await task.result().close()
    async with await factory_of(postgres_url).create() as pool:
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"

        async def gone():
            return await pool.fetchval(count, unique) == 0

        await until(gone)
