"""The spool as the writer sees it: which record is for whom, within the writer's own transaction.

A record and the parcels that name it are stored by one transaction, so whatever is in the store and
is to be sent stays to be sent, over the death of this process or of the other side.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import orjson

from tracing.names import EVENT
from tracing.record import FAILED, INTERRUPTED, TIMED_OUT, Keep, Record

MATTERING: Final = frozenset({FAILED, TIMED_OUT, INTERRUPTED})
"""Outcomes for which a trace is sent although it was left out of the sample."""
_KNOWN: Final = 1000  # routes remembered
_MOST: Final = 4096  # records in one parcel


class Way(Protocol):
    """What the store has to know of a `tracing.export.model.Route`."""

    @property
    def addressees(self) -> Sequence[tuple[str, str, str]]:
        """Key, name and address of each target."""

    @property
    def shape(self) -> str:
        """How the records are to look there."""


class Spool:
    """Numbers routes and makes parcels. What it keeps in mind holds once `keep` was called."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, str], int] = {}
        self._targets: dict[int, tuple[int, ...]] = {}
        self._new: dict[tuple[object, str], int] = {}

    def forget(self) -> None:
        """Know nothing any more: the file is another one."""
        self._numbers.clear()
        self._targets.clear()
        self._new.clear()

    def keep(self) -> None:
        """Take over what the transaction has numbered: it is committed."""
        if len(self._numbers) > _KNOWN:
            self.forget()
            return
        self._numbers.update(self._new)
        self._new.clear()

    def number(self, connection: sqlite3.Connection, way: Way) -> int | None:
        """Return the row number of a route; None: it leads nowhere."""
        key = (way.addressees, way.shape)
        found = self._numbers.get(key) or self._new.get(key)
        if found is None and way.addressees:
            found = self._new[key] = _number(connection, way)
        return found

    def pack(
        self,
        connection: sqlite3.Connection,
        owner: int,
        made_ns: int,
        records: Mapping[int, Sequence[int]],
    ) -> set[str]:
        """Make parcels; return the keys of their targets.

        Args:
            connection: In a transaction.
            owner: Whose they are to send.
            made_ns: Unix time in nanoseconds.
            records: Row numbers of records by that of their route.
        """
        rows = [
            (target, owner, array("q", some).tobytes(), len(some), made_ns)
            for route, numbers in records.items()
            for at in range(0, len(numbers), _MOST)
            for some in (numbers[at : at + _MOST],)
            for target in self._of(connection, route)
        ]
        connection.executemany(
            "INSERT INTO parcels (target, owner, records, count, made_ns) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        return _keys(connection, {row[0] for row in rows})

    def pack_traces(
        self, connection: sqlite3.Connection, owner: int, made_ns: int, traces: Iterable[int]
    ) -> set[str]:
        """Make parcels of all that is finished in *traces*, and note that they matter."""
        records: dict[int, list[int]] = {}
        for trace in traces:
            connection.execute("UPDATE traces SET sampled = 1 WHERE id = ?", (trace,))
            _sort(
                connection.execute(
                    "SELECT id, route FROM records WHERE trace = ? AND route IS NOT NULL"
                    " AND duration_ns IS NOT NULL AND kind != ? ORDER BY id",
                    (trace, EVENT),
                ),
                records,
            )
        return self.pack(connection, owner, made_ns, records)

    def _of(self, connection: sqlite3.Connection, route: int) -> tuple[int, ...]:
        if route not in self._targets:
            row = connection.execute("SELECT targets FROM routes WHERE id = ?", (route,)).fetchone()
            self._targets[route] = tuple(orjson.loads(row[0])) if row else ()
        return self._targets[route]


def matters(record: Record, keep: Keep, *, is_entry: bool) -> bool:
    """Tell whether *record*, the first of its trace or not, alone makes that matter."""
    if keep.failed and record.outcome in MATTERING:
        return True
    if keep.retried and any(phase.attempt for phase in record.phases):
        return True
    return (
        is_entry
        and keep.slow_ns is not None
        and record.end is not None
        and record.end - record.start >= keep.slow_ns
    )


def abandoned(connection: sqlite3.Connection, owner: int) -> tuple[list[int], list[int]]:
    """Return the records that *owner* leaves open, and its traces that were not decided about.

    Records of the latter are not among the former. To be asked before they are marked.
    """
    records = connection.execute(
        "SELECT records.id FROM records JOIN traces ON traces.id = records.trace"
        " WHERE records.owner = ? AND records.duration_ns IS NULL AND records.route IS NOT NULL"
        " AND coalesce(traces.sampled, 1)",
        (owner,),
    )
    traces = connection.execute(
        "SELECT id FROM traces WHERE owner = ? AND duration_ns IS NULL AND sampled = 0", (owner,)
    )
    return [row[0] for row in records.fetchall()], [row[0] for row in traces.fetchall()]


def pack_abandoned(
    connection: sqlite3.Connection, owner: int, now_ns: int, left: tuple[list[int], list[int]]
) -> set[str]:
    """Make parcels of what `abandoned` returned, once it has been marked as interrupted."""
    spool = Spool()
    records: dict[int, list[int]] = {}
    for number in left[0]:
        query = "SELECT id, route FROM records WHERE id = ? AND kind != ?"
        _sort(connection.execute(query, (number, EVENT)), records)
    keys = spool.pack(connection, owner, now_ns, records)
    return keys | spool.pack_traces(connection, owner, now_ns, left[1])


def left(connection: sqlite3.Connection, owner: int) -> set[str]:
    """Return the keys of the targets that something waits for which is not *owner*'s to send."""
    query = (
        "SELECT key FROM targets WHERE EXISTS (SELECT 1 FROM parcels"
        " WHERE target = targets.id AND reason IS NULL AND owner != ?)"
    )
    return {row[0] for row in connection.execute(query, (owner,)).fetchall()}


def _number(connection: sqlite3.Connection, way: Way) -> int:
    targets = []
    for key, name, address in way.addressees:
        connection.execute(
            "INSERT INTO targets (key, name, address) VALUES (?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET name = excluded.name, address = excluded.address",
            (key, name, address),
        )
        query = "SELECT id FROM targets WHERE key = ?"
        targets.append(connection.execute(query, (key,)).fetchone()[0])
    said = orjson.dumps(sorted(set(targets))).decode()
    values = (said, way.shape)
    connection.execute("INSERT OR IGNORE INTO routes (targets, shape) VALUES (?, ?)", values)
    query = "SELECT id FROM routes WHERE targets = ? AND shape = ?"
    return int(connection.execute(query, values).fetchone()[0])


def _keys(connection: sqlite3.Connection, targets: set[int]) -> set[str]:
    query = "SELECT key FROM targets WHERE id = ?"
    return {connection.execute(query, (target,)).fetchone()[0] for target in targets}


def _sort(rows: Iterable[tuple[int, int]], into: dict[int, list[int]]) -> None:
    for number, route in rows:
        into.setdefault(route, []).append(number)
