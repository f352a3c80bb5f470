"""Which traces are recorded: whole ones, decided at their root by the trace id.

A run that is left out is entered like any other, so that what runs inside can tell; but no recorder
watches, so the engine takes its plain path and the run costs next to nothing.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, Final

from tracing.context import Position, position
from tracing.ids import new_span_id, new_trace_id
from tracing.record import Record, Trace
from tracing.run import Run

_RANGE: Final = 1 << 64


def is_kept(trace_id: int, rate: float) -> bool:
    """Return whether a trace is one of the share *rate* (0.0 to 1.0) that is recorded.

    Decided as OpenTelemetry's TraceIdRatioBased does, so that others come to the same answer.
    """
    return (trace_id & (_RANGE - 1)) < round(rate * _RANGE)


class LeftOut(Trace):
    """A trace that is not recorded."""


def is_left_out(now: Position | None) -> bool:
    """Return whether *now* lies in a trace that is not recorded."""
    return now is not None and isinstance(now[0].trace, LeftOut)


def draw(name: str, rate: float) -> NotRecorded | None:
    """Decide about a trace that is to begin: return the run that stands for one left out."""
    trace_id = new_trace_id()
    return None if is_kept(trace_id, rate) else NotRecorded(name, trace_id)


class NotRecorded(Run):
    """The run at the root of a trace that is left out."""

    __slots__ = ()

    def __init__(self, name: str, trace_id: int) -> None:
        now = perf_counter_ns()
        self.record = Record(
            LeftOut(trace_id, name, 0, now), new_span_id(), None, "flow", name, now
        )
        self._before = position.get()
        self._now = (self.record, -1, None)
        self._token = None
        self._watch = None

    def __enter__(self) -> Run:
        if self._token is None or position.get() is not self._now:
            self._token = position.set(self._now)
        return self

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """Note nothing."""
