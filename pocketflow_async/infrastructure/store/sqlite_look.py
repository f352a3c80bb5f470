"""A look at an SQLite file that waits for nobody: for the halt that is asked for all the time."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from pocketflow_async.infrastructure.store import sqlite_work as work
from pocketflow_async.infrastructure.store.model import EmergencyRow
from pocketflow_async.infrastructure.store.sqlite_schema import identity


class Look:
    """A second connection, which only reads one row, in the thread of whoever asks.

    That takes a few microseconds, since the row is in memory; the way to the store's thread and
    back takes ten times as long. In WAL mode nobody who writes is waited for, and what any process
    has committed is seen. If anything is in the way, there is no answer, and the thread is asked.

    Args:
        path: The file, which is open and has its tables.
        file: Which one it is.
    """

    def __init__(self, path: Path, file: tuple[int, int] | None) -> None:
        self._path = path
        self._file = file
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = sqlite3.connect(
            path, timeout=0.0, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA query_only = ON").close()
        self.emergency("")  # so that the first one who asks has not to wait either

    def emergency(self, controller_id: str) -> EmergencyRow | None:
        """Return the state of a controller as all processes see it; None: not now."""
        if self._pid != os.getpid() or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._db is None or identity(self._path) != self._file:
                return None
            return work.emergency(self._db, controller_id)
        except sqlite3.Error:  # whoever reads in the store's thread can wait, or say what is wrong
            return None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection; again is fine."""
        with self._lock:
            db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()
