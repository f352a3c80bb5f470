"""A trace on its way from a file into a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracing.store.model import Score, Span


@dataclass(frozen=True, slots=True)
class Arrived:
    """One whole trace as a file tells it; its spans have no `children`."""

    trace_id: str
    """32 hex digits."""
    name: str
    outcome: str
    started_ns: int
    """Unix time in nanoseconds."""
    duration_ns: int | None
    """None: it still ran when the file was written."""
    spans: tuple[Span, ...]
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    """Those of the whole trace, and of spans that the file does not have."""
    dropped: int = 0
    """Records that the writers of the trace could not keep."""
