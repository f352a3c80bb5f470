"""What is done with SQLite in a connection's own thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pocketflow_async.resources.rows import Row, parameters, rows, status

SLICE: Final = 0.1
"""Seconds that SQLite waits for another writer in one go; it cannot be interrupted meanwhile."""


class Call:
    """Something to do in the thread, which can be called off; waits while others write.

    SQLite is told to wait for a moment only, again and again, since it cannot be interrupted while
    it waits. Where it does not wait at all, waiting is in vain, and the error is final.

    Args:
        function: What to do.
        patience: Seconds to wait for other writers.

    Attributes:
        is_off: Whether it has been called off.
        has_ended: Whether it is over.
    """

    __slots__ = ("_function", "_patience", "has_ended", "is_off")

    def __init__(self, function: Callable[[], Any], patience: float) -> None:
        self._function = function
        self._patience = patience
        self.is_off = False
        self.has_ended = False

    def __call__(self) -> Any:
        """Do it; called in the thread."""
        # The real clock, whatever that of the caller is: SQLite waits in real time.
        first = time.monotonic()
        try:
            while True:
                if self.is_off:
                    raise sqlite3.OperationalError("interrupted")
                began = time.monotonic()
                try:
                    return self._function()
                except sqlite3.OperationalError as error:
                    now = time.monotonic()
                    waited = now - began >= SLICE / 2
                    if not is_busy(error) or not waited or now - first >= self._patience:
                        raise
        finally:
            self.has_ended = True


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another connection was in the way."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def prepare(db: sqlite3.Connection, pragmas: Mapping[str, Any], patience: float) -> None:
    """Set *pragmas*; the journal's mode needs the file for itself, for a moment."""
    end = time.monotonic() + patience
    for name, value in pragmas.items():
        while True:
            try:
                db.execute(f"PRAGMA {name} = {value}").close()
                break
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= end:
                    raise
                time.sleep(0.01)


def fetch(db: sqlite3.Connection, query: str, args: tuple[Any, ...]) -> list[Row]:
    """Return all rows."""
    cursor = db.execute(query, parameters(args))
    try:
        return rows(cursor.fetchall(), [about[0] for about in cursor.description or ()])
    finally:
        cursor.close()


def fetchrow(db: sqlite3.Connection, query: str, args: tuple[Any, ...]) -> Row | None:
    """Return the first row."""
    cursor = db.execute(query, parameters(args))
    try:
        first = cursor.fetchone()
        if first is None:
            return None
        return rows([first], [about[0] for about in cursor.description])[0]
    finally:
        cursor.close()


def execute(db: sqlite3.Connection, query: str, args: tuple[Any, ...]) -> str:
    """Do what the statement says, to its end."""
    cursor = db.execute(query, parameters(args))
    try:
        count = cursor.rowcount
        if cursor.description is not None:
            found = len(cursor.fetchall())  # what has RETURNING is done when all is fetched
            count = max(count, cursor.rowcount, found)
        return status(query, count)
    finally:
        cursor.close()


def executemany(db: sqlite3.Connection, query: str, args: tuple[Any, ...]) -> None:
    """Do the statement for each of the parameters, all or nothing."""
    each = [one if isinstance(one, list | tuple | dict) else (one,) for one in args[0]]
    if db.in_transaction:
        db.executemany(query, each).close()
        return
    db.execute("BEGIN IMMEDIATE").close()
    try:
        db.executemany(query, each).close()
        db.execute("COMMIT").close()
    except BaseException:
        undo(db)
        raise


def command(db: sqlite3.Connection, sql: str) -> None:
    """Do what has no result."""
    db.execute(sql).close()


def undo(db: sqlite3.Connection) -> None:
    """Roll back what is open."""
    if db.in_transaction:
        db.execute("ROLLBACK").close()
