"""Errors and the trace: reports of what failed in it, and notes of what was reported by hand."""

from __future__ import annotations

import logging
import sys
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import tracing.record as r
from tracing.context import Position, span_here
from tracing.error_events import (
    AsyncErrorEvent,
    LoopBlockedError,
    classify_record,
    failure_text,
    severity_of,
    traceback_of,
)
from tracing.failure import describe
from tracing.ids import new_span_id
from tracing.lifecycle_derived import id_of
from tracing.lifecycle_ring import KINDS, LifecycleRing, recorder_of, ring_of
from tracing.recorder import add, at_work, inherit
from tracing.sampling import is_left_out
from tracing.tracer_spans import settled

if TYPE_CHECKING:
    from tracing.async_error_handling import AsyncErrorHandler
    from tracing.performance_monitor import Block

logger = logging.getLogger(__name__)

_WATCHED = frozenset(("node", "item", "flow", "workflow", "function"))
_WRONG = frozenset((r.FAILED, r.TIMED_OUT, r.CANCELLED))


class Watcher:
    """Listens to the ring for a handler, and reports each error once.

    Args:
        handler: Whom to report to.
    """

    def __init__(self, handler: AsyncErrorHandler) -> None:
        self._handler = handler
        self._heard: LifecycleRing | None = None

    def attach(self) -> None:
        """Listen to the ring of the handler's tracer, if that is not done; report its past."""
        ring = ring_of(self._handler.tracer)
        if ring is None or ring is self._heard:
            return
        if self._heard is not None:
            self._heard.ignore(self)
        self._heard = ring
        ring.listen(self)
        self._catch_up(ring)
        if getattr(self._handler.tracer.config, "performance_monitoring", False):
            from tracing.performance import install  # noqa: PLC0415 (only where it is on)

            install(ring, self._handler.tracer.config).on_block(self._blocked)

    def opened(self, record: r.Record) -> None:
        """Nothing is wrong with *record* yet."""

    def closed(self, record: r.Record) -> None:
        """Report the error of *record*, unless it has been on its way out of another span."""
        said = record.attributes or {}
        by_hand = record.kind not in _WATCHED or "trace_type" in said  # reported by hand as well
        if record.outcome not in _WRONG or by_hand:
            return
        error = _at_hand(record)
        if isinstance(error, GeneratorExit):
            return
        if error is not None and self._handler.is_reported(error, record.trace.trace_id):
            return
        event = _event(record)
        event.exception = error
        if error is not None:
            event.error_type = self._handler._classify_error(error)
            event.severity = self._handler._determine_severity(error, event.error_type)
            event.traceback_str = traceback_of(error)
        self._handler.add(event, record.trace.trace_id)
        self._handler.respond_soon(event)

    def _catch_up(self, ring: LifecycleRing) -> None:
        last = None
        for record in ring.finished():
            if record.outcome in _WRONG:
                same = (record.trace, record.error and record.error[:2])
                if same != last:  # an item and its node have one error between them
                    self._handler.add(_event(record))
                last = same

    def _blocked(self, block: Block) -> None:
        error = LoopBlockedError(block.who, block.seconds, block.where)
        event = self._handler.keep(error, block.node_id, block.flow_name)
        event.metadata.update(node_name=block.node_name, seconds=block.seconds, where=block.where)
        self._handler.respond_soon(event)


def _at_hand(record: r.Record) -> BaseException | None:
    """Return the exception that *record* ends with: a record is closed while it is handled."""
    error = sys.exc_info()[1]
    if error is None or record.error is None:
        return None
    return error if describe(error, frames=False).type == record.error.type else None


def _event(record: r.Record) -> AsyncErrorEvent:
    kind = classify_record(record)
    return AsyncErrorEvent(
        error_type=kind,
        severity=severity_of(kind),
        node_id=id_of(record) if record.kind in KINDS else None,
        flow_name=record.trace.name,
        task_id=getattr(record, "task", None),
        traceback_str=failure_text(record.error),
        metadata={
            "node_name": record.name,
            "outcome": record.outcome,
            "trace_id": f"{record.trace.trace_id:032x}",
            "span_id": id_of(record),
        },
    )


def present(tracer: Any) -> Position | None:
    """Return where we are: the position, or the trace that *tracer* has started here by hand."""
    now = settled()
    if now is None and (find := getattr(tracer, "_trace_here", None)) is not None:
        trace = find()
        now = None if trace is None else trace.place
    return now


def note_in_trace(tracer: Any, event: AsyncErrorEvent) -> None:
    """Put *event* into the present trace, as a span under the present one; never raises."""
    try:
        now = present(tracer)
        recorder = at_work() or recorder_of(tracer)
        if now is None or recorder is None or is_left_out(now):
            return
        error = event.exception
        record = r.Record(
            now[0].trace,
            new_span_id(),
            span_here(now),
            "span",
            f"async_error_{event.error_type.value}",
            perf_counter_ns(),
        )
        inherit(record)
        recorder.sink.opened(record)
        recorder.take_in(record, event.context_data)
        recorder.put_out(record, {"error_message": str(error), "traceback": event.traceback_str})
        said = {
            "error_id": event.error_id,
            "error_type": event.error_type.value,
            "severity": event.severity.value,
            "node_id": event.node_id,
            "flow_name": event.flow_name,
            "task_id": event.task_id,
            "recovery_attempted": event.recovery_attempted,
            "recovery_successful": event.recovery_successful,
            "timestamp": event.timestamp.isoformat(),
        }
        add(record, said)
        recorder.finish(record, error)
    except Exception:
        logger.exception("the error %s is not noted in the trace", event.error_id)
