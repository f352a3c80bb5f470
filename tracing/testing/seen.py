"""Traces as a test sees them: spans that know their parents, with contents as values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from tracing.record import Failure
from tracing.store import PhaseSpan, Span, TraceSummary, TraceTree
from tracing.testing.text import lines

N = TypeVar("N", bound="Named")


class Named(Protocol):
    """What can be looked for."""

    @property
    def name(self) -> str:
        """The name it is looked for by."""


class SeenSpan:
    """One span of a captured trace."""

    def __init__(self, span: Span, parent: SeenSpan | None) -> None:
        self.span = span
        """As the store has it, ids and times included."""
        self.parent = parent
        """The span around it, or None for a root."""
        self.children: tuple[SeenSpan, ...] = ()
        """In order of their beginning."""

    @property
    def stored(self) -> Span:
        """As the store has it; the same as `span`."""
        return self.span

    @property
    def name(self) -> str:
        """Name of the node, flow or function."""
        return self.span.name

    @property
    def kind(self) -> str:
        """What it is: flow, node, item, function, workflow or span."""
        return self.span.kind

    @property
    def index(self) -> int | None:
        """Place in its batch, for items."""
        return self.span.index

    @property
    def outcome(self) -> str:
        """How it ended, as one of `record.OUTCOMES`; or that it is running."""
        return self.span.outcome

    @property
    def error(self) -> Failure | None:
        """What it ended with, as data."""
        return self.span.error

    @property
    def attempts(self) -> int:
        """Number of times exec was tried."""
        return self.span.attempts

    @property
    def fell_back(self) -> bool:
        """Whether the fallback was asked in place of exec."""
        return self.span.fell_back

    @property
    def phases(self) -> tuple[PhaseSpan, ...]:
        """Prep, each attempt of exec, fallback, post and suspensions, in order."""
        return self.span.phases

    @property
    def attributes(self) -> dict[str, Any]:
        """Further facts by name, such as the `action` of a node."""
        return self.span.attributes

    @property
    def scores(self) -> dict[str, Any]:
        """Values of the span's scores by name, the last of each."""
        return {score.name: score.value for score in self.span.scores}

    @property
    def events(self) -> list[str]:
        """Names of what happened in it, in order."""
        return [event.name for event in self.span.events]

    @property
    def input(self) -> Any:
        """What went in, as JSON has it; None if it was not recorded."""
        return _value(self.span.input)

    @property
    def output(self) -> Any:
        """What came out, as JSON has it; None if it was not recorded."""
        return _value(self.span.output)

    def walk(self) -> Iterator[SeenSpan]:
        """Give this span and all below it, parents before children."""
        waiting = [self]
        while waiting:
            span = waiting.pop()
            yield span
            waiting.extend(reversed(span.children))

    def find_all(self, name: str) -> list[SeenSpan]:
        """Return all spans of the name, at and below this one."""
        return [span for span in self.walk() if span.name == name]

    def find(self, name: str) -> SeenSpan:
        """Return the only span of the name, at and below this one.

        Raises:
            AssertionError: There is none, or more than one; the message shows what is there.
        """
        __tracebackhide__ = True
        return the_only(self.find_all(name), "span", name, str(self))

    def tree(self, *, times: bool = False, phases: bool = False, contents: bool = False) -> str:
        """Return this span and all below it as text; see `SeenTrace.tree`."""
        return lines([self.span], times=times, phases=phases, contents=contents)

    def __str__(self) -> str:
        return self.tree()

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}: {self.outcome}>"


class SeenTrace:
    """One captured trace."""

    def __init__(self, tree: TraceTree) -> None:
        self._tree = tree
        self.roots: tuple[SeenSpan, ...] = tuple(_grow(root) for root in tree.roots)
        """Usually one; more only while their common root is missing."""

    @property
    def stored(self) -> TraceTree:
        """As the store has it."""
        return self._tree

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._tree.summary.trace_id

    @property
    def name(self) -> str:
        """Name of the trace: that of its flow or function, or `flow_name`."""
        return self._tree.summary.name

    @property
    def outcome(self) -> str:
        """How its root ended."""
        return self._tree.summary.outcome

    @property
    def summary(self) -> TraceSummary:
        """Session, user, tags, metadata and times."""
        return self._tree.summary

    @property
    def scores(self) -> dict[str, Any]:
        """Values of the scores of the trace as a whole by name, the last of each."""
        return {score.name: score.value for score in self._tree.scores}

    @property
    def root(self) -> SeenSpan:
        """The root span.

        Raises:
            AssertionError: There is not exactly one.
        """
        return the_only(self.roots, "root", None, str(self))

    def walk(self) -> Iterator[SeenSpan]:
        """Give all spans, parents before children."""
        for root in self.roots:
            yield from root.walk()

    def find_all(self, name: str) -> list[SeenSpan]:
        """Return all spans of the name."""
        return [span for span in self.walk() if span.name == name]

    def find(self, name: str) -> SeenSpan:
        """Return the only span of the name.

        Raises:
            AssertionError: There is none, or more than one; the message shows what is there.
        """
        __tracebackhide__ = True
        return the_only(self.find_all(name), "span", name, str(self))

    def tree(self, *, times: bool = False, phases: bool = False, contents: bool = False) -> str:
        """Return the trace as text, the same for every run that does the same.

        Ids found in names, errors and contents are replaced by numbers in the order of the tree
        (`span-1`), addresses of objects by `0x…`.

        Args:
            times: Whether to show when each span began and how long it took, in milliseconds of
                real time; these differ from run to run.
            phases: Whether to show prep, attempts, fallback, post and suspensions.
            contents: Whether to show inputs and outputs, as JSON.
        """
        spans = [root.span for root in self.roots]
        return lines(spans, times=times, phases=phases, contents=contents)

    def __str__(self) -> str:
        return self.tree()

    def __repr__(self) -> str:
        return f"<trace {self.name}: {self.outcome}>"


def the_only(found: Sequence[N], what: str, name: str | None, there: str) -> N:
    """Return the only one of *found* that has the name, if a name is given.

    Raises:
        AssertionError: There is none, or more than one; the message holds *there*.
    """
    __tracebackhide__ = True
    fitting = [one for one in found if name is None or one.name == name]
    if len(fitting) == 1:
        return fitting[0]
    which = what if name is None else f"{what} named {name!r}"
    many = f"{len(fitting)} of them" if fitting else "none"
    raise AssertionError(f"expected one {which}, found {many}. What is there:\n{there}")


def _grow(root: Span) -> SeenSpan:
    """Build the tree of *root*, without recursion: a loop of nested flows may be deep."""
    top = SeenSpan(root, None)
    waiting = [top]
    while waiting:
        seen = waiting.pop()
        seen.children = tuple(SeenSpan(child, seen) for child in seen.span.children)
        waiting.extend(seen.children)
    return top


def _value(content: bytes | None) -> Any:
    return None if content is None else json.loads(content)
