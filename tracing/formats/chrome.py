"""Chrome's trace format, for Perfetto, speedscope and chrome://tracing.

A trace is a process and a lane of it a thread, so that what went on at once is drawn side by side.
Times are microseconds since the earliest trace of the file: Unix times would not fit into a double
with their nanoseconds. When that was is in `otherData`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from tracing.formats.lanes import Bar, assign
from tracing.formats.walking import last_moment, walk
from tracing.record import Failure
from tracing.store.model import PhaseSpan, Span, TraceTree


def document(trees: Iterable[TraceTree], origin_ns: int) -> Iterator[bytes]:
    """Yield a whole file, piece by piece, with one tree in memory at a time.

    Args:
        trees: The traces.
        origin_ns: Start of the earliest of them, as Unix time in nanoseconds.
    """
    told = {"source": "pocketflow-async", "origin_unix_ns": str(origin_ns)}
    yield b'{"displayTimeUnit":"ms","otherData":' + orjson.dumps(told) + b',"traceEvents":['
    before = b"\n"
    for process, tree in enumerate(trees, 1):
        for event in events(tree, process, origin_ns):
            yield before + orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS)
            before = b",\n"
    yield b"\n]}\n"


def events(tree: TraceTree, process: int, origin_ns: int) -> Iterator[dict[str, Any]]:
    """Yield the events of one trace.

    Args:
        tree: The trace.
        process: Number that it has as a process.
        origin_ns: Moment that is 0 in the file, as Unix time in nanoseconds.
    """
    last_ns = last_moment(tree)
    lanes = assign(_bars(tree, last_ns))
    yield from _names(tree, process, max(lanes.values(), default=0) + 1)
    for span, _ in walk(tree.roots):
        lane = lanes[span.span_id]
        place = _Place(process, lane, origin_ns, last_ns)
        yield place.complete(span.name, span.kind, span, _facts_of_span(span))
        yield from (
            _moment(event.name, event.at_ns, place, event.attributes) for event in span.events
        )
        for score in span.scores:
            said = {"value": score.value, "comment": score.comment}
            yield _moment(f"score {score.name}", score.at_ns, place, said)
        for phase in span.phases:
            place = _Place(process, lanes[phase.span_id], origin_ns, last_ns)
            yield place.complete(_label(span, phase), phase.kind, phase, _facts_of_phase(phase))


class _Place:
    """Where an event stands: its process and lane, and the clock of the file."""

    def __init__(self, process: int, lane: int, origin_ns: int, last_ns: int) -> None:
        self.head: Final = {"pid": process, "tid": lane + 1}
        self._origin_ns = origin_ns
        self._last_ns = last_ns

    def at(self, ns: int) -> float:
        """Return a moment in microseconds."""
        return (ns - self._origin_ns) / 1_000

    def complete(
        self, name: str, kind: str, what: Span | PhaseSpan, facts: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the event of something with a start and an end."""
        end = _end(what, self._last_ns)
        return {
            "ph": "X",
            "name": name,
            "cat": kind,
            **self.head,
            "ts": self.at(what.start_ns),
            "dur": (end - what.start_ns) / 1_000,
            "args": {"outcome": what.outcome, "span_id": what.span_id, **facts},
        }


def _end(what: Span | PhaseSpan, last_ns: int) -> int:
    return max(what.start_ns, last_ns if what.end_ns is None else what.end_ns)


def _moment(name: str, at_ns: int, place: _Place, said: dict[str, Any]) -> dict[str, Any]:
    head = {"ph": "i", "s": "t", "name": name, "cat": "event", **place.head}
    return {**head, "ts": place.at(at_ns), "args": said}


def _names(tree: TraceTree, process: int, lanes: int) -> Iterator[dict[str, Any]]:
    summary = tree.summary
    head = {"ph": "M", "pid": process, "tid": 0}
    name = f"{summary.name} {summary.trace_id[:8]}"
    yield {**head, "name": "process_name", "args": {"name": name}}
    yield {**head, "name": "process_sort_index", "args": {"sort_index": process}}
    yield {**head, "name": "process_labels", "args": {"labels": summary.outcome}}
    for lane in range(1, lanes + 1):
        said = {**head, "tid": lane}
        yield {**said, "name": "thread_name", "args": {"name": f"lane {lane}"}}
        yield {**said, "name": "thread_sort_index", "args": {"sort_index": lane}}


def _bars(tree: TraceTree, last_ns: int) -> Iterator[Bar]:
    for span, host in walk(tree.roots):
        inside = _inside(span, host)
        yield Bar(span.span_id, inside, span.start_ns, _end(span, last_ns))
        for phase in span.phases:
            end = _end(phase, last_ns)
            above = _around(phase, end, span, last_ns)
            yield Bar(phase.span_id, above, phase.start_ns, end)


def _inside(span: Span, host: Span | None) -> str | None:
    """Return what *span* is drawn in: the phase it was opened in, or the span it hangs under."""
    if host is None:
        return None
    phases = {phase.span_id for phase in host.phases}
    return span.parent_id if span.parent_id in phases else host.span_id


def _around(phase: PhaseSpan, end_ns: int, span: Span, last_ns: int) -> str:
    """Return what *phase* is drawn in: a suspension lies in the phase that was suspended."""
    if phase.kind == "suspended":
        for other in span.phases:
            if (
                other.kind != "suspended"
                and other.start_ns <= phase.start_ns
                and end_ns <= _end(other, last_ns)
            ):
                return other.span_id
    return span.span_id


def _label(span: Span, phase: PhaseSpan) -> str:
    number = f" {phase.attempt + 1}" if phase.kind == "exec" and span.attempts > 1 else ""
    return f"{span.name}.{phase.kind}{number}"


def _facts_of_span(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "index": span.index,
        "input": _content(span.input),
        "output": _content(span.output),
        "error": _error(span.error),
        "attributes": span.attributes,
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _facts_of_phase(phase: PhaseSpan) -> dict[str, Any]:
    found = {"error": _error(phase.error), "wait_s": phase.wait, "note": phase.note}
    return {name: value for name, value in found.items() if value is not None}


def _error(error: Failure | None) -> str | None:
    return None if error is None else f"{error.type}: {error.message}"


def _content(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace")
