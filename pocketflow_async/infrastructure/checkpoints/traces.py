"""One trace over a crash: where a run was first seen, and how it is continued there."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from pocketflow_async.hooks import Step, active

_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_API: Final = "opentelemetry.trace"


def traceparent_of(step: Step) -> str | None:
    """Return the W3C `traceparent` of *step*, which is at work; None: it is in no trace.

    An observer that notes steps says in `seen` which span that has become; else it is the current
    span of OpenTelemetry, where the program uses that.
    """
    for seen in (step.seen or {}).values():
        if isinstance(seen, dict) and "trace_id" in seen and "span_id" in seen:
            return f"00-{seen['trace_id']}-{seen['span_id']}-01"
    context = _current()
    if context is None:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@contextmanager
def continued(traceparent: str | None) -> Generator[None, None, None]:
    """Let the trace that begins in this block be the one of *traceparent*.

    Where somebody watches already, the run is part of that trace.
    """
    found = _TRACEPARENT.fullmatch(traceparent or "")
    hooks = active()
    watched = hooks is not None and hooks.observers
    if found is None or watched or _current() is not None:
        yield
        return
    try:
        from opentelemetry import context, trace  # noqa: PLC0415 (for runs that were traced)
    except ImportError:
        yield
        return
    ids = (int(found[1], 16), int(found[2], 16))
    remote = trace.SpanContext(*ids, is_remote=True, trace_flags=trace.TraceFlags(1))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
    try:
        yield
    finally:
        context.detach(token)


def _current() -> Any:
    """Return the context of OpenTelemetry's current span; None: there is none."""
    api: Any = sys.modules.get(_API)
    if api is None:
        return None
    found = api.get_current_span().get_span_context()
    return found if found.is_valid else None
