"""Runtimes: `AsyncLocalRuntime` for asynchronous code, `LocalRuntime` for the rest."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketflow_async.runtime.async_local import AsyncLocalRuntime
    from pocketflow_async.runtime.context import NodeContext
    from pocketflow_async.runtime.deadlines import ExecutionTimeoutError, WorkflowTimeoutError
    from pocketflow_async.runtime.events import (
        Event,
        NodeFailed,
        NodeFinished,
        NodeReady,
        NodeRetried,
        NodeSkipped,
        NodeStarted,
        RunFinished,
        RunStarted,
    )
    from pocketflow_async.runtime.local import LocalRuntime
    from pocketflow_async.runtime.progress import show_progress
    from pocketflow_async.runtime.results import ExecutionMetrics, RunResult

_WHERE = {
    "AsyncLocalRuntime": "async_local",
    "Event": "events",
    "ExecutionMetrics": "results",
    "ExecutionTimeoutError": "deadlines",
    "LocalRuntime": "local",
    "NodeContext": "context",
    "NodeFailed": "events",
    "NodeFinished": "events",
    "NodeReady": "events",
    "NodeRetried": "events",
    "NodeSkipped": "events",
    "NodeStarted": "events",
    "RunFinished": "events",
    "RunResult": "results",
    "RunStarted": "events",
    "WorkflowTimeoutError": "deadlines",
    "show_progress": "progress",
}

__all__ = [
    "AsyncLocalRuntime",
    "Event",
    "ExecutionMetrics",
    "ExecutionTimeoutError",
    "LocalRuntime",
    "NodeContext",
    "NodeFailed",
    "NodeFinished",
    "NodeReady",
    "NodeRetried",
    "NodeSkipped",
    "NodeStarted",
    "RunFinished",
    "RunResult",
    "RunStarted",
    "WorkflowTimeoutError",
    "show_progress",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
