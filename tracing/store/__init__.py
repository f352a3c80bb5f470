"""The trace store: records of running flows in one SQLite file, and traces read back from it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tracing.store.location import default_path
from tracing.store.store import TraceStore, open_store, open_stores
from tracing.store.worker import Counts

if TYPE_CHECKING:
    from tracing.store.model import Event, PhaseSpan, Score, Span, TraceSummary, TraceTree
    from tracing.store.reader import TraceReader

# Loaded when first used: who only writes does not need them.
_WHERE = {
    **dict.fromkeys(("Event", "PhaseSpan", "Score", "Span", "TraceSummary", "TraceTree"), "model"),
    "TraceReader": "reader",
}

__all__ = [
    "Counts",
    "Event",
    "PhaseSpan",
    "Score",
    "Span",
    "TraceReader",
    "TraceStore",
    "TraceSummary",
    "TraceTree",
    "default_path",
    "open_store",
    "open_stores",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
