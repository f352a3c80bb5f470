"""The file of an `SqliteStore`: what is in it, how it is opened, how older ones are upgraded."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pocketflow_async.infrastructure.store.errors import StoreUnavailable
from pocketflow_async.infrastructure.store.sqlite_errors import writable

APPLICATION: Final = 0x50464153
"""What the file's header says about whose it is: "PFAS"."""

UPGRADES: Final[Sequence[Sequence[str]]] = (
    (
        """CREATE TABLE state (
            key TEXT PRIMARY KEY, value BLOB NOT NULL, until REAL
        ) WITHOUT ROWID""",
        "CREATE INDEX state_until ON state (until) WHERE until IS NOT NULL",
        """CREATE TABLE emergencies (
            controller_id TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT, at TEXT,
            version INTEGER NOT NULL, reducing INTEGER NOT NULL,
            metadata TEXT NOT NULL, limits TEXT NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            run_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, workflow_id TEXT NOT NULL,
            definition_hash TEXT NOT NULL, definition TEXT, inputs TEXT, status TEXT NOT NULL,
            owner TEXT, fence INTEGER NOT NULL, lease_until REAL NOT NULL,
            created_at REAL NOT NULL, updated_at REAL NOT NULL,
            bot_id TEXT, strategy_id TEXT, trace TEXT, result TEXT, error TEXT,
            seq INTEGER NOT NULL, places INTEGER NOT NULL
        )""",
        "CREATE INDEX runs_status ON runs (status)",
        "CREATE INDEX runs_workflow ON runs (workflow_id)",
        """CREATE TABLE entries (
            run_id TEXT NOT NULL, place INTEGER NOT NULL, node_id TEXT NOT NULL,
            phase TEXT NOT NULL, attempt INTEGER NOT NULL, key TEXT, output BLOB, error TEXT,
            at REAL NOT NULL, PRIMARY KEY (run_id, place)
        ) WITHOUT ROWID""",
        """CREATE TABLE events (
            run_id TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL,
            at REAL NOT NULL, PRIMARY KEY (run_id, seq)
        ) WITHOUT ROWID""",
    ),
)
"""What makes each version of the tables out of the one before; the first out of nothing."""

_LOG: Final = 1010 * (4096 + 24)
"""Bytes of a log that is about to be written back: 1000 pages and the last changes."""
_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # what has been acknowledged outlives a loss of power
    "PRAGMA fullfsync = ON",  # on macOS, where an fsync alone does not reach the disk
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cache_size = -8192",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, which is made if need be, with its tables up to date. Waits for nobody.

    Raises:
        sqlite3.Error: It cannot be opened, or is busy.
        StoreUnavailable: It cannot be made, is something else's, or newer than this program.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # nobody else needs to read what workflows did
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        why = f"cannot be made: {error.strerror or error}"
        raise StoreUnavailable(str(path), why, writable(str(path))) from error
    # Made in the store's thread and used there; at the end of the program it may be elsewhere.
    db = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
    try:
        with _transaction(db, "DEFERRED"):  # another process may make the tables right now
            _look(db, path)
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnavailable(
                str(path),
                f"cannot be put into WAL mode, but stays in {mode!r}",
                "Put it on a local disk",
            )
        for pragma in _PRAGMAS:
            db.execute(pragma).close()
        if db.execute("PRAGMA user_version").fetchone()[0] != len(UPGRADES):
            _upgrade(db, path)
        _make_room(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _make_room(db: sqlite3.Connection, path: Path) -> None:
    """Make the log as long as it gets before SQLite begins at its start again.

    A commit that overwrites takes half as long as one that makes the file longer. What is behind
    the last frame has no meaning, and while we hold the lock nobody else writes a frame.
    """
    # Where there is no room, or somebody else writes, it is not worth while to wait or to fail.
    with suppress(OSError, sqlite3.OperationalError), _transaction(db, "IMMEDIATE"):
        # SQLite's locks are on other files: closing this one gives up none of them.
        log = os.open(f"{path}-wal", os.O_RDWR)
        try:
            length = os.fstat(log).st_size
            if length < _LOG:
                os.pwrite(log, bytes(_LOG - length), length)
                os.fsync(log)
        finally:
            os.close(log)


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file there is; None: there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _look(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the tables, if they are ours and we know it."""
    owner = db.execute("PRAGMA application_id").fetchone()[0]
    if owner != APPLICATION:
        if owner or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreUnavailable(
                str(path), "is a database of something else", "Give a path of its own"
            )
        return 0
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(UPGRADES):
        raise StoreUnavailable(
            str(path),
            f"is of version {version}, and this program knows {len(UPGRADES)}",
            "Upgrade pocketflow-async here too",
        )
    return version


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    with _transaction(db, "IMMEDIATE"):
        # Looked at once more: another process may have done it by now.
        for statements in UPGRADES[_look(db, path) :]:
            for statement in statements:
                db.execute(statement).close()
        db.execute(f"PRAGMA application_id = {APPLICATION}").close()
        db.execute(f"PRAGMA user_version = {len(UPGRADES)}").close()


@contextmanager
def _transaction(db: sqlite3.Connection, kind: str) -> Generator[None, None, None]:
    db.execute(f"BEGIN {kind}").close()
    try:
        yield
        db.execute("COMMIT").close()
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK").close()
        raise
