"""How a hand-made span begins and ends: its run, and what a status or an error means for it."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from tracing.context import position
from tracing.record import Record
from tracing.recorder import Recorder, at_work
from tracing.run import Run, Untraced
from tracing.settings import Settings

_CANCELLED: Final = frozenset(("cancelled", "canceled"))
_TIMED_OUT: Final = frozenset(("timeout", "timed_out"))
_FAILED: Final = frozenset(("error", "failed", "failure"))


class CurrentTrace(NamedTuple):
    """The trace that a context is in."""

    id: str
    name: str


def trace_hex(record: Record) -> str:
    """Return the id of the trace of *record*, as 32 hex digits."""
    return f"{record.trace.trace_id:032x}"


def open_run(
    settings: Settings, kind: str, name: str, value: Any
) -> tuple[Run | None, Recorder | None]:
    """Open a span at the present position.

    Returns:
        The span, or None where tracing is off; and what notes the steps inside.
    """
    working = None if position.get() is None else at_work()
    if working is not None:  # so that a trace stays in one store, whoever adds to it
        return Run(working, kind, name, None, value), working
    run = settings.start(kind, name, None, value)
    if isinstance(run, Untraced):
        return None, None
    if run.record.name != name:  # the settings of a flow name its traces, not those made by hand
        run.record.name = name
        if run.record.host is None:  # its parent, if it has one, is not in our store
            run.record.trace.name = name
    return run, settings.recorder()


def error_for(status: str) -> BaseException | None:
    """Return what a trace that ended with *status* ended by."""
    said = str(getattr(status, "value", status)).lower()
    words = f"ended with status {said!r}"
    if said in _CANCELLED:
        return asyncio.CancelledError(words)
    if said in _TIMED_OUT:
        return TimeoutError(words)
    return Exception(words) if said in _FAILED else None


def failure(error: Any) -> BaseException | None:
    """Return *error* as an exception, None if there was none; an empty one is one too."""
    if isinstance(error, BaseException):
        return error
    return Exception(str(error)) if error else None
