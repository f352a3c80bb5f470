"""Our own lines of JSON, read back; what `tracing.formats.jsonl` wrote comes back as it was."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tracing.formats import fields
from tracing.formats.arrived import Arrived
from tracing.formats.fields import Unfit
from tracing.formats.jsonl import MARK, VERSION
from tracing.record import COMPLETED, Failure, phase_id
from tracing.store.model import Event, PhaseSpan, Score, Span

_TYPES: Final = ("trace", "record")


def knows(said: Mapping[str, Any]) -> bool:
    """Tell whether a line's object is one of ours."""
    return said.get("type") in _TYPES and "trace_id" in said


def check(said: Mapping[str, Any]) -> str:
    """Return the trace id of a line.

    Raises:
        Unfit: The line is not what it should be.
    """
    if said["type"] == "record":
        return _record(said).trace_id
    version = fields.whole(said, MARK)
    if version > VERSION:
        raise Unfit(
            f"it has format {version}, and this version of pocketflow-async knows {VERSION}: "
            "upgrade pocketflow-async"
        )
    return _trace(said, ()).trace_id


def gather(lines: Sequence[Mapping[str, Any]]) -> Arrived:
    """Return the trace that these lines, all of one trace, tell of.

    Raises:
        Unfit: Some of its lines are missing.
    """
    heads = [said for said in lines if said["type"] == "trace"]
    spans = tuple(_record(said) for said in lines if said["type"] == "record")
    if not heads:
        raise Unfit(f"the line of type trace is missing for {spans[0].trace_id}")
    wanted = fields.whole(heads[0], "records")
    if len(spans) != wanted * len(heads):
        raise Unfit(
            f"{len(spans)} of the {wanted} records of trace {heads[0]['trace_id']} are there: "
            "the file is not whole"
        )
    return _trace(heads[0], spans[:wanted])


def _trace(said: Mapping[str, Any], spans: tuple[Span, ...]) -> Arrived:
    duration = said.get("duration_ns")
    return Arrived(
        trace_id=fields.identity(said, "trace_id", 32),
        name=fields.text(said, "name"),
        outcome=fields.text(said, "outcome"),
        started_ns=fields.moment(said, "started_ns"),
        duration_ns=None if duration is None else fields.whole(said, "duration_ns"),
        spans=spans,
        session_id=fields.text_or_none(said, "session_id"),
        user_id=fields.text_or_none(said, "user_id"),
        tags=fields.texts(said, "tags"),
        metadata=fields.mapping(said, "metadata"),
        scores=tuple(_score(score) for score in fields.items(said, "scores")),
        dropped=fields.whole(said, "dropped", 0),
    )


def _record(said: Mapping[str, Any]) -> Span:
    span_id = fields.identity(said, "span_id", 16)
    index = said.get("index")
    return Span(
        trace_id=fields.identity(said, "trace_id", 32),
        span_id=span_id,
        parent_id=fields.identity_or_none(said, "parent_id", 16),
        kind=fields.text(said, "kind"),
        name=fields.text(said, "name"),
        index=None if index is None else fields.whole(said, "index"),
        start_ns=fields.moment(said, "start_ns"),
        end_ns=fields.moment_or_none(said, "end_ns"),
        outcome=fields.text(said, "outcome"),
        error=_failure(said),
        input=_content(said, "input"),
        output=_content(said, "output"),
        attributes=fields.mapping(said, "attributes"),
        phases=tuple(
            _phase(int(span_id, 16), place, phase)
            for place, phase in enumerate(fields.items(said, "phases"))
        ),
        events=tuple(_event(event) for event in fields.items(said, "events")),
        scores=tuple(_score(score) for score in fields.items(said, "scores")),
    )


def _content(said: Mapping[str, Any], name: str) -> bytes | None:
    if name in said:
        return orjson.dumps(said[name])
    if f"{name}_text" in said:
        return fields.text(said, f"{name}_text").encode()
    if f"{name}_base64" in said:
        try:
            return base64.b64decode(fields.text(said, f"{name}_base64"), validate=True)
        except binascii.Error as error:
            raise Unfit(f"{name}_base64 is not base64: {error}") from None
    return None


def _phase(span_id: int, place: int, said: Mapping[str, Any]) -> PhaseSpan:
    return PhaseSpan(
        span_id=f"{phase_id(span_id, place):016x}",
        kind=fields.text(said, "kind"),
        attempt=fields.whole(said, "attempt", 0),
        start_ns=fields.moment(said, "start_ns"),
        end_ns=fields.moment_or_none(said, "end_ns"),
        outcome=fields.text(said, "outcome", COMPLETED),
        error=_failure(said),
        wait=fields.seconds_or_none(said, "wait_s"),
        note=fields.text_or_none(said, "note"),
    )


def _event(said: Mapping[str, Any]) -> Event:
    attributes = fields.mapping(said, "attributes")
    return Event(fields.text(said, "name"), fields.moment(said, "at_ns"), attributes)


def _score(said: Mapping[str, Any]) -> Score:
    value = said.get("value")
    if not isinstance(value, (bool, int, float, str)):
        raise Unfit(f"value of a score must be a number, true, false or a text, not {value!r}")
    return Score(
        score_id=fields.identity(said, "score_id", 16),
        name=fields.text(said, "name"),
        value=value,
        comment=fields.text_or_none(said, "comment"),
        at_ns=fields.moment(said, "at_ns"),
        span_id=fields.identity_or_none(said, "span_id", 16),
    )


def _failure(said: Mapping[str, Any]) -> Failure | None:
    if said.get("error") is None:
        return None
    error = fields.mapping(said, "error")
    frames = error.get("frames") or []
    if not isinstance(frames, list) or not all(_is_frame(frame) for frame in frames):
        raise Unfit("frames of an error must be lists of file, line and function")
    found = tuple((file, line, function) for file, line, function in frames)
    return Failure(fields.text(error, "type"), fields.text(error, "message", ""), found)


def _is_frame(frame: object) -> bool:
    return (
        isinstance(frame, list)
        and len(frame) == 3
        and isinstance(frame[0], str)
        and isinstance(frame[1], int)
        and isinstance(frame[2], str)
    )
