"""A traced run: the span that `trace_flow` opens around a flow or function."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import Token
from time import perf_counter_ns
from types import TracebackType
from typing import Any

from tracing.context import Position, position, span_here
from tracing.ids import new_span_id
from tracing.record import Record, Trace
from tracing.recorder import Recorder, new_trace, watching


class Run:
    """Opens a span on entry and makes it current; a trace of its own, unless it is inside one.

    May be entered and left more than once before it is finished, from different tasks: that is how
    a traced generator lives.

    Args:
        recorder: What notes it and the steps inside.
        kind: flow or function.
        name: Name of the span, and of the trace if it starts one.
        source: The flow object, whose own step is then the same as this span.
        value: What went in.
        trace: Settings of the trace, if it starts one.
    """

    __slots__ = ("_now", "_recorder", "_token", "_watch", "record")

    def __init__(
        self,
        recorder: Recorder,
        kind: str,
        name: str,
        source: object,
        value: Any,
        **trace: Any,
    ) -> None:
        now = position.get()
        self._recorder = recorder
        own: Trace = new_trace(name, **trace) if now is None else now[0].trace
        parent = None if now is None else span_here(now)
        self.record = Record(own, new_span_id(), parent, kind, name, perf_counter_ns())
        recorder.take_in(self.record, value)
        recorder.sink.opened(self.record)
        self._now: Position = (self.record, -1, source)
        self._token: Token[Position | None] | None = None
        self._watch: AbstractContextManager[None] | None = None

    def __enter__(self) -> Run:
        if self.record.parent_id is None:  # inside a trace, its own recorder is at work already
            self._watch = watching(self._recorder)
            self._watch.__enter__()
        self._token = position.set(self._now)
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        if self._token is not None:
            position.reset(self._token)
        if self._watch is not None:
            self._watch.__exit__(None, None, None)

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """End the span with *error*, or with *value* as what came out; the first call counts."""
        if self.record.end is not None:
            return
        self._recorder.put_out(self.record, value)
        if attributes:
            self.record.attributes = attributes
        self._recorder.finish(self.record, error)


class Untraced(Run):
    """Stands in for a run where tracing is off."""

    __slots__ = ()

    def __init__(self) -> None:
        """Open nothing."""

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        pass

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """Note nothing."""
