"""What SQLite's errors mean, and what is to be done about them. Pure."""

from __future__ import annotations

import getpass
import sqlite3
from typing import Final

from pocketflow_async.infrastructure.store.errors import (
    StoreError,
    StoreUnavailable,
    UnstorableError,
)

_MEANING: Final = {
    sqlite3.SQLITE_BUSY: (
        "is locked by another process, for longer than busy_timeout",
        "End what holds it (`fuser {path}` says who)",
    ),
    sqlite3.SQLITE_LOCKED: (
        "is locked by another process, for longer than busy_timeout",
        "End what holds it (`fuser {path}` says who)",
    ),
    sqlite3.SQLITE_FULL: ("has no room left: the disk is full", "Make room on its disk"),
    sqlite3.SQLITE_CORRUPT: (
        "is damaged",
        "Copy {path} and {path}-wal away, then put a backup in their place, or what "
        "`sqlite3 {path} .recover` makes of them",
    ),
    sqlite3.SQLITE_NOTADB: (
        "is no SQLite database, or is damaged",
        "Move the file away, or give another path",
    ),
    sqlite3.SQLITE_READONLY: ("is read-only", "{writable}"),
    sqlite3.SQLITE_PERM: ("may not be opened", "{writable}"),
    sqlite3.SQLITE_AUTH: ("may not be opened", "{writable}"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "{writable}"),
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written: the disk fails, or a limit of the process is reached",
        "Look at the disk, and at `ulimit -f`",
    ),
    sqlite3.SQLITE_NOMEM: ("needs more memory than there is", ""),
}
_WRITABLE: Final = (
    "The user {user!r} must be able to write to it and to its folder, "
    "where {path}-wal and {path}-shm are made beside it"
)


def is_busy(error: BaseException) -> bool:
    """Return whether another connection was in the way."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_spoilt(error: BaseException) -> bool:
    """Return whether one change in itself was the trouble, and not the file."""
    if _code(error) == sqlite3.SQLITE_TOOBIG:
        return True
    own = (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
    return isinstance(error, own) or not isinstance(error, sqlite3.Error)


def meaning(error: BaseException, path: str) -> BaseException:
    """Return what is to be raised for *error*, which came from the file at *path*."""
    if isinstance(error, StoreError):
        return error
    code = _code(error)
    if code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError | OverflowError):
        return UnstorableError("a value", "is larger than SQLite takes")
    if not isinstance(error, sqlite3.Error) or is_spoilt(error):
        return error
    why, advice = _MEANING.get(code, (f"cannot be used: {error}", ""))
    advice = writable(path) if advice == "{writable}" else advice.format(path=path)
    return StoreUnavailable(path, why, advice)


def writable(path: str) -> str:
    """Return what is to be done where a file may not be written."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "of this process"
    return _WRITABLE.format(user=user, path=path)


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
