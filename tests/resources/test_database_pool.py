"""Pools of database connections have one face, lend in order, and lose nothing."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import suppress

import pytest

from pocketflow_async.resources.database_errors import (
    ConnectionReleasedError,
    PoolClosedError,
    PoolTimeoutError,
)
from tests.resources import database_kit
from tests.resources.database_kit import at_rest, until

database = database_kit.database


async def test_statements_are_the_same_everywhere(database):
    """The five ways give rows by name and place, values, and what was done, on every database."""
    insert = database.sql("INSERT INTO logs VALUES (?, ?)")
    async with database.pool() as pool:
        assert await pool.execute(insert, 1, "a") == "INSERT 0 1"
        assert await pool.executemany(insert, [(2, "b"), (3, "c")]) is None
        update = database.sql("UPDATE logs SET data = ? WHERE id > ?")
        assert await pool.execute(update, "z", 1) == "UPDATE 2"

        found = await pool.fetch("SELECT id, data FROM logs ORDER BY id")
        assert [(row["id"], row[1]) for row in found] == [(1, "a"), (2, "z"), (3, "z")]
        assert dict(found[0]) == {"id": 1, "data": "a"}
        assert (list(found[0]), "id" in found[0], found[0].get("x")) == ([1, "a"], True, None)
        assert await pool.fetch("SELECT id FROM logs WHERE id > 9") == []

        one = database.sql("SELECT id, data FROM logs WHERE id = ?")
        assert (await pool.fetchrow(one, 2))["data"] == "z"
        assert await pool.fetchrow(one, 9) is None
        assert await pool.fetchval(one, 2) == 2
        assert await pool.fetchval(one, 2, column=1) == "z"
        assert await pool.fetchval(one, 9) is None
        assert await pool.execute("DELETE FROM logs") == "DELETE 3"
        assert at_rest(pool)


async def test_connections_are_lent_as_the_guides_do(database):
    """`async with acquire()`, `await acquire()` and `release`; once released it is not used."""
    async with database.pool() as pool:
        async with pool.acquire() as connection:
            await connection.execute(database.sql("INSERT INTO logs VALUES (?, ?)"), 1, "a")
            assert len(await connection.fetch("SELECT * FROM logs")) == 1
            assert pool.statistics().leases == 1
        with pytest.raises(ConnectionReleasedError, match="given back"):
            await connection.fetch("SELECT * FROM logs")

        connection = await pool.acquire()
        assert await connection.fetchval("SELECT id FROM logs") == 1
        await pool.release(connection)
        await pool.release(connection)
        assert "given back" in repr(connection)
        with pytest.raises(ConnectionReleasedError):
            await connection.transaction().start()
        assert at_rest(pool)

        async with await database.factory().create() as other, other.acquire() as foreign:
            with pytest.raises(ValueError, match="was not lent by"):
                await pool.release(foreign)
        with pytest.raises(ValueError, match="was not lent by"):
            await pool.release(None)


async def test_transactions_commit_or_leave_nothing(database):
    """An error rolls back, a savepoint only its own part; cancellation rolls back, too."""
    insert = database.sql("INSERT INTO logs VALUES (?, ?)")
    count = "SELECT count(*) FROM logs"
    async with database.pool() as pool, pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute(insert, 1, "kept")
            with suppress(KeyError):
                async with connection.transaction():
                    await connection.execute(insert, 2, "undone")
                    raise KeyError
            async with connection.transaction():
                await connection.execute(insert, 3, "kept")
        assert [row["id"] for row in await connection.fetch("SELECT id FROM logs")] == [1, 3]

        with suppress(KeyError):
            async with connection.transaction():
                await connection.execute("DELETE FROM logs")
                raise KeyError
        assert await connection.fetchval(count) == 2

        async def stopped():
            async with connection.transaction():
                await connection.execute("DELETE FROM logs")
                begun.set()
                await asyncio.Event().wait()

        begun = asyncio.Event()
        task = asyncio.create_task(stopped())
        await begun.wait()
        task.cancel()
        await asyncio.wait({task})
        assert await connection.fetchval(count) == 2

        async with connection.transaction(readonly=True, isolation="serializable"):
            assert await connection.fetchval(count) == 2
        by_hand = connection.transaction()
        await by_hand.start()
        await connection.execute("DELETE FROM logs")
        await by_hand.rollback()
        assert await connection.fetchval(count) == 2


async def test_what_is_left_open_is_rolled_back_when_given_back(database):
    """Who forgets to end a transaction has done nothing; the next one finds a clean connection."""
    async with database.pool(max_size=1) as pool:
        await pool.execute(database.sql("INSERT INTO logs VALUES (?, ?)"), 1, "a")
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("DELETE FROM logs")
        assert await pool.fetchval("SELECT count(*) FROM logs") == 1
        assert at_rest(pool)


async def test_executemany_does_all_or_nothing(database):
    """If the last of many fails, none of them was done."""
    async with database.pool() as pool:
        await pool.execute("CREATE UNIQUE INDEX only_once ON logs (id)")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await pool.executemany(
                database.sql("INSERT INTO logs VALUES (?, ?)"), [(1, "a"), (2, "b"), (1, "c")]
            )
        assert await pool.fetchval("SELECT count(*) FROM logs") == 0
        assert at_rest(pool)


async def test_a_failing_statement_costs_no_connection(database):
    """Errors of the database pass as they are, and the connection goes on."""
    async with database.pool(max_size=1) as pool:
        for _ in range(5):
            with pytest.raises(Exception, match="nowhere"):
                await pool.fetch("SELECT * FROM nowhere")
        assert await pool.fetchval("SELECT 1") == 1
        assert pool.get_size() == 1
        with pytest.raises(TypeError):
            await pool.fetch("SELECT 1", colour="red")
        assert at_rest(pool)


async def test_a_thousand_share_five_in_order(database):
    """1,000 at once on 5 connections: all are served, never more than 5, first come first."""
    served, now, most = [], 0, 0

    async def one(number):
        nonlocal now, most
        async with pool.acquire() as connection:
            served.append(number)
            now += 1
            most = max(most, now)
            if number % 10 == 0:
                assert await connection.fetchval("SELECT 1") == 1
            else:
                await asyncio.sleep(0)
            now -= 1

    async with database.pool(min_size=5, max_size=5) as pool:
        before = pool.statistics()
        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            for number in range(1000):
                group.create_task(one(number))
        after = pool.statistics()
        assert served == list(range(1000))
        assert most == 5
        assert after.acquired - before.acquired == 1000
        assert after.waited - before.waited == 995
        assert after.size <= 5
        assert at_rest(pool)


async def test_an_exhausted_pool_says_so_in_time(database):
    """With `timeout=` or the pool's own, who waits in vain is told how matters stand."""
    async with database.pool(max_size=2, acquire_timeout=0.05) as pool:
        async with pool.acquire(), pool.acquire() as connection:
            with pytest.raises(
                PoolTimeoutError, match=r"within 0\.01 s: 2 of 2 are in use"
            ) as info:
                await pool.acquire(timeout=0.01)
            assert isinstance(info.value, TimeoutError)
            with pytest.raises(PoolTimeoutError, match=r"within 0\.05 s"):
                await pool.fetch("SELECT 1")
            assert pool.statistics()[2:4] == (2, 0)
            assert pool.statistics().timeouts == 2

            late = asyncio.create_task(pool.fetchval("SELECT 7"))
            await until(lambda: pool.statistics().waiting == 1)
            await pool.release(connection)
            assert await late == 7
            async with pool.acquire(timeout=0.0001) as again:  # one is free: no waiting
                assert await again.fetchval("SELECT 1") == 1
        assert at_rest(pool)


async def test_nothing_is_lost_when_acquirers_are_cancelled(database):
    """400 tasks cancelled at any moment of opening, waiting, using: all slots are there again."""
    chance = random.Random(7)

    async def one():
        async with pool.acquire() as connection:
            await connection.fetchval("SELECT 1")
            async with connection.transaction():
                await connection.fetchval("SELECT 1")

    async with database.pool(min_size=0, max_size=4) as pool:
        for _ in range(8):
            tasks = [asyncio.create_task(one()) for _ in range(50)]
            for task in tasks:
                if chance.random() < 0.7:
                    asyncio.get_running_loop().call_later(chance.random() * 0.02, task.cancel)
            await asyncio.wait(tasks)
        await until(lambda: at_rest(pool))
        assert pool.get_size() <= 4

        lent = [await pool.acquire(timeout=5) for _ in range(4)]
        for connection in lent:
            assert await connection.fetchval("SELECT 1") == 1
            await pool.release(connection)
        assert at_rest(pool)


async def test_a_place_given_together_with_the_cancellation_goes_on(database):
    """Who is cancelled in the moment when a connection becomes free passes it to the next."""
    async with database.pool(max_size=1) as pool:
        connection = await pool.acquire()
        first = asyncio.create_task(pool.fetchval("SELECT 1"))
        second = asyncio.create_task(pool.fetchval("SELECT 2"))
        await until(lambda: pool.statistics().waiting == 2)
        await pool.release(connection)
        first.cancel()
        assert await asyncio.wait_for(second, 10) == 2
        await asyncio.wait({first})
        await until(lambda: at_rest(pool))


async def test_a_statement_is_stopped_when_its_task_is(database):
    """Cancelled in mid-query, the statement ends, and the pool has all its connections."""
    async with database.pool(max_size=1) as pool:
        for timeout in (None, 0.2):
            task = asyncio.create_task(pool.fetch(database.endless, timeout=timeout))
            await until(lambda: pool.statistics().leases == 1)
            if timeout is None:
                await asyncio.sleep(0.05)  # let it get to the server; any moment would do
                task.cancel()
            await asyncio.wait({task}, timeout=20)
            assert (
                task.cancelled() if timeout is None else isinstance(task.exception(), TimeoutError)
            )
            assert await pool.fetchval("SELECT 1") == 1
            assert at_rest(pool)


async def test_closing_lets_those_finish_who_have_one(database):
    """Close waits for connections that are out; who waits for one is told that it is closed."""
    async with database.pool(max_size=1) as pool:
        connection = await pool.acquire()
        waiting = asyncio.create_task(pool.fetch("SELECT 1"))
        await until(lambda: pool.statistics().waiting == 1)
        closing = asyncio.create_task(pool.close())
        again = asyncio.create_task(pool.close())
        with pytest.raises(PoolClosedError, match="is closed"):
            await waiting
        assert await connection.fetchval("SELECT 1") == 1
        assert not closing.done()
        await connection.execute("DROP TABLE logs")
        await pool.release(connection)
        await asyncio.wait_for(asyncio.gather(closing, again), 20)

        assert (pool.get_size(), pool.is_closing()) == (0, True)
        with pytest.raises(PoolClosedError):
            await pool.acquire()
        assert await pool.check() is False
        await pool.close()


async def test_a_close_that_takes_too_long_cuts(database):
    """Cancelled while it waits for somebody's connection, close leaves nothing open."""
    pool = await database.factory(max_size=2).create()
    connection = await pool.acquire()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.close(), 0.05)
    with pytest.raises(Exception, match=r"(?i)closed|released|not connected|no active"):
        await connection.fetch("SELECT 1")
    await pool.release(connection)
    await until(lambda: pool.get_size() == 0)
    pool.terminate()


async def test_terminate_cuts_whatever_goes_on(database):
    """Statements at work end with an error, those who wait are told, nothing is left open."""
    pool = await database.factory(max_size=1).create()
    at_work = asyncio.create_task(pool.fetch(database.endless))
    await until(lambda: pool.statistics().leases == 1)
    waiting = asyncio.create_task(pool.fetch("SELECT 1"))
    await until(lambda: pool.statistics().waiting == 1)
    await asyncio.sleep(0.05)
    pool.terminate()
    done, _ = await asyncio.wait({at_work, waiting}, timeout=20)
    assert done == {at_work, waiting}
    assert isinstance(waiting.exception(), PoolClosedError)
    assert at_work.exception() is not None
    await until(lambda: pool.statistics()[:4] == (0, 0, 0, 0))


async def test_a_pool_in_full_use_is_well(database):
    """The health check does not wait for a connection, and does answer when there is one."""
    async with database.pool(max_size=1) as pool:
        assert await pool.check() is True
        async with pool.acquire():
            assert await asyncio.wait_for(pool.check(), 1) is True
        factory = database.factory()
        assert await factory.check(pool) is True


async def test_a_pool_belongs_to_its_loop(database):
    """On another event loop it says so, instead of hanging or breaking its connections."""
    async with database.pool() as pool:

        def elsewhere():
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                asyncio.run(pool.fetch("SELECT 1"))

        await asyncio.to_thread(elsewhere)
        assert await pool.fetchval("SELECT 1") == 1


async def test_pools_of_a_closed_loop_are_cut(database):
    """A loop that was closed over an open pool leaves connections, which `terminate` closes."""
    factory = database.factory(min_size=2, max_size=3)

    def forgotten():
        loop = asyncio.new_event_loop()
        pool = loop.run_until_complete(factory.create())
        lent = loop.run_until_complete(pool.acquire())
        assert loop.run_until_complete(lent.fetchval("SELECT 1")) == 1
        loop.close()
        factory.terminate(pool)
        factory.terminate(pool)
        assert pool.is_closing()
        del lent
        gc.collect()

        async def anew():
            async with await factory.create() as fresh:
                return await fresh.fetchval("SELECT 2")

        assert asyncio.run(anew()) == 2

    await asyncio.to_thread(forgotten)
    gc.collect()


async def test_only_so_many_are_opened_as_are_needed(database):
    """One after another they use one connection; the pool grows only when all are in use."""
    async with database.pool(min_size=0, max_size=5) as pool:
        for _ in range(20):
            await pool.fetchval("SELECT 1")
        assert pool.get_size() == 1
        async with pool.acquire(), pool.acquire(), pool.acquire():
            assert (pool.get_size(), pool.get_idle_size()) == (3, 0)
        assert (pool.get_size(), pool.get_idle_size()) == (3, 3)
        assert (pool.get_min_size(), pool.get_max_size()) == (0, 5)


async def test_an_acquire_gives_one_connection(database):
    """Entered twice it says so; and it may be entered again once it has given back."""
    async with database.pool(max_size=2) as pool:
        acquiring = pool.acquire()
        async with acquiring:
            with pytest.raises(RuntimeError, match="call it again"):
                async with acquiring:
                    pass
        async with acquiring as connection:
            assert await connection.fetchval("SELECT 1") == 1
        assert at_rest(pool)
