"""The only hand that writes: one connection, one transaction per batch, no threads of its own."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from tracing.record import Record
from tracing.redact import Redactor
from tracing.store import owner as owners
from tracing.store.change import GENTLE, HURRIED, Change, Mind
from tracing.store.retention import Limits, bury, forget, interrupt
from tracing.store.schema import connect, connect_memory, transaction
from tracing.store.spool import left


class Writer:
    """Writes records into one file, or into memory.

    Not thread-safe; everything it keeps in mind is changed only after a commit, so that a batch
    that failed can simply be written again.
    """

    def __init__(
        self,
        path: str | None,
        redactor: Redactor | None,
        limits: Limits,
        wall_ns: Callable[[], int],
    ) -> None:
        self.path = path
        self.mind = Mind()
        self.connection: sqlite3.Connection | None = None
        self.redactor = redactor
        self._limits = limits
        self._wall_ns = wall_ns
        self._owner = owners.current(wall_ns)
        self.number = 0
        """Row number of this process among the owners; 0: it has none yet."""
        self.addressed: set[str] = set()
        """Keys of the targets that the last batch had something for."""
        self._file: tuple[int, int] | None = None

    def connect(self) -> sqlite3.Connection:
        """Return the connection; make it, and sign the list of owners, when there is none."""
        if self.connection is not None:
            return self.connection
        connection = connect_memory() if self.path is None else connect(self.path)
        if self.path is None:
            weakref.finalize(self, connection.close).atexit = False
        try:
            self._file = self._identity()
            self.number = self._sign(connection)
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        return connection

    def disconnect(self) -> None:
        """Close the file; the next write opens it again. Memory has no second chance and stays."""
        if self.connection is not None and self.path is not None:
            connection, self.connection = self.connection, None
            with suppress(sqlite3.Error):
                connection.close()

    def knows(self, trace_id: int) -> bool:
        """Tell whether the trace has a row, and is not yet ended, as far as this process knows."""
        return trace_id in self.mind.places

    def write(
        self,
        closed: Sequence[Record],
        opened: Sequence[Record],
        dropped: int,
        *,
        hurry: bool = False,
    ) -> int:
        """Store a batch in one transaction, and a sign of life with it.

        Returns how many closed records it stored; the others could not be made into rows.

        Args:
            closed: Finished records.
            opened: Records that still run: new ones, or known ones whose phases changed.
            dropped: Records lost by this process so far.
            hurry: Whether to take more of the flow's time, because the queue is filling up.
        """
        with self._transaction() as connection:
            change = Change(self.mind, connection, self.number, self.redactor, self._wall_ns())
            change.note_traces(closed, opened)
            change.write(closed, opened, HURRIED if hurry else GENTLE)
            self._beat(connection, dropped, ended=False)
        change.keep()
        self.addressed = change.addressed
        return len(closed) - change.spoilt

    def goodbye(self, dropped: int) -> None:
        """Sign off, and mark as interrupted what is still open in the file."""
        if not self.number:  # never been there
            return
        with self._transaction() as connection:
            interrupt(connection, self.number, self._wall_ns())
            self._beat(connection, dropped, ended=True)

    def sweep(self) -> Generator[set[str] | None, None, None]:
        """Close what dead processes left open, then forget old traces, step by step.

        Yields first the keys of the targets that something of other processes waits for.
        """
        connection = self.connect()
        bury(connection, self._owner.host, self._wall_ns(), owners.start_token)
        yield left(connection, self.number)
        yield from forget(connection, self._limits, self._wall_ns())

    def moved(self) -> bool:
        """Tell whether the file at the path is no longer the one that is open."""
        return self.connection is not None and self._identity() != self._file

    def _identity(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            status = os.stat(self.path)
        except OSError:
            return (0, 0)
        return status.st_dev, status.st_ino

    def _sign(self, connection: sqlite3.Connection) -> int:
        me = self._owner
        values = (me.token, me.pid, me.host, me.started, self._wall_ns())
        new = connection.execute(
            "INSERT OR IGNORE INTO owners (token, pid, host, started, heartbeat_ns)"
            " VALUES (?, ?, ?, ?, ?)",
            values,
        ).rowcount
        if new:  # not the file that we knew, if we knew one
            self.mind.forget()
        found = connection.execute("SELECT id FROM owners WHERE token = ?", (me.token,)).fetchone()
        return int(found[0])

    def _beat(self, connection: sqlite3.Connection, dropped: int, *, ended: bool) -> None:
        connection.execute(
            "UPDATE owners SET heartbeat_ns = ?, dropped = ?, ended = ? WHERE id = ?",
            (self._wall_ns(), dropped, ended, self.number),
        )

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        connection = self.connect()
        with transaction(connection):
            yield connection
