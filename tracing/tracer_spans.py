"""Spans that one call opens and another ends, from whichever task or thread; see `tracing.core`.

Nothing here is kept per tracer: what is current is what a context holds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar, Token, copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tracing.context import Position, position
from tracing.encode import encode
from tracing.record import Record
from tracing.recorder import Recorder, add, at_work, watching
from tracing.run import ABSENT, Run
from tracing.sampling import is_left_out

if TYPE_CHECKING:
    from tracing.core import AsyncTraceContext, LangfuseTracer


class SpanId(str):
    """The id of a hand-made span: the text of the contract, and which span it was given for.

    Several spans of one trace may have the same text, as one node may run many times at once.
    """

    __slots__ = ("span",)
    span: ByHand

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class Hold:
    """What was set in a context for as long as a span is current there."""

    __slots__ = ("_set",)

    def __init__(self, values: Iterable[tuple[ContextVar[Any], Any]]) -> None:
        self._set = [(variable, value, variable.set(value)) for variable, value in values]

    def let_go(self, whatever: bool = False) -> bool:
        """Bring back what was there before; return whether this is the context it was set in.

        Args:
            whatever: Do so even where something else has been set on top of it meanwhile.
        """
        home = True
        for variable, value, token in reversed(self._set):
            mine = variable.get(None) is value
            if not mine and not whatever:
                home = False
                continue
            try:
                variable.reset(token)
            except (ValueError, RuntimeError):  # set in another context, or let go already
                home = False
                if mine:
                    variable.set(_before(token))
        return home


def _before(token: Token[Any]) -> Any:
    return None if token.old_value is Token.MISSING else token.old_value


class ByHand:
    """An open span, until `end` is called.

    Args:
        run: The span itself.
        recorder: What notes the steps inside; None in a trace that is left out.
        tracer: Whose it is.
        owner: The hand-made span whose end ends this one too.
        before: The position it was opened in.
    """

    __slots__ = (
        "__weakref__",
        "_hold",
        "_run",
        "before",
        "contexts",
        "ended",
        "id",
        "opened_by",
        "owner",
        "parts",
        "record",
        "recorder",
        "tracer",
    )

    def __init__(
        self,
        run: Run,
        recorder: Recorder | None,
        tracer: LangfuseTracer,
        owner: ByHand | None,
        before: Position | None,
    ) -> None:
        self.record: Record = run.record
        self.recorder = None if is_left_out(self.place) else recorder
        self.tracer = tracer
        self.owner = owner
        self.before = before
        self.id: str = f"{run.record.span_id:016x}"
        """What the caller knows it by."""
        self.parts: dict[int, ByHand] = {}
        """The hand-made spans inside that are still open."""
        self.contexts: list[AsyncTraceContext] = []
        self.ended = False
        self.opened_by = runner()
        self._run: Run | None = run
        self._hold: Hold | None = None
        if owner is not None:
            owner.parts[run.record.span_id] = self

    def __repr__(self) -> str:
        """Name it, and whether it is open."""
        return f"<{'ended' if self.ended else 'open'} span {self.name} {self.id}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def place(self) -> Position:
        """The position of what runs directly inside."""
        return (self.record, -1, self)

    def hold(self) -> None:
        """Make it current in this context until it ends."""
        self._hold = Hold(self.values())

    def values(self) -> list[tuple[ContextVar[Any], Any]]:
        """Return what must be set in a context for this span to be current there."""
        watched = [] if at_work() is not None else watch_values(self.recorder)
        return [(position, self.place), *watched]

    def end(
        self, error: BaseException | None = None, value: Any = ABSENT, unfinished: bool = False
    ) -> bool:
        """End it with whatever is open inside; return False if it has ended already.

        Args:
            error: How it failed.
            value: What came out.
            unfinished: Whether nobody has ended it, so that it ends with what is around it.
        """
        run = self._run
        if self.ended or run is None:
            return False
        self.ended = True
        for part in list(self.parts.values()):
            part.end(error, unfinished=True)
        if unfinished:
            add(self.record, {"flow.unfinished": True})
        run.finish(error, value)
        self._forget()
        return True

    def leave(self) -> None:
        """Be current in this context no more, if it still is."""
        if self._hold is not None:
            self._hold.let_go()

    def _forget(self) -> None:
        if self.owner is not None:
            self.owner.parts.pop(self.record.span_id, None)
        if self._hold is not None and self._hold.let_go():
            self._hold = None
        self._run = self.owner = None
        self.contexts.clear()
        self.tracer._forget(self)


class Here(NamedTuple):
    """A trace that was opened, or a context that was entered, and what was so before."""

    span: ByHand | None
    context: AsyncTraceContext | None
    before: Here | None
    hold: Hold | None = None
    own: bool = False
    """Whether the span is there for this entry only."""


here: ContextVar[Here | None] = ContextVar("pocketflow_trace_here", default=None)

NOTHING = Here(None, None, None)
"""Stands where a trace was and has ended: who had one of his own is never given another's."""


def settled() -> Position | None:
    """Return the current position, and leave hand-made spans that were ended somewhere else."""
    now = position.get()
    while now is not None and isinstance(now[2], ByHand) and now[2].ended:
        now[2].leave()
        if position.get() is now:
            position.set(now[2].before)
        now = position.get()
    return now


def prune() -> Here | None:
    """Forget traces that have ended, on top of the present context; return what is left."""
    top = here.get()
    left = top
    while left is not None and left.context is None and (left.span is None or left.span.ended):
        left = left.before
    if left is not top:
        here.set(NOTHING if left is None else left)
    return left


@contextmanager
def at(place: Position | None) -> Generator[None, None, None]:
    """Make *place* the position inside."""
    token = position.set(place)
    try:
        yield
    finally:
        position.reset(token)


def watch_values(recorder: Recorder | None) -> list[tuple[ContextVar[Any], Any]]:
    """Return what must be set in this context for *recorder* to see the steps in it.

    Found by entering `watching` in a copy of the context, since there is no block here that could
    be left again: a generator that is never left would be ended by the garbage collector, in a
    context of its choice.
    """
    if recorder is None:
        return []
    copy = copy_context()
    manager = watching(recorder)
    copy.run(manager.__enter__)
    values = [
        (variable, value) for variable, value in copy.items() if variable.get(None) is not value
    ]
    copy.run(manager.__exit__, None, None, None)
    return values


def runner() -> int:
    """Return a number for the task at work, or the thread outside of tasks."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident() if task is None else id(task)


def snapshot(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return *metadata* as plain data, as it is now."""
    found = orjson.loads(encode(metadata))
    return found if isinstance(found, dict) else {"metadata": found}
