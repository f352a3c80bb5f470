"""Spans that other instrumentations made: they go out as they came in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from tracing import names
from tracing.export import attributes
from tracing.export.ending import end_of, exception, verdict
from tracing.export.model import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    OK,
    PRODUCER,
    SERVER,
    UNSET,
    OutSpan,
    SpanEvent,
    SpanLink,
)
from tracing.store.model import Event, Span

_ABOUT: Final = frozenset({names.SCOPE, names.SCOPE_VERSION, names.SPAN_KIND, names.LINKS})
"""Attributes that say what else than an attribute the span had."""
_KINDS: Final = {
    "internal": INTERNAL,
    "server": SERVER,
    "client": CLIENT,
    "producer": PRODUCER,
    "consumer": CONSUMER,
}
_ELSEWHERE: Final = {
    "input": ("langfuse.observation.input", "gen_ai.input.messages", "gen_ai.tool.call.arguments"),
    "output": ("langfuse.observation.output", "gen_ai.output.messages", "gen_ai.tool.call.result"),
}
"""Names under which contents stay among the attributes of such a record."""


def foreign_span(
    span: Span,
    parent: bytes | None,
    marks: Mapping[str, Any],
    shared: Mapping[str, Any],
    state: str,
    is_remote: bool,
) -> OutSpan:
    """Return a record that came from another instrumentation as the span that it was.

    Its attributes are its own, so where its trace has the same names the trace's give way.

    Args:
        span: The record.
        parent: Id of the span above.
        marks: Attributes of ours to add.
        shared: Those of its trace.
        state: W3C tracestate.
        is_remote: Whether its parent is in another process.
    """
    said = span.attributes
    own = {
        attributes.text(name): attributes.legal(value)
        for name, value in said.items()
        if name not in _ABOUT and not (name == names.METADATA and isinstance(value, dict))
    }
    own.update(_contents(span))
    own.update(marks)
    if not own.keys().isdisjoint(shared):
        shared = {name: value for name, value in shared.items() if name not in own}
    status, message = verdict(span.outcome, span.error)
    events = [event_of(event) for event in span.events]
    if span.error is not None and all(event.name != "exception" for event in events):
        events.append(exception(span.error, end_of(span)))
    return OutSpan(
        bytes.fromhex(span.trace_id),
        bytes.fromhex(span.span_id),
        parent,
        attributes.text(span.name),
        span.start_ns,
        end_of(span),
        own,
        shared,
        UNSET if status == OK else status,  # who did not fail has not said that it went well
        message,
        _KINDS.get(str(said.get(names.SPAN_KIND)), INTERNAL),
        events,
        links_of(said),
        (attributes.text(said[names.SCOPE]), attributes.text(said.get(names.SCOPE_VERSION) or "")),
        state,
        is_remote,
    )


def _contents(span: Span) -> dict[str, str]:
    """Return the contents that are no longer among the attributes, or else nothing.

    They were taken from `input.value` and `output.value`. Both go back or none: who reads one
    under these names looks for the other under no other.
    """
    sides = {"input": span.input, "output": span.output}
    taken = any(
        content is not None and not any(name in span.attributes for name in _ELSEWHERE[side])
        for side, content in sides.items()
    )
    found: dict[str, str] = {}
    for side, content in sides.items():
        if taken and content is not None:
            plain = content.startswith(b'"')  # a text, which had no quotes when it came
            text = content.decode("utf-8", "replace")
            found[f"{side}.value"] = orjson.loads(text) if plain else text
            found[f"{side}.mime_type"] = "text/plain" if plain else "application/json"
    return found


def event_of(event: Event) -> SpanEvent:
    """Return an event as it goes out."""
    said = {
        attributes.text(name): attributes.legal(value) for name, value in event.attributes.items()
    }
    return SpanEvent(attributes.text(event.name), event.at_ns, said)


def links_of(said: Mapping[str, Any]) -> list[SpanLink]:
    """Return the spans that a record with these attributes has to do with."""
    links = said.get(names.LINKS)
    found = []
    for link in links if isinstance(links, list) else ():
        try:
            trace_id, span_id = bytes.fromhex(link["trace_id"]), bytes.fromhex(link["span_id"])
            more = dict(link.get("attributes") or {})
        except (TypeError, ValueError, KeyError, AttributeError):  # a user's own, of that name
            continue
        if len(trace_id) == 16 and len(span_id) == 8:
            said_there = {attributes.text(name): attributes.legal(more[name]) for name in more}
            found.append(SpanLink(trace_id, span_id, said_there))
    return found
