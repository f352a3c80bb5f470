"""Runtimes: `AsyncLocalRuntime` for asynchronous code, `LocalRuntime` for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketflow_async.lazily import lazily as _lazily

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

_MODULES = {
    "async_local": "AsyncLocalRuntime",
    "context": "NodeContext",
    "deadlines": "ExecutionTimeoutError WorkflowTimeoutError",
    "events": (
        "Event NodeFailed NodeFinished NodeReady NodeRetried NodeSkipped NodeStarted RunFinished "
        "RunStarted"
    ),
    "local": "LocalRuntime",
    "progress": "show_progress",
    "results": "ExecutionMetrics RunResult",
}
__getattr__, __dir__ = _lazily(__name__, _MODULES)
