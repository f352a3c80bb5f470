"""Which traces are recorded: whole ones, decided at their root by the trace id.

A run that is left out is entered like any other, so that what runs inside can tell; but no recorder
watches, so the engine takes its plain path and the run costs next to nothing.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, Final, NamedTuple

from tracing.context import Position, position
from tracing.ids import new_span_id, new_trace_id
from tracing.otel.seam import Above, hide
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


class Choice(NamedTuple):
    """What was decided about a trace that is to begin."""

    trace_id: int
    sampled: bool


def choose(rate: float, by_parent: bool, parent: Above | None) -> Choice:
    """Decide about a trace that is to begin.

    Args:
        rate: The share of traces in the sample, 0.0 to 1.0.
        by_parent: Whether a caller's own decision is followed, as OpenTelemetry's ParentBased does.
        parent: The span of somebody else that the trace continues; None: it begins here.
    """
    if parent is None or parent.link:
        trace_id = new_trace_id()
        return Choice(trace_id, rate >= 1 or is_kept(trace_id, rate))
    sampled = parent.sampled if by_parent else is_kept(parent.trace_id, rate)
    return Choice(parent.trace_id, sampled)


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
            self._shown = hide(self.record, sampled=False)
        return self

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """Note nothing."""
