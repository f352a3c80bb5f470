"""Traces put into a store as if they were recorded there: a transaction each, and never sent."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Self

import orjson

from tracing import names
from tracing.errors import TracingError
from tracing.formats.arrived import Arrived
from tracing.record import COMPLETED, INTERRUPTED, RUNNING, Failure
from tracing.store.model import Event, PhaseSpan, Score, Span
from tracing.store.rows import signed
from tracing.store.schema import NotAStore, connect, transaction

# Named here, and not taken from `store.rows`: what belongs to sending is left empty on purpose.
_RECORD: Final = (
    "trace, owner, span_id, parent_id, kind, name, place, started_ns, duration_ns, outcome, error,"
    " phases, attributes, input, output"
)
_TRACE: Final = (
    "trace_id, owner, entry, name, session_id, user_id, tags, metadata, started_ns, duration_ns,"
    " outcome"
)
_OWNER: Final = "token, pid, host, heartbeat_ns, ended, dropped"
_PATIENCE: Final = 10_000  # ms that a statement waits for a process that writes
_ORDINALS: Final = 20  # low bits of an event's id that count it


class NotImported(TracingError):
    """The store cannot be written."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(
            f"cannot write into the trace store {path}: {cause}. Check the file and its "
            "permissions, or name another one with --store."
        )


class Importer:
    """Writes traces into the store at *path*, which is made if it is not there.

    For one thread; use it as a context manager.

    Args:
        path: The file.
        now_ns: Unix time in nanoseconds.

    Raises:
        NotImported: The file cannot be opened, or is no store.
    """

    def __init__(self, path: str, now_ns: int) -> None:
        self._path = path
        self._now_ns = now_ns
        self._owners: dict[int, int] = {}
        try:
            self._connection = connect(path)
            self._connection.execute(f"PRAGMA busy_timeout = {_PATIENCE}")
        except (sqlite3.Error, NotAStore, OSError) as error:
            raise NotImported(path, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def add(self, trace: Arrived) -> bool:
        """Write *trace*; return False, and write nothing, if the store has it already.

        Raises:
            NotImported: The store cannot be written; nothing of the trace is in it.
        """
        try:
            with transaction(self._connection):
                added = self._add(trace)
        except BaseException as error:
            self._owners.clear()  # those of this transaction are gone
            if not isinstance(error, sqlite3.Error):
                raise
            raise NotImported(self._path, str(error)) from error
        return added

    def _add(self, trace: Arrived) -> bool:
        key = bytes.fromhex(trace.trace_id)
        known = self._connection.execute("SELECT 1 FROM traces WHERE trace_id = ?", (key,))
        with closing(known):
            if known.fetchone() is not None:
                return False
        latest = _latest(trace)
        owner = self._owner(trace.dropped)
        row = (key, owner, *_trace_values(trace, latest))
        number = self._insert("traces", _TRACE, row)
        command = _insertion("records", _RECORD)
        rows = ((number, owner, *values) for values in _records(trace, latest))
        self._connection.executemany(command, rows)
        return True

    def _owner(self, dropped: int) -> int:
        """Return the row of the process that has written; one for each number of lost records."""
        if dropped not in self._owners:
            values = (f"import-{secrets.token_hex(8)}", 0, "import", self._now_ns, 1, dropped)
            self._owners[dropped] = self._insert("owners", _OWNER, values)
        return self._owners[dropped]

    def _insert(self, table: str, columns: str, values: tuple[Any, ...]) -> int:
        with closing(self._connection.execute(_insertion(table, columns), values)) as cursor:
            return int(cursor.lastrowid or 0)


def _insertion(table: str, columns: str) -> str:
    marks = ",".join("?" * (columns.count(",") + 1))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"


def _latest(trace: Arrived) -> int:
    """Return the last moment that is known of *trace*: when what was open in it came to its end."""
    moments = [trace.started_ns + (trace.duration_ns or 0)]
    for span in trace.spans:
        moments += [span.start_ns, span.end_ns or 0]
        moments += [phase.end_ns or phase.start_ns for phase in span.phases]
        moments += [event.at_ns for event in span.events]
    return max(moments)


def _outcome(outcome: str) -> str:
    return INTERRUPTED if outcome == RUNNING else outcome  # wherever it runs, it is not here


def _trace_values(trace: Arrived, latest: int) -> tuple[Any, ...]:
    duration = latest - trace.started_ns if trace.duration_ns is None else trace.duration_ns
    roots = [span for span in trace.spans if span.parent_id is None] or [*trace.spans[:1]]
    return (
        _number(roots[0].span_id) if roots else 0,
        trace.name,
        trace.session_id,
        trace.user_id,
        orjson.dumps(trace.tags) if trace.tags else None,
        orjson.dumps(trace.metadata) if trace.metadata else None,
        trace.started_ns,
        duration,
        _outcome(trace.outcome),
    )


def _records(trace: Arrived, latest: int) -> Iterator[tuple[Any, ...]]:
    """Yield the values of a row from the span's id on, for each span, event and score."""
    for span in trace.spans:
        yield _span(span, latest)
        for place, event in enumerate(span.events):
            yield _event(span.span_id, place, event)
        for score in span.scores:
            yield _score(score, span.span_id)
    for score in trace.scores:
        yield _score(score, None)


def _span(span: Span, latest: int) -> tuple[Any, ...]:
    end = max(latest, span.start_ns) if span.end_ns is None else span.end_ns
    phases = [_phase(phase, span.start_ns) for phase in span.phases]
    return (
        _number(span.span_id),
        None if span.parent_id is None else _number(span.parent_id),
        span.kind,
        span.name,
        span.index,
        span.start_ns,
        end - span.start_ns,
        _outcome(span.outcome),
        None if span.error is None else orjson.dumps(_failure(span.error)),
        orjson.dumps(phases) if phases else None,
        orjson.dumps(span.attributes) if span.attributes else None,
        span.input,
        span.output,
    )


def _phase(phase: PhaseSpan, start_ns: int) -> list[Any]:
    return [
        phase.kind,
        phase.start_ns - start_ns,
        None if phase.end_ns is None else phase.end_ns - phase.start_ns,
        phase.attempt,
        _outcome(phase.outcome),
        None if phase.error is None else _failure(phase.error),
        phase.wait,
        phase.note,
    ]


def _event(span_id: str, place: int, event: Event) -> tuple[Any, ...]:
    # Files do not tell the ids of events: these are the same at every import, and in their order.
    base = int.from_bytes(blake2b(bytes.fromhex(span_id), digest_size=8).digest(), "big")
    number = (base >> _ORDINALS << _ORDINALS) + place + 1
    return _moment(number, span_id, names.EVENT, event.name, event.at_ns, event.attributes)


def _score(score: Score, span_id: str | None) -> tuple[Any, ...]:
    said = {names.VALUE: score.value, names.COMMENT: score.comment}
    known = {name: value for name, value in said.items() if value is not None}
    about = score.span_id or span_id
    number = int(score.score_id, 16)
    return _moment(number, about, names.SCORE, score.name, score.at_ns, known)


def _moment(
    number: int, about: str | None, kind: str, name: str, at_ns: int, said: dict[str, Any]
) -> tuple[Any, ...]:
    parent = 0 if about is None else _number(about)  # 0: the whole trace
    attributes = orjson.dumps(said) if said else None
    some = (None, at_ns, 0, COMPLETED, None, None, attributes, None, None)
    return (signed(number), parent, kind, name, *some)


def _failure(error: Failure) -> list[Any]:
    return [error.type, error.message, error.frames]


def _number(digits: str) -> int:
    return signed(int(digits, 16))
