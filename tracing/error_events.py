"""Errors of asynchronous code as events: their types, severities, and how they are told apart."""

from __future__ import annotations

import asyncio
import traceback
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

import tracing.record as r
from tracing.lifecycle_states import member, utcnow


class AsyncErrorType(Enum):
    """What kind of error it is."""

    CANCELLATION = "cancellation"
    TIMEOUT = "timeout"
    TASK_EXCEPTION = "task_exception"
    CONTEXT_LOST = "context_lost"
    """Something was to be traced in a thread that does not know of the trace."""
    DEADLOCK = "deadlock"
    RESOURCE_EXHAUSTION = "resource_exhaustion"
    MIXED_SYNC_ASYNC = "mixed_sync_async"
    """Synchronous code has stopped the event loop."""
    COROUTINE_NOT_AWAITED = "coroutine_not_awaited"
    EVENT_LOOP_CLOSED = "event_loop_closed"
    SIGNAL_INTERRUPT = "signal_interrupt"


class AsyncErrorSeverity(Enum):
    """How bad it is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


_T = AsyncErrorType
_SEVERITIES: Final = {
    _T.EVENT_LOOP_CLOSED: AsyncErrorSeverity.CRITICAL,
    _T.DEADLOCK: AsyncErrorSeverity.CRITICAL,
    _T.RESOURCE_EXHAUSTION: AsyncErrorSeverity.CRITICAL,
    _T.TIMEOUT: AsyncErrorSeverity.HIGH,
    _T.CONTEXT_LOST: AsyncErrorSeverity.HIGH,
    _T.SIGNAL_INTERRUPT: AsyncErrorSeverity.HIGH,
    _T.CANCELLATION: AsyncErrorSeverity.MEDIUM,
    _T.MIXED_SYNC_ASYNC: AsyncErrorSeverity.MEDIUM,
}


class ContextLostError(RuntimeError):
    """Something was to be traced in a thread that does not know of the trace."""

    def __init__(self, doing: str, thread: str) -> None:
        super().__init__(
            f"{doing} in the thread {thread!r}, which is in no trace although traces are under "
            "way. Start its work with tracing.carry(work), or with asyncio.to_thread."
        )


class LoopBlockedError(RuntimeError):
    """Synchronous code has stopped the event loop for too long."""

    def __init__(self, who: str, seconds: float, where: str) -> None:
        super().__init__(
            f"{who} blocked the event loop for {seconds:.3f} s, at {where}. Await an asynchronous "
            "call there, or move the work to a thread: asyncio.to_thread, or in_thread=True."
        )


@dataclass
class AsyncErrorEvent:
    """An error, and what was done about it.

    Attributes:
        error_id: Id of its own.
        error_type: What kind of error it is.
        severity: How bad it is.
        timestamp: When it was reported, in UTC.
        node_id: Which run of a node.
        flow_name: Name of the flow.
        task_id: `id()` of the asyncio task it was reported in.
        exception: The exception. Only the last 100 events of a handler hold theirs, since an
            exception keeps alive whatever its frames hold.
        traceback_str: The exception's traceback as text.
        context_data: Facts that the caller adds.
        recovery_attempted: Whether a recovery strategy was run.
        recovery_successful: What it returned.
        metadata: Name of the node, outcome, and the ids of trace and span.
    """

    error_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    error_type: AsyncErrorType = AsyncErrorType.TASK_EXCEPTION
    severity: AsyncErrorSeverity = AsyncErrorSeverity.MEDIUM
    timestamp: datetime = field(default_factory=utcnow)
    node_id: str | None = None
    flow_name: str | None = None
    task_id: int | None = None
    exception: BaseException | None = None
    traceback_str: str | None = None
    context_data: dict[str, Any] = field(default_factory=dict)
    recovery_attempted: bool = False
    recovery_successful: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)


def error_type_named(value: AsyncErrorType | str) -> AsyncErrorType:
    """Return the type of error that *value* is or names.

    Raises:
        ValueError: There is no such type.
    """
    return member(AsyncErrorType, value, "error type")


def classify(error: BaseException) -> AsyncErrorType:
    """Return what kind of error *error* is."""
    for cls, found in (
        (ContextLostError, _T.CONTEXT_LOST),
        (LoopBlockedError, _T.MIXED_SYNC_ASYNC),
        (asyncio.CancelledError, _T.CANCELLATION),
        (TimeoutError, _T.TIMEOUT),
        (MemoryError, _T.RESOURCE_EXHAUSTION),
        (KeyboardInterrupt, _T.SIGNAL_INTERRUPT),
    ):
        if isinstance(error, cls):
            return found
    return _by_message(str(error)) if isinstance(error, RuntimeError) else _T.TASK_EXCEPTION


def classify_record(record: r.Record) -> AsyncErrorType:
    """Return what kind of error *record* ended with, the exception itself being gone."""
    name, message = (record.error.type, record.error.message) if record.error else ("", "")
    if name == "KeyboardInterrupt":
        return _T.SIGNAL_INTERRUPT
    if record.outcome == r.CANCELLED:
        return _T.CANCELLATION
    if record.outcome == r.TIMED_OUT:
        return _T.TIMEOUT
    if name == "MemoryError":
        return _T.RESOURCE_EXHAUSTION
    return _by_message(message) if name == "RuntimeError" else _T.TASK_EXCEPTION


def _by_message(message: str) -> AsyncErrorType:
    text = message.lower()
    if "event loop" in text and "closed" in text:
        return _T.EVENT_LOOP_CLOSED
    if "coroutine" in text and "never awaited" in text:
        return _T.COROUTINE_NOT_AWAITED
    return _T.DEADLOCK if "deadlock" in text else _T.TASK_EXCEPTION


def severity_of(kind: AsyncErrorType) -> AsyncErrorSeverity:
    """Return how bad an error of that type is."""
    return _SEVERITIES.get(kind, AsyncErrorSeverity.LOW)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of *error* as text, inside an `except` or not; never raises."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception as broken:  # noqa: BLE001 (an exception that cannot be shown is still one)
        return f"<the traceback of {type(error).__name__} raised {type(broken).__name__}>\n"


def failure_text(failure: r.Failure | None) -> str | None:
    """Return a recorded failure as the text of a traceback; None for none."""
    if failure is None:
        return None
    lines = [f'  File "{file}", line {line}, in {where}\n' for file, line, where in failure.frames]
    head = "Traceback (most recent call last):\n" if lines else ""
    return head + "".join(lines) + f"{failure.type}: {failure.message}\n"


def statistics(events: list[AsyncErrorEvent]) -> dict[str, Any]:
    """Return counts over *events*, with the keys of `get_error_statistics`."""
    if not events:
        return {"total_errors": 0}
    attempted = [event for event in events if event.recovery_attempted]
    return {
        "total_errors": len(events),
        "error_type_distribution": _counts([event.error_type.value for event in events]),
        "severity_distribution": _counts([event.severity.value for event in events]),
        "recovery_statistics": {
            "attempted": len(attempted),
            "successful": sum(event.recovery_successful for event in attempted),
        },
        "cancelled_tasks": len(tasks_of(events, _T.CANCELLATION)),
        "timeout_tasks": len(tasks_of(events, _T.TIMEOUT)),
    }


def tasks_of(events: list[AsyncErrorEvent], kind: AsyncErrorType) -> set[int]:
    """Return the ids of the tasks that had an error of that type."""
    return {
        event.task_id for event in events if event.error_type is kind and event.task_id is not None
    }


def _counts(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in dict.fromkeys(values)}
