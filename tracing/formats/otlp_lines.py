"""OTLP JSON lines, as OpenTelemetry's file exporters write them: for Collectors and other tools.

What goes into a line is what would be sent, so a file shows what a back end gets to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tracing import names
from tracing.export.attributes import shared_attributes
from tracing.export.expand import expand
from tracing.export.model import OutSpan, Route
from tracing.export.otlp_json import encode
from tracing.formats.walking import walk
from tracing.record import COMPLETED
from tracing.store.model import Score, Span, TraceFacts, TraceTree

SPANS: Final = 500
"""So many spans are in a line at most, give or take a few; a Collector reads a line at once."""


def lines(tree: TraceTree, route: Route) -> Iterator[bytes]:
    """Yield the lines of one trace, each with its line feed.

    Args:
        tree: The trace.
        route: Whose resource and which phases are shown; its targets do not matter.
    """
    some: list[OutSpan] = []
    for spans in _spans(tree, route):
        some += spans
        if len(some) >= SPANS:
            yield encode(some, route.resource) + b"\n"
            some = []
    if some:
        yield encode(some, route.resource) + b"\n"


def _spans(tree: TraceTree, route: Route) -> Iterator[list[OutSpan]]:
    summary = tree.summary
    facts = TraceFacts(
        summary.trace_id,
        summary.name,
        summary.session_id,
        summary.user_id,
        summary.tags,
        summary.metadata,
    )
    shared = shared_attributes(facts, route, "otlp")
    for span, host in walk(tree.roots):
        within = _within(span, host)
        elsewhere = names.PARENT in span.attributes
        bare = replace(span, children=())
        yield expand(bare, facts, within, route, "otlp", shared, foreign=elsewhere)
        for score in span.scores:
            yield expand(_judgement(score, facts), facts, None, route, "otlp", shared)
    for score in tree.scores:
        yield expand(_judgement(score, facts), facts, None, route, "otlp", shared)


def _within(span: Span, host: Span | None) -> tuple[int, str] | None:
    """Return number and kind of the phase of *host* in which *span* was opened."""
    if host is not None:
        for place, phase in enumerate(host.phases):
            if phase.span_id == span.parent_id:
                return place, phase.kind
    return None


def _judgement(score: Score, facts: TraceFacts) -> Span:
    """Return the record of a score, as the store has it."""
    said = {names.VALUE: score.value, names.COMMENT: score.comment}
    return Span(
        trace_id=facts.trace_id,
        span_id=score.score_id,
        parent_id=score.span_id or "0" * 16,
        kind=names.SCORE,
        name=score.name,
        index=None,
        start_ns=score.at_ns,
        end_ns=score.at_ns,
        outcome=COMPLETED,
        attributes={name: value for name, value in said.items() if value is not None},
    )
