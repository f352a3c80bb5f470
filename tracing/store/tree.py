"""Build the tree of a trace from the rows of its records. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from tracing.names import EVENT, MOMENTS, SCORE
from tracing.record import COMPLETED, INTERRUPTED, RUNNING, Failure, phase_id
from tracing.store.model import Event, PhaseSpan, Span, event, score
from tracing.store.rows import unsigned

COLUMNS: Final = (
    "span_id",
    "parent_id",
    "kind",
    "name",
    "place",
    "started_ns",
    "duration_ns",
    "outcome",
    "error",
    "phases",
    "attributes",
    "input",
    "output",
    "owner",
)
"""What `build` wants of each row, in this order."""


class Fate(NamedTuple):
    """What became of the process that wrote an open row."""

    alive: bool
    last_ns: int
    """Unix time of its last sign of life, in nanoseconds."""

    def end(self, start_ns: int) -> int | None:
        """Return when something open since *start_ns* ended; None: it goes on."""
        return None if self.alive else max(start_ns, self.last_ns)

    @property
    def outcome(self) -> str:
        """How something open is to be called."""
        return RUNNING if self.alive else INTERRUPTED


def build(
    trace_id: str, rows: Iterable[Sequence[Any]], fate: Callable[[int], Fate]
) -> tuple[Span, ...]:
    """Return the roots of the tree, the earliest first, with everything below them.

    A record whose parent was never stored becomes a root of its own; so does a score of the whole
    trace, which `TraceTree` tells apart.

    Args:
        trace_id: 32 hex digits.
        rows: `COLUMNS` of each record, in order of writing.
        fate: Tells what became of an owner, by its row number.
    """
    spans = {}
    for row in rows:  # one that was written twice counts as it was last
        span_ = span(trace_id, row, fate)
        spans[span_.span_id] = span_
    homes = _homes(spans)
    _gather(spans, homes)
    children = _children(spans, homes)
    order = _order(spans, children)
    done: dict[str, Span] = {}
    for span_id in reversed(order):  # children before their parents, without recursion
        below = tuple(done[child] for child in children.get(span_id, ()) if child in done)
        done[span_id] = replace(spans[span_id], children=below) if below else spans[span_id]
    inner = {child.span_id for span in done.values() for child in span.children}
    return tuple(sorted((done[key] for key in order if key not in inner), key=_start))


def _homes(spans: dict[str, Span]) -> dict[str, str]:
    """Return the span that each id of a span or phase belongs to."""
    homes = {key: key for key, span in spans.items() if span.kind not in MOMENTS}
    for span in spans.values():
        homes.update((phase.span_id, span.span_id) for phase in span.phases)
    return homes


def _gather(spans: dict[str, Span], homes: dict[str, str]) -> None:
    """Put events and scores into their spans; those that have none here stay what they are."""
    inside: dict[str, list[Span]] = {}
    for moment in sorted((span for span in spans.values() if span.kind in MOMENTS), key=_start):
        home = homes.get(moment.parent_id or "")
        if home is not None:
            inside.setdefault(home, []).append(moment)
            del spans[moment.span_id]
    for home, moments in inside.items():
        spans[home] = replace(
            spans[home],
            events=tuple(event(moment) for moment in moments if moment.kind == EVENT),
            scores=tuple(score(moment) for moment in moments if moment.kind == SCORE),
        )


def _children(spans: dict[str, Span], homes: dict[str, str]) -> dict[str | None, list[str]]:
    """Return the ids of the children of each span in order of start; under None the roots."""
    children: dict[str | None, list[str]] = {None: []}
    for span in sorted(spans.values(), key=_start):
        home = homes.get(span.parent_id) if span.parent_id is not None else None
        children.setdefault(home, []).append(span.span_id)
    return children


def _order(spans: dict[str, Span], children: dict[str | None, list[str]]) -> list[str]:
    """Return all ids, parents before children; a cycle is entered where it began earliest."""
    order: list[str] = []
    seen: set[str] = set()
    for first in (*children[None], *sorted(spans, key=lambda key: spans[key].start_ns)):
        if first in seen:
            continue
        at = len(order)
        order.append(first)
        seen.add(first)
        while at < len(order):
            for child in children.get(order[at], ()):
                if child not in seen:
                    seen.add(child)
                    order.append(child)
            at += 1
    return order


def span(
    trace_id: str,
    row: Sequence[Any],
    fate: Callable[[int], Fate],
    events: tuple[Event, ...] = (),
) -> Span:
    """Return the span of one row, without its children.

    Args:
        trace_id: 32 hex digits.
        row: `COLUMNS` of the record.
        fate: Tells what became of an owner, by its row number.
        events: Those of the span.
    """
    number, parent, kind, name, place, start, duration, outcome, error, phases, extra = row[:11]
    end = None if duration is None else start + duration
    if end is None:
        became = fate(row[13])
        end, outcome = became.end(start), became.outcome
    span_id = unsigned(number)
    found = orjson.loads(phases) if phases else []
    return Span(
        trace_id=trace_id,
        span_id=f"{span_id:016x}",
        parent_id=None if parent is None else f"{unsigned(parent):016x}",
        kind=kind,
        name=name,
        index=place,
        start_ns=start,
        end_ns=end,
        outcome=outcome,
        error=_failure(orjson.loads(error)) if error else None,
        input=row[11],
        output=row[12],
        attributes=_mapping(extra),
        phases=tuple(
            _phase(phase_id(span_id, ordinal), phase, start, end, outcome)
            for ordinal, phase in enumerate(found)
            if isinstance(phase, list)
        ),
        events=events,
    )


def _phase(span_id: int, row: list[Any], start: int, end: int | None, outcome: str) -> PhaseSpan:
    """Return the phase number *span_id* of a record that began at *start* and ended at *end*."""
    kind, offset, length, attempt, said, error, wait, note = (row + [None] * 8)[:8]
    began = start + offset
    open_ = length is None
    return PhaseSpan(
        span_id=f"{span_id:016x}",
        kind=kind,
        attempt=attempt or 0,
        start_ns=began,
        end_ns=end if open_ else began + length,
        outcome=said or (outcome if open_ else COMPLETED),
        error=_failure(error) if error else None,
        wait=wait,
        note=note,
    )


def _failure(found: Any) -> Failure:
    kind, message, frames = found
    return Failure(kind, message, tuple((file, line, where) for file, line, where in frames))


def _mapping(payload: bytes | None) -> dict[str, Any]:
    found = orjson.loads(payload) if payload else None
    return found if isinstance(found, dict) else {}


def _start(span: Span) -> tuple[int, str]:
    return span.start_ns, span.span_id
