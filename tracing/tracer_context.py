"""`AsyncTraceContext`: being in a trace for as long as a block lasts."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING

from tracing.context import position
from tracing.tracer_runs import trace_hex
from tracing.tracer_spans import ByHand, Here, Hold, here, prune, settled

if TYPE_CHECKING:
    from tracing.core import LangfuseTracer

logger = logging.getLogger(__name__)


class AsyncTraceContext:
    """Being in a trace: enter it with `with` or `async with`, here or in any task or thread.

    May be entered by several at once, and again; leaving brings back what was current before. An
    id that its tracer does not know becomes a span of its own for as long as the block lasts.

    Args:
        tracer: The tracer.
        trace_id: Id of one of its traces.
        flow_name: Name of the flow that runs in it.
    """

    def __init__(self, tracer: LangfuseTracer, trace_id: str, flow_name: str) -> None:
        self.tracer = tracer
        self.trace_id = trace_id
        self.flow_name = flow_name
        self.task_id: int | None = None
        """Id of the task that entered it last."""

    @property
    def spans(self) -> dict[str, ByHand]:
        """The open node spans of the trace, by id."""
        return {
            span.id: span
            for span in list(self.tracer._spans.values())
            if self.trace_id in (trace_hex(span.record), span.owner and span.owner.id)
        }

    def __enter__(self) -> AsyncTraceContext:
        self.task_id = _task_id()
        span, own = self.tracer._traces.get(self.trace_id), False
        now = settled()
        if span is None and (now is None or trace_hex(now[0]) != self.trace_id):
            what = {"flow.trace_id": self.trace_id}
            span, own = self.tracer._open("flow", self.flow_name, what, root=True), True
        values = [] if span is None else span.values()
        hold = Hold(values)
        node = Here(span, self, prune(), hold, own)
        here.set(node)
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        node = here.get()
        while node is not None and node.context is not self:
            node = node.before
        if node is None or node.hold is None:
            logger.debug("the context of %s is left where it was not entered", self.flow_name)
            return
        if node.own and node.span is not None:
            node.span.end(error)
        node.hold.let_go(whatever=True)
        here.set(_left(node))

    async def __aenter__(self) -> AsyncTraceContext:
        return self.__enter__()

    async def __aexit__(
        self,
        cls: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.__exit__(cls, error, trace)

    @classmethod
    def get_current_context(cls) -> AsyncTraceContext | None:
        """Return the context we are in, also inside a traced flow; None outside of any trace."""
        node = here.get()
        while node is not None and node.context is None:
            node = node.before
        entered = None if node is None else node.context
        now = position.get()
        if now is None:
            return entered
        if node is not None and node.span is not None and node.span.record.trace is now[0].trace:
            return entered
        record = now[0]
        name = record.name if record.kind == "flow" else record.trace.name
        return cls(_anybody(), trace_hex(record), name)


def _left(node: Here) -> Here | None:
    """Return what is here after *node* was left: an open trace can still be ended from here."""
    before = node.before
    while before is not None and before.span is not node.span:
        before = before.before
    if node.own or before is not None or node.span is None or node.span.ended:
        return node.before
    return Here(node.span, None, node.before)


_shared: list[LangfuseTracer] = []


def _anybody() -> LangfuseTracer:
    """Return a tracer for the contexts of traces that no tracer has started.

    Which one is all the same: inside a trace it is the recorder at work that notes.
    """
    if not _shared:
        from tracing.core import LangfuseTracer  # noqa: PLC0415 (which imports this module)

        _shared.append(LangfuseTracer(None))
    return _shared[0]


def _task_id() -> int | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else id(task)
