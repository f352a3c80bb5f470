"""Where in which trace we are: one immutable value in one ContextVar.

Tasks and `asyncio.to_thread` inherit it. A thread or executor that you start yourself does not;
`carry` takes it along.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeAlias, TypeVar

from tracing.record import Record, phase_id

P = ParamSpec("P")
T = TypeVar("T")

# The record at work; the number of its phase at work, or -1 between phases; the object it is about.
# A plain tuple, since one is made for every phase of every node.
Position: TypeAlias = tuple[Record, int, object]

position: ContextVar[Position | None] = ContextVar("pocketflow_trace_position", default=None)


class SpanContext(NamedTuple):
    """The ids of the span we are in, as W3C Trace Context writes them."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""


def span_here(now: Position) -> int:
    """Return the id of the span that whatever starts at *now* has as its parent."""
    record, phase, _ = now
    return record.span_id if phase < 0 else phase_id(record.span_id, phase)


def current_span() -> SpanContext | None:
    """Return the ids of the span we are in, or None outside every traced run."""
    now = position.get()
    if now is None:
        return None
    return SpanContext(f"{now[0].trace.trace_id:032x}", f"{span_here(now):016x}")


def carry(call: Callable[P, T]) -> Callable[P, T]:
    """Return *call* bound to the present context, for threads and executors started by hand.

    `executor.submit(carry(work), item)` runs `work(item)` in the trace it was submitted from. Each
    call runs in a copy of that context, so it may be called several times and at once.
    """
    context = copy_context()

    @wraps(call)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(call, *args, **kwargs)

    return carried
