"""Pools of MariaDB: connections that are killed, statements that are stopped, odd credentials."""

from __future__ import annotations

import asyncio
import traceback
from urllib.parse import quote

import aiomysql
import pytest

from pocketflow_async.resources.database import DatabasePoolFactory
from pocketflow_async.resources.database_errors import DatabaseUnreachableError
from tests.resources.database_kit import at_rest, until
from tests.service_kit import free_port

ODD = "p@ss:w/o%20rd'\"\\ #?&="


@pytest.fixture
async def pool(mysql_url, unique):
    """Return a pool on a database of the test's own, with an empty table `logs (id, data)`."""
    async with await DatabasePoolFactory.from_url(mysql_url, min_size=0).create() as server:
        await server.execute(f"CREATE DATABASE {unique}")
        factory = DatabasePoolFactory.from_url(mysql_url, database=unique, min_size=1, max_size=5)
        try:
            async with await factory.create() as pool:
                await pool.execute("CREATE TABLE logs (id INT PRIMARY KEY, data VARCHAR(40))")
                yield pool
        finally:
            await server.execute(f"DROP DATABASE {unique}")


async def test_killed_connections_are_replaced(pool):
    """Killed while idle nobody notices; killed at work its user gets the error, others do not."""
    lent = [await pool.acquire() for _ in range(3)]
    threads = [await connection.fetchval("SELECT CONNECTION_ID()") for connection in lent]
    at_work = asyncio.create_task(lent[0].fetch("SELECT SLEEP(60)"))
    other = lent.pop()
    kept = threads.pop()
    await until(lambda: _state(other, threads[0]))
    await other.execute(f"KILL {threads[0]}")
    with pytest.raises(aiomysql.OperationalError):
        await at_work
    for connection in lent:
        await pool.release(connection)
    await other.execute(f"KILL {threads[1]}")
    await pool.release(other)
    await until(lambda: at_rest(pool))
    for _ in range(5):
        assert await pool.fetchval("SELECT CONNECTION_ID()") == kept
    many = [await pool.acquire() for _ in range(5)]
    for connection in many:
        assert await connection.fetchval("SELECT CONNECTION_ID()") not in threads
        await pool.release(connection)
    assert at_rest(pool)


async def _state(connection, thread):
    query = "SELECT count(*) FROM information_schema.processlist WHERE id = %s AND info LIKE %s"
    return await connection.fetchval(query, thread, "SELECT SLEEP%")


async def test_the_server_stops_what_nobody_waits_for(pool):
    """After a cancellation the statement does not go on at the server, where it has locks."""
    await pool.execute("INSERT INTO logs VALUES (1, 'a')")
    locking = "UPDATE logs SET data = CONCAT('b', SLEEP(600)) WHERE id = 1"
    task = asyncio.create_task(pool.execute(locking))
    running = "SELECT count(*) FROM information_schema.processlist WHERE info = %s"
    await until(lambda: pool.fetchval(running, locking))
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()

    async def stopped():
        return not await pool.fetchval(running, locking)

    await until(stopped)
    assert await pool.execute("UPDATE logs SET data = 'c'", timeout=10) == "UPDATE 1"
    assert at_rest(pool)


async def test_arguments_come_one_by_one_or_together(pool):
    """Arguments are escaped; a `%` stands for itself where there are none."""
    insert = "INSERT INTO logs VALUES (%s, %s)"
    await pool.execute(insert, 1, ODD)
    await pool.execute(insert, (2, None))
    await pool.execute("INSERT INTO logs VALUES (%(id)s, %(data)s)", {"id": 3, "data": "a%b"})
    found = await pool.fetch("SELECT * FROM logs ORDER BY id")
    assert [row["data"] for row in found] == [ODD, None, "a%b"]
    assert await pool.fetchval("SELECT id FROM logs WHERE data LIKE 'a%'") == 3
    assert await pool.fetchval("SELECT id FROM logs WHERE data LIKE 'a%%' AND id > %s", 1) == 3


async def test_one_connection_is_for_one_task(pool):
    """Two statements at once on one connection: the second is refused, and the first unharmed."""
    async with pool.acquire() as connection:
        first = asyncio.create_task(connection.fetchval("SELECT SLEEP(0.2)"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="acquire one for each task"):
            await connection.fetchval("SELECT 1")
        assert await first == 0
        assert await connection.fetchval("SELECT 1") == 1


async def test_what_it_sees_of_others_can_be_chosen(pool):
    """`isolation` is that of the transaction; readonly ones cannot write; others are refused."""
    read = "SELECT count(*) FROM logs"
    async with pool.acquire() as connection:
        for isolation, sees in (("repeatable_read", 0), ("read_committed", 1)):
            await pool.execute("DELETE FROM logs")
            async with connection.transaction(isolation=isolation):
                assert await connection.fetchval(read) == 0
                await pool.execute("INSERT INTO logs VALUES (1, 'a')")
                assert await connection.fetchval(read) == sees
        with pytest.raises(aiomysql.Error, match="READ ONLY"):
            async with connection.transaction(readonly=True):
                await connection.execute("DELETE FROM logs")
        with pytest.raises(ValueError, match="isolation must be one of"):
            connection.transaction(isolation="x; DROP TABLE logs")
        assert await connection.fetchval(read) == 1


async def test_no_name_no_server_no_password(mysql_url, unique):
    """What cannot be reached is named with host and port; refusals pass; secrets are not told."""
    port = free_port()
    given = {"password": ODD, "user": unique, "min_size": 1}
    for host, number, says in (
        ("nowhere.invalid", None, "nowhere.invalid:3306"),
        ("127.0.0.1", port, f"127.0.0.1:{port}"),
    ):
        with pytest.raises(DatabaseUnreachableError, match=says) as info:
            await DatabasePoolFactory("mysql", host, number, **given).create()
        assert ODD not in "".join(traceback.format_exception(info.value))
    with pytest.raises(aiomysql.OperationalError, match="Access denied") as info:
        await DatabasePoolFactory.from_url(mysql_url, **given).create()
    assert f"as '{unique}'" in info.value.__notes__[0]
    assert ODD not in "".join(traceback.format_exception(info.value))


async def test_odd_credentials_open_the_door(mysql_url, unique):
    """User and password may hold any sign, given apart or written into a URL."""
    user = f"o'dd\"@/%41{unique[-8:]}"
    async with await DatabasePoolFactory.from_url(mysql_url, min_size=1).create() as server:
        await server.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", user, ODD)
        await server.execute("CREATE USER %s@'localhost' IDENTIFIED BY %s", user, ODD)
        place, port = server.where.host, server.where.port
        credentials = f"{quote(user, safe='')}:{quote(ODD, safe='')}"
        url = f"mysql://{credentials}@{place}:{port}/information_schema"
        try:
            for factory in (
                DatabasePoolFactory("mysql", place, port, "information_schema", user, ODD),
                DatabasePoolFactory.from_url(url),
            ):
                async with await factory.create() as pool:
                    assert (await pool.fetchval("SELECT USER()")).startswith(user)
                    for text in (repr(factory), repr(pool), str(factory.get_config())):
                        assert "p@ss" not in text
                        assert "p%40ss" not in text
        finally:
            await server.execute("DROP USER %s@'%%', %s@'localhost'", user, user)


async def test_what_is_not_here_is_of_aiomysql(pool):
    """Cursors of other kinds, and the rest of aiomysql's connection, are at hand."""
    async with pool.acquire() as connection:
        async with connection.cursor(aiomysql.DictCursor) as cursor:
            await cursor.execute("SELECT 1 AS one")
            assert await cursor.fetchall() == [{"one": 1}]
        assert connection.get_autocommit() is True
