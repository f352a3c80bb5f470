"""The tables of the store, and the two ways to open its file.

`records` refers to its trace by a small integer, not by the 16 random bytes of its id: new rows
then go to the end of the index, which halves the cost of an insert in a large file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

VERSION: Final = 2
"""Version of the tables, kept in `PRAGMA user_version`."""
APPLICATION: Final = 0x7066_7472
"""`PRAGMA application_id` of a trace store ("pftr"), so that we never write into another's file."""
BUSY_MS: Final = 200
"""How long one statement waits for another process's lock. The writer tries again by itself."""

_TABLES: Final = """
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    pid INTEGER NOT NULL,
    host TEXT NOT NULL,
    started TEXT,
    heartbeat_ns INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE traces (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    trace_id BLOB NOT NULL UNIQUE,
    owner INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    name TEXT NOT NULL,
    session_id TEXT,
    user_id TEXT,
    tags TEXT,
    metadata BLOB,
    started_ns INTEGER NOT NULL,
    duration_ns INTEGER,
    outcome TEXT,
    sampled INTEGER,
    state TEXT
);
CREATE INDEX traces_started ON traces (started_ns);
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    trace INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    span_id INTEGER NOT NULL,
    parent_id INTEGER,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    place INTEGER,
    route INTEGER,
    within TEXT,
    started_ns INTEGER NOT NULL,
    duration_ns INTEGER,
    outcome TEXT,
    error BLOB,
    phases BLOB,
    attributes BLOB,
    input BLOB,
    output BLOB
);
CREATE INDEX records_trace ON records (trace);
CREATE INDEX records_open ON records (trace, owner) WHERE duration_ns IS NULL;
CREATE INDEX records_failed ON records (trace)
    WHERE outcome IN ('failed', 'timed_out', 'interrupted');
CREATE INDEX records_moments ON records (trace) WHERE kind IN ('event', 'score');
"""

_SPOOL: Final = """
CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    address TEXT NOT NULL
);
CREATE TABLE routes (
    id INTEGER PRIMARY KEY,
    targets TEXT NOT NULL,
    shape TEXT NOT NULL,
    UNIQUE (targets, shape)
);
CREATE TABLE parcels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    target INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    records BLOB NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL,
    made_ns INTEGER NOT NULL,
    reason TEXT
);
CREATE INDEX parcels_waiting ON parcels (target, owner) WHERE reason IS NULL;
"""
_UPGRADES: Final = {
    1: f"""
ALTER TABLE traces ADD COLUMN sampled INTEGER;
ALTER TABLE traces ADD COLUMN state TEXT;
ALTER TABLE records ADD COLUMN route INTEGER;
ALTER TABLE records ADD COLUMN within TEXT;
{_SPOOL}""",
}
"""What leads from each older version to the next."""
# `entry` is the span id of the trace's root or, when its parent is in another system, of the first
# record here. `duration_ns` is NULL as long as a trace or record is open. Counters of rows that are
# deleted are AUTOINCREMENT so that a number is never used again, not even after the newest rows
# were. `sampled` is 0 for a trace that is sent only if it turns out to matter, 1 once it has.
#
# A parcel is what one target is still to get: numbers of records, 8 bytes each, of which the first
# `done` have arrived. It is made in the transaction that stores them and deleted when all are
# there; with a `reason` it has been set aside for good. Its `owner` is to send it; those of a dead
# process go to the next one that knows the target.


class NotAStore(Exception):
    """The file is a database, but not one that this version can write."""


def connect(path: str) -> sqlite3.Connection:
    """Open *path* for writing, and make file, folder and tables where they are missing.

    Raises:
        sqlite3.Error: The file cannot be opened, is damaged, or is locked.
        OSError: It, or its folder, cannot be made.
        NotAStore: It belongs to something else, or to a newer version.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # prompts and answers are for their owner's eyes only
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = _opened(path)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_memory() -> sqlite3.Connection:
    """Open a new store in memory."""
    connection = _opened(":memory:")
    _prepare(connection)
    return connection


def connect_readonly(path: str) -> sqlite3.Connection:
    """Open *path* for reading; it must exist."""
    address = Path(path).absolute().as_uri()
    connection = sqlite3.connect(f"{address}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    except sqlite3.Error as error:
        connection.close()
        # A store in a folder that we may not write to: SQLite wants to put its WAL index there.
        if not isinstance(error, sqlite3.OperationalError) or os.path.exists(f"{path}-wal"):
            raise
        connection = sqlite3.connect(f"{address}?immutable=1", uri=True, isolation_level=None)
    return connection


def check(connection: sqlite3.Connection) -> bool:
    """Tell whether the tables are there (False: the file is still empty).

    Raises:
        NotAStore: The file belongs to something else, or to a newer version.
    """
    # Tables first: whoever makes them just now commits them and the numbers at one moment.
    if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        return False
    application = _pragma(connection, "application_id")
    if application != APPLICATION:
        raise NotAStore("it is the database of another program")
    version = _pragma(connection, "user_version")
    if version > VERSION:
        raise NotAStore(
            f"it has format {version} and this version of pocketflow-async knows {VERSION}: "
            "upgrade pocketflow-async"
        )
    return True


def _opened(path: str) -> sqlite3.Connection:
    # Which thread uses it is the writer's business: one at a time, under its lock.
    return sqlite3.connect(
        path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
    )


def _prepare(connection: sqlite3.Connection) -> None:
    ready = check(connection)
    if not ready:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only an empty file obeys
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 16777216")
    if not ready or _pragma(connection, "user_version") < VERSION:
        _create(connection)


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older version up to date."""
    with transaction(connection):
        if not check(connection):  # another process may have been quicker
            _run(connection, _TABLES)
            _run(connection, _SPOOL)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
        else:
            for version in range(_pragma(connection, "user_version"), VERSION):
                _run(connection, _UPGRADES[version])
        connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Make what is written in the block one change: all of it is stored, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # what went wrong before is on its way
                connection.execute("ROLLBACK")


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";")[:-1]:
        connection.execute(statement)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
