"""A traced run: the span that is opened around a flow, a function, or a block of code."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from contextvars import Token
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Final

from tracing.context import Position, position, span_here
from tracing.ids import new_span_id
from tracing.otel.seam import above, hide, leave, show
from tracing.record import Record, Trace
from tracing.recorder import (
    Recorder,
    add,
    at_work,
    hang,
    inherit,
    new_trace,
    watching,
    watching_instead,
)


class _Absent:
    """The type of `ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final[Any] = _Absent()
"""Stands for a value that nobody gave, where None would be a value."""


class Run:
    """Opens a span on entry and makes it current; a trace of its own, unless it is inside one.

    May be entered and left more than once before it is finished, from different tasks: that is how
    a traced generator lives.

    Args:
        recorder: What notes it and the steps inside.
        kind: flow, function, span, or another.
        name: Name of the span, and of the trace if it starts one.
        source: The flow object, whose own step is then the same as this span.
        value: What went in; ABSENT: not noted.
        trace: Settings of the trace, if it starts one.
    """

    __slots__ = ("_before", "_now", "_recorder", "_shown", "_token", "_watch", "record")

    def __init__(
        self,
        recorder: Recorder,
        kind: str,
        name: str,
        source: object,
        value: Any,
        **trace: Any,
    ) -> None:
        self._before = now = position.get()
        self._recorder = recorder
        outside = above(now)
        if now is None:
            own: Trace = new_trace(name, route=recorder.route, parent=outside, **trace)
            self.record = Record(own, new_span_id(), None, kind, name, perf_counter_ns())
        else:
            own, parent = now[0].trace, span_here(now)
            self.record = Record(own, new_span_id(), parent, kind, name, perf_counter_ns())
            self.record.host = now[0]
            inherit(self.record)
        if outside is not None:
            hang(self.record, outside)
        if value is not ABSENT:
            recorder.take_in(self.record, value)
        recorder.sink.opened(self.record)
        self._now: Position = (self.record, -1, source)
        self._token: Token[Position | None] | None = None
        self._watch: AbstractContextManager[None] | None = None
        self._shown: Any = None

    @property
    def recorder(self) -> Recorder:
        """What notes it."""
        return self._recorder

    def __enter__(self) -> Run:
        if self._token is not None and position.get() is self._now:
            return self  # entered twice: the inner block ends it
        # A trace of its own may begin where an earlier one's recorder is still at work: in a task
        # that has outlived it. One that is inside a trace may be noted by another one, too.
        outer = at_work()
        if outer is None and self._before is None:
            self._watch = watching(self._recorder)
            self._watch.__enter__()
        elif outer is not None and outer is not self._recorder:
            self._watch = watching_instead(outer, self._recorder)
            self._watch.__enter__()
        self._token = position.set(self._now)
        self._shown = show(self.record, self._recorder)
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        # A generator, or a span held in a variable, may be left where it was not entered: another
        # task, or later than what was entered around it. Then there is no token to go back by.
        token, watch = self._token, self._watch
        self._token = self._watch = None
        leave(getattr(self, "_shown", None))
        self._shown = None
        if position.get() is self._now:
            try:
                position.reset(token)  # type: ignore[arg-type]  # TypeError: it was taken already
            except (TypeError, ValueError, RuntimeError):
                position.set(self._before)
        if watch is not None:
            with suppress(ValueError):
                watch.__exit__(None, None, None)

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """End the span with *error*, or with *value* as what came out; the first call counts.

        Args:
            error: What it failed with, or None.
            value: What came out; ABSENT: not noted.
            attributes: Added to those that the span has.
        """
        if self.record.end is not None:
            return
        if value is not ABSENT:
            self._recorder.put_out(self.record, value)
        if attributes:
            add(self.record, attributes)
        self._recorder.finish(self.record, error, self.record.size)


class Hidden(Run):
    """Stands in for a run that is not to be traced, inside one that is."""

    __slots__ = ()

    def __init__(self, outer: Recorder) -> None:
        self._recorder = outer

    def __enter__(self) -> Run:
        self._watch = watching_instead(self._recorder, None)
        self._watch.__enter__()
        now = position.get()
        self._token = position.set(None)
        self._shown = None if now is None else hide(now[0], sampled=True)
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        token, watch = self._token, self._watch
        self._token = self._watch = None
        leave(self._shown)
        self._shown = None
        with suppress(ValueError, TypeError):  # left elsewhere than it was entered
            position.reset(token)  # type: ignore[arg-type]
        if watch is not None:
            with suppress(ValueError):
                watch.__exit__(None, None, None)

    def finish(self, error: BaseException | None, value: Any = None, **attributes: Any) -> None:
        """Note nothing."""


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
