"""Tracing by hand with the calls of pocketflow_tracing: `LangfuseTracer` and `AsyncTraceContext`.

For a block of code `tracing.span` is the shorter way. Here one call begins and another ends, so the
tracer keeps what is open. What is current, it does not keep: that belongs to each context.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from typing import TYPE_CHECKING, Any

from tracing.recorder import add
from tracing.run import ABSENT
from tracing.settings import Settings
from tracing.tracer_context import AsyncTraceContext
from tracing.tracer_delegates import Delegates
from tracing.tracer_runs import CurrentTrace, error_for, failure, open_run, trace_hex
from tracing.tracer_spans import ByHand, Here, SpanId, at, here, prune, runner, settled

if TYPE_CHECKING:
    from tracing.async_composition import AsyncFlowCompositionManager
    from tracing.async_error_handling import AsyncErrorHandler
    from tracing.async_lifecycle import AsyncLifecycleManager
    from tracing.config import TracingConfig
    from tracing.lifecycle_ring import LifecycleRing

__all__ = ["AsyncTraceContext", "LangfuseTracer"]

logger = logging.getLogger(__name__)

_FLUSH = 5.0  # seconds


def __getattr__(name: str) -> Any:
    if name == "LANGFUSE_AVAILABLE":  # looked for when asked: the search reads folders
        return importlib.util.find_spec("langfuse") is not None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class LangfuseTracer(Delegates):
    """Traces by hand, as many at once as you like; they go to the local store, without any keys.

    Traces and node spans begin and end by separate calls, in the same task or in different ones. A
    trace is current in the context that has started it, and in the tasks and threads made there.
    Nothing here raises because of tracing, and nothing blocks but `flush`.

    Args:
        config: Settings; None for those of the environment.

    Attributes:
        config: The settings in force.
        client: None: nothing is sent from here.
        lifecycle_manager: The manager of lifecycles, once it was asked for.
        composition_manager: The manager of compositions, once it was asked for.
        error_handler: The handler of errors, once it was asked for.
    """

    def __init__(
        self, config: TracingConfig | None = None, *, _settings: Settings | None = None
    ) -> None:
        self._settings = _settings or Settings(config)
        self.config: TracingConfig = self._settings.effective() if config is None else config
        self.client: None = None
        self.lifecycle_manager: AsyncLifecycleManager | None = None
        self.composition_manager: AsyncFlowCompositionManager | None = None
        self.error_handler: AsyncErrorHandler | None = None
        self._traces: dict[str, ByHand] = {}
        self._spans: dict[int, ByHand] = {}

    @property
    def ring(self) -> LifecycleRing | None:
        """Where the lifecycles of recent node runs are; None where they are not kept."""
        return self._settings.ring

    @property
    def current_trace(self) -> CurrentTrace | None:
        """The trace that this context is in, or None."""
        span = self._trace_here()
        if span is not None:
            return CurrentTrace(span.id, span.name)
        now = settled()
        return None if now is None else CurrentTrace(trace_hex(now[0]), now[0].trace.name)

    @property
    def spans(self) -> dict[str, ByHand]:
        """The open node spans of the trace that this context is in, by id."""
        now = settled()
        span = self._trace_here()
        record = span.record if span is not None else None if now is None else now[0]
        return {
            part.id: part
            for part in list(self._spans.values())
            if record is not None and part.record.trace is record.trace
        }

    @property
    def async_contexts(self) -> set[AsyncTraceContext]:
        """The contexts of this tracer's open traces, all of them."""
        return {context for span in list(self._traces.values()) for context in span.contexts}

    def start_trace(self, flow_name: str, input_data: Any = None) -> str | None:
        """Start a trace, or inside a current one a span of it, and make it current.

        Args:
            flow_name: Its name.
            input_data: What goes in.

        Returns:
            Its id, or None where tracing is off.
        """
        span = self._open_trace(flow_name, input_data)
        if span is None:
            return None
        span.hold()
        return span.id

    async def start_trace_async(
        self, flow_name: str, input_data: Any = None
    ) -> AsyncTraceContext | None:
        """Start a trace, or inside a current one a span of it; it is current where it is entered.

        Returns:
            The context to enter, with `with` or `async with`, by as many tasks as need it; None
            where tracing is off. `end_trace` ends the trace.
        """
        span = self._open_trace(flow_name, input_data)
        return None if span is None else self._context(span, flow_name)

    def create_async_context(
        self, flow_name: str, trace_id: str | None = None
    ) -> AsyncTraceContext:
        """Return a context to enter, of an open trace.

        Args:
            flow_name: Name of the flow that runs in it.
            trace_id: Which trace; the current one when left out.

        Raises:
            ValueError: No id is given and no trace is current.
        """
        if trace_id is None:
            current = self.current_trace
            if current is None:
                raise ValueError("No active trace found and no trace_id provided")
            trace_id = current.id
        span = self._traces.get(trace_id)
        return (
            AsyncTraceContext(self, trace_id, flow_name)
            if span is None
            else self._context(span, flow_name)
        )

    def end_trace(
        self, output_data: Any = None, status: str = "success", *, trace_id: str | None = None
    ) -> None:
        """End a trace, with all hand-made spans in it that are still open.

        Args:
            output_data: What came out.
            status: How it ended: success, error, cancelled, timeout, or a word of your own.
            trace_id: Which trace; the innermost of this context when left out.
        """
        span = self._trace_here() if trace_id is None else self._traces.get(trace_id)
        if span is None:
            logger.debug("there is no open trace to end here (trace_id %s)", trace_id)
            return
        add(span.record, {"status": status})
        span.end(error_for(status), output_data)
        prune()
        logger.debug("ended the trace %s: %s", span.id, status)

    def start_node_span(self, node_name: str, node_id: str, phase: str) -> str | None:
        """Open a span in the current trace.

        Args:
            node_name: Name of the node.
            node_id: Which node it is.
            phase: prep, exec, post, or a word of your own.

        Returns:
            Its id, `{node_id}_{phase}`, for `end_node_span`; None outside of any trace. Give back
            the very object: it knows its span, even if several have the same text.
        """
        phase = str(getattr(phase, "value", phase))
        what = {"node_type": node_name, "node_id": node_id, "phase": phase}
        span = self._open("span", f"{node_name}.{phase}", what)
        if span is None:
            return None
        name = SpanId(f"{node_id}_{phase}")
        name.span = span
        span.id = str(name)
        self._spans[span.record.span_id] = span
        return name

    def end_node_span(
        self,
        span_id: str | None,
        input_data: Any = None,
        output_data: Any = None,
        error: Any = None,
    ) -> None:
        """End a span; one that is unknown, or has ended, changes nothing.

        Args:
            span_id: What `start_node_span` gave.
            input_data: What went in.
            output_data: What came out.
            error: The exception it failed with.
        """
        span = self._span_of(span_id)
        if span is None or span.ended:
            logger.debug("there is no open span %r to end here", span_id)
            return
        if input_data is not None and span.recorder is not None:
            span.recorder.take_in(span.record, input_data)
        failed = failure(error)
        add(span.record, {"level": "DEFAULT" if failed is None else "ERROR"})
        span.end(failed, ABSENT if output_data is None else output_data)

    async def start_node_span_async(self, node_name: str, node_id: str, phase: str) -> str | None:
        """Do what `start_node_span` does."""
        return self.start_node_span(node_name, node_id, phase)

    async def end_node_span_async(
        self,
        span_id: str | None,
        input_data: Any = None,
        output_data: Any = None,
        error: Any = None,
    ) -> None:
        """Do what `end_node_span` does."""
        self.end_node_span(span_id, input_data, output_data, error)

    def flush(self) -> None:
        """Wait until what has ended is stored; block for at most 5 seconds.

        Nothing needs it but a look into the store. In a coroutine use `flush_async`.
        """
        from tracing.flushing import flush  # noqa: PLC0415 (with SQLite)

        flush(_FLUSH)

    async def flush_async(self) -> None:
        """Do what `flush` does without blocking the event loop.

        When this is cancelled, writing goes on in the background.
        """
        from tracing.flushing import aflush  # noqa: PLC0415 (with SQLite)

        await aflush(_FLUSH)

    def get_composition_manager(self) -> AsyncFlowCompositionManager:
        """Return the compositions of this tracer."""
        if self.composition_manager is None:
            from tracing.async_composition import (  # noqa: PLC0415 (if used)
                AsyncFlowCompositionManager,
            )

            self.composition_manager = AsyncFlowCompositionManager(self)
        return self.composition_manager

    def get_active_async_contexts(self) -> set[AsyncTraceContext]:
        """Return the contexts of this tracer's open traces."""
        return self.async_contexts

    def has_active_async_context(self) -> bool:
        """Return whether there is a context of an open trace."""
        return bool(self.async_contexts)

    def _context(self, span: ByHand, flow_name: str) -> AsyncTraceContext:
        context = AsyncTraceContext(self, span.id, flow_name)
        span.contexts.append(context)
        return context

    def _open_trace(self, flow_name: str, input_data: Any) -> ByHand | None:
        nested = settled() is not None
        what = {"trace_type": "sub_flow_execution" if nested else "flow_execution"}
        span = self._open("flow", flow_name, what, input_data, root=True)
        if span is None:
            return None
        if span.record.host is None:  # its parent, if it has one, is not in our store
            span.id = trace_hex(span.record)
        self._traces[span.id] = span
        here.set(Here(span, None, prune()))
        return span

    def _open(
        self,
        kind: str,
        name: str,
        attributes: dict[str, Any],
        value: Any = ABSENT,
        *,
        root: bool = False,
        within: ByHand | None = None,
    ) -> ByHand | None:
        """Open a span at the present position, or where that is outside, in the present trace.

        Args:
            kind: What it is.
            name: Its name.
            attributes: Facts about it.
            value: What goes in.
            root: Whether it may begin a trace; else there is none outside of any trace.
            within: The span it belongs in, wherever we are.
        """
        trace = self._trace_here()
        now = settled() if within is None else within.place
        if now is None and not root:
            trace = trace or self._only_trace(name, attributes)
            if trace is None:
                logger.debug("%s is not traced: there is no trace here", name)
                return None
        if trace is not None and not root and trace.before is now:
            now = trace.place  # it has been started here, and not been entered
        owner = None if now is None else trace
        if now is not None and isinstance(now[2], ByHand):
            owner = now[2]
        with at(now):
            run, recorder = open_run(self._settings, kind, name, value)
            if run is None:
                return None
        span = ByHand(run, recorder, self, owner, now)
        if span.recorder is not None:
            add(span.record, attributes)
        return span

    def _forget(self, span: ByHand) -> None:
        """Let go of a span that has ended."""
        self._spans.pop(span.record.span_id, None)
        self._traces.pop(span.id, None)

    def _trace_here(self) -> ByHand | None:
        """Return this tracer's innermost open trace of this context."""
        top = here.get()
        if top is None:
            return None
        node: Here | None = top
        while node is not None:
            span = node.span
            if span is not None and not span.ended and span.tracer is self and not node.own:
                return span
            node = node.before
        return None

    def _only_trace(self, name: str, attributes: dict[str, Any]) -> ByHand | None:
        """Return the one open trace, where the context was lost on the way, as in a bare thread."""
        if here.get() is not None:
            return None  # it is not lost: the trace of this context has ended
        if threading.current_thread() is not threading.main_thread():
            self.get_error_handler().context_lost(f"the span {name}")
        if len(self._traces) != 1:
            return None
        attributes["flow.context_lost"] = True
        return next(iter(self._traces.values()), None)

    def _span_of(self, span_id: str | None) -> ByHand | None:
        if isinstance(span_id, SpanId):
            return span_id.span
        found = [span for span in list(self._spans.values()) if span.id == span_id]
        now = settled()
        trace = self._trace_here()
        record = now[0] if now is not None else None if trace is None else trace.record
        if record is not None:
            found = [span for span in found if span.record.trace is record.trace]
        elif len(found) > 1 or here.get() is not None:
            return None  # we are in no trace, and could only guess
        mine = [span for span in found if span.opened_by == runner()]
        found = mine or found
        return found[-1] if found else None
