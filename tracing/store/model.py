"""What a reader of the store gets: traces and span trees as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tracing.record import Failure


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One line of a list of traces."""

    trace_id: str
    """32 hex digits."""
    name: str
    outcome: str
    started_ns: int
    """Unix time in nanoseconds."""
    duration_ns: int | None
    """None while the trace runs."""
    spans: int
    """Number of records (nodes, flows, items, functions) stored so far."""
    failures: int = 0
    """Number of records among them that failed, timed out or were interrupted."""
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A phase of a span: prep, one attempt of exec, fallback, post, or a suspension."""

    span_id: str
    kind: str
    attempt: int
    """0-based, for exec."""
    start_ns: int
    end_ns: int | None
    outcome: str
    error: Failure | None = None
    wait: float | None = None
    """Seconds waited after it before the next attempt; None: there was no next attempt."""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A node of the trace's tree, with its children in order of start."""

    trace_id: str
    span_id: str
    """16 hex digits."""
    parent_id: str | None
    """Id of the span or of the phase it was opened in."""
    kind: str
    name: str
    index: int | None
    start_ns: int
    end_ns: int | None
    outcome: str
    """One of `record.OUTCOMES`, or running, or interrupted."""
    error: Failure | None = None
    input: bytes | None = None
    """JSON text."""
    output: bytes | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    phases: tuple[PhaseSpan, ...] = ()
    children: tuple[Span, ...] = ()

    @property
    def attempts(self) -> int:
        """Number of times exec was tried."""
        return sum(phase.kind == "exec" for phase in self.phases)

    @property
    def fell_back(self) -> bool:
        """Whether the fallback answered in place of exec."""
        return any(phase.kind == "fallback" for phase in self.phases)


@dataclass(frozen=True, slots=True)
class TraceTree:
    """A whole trace: its summary, and its root spans (one, unless the root was never stored)."""

    summary: TraceSummary
    roots: tuple[Span, ...]
    dropped: int = 0
    """Records the writing processes of this trace's store could not keep."""
