"""Forget old traces, a little at a time, and close what dead processes left open.

Both are generators: each step is one short transaction, so that the writer can go on in between
and other processes never wait long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from tracing.record import INTERRUPTED
from tracing.store.owner import COLUMNS, Probe, from_row, is_alive
from tracing.store.schema import transaction
from tracing.store.spool import abandoned, pack_abandoned

CHUNK: Final = 1000
"""Rows deleted, or pages given back, in one step."""
_SLACK: Final = 0.9  # a full file shrinks to this part of its limit, so that it is not full at once

_FINISHED: Final = """
duration_ns IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM records WHERE trace = traces.id AND records.duration_ns IS NULL)
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the store keeps.

    Attributes:
        max_age: Age of the oldest trace, in seconds.
        max_file_bytes: Size of the file.
    """

    max_age: float
    max_file_bytes: int


def forget(
    connection: sqlite3.Connection, limits: Limits, now_ns: int
) -> Generator[None, None, None]:
    """Delete finished traces over age, then the oldest ones while the file is over size."""
    cutoff = now_ns - int(min(limits.max_age * 1e9, now_ns))  # the age may be infinite
    old = f"{_FINISHED} AND started_ns < ? AND started_ns + duration_ns < ?"
    while (trace := _oldest(connection, old, (cutoff, cutoff))) is not None:
        yield from _delete(connection, trace)
    if _size(connection) > limits.max_file_bytes:
        while _used(connection) > limits.max_file_bytes * _SLACK:
            if (trace := _oldest(connection, _FINISHED, ())) is None:
                break
            yield from _delete(connection, trace)
    connection.execute("DELETE FROM owners WHERE ended AND heartbeat_ns < ?", (cutoff,))
    connection.execute("DELETE FROM parcels WHERE reason IS NOT NULL AND made_ns < ?", (cutoff,))
    yield from _shrink(connection)


def bury(connection: sqlite3.Connection, host: str, now_ns: int, probe: Probe) -> None:
    """Mark as interrupted what dead processes left open; it ended with their last heartbeat."""
    living = f"SELECT {COLUMNS} FROM owners WHERE NOT ended"
    for row in connection.execute(living).fetchall():
        number, owner = from_row(row)
        if not is_alive(owner, host, now_ns, probe):
            _bury(connection, number, owner.heartbeat_ns)


def interrupt(connection: sqlite3.Connection, owner: int, last_ns: int) -> None:
    """Mark all that *owner* left open as interrupted at *last_ns*, within a transaction.

    What is to be sent somewhere gets its parcel: without the span in which a process died, the
    others of its trace would have no root there.
    """
    left = abandoned(connection, owner)
    for table in ("records", "traces"):
        connection.execute(
            f"UPDATE {table} SET outcome = ?, duration_ns = max(0, ? - started_ns)"
            " WHERE owner = ? AND duration_ns IS NULL",
            (INTERRUPTED, last_ns, owner),
        )
    pack_abandoned(connection, owner, last_ns, left)


def _bury(connection: sqlite3.Connection, owner: int, last_ns: int) -> None:
    with transaction(connection):
        interrupt(connection, owner, last_ns)
        connection.execute("UPDATE owners SET ended = 1 WHERE id = ?", (owner,))


def _oldest(connection: sqlite3.Connection, condition: str, values: tuple[int, ...]) -> int | None:
    found = connection.execute(
        f"SELECT id FROM traces WHERE {condition} ORDER BY started_ns LIMIT 1", values
    ).fetchone()
    return None if found is None else int(found[0])


def _delete(connection: sqlite3.Connection, trace: int) -> Generator[None, None, None]:
    some = f"DELETE FROM records WHERE id IN (SELECT id FROM records WHERE trace = ? LIMIT {CHUNK})"
    while connection.execute(some, (trace,)).rowcount == CHUNK:
        yield
    connection.execute("DELETE FROM traces WHERE id = ?", (trace,))
    yield


def _shrink(connection: sqlite3.Connection) -> Generator[None, None, None]:
    free = _pragma(connection, "freelist_count")
    while free > 0:
        # Each step of the statement gives back a page; fetchall runs them all.
        connection.execute(f"PRAGMA incremental_vacuum({CHUNK})").fetchall()
        yield
        left = _pragma(connection, "freelist_count")
        if left >= free:
            return
        free = left


def _size(connection: sqlite3.Connection) -> int:
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")


def _used(connection: sqlite3.Connection) -> int:
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
