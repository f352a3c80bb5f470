"""What is wrong with the file, in words that say what to do, and when to try again. Pure."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from tracing.store.schema import NotAStore

FIRST_DELAY: Final = 0.5
LAST_DELAY: Final = 5.0
"""Seconds between tries to write, at most."""
PATIENCE: Final = 2.0
"""Seconds that another process may hold the lock before we call it trouble."""

EXPECTED: Final = (sqlite3.DatabaseError, OSError, NotAStore)
"""What a file can do to us; anything else is our own mistake."""
_SPOILT: Final = (sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)

_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; end that program",
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_NOTADB: "it is not a database; move it away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away",
    sqlite3.SQLITE_READONLY: "it is read-only; change its permissions",
    sqlite3.SQLITE_PERM: "access is denied; change its permissions",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened or created; check its folder and permissions",
    sqlite3.SQLITE_IOERR: "the disk fails; check it",
}


class Backoff:
    """Decides when to try again. All times are seconds of one clock."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.retry_at = 0.0
        self.busy_since: float | None = None
        """When a lock was met first, in a row of tries."""

    @property
    def in_trouble(self) -> bool:
        """Whether the last try failed, for more than a lock held for a moment."""
        return self.delay > 0

    def failed(self, error: Exception, now: float) -> bool:
        """Note a failure at the time *now*; tell whether trouble has begun with it."""
        if is_busy(error):
            if self.busy_since is None:
                self.busy_since = now
            if now - self.busy_since < PATIENCE:
                return False
        else:
            self.busy_since = None
        begins = not self.in_trouble
        self.delay = min(LAST_DELAY, self.delay * 2) if self.delay else FIRST_DELAY
        self.retry_at = now + self.delay
        return begins

    def succeeded(self) -> bool:
        """Note a success; tell whether trouble has ended with it."""
        ends = self.in_trouble
        self.delay = self.retry_at = 0.0
        self.busy_since = None
        return ends


def is_expected(error: Exception) -> bool:
    """Tell whether the file is at fault, and not what we tried to write."""
    return isinstance(error, EXPECTED) and not isinstance(error, _SPOILT)


def is_busy(error: Exception) -> bool:
    """Tell whether another connection holds a lock."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def cause(error: Exception) -> str:
    """Say what is wrong and what to do about it."""
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return _ADVICE[sqlite3.SQLITE_FULL]
        return f"{error.strerror or error}: {_ADVICE[sqlite3.SQLITE_CANTOPEN]}"
    advice = _ADVICE.get(_code(error))
    return f"{error}: {advice}" if advice else f"{error}"


def _code(error: Exception) -> int:
    """Return SQLite's primary code, without the extended bits."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
