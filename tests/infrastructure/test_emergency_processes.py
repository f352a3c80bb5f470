"""Halts between real processes on one SQLite file, some of them killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyHalted
from pocketflow_async.infrastructure.store import SqliteStore
from tests.infrastructure.emergency_kit import control

BEGIN = """
import asyncio, os, signal, sys
from pocketflow_async.infrastructure.emergency import EmergencyController, EmergencyHalted
from pocketflow_async.infrastructure.store import SqliteStore

def say(text):
    print(text, flush=True)

async def main():
    store = SqliteStore(sys.argv[1])
    controller = EmergencyController(store=store)
"""
END = "\nasyncio.run(main())\n"

HALTS_AND_DIES = """
    await controller.halt("loss")
    os.kill(os.getpid(), signal.SIGKILL)
"""
TRADES_UNTIL_HALTED = """
    say("trading")
    count = 0
    while True:
        try:
            await controller.admit("increase")
        except EmergencyHalted as error:
            say(f"halted: {error.reason}")
            break
        count += 1
    await controller.admit("none")
    await store.close()
"""
HALTS_MANY_TIMES = """
    for number in range(20):
        await controller.alert(f"{os.getpid()} {number}")
    await controller.halt(str(os.getpid()))
    await store.close()
"""


@pytest.fixture
def start(child_env, tmp_path):
    """Start programs with the store as their argument; what is left of them is killed."""
    running = []

    def start(body):
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + body + END, str(tmp_path / "s.db")],
            env=child_env,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait(20)
        process.stdout.close()


@contextmanager
def within(seconds):
    before = time.monotonic()
    yield
    assert time.monotonic() - before < seconds


async def test_halt_outlives_kill_9(start, tmp_path):
    """A process that is killed right after `halt()` returned leaves all others halted."""
    process = start(HALTS_AND_DIES)
    assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL

    async with SqliteStore(tmp_path / "s.db") as store, control(store) as controller:
        assert controller.reason == "loss"
        with pytest.raises(EmergencyHalted):
            await controller.assert_can_trade()


async def test_halt_is_seen_by_processes_at_work(start, tmp_path):
    """Processes in the middle of trading refuse their next entry once another has halted."""
    traders = [start(TRADES_UNTIL_HALTED) for _ in range(2)]
    for trader in traders:
        assert await asyncio.to_thread(trader.stdout.readline) == "trading\n"

    async with SqliteStore(tmp_path / "s.db") as store:
        await control(store).halt("by another")
        with within(20):
            for trader in traders:
                assert await asyncio.to_thread(trader.stdout.readline) == "halted: by another\n"
                assert await asyncio.to_thread(trader.wait, 20) == 0


async def test_many_processes_change_one_state(start, tmp_path):
    """Changes by several processes at once are all made, one after the other: none is lost."""
    processes = [start(HALTS_MANY_TIMES) for _ in range(3)]
    for process in processes:
        assert await asyncio.to_thread(process.wait, 50) == 0

    async with SqliteStore(tmp_path / "s.db") as store:
        row = await store.emergency("default")
    reasons = {row.reason, *(one["reason"] for one in row.metadata["further_reasons"])}
    assert row.state == "halt"
    assert reasons == {str(process.pid) for process in processes}


async def test_killed_while_halting_leaves_a_state_that_can_be_read(start, tmp_path):
    """Whenever a halting process is killed, the state is one or the other, and never damaged."""
    for delay in (0.0, 0.002, 0.01):
        process = start('    say("go")\n' + HALTS_MANY_TIMES)
        assert await asyncio.to_thread(process.stdout.readline) == "go\n"
        await asyncio.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait, 20)
        async with SqliteStore(tmp_path / "s.db") as store, control(store) as controller:
            assert str(controller.state) in ("normal", "alert", "halt")
            await controller.reset(operator="test")


async def test_postgres_halts_are_seen_by_other_connections(postgres_url, postgres_schema):
    """On PostgreSQL too, a halt through one pool is refused by the next admission of another."""
    from pocketflow_async.infrastructure.store import PostgresStore

    async with (
        PostgresStore(postgres_url, schema=postgres_schema) as one,
        PostgresStore(postgres_url, schema=postgres_schema) as other,
    ):
        first, second = control(one), control(other)
        await second.admit("increase")
        await first.halt("loss", fact="\0")
        with pytest.raises(EmergencyHalted):
            await second.admit("increase")
        await second.shutdown("fire")
        with pytest.raises(EmergencyHalted, match="fire"):
            await first.resume()
        await first.reset(operator="ann")
        await second.admit("increase")
