"""What tells those whom we call in which trace we are: the headers of W3C trace context.

Nothing of tracing is imported here. The headers come from an observer of the engine that has a
method `outgoing(headers)`, or from OpenTelemetry where the program uses it; else there are none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from pocketflow_async.hooks import active

logger = logging.getLogger(__name__)

Outgoing: TypeAlias = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Takes the headers of a request or message and returns those that are sent; `tracing.outgoing`
is one, which also takes session, user and metadata along as baggage. Not for strangers."""

_NAMES: Final = ("traceparent", "tracestate")
_OPENTELEMETRY: Final = "opentelemetry.trace"


def with_trace(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return *headers* with `traceparent` and `tracestate` of where we are, if we are anywhere.

    Ids alone, no baggage: who is called may be a stranger. Headers that name a trace already stay
    as they are.
    """
    if any(name.lower() == "traceparent" for name in headers):
        return headers
    found = _observed() or _opentelemetry()
    return {**headers, **found} if found else headers


def with_headers(outgoing: Outgoing | None, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return what *outgoing* makes of *headers*; themselves when it fails, which is logged."""
    if outgoing is None:
        return headers
    try:
        return outgoing(headers)
    except Exception:
        logger.exception("the trace is not taken along")
        return headers


def _observed() -> dict[str, str]:
    hooks = active()
    for observer in () if hooks is None else hooks.observers:
        outgoing: Any = getattr(observer, "outgoing", None)
        if outgoing is not None:
            said = outgoing({})
            return {name: said[name] for name in _NAMES if name in said}
    return {}


def _opentelemetry() -> dict[str, str]:
    api: Any = sys.modules.get(_OPENTELEMETRY)
    if api is None:
        return {}
    span = api.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    found = {
        "traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
    }
    state = span.trace_state.to_header()
    return {**found, "tracestate": state} if state else found
