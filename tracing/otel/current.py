"""Our position as the current span of OpenTelemetry, so that instrumented clients nest under it.

One object is made current for a whole run. It says which span we are in when it is asked, so that
nothing has to be done for each node and phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.context import (
    Context,
    attach,
    create_key,
    detach,
    get_current,
    get_value,
    set_value,
)
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from tracing.context import position, span_here
from tracing.names import FROM_ELSEWHERE, FROM_LANGFUSE, FROM_OPENTELEMETRY
from tracing.otel.entered import entered, is_stored
from tracing.otel.seam import Above, _modules
from tracing.record import Record, Trace

if TYPE_CHECKING:
    from tracing.recorder import Recorder

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
_VEILED: Final = create_key("pocketflow-veiled")
LANGFUSE_SCOPE: Final = "langfuse-sdk"
LANGFUSE_CLAIM: Final = "langfuse_trace_id"
"""Baggage by which Langfuse's SDK learns that the spans above its own arrive in Langfuse, too."""


class Ours(NonRecordingSpan):
    """A span that stands for us in OpenTelemetry's context; what it is told, it forgets."""

    def __init__(self) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_span_context()!r})"


class Here(Ours):
    """The span we are in, whichever that is when somebody asks."""

    def __init__(self, record: Record, recorder: Recorder) -> None:
        self.record = record
        self.recorder = recorder
        self._state = TraceState.from_header([record.trace.state]) if record.trace.state else None

    def get_span_context(self) -> SpanContext:
        """Return the ids of the phase or span at work; those of the run, outside of it.

        It is outside in a thread that OpenTelemetry's context was taken to, and ours was not.
        """
        trace, now = self.record.trace, position.get()
        inside = now is not None and now[0].trace is trace
        span_id = span_here(now) if inside else self.record.span_id  # type: ignore[arg-type]
        return SpanContext(trace.trace_id, span_id, False, _SAMPLED, self._state)


class Veil(Ours):
    """Where nothing is to come into our traces."""

    def __init__(self, record: Record, sampled: bool) -> None:
        flags = _SAMPLED if sampled else _UNSAMPLED
        self._context = SpanContext(record.trace.trace_id, record.span_id, False, flags)


class Caller(Ours):
    """Where a trace of its own begins that is linked to the caller's."""

    def __init__(self, caller: SpanContext) -> None:
        super().__init__()
        self.caller = caller


class Shown:
    """What was made current, and how to go back."""

    __slots__ = ("_before", "_span", "_token")

    def __init__(self, span: Span, context: Context, before: Context) -> None:
        self._span = span
        self._before = before
        self._token: Any = attach(context)

    def leave(self) -> None:
        """Go back, silently also in another task than the one it was made current in."""
        token, self._token = self._token, None
        try:
            reset = token.var.reset
        except AttributeError:
            return detach(token)  # a context that is none of Python's
        try:
            reset(token)
        except (ValueError, RuntimeError):  # left elsewhere
            if get_current_span() is self._span:
                attach(self._before)


def enter(record: Record, recorder: Recorder) -> Shown | None:
    """Make our position current, unless it is already."""
    before = get_current()
    span = get_current_span(before)
    if isinstance(span, Here) and span.record.trace is record.trace:
        return None
    here = Here(record, recorder)
    return Shown(here, context_of(here, before), before)


def context_of(here: Here, before: Context) -> Context:
    """Return *before* with our position as the current span."""
    context = set_span_in_context(here, before)
    return for_langfuse(here.record.trace, context) if "langfuse" in _modules else context


def veil(record: Record, sampled: bool) -> Shown:
    """Make a span current below which nothing comes into our traces."""
    before = get_current()
    span = Veil(record, sampled)
    context = set_value(_VEILED, True, set_span_in_context(span, before))
    return Shown(span, context, before)


def is_veiled(context: Context | None) -> bool:
    """Return whether *context*, or else the current one, lies below a veil."""
    return get_value(_VEILED, context) is not None


def for_langfuse(trace: Trace, context: Context) -> Context:
    """Return *context* with what Langfuse's SDK puts on the spans that it makes below ours.

    Its spans are not roots of their own, as our spans arrive too; and they have our session and
    user. Both as its own `propagate_attributes` would say it.
    """
    if reaches_langfuse(trace):
        context = set_baggage(LANGFUSE_CLAIM, f"{trace.trace_id:032x}", context)
    for key, value in (("session_id", trace.session_id), ("user_id", trace.user_id)):
        if value and f"langfuse.propagated.{key}" not in context:
            context = set_value(f"langfuse.propagated.{key}", value, context)
    return context


def reaches_langfuse(trace: Trace) -> bool:
    """Return whether the records of *trace* are sent to a Langfuse, as far as can be told."""
    targets = getattr(trace.route, "targets", ())
    return any(target.dialect == "langfuse" or target.protocol == "processor" for target in targets)


def stranger() -> Above | None:
    """Return the current span of OpenTelemetry, unless there is none or it stands for us."""
    span = get_current_span()
    if isinstance(span, Ours):
        return _linked(span.caller) if isinstance(span, Caller) else None
    context = span.get_span_context()
    if not context.is_valid:
        return None
    key = context.trace_id, context.span_id
    known = entered.get(key)
    state: Mapping[str, str] = context.trace_state
    return Above(
        context.trace_id,
        context.span_id,
        context.trace_flags.sampled,
        context.trace_state.to_header() if state else "",
        "" if is_stored(key) else _whence(span, context),
        None if known is None else known.record,
    )


def _linked(caller: SpanContext) -> Above:
    sampled = caller.trace_flags.sampled
    return Above(caller.trace_id, caller.span_id, sampled, link=True)


def _whence(span: Span, context: SpanContext) -> str:
    """Return who has the span: that decides whether those who get ours get it, too."""
    scope = getattr(span, "instrumentation_scope", None)
    if getattr(scope, "name", None) == LANGFUSE_SCOPE:
        return FROM_LANGFUSE
    if get_baggage(LANGFUSE_CLAIM) == f"{context.trace_id:032x}":
        return FROM_LANGFUSE
    return FROM_OPENTELEMETRY if span.is_recording() else FROM_ELSEWHERE
