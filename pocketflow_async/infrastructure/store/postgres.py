"""A store in PostgreSQL: durable, and shared by all processes of all machines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from pocketflow_async.infrastructure.store import postgres_statements as sql
from pocketflow_async.infrastructure.store.errors import (
    LeaseLost,
    NotANumberError,
    RunExists,
    StoreError,
)
from pocketflow_async.infrastructure.store.kept import (
    behind,
    check_order,
    content,
    contents,
    emergency_columns,
    emergency_row,
    gapless,
    held,
    name,
    new_entries,
    new_events,
    new_run,
    said,
)
from pocketflow_async.infrastructure.store.model import (
    RUNNING,
    EmergencyChange,
    EmergencyRow,
    Entry,
    EventRow,
    RunRow,
)
from pocketflow_async.infrastructure.store.postgres_link import Link

_created = attrgetter(*sql.CREATED)


class PostgresStore:
    """Keeps everything in one schema of a PostgreSQL database.

    A change is one statement, and acknowledged when it is on the server's disk. When a connection
    is cut, or the server is restarted, what was under way is tried again until *patience* is over;
    a change that may have been kept is looked up first, and never done twice. Leases and times to
    live go by the server's clock. Each event loop has connections of its own.

    Args:
        url: `postgresql://user:password@host:port/database`, and what asyncpg knows besides. Not
            through a pooler that gives each statement to another connection.
        schema: The schema; it and its tables are made when they are first used.
        size: Most connections of one event loop.
        patience: Seconds to keep trying while the server is away.
    """

    durable = True
    shared = True

    def __init__(
        self, url: str, *, schema: str = "pocketflow", size: int = 8, patience: float = 15.0
    ) -> None:
        self._link = Link(url, name("the schema", schema), size, patience)

    def __repr__(self) -> str:
        return f"<PostgresStore: {self._link.where.rstrip(',')}{', closed' * self._link.is_closed}>"

    async def __aenter__(self) -> PostgresStore:
        """Connect, and make the tables if need be.

        Raises:
            StoreUnavailable: The server cannot be reached, or refuses.
        """
        try:
            await self._link.rows("SELECT 1")
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close it when all is done that has been asked for; again is fine."""
        await self._link.close()

    async def health(self) -> Mapping[str, Any]:
        """Return whether the server answers, at once, and how long that takes."""
        where = self._link.where.rstrip(",")
        facts = {"backend": "postgresql", "durable": True, "shared": True, "where": where}
        began = time.perf_counter()
        try:
            await self._link.rows("SELECT 1", patience=0.0)
        except StoreError as error:
            return {"status": "unhealthy", **facts, "error": str(error)}
        seconds = time.perf_counter() - began
        return {"status": "healthy", **facts, "seconds": round(seconds, 6)}

    # --- values by key ----------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """Return a value; None: there is none, or its time is over."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those values that there are, as they were at one moment."""
        wanted = [name("the key", key) for key in keys]
        found = {row["key"]: row["value"] for row in await self._link.rows(sql.GET, wanted)}
        return {key: found[key] for key in wanted if key in found}

    async def put(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Keep a value for *ttl* seconds; None: for ever."""
        await self.put_many({key: value}, ttl)

    async def put_many(self, values: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Keep all of them, or none."""
        kept = contents(values)
        await self._link.change(sql.PUT, list(kept), list(kept.values()), ttl)

    async def put_if_absent(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Keep a value where there is none; return whether it was kept."""
        args = (name("the key", key), content(f"the value of {key!r}", value), ttl)
        return await self._link.change(sql.PUT_IF_ABSENT, *args) is not None

    async def add(self, key: str, amount: int) -> int:
        """Add to a whole number (0 where there is none), its time kept; return the sum."""
        told = await self._link.change(sql.ADD, name("the key", key), str(amount))
        if told is None:
            raise NotANumberError(key)
        return int(told[0] or b"0")

    async def take(self, key: str) -> bytes | None:
        """Return a value and delete it, at once."""
        told = await self._link.change(sql.TAKE, name("the key", key))
        return None if told is None else told[0]

    async def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return await self._link.change(sql.DELETE, name("the key", key)) is not None

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return await self.get(key) is not None

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so, in order."""
        found = await self._link.rows(sql.KEYS, name("the prefix", prefix), behind(prefix))
        return [row["key"] for row in found]

    # --- emergencies ------------------------------------------------------------------------------

    async def emergency(self, controller_id: str) -> EmergencyRow:
        """Return the state of a controller as all processes see it."""
        found = await self._link.rows(sql.GET_EMERGENCY, name("the controller", controller_id))
        return emergency_row(tuple(found[0])) if found else EmergencyRow()

    async def change_emergency(
        self, controller_id: str, change: EmergencyChange
    ) -> tuple[EmergencyRow, EmergencyRow]:
        """Change the state at once; return what it was and what it is now.

        *change* is called again when another process was quicker.
        """
        while True:
            before = await self.emergency(controller_id)
            after = change(before)
            if after is None:
                return before, before
            columns = emergency_columns(replace(after, version=before.version + 1))
            if await self._link.change(sql.SET_EMERGENCY, controller_id, *columns) is not None:
                return before, emergency_row(columns)

    # --- runs -------------------------------------------------------------------------------------

    async def create_run(
        self,
        run: RunRow,
        *,
        lease: float = 0.0,
        entries: Sequence[Entry] = (),
        events: Sequence[EventRow] = (),
        state: Mapping[str, bytes] | None = None,
    ) -> RunRow:
        """Keep a new run, its owner having it for *lease* seconds; return it as it is kept."""
        new = new_run(run, 0.0, lease, entries, events)
        told = await self._link.change(
            sql.CREATE,
            lease if new.owner is not None else None,
            *_created(new),
            *_lines(new_entries(run.run_id, entries, 0.0)),
            *_events(new_events(run.run_id, events, 0.0)),
            *_values(state),
        )
        if told is None:
            raise RunExists(run.run_id)
        return new_run(run, float(told[0] or b"0"), lease, entries, events)

    async def run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        found = await self._link.rows(sql.GET_RUN, name("the run", run_id))
        return RunRow(*found[0]) if found else None

    async def runs(
        self,
        *,
        status: str | None = None,
        workflow_id: str | None = None,
        kind: str | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs, the newest first."""
        filters = {"status": status, "workflow_id": workflow_id, "kind": kind}
        wanted = [
            None if value is None else name(column, value) for column, value in filters.items()
        ]
        return [RunRow(*row) for row in await self._link.rows(sql.RUNS, *wanted, max(limit, 0))]

    async def abandoned(self, limit: int = 100) -> list[RunRow]:
        """Return runs that are running and that nobody has any more, the oldest first."""
        found = await self._link.rows(sql.ABANDONED, RUNNING, max(limit, 0))
        return [RunRow(*row) for row in found]

    async def claim(self, run_id: str, owner: str, lease: float) -> RunRow | None:
        """Take a run that nobody has (its lease is over or given back); None: somebody has it."""
        args = (name("the run", run_id), name("the owner", owner), lease)
        told = await self._link.change(sql.CLAIM, *args)
        if told is None:
            return None
        try:
            return held(await self.run(run_id), run_id, owner, int(told[0] or b"0"))
        except LeaseLost:  # the lease was so short that another has claimed it since
            return None

    async def renew(self, run_id: str, owner: str, fence: int, lease: float) -> None:
        """Have the run for another *lease* seconds."""
        args = (name("the run", run_id), name("the owner", owner), fence, lease)
        if not await self._link.rows(sql.RENEW, *args):
            raise LeaseLost(run_id)

    async def append(
        self,
        run_id: str,
        owner: str,
        fence: int,
        *,
        entries: Sequence[Entry] = (),
        events: Sequence[EventRow] = (),
        state: Mapping[str, bytes] | None = None,
        status: str | None = None,
        result: str | None = None,
        error: str | None = None,
        release: bool = False,
    ) -> None:
        """Add to a run in one transaction: all of it, or nothing."""
        args = (
            *(name("the run", run_id), name("the owner", owner), fence),
            entries[0].place - 1 if entries else None,
            events[0].seq - 1 if events else None,
            *_lines(new_entries(run_id, entries, 0.0)),
            *_events(new_events(run_id, events, 0.0)),
            *_values(state),
            *_said(said(status, result, error, release)),
            release,
        )
        while not gapless(entries, events) or await self._link.change(sql.APPEND, *args) is None:
            # One statement is enough when all is well; now look what is not.
            check_order(held(await self.run(run_id), run_id, owner, fence), entries, events)

    async def entries(self, run_id: str) -> list[Entry]:
        """Return the journal of a run, in order."""
        found = await self._link.rows(sql.GET_ENTRIES, name("the run", run_id))
        return [Entry(*row) for row in found]

    async def events(self, run_id: str, after: int = 0) -> list[EventRow]:
        """Return the events of a run with numbers above *after*, in order."""
        found = await self._link.rows(sql.GET_EVENTS, name("the run", run_id), after)
        return [EventRow(*row) for row in found]


def _said(columns: Mapping[str, Any]) -> tuple[str | None, ...]:
    found = {column: columns.get(column) for column in ("status", "result", "error")}
    if "error" in columns and columns["error"] is None:
        found["error"] = ""  # null leaves it as it is
    return tuple(found.values())


def _values(state: Mapping[str, bytes] | None) -> tuple[list[Any], ...]:
    kept = contents(state)
    return list(kept), list(kept.values())


def _events(events: Sequence[EventRow]) -> tuple[list[Any], ...]:
    return _arrays(events, ("seq", "type", "data", "at"))


def _lines(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    names = ("place", "node_id", "phase", "attempt", "key", "output", "error", "at")
    return _arrays(entries, names)


def _arrays(rows: Sequence[Any], names: Sequence[str]) -> tuple[list[Any], ...]:
    """Return an array for each of the columns *names*."""
    return tuple([getattr(row, column) for row in rows] for column in names)
