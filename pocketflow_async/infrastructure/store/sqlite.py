"""A store in one SQLite file: durable, and shared by all processes of one machine."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pocketflow_async.infrastructure.store import sqlite_work as work
from pocketflow_async.infrastructure.store.errors import StoreError, StoreUnavailable
from pocketflow_async.infrastructure.store.kept import (
    content,
    contents,
    name,
    new_entries,
    new_events,
    said,
)
from pocketflow_async.infrastructure.store.model import (
    EmergencyChange,
    EmergencyRow,
    Entry,
    EventRow,
    RunRow,
)
from pocketflow_async.infrastructure.store.sqlite_worker import Worker

_SWEEP: Final = 60.0  # seconds between two times that values are deleted whose time is over
_FAREWELL: Final = 2.0  # seconds that a store left open may take to end with the program

_making = threading.Lock()
_inherited: list[Worker] = []
"""Those of the process that this one was forked from: their files must not even be closed here."""


def _renew_lock() -> None:
    global _making
    _making = threading.Lock()  # another thread may have had it when this process was forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class SqliteStore:
    """Keeps everything in one file, for all event loops, threads and processes of one machine.

    A change that is acknowledged is on the disk. One thread has the file open, from the first use
    until the store is closed; changes that wait at the same time are committed together, each of
    them whole or not at all. A forked process opens the file anew. The file and what SQLite puts
    beside it must be on a local disk, and must not be removed while a program uses them.

    Args:
        path: The file; it and its folder are made when they are first used.
        busy_timeout: Seconds to wait for other processes that write.
        clock: Returns seconds since the epoch; processes that share the file need the same.
    """

    durable = True
    shared = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = Path(os.path.abspath(path))  # the folder may be changed later
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._worker: Worker | None = None
        self._sweep_at = 0.0
        self._closed = False

    def __repr__(self) -> str:
        return f"<SqliteStore: {self.path}{', closed' * self._closed}>"

    async def __aenter__(self) -> SqliteStore:
        """Open the file.

        Raises:
            StoreUnavailable: It cannot be opened.
        """
        try:
            await self._read(work.get, "", 0.0)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close it when all is done that has been asked for; again is fine."""
        self._closed = True
        if self._worker is not None and self._worker.pid == os.getpid():
            await self._worker.end()

    async def health(self) -> Mapping[str, Any]:
        """Return whether it can be read, and how long that takes."""
        facts = {"backend": "sqlite", "durable": True, "shared": True, "path": str(self.path)}
        began = time.perf_counter()
        try:
            await self._read(work.get, "", 0.0)
        except StoreError as error:
            return {"status": "unhealthy", **facts, "error": str(error)}
        seconds = time.perf_counter() - began
        return {"status": "healthy", **facts, "seconds": round(seconds, 6)}

    # --- values by key ----------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """Return a value; None: there is none, or its time is over."""
        value: bytes | None = await self._read(work.get, name("the key", key), self._clock())
        return value

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those values that there are, as they were at one moment."""
        wanted = [name("the key", key) for key in keys]
        values: dict[str, bytes] = await self._read(work.get_many, wanted, self._clock())
        return values

    async def put(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Keep a value for *ttl* seconds; None: for ever."""
        await self.put_many({key: value}, ttl)

    async def put_many(self, values: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Keep all of them, or none."""
        until = self._until(ttl)
        await self._write(work.put, contents(values), until, self._sweeping(until))

    async def put_if_absent(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Keep a value where there is none; return whether it was kept."""
        kept = content(f"the value of {key!r}", value)
        args = (name("the key", key), kept, self._until(ttl), self._clock())
        return bool(await self._write(work.put_if_absent, *args))

    async def add(self, key: str, amount: int) -> int:
        """Add to a whole number (0 where there is none), its time kept; return the sum."""
        return int(await self._write(work.add, name("the key", key), amount, self._clock()))

    async def take(self, key: str) -> bytes | None:
        """Return a value and delete it, at once."""
        value: bytes | None = await self._write(work.take, name("the key", key), self._clock())
        return value

    async def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return await self.take(key) is not None

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return await self.get(key) is not None

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so, in order."""
        found: list[str] = await self._read(work.keys, name("the prefix", prefix), self._clock())
        return found

    # --- emergencies ------------------------------------------------------------------------------

    async def emergency(self, controller_id: str) -> EmergencyRow:
        """Return the state of a controller as all processes see it."""
        controller = name("the controller", controller_id)
        worker = self._worker
        seen = worker.look(controller) if worker is not None else None
        if seen is not None:
            return seen
        row: EmergencyRow = await self._read(work.emergency, controller)
        return row

    async def change_emergency(
        self, controller_id: str, change: EmergencyChange
    ) -> tuple[EmergencyRow, EmergencyRow]:
        """Change the state in one transaction; return what it was and what it is now.

        *change* is called in the store's thread.
        """
        changed: tuple[EmergencyRow, EmergencyRow] = await self._write(
            work.change_emergency, name("the controller", controller_id), change
        )
        return changed

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
        args = (run, lease, entries, events, state, self._clock)
        kept: RunRow = await self._write(work.create_run, *args)
        return kept

    async def run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        found: RunRow | None = await self._read(work.run, name("the run", run_id))
        return found

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
        wanted = {
            column: name(column, value) for column, value in filters.items() if value is not None
        }
        found: list[RunRow] = await self._read(work.runs, wanted, max(limit, 0))
        return found

    async def abandoned(self, limit: int = 100) -> list[RunRow]:
        """Return runs that are running and that nobody has any more, the oldest first."""
        found: list[RunRow] = await self._read(work.abandoned, max(limit, 0), self._clock())
        return found

    async def claim(self, run_id: str, owner: str, lease: float) -> RunRow | None:
        """Take a run that nobody has (its lease is over or given back); None: somebody has it."""
        args = (name("the run", run_id), name("the owner", owner), lease, self._clock)
        claimed: RunRow | None = await self._write(work.claim, *args)
        return claimed

    async def renew(self, run_id: str, owner: str, fence: int, lease: float) -> None:
        """Have the run for another *lease* seconds."""
        args = (name("the run", run_id), name("the owner", owner), fence, lease, self._clock)
        await self._write(work.renew, *args)

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
        now = self._clock()
        await self._write(
            work.append,
            (name("the run", run_id), name("the owner", owner), fence),
            new_entries(run_id, entries, now),
            new_events(run_id, events, now),
            contents(state),
            said(status, result, error, release),
            now,
        )

    async def entries(self, run_id: str) -> list[Entry]:
        """Return the journal of a run, in order."""
        found: list[Entry] = await self._read(work.entries, name("the run", run_id))
        return found

    async def events(self, run_id: str, after: int = 0) -> list[EventRow]:
        """Return the events of a run with numbers above *after*, in order."""
        found: list[EventRow] = await self._read(work.events, name("the run", run_id), after)
        return found

    # ----------------------------------------------------------------------------------------------

    async def _read(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._ask(function, args, writes=False)

    async def _write(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._ask(function, args, writes=True)

    async def _ask(self, function: Callable[..., Any], args: tuple[Any, ...], writes: bool) -> Any:
        worker = self._worker
        if worker is None or worker.pid != os.getpid():
            worker = self._hire()
        value, error = await worker.ask(function, args, writes=writes)
        if error is not None:
            raise error
        return value

    def _hire(self) -> Worker:
        with _making:
            worker = self._worker
            if self._closed:
                raise StoreUnavailable(str(self.path), "is closed")
            if worker is None or worker.pid != os.getpid():
                if worker is not None:
                    _inherited.append(worker)
                self._worker = worker = Worker(self.path, self._busy_timeout)
                weakref.finalize(self, _end, worker)
            return worker

    def _until(self, ttl: float | None) -> float | None:
        return None if ttl is None else self._clock() + ttl

    def _sweeping(self, until: float | None) -> float | None:
        """Return up to when values are to be deleted whose time is over; None: not now."""
        if until is None or self._clock() < self._sweep_at:
            return None
        now = self._clock()
        self._sweep_at = now + _SWEEP
        return now


def _end(worker: Worker) -> None:
    """End the thread of a store that nobody has any more."""
    if worker.pid == os.getpid():
        worker.stop()
        worker.join(_FAREWELL)
