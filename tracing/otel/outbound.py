"""Our spans, to a SpanProcessor that the program has anyway."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_tracer_provider,
)

from tracing.export.model import Answer, OutSpan, Target
from tracing.names import FROM_LANGFUSE, PARENT

OUR_SCOPE: Final = "openinference.instrumentation.pocketflow_async"
"""Name of the instrumentation scope of our own spans; others came from a processor and stay."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = {kind.value + 1: kind for kind in SpanKind}
_CODES: Final = {code.value: code for code in StatusCode}
_APP_ROOT: Final = "langfuse.internal.is_app_root"
_NO_PROVIDER: Final = (
    "no TracerProvider of opentelemetry-sdk is set, so nobody takes the spans: "
    "call opentelemetry.trace.set_tracer_provider first, or name a SpanProcessor"
)


def deliver(target: Target, spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> Answer:
    """Hand *spans* to the processor of *target* or, if it has none, to the global TracerProvider's.

    The provider is only used, never set. Spans that came from a `RecordingProcessor` are left out:
    the provider has had them already. Never raises.

    Args:
        target: Its processor is asked; its other fields do not matter here.
        spans: What to hand over; each has ended.
        resource: Describes the program, where no provider says how.

    Returns:
        Status 200, with the number of spans that the processor failed on; no status if there is
        nobody to take them as yet.
    """
    processor, described = target.processor, None
    if processor is None:
        processor, described = _of_the_provider()
        if processor is None:
            return Answer(None, _NO_PROVIDER)
    made = described if described is not None else Resource(dict(resource))
    failed, said = 0, ""
    for span in spans:
        if span.scope[0] != OUR_SCOPE:
            continue
        try:
            processor.on_end(readable(span, made))
        except Exception as error:  # noqa: BLE001 (a stranger's: said in the answer)
            failed += 1
            said = f"{type(processor).__name__}.on_end raised {type(error).__name__}: {error}"
    return Answer(200, said[:300], rejected=failed)


def readable(span: OutSpan, resource: Mapping[str, Any] | Resource) -> ReadableSpan:
    """Return *span* as the SDK of OpenTelemetry has those that have ended.

    Args:
        span: The span.
        resource: Describes the program; as a Resource, or its attributes.
    """
    state = TraceState.from_header([span.state]) if span.state else None
    trace_id = int.from_bytes(span.trace_id, "big")
    parent = None
    if span.parent_id is not None:
        parent_id = int.from_bytes(span.parent_id, "big")
        parent = SpanContext(trace_id, parent_id, span.is_remote, _SAMPLED, state)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int.from_bytes(span.span_id, "big"), False, _SAMPLED, state),
        parent=parent,
        resource=resource if isinstance(resource, Resource) else Resource(dict(resource)),
        attributes=_attributes(span),
        events=[Event(event.name, dict(event.attributes), event.at_ns) for event in span.events],
        links=[_link(link.trace_id, link.span_id, link.attributes) for link in span.links],
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        status=_status(span),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope(*span.scope),
    )


def _attributes(span: OutSpan) -> dict[str, Any]:
    """Return all attributes; with the mark that Langfuse's SDK sets at the start of a span.

    It is for one whose parent does not arrive there, which we hear of only now.
    """
    own = {**span.shared, **span.attributes}
    outside = PARENT in own and own[PARENT] != FROM_LANGFUSE
    if "langfuse" in sys.modules and (span.parent_id is None or outside):
        own.setdefault(_APP_ROOT, True)
    return own


def _status(span: OutSpan) -> Status:
    code = _CODES.get(span.status, StatusCode.UNSET)
    return Status(code, span.message or None) if code is StatusCode.ERROR else Status(code)


def _link(trace_id: bytes, span_id: bytes, attributes: Mapping[str, Any]) -> Link:
    ids = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
    return Link(SpanContext(*ids, True, _SAMPLED), dict(attributes))


def _of_the_provider() -> tuple[Any, Resource | None]:
    """Return the processors of the global provider and what it says of the program."""
    provider = get_tracer_provider()
    processor = getattr(provider, "_active_span_processor", None)
    if processor is None:
        return None, None
    return processor, provider.resource if isinstance(provider, TracerProvider) else None
