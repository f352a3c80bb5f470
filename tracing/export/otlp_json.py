"""Spans as OTLP JSON: ids in hex, integers of 64 bits as text, enumerations as numbers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from tracing.export.model import OutSpan, SpanEvent, SpanLink
from tracing.export.protobuf import plain, scopes

_LAST_NS: Final = 2**64 - 1


def encode(spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> bytes:
    """Encode *spans* as one OTLP `ExportTraceServiceRequest` in JSON; it never raises.

    Args:
        spans: What to send.
        resource: Attributes of the program that made them.

    Returns:
        The request's body, in one line: as such it is also a line of an OTLP JSON file.
    """
    return orjson.dumps({"resourceSpans": [document(spans, resource)]})


def document(spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return `ResourceSpans` as values for JSON.

    Args:
        spans: What it holds.
        resource: Attributes of the program that made them.
    """
    shared: dict[int, list[Any]] = {}
    return {
        "resource": {"attributes": _attributes(resource)},
        "scopeSpans": [_scope(*group, shared) for group in scopes(spans)],
    }


def _scope(
    scope: tuple[str, str], spans: Iterable[OutSpan], shared: dict[int, list[Any]]
) -> dict[str, Any]:
    name, version = map(plain, scope)
    head = {"name": name, "version": version} if version else {"name": name}
    return {"scope": head, "spans": [_span(span, shared) for span in spans]}


def _span(span: OutSpan, shared: dict[int, list[Any]]) -> dict[str, Any]:
    common = shared.get(id(span.shared))
    if common is None:
        common = shared[id(span.shared)] = _attributes(span.shared)
    said: dict[str, Any] = {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "name": plain(span.name),
        "kind": span.kind,
        "startTimeUnixNano": _ns(span.start_ns),
        "endTimeUnixNano": _ns(span.end_ns),
        "attributes": _attributes(span.attributes) + common,
        "flags": 0x301 if span.is_remote else 0x101,
    }
    if span.parent_id:
        said["parentSpanId"] = span.parent_id.hex()
    if span.status or span.message:
        said["status"] = _status(span)
    return said | _rest(span)


def _rest(span: OutSpan) -> dict[str, Any]:
    said: dict[str, Any] = {"traceState": plain(span.state)} if span.state else {}
    if span.events:
        said["events"] = [_event(event) for event in span.events]
    if span.links:
        said["links"] = [_link(link) for link in span.links]
    return said


def _status(span: OutSpan) -> dict[str, Any]:
    code = {"code": span.status}
    return code | {"message": plain(span.message)} if span.message else code


def _event(event: SpanEvent) -> dict[str, Any]:
    return {
        "timeUnixNano": _ns(event.at_ns),
        "name": plain(event.name),
        "attributes": _attributes(event.attributes),
    }


def _link(link: SpanLink) -> dict[str, Any]:
    return {
        "traceId": link.trace_id.hex(),
        "spanId": link.span_id.hex(),
        "attributes": _attributes(link.attributes),
    }


def _ns(at: int) -> str:
    return str(min(max(at, 0), _LAST_NS))


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": plain(key), "value": _value(value)} for key, value in attributes.items()]


def _value(value: object) -> dict[str, Any]:
    return _VALUES[type(value := plain(value))](value)


_VALUES: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {
    str: lambda value: {"stringValue": value},
    bool: lambda value: {"boolValue": value},
    int: lambda value: {"intValue": str(value)},
    float: lambda value: {"doubleValue": value},
    bytes: lambda value: {"bytesValue": base64.b64encode(value).decode()},
    list: lambda values: {"arrayValue": {"values": [_value(value) for value in values]}},
}
