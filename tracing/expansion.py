"""A stored tree as the flat spans that others are to see: one for each record and each phase.

Pure. Ids are those fixed when the run began, so a span opened by hand or by another library inside
a phase has its parent here too; where a phase is no span, its children move to the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tracing.config import TracingConfig
from tracing.record import Failure
from tracing.store.model import PhaseSpan, Span, TraceTree


@dataclass(frozen=True, slots=True)
class FlatSpan:
    """One span of a trace; ids are hex digits, times Unix nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str | None
    kind: str
    name: str
    start_ns: int
    end_ns: int | None
    outcome: str
    error: Failure | None = None
    input: bytes | None = None
    output: bytes | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def expand(tree: TraceTree, config: TracingConfig) -> list[FlatSpan]:
    """Return the spans of *tree*, parents before children.

    Args:
        tree: A trace as the store has it.
        config: Says which phases are spans of their own: all of them with `detail="phases"` but
            those switched off by `trace_prep`, `trace_exec` (attempts and fallback) and
            `trace_post`; none with `detail="nodes"`.
    """
    shown = _shown(config)
    return [span for root in tree.roots for span in _spans(root, root.parent_id, shown)]


def _shown(config: TracingConfig) -> frozenset[str]:
    if config.detail == "nodes":
        return frozenset()
    switches = {
        "prep": config.trace_prep,
        "exec": config.trace_exec,
        "fallback": config.trace_exec,
        "suspended": config.trace_exec,
        "post": config.trace_post,
    }
    return frozenset(kind for kind, on in switches.items() if on)


def _spans(span: Span, parent: str | None, shown: frozenset[str]) -> Iterator[FlatSpan]:
    yield FlatSpan(
        span.trace_id,
        span.span_id,
        parent,
        span.kind,
        span.name,
        span.start_ns,
        span.end_ns,
        span.outcome,
        span.error,
        span.input,
        span.output,
        dict(span.attributes),
    )
    own = {phase.span_id for phase in span.phases if phase.kind in shown}
    for phase in span.phases:
        if phase.span_id in own:
            yield _phase(span, phase)
    for child in span.children:
        above = child.parent_id if child.parent_id in own else span.span_id
        yield from _spans(child, above, shown)


def _phase(span: Span, phase: PhaseSpan) -> FlatSpan:
    attributes: dict[str, Any] = {}
    if phase.kind == "exec":
        attributes["flow.attempt"] = phase.attempt + 1
    if phase.wait is not None:
        attributes["flow.wait_seconds"] = phase.wait
    if phase.note is not None:
        attributes["flow.reason"] = phase.note
    return FlatSpan(
        span.trace_id,
        phase.span_id,
        span.span_id,
        phase.kind,
        f"{span.name}.{phase.kind}",
        phase.start_ns,
        phase.end_ns,
        phase.outcome,
        phase.error,
        attributes=attributes,
    )
