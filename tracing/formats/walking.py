"""The spans of a tree one after the other, however deep it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tracing.store.model import Span, TraceTree


def walk(roots: Iterable[Span]) -> Iterator[tuple[Span, Span | None]]:
    """Yield each span with the one that it hangs under: parents first, children by start.

    Without recursion, for a loop of ten thousand rounds may be as deep.
    """
    left: list[tuple[Span, Span | None]] = [(root, None) for root in reversed([*roots])]
    while left:
        span, host = left.pop()
        yield span, host
        left.extend((child, span) for child in reversed(span.children))


def last_moment(tree: TraceTree) -> int:
    """Return the latest moment that *tree* tells of, as Unix time in nanoseconds.

    What still ran when the tree was read is taken to have gone on until then.
    """
    latest = tree.summary.started_ns + (tree.summary.duration_ns or 0)
    for span, _ in walk(tree.roots):
        latest = max(latest, span.start_ns, span.end_ns or 0)
        for phase in span.phases:
            latest = max(latest, phase.start_ns, phase.end_ns or 0)
        for event in span.events:
            latest = max(latest, event.at_ns)
    return latest
