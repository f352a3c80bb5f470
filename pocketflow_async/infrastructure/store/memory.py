"""A store in the memory of the process: for tests and trials, gone when that ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pocketflow_async.infrastructure.store.errors import RunExists, StoreUnavailable
from pocketflow_async.infrastructure.store.kept import (
    check_order,
    contents,
    emergency_columns,
    emergency_row,
    held,
    name,
    new_entries,
    new_events,
    new_run,
    said,
    whole_number,
)
from pocketflow_async.infrastructure.store.model import (
    RUNNING,
    EmergencyChange,
    EmergencyRow,
    Entry,
    EventRow,
    RunRow,
)

_NOTHING: Final = EmergencyRow()


class MemoryStore:
    """Keeps everything in this process, for all its event loops and threads.

    Args:
        clock: Returns seconds since the epoch.
    """

    durable = False
    shared = False

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[str, tuple[bytes, float | None]] = {}
        self._emergencies: dict[str, tuple[Any, ...]] = {}
        self._runs: dict[str, RunRow] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._events: dict[str, list[EventRow]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self._values)} values, {len(self._runs)} runs>"

    async def __aenter__(self) -> MemoryStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Refuse whatever comes after; what there was can still be read by nobody."""
        self._closed = True

    async def health(self) -> Mapping[str, Any]:
        """Return that it is well, or closed."""
        status = "unhealthy" if self._closed else "healthy"
        return {"status": status, "backend": "memory", "durable": False, "shared": False}

    # --- values by key ----------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """Return a value; None: there is none, or its time is over."""
        with self._opened():
            return self._value(name("the key", key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those values that there are."""
        with self._opened():
            found = {key: self._value(name("the key", key)) for key in keys}
            return {key: value for key, value in found.items() if value is not None}

    async def put(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Keep a value for *ttl* seconds; None: for ever."""
        await self.put_many({key: value}, ttl)

    async def put_many(self, values: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Keep all of them, or none."""
        with self._opened():
            self._put(contents(values), ttl)

    async def put_if_absent(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Keep a value where there is none; return whether it was kept."""
        with self._opened():
            if self._value(name("the key", key)) is not None:
                return False
            self._put(contents({key: value}), ttl)
            return True

    async def add(self, key: str, amount: int) -> int:
        """Add to a whole number (0 where there is none), its time kept; return the sum."""
        with self._opened():
            old = self._value(name("the key", key))
            total = whole_number(key, old) + amount
            until = None if old is None else self._values[key][1]
            self._values[key] = (b"%d" % total, until)
            return total

    async def take(self, key: str) -> bytes | None:
        """Return a value and delete it, at once."""
        with self._opened():
            value = self._value(name("the key", key))
            self._values.pop(key, None)
            return value

    async def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return await self.take(key) is not None

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return await self.get(key) is not None

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so, in order."""
        with self._opened():
            name("the prefix", prefix)
            known = sorted(key for key in self._values if key.startswith(prefix))
            return [key for key in known if self._value(key) is not None]

    # --- emergencies ------------------------------------------------------------------------------

    async def emergency(self, controller_id: str) -> EmergencyRow:
        """Return the state of a controller."""
        with self._opened():
            return self._emergency(controller_id)

    async def change_emergency(
        self, controller_id: str, change: EmergencyChange
    ) -> tuple[EmergencyRow, EmergencyRow]:
        """Change the state at once; return what it was and what it is now."""
        with self._opened():
            before = self._emergency(controller_id)
            after = change(before)
            if after is None:
                return before, before
            columns = emergency_columns(replace(after, version=before.version + 1))
            self._emergencies[controller_id] = columns
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
        with self._opened():
            now = self._clock()
            run = new_run(run, now, lease, entries, events)
            lines, told = new_entries(run.run_id, entries, now), new_events(run.run_id, events, now)
            values = contents(state)
            if run.run_id in self._runs:
                raise RunExists(run.run_id)
            self._runs[run.run_id] = run
            self._entries[run.run_id] = lines
            self._events[run.run_id] = told
            self._put(values, None)
            return run

    async def run(self, run_id: str) -> RunRow | None:
        """Return a run."""
        with self._opened():
            return self._runs.get(name("the run", run_id))

    async def runs(
        self,
        *,
        status: str | None = None,
        workflow_id: str | None = None,
        kind: str | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs, the newest first."""
        with self._opened():
            found = [
                run
                for run in reversed(self._runs.values())
                if status in (None, run.status)
                and workflow_id in (None, run.workflow_id)
                and kind in (None, run.kind)
            ]
            return found[: max(limit, 0)]

    async def abandoned(self, limit: int = 100) -> list[RunRow]:
        """Return runs that are running and that nobody has any more, the oldest first."""
        with self._opened():
            found = [
                run for run in self._runs.values() if run.status == RUNNING and self._free(run)
            ]
            return found[: max(limit, 0)]

    async def claim(self, run_id: str, owner: str, lease: float) -> RunRow | None:
        """Take a run that nobody has (its lease is over or given back); None: somebody has it."""
        with self._opened():
            run = self._runs.get(name("the run", run_id))
            name("the owner", owner)
            if run is None or not self._free(run):
                return None
            now = self._clock()
            run = replace(
                run, owner=owner, fence=run.fence + 1, lease_until=now + lease, updated_at=now
            )
            self._runs[run_id] = run
            return run

    async def renew(self, run_id: str, owner: str, fence: int, lease: float) -> None:
        """Have the run for another *lease* seconds."""
        with self._opened():
            run = self._held(name("the run", run_id), name("the owner", owner), fence)
            self._runs[run_id] = replace(run, lease_until=self._clock() + lease)

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
        """Add to a run: all of it, or nothing."""
        with self._opened():
            now = self._clock()
            lines, told = new_entries(run_id, entries, now), new_events(run_id, events, now)
            values, new = contents(state), said(status, result, error, release)
            run = self._held(name("the run", run_id), name("the owner", owner), fence)
            check_order(run, entries, events)
            places, seq = run.places + len(lines), run.seq + len(told)
            self._runs[run_id] = replace(run, places=places, seq=seq, updated_at=now, **new)
            self._entries[run_id] += lines
            self._events[run_id] += told
            self._put(values, None)

    async def entries(self, run_id: str) -> list[Entry]:
        """Return the journal of a run, in order."""
        with self._opened():
            return list(self._entries.get(name("the run", run_id), ()))

    async def events(self, run_id: str, after: int = 0) -> list[EventRow]:
        """Return the events of a run with numbers above *after*, in order."""
        with self._opened():
            events = self._events.get(name("the run", run_id), ())
            return [event for event in events if event.seq > after]

    # ----------------------------------------------------------------------------------------------

    def _opened(self) -> threading.Lock:
        if self._closed:
            raise StoreUnavailable("in memory", "is closed")
        return self._lock

    def _value(self, key: str) -> bytes | None:
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        if until is not None and until <= self._clock():
            del self._values[key]
            return None
        return value

    def _put(self, values: Mapping[str, bytes], ttl: float | None) -> None:
        until = None if ttl is None else self._clock() + ttl
        self._values.update((key, (value, until)) for key, value in values.items())

    def _emergency(self, controller_id: str) -> EmergencyRow:
        columns = self._emergencies.get(name("the controller", controller_id))
        return _NOTHING if columns is None else emergency_row(columns)

    def _free(self, run: RunRow) -> bool:
        return run.owner is None or run.lease_until <= self._clock()

    def _held(self, run_id: str, owner: str, fence: int) -> RunRow:
        return held(self._runs.get(run_id), run_id, owner, fence)
