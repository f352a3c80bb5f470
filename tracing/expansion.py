"""A stored tree as the flat spans that others are to see: one for each record and each phase.

The tree is taken apart into its records, which go out as `tracing.export.expand` has it, so that a
trace looks the same whether it was sent while it ran or is written out later. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracing.config import TracingConfig
from tracing.export.attributes import shared_attributes
from tracing.export.configured import shown
from tracing.export.expand import expand as expand_record
from tracing.export.model import Dialect, OutSpan, Route
from tracing.store.model import Span, TraceFacts, TraceTree


def expand(tree: TraceTree, config: TracingConfig) -> list[OutSpan]:
    """Return the spans of *tree*, parents before children.

    Args:
        tree: A trace as the store has it.
        config: Says which phases are spans of their own.
    """
    return expand_tree(tree, Route(shown=shown(config)))


def expand_tree(tree: TraceTree, route: Route, dialect: Dialect = "otlp") -> list[OutSpan]:
    """Return the spans of *tree* as they go out, parents before children; scores are not there.

    Args:
        tree: A trace as the store has it.
        route: Which phases are shown, and what is known of the program.
        dialect: Whose attributes are added to those that everybody gets.
    """
    said = tree.summary
    facts = TraceFacts(
        said.trace_id, said.name, said.session_id, said.user_id, said.tags, said.metadata
    )
    shared = shared_attributes(facts, route, dialect)
    return [
        out
        for span, within in _records(tree.roots)
        for out in expand_record(span, facts, within, route, dialect, shared)
    ]


def _records(roots: tuple[Span, ...]) -> Iterator[tuple[Span, tuple[int, str] | None]]:
    """Yield each record with the phase that it was opened in, parents before children."""
    waiting: list[tuple[Span, tuple[int, str] | None]] = [(root, None) for root in roots[::-1]]
    while waiting:  # a deep tree is deeper than Python's stack
        span, within = waiting.pop()
        yield span, within
        places = {phase.span_id: (ordinal, phase.kind) for ordinal, phase in enumerate(span.phases)}
        waiting.extend((child, places.get(child.parent_id or "")) for child in span.children[::-1])
