"""A span of another program, as a record of the store."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tracing import names
from tracing.formats import fields
from tracing.formats.otlp_values import attributes
from tracing.record import COMPLETED, FAILED, RUNNING, Failure
from tracing.store.model import Event, Span

INPUT: Final = "input.value"
OUTPUT: Final = "output.value"

_KINDS: Final = {2: "server", 3: "client", 4: "producer", 5: "consumer"}
_KIND_NAMES: Final = {f"SPAN_KIND_{name.upper()}": number for number, name in _KINDS.items()}
_OK: Final = 1
_ERROR: Final = 2
_STATUS: Final = "otel.status_code"
_CALLS: Final = frozenset({"chat", "text_completion", "generate_content"})
_FRAME: Final = re.compile(r'^ *File "([^"\n]*)", line (\d+), in (.*)$', re.MULTILINE)
_TRACEBACK: Final = "Traceback (most recent call last):"


def span(item: Mapping[str, Any]) -> Span:
    """Return the span that *item* holds, with what made it.

    Args:
        item: A span under `span`, and what OTLP says of where it comes from under `scope`.

    Raises:
        Unfit: It is not what it should be.
    """
    said = fields.mapping(item, "span")
    status = fields.mapping(said, "status")
    failed = status.get("code") in (_ERROR, "STATUS_CODE_ERROR")
    known = attributes(said)
    events = [_event(event) for event in fields.items(said, "events")]
    error = _error(status, known, events) if failed else None
    end = fields.whole(said, "endTimeUnixNano", 0)
    start = fields.moment(said, "startTimeUnixNano")
    outcome = FAILED if failed else COMPLETED
    contents = {name: _content(known, name) for name in (INPUT, OUTPUT)}
    return Span(
        trace_id=fields.identity(said, "traceId", 32),
        span_id=fields.identity(said, "spanId", 16),
        parent_id=fields.identity_or_none(said, "parentSpanId", 16),
        kind=names.GENERATION if _is_call(known) else names.SPAN,
        name=fields.text(said, "name", ""),
        index=None,
        start_ns=start,
        end_ns=max(end, start) if end > 0 else None,
        outcome=outcome if end > 0 else RUNNING,
        error=error,
        input=contents[INPUT],
        output=contents[OUTPUT],
        attributes={**known, **_origin(item, said)},
        events=tuple(sorted(events, key=lambda event: event.at_ns)),
    )


def _origin(item: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return which instrumentation made the span, and what else OTLP says besides attributes."""
    scope = fields.mapping(item, "scope")
    kind = said.get("kind", 0)
    number = _KIND_NAMES.get(kind, 0) if isinstance(kind, str) else kind
    code = fields.mapping(said, "status").get("code")
    found = {
        names.SCOPE_VERSION: fields.text(scope, "version", ""),
        names.SPAN_KIND: _KINDS.get(number, ""),
        names.LINKS: [_link(link) for link in fields.items(said, "links")],
        _STATUS: "OK" if code in (_OK, "STATUS_CODE_OK") else "",
    }
    known = {name: value for name, value in found.items() if value}
    return {names.SCOPE: fields.text(scope, "name", ""), **known}


def _link(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "trace_id": fields.identity(said, "traceId", 32),
        "span_id": fields.identity(said, "spanId", 16),
        "attributes": attributes(said),
    }


def _event(said: Mapping[str, Any]) -> Event:
    at = fields.whole(said, "timeUnixNano", 0)
    return Event(fields.text(said, "name", ""), max(at, 0), attributes(said))


def _is_call(known: Mapping[str, Any]) -> bool:
    return (
        known.get("gen_ai.operation.name") in _CALLS
        or known.get("openinference.span.kind") == "LLM"
        or known.get("langfuse.observation.type") == "generation"
    )


def _content(known: dict[str, Any], name: str) -> bytes | None:
    """Take the content *name* out of the attributes: JSON as it is, any other text as a string."""
    found = known.pop(name, None)
    mime = known.pop(name.replace(".value", ".mime_type"), None)
    if found is None:
        return None
    if isinstance(found, str) and mime == "application/json" and _is_json(found):
        return found.encode()
    return json.dumps(found, ensure_ascii=False).encode()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _error(status: Mapping[str, Any], known: Mapping[str, Any], events: list[Event]) -> Failure:
    """Return what a failed span says of its error, and take the event that says it out."""
    message = fields.text(status, "message", "")
    raised = [event for event in events if event.name == "exception"]
    if not raised:
        return Failure(str(known.get("error.type") or "Error"), message)
    events.remove(raised[-1])
    said = raised[-1].attributes
    kind = str(said.get("exception.type") or known.get("error.type") or "Error")
    last = str(said.get("exception.stacktrace") or "").rpartition(_TRACEBACK)[2]
    frames = tuple((file, int(line[:9]), where) for file, line, where in _FRAME.findall(last))
    return Failure(kind, str(said.get("exception.message") or message), frames)
