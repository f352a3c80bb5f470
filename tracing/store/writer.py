"""The only hand that writes: one connection, one transaction per batch, no threads of its own."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, NamedTuple

from tracing.record import Record
from tracing.store import owner as owners
from tracing.store.retention import Limits, bury, forget, interrupt
from tracing.store.rows import (
    CHANGING,
    COLUMNS,
    TRACE_COLUMNS,
    Redact,
    Row,
    record_row,
    signed,
    trace_key,
    trace_row,
)
from tracing.store.schema import connect, connect_memory

_VALUES: Final = f"({','.join('?' * len(COLUMNS))})"
_INSERT: Final = f"INSERT INTO records ({','.join(COLUMNS)}) VALUES "
# Many rows in one statement. Each step of a statement gives up the interpreter lock and has to win
# it back: row by row, a busy flow lets the writer through 200 times a second, and not more. On the
# other hand a flow must not wait for long: making 64 rows takes half a millisecond. The writer asks
# for more of its time only when records would be lost otherwise.
_SIZES: Final = (512, 64, 8, 1)
_GENTLE: Final = 64
_HURRIED: Final = 512
_INSERTS: Final = {size: _INSERT + ",".join([_VALUES] * size) for size in _SIZES}
_UPDATE: Final = f"UPDATE records SET {','.join(f'{name} = ?' for name in CHANGING)} WHERE id = ?"
_CHANGES: Final = len(COLUMNS) - len(CHANGING)
_INSERT_TRACE: Final = (
    f"INSERT OR IGNORE INTO traces ({','.join(TRACE_COLUMNS)})"
    f" VALUES ({','.join('?' * len(TRACE_COLUMNS))})"
)
_UPDATE_TRACE: Final = (
    f"UPDATE traces SET {','.join(f'{name} = ?' for name in TRACE_COLUMNS[1:])} WHERE id = ?"
)
_KNOWN: Final = 100_000  # traces whose row numbers are remembered


class _Place(NamedTuple):
    """Where a trace is in the file, and the record whose end is the end of the trace."""

    row: int
    entry: int


class Writer:
    """Writes records into one file, or into memory.

    Not thread-safe; everything it keeps in mind is changed only after a commit, so that a batch
    that failed can simply be written again.
    """

    def __init__(
        self, path: str | None, redact: Redact, limits: Limits, wall_ns: Callable[[], int]
    ) -> None:
        self.path = path
        self.rows: dict[int, int] = {}
        """Row numbers of the records that are open in the file, by span id."""
        self.connection: sqlite3.Connection | None = None
        self.redact = redact
        self._limits = limits
        self._wall_ns = wall_ns
        self._owner = owners.current(wall_ns)
        self._number = 0
        self._places: dict[int, _Place] = {}
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
            self._number = self._sign(connection)
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
        return trace_id in self._places

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
            change = _Change(self, connection)
            change.note_traces(closed, opened)
            change.write(closed, opened, _HURRIED if hurry else _GENTLE)
            self._beat(connection, dropped, ended=False)
        change.keep()
        return len(closed) - change.spoilt

    def goodbye(self, dropped: int) -> None:
        """Sign off, and mark as interrupted what is still open in the file."""
        if not self._number:  # never been there
            return
        with self._transaction() as connection:
            interrupt(connection, self._number, self._wall_ns())
            self._beat(connection, dropped, ended=True)

    def sweep(self) -> Generator[None, None, None]:
        """Close what dead processes left open, then forget old traces, step by step."""
        connection = self.connect()
        bury(connection, self._owner.host, self._wall_ns(), owners.start_token)
        yield
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
            self.rows.clear()
            self._places.clear()
        found = connection.execute("SELECT id FROM owners WHERE token = ?", (me.token,)).fetchone()
        return int(found[0])

    def _beat(self, connection: sqlite3.Connection, dropped: int, *, ended: bool) -> None:
        connection.execute(
            "UPDATE owners SET heartbeat_ns = ?, dropped = ?, ended = ? WHERE id = ?",
            (self._wall_ns(), dropped, ended, self._number),
        )

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        connection = self.connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")


class _Change:
    """What one transaction is about to change in the writer's mind."""

    def __init__(self, writer: Writer, connection: sqlite3.Connection) -> None:
        self._writer = writer
        self._connection = connection
        self._places: dict[int, _Place] = {}
        self._over: set[int] = set()
        self._rows: dict[int, int] = {}
        self._ended: list[int] = []
        self.spoilt = 0

    def note_traces(self, closed: Sequence[Record], opened: Sequence[Record]) -> None:
        """Make sure that every trace has a row, and know the rows' numbers."""
        known = self._writer._places
        entries: dict[int, Record] = {}
        for record in chain(closed, opened):
            trace_id = record.trace.trace_id
            place = known.get(trace_id)
            if place is not None and (
                record.parent_id is not None or place.entry == record.span_id
            ):
                continue
            other = entries.get(trace_id)
            if other is None or record.parent_id is None:
                entries[trace_id] = record
            elif other.parent_id is not None and record.start < other.start:
                entries[trace_id] = record  # the root is not among them: what began earliest
        for trace_id, entry in entries.items():
            self._places[trace_id] = self._place(entry)

    def write(self, closed: Sequence[Record], opened: Sequence[Record], chunk: int) -> None:
        """Write the rows of the records, *chunk* at a time, and the end of their traces."""
        fresh: list[Row] = []
        changed: list[Row] = []
        numbers = self._writer.rows
        for record in closed:
            if len(fresh) == chunk:
                self._insert(fresh)
                fresh.clear()
            place = self._find(record)
            row = self._row(record, place)
            if row is None:
                self.spoilt += 1
            elif (number := numbers.get(record.span_id)) is None:
                fresh.append(row)
            else:
                self._ended.append(record.span_id)
                changed.append((*row[_CHANGES:], number))
            if place.entry == record.span_id:
                self._end_trace(record, place)
        self._insert(fresh)
        self._open(opened, changed)
        if changed:
            self._connection.executemany(_UPDATE, changed)

    def keep(self) -> None:
        """Take the changes over: they are in the file now."""
        writer = self._writer
        if len(writer._places) > _KNOWN:
            writer._places.clear()
        writer._places.update(self._places)
        for trace_id in self._over:
            writer._places.pop(trace_id, None)
        writer.rows.update(self._rows)
        for span_id in self._ended:
            writer.rows.pop(span_id, None)

    def _place(self, entry: Record) -> _Place:
        """Insert the row of a trace or, when it is there already, let a root claim it."""
        writer, trace = self._writer, entry.trace
        row = trace_row(trace, entry, writer._number, writer.redact)
        cursor = self._connection.execute(_INSERT_TRACE, row)
        if cursor.rowcount == 1 and cursor.lastrowid is not None:
            return _Place(cursor.lastrowid, entry.span_id)
        number, claimed = self._connection.execute(
            "SELECT id, entry FROM traces WHERE trace_id = ?", (trace_key(trace.trace_id),)
        ).fetchone()
        if entry.parent_id is not None and claimed != signed(entry.span_id):
            return _Place(
                number, 0
            )  # another process's trace, or a late record: its end is not ours
        self._connection.execute(_UPDATE_TRACE, (*row[1:], number))
        return _Place(number, entry.span_id)

    def _find(self, record: Record) -> _Place:
        trace_id = record.trace.trace_id
        return self._places.get(trace_id) or self._writer._places[trace_id]

    def _row(self, record: Record, place: _Place) -> Row | None:
        writer = self._writer
        try:
            return record_row(record, place.row, writer._number, writer.redact)
        except (AttributeError, TypeError, ValueError, OverflowError):  # not made as promised
            return None

    def _end_trace(self, record: Record, place: _Place) -> None:
        trace_id = record.trace.trace_id
        self._over.add(trace_id)
        if record.end is not None and trace_id not in self._places:  # else its row says so already
            self._connection.execute(
                "UPDATE traces SET duration_ns = ?, outcome = ? WHERE id = ? AND entry = ?",
                (record.end - record.start, record.outcome, place.row, signed(record.span_id)),
            )

    def _insert(self, rows: list[Row]) -> None:
        at = 0
        for size in _SIZES:
            while len(rows) - at >= size:
                values: list[Any] = list(chain.from_iterable(rows[at : at + size]))
                self._connection.execute(_INSERTS[size], values)
                at += size

    def _open(self, records: Sequence[Record], changed: list[Row]) -> None:
        numbers = self._writer.rows
        for record in records:
            row = self._row(record, self._find(record))
            if row is None:
                continue
            row = (*row[:8], None, None, *row[10:])  # it may have ended this very moment
            if (number := numbers.get(record.span_id)) is not None:
                changed.append((*row[_CHANGES:], number))
            elif (new := self._connection.execute(_INSERTS[1], row).lastrowid) is not None:
                self._rows[record.span_id] = new
