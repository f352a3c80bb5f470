"""What a reader of the store gets: traces and span trees as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracing import names
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
    """Number of records (nodes, flows, items, functions, spans, events, scores) stored so far."""
    failures: int = 0
    """Number of records among them that failed, timed out or were interrupted."""
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """What all spans of one trace have in common."""

    trace_id: str
    """32 hex digits."""
    name: str
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


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
class Event:
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int
    """Unix time in nanoseconds."""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement of a span or a trace."""

    score_id: str
    """16 hex digits."""
    name: str
    value: float | bool | str
    comment: str | None
    at_ns: int
    """Unix time in nanoseconds."""
    span_id: str | None = None
    """The span that it is about; None: the whole trace."""


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
    events: tuple[Event, ...] = ()
    """In order of time."""
    scores: tuple[Score, ...] = ()
    """In order of time."""

    @property
    def model(self) -> str | None:
        """Name of the model that answered, or else of the one that was asked."""
        return self.attributes.get(names.ANSWERED) or self.attributes.get(names.MODEL)

    @property
    def usage(self) -> dict[str, Any]:
        """What was used up, by name: `input_tokens`, `output_tokens`, `total_tokens`, others."""
        return {
            name.removeprefix(names.USAGE): value
            for name, value in self.attributes.items()
            if name.startswith(names.USAGE)
        }

    @property
    def cost(self) -> float | None:
        """Whole cost in US dollars."""
        return self.attributes.get(names.COST)

    @property
    def first_token_ns(self) -> int | None:
        """Nanoseconds from the start to the first piece of the answer."""
        return self.attributes.get(names.FIRST_TOKEN)

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
    scores: tuple[Score, ...] = ()
    """Those of the whole trace, and of spans that were never stored; not among the roots."""

    def __post_init__(self) -> None:
        loose = tuple(score(root) for root in self.roots if root.kind == names.SCORE)
        if loose:
            spans = tuple(root for root in self.roots if root.kind != names.SCORE)
            object.__setattr__(self, "roots", spans)
            object.__setattr__(self, "scores", (*self.scores, *loose))


def event(moment: Span) -> Event:
    """Return the event that the record *moment* stands for."""
    return Event(moment.name, moment.start_ns, moment.attributes)


def score(moment: Span) -> Score:
    """Return the score that the record *moment* stands for."""
    about = moment.parent_id if int(moment.parent_id or "0", 16) else None
    value, comment = moment.attributes.get(names.VALUE, ""), moment.attributes.get(names.COMMENT)
    return Score(moment.span_id, moment.name, value, comment, moment.start_ns, about)
