"""How long things took, and why: run time apart from queues, waits and suspensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from tracing.lifecycle_ring import LifecycleRing
from tracing.performance_monitor import Block, Monitor

if TYPE_CHECKING:
    from tracing.store.model import Span, TraceTree

__all__ = [
    "Block",
    "Monitor",
    "Report",
    "Timings",
    "Work",
    "install",
    "report",
    "timings",
]


class Timings(NamedTuple):
    """Where the time of a span went, in seconds; the first four make up the last."""

    queued: float
    """From the moment its batch began with its items until it began itself; 0 elsewhere."""
    waited: float
    """Between a failed attempt and the next."""
    suspended: float
    """In blocks of `suspended(...)`."""
    running: float
    """The rest: its own work, and that of what is inside it."""
    total: float


class Work(NamedTuple):
    """One node or item of a batch in a report."""

    path: str
    """Names from the root down."""
    timings: Timings
    outcome: str
    attempts: int
    slow: bool
    """Whether it ran longer than the threshold that was in force."""
    span: Span


@dataclass(frozen=True, slots=True)
class Report:
    """The nodes of a trace, the slowest first; `str()` makes a table of it."""

    work: tuple[Work, ...]

    def __str__(self) -> str:
        """Return the table as text, in seconds."""
        head = f"{'running':>9} {'queued':>9} {'waited':>9} {'suspended':>9}  node"
        lines = [
            f"{t.running:>9.3f} {t.queued:>9.3f} {t.waited:>9.3f} {t.suspended:>9.3f}  {row.path}"
            + (" (slow)" if row.slow else "")
            for row in self.work
            for t in (row.timings,)
        ]
        return "\n".join([head, *lines])


def timings(span: Span, batch: Span | None = None) -> Timings:
    """Return where the time of *span* went. Of one not ended: until its last known moment.

    Args:
        span: A span as the store gives it.
        batch: The batch that an item is in; without it the item was never queued.
    """
    end = _end(span)
    queued = waited = 0
    if batch is not None and span.kind == "item":
        queued = max(0, span.start_ns - _begun(batch))
    work = [phase for phase in span.phases if phase.kind != "suspended"]
    for phase, following in zip_longest(work, work[1:]):
        if phase.wait is not None and phase.end_ns is not None:
            waited += (end if following is None else following.start_ns) - phase.end_ns
    suspended = _suspended(span, end)
    running = max(0, end - span.start_ns - waited - suspended)
    total = queued + waited + suspended + running
    return Timings(queued / 1e9, waited / 1e9, suspended / 1e9, running / 1e9, total / 1e9)


def report(trace: TraceTree | Span, most: int | None = 10) -> Report:
    """Return the nodes and batch items of a trace, those that ran longest first.

    Args:
        trace: A trace as the store gives it, or a part of one.
        most: How many to return; None: all.
    """
    trace = getattr(trace, "stored", trace)  # what the test kit shows of one
    roots = getattr(trace, "roots", None)
    spans: tuple[Any, ...] = (trace,) if roots is None else roots
    rows = [row for root in spans for row in _rows(root)]
    rows.sort(key=lambda row: -row.timings.running)
    return Report(tuple(rows[:most]))


def install(ring: LifecycleRing, config: Any) -> Monitor:
    """Return the monitor of *ring*, made by the thresholds of *config* if there is none yet."""
    found = ring.listener(Monitor)
    if found is None:
        found = Monitor(config.slow_node_seconds, config.block_threshold_seconds)
        ring.listen(found)
    return found


def _rows(root: Span) -> Iterator[Work]:
    stack: list[tuple[Span, Span | None, str]] = [(root, None, "")]
    while stack:
        span, parent, above = stack.pop()
        name = span.name if span.index is None else f"{span.name}[{span.index}]"
        path = f"{above} > {name}" if above else name
        if span.kind == "node" or (span.kind == "item" and span.phases):
            slow = "flow.slow" in span.attributes
            spent = timings(span, parent)
            yield Work(path, spent, span.outcome, span.attempts, slow, span)
        stack.extend((child, span, path) for child in reversed(span.children))


def _begun(batch: Span) -> int:
    """Return when *batch* began with its items: when its prep had ended."""
    preps = [phase.end_ns for phase in batch.phases if phase.kind == "prep"]
    return next((end for end in preps if end is not None), batch.start_ns)


def _end(span: Span) -> int:
    if span.end_ns is not None:
        return span.end_ns
    moments = [span.start_ns]
    for phase in span.phases:
        moments += [phase.start_ns, phase.end_ns or 0]
    for child in span.children:
        moments += [child.start_ns, child.end_ns or 0]
    return max(moments)


def _suspended(span: Span, end: int) -> int:
    """Return how long *span* was suspended, in nanoseconds; overlapping times count once."""
    total = 0
    until = 0
    for phase in span.phases:
        if phase.kind == "suspended":
            begin, stop = max(phase.start_ns, until), phase.end_ns or end
            total += max(0, stop - begin)
            until = max(until, stop)
    return total
