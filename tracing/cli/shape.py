"""Which lines a trace's tree has: children, phases, and what is folded away. No text yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tracing.record import CANCELLED, COMPLETED
from tracing.store.model import PhaseSpan, Span

ITEM: Final = "item"
LOUD: Final = 40
"""Of what did not complete, at most so many are shown beyond the first ones."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """A line that stands for spans that are not shown."""

    start_ns: int
    items: bool
    outcomes: tuple[tuple[str, int], ...]
    """How many of each outcome, most frequent first."""

    @property
    def count(self) -> int:
        """Number of spans behind this line."""
        return sum(number for _, number in self.outcomes)


Entry = Span | PhaseSpan | Hidden


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the tree and the spans below it."""

    entry: Entry
    below: tuple[Span, ...] = ()
    above: str = ""
    """Name of the span that this line is under."""
    of_many: bool = False
    """Whether this phase is one of several attempts."""


def roots(spans: Sequence[Span]) -> list[Branch]:
    """Return the top lines of a trace."""
    return [Branch(span, span.children) for span in spans]


def branches(branch: Branch, *, phases: bool, full: bool) -> list[Branch]:
    """Return the lines directly under *branch*, in order of start."""
    entry = branch.entry
    name = entry.name if isinstance(entry, Span) else branch.above
    own = entry.phases if phases and isinstance(entry, Span) else ()
    many = sum(phase.kind == "exec" for phase in own) > 1
    inside: dict[str | None, list[Span]] = {phase.span_id: [] for phase in own}
    direct: list[Span] = []
    for span in branch.below:
        inside.get(span.parent_id, direct).append(span)
    lines = [Branch(phase, tuple(inside[phase.span_id]), name, many) for phase in own]
    lines += [
        Branch(shown, shown.children if isinstance(shown, Span) else (), name)
        for shown in (direct if full else folded(direct))
    ]
    return sorted(lines, key=lambda line: line.entry.start_ns) if own else lines


def folded(spans: Sequence[Span]) -> Sequence[Span | Hidden]:
    """Fold a long batch to its first ten items, and a long loop to its two ends.

    What did not complete stays, up to `LOUD` of it, failures before cancellations.
    """
    items = any(span.kind == ITEM for span in spans)
    head, tail = (10, 0) if items else (20, 5)
    if len(spans) <= head + tail + 1:  # one line in place of one line saves nothing
        return spans
    kept = _kept(spans, head, tail)
    hidden = Counter(span.outcome for place, span in enumerate(spans) if place not in kept)
    shown: list[Span | Hidden] = [spans[place] for place in sorted(kept)]
    if hidden:
        place = len(shown) - tail
        outcomes = tuple(hidden.most_common())
        shown.insert(place, Hidden(shown[place - 1].start_ns, items, outcomes))
    return shown


def _kept(spans: Sequence[Span], head: int, tail: int) -> set[int]:
    """Return the places of both ends, and of the loudest in between."""
    middle = range(head, len(spans) - tail)
    loud = [place for place in middle if spans[place].outcome != COMPLETED]
    loud.sort(key=lambda place: spans[place].outcome == CANCELLED)
    return {*range(head), *loud[:LOUD], *range(len(spans) - tail, len(spans))}
