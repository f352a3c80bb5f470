"""The trace store: records of running flows in one SQLite file, and traces read back from it."""

from tracing.store.location import default_path
from tracing.store.model import Event, PhaseSpan, Score, Span, TraceSummary, TraceTree
from tracing.store.reader import TraceReader
from tracing.store.store import TraceStore, open_store, open_stores
from tracing.store.worker import Counts

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
