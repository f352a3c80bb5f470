"""What one transaction changes: rows of records and traces, and the parcels that go with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from tracing.names import EVENT
from tracing.record import Record
from tracing.redact import Redactor
from tracing.store.rows import (
    CHANGING,
    COLUMNS,
    FIXED,
    TRACE_COLUMNS,
    Row,
    record_row,
    signed,
    trace_key,
    trace_row,
)
from tracing.store.spool import Spool, matters

_VALUES: Final = f"({','.join('?' * len(COLUMNS))})"
_INSERT: Final = f"INSERT INTO records ({','.join(COLUMNS)}) VALUES "
# Many rows in one statement. Each step of a statement gives up the interpreter lock and has to win
# it back: row by row, a busy flow lets the writer through 200 times a second, and not more. On the
# other hand a flow must not wait for long: making 64 rows takes half a millisecond. The writer asks
# for more of its time only when records would be lost otherwise.
_SIZES: Final = (512, 64, 8, 1)
GENTLE: Final = 64
HURRIED: Final = 512
_INSERTS: Final = {size: _INSERT + ",".join([_VALUES] * size) for size in _SIZES}
_UPDATE: Final = f"UPDATE records SET {','.join(f'{name} = ?' for name in CHANGING)} WHERE id = ?"
_INSERT_TRACE: Final = (
    f"INSERT OR IGNORE INTO traces ({','.join(TRACE_COLUMNS)})"
    f" VALUES ({','.join('?' * len(TRACE_COLUMNS))})"
)
_CLAIMED: Final = TRACE_COLUMNS.index("sampled")  # that was decided for the whole trace
_UPDATE_TRACE: Final = (
    f"UPDATE traces SET {','.join(f'{name} = ?' for name in TRACE_COLUMNS[1:_CLAIMED])}"
    " WHERE id = ?"
)
_KNOWN: Final = 100_000  # traces whose row numbers are remembered


class Place(NamedTuple):
    """Where a trace is in the file, and the record whose end is the end of the trace."""

    row: int
    entry: int


@dataclass(eq=False)
class Mind:
    """What a writer remembers of the file. Changed only after a commit."""

    rows: dict[int, int] = field(default_factory=dict)
    """Row numbers of the records that are open in the file, by span id."""
    places: dict[int, Place] = field(default_factory=dict)
    """Where the traces are that have not ended, by trace id."""
    chosen: dict[int, bool] = field(default_factory=dict)
    """Of traces that are sent only if they matter: whether they do, as far as is known."""
    spool: Spool = field(default_factory=Spool)

    def forget(self) -> None:
        """Know nothing any more: the file is another one."""
        self.rows.clear()
        self.places.clear()
        self.chosen.clear()
        self.spool.forget()


class Change:
    """One transaction: what it has written so far, and what is to be remembered of it.

    Args:
        mind: What the writer remembers.
        connection: In a transaction.
        owner: Row number of this process.
        redactor: Takes the secrets out; None keeps them.
        now_ns: Unix time in nanoseconds.
    """

    def __init__(
        self,
        mind: Mind,
        connection: sqlite3.Connection,
        owner: int,
        redactor: Redactor | None,
        now_ns: int,
    ) -> None:
        self._mind = mind
        self._connection = connection
        self._owner = owner
        self._redactor = redactor
        self._now_ns = now_ns
        self._places: dict[int, Place] = {}
        self._over: set[int] = set()
        self._rows: dict[int, int] = {}
        self._ended: list[int] = []
        self._chosen: dict[int, bool] = {}
        self._newly: dict[int, int] = {}
        self._parcels: dict[int, list[int]] = {}
        self.spoilt = 0
        """Number of closed records that could not be made into rows."""
        self.addressed: set[str] = set()
        """Keys of the targets that there is something for."""

    def note_traces(self, closed: Sequence[Record], opened: Sequence[Record]) -> None:
        """Make sure that every trace has a row, and know the rows' numbers."""
        known = self._mind.places
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
        bound: list[int | None] = []  # the route that each of them takes now
        changed: list[Row] = []
        numbers = self._mind.rows
        for record in closed:
            if len(fresh) == chunk:
                self._insert(fresh, bound)
                fresh.clear()
                bound.clear()
            place = self._find(record)
            route = self._route(record)
            row = self._row(record, place, route)
            if row is None:
                self.spoilt += 1
            elif (number := numbers.get(record.span_id)) is None:
                fresh.append(row)
                bound.append(self._due(record, place, route))
            else:
                self._ended.append(record.span_id)
                changed.append((*row[FIXED:], number))
                self._address(self._due(record, place, route), number)
            if place.entry == record.span_id:
                self._end_trace(record, place)
        self._insert(fresh, bound)
        self._open(opened, changed)
        if changed:
            self._connection.executemany(_UPDATE, changed)
        self._pack()

    def keep(self) -> None:
        """Take the changes over: they are in the file now."""
        mind = self._mind
        for known in (mind.places, mind.chosen):
            if len(known) > _KNOWN:
                known.clear()
        mind.places.update(self._places)
        for trace_id in self._over:
            mind.places.pop(trace_id, None)
        mind.rows.update(self._rows)
        for span_id in self._ended:
            mind.rows.pop(span_id, None)
        mind.chosen.update(self._chosen)
        mind.spool.keep()

    def _place(self, entry: Record) -> Place:
        """Insert the row of a trace or, when it is there already, let a root claim it."""
        trace = entry.trace
        row = trace_row(trace, entry, self._owner, entry.redactor or self._redactor)
        cursor = self._connection.execute(_INSERT_TRACE, row)
        if cursor.rowcount == 1 and cursor.lastrowid is not None:
            return Place(cursor.lastrowid, entry.span_id)
        number, claimed = self._connection.execute(
            "SELECT id, entry FROM traces WHERE trace_id = ?", (trace_key(trace.trace_id),)
        ).fetchone()
        if entry.parent_id is not None and claimed != signed(entry.span_id):
            return Place(
                number, 0
            )  # another process's trace, or a late record: its end is not ours
        self._connection.execute(_UPDATE_TRACE, (*row[1:_CLAIMED], number))
        return Place(number, entry.span_id)

    def _find(self, record: Record) -> Place:
        trace_id = record.trace.trace_id
        return self._places.get(trace_id) or self._mind.places[trace_id]

    def _route(self, record: Record) -> int | None:
        route: Any = record.trace.route
        return None if route is None else self._mind.spool.number(self._connection, route)

    def _row(self, record: Record, place: Place, route: int | None) -> Row | None:
        try:
            redactor = record.redactor or self._redactor
            return record_row(record, place.row, self._owner, redactor, route)
        except (AttributeError, TypeError, ValueError, OverflowError):  # not made as promised
            return None

    def _due(self, record: Record, place: Place, route: int | None) -> int | None:
        """Return the route that *record* takes in this transaction, if it takes one."""
        keep = record.trace.keep
        if route is None or record.kind == EVENT:  # an event goes with its span
            return None
        if keep is None:
            return route
        trace_id = record.trace.trace_id
        if trace_id in self._newly:
            return None  # goes with the rest of its trace
        if self._is_chosen(trace_id, place):
            return route
        mattering = matters(record, keep, is_entry=place.entry == record.span_id)
        self._chosen[trace_id] = mattering
        if mattering:
            self._newly[trace_id] = place.row
        return None

    def _is_chosen(self, trace_id: int, place: Place) -> bool:
        found = self._chosen.get(trace_id)
        if found is None:
            found = self._mind.chosen.get(trace_id)
        if found is None:
            query = "SELECT coalesce(sampled, 0) FROM traces WHERE id = ?"
            found = bool(self._connection.execute(query, (place.row,)).fetchone()[0])
            self._chosen[trace_id] = found
        return found

    def _address(self, route: int | None, number: int) -> None:
        if route is not None:
            self._parcels.setdefault(route, []).append(number)

    def _pack(self) -> None:
        spool, connection = self._mind.spool, self._connection
        if self._parcels:
            self.addressed |= spool.pack(connection, self._owner, self._now_ns, self._parcels)
        if self._newly:
            self.addressed |= spool.pack_traces(
                connection, self._owner, self._now_ns, self._newly.values()
            )

    def _end_trace(self, record: Record, place: Place) -> None:
        trace_id = record.trace.trace_id
        self._over.add(trace_id)
        if record.end is not None and trace_id not in self._places:  # else its row says so already
            self._connection.execute(
                "UPDATE traces SET duration_ns = ?, outcome = ? WHERE id = ? AND entry = ?",
                (record.end - record.start, record.outcome, place.row, signed(record.span_id)),
            )

    def _insert(self, rows: list[Row], bound: list[int | None]) -> None:
        at = 0
        for size in _SIZES:
            while len(rows) - at >= size:
                values: list[Any] = list(chain.from_iterable(rows[at : at + size]))
                last = self._connection.execute(_INSERTS[size], values).lastrowid or 0
                # Numbers of one statement follow each other: nobody else writes meanwhile.
                for number, route in enumerate(bound[at : at + size], last - size + 1):
                    if route is not None:
                        self._parcels.setdefault(route, []).append(number)
                at += size

    def _open(self, records: Sequence[Record], changed: list[Row]) -> None:
        numbers = self._mind.rows
        for record in records:
            row = self._row(record, self._find(record), self._route(record))
            if row is None:
                continue
            row = (*row[:FIXED], None, None, *row[FIXED + 2 :])  # it may have ended just now
            if (number := numbers.get(record.span_id)) is not None:
                changed.append((*row[FIXED:], number))
            elif (new := self._connection.execute(_INSERTS[1], row).lastrowid) is not None:
                self._rows[record.span_id] = new
