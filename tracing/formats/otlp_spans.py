"""OTLP JSON lines, read back: those of ours, of a Collector's file exporter, and of SDKs.

The spans of one trace may be in any number of lines and in any order, and some of them twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tracing.formats import fields, foreign, returned
from tracing.formats.arrived import Arrived
from tracing.formats.otlp_values import attributes
from tracing.store.model import Span

_SIGNALS: Final = ("resourceSpans", "resourceMetrics", "resourceLogs")


def knows(said: Mapping[str, Any]) -> bool:
    """Tell whether a line's object is OTLP; metrics and logs beside spans are passed over."""
    return any(name in said for name in _SIGNALS)


def split(said: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the trace id of each span of a line, and the span with what is said of its origin.

    Raises:
        Unfit: The line is not what it should be.
    """
    for resource in fields.items(said, "resourceSpans"):
        about = fields.mapping(resource, "resource")
        attributes(about)
        for scope in fields.items(resource, "scopeSpans"):
            origin = {"resource": about, "scope": fields.mapping(scope, "scope")}
            for span in fields.items(scope, "spans"):
                foreign.span(item := {**origin, "span": span})
                yield fields.identity(span, "traceId", 32), item


def gather(items: Sequence[Mapping[str, Any]]) -> Arrived:
    """Return the trace whose spans these are, as `split` has yielded them."""
    unique = {item["span"]["spanId"].lower(): item for item in items}  # the last of each counts
    spans = returned.spans(unique.values())
    return _trace(spans, [*unique.values()])


def _trace(spans: tuple[Span, ...], items: Sequence[Mapping[str, Any]]) -> Arrived:
    first = _root(spans)
    ends = [span.end_ns for span in spans]
    latest = max((end for end in ends if end is not None), default=first.start_ns)
    start = min(span.start_ns for span in spans)
    facts = returned.facts(items)
    return Arrived(
        trace_id=first.trace_id,
        name=facts.name or first.name,
        outcome=first.outcome,
        started_ns=start,
        duration_ns=None if first.end_ns is None else latest - start,
        spans=spans,
        session_id=facts.session_id,
        user_id=facts.user_id,
        tags=facts.tags,
        metadata=facts.metadata,
    )


def _root(spans: Sequence[Span]) -> Span:
    known = {span.span_id for span in spans}
    known.update(phase.span_id for span in spans for phase in span.phases)
    roots = [span for span in spans if span.parent_id not in known] or [*spans]
    return min(roots, key=lambda span: (span.parent_id is not None, span.start_ns))
