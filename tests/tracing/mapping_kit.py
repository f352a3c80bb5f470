"""Records made by hand, and what Langfuse, Phoenix and Jaeger read of them."""

from __future__ import annotations

import json
from dataclasses import replace

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracing.langfuse_kit import observed
from tests.tracing.langfuse_kit_mapping import attributes
from tracing.export.attributes import shared_attributes
from tracing.export.expand import expand
from tracing.export.model import PHASES, Route
from tracing.export.protobuf import encode
from tracing.record import Failure, phase_id
from tracing.store.model import PhaseSpan, Span, TraceFacts

TRACE = "ab" * 16
START = 1_750_000_000_123_456_789
FACTS = TraceFacts(TRACE, "Flow", "s-1", "u-1", ("a", "b"), {"plan": "pro", "seats": 3})
RESOURCE = {"service.name": "app", "service.version": "2.0", "deployment.environment.name": "Prod"}
ROUTE = Route((), RESOURCE, PHASES, "r-7")
NODES = replace(ROUTE, shown=frozenset())
BOOM = Failure("ValueError", "boom", (("app.py", 12, "exec_async"), ("lib.py", 3, "load")))


def record(kind="node", name="Node", outcome="completed", **fields):
    said = {
        "parent_id": "00000000000000ff",
        "index": None,
        "input": b'{"question":"why"}',
        "output": b'"because"',
        "attributes": {},
        **fields,
    }
    return Span(
        trace_id=TRACE,
        span_id=said.pop("span_id", "00000000000000aa"),
        kind=kind,
        name=name,
        start_ns=START,
        end_ns=START + 2_000,
        outcome=outcome,
        **said,
    )


def phase(ordinal, kind, outcome="completed", host=0xAA, **fields):
    said = {"attempt": 0, "start_ns": START + ordinal, "end_ns": START + ordinal + 1, **fields}
    return PhaseSpan(f"{phase_id(host, ordinal):016x}", kind, outcome=outcome, **said)


def out(span, dialect="otlp", route=ROUTE, within=None, facts=FACTS, **more):
    return expand(
        span, facts, within, route, dialect, shared_attributes(facts, route, dialect), **more
    )


def sent(spans, resource=RESOURCE):
    """Return spans as the official messages have them, after a way over the wire."""
    batch = ExportTraceServiceRequest.FromString(encode(spans, resource))
    return batch, [
        span
        for group in batch.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


def langfuse(span, route=ROUTE, **more):
    """Return the record's own span as Langfuse shows it, sent to itself."""
    spans = out(span, "langfuse", route, **more)
    return next(observed(sent(spans)[0]))


def via_collector(span, **more):
    """Return it as Langfuse shows it where only the attributes for everybody come through."""
    return next(observed(sent(out(span, **more))[0]))


def phoenix(span, **more):
    """Return what Phoenix reads: OpenInference's names, status and events."""
    (found, *_) = sent(out(span, **more))[1]
    said = attributes(found.attributes)
    return {
        "kind": said.get("openinference.span.kind", "UNKNOWN"),
        "input": said.get("input.value"),
        "output": said.get("output.value"),
        "session": said.get("session.id"),
        "metadata": json.loads(said.get("metadata", "{}")),
        "tags": said.get("tag.tags"),
        "status": {0: "UNSET", 1: "OK", 2: "ERROR"}[found.status.code],
        "message": found.status.message,
        "exceptions": [event for event in found.events if event.name == "exception"],
    }


def jaeger(span, **more):
    """Return what Jaeger reads: all attributes as tags, an error's flag, logs."""
    (found, *_) = sent(out(span, **more))[1]
    tags = attributes(found.attributes)
    if found.status.code == 2:
        tags["error"] = True
    return tags
