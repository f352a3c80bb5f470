"""How something ended, as OpenTelemetry says it: a status with words, and an exception. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracing.export.attributes import text
from tracing.export.model import ERROR, OK, UNSET, SpanEvent
from tracing.record import CANCELLED, COMPLETED, FAILED, INTERRUPTED, RUNNING, SKIPPED, Failure
from tracing.store.model import PhaseSpan, Span


def end_of(span: Span | PhaseSpan) -> int:
    """Return when it ended, in Unix nanoseconds; what goes on ended when it began."""
    return span.start_ns if span.end_ns is None else max(span.start_ns, span.end_ns)


def verdict(outcome: str, error: Failure | None) -> tuple[int, str]:
    """Return the status of what ended so, and words for it: all that Langfuse shows of an error."""
    if outcome == COMPLETED:
        return OK, ""
    if outcome in (RUNNING, SKIPPED):
        return UNSET, ""
    if outcome == INTERRUPTED:
        return ERROR, "interrupted: its process died"
    if outcome == CANCELLED:
        return ERROR, text(f"cancelled: {error[1]}" if error and error[1] else CANCELLED)
    said = "" if error is None else f"{error[0]}: {error[1]}" if error[1] else error[0]
    if outcome == FAILED:
        return ERROR, text(said or FAILED)
    return ERROR, text(f"{outcome}: {said}" if said else outcome)


def exception(error: Failure, at_ns: int, more: Mapping[str, Any] | None = None) -> SpanEvent:
    """Return *error* as the event that OpenTelemetry has for one.

    Args:
        error: What was raised.
        at_ns: When, in Unix nanoseconds.
        more: Attributes to add.
    """
    kind, message = text(error.type), text(error.message)
    lines = [f'  File "{file}", line {line}, in {where}\n' for file, line, where in error.frames]
    head = "Traceback (most recent call last):\n" if lines else ""
    said = {
        "exception.type": kind,
        "exception.message": message,
        "exception.stacktrace": text(f"{head}{''.join(lines)}{kind}: {message}"),
        **(more or {}),
    }
    return SpanEvent("exception", at_ns, said)
