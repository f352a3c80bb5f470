"""What the tests of the recorder share: a look at the traces that a test has left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracing.store import Span, TraceReader, TraceTree, open_store


class Traces:
    """The traces in the store of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self, limit: int = 100) -> list[TraceTree]:
        """Return them, the oldest first."""
        store = open_store(self.path)
        assert store is not None
        assert store.flush(30).failed == 0
        reader = TraceReader(self.path)
        return [reader.trace(found.trace_id) for found in reversed(reader.traces(limit))]

    def one(self) -> Span:
        """Return the root of the only one."""
        (tree,) = self.all()
        (root,) = tree.roots
        return root


@pytest.fixture
def traces(store_path: Path) -> Traces:
    return Traces(store_path)


@pytest.fixture
def find() -> Callable[[Span, str], list[Span]]:
    """Return all spans of a name at and below a span, in order."""

    def find(span: Span, name: str) -> list[Span]:
        below = [found for child in span.children for found in find(child, name)]
        return ([span] if span.name == name else []) + below

    return find


@pytest.fixture
def shape() -> Callable[[Span], Any]:
    """Return a span as (kind, name, outcome, children), or without children if it has none."""

    def shape(span: Span) -> Any:
        head = (span.kind, span.name, span.outcome)
        return (*head, [shape(child) for child in span.children]) if span.children else head

    return shape


@pytest.fixture
def phases() -> Callable[[Span], list[str]]:
    def phases(span: Span) -> list[str]:
        return [f"{phase.kind} {phase.outcome}" for phase in span.phases]

    return phases


@pytest.fixture
def value() -> Callable[[bytes | None], Any]:
    """Return recorded JSON as a value."""
    return lambda data: None if data is None else json.loads(data)
