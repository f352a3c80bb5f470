"""One span as each back end shows it: Langfuse, Jaeger, Phoenix, by the contract's rules. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.tracing.langfuse_kit_mapping import Observation
from tests.tracing.wire_kit import Received, attributes
from tracing.store.model import Span


@dataclass(frozen=True)
class View:
    """What one back end shows of a span, in words that all of them share."""

    name: str
    parent: str | None
    input: Any = None
    output: Any = None
    session: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    error: bool = False
    message: str = ""
    service: str = ""

    @property
    def place(self) -> tuple[str, str | None]:
        return self.name, self.parent


KINDS = ("CHAIN", "LLM", "TOOL", "AGENT", "RETRIEVER", "EMBEDDING", "GUARDRAIL", "EVALUATOR")
"""What Phoenix knows; anything else it shows as unknown."""
Views = dict[str, View]
"""By the id of the span."""


def stored(roots: Iterable[Span]) -> Views:
    """Return the tree that the store has, phases included, with what was noted of contents."""
    return {span_id: view for root in roots for span_id, view in _stored(root)}


def _stored(span: Span) -> Iterator[tuple[str, View]]:
    failed = span.outcome != "completed"
    yield (
        span.span_id,
        View(span.name, span.parent_id, _read(span.input), _read(span.output), error=failed),
    )
    for phase in span.phases:
        failed = phase.outcome != "completed"
        yield phase.span_id, View(f"{span.name}.{phase.kind}", span.span_id, error=failed)
    for child in span.children:
        yield from _stored(child)


def in_langfuse(observations: Iterable[Observation]) -> Views:
    """Return what Langfuse shows."""
    return {
        one.id: View(
            one.name,
            one.parent_id,
            one.input,
            one.output,
            one.session_id,
            one.user_id,
            tuple(one.tags),
            one.level == "ERROR",
            one.status_message or "",
            one.metadata["resourceAttributes"]["service.name"],
        )
        for one in observations
    }


def as_jaeger_has_them(requests: Iterable[Received]) -> list[dict[str, Any]]:
    """Return spans in Jaeger's own form, as its collector makes them of OTLP.

    References in place of parents, one list of tags, with kind, scope and status among them, events
    as logs, and the resource as the process.
    """
    found = []
    for request in requests:
        for group in request.request.resource_spans:
            resource = attributes(group.resource)
            process = {"serviceName": resource.pop("service.name", ""), "tags": resource}
            for scope in group.scope_spans:
                found += [_jaeger(span, scope.scope, process) for span in scope.spans]
    return found


def _jaeger(span: Any, scope: Any, process: dict[str, Any]) -> dict[str, Any]:
    tags = {"otel.scope.name": scope.name, "otel.scope.version": scope.version, **attributes(span)}
    kind = {2: "server", 3: "client", 4: "producer", 5: "consumer"}.get(span.kind, "internal")
    tags["span.kind"] = kind
    if span.status.code:
        tags["otel.status_code"] = {1: "OK", 2: "ERROR"}[span.status.code]
    if span.status.code == 2:
        tags["error"] = True
    if span.status.message:
        tags["otel.status_description"] = span.status.message
    parent = span.parent_span_id.hex()
    ids = {"traceID": span.trace_id.hex(), "spanID": parent}
    return {
        "traceID": span.trace_id.hex(),
        "spanID": span.span_id.hex(),
        "operationName": span.name,
        "references": [{"refType": "CHILD_OF", **ids}] if parent else [],
        "startTime": span.start_time_unix_nano // 1000,
        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
        "tags": tags,
        "logs": [{"event": event.name, **attributes(event)} for event in span.events],
        "process": process,
    }


def in_jaeger(spans: Iterable[dict[str, Any]]) -> Views:
    """Return what Jaeger shows: all of it is tags, and JSON in them is laid out."""
    return {
        span["spanID"]: View(
            span["operationName"],
            next((one["spanID"] for one in span["references"]), None),
            _read(span["tags"].get("input.value")),
            _read(span["tags"].get("output.value")),
            span["tags"].get("session.id"),
            span["tags"].get("user.id"),
            tuple(span["tags"].get("tag.tags", ())),
            span["tags"].get("error", False),
            span["tags"].get("otel.status_description", ""),
            span["process"]["serviceName"],
        )
        for span in spans
    }


def in_phoenix(requests: Iterable[Received]) -> Views:
    """Return what Phoenix shows: OpenInference's names, contents by their MIME type, the status."""
    found = {}
    for request in requests:
        for group in request.request.resource_spans:
            service = attributes(group.resource)["service.name"]
            for span in (span for scope in group.scope_spans for span in scope.spans):
                said = attributes(span)
                assert said["openinference.span.kind"] in KINDS
                found[span.span_id.hex()] = View(
                    span.name,
                    span.parent_span_id.hex() or None,
                    _pane(said, "input"),
                    _pane(said, "output"),
                    said.get("session.id"),
                    said.get("user.id"),
                    tuple(said.get("tag.tags", ())),
                    span.status.code == 2,
                    span.status.message,
                    service,
                )
    return found


def _pane(said: dict[str, Any], side: str) -> Any:
    value = said.get(f"{side}.value")
    return _read(value) if said.get(f"{side}.mime_type") == "application/json" else value


def _read(value: bytes | str | None) -> Any:
    return None if value is None else json.loads(value)
