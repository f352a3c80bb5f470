"""The recorder: turns the engine's steps into records. The only module that knows the engine.

It runs on the event loop inside the user's tasks, so it only notes: ids, times, outcomes and
contents as JSON bytes. All else happens later, in the store's own thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from pocketflow_async.hooks import Hooks as Hooks  # named twice: others get it from here
from pocketflow_async.hooks import Kind as Kind
from pocketflow_async.hooks import Step as Step
from pocketflow_async.hooks import active as active
from pocketflow_async.hooks import observing, observing_instead
from tracing.context import Position, position, span_here
from tracing.encode import encode
from tracing.failure import describe, outcome_of, refuse
from tracing.ids import new_span_id
from tracing.names import LINKS, NODE, REASON
from tracing.otel.seam import above, leave, show
from tracing.propagation import propagated
from tracing.record import COMPLETED, SKIPPED, Phase, Record
from tracing.traces import add as add
from tracing.traces import hang as hang
from tracing.traces import inherit as inherit
from tracing.traces import new_trace as new_trace

if TYPE_CHECKING:
    from tracing.redact import Redactor

watching = observing
"""How a recorder is put to work: `with watching(recorder):`."""

watching_instead = observing_instead
"""How another takes its place, or nobody: `with watching_instead(recorder, None):`."""


class Sink(Protocol):
    """Takes records as they begin and end. Called on the event loop: must not block or raise."""

    def opened(self, record: Record, /) -> None:
        """Note that *record* has begun."""

    def closed(self, record: Record, /) -> None:
        """Take *record*, which changes no more."""

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more records."""


class Recorder:
    """An observer that notes every step in the trace of its context.

    It holds no state of any run, so any number of runs may share it.

    Args:
        sink: Where the records go.
        inputs: Whether contents going in are noted.
        outputs: Whether contents coming out are noted.
        limit: Largest size of one content, in bytes of JSON; longer ones are cut, still as JSON.
        route: Where the traces that begin with it are sent to; None: nowhere.
        errors: Whether errors are noted with more than their type; the sink sees to that.
        kept: Whether the store is one that keeps what it gets.
        redactor: What these settings alone take out; the sink sees to that. None: nothing.
    """

    __slots__ = ("errors", "inputs", "kept", "limit", "outputs", "redactor", "route", "sink")

    def __init__(
        self,
        sink: Sink,
        inputs: bool = True,
        outputs: bool = True,
        limit: int = 32_768,
        route: object = None,
        errors: bool = True,
        kept: bool = True,
        redactor: Redactor | None = None,
    ) -> None:
        self.sink = sink
        self.redactor = redactor
        self.errors = errors
        self.kept = kept
        self.route = route
        self.inputs = inputs
        self.outputs = outputs
        self.limit = limit

    def __call__(self, step: Step) -> _Phase | _Visit | _Same | None:
        """Return what notes *step* while it is entered; None if it is noted already."""
        kind = step.kind
        now = position.get()
        if kind in _PHASES:
            if now is None or (now[2] is not step.source and kind != "suspended"):
                return None  # a phase called by hand, outside any visit
            return _Phase(self, step, now)
        if kind in _RUNS and now is not None and now[1] < 0 and now[2] is step.source:
            if step.after is not None:
                _relate(now[0], self, step)
            if step.facts:
                add(now[0], dict(step.facts))
            return _Same(step)  # the run that `trace_flow` has opened for this very flow
        return _Visit(self, step, now)

    def outgoing(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return *headers* with the W3C trace context of the span we are in, and nothing else."""
        now = position.get()
        if now is None:
            return dict(headers)
        trace = now[0].trace
        ours = {"traceparent": f"00-{trace.trace_id:032x}-{span_here(now):016x}-01"}
        return {**headers, **ours, **({"tracestate": trace.state} if trace.state else {})}

    # What the user has noted by hand (`tracing.update`) stays: hence `is None`, here and below.

    def take_in(self, record: Record, value: Any) -> None:
        """Note *value* as what went into *record*."""
        if self.inputs and record.input is None:
            record.input = encode(value, self.limit)

    def put_out(self, record: Record, value: Any) -> None:
        """Note *value* as what came out of *record*."""
        if self.outputs and record.output is None:
            record.output = encode(value, self.limit)

    def contents(self, record: Record, step: Step) -> None:
        """Note what a phase has come to: exec's result and, for a node, prep's and post's."""
        kind = step.kind
        if kind == "fallback":
            if self.outputs and record.output is None:
                record.output = encode(step.result, self.limit)
        elif record.kind == "node":
            if kind == "prep":
                if self.inputs and record.input is None:
                    record.input = encode(step.result, self.limit)
            elif kind == "post" and step.result is not None:
                action = {"action": _action(step.result)}
                if record.attributes is None:  # at once: `add` would take a microsecond
                    record.attributes = action
                else:
                    add(record, action)

    def finish(
        self,
        record: Record,
        error: BaseException | None,
        more: int = 0,
        skipped: str | None = None,
    ) -> None:
        """End *record* and hand it over; its attributes hold about *more* bytes of content.

        Where nothing was done, *skipped* says why.
        """
        record.end = perf_counter_ns()
        if error is None:
            record.outcome = COMPLETED
            if skipped is not None:
                record.outcome = SKIPPED
                record.end = record.start
                add(record, {REASON: skipped})
        else:
            record.outcome = outcome_of(error)
            record.error = describe(error)
        record.size = len(record.input or b"") + len(record.output or b"") + more
        self.sink.closed(record)


_RUNS = frozenset(("flow", "workflow"))
_USES = frozenset(("policy", "resource"))
_GIVEN = frozenset(("item", "workflow", *_USES))
_PHASES = frozenset(("prep", "exec", "post", "fallback", "suspended"))


def narrowed(outer: Recorder, own: Recorder) -> Recorder:
    """Return what notes a run inside a run of *outer*: into its trace, and no more than both say.

    What a flow keeps to itself it keeps to itself there too.
    """
    inputs, outputs = outer.inputs and own.inputs, outer.outputs and own.outputs
    limit, errors, sink = min(outer.limit, own.limit), outer.errors and own.errors, outer.sink
    if own.redactor is None and (inputs, outputs, limit, errors) == (
        outer.inputs,
        outer.outputs,
        outer.limit,
        outer.errors,
    ):
        return outer
    if errors != outer.errors:
        from tracing.sinks import TypesOnly  # noqa: PLC0415 (it knows recorders; for those who ask)

        sink = TypesOnly(sink)
    if own.redactor is not None:
        from tracing.sinks import Redacting  # noqa: PLC0415 (likewise)

        sink = Redacting(sink, own.redactor)
    return Recorder(sink, inputs, outputs, limit, outer.route, errors, outer.kept, outer.redactor)


def at_work() -> Recorder | None:
    """Return the recorder that watches this context, or None."""
    hooks = active()
    if hooks is not None:
        for observer in hooks.observers:
            if isinstance(observer, Recorder):
                return observer
    return None


class _Phase(Phase):
    """Notes one phase, attempt or suspension of the record at work, and is the note."""

    # What is needed only until it ends; then it must keep nothing of the user's alive.
    _held: tuple[Recorder, Step, Position] | None
    _token: Token[Position | None] | None

    def __init__(self, recorder: Recorder, step: Step, now: Position) -> None:
        self.kind = step.kind
        self._held = (recorder, step, now)

    def __enter__(self) -> None:
        recorder, step, (record, _, source) = self._held  # type: ignore[misc]  # set until the exit
        phases = record.phases
        if step.attempt:
            self.attempt = step.attempt
        if self.kind == "post":
            if record.output is None and record.kind == "node":
                recorder.put_out(record, step.input)  # a batch: its exec is in the items
        elif self.kind == "suspended":
            self.note = step.name
        self._token = position.set((record, len(phases), source))
        phases.append(self)
        self.start = perf_counter_ns()

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end = perf_counter_ns()
        position.reset(self._token)  # type: ignore[arg-type]
        recorder, step, (record, _, _) = self._held  # type: ignore[misc]
        self._held = self._token = None
        if error is None:
            self.outcome = COMPLETED
            if self.kind == "exec":  # what `contents` does, without the call
                if recorder.outputs and record.output is None:
                    record.output = encode(step.result, recorder.limit)
            elif self.kind != "suspended":
                recorder.contents(record, step)
            return
        if step.refusal is error:
            refuse(error)
        self.wait = step.wait
        self.error = describe(error)
        self.outcome = outcome_of(error)


def _action(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool)) else f"<{type(value).__name__}>"


class _Visit(Record):
    """Notes one visit of a node, nested flow or batch item, and is the note."""

    _held: tuple[Recorder, Step] | None
    _token: Token[Position | None] | None
    _shown: Any = None

    def __init__(self, recorder: Recorder, step: Step, now: Position | None) -> None:
        if now is None:
            parent = above(None)
            self.trace = new_trace(step.name, route=recorder.route, parent=parent)
            self.parent_id = None
            if parent is not None:
                hang(self, parent)
        else:
            self.host = now[0]
            self.trace = now[0].trace
            self.parent_id = span_here(now)
            said = propagated.get()  # as `inherit`, without the call
            if said is not None and said is not self.trace.under:
                self.attributes = dict(said.attributes)
        self.span_id = new_span_id()
        self.kind = step.kind
        self.name = step.name
        self.phases = []
        if step.index is not None:
            self.index = step.index
        if step.after is not None:
            _relate(self, recorder, step)
        self._held = (recorder, step)

    def __enter__(self) -> None:
        recorder, step = self._held  # type: ignore[misc]  # set until the exit
        if step.kind != "node":
            self._enter(recorder, step)
        self._token = position.set((self, -1, step.source))
        self.start = perf_counter_ns()
        recorder.sink.opened(self)

    def _enter(self, recorder: Recorder, step: Step) -> None:
        now = position.get()
        if step.kind in _GIVEN or now is None:
            recorder.take_in(self, step.input)
        elif params := getattr(step.source, "params", None):
            recorder.take_in(self, params)  # `shared` is noted in the root, once
        if step.kind in _RUNS:
            if now is not None and (parent := above(now)) is not None:
                hang(self, parent)
            self._shown = show(self, recorder)

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        position.reset(self._token)  # type: ignore[arg-type]
        recorder, step = self._held  # type: ignore[misc]
        self._held = self._token = None
        if step.kind != "node":
            leave(self._shown)
            self._shown = None
            if step.kind in _USES:
                if step.result is not None and error is None:
                    recorder.put_out(self, step.result)
                if step.facts:
                    add(self, dict(step.facts))
            elif error is None:
                recorder.put_out(self, step.result)
        if error is not None and step.refusal is error:
            refuse(error)
        recorder.finish(self, error, skipped=step.skipped)


_MOST_LINKS = 128  # what OpenTelemetry allows a span, unless it is told otherwise


def _relate(record: Record, recorder: Recorder, step: Step) -> None:
    """Note the facts of *step* and the steps that it comes after, as links; and its own place."""
    own = {"trace_id": f"{record.trace.trace_id:032x}", "span_id": f"{record.span_id:016x}"}
    step.seen = {**(step.seen or {}), recorder: {**own, "attributes": {NODE: record.name}}}
    if step.facts:
        add(record, dict(step.facts))
    befores = [other.seen or {} for other in step.after or ()]
    links = [seen[recorder] for seen in befores if recorder in seen]
    if links:
        add(record, {LINKS: links[:_MOST_LINKS]})


class _Same:
    """Stands for a step that has its span already; passes on only that a gate refused it."""

    __slots__ = ("_step",)

    def __init__(self, step: Step) -> None:
        self._step = step

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._step.refusal is error:
            refuse(error)
