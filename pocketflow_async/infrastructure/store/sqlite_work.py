"""What an `SqliteStore` does inside of a transaction. Runs in the store's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final, TypeAlias

from pocketflow_async.infrastructure.store.errors import RunExists
from pocketflow_async.infrastructure.store.kept import (
    EMERGENCY,
    ENTRY,
    EVENT,
    RUN,
    behind,
    check_order,
    contents,
    emergency_columns,
    emergency_row,
    gapless,
    held,
    new_entries,
    new_events,
    new_run,
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

Db = sqlite3.Connection
Clock: TypeAlias = Callable[[], float]
"""Asked when it is done, and not when it is asked for: others may have had to be waited for."""


def _columns(names: Sequence[str]) -> str:
    return ", ".join(names)


def _places(names: Sequence[str]) -> str:
    return ", ".join("?" * len(names))


_GET: Final = "SELECT value, until FROM state WHERE key = ? AND (until IS NULL OR until > ?)"
_PUT: Final = "INSERT OR REPLACE INTO state (key, value, until) VALUES (?, ?, ?)"
_KEYS: Final = """
    SELECT key FROM state
    WHERE key >= ? AND (? IS NULL OR key < ?) AND (until IS NULL OR until > ?) ORDER BY key"""
_EMERGENCY: Final = f"SELECT {_columns(EMERGENCY)} FROM emergencies WHERE controller_id = ?"
_SET_EMERGENCY: Final = f"""
    INSERT OR REPLACE INTO emergencies (controller_id, {_columns(EMERGENCY)})
    VALUES (?, {_places(EMERGENCY)})"""
_RUN: Final = f"SELECT {_columns(RUN)} FROM runs WHERE run_id = ?"
_CREATE: Final = f"INSERT OR IGNORE INTO runs ({_columns(RUN)}) VALUES ({_places(RUN)})"
_ABANDONED: Final = f"""
    SELECT {_columns(RUN)} FROM runs
    WHERE status = ? AND (owner IS NULL OR lease_until <= ?) ORDER BY number LIMIT ?"""
_CLAIM: Final = """
    UPDATE runs SET owner = ?, fence = fence + 1, lease_until = ?, updated_at = ?
    WHERE run_id = ? AND (owner IS NULL OR lease_until <= ?)"""
_RENEW: Final = "UPDATE runs SET lease_until = ? WHERE run_id = ? AND owner = ? AND fence = ?"
_ADD_ENTRY: Final = f"INSERT INTO entries ({_columns(ENTRY)}) VALUES ({_places(ENTRY)})"
_ADD_EVENT: Final = f"INSERT INTO events ({_columns(EVENT)}) VALUES ({_places(EVENT)})"
_ENTRIES: Final = f"SELECT {_columns(ENTRY)} FROM entries WHERE run_id = ? ORDER BY place"
_EVENTS: Final = f"SELECT {_columns(EVENT)} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq"

_run_values: Final = attrgetter(*RUN)
_entry_values: Final = attrgetter(*ENTRY)
_event_values: Final = attrgetter(*EVENT)


# --- values by key --------------------------------------------------------------------------------


def get(db: Db, key: str, now: float) -> bytes | None:
    """Return a value that is not over."""
    found = _first(db, _GET, (key, now))
    return None if found is None else found[0]


def get_many(db: Db, keys: Sequence[str], now: float) -> dict[str, bytes]:
    """Return those values that there are, all of one moment."""
    db.execute("BEGIN").close()
    try:
        found = {key: get(db, key, now) for key in keys}
    finally:
        db.execute("ROLLBACK").close()
    return {key: value for key, value in found.items() if value is not None}


def put(
    db: Db, values: Mapping[str, bytes], until: float | None, over: float | None = None
) -> None:
    """Keep *values*, and delete those whose time was up at the time *over*."""
    if over is not None:
        db.execute("DELETE FROM state WHERE until <= ?", (over,)).close()
    for key, value in values.items():
        db.execute(_PUT, (key, value, until)).close()


def put_if_absent(db: Db, key: str, value: bytes, until: float | None, now: float) -> bool:
    """Keep a value where there is none."""
    if get(db, key, now) is not None:
        return False
    db.execute(_PUT, (key, value, until)).close()
    return True


def add(db: Db, key: str, amount: int, now: float) -> int:
    """Add to a number, which keeps its time."""
    value, until = _first(db, _GET, (key, now)) or (None, None)
    total = whole_number(key, value) + amount
    db.execute(_PUT, (key, b"%d" % total, until)).close()
    return total


def take(db: Db, key: str, now: float) -> bytes | None:
    """Return a value, and delete it."""
    value = get(db, key, now)
    db.execute("DELETE FROM state WHERE key = ?", (key,)).close()
    return value


def keys(db: Db, prefix: str, now: float) -> list[str]:
    """Return the keys that begin so, in order."""
    # Without LIKE or GLOB: every character of the prefix stands for itself.
    end = behind(prefix)
    found = db.execute(_KEYS, (prefix, end, end, now)).fetchall()
    return [key for (key,) in found]


# --- emergencies ----------------------------------------------------------------------------------


def emergency(db: Db, controller_id: str) -> EmergencyRow:
    """Return the state of a controller."""
    found = _first(db, _EMERGENCY, (controller_id,))
    return EmergencyRow() if found is None else emergency_row(found)


def change_emergency(
    db: Db, controller_id: str, change: EmergencyChange
) -> tuple[EmergencyRow, EmergencyRow]:
    """Change the state; return what it was and what it is now."""
    before = emergency(db, controller_id)
    after = change(before)
    if after is None:
        return before, before
    columns = emergency_columns(replace(after, version=before.version + 1))
    db.execute(_SET_EMERGENCY, (controller_id, *columns)).close()
    return before, emergency_row(columns)


# --- runs -----------------------------------------------------------------------------------------


def create_run(
    db: Db,
    run: RunRow,
    lease: float,
    entries: Sequence[Entry],
    events: Sequence[EventRow],
    state: Mapping[str, bytes] | None,
    clock: Clock,
) -> RunRow:
    """Keep a new run."""
    now = clock()
    new = new_run(run, now, lease, entries, events)
    lines, told = new_entries(run.run_id, entries, now), new_events(run.run_id, events, now)
    values = contents(state)
    if not _changed(db, _CREATE, _run_values(new)):
        raise RunExists(run.run_id)
    _add(db, lines, told, values)
    return new


def run(db: Db, run_id: str) -> RunRow | None:
    """Return a run."""
    found = _first(db, _RUN, (run_id,))
    return None if found is None else RunRow(*found)


def runs(db: Db, filters: Mapping[str, str | None], limit: int) -> list[RunRow]:
    """Return the runs that have what *filters* say, the newest first."""
    wanted = {column: value for column, value in filters.items() if value is not None}
    where = " AND ".join(f"{column} = ?" for column in wanted) or "1"
    query = f"SELECT {_columns(RUN)} FROM runs WHERE {where} ORDER BY number DESC LIMIT ?"
    return [RunRow(*found) for found in db.execute(query, (*wanted.values(), limit)).fetchall()]


def abandoned(db: Db, limit: int, now: float) -> list[RunRow]:
    """Return runs that are running, and that nobody has."""
    return [RunRow(*found) for found in db.execute(_ABANDONED, (RUNNING, now, limit)).fetchall()]


def claim(db: Db, run_id: str, owner: str, lease: float, clock: Clock) -> RunRow | None:
    """Take a run that nobody has."""
    now = clock()
    if not _changed(db, _CLAIM, (owner, now + lease, now, run_id, now)):
        return None
    return run(db, run_id)


def renew(db: Db, run_id: str, owner: str, fence: int, lease: float, clock: Clock) -> None:
    """Have a run for longer."""
    if not _changed(db, _RENEW, (clock() + lease, run_id, owner, fence)):
        held(run(db, run_id), run_id, owner, fence)


def append(
    db: Db,
    held_by: tuple[str, str, int],
    entries: Sequence[Entry],
    events: Sequence[EventRow],
    state: Mapping[str, bytes],
    said: Mapping[str, Any],
    now: float,
) -> None:
    """Add to a run that is held: id, owner, fence; *said* are further columns of it."""
    # Only what changes is named: an index of a column that is named is written anew.
    more = "".join(f", {column} = ?" for column in said)
    query = f"""
        UPDATE runs SET places = places + ?, seq = seq + ?, updated_at = ?{more}
        WHERE run_id = ? AND owner = ? AND fence = ?
            AND places = coalesce(?, places) AND seq = coalesce(?, seq)"""
    first = entries[0].place - 1 if entries else None
    before = events[0].seq - 1 if events else None
    values = (len(entries), len(events), now, *said.values(), *held_by, first, before)
    if not gapless(entries, events) or not _changed(db, query, values):
        # One statement is enough when all is well; now look what is not.
        check_order(held(run(db, held_by[0]), *held_by), entries, events)
    _add(db, entries, events, state)


def entries(db: Db, run_id: str) -> list[Entry]:
    """Return the journal of a run."""
    return [Entry(*found) for found in db.execute(_ENTRIES, (run_id,)).fetchall()]


def events(db: Db, run_id: str, after: int) -> list[EventRow]:
    """Return the later events of a run."""
    return [EventRow(*found) for found in db.execute(_EVENTS, (run_id, after)).fetchall()]


# --------------------------------------------------------------------------------------------------


def _add(
    db: Db, lines: Sequence[Entry], told: Sequence[EventRow], values: Mapping[str, bytes]
) -> None:
    for line in lines:
        db.execute(_ADD_ENTRY, _entry_values(line)).close()
    for event in told:
        db.execute(_ADD_EVENT, _event_values(event)).close()
    put(db, values, None)


def _first(db: Db, query: str, values: tuple[Any, ...]) -> Any:
    cursor = db.execute(query, values)
    try:
        return cursor.fetchone()
    finally:
        cursor.close()


def _changed(db: Db, query: str, values: tuple[Any, ...]) -> bool:
    cursor = db.execute(query, values)
    try:
        return cursor.rowcount == 1
    finally:
        cursor.close()
