"""Our own lines of JSON: everything that the store knows of a trace, one object per record.

A line of type `trace` comes first and says how many lines of type `record` follow, so that a file
which was cut off is noticed. Files may be put one after the other.

Recorded contents are JSON themselves and stand in their line as values, where writing these again
gives the same bytes; otherwise as text under `input_text` or `output_text`, and what is not even
UTF-8 under `input_base64` or `output_base64`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final

import orjson

from tracing.formats.walking import walk
from tracing.record import Failure
from tracing.store.model import Event, PhaseSpan, Score, Span, TraceTree

VERSION: Final = 1
"""Of the format; it stands in every line of type `trace`."""
MARK: Final = "pocketflow_async"
"""Key of the version."""


def lines(tree: TraceTree) -> Iterator[bytes]:
    """Yield the lines of one trace, each with its line feed."""
    yield _line(_trace(tree, sum(1 for _ in walk(tree.roots))))
    for span, _ in walk(tree.roots):
        yield _line(_record(span))


def _line(said: dict[str, Any]) -> bytes:
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def _trace(tree: TraceTree, records: int) -> dict[str, Any]:
    summary = tree.summary
    return {
        "type": "trace",
        MARK: VERSION,
        "trace_id": summary.trace_id,
        "name": summary.name,
        "outcome": summary.outcome,
        "started_ns": summary.started_ns,
        "duration_ns": summary.duration_ns,
        "session_id": summary.session_id,
        "user_id": summary.user_id,
        "tags": list(summary.tags),
        "metadata": summary.metadata,
        "dropped": tree.dropped,
        "scores": [_score(score) for score in tree.scores],
        "records": records,
    }


def _record(span: Span) -> dict[str, Any]:
    said: dict[str, Any] = {
        "type": "record",
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "kind": span.kind,
        "name": span.name,
        "index": span.index,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "outcome": span.outcome,
    }
    _add_content(said, "input", span.input)
    _add_content(said, "output", span.output)
    if span.error is not None:
        said["error"] = _failure(span.error)
    parts: dict[str, Any] = {
        "attributes": span.attributes,
        "phases": [_phase(phase) for phase in span.phases],
        "events": [_event(event) for event in span.events],
        "scores": [_score(score) for score in span.scores],
    }
    return {**said, **{name: part for name, part in parts.items() if part}}


def _add_content(said: dict[str, Any], name: str, content: bytes | None) -> None:
    if content is None:
        return
    if _comes_back(content):
        said[name] = orjson.Fragment(content)
        return
    try:
        said[f"{name}_text"] = content.decode()
    except UnicodeDecodeError:
        said[f"{name}_base64"] = base64.b64encode(content).decode()


def _comes_back(content: bytes) -> bool:
    try:
        return orjson.dumps(orjson.loads(content)) == content
    except (ValueError, TypeError):
        return False


def _phase(phase: PhaseSpan) -> dict[str, Any]:
    said: dict[str, Any] = {
        "span_id": phase.span_id,
        "kind": phase.kind,
        "attempt": phase.attempt,
        "start_ns": phase.start_ns,
        "end_ns": phase.end_ns,
        "outcome": phase.outcome,
    }
    if phase.error is not None:
        said["error"] = _failure(phase.error)
    if phase.wait is not None:
        said["wait_s"] = phase.wait
    if phase.note is not None:
        said["note"] = phase.note
    return said


def _event(event: Event) -> dict[str, Any]:
    return {"name": event.name, "at_ns": event.at_ns, "attributes": event.attributes}


def _score(score: Score) -> dict[str, Any]:
    return {
        "score_id": score.score_id,
        "span_id": score.span_id,
        "name": score.name,
        "value": score.value,
        "comment": score.comment,
        "at_ns": score.at_ns,
    }


def _failure(error: Failure) -> dict[str, Any]:
    return {"type": error.type, "message": error.message, "frames": [*map(list, error.frames)]}
