"""Spans of other instrumentations, into our store, under the node that they belong to."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from time import perf_counter_ns, time_ns
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import get_current_span

from tracing.context import position, span_here
from tracing.names import ABANDONED, FROM_ELSEWHERE, FROM_OPENTELEMETRY, PARENT, TRACE_ID
from tracing.otel.current import Here, is_veiled, stranger
from tracing.otel.entered import Entered, depart, entered, is_stored
from tracing.otel.translated import fill, kind_of
from tracing.record import Record, Trace
from tracing.recorder import Recorder, add, at_work

logger = logging.getLogger(__name__)

_MOST: Final = 10_000
"""Spans that may be open at once; those that nobody ends must not fill the memory."""


class _Place(NamedTuple):
    """Where a span belongs."""

    trace: Trace
    host: Record | None
    parent_id: int | None
    recorder: Recorder
    outside: bool = False
    """Whether its parent is not in our store."""


class RecordingProcessor(SpanProcessor):
    """Records the spans of a TracerProvider that start within traced runs.

    `provider.add_span_processor(RecordingProcessor())`, once, on the provider that your
    instrumentations use. Each span is stored where the run's records are, keeps its ids, times and
    attributes, and hangs under the phase in which it started. It never raises.

    Args:
        everything: Whether spans outside every traced run are recorded as well, with the settings
            of the environment.
    """

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self._own: dict[tuple[int, int], Entered] = {}
        self._traces: dict[int, Trace] = {}
        self._is_down = False
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Open the record of *span*, if it is within a traced run."""
        if self._is_down:
            return
        try:
            self._open(span, parent_context)
        except Exception:
            logger.exception("a span of OpenTelemetry is not recorded")

    def on_end(self, span: ReadableSpan) -> None:
        """End the record of *span*, and hand it over."""
        context = span.get_span_context()
        known = None if context is None else self._take((context.trace_id, context.span_id))
        if known is None:
            return
        try:
            fill(known, span)
        except Exception:
            logger.exception("a span of OpenTelemetry is not recorded whole")
            with suppress(Exception):
                known.recorder.finish(known.record, None)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the spans that have ended are stored; False if that took too long."""
        from tracing.flushing import flush  # noqa: PLC0415 (it knows the stores)

        try:
            return not flush(timeout_millis / 1_000).failed
        except Exception:
            logger.exception("the spans of OpenTelemetry may not be stored yet")
            return False

    def shutdown(self) -> None:
        """Record nothing any more; what is open is noted as left behind. The stores stay open."""
        self._is_down = True
        for key in list(self._own):
            self._abandon(key)
        self.force_flush()

    def _open(self, span: Span, parent_context: Context | None) -> None:
        context = span.get_span_context()
        key = context.trace_id, context.span_id
        if key in entered:  # by another processor like this one
            return
        found = self._place(span, parent_context)
        if found is None:
            return
        trace, host, parent_id, recorder, outside = found
        scope = span.instrumentation_scope
        kind = kind_of(span.attributes or {}, scope.name if scope is not None else "")
        start = trace.clock_ns + (span.start_time or time_ns()) - trace.wall_ns
        record = Record(trace, context.span_id, parent_id, kind, span.name, start)
        record.host = host
        if trace.trace_id != context.trace_id:
            add(record, {TRACE_ID: f"{context.trace_id:032x}"})
        elif outside:
            add(record, {PARENT: _whence(span)})
        if len(self._own) >= _MOST:
            self._abandon(next(iter(self._own)))
        recorder.sink.opened(record)
        entered[key] = self._own[key] = Entered(record, recorder)

    def _place(self, span: Span, parent_context: Context | None) -> _Place | None:
        """Return where *span* belongs; None: nowhere.

        Its parent counts first, for it may start where we are not: in another thread or task.
        """
        above, parent = get_current_span(parent_context), span.parent
        now = position.get()
        if isinstance(above, Here) and parent is not None:
            trace = above.record.trace
            inside = now is not None and now[0].trace is trace
            host = now[0] if inside else above.record  # type: ignore[index]
            recorder = (at_work() if inside else None) or above.recorder
            return _Place(trace, host, parent.span_id, recorder)
        if parent is not None and (known := entered.get((parent.trace_id, parent.span_id))):
            return _Place(known.record.trace, known.record, parent.span_id, known.recorder)
        working = at_work()
        if now is not None and working is not None:
            trace = now[0].trace
            if parent is not None and parent.trace_id == trace.trace_id:
                outside = not is_stored((parent.trace_id, parent.span_id))
                return _Place(trace, now[0], parent.span_id, working, outside)
            return _Place(trace, now[0], span_here(now), working)
        if self._everything and now is None and not is_veiled(parent_context):
            return self._alone(span)
        return None

    def _alone(self, span: Span) -> _Place | None:
        """Return the place of a span outside every run: in a trace of its own."""
        from tracing.spans import recorder_here  # noqa: PLC0415 (for those who ask for everything)

        recorder = recorder_here()
        if recorder is None:
            return None
        trace_id = span.get_span_context().trace_id
        trace = self._traces.get(trace_id)
        if trace is None:
            route = recorder.route
            trace = Trace(trace_id, span.name, time_ns(), perf_counter_ns(), route=route)
            with self._lock:
                if len(self._traces) >= _MOST:
                    del self._traces[next(iter(self._traces))]
                self._traces[trace_id] = trace
        if span.parent is None:
            return _Place(trace, None, None, recorder)
        outside = not is_stored((trace_id, span.parent.span_id))
        return _Place(trace, None, span.parent.span_id, recorder, outside)

    def _take(self, key: tuple[int, int]) -> Entered | None:
        if self._own.pop(key, None) is None:
            return None
        return depart(key)

    def _abandon(self, key: tuple[int, int]) -> None:
        known = self._take(key)
        if known is not None:
            add(known.record, {ABANDONED: True})
            known.recorder.finish(known.record, GeneratorExit("nobody has ended it"))


def _whence(span: Span) -> str:
    """Return who has the parent of *span*, which is not in our store."""
    found, parent = stranger(), span.parent
    if found is not None and parent is not None and found.span_id == parent.span_id:
        return found.whence
    return FROM_ELSEWHERE if parent is not None and parent.is_remote else FROM_OPENTELEMETRY
