"""Stores for tests: one of each kind, whose time can be let pass without waiting."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from pocketflow_async.infrastructure.store import (
    Entry,
    EventRow,
    MemoryStore,
    PostgresStore,
    RunRow,
    SqliteStore,
)

KINDS = ("memory", "sqlite", "postgres")
START = 1_800_000_000.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class World:
    """A store, and the time it lives in.

    Args:
        kind: "memory", "sqlite" or "postgres".
        folder: Where its file is.
        url: The PostgreSQL server.
        schema: The schema there.
    """

    def __init__(self, kind: str, folder: Path, url: str = "", schema: str = "") -> None:
        self.kind = kind
        self.clock = Clock()
        self.path = folder / "store.db"
        self._url, self._schema = url, schema
        self._stack = AsyncExitStack()
        self.store: Any = None

    async def __aenter__(self) -> World:
        self.store = await self._stack.enter_async_context(self.another())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def another(self) -> Any:
        """Return a second store at the same place; not for memory."""
        if self.kind == "memory":
            return MemoryStore(clock=self.clock)
        if self.kind == "sqlite":
            return SqliteStore(self.path, clock=self.clock)
        return PostgresStore(self._url, schema=self._schema)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass: PostgreSQL's own clock cannot be moved, so everything becomes older."""
        self.clock.now += seconds
        if self.kind != "postgres":
            return
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(f'SET search_path = "{self._schema}"')
            await connection.execute("UPDATE state SET until = until - $1::float8", seconds)
            await connection.execute(
                "UPDATE runs SET lease_until = lease_until - $1::float8 WHERE owner IS NOT NULL",
                seconds,
            )
        finally:
            await connection.close()


def a_run(run_id: str = "r", **changes: Any) -> RunRow:
    """Return a run that "me" is to have."""
    return replace(RunRow(run_id, "workflow", "w", "hash", owner="me"), **changes)


def an_entry(place: int, run_id: str = "r", **changes: Any) -> Entry:
    """Return a line of a journal."""
    return replace(Entry(run_id, place, "node", "completed"), **changes)


def an_event(seq: int, run_id: str = "r", **changes: Any) -> EventRow:
    """Return an event."""
    return replace(EventRow(run_id, seq, "node_completed", "{}"), **changes)


def timeless(value: Any) -> Any:
    """Return *value* without what two clocks disagree about."""
    if isinstance(value, RunRow):
        return replace(value, created_at=0, updated_at=0, lease_until=min(value.lease_until, 1))
    if isinstance(value, Entry | EventRow):
        return replace(value, at=0)
    if isinstance(value, list | tuple):
        return [timeless(item) for item in value]
    return value


async def until(probe: Callable[[], Awaitable[Any]]) -> Any:
    """Return what *probe* yields as soon as it is true."""
    async with asyncio.timeout(30):
        while True:
            if found := await probe():
                return found
            await asyncio.sleep(0.005)


class Program:
    """A process that works with a store; see `store_worker`.

    Args:
        what: What it does.
        url: The store.
        *args: More for it.
    """

    def __init__(self, what: str, url: str, *args: object) -> None:
        command = [sys.executable, "-m", "tests.infrastructure.store_worker", what, url]
        self.process = subprocess.Popen(
            [*command, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

    def line(self) -> list[str]:
        """Return the words of the next line; of none if it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().split()

    def say(self, text: str) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def kill(self) -> list[list[str]]:
        """End it at once; return all that it had acknowledged."""
        self.process.kill()
        return self.rest()

    def rest(self) -> list[list[str]]:
        """Wait for its end; return all whole lines that are left."""
        left, _ = self.process.communicate(timeout=60)
        return [line.split() for line in left.decode().split("\n")[:-1]]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
