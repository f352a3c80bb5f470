"""What a sender takes from the spool at a time: records with all that is needed to send each."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tracing.names import EVENT
from tracing.store import tree
from tracing.store.model import Event, Span, TraceFacts

_RECORD: Final = ", ".join(f"records.{name}" for name in tree.COLUMNS)
_QUERY: Final = (
    f"SELECT id, trace, route, within, length(input) + length(output), {_RECORD} FROM records"
)
_BARE: Final = 512  # bytes that a record takes besides its contents, about
_IN_ONE: Final = 500  # values in one statement


@dataclass(slots=True)
class Item:
    """A record that is to be sent, with what is needed to send it alone."""

    row: int
    """Its row number in the store."""
    span: Span
    """The record, with its events and without its children."""
    facts: TraceFacts
    within: tuple[int, str] | None
    """Ordinal and kind of the phase of its parent record that it was opened in."""
    shape: str
    """How it is to look there."""
    state: str
    """W3C tracestate of its trace."""
    foreign: bool
    """Whether its parent is in another system."""


@dataclass(slots=True)
class Load:
    """What is to be sent next, in order."""

    items: list[Item]
    parts: list[tuple[int, int, list[int]]] = field(default_factory=list)
    """Of each parcel its number, how many of it have arrived, and the records of it in here."""
    missing: int = 0
    """Records that were deleted, for age or size, before they were sent."""


def read(connection: sqlite3.Connection, key: str, owner: int, most: int, room: int) -> Load:
    """Return what *owner* is to send next to the target *key*.

    Args:
        connection: Of the store.
        key: Identifies the target.
        owner: Row number of a process.
        most: Most records.
        room: Most bytes of content, about; one record is returned however large it is.
    """
    load = Load([])
    parcels = connection.execute(
        "SELECT id, done, records FROM parcels WHERE owner = ? AND reason IS NULL"
        " AND target = (SELECT id FROM targets WHERE key = ?) ORDER BY id LIMIT 1000",
        (owner, key),
    )
    wanted: list[int] = []
    for parcel, done, packed in parcels:
        numbers = array("q")
        numbers.frombytes(packed)
        some = list(numbers[done : done + most - len(wanted)])
        load.parts.append((parcel, done, some))
        wanted += some
        if len(wanted) >= most:
            break
    rows = _rows(connection, wanted)
    fits = _fitting(wanted, rows, room)
    left = fits
    for at, (parcel, done, some) in enumerate(load.parts):
        load.parts[at] = (parcel, done, some[: max(0, left)])
        left -= len(some)
    found = [rows[number] for number in wanted[:fits] if number in rows]
    load.missing = fits - len(found)
    load.items = _items(connection, found)
    return load


def _rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, tuple[Any, ...]] = {}
    for some in _chunks(numbers):
        query = f"{_QUERY} WHERE route IS NOT NULL AND id IN ({_marks(some)})"
        found.update((row[0], row) for row in connection.execute(query, some))
    return found


def _fitting(wanted: list[int], rows: dict[int, tuple[Any, ...]], room: int) -> int:
    """Return how many of *wanted* fit into *room*: one, at least."""
    for at, number in enumerate(wanted):
        if number in rows:
            room -= _BARE + (rows[number][4] or 0)
        if room < 0:
            return max(1, at)
    return len(wanted)


def _items(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[Item]:
    traces = {row[1] for row in rows}
    known = {
        number: (facts, state, entry)
        for some in _chunks(list(traces))
        for number, facts, state, entry in _traces(connection, some)
    }
    events = _events(connection, rows)
    shapes = {route: _shape(connection, route) for route in {row[2] for row in rows}}
    items = []
    for number, trace, route, within, _, *columns in rows:
        facts, state, entry = known[trace]
        span = tree.span(facts.trace_id, columns, _unfinished, events.get(columns[0], ()))
        ordinal, _, kind = (within or "").partition(" ")
        items.append(
            Item(
                number,
                span,
                facts,
                (int(ordinal), kind) if within else None,
                shapes[route],
                state or "",
                columns[1] is not None and columns[0] == entry,
            )
        )
    return items


def _traces(
    connection: sqlite3.Connection, numbers: Sequence[int]
) -> Generator[tuple[int, TraceFacts, str | None, int], None, None]:
    query = (
        "SELECT id, trace_id, name, session_id, user_id, tags, metadata, state, entry FROM traces"
        f" WHERE id IN ({_marks(numbers)})"
    )
    for number, trace_id, name, session, user, tags, metadata, state, entry in connection.execute(
        query, numbers
    ):
        facts = TraceFacts(
            trace_id.hex(),
            name,
            session,
            user,
            tuple(orjson.loads(tags)) if tags else (),
            _object(metadata),
        )
        yield number, facts, state, entry


def _events(
    connection: sqlite3.Connection, rows: list[tuple[Any, ...]]
) -> dict[int, tuple[Event, ...]]:
    """Return the events of the spans in *rows*, in order of time, by (signed) span id."""
    found: dict[int, list[Event]] = {}
    spans: dict[int, list[int]] = {}
    for row in rows:
        spans.setdefault(row[1], []).append(row[5])
    for trace, ids in spans.items():
        for some in _chunks(ids):
            query = (
                "SELECT parent_id, name, started_ns, attributes FROM records WHERE trace = ?"
                f" AND kind = '{EVENT}' AND parent_id IN ({_marks(some)}) ORDER BY started_ns"
            )
            for parent, name, at_ns, attributes in connection.execute(query, (trace, *some)):
                found.setdefault(parent, []).append(Event(name, at_ns, _object(attributes)))
    return {parent: tuple(events) for parent, events in found.items()}


def _shape(connection: sqlite3.Connection, route: int) -> str:
    row = connection.execute("SELECT shape FROM routes WHERE id = ?", (route,)).fetchone()
    return str(row[0]) if row else ""


def _unfinished(owner: int) -> tree.Fate:
    return tree.Fate(alive=False, last_ns=0)


def _object(payload: bytes | None) -> dict[str, Any]:
    found = orjson.loads(payload) if payload else None
    return found if isinstance(found, dict) else {}


def _chunks(values: Sequence[int]) -> Iterable[Sequence[int]]:
    return (values[at : at + _IN_ONE] for at in range(0, len(values), _IN_ONE))


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
