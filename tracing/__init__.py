"""See what your flows did: every run, node, phase, attempt and state, with inputs and outputs.

`@trace_flow()` on a flow records its runs into a local store (one SQLite file, no server); the
command `pocketflow-async` shows them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracing.config import TracingConfig
    from tracing.context import SpanContext, carry, current_span
    from tracing.core import LangfuseTracer
    from tracing.decorator import trace_flow
    from tracing.flushing import aflush, counts, flush
    from tracing.otel.carriers import child_environment, incoming, outgoing
    from tracing.propagation import propagate
    from tracing.scores import score
    from tracing.spans import generation, span, traced, update

# Loaded when first used, so that importing the package costs next to nothing.
_WHERE = {
    "LangfuseTracer": "core",
    "SpanContext": "context",
    "TracingConfig": "config",
    "aflush": "flushing",
    "carry": "context",
    "child_environment": "otel.carriers",
    "counts": "flushing",
    "current_span": "context",
    "flush": "flushing",
    "generation": "spans",
    "incoming": "otel.carriers",
    "outgoing": "otel.carriers",
    "propagate": "propagation",
    "score": "scores",
    "span": "spans",
    "trace_flow": "decorator",
    "traced": "spans",
    "update": "spans",
}

__all__ = [
    "LangfuseTracer",
    "SpanContext",
    "TracingConfig",
    "aflush",
    "carry",
    "child_environment",
    "counts",
    "current_span",
    "flush",
    "generation",
    "incoming",
    "outgoing",
    "propagate",
    "score",
    "span",
    "trace_flow",
    "traced",
    "update",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
