"""Pools of SQLite: many writers on one file, databases in memory, threads that end."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading

import pytest

from pocketflow_async.resources.database import DatabasePoolFactory
from pocketflow_async.resources.sqlite_thread import Call
from tests.resources.database_kit import ENDLESS, at_rest, until


def factory(database, **options):
    return DatabasePoolFactory("sqlite", database=database, **{"min_size": 1, **options})


@pytest.fixture
async def pool(tmp_path):
    """Return a pool on a file with an empty table `logs (id, data)`."""
    async with await factory(tmp_path / "file.db", max_size=10).create() as pool:
        await pool.execute("CREATE TABLE logs (id INTEGER PRIMARY KEY, data)")
        yield pool


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_many_writers_lose_nothing(tmp_path, where):
    """20 connections, 40 tasks, single statements and transactions: all of it is there."""
    database = ":memory:" if where == "memory" else tmp_path / "file.db"

    async def one(number):
        await pool.execute("INSERT INTO logs VALUES (?)", number)
        async with pool.acquire() as connection, connection.transaction():
            had = await connection.fetchval("SELECT value FROM total")
            await connection.execute("UPDATE total SET value = ?", had + 1)
        await pool.executemany("INSERT INTO logs VALUES (?)", [number, number])

    async with await factory(database, max_size=20).create() as pool:
        await pool.execute("CREATE TABLE logs (id)")
        await pool.execute("CREATE TABLE total (value)")
        await pool.execute("INSERT INTO total VALUES (0)")
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(one(number))
        assert await pool.fetchval("SELECT value FROM total") == 40
        assert await pool.fetchval("SELECT count(*) FROM logs") == 120
        assert at_rest(pool)


async def test_pools_of_several_loops_write_one_file(tmp_path):
    """Four event loops in threads open the same new file at once, and write to it."""
    file, ready = tmp_path / "file.db", threading.Barrier(4)

    async def write():
        ready.wait(10)
        async with await factory(file, min_size=3, max_size=3).create() as pool:
            await pool.execute("CREATE TABLE IF NOT EXISTS logs (id)")
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(pool.execute("INSERT INTO logs VALUES (?)", number))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, write()) for _ in range(4)))
    async with await factory(file).create() as pool:
        assert await pool.fetchval("SELECT count(*) FROM logs") == 80
        assert await pool.fetchval("PRAGMA journal_mode") == "wal"


async def test_arguments_come_one_by_one_or_together(pool):
    """`execute(q, a, b)`, `execute(q, (a, b))`, `execute(q, [a, b])` and names in a dict."""
    insert = "INSERT INTO logs VALUES (?, ?)"
    await pool.execute(insert, 1, "a")
    await pool.execute(insert, (2, "b"))
    await pool.execute(insert, [3, "c"])
    await pool.execute("INSERT INTO logs VALUES (:id, :data)", {"id": 4, "data": "d"})
    assert await pool.fetchval("SELECT group_concat(data, '') FROM logs") == "abcd"
    assert await pool.fetchval("SELECT data FROM logs WHERE id = ?", 3) == "c"


async def test_returning_is_done_to_its_end(pool):
    """RETURNING works in all ways, and what was asked for is done even if one row is fetched."""
    insert = "INSERT INTO logs (data) VALUES (?), (?) RETURNING id"
    assert await pool.fetchval(insert, "a", "b") == 1
    assert (await pool.fetchrow(insert, "c", "d"))["id"] == 3
    assert [row["id"] for row in await pool.fetch(insert, "e", "f")] == [5, 6]
    assert await pool.execute(insert, "g", "h") == "INSERT 0 2"
    assert await pool.fetchval("SELECT count(*) FROM logs") == 8
    assert await pool.execute("CREATE TABLE more (x)") == "CREATE"
    assert at_rest(pool)


async def test_readers_do_not_wait_for_a_writer(pool):
    """In WAL mode a reader sees what was there before; a second writer waits for its turn."""
    await pool.execute("INSERT INTO logs VALUES (1, 'old')")
    async with pool.acquire() as writer:
        async with writer.transaction():
            await writer.execute("UPDATE logs SET data = 'new'")
            assert await pool.fetchval("SELECT data FROM logs", timeout=5) == "old"
            late = asyncio.create_task(pool.execute("UPDATE logs SET data = 'newer'"))
            await until(lambda: pool.statistics().leases == 2)
        assert await asyncio.wait_for(late, 20) == "UPDATE 1"
    assert await pool.fetchval("SELECT data FROM logs") == "newer"


async def test_who_waits_to_write_can_be_cancelled(pool):
    """SQLite's own wait cannot be interrupted; ours can, and leaves a connection in order."""
    async with pool.acquire() as writer, writer.transaction():
        await writer.execute("INSERT INTO logs VALUES (1, 'a')")
        waiting = asyncio.create_task(pool.execute("INSERT INTO logs VALUES (2, 'b')"))
        await until(lambda: pool.statistics().leases == 2)
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait_for(asyncio.wait({waiting}), 5)
        assert waiting.cancelled()
        with pytest.raises(TimeoutError):
            await pool.execute("INSERT INTO logs VALUES (2, 'b')", timeout=0.05)
    assert [row["id"] for row in await pool.fetch("SELECT id FROM logs")] == [1]
    await until(lambda: at_rest(pool))


async def test_patience_with_other_writers_has_an_end(tmp_path):
    """After `busy_timeout` SQLite's own error comes; the limit is a setting."""
    file = tmp_path / "file.db"
    async with await factory(file, busy_timeout=0.15).create() as pool:
        await pool.execute("CREATE TABLE logs (id)")
        async with pool.acquire() as writer, writer.transaction():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await pool.execute("INSERT INTO logs VALUES (2)")


async def test_waiting_in_vain_is_not_done(pool):
    """Who has read, and wants to write what another has changed since, is refused at once."""
    async with pool.acquire() as first, first.transaction(readonly=True):
        await first.fetch("SELECT * FROM logs")
        await pool.execute("INSERT INTO logs VALUES (1, 'a')")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await first.execute("INSERT INTO logs VALUES (2, 'b')", timeout=5)
    assert await pool.fetchval("SELECT count(*) FROM logs") == 1


async def test_a_cancelled_writer_has_written_nothing(pool):
    """Cancelled in mid-statement, inside and outside of a transaction, nothing of it is kept."""
    many = f"INSERT INTO logs (data) SELECT * FROM ({ENDLESS['sqlite']})"

    async def within():
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO logs (data) VALUES ('x')")
            await connection.execute(many)

    for work in (within, lambda: pool.execute(many)):
        task = asyncio.create_task(work())
        await until(lambda: pool.statistics().leases == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task}, timeout=20)
        assert task.cancelled()
        assert await pool.fetchval("SELECT count(*) FROM logs") == 0
        await until(lambda: at_rest(pool))


async def test_what_was_called_off_does_not_begin():
    """A call that is cancelled before its thread gets to it is not made."""
    made = []
    call = Call(lambda: made.append(1), 1.0)
    call.is_off = True
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        call()
    assert (made, call.has_ended) == ([], True)


async def test_memory_is_of_its_pool_alone(tmp_path):
    """Two pools in memory share nothing, each pool's connections all; at the end it is gone."""
    one, other = factory(":memory:", min_size=0), factory(":memory:")
    async with await one.create() as first, await other.create() as second:
        await first.execute("CREATE TABLE logs (id)")
        async with first.acquire() as a, first.acquire() as b:
            await a.execute("INSERT INTO logs VALUES (1)")
            assert await b.fetchval("SELECT count(*) FROM logs") == 1
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await second.fetch("SELECT * FROM logs")
    async with await one.create() as again:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await again.fetch("SELECT * FROM logs")


async def test_references_are_enforced_and_settings_set(tmp_path):
    """Foreign keys are on, pragmas are set on each connection, and all of it can be otherwise."""
    wanted = {"synchronous": "NORMAL", "cache_size": -500}
    async with (
        await factory(tmp_path / "a.db", pragmas=wanted, min_size=2).create() as pool,
        pool.acquire() as one,
        pool.acquire() as other,
    ):
        for connection in (one, other):
            assert await connection.fetchval("PRAGMA foreign_keys") == 1
            assert await connection.fetchval("PRAGMA synchronous") == 1
            assert await connection.fetchval("PRAGMA cache_size") == -500
    async with await factory(tmp_path / "b.db", wal=False, foreign_keys=False).create() as pool:
        assert await pool.fetchval("PRAGMA foreign_keys") == 0
        assert await pool.fetchval("PRAGMA journal_mode") == "delete"


async def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    """SQLite's error passes, with a note of which file; nothing is left open."""
    for file in (tmp_path / "no" / "file.db", f"file:{tmp_path}/no.db?mode=ro&key=s3cret"):
        with pytest.raises(sqlite3.OperationalError, match="unable to open") as info:
            await factory(file, min_size=3).create()
        assert "s3cret" not in "".join(info.value.__notes__)
        assert "while opening sqlite, database" in info.value.__notes__[0]
        assert "s3cret" not in f"{factory(file)!r} {factory(file).get_config()}"


async def test_a_uri_may_open_for_reading_only(tmp_path, pool):
    """`file:…?mode=ro` reads, and cannot write."""
    await pool.execute("INSERT INTO logs VALUES (1, 'a')")
    async with await factory(f"file:{tmp_path}/file.db?mode=ro").create() as reader:
        assert await reader.fetchval("SELECT data FROM logs") == "a"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await reader.execute("DELETE FROM logs")


async def test_unused_connections_are_closed_in_time(tmp_path):
    """Above `min_size`, what nobody has used for `max_idle` seconds is closed, threads and all."""
    options = {"max_idle": 0.0, "min_size": 1, "max_size": 6}
    async with await factory(tmp_path / "a.db", **options).create() as pool:
        lent = [await pool.acquire() for _ in range(6)]
        threads = threading.active_count()
        for connection in lent:
            await pool.release(connection)
            await asyncio.sleep(0.001)
        await pool.fetch("SELECT 1")
        await until(lambda: pool.get_size() == 1)
        await until(lambda: threading.active_count() <= threads - 5)


async def test_what_is_not_here_is_of_aiosqlite(pool):
    """Functions, scripts and the rest of aiosqlite's connection are at hand."""
    async with pool.acquire() as connection:
        await connection.create_function("twice", 1, lambda value: 2 * value)
        assert await connection.fetchval("SELECT twice(21)") == 42
        await connection.executescript("CREATE TABLE a (x); CREATE TABLE b (x);")
        assert connection.in_transaction is False


def test_a_program_ends_that_has_closed_nothing(tmp_path, child_env):
    """A pool that is left open does not keep the program from ending."""
    program = """
import asyncio
from pocketflow_async.resources.database import DatabasePoolFactory

async def main():
    global pool
    pool = await DatabasePoolFactory("sqlite", database="left.db").create()
    print(await pool.fetchval("SELECT 7"), flush=True)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=child_env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "7\n"
    assert done.returncode == 0
