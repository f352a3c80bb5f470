"""What a receiver got against what the store says was finished, span by span.

The store is read here with SQL and the ids of phases are computed from the records', so that an
error of the way out (`tracing.export`) cannot hide itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracing.wire_kit import attributes
from tracing.record import phase_id

Key = tuple[bytes, bytes]
"""Trace id and span id."""

_MASK = (1 << 64) - 1
_RECORDS = """
    SELECT trace_id, span_id, parent_id, records.name, records.started_ns, records.duration_ns,
           phases, input, output, session_id, user_id, records.outcome
    FROM records JOIN traces ON traces.id = records.trace
    WHERE records.duration_ns IS NOT NULL
"""


class Told(NamedTuple):
    """What the store says about a span, or the receiver."""

    parent: bytes
    name: str
    start_ns: int
    end_ns: int
    input: str | None
    output: str | None
    session: str | None
    user: str | None


@dataclass
class Compared:
    """What came of it.

    Attributes:
        finished: Spans that the store says are finished.
        received: Spans that came, duplicates counted.
        distinct: Spans that came.
        duplicates: How often one came that had come before.
        lost: Names of those that did not come.
        strange: Spans that came and are not in the store, and those with another content than
            there, or than in an earlier copy.
    """

    finished: int = 0
    received: int = 0
    distinct: int = 0
    duplicates: int = 0
    lost: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)


def finished(store: Path) -> dict[Key, Told]:
    """Return all spans that the store says are finished."""
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        return {key: told for row in connection.execute(_RECORDS) for key, told in _spans(row)}


def left(store: Path) -> tuple[int, int, int]:
    """Return how many records wait to be sent, are set aside, and are still open."""
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        waiting, aside = connection.execute(
            "SELECT coalesce(sum(CASE WHEN reason IS NULL THEN count - done END), 0),"
            " coalesce(sum(CASE WHEN reason IS NOT NULL THEN count END), 0) FROM parcels"
        ).fetchone()
        query = "SELECT count(*) FROM records WHERE duration_ns IS NULL"
        return waiting, aside, connection.execute(query).fetchone()[0]


def compare(store: Path, requests: Iterable[ExportTraceServiceRequest]) -> Compared:
    """Hold what was received against the store."""
    expected = finished(store)
    found = Compared(finished=len(expected))
    first: dict[Key, bytes] = {}
    for span in _received(requests):
        key = (span.trace_id, span.span_id)
        found.received += 1
        data = span.SerializeToString(deterministic=True)
        if key in first:
            found.duplicates += 1
            if first[key] != data:
                found.strange.append(f"{span.name}: a duplicate has another content")
            continue
        first[key] = data
        if key not in expected:
            found.strange.append(f"{span.name}: the store does not know it")
        elif (said := _told(span)) != expected[key]:
            found.strange.append(f"{said} is {expected[key]} in the store")
    found.distinct = len(first)
    found.lost = [told.name for key, told in expected.items() if key not in first]
    return found


def _received(requests: Iterable[ExportTraceServiceRequest]) -> Iterator[Any]:
    for request in requests:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                yield from scope.spans


def _told(span: Any) -> Told:
    said = attributes(span)
    return Told(
        span.parent_span_id,
        span.name,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        said.get("input.value"),
        said.get("output.value"),
        said.get("session.id"),
        said.get("user.id"),
    )


def _spans(row: tuple[Any, ...]) -> Iterator[tuple[Key, Told]]:
    """Yield the spans of one record: its own and those of its phases."""
    trace, span, parent, name, start, took, phases, given, made, session, user, _ = row
    number = span & _MASK
    own = number.to_bytes(8, "big")
    above = b"" if parent is None else (parent & _MASK).to_bytes(8, "big")
    yield (
        (trace, own),
        Told(above, name, start, start + took, _text(given), _text(made), session, user),
    )
    for ordinal, (kind, after, lasted, *_rest) in enumerate(json.loads(phases or b"[]")):
        began = start + after
        told = Told(own, f"{name}.{kind}", began, began + (lasted or 0), None, None, session, user)
        yield (trace, phase_id(number, ordinal).to_bytes(8, "big")), told


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()
