"""Traces as JSON documents for other programs: stable names, stable order, nothing cut."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tracing.record import Failure
from tracing.store.model import Event, PhaseSpan, Score, Span, TraceSummary, TraceTree


def dumps(value: object, *, ascii_only: bool = False) -> str:
    """Return *value* as indented JSON text."""
    return json.dumps(value, indent=2, ensure_ascii=ascii_only, default=str)


def trace_document(tree: TraceTree) -> dict[str, Any]:
    """Return a whole trace: its summary's fields, then its spans in a tree."""
    return {
        **summary_document(tree.summary),
        "dropped": tree.dropped,
        "scores": [_score(score) for score in tree.scores],
        "roots": [_span(span) for span in tree.roots],
    }


def summary_document(summary: TraceSummary) -> dict[str, Any]:
    """Return the fields of one trace of a list."""
    ended = None if summary.duration_ns is None else summary.started_ns + summary.duration_ns
    return {
        "trace_id": summary.trace_id,
        "name": summary.name,
        "outcome": summary.outcome,
        **_times(summary.started_ns, ended),
        "spans": summary.spans,
        "failures": summary.failures,
        "session_id": summary.session_id,
        "user_id": summary.user_id,
        "tags": list(summary.tags),
        "metadata": summary.metadata,
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "kind": span.kind,
        "name": span.name,
        "index": span.index,
        "outcome": span.outcome,
        **_times(span.start_ns, span.end_ns),
        "attempts": span.attempts,
        "fell_back": span.fell_back,
        "input": _content(span.input),
        "output": _content(span.output),
        "attributes": span.attributes,
        "model": span.model,
        "usage": span.usage,
        "cost": span.cost,
        "first_token_ns": span.first_token_ns,
        "events": [_event(event) for event in span.events],
        "scores": [_score(score) for score in span.scores],
        "error": _failure(span.error),
        "phases": [_phase(phase) for phase in span.phases],
        "children": [_span(child) for child in span.children],
    }


def _phase(phase: PhaseSpan) -> dict[str, Any]:
    return {
        "span_id": phase.span_id,
        "kind": phase.kind,
        "attempt": phase.attempt,
        "outcome": phase.outcome,
        **_times(phase.start_ns, phase.end_ns),
        "wait_s": phase.wait,
        "note": phase.note,
        "error": _failure(phase.error),
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "at": _iso(event.at_ns),
        "at_ns": event.at_ns,
        "attributes": event.attributes,
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "score_id": score.score_id,
        "name": score.name,
        "value": score.value,
        "comment": score.comment,
        "at": _iso(score.at_ns),
        "at_ns": score.at_ns,
        "span_id": score.span_id,
    }


def _times(start: int, end: int | None) -> dict[str, Any]:
    return {
        "started": _iso(start),
        "started_ns": start,
        "ended": None if end is None else _iso(end),
        "ended_ns": end,
        "duration_ns": None if end is None else end - start,
    }


def _iso(ns: int) -> str:
    """Return a time as ISO 8601 in UTC, with all nine digits of its nanoseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "type": failure.type,
        "message": failure.message,
        "frames": [
            {"file": file, "line": line, "function": function}
            for file, line, function in failure.frames
        ],
    }


def _content(data: bytes | None) -> Any:
    """Return the value that was recorded; what is not JSON after all, as text."""
    if data is None:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")
