"""A record as a row of the file: redacted, compact, and of types that SQLite always takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from tracing.encode import encode
from tracing.record import COMPLETED, Failure, Phase, Record, Trace, phase_id
from tracing.redact import Redactor

Row = tuple[Any, ...]

COLUMNS: Final = (
    "trace",
    "owner",
    "span_id",
    "parent_id",
    "kind",
    "name",
    "place",
    "route",
    "within",
    "started_ns",
    "duration_ns",
    "outcome",
    "error",
    "phases",
    "attributes",
    "input",
    "output",
)
FIXED: Final = COLUMNS.index("duration_ns")
"""Number of columns that never change once they are written."""
CHANGING: Final = COLUMNS[FIXED:]
"""What the end of a record changes in the row that was written while it was open."""
TRACE_COLUMNS: Final = (
    "trace_id",
    "owner",
    "entry",
    "name",
    "session_id",
    "user_id",
    "tags",
    "metadata",
    "started_ns",
    "duration_ns",
    "outcome",
    "sampled",
    "state",
)

_SIGN: Final = 1 << 63
_MOST: Final = 1 << 20  # bytes of an error or of all phases, should they need the careful encoder


def signed(number: int) -> int:
    """Return the signed 64-bit integer with the same bits as the unsigned *number*."""
    return (number & (1 << 64) - 1 ^ _SIGN) - _SIGN


def unsigned(number: int) -> int:
    """Undo `signed`."""
    return number & (1 << 64) - 1


def record_row(
    record: Record,
    trace: int,
    owner: int,
    redactor: Redactor | None,
    route: int | None = None,
) -> Row:
    """Return the values of `COLUMNS` for *record*, which may still be open.

    Args:
        record: What to store.
        trace: Row number of its trace.
        owner: Row number of the writing process.
        redactor: Takes the secrets out; None keeps them.
        route: Row number of where it is sent to; None: nowhere.
    """
    start, end, parent = record.start, record.end, record.parent_id
    contents: Sequence[bytes | None] = (
        encode(dict(record.attributes)) if record.attributes else None,
        record.input,
        record.output,
    )
    if redactor is not None:
        contents = redactor.apply_all(contents)
    return (
        trace,
        owner,
        signed(record.span_id),
        None if parent is None else signed(parent),
        text(record.kind),
        text(record.name),
        None if record.index is None else signed(record.index),
        route,
        None if route is None else _within(record),
        record.trace.wall(start),
        None if end is None else end - start,
        None if end is None else record.outcome or COMPLETED,
        None if record.error is None else _json(_failure(record.error, redactor)),
        _json([_phase(phase, start, redactor) for phase in record.phases])
        if record.phases
        else None,
        *contents,
    )


def trace_row(trace: Trace, entry: Record, owner: int, redactor: Redactor | None) -> Row:
    """Return the values of `TRACE_COLUMNS` for *trace*, whose outcome is that of *entry*."""
    end = entry.end
    redact = _unchanged if redactor is None else redactor.apply
    return (
        trace_key(trace.trace_id),
        owner,
        signed(entry.span_id),
        text(trace.name),
        None if trace.session_id is None else text(trace.session_id),
        None if trace.user_id is None else text(trace.user_id),
        encode(list(trace.tags)) if trace.tags else None,
        redact(encode(trace.metadata)) if trace.metadata else None,
        trace.wall(entry.start),
        None if end is None else end - entry.start,
        None if end is None else entry.outcome or COMPLETED,
        None if trace.keep is None or trace.route is None else 0,
        text(trace.state) if trace.state else None,
    )


def _within(record: Record) -> str | None:
    """Return which phase of its host the record was opened in, as `ORDINAL KIND`; None: in none.

    Children are sent before their parents: where a phase is no span of its own, they have to know
    by themselves where they belong instead.
    """
    host = record.host
    if host is None or record.parent_id == host.span_id:
        return None
    for ordinal, phase in enumerate(host.phases):
        if phase_id(host.span_id, ordinal) == record.parent_id:
            return f"{ordinal} {text(phase.kind)}"
    return None


def trace_key(trace_id: int) -> bytes:
    """Return the 16 bytes of a trace id."""
    return (trace_id & (1 << 128) - 1).to_bytes(16, "big")


def text(value: str) -> str:
    """Return *value* without lone surrogates, which SQLite does not take."""
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _phase(phase: Phase, start: int, redactor: Redactor | None) -> list[Any]:
    """Return kind, start and length, both in ns, and only for an eventful phase the rest."""
    began, end, said = phase.start, phase.end, phase.outcome
    short = [phase.kind, began - start, None if end is None else end - began]
    if (
        (said is None or said == COMPLETED)
        and not phase.attempt
        and phase.error is None
        and phase.note is None
    ):
        return short
    note = phase.note if phase.note is None or redactor is None else redactor.text(phase.note)
    error = None if phase.error is None else _failure(phase.error, redactor)
    return [*short, phase.attempt, said, error, phase.wait, note]


def _failure(error: Failure, redactor: Redactor | None) -> list[Any]:
    message = error.message if redactor is None else redactor.text(error.message)
    return [error.type, message, error.frames]


def _unchanged(payload: bytes) -> bytes:
    return payload


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a message with a lone surrogate
        return encode(value, _MOST)
