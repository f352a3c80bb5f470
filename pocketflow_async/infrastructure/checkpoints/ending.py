"""How a run ends that does not come to its end."""

from __future__ import annotations

import asyncio

from pocketflow_async.infrastructure.checkpoints.errors import NeedsReconciliation
from pocketflow_async.infrastructure.checkpoints.questions import Suspension
from pocketflow_async.infrastructure.emergency_states import EmergencyError

_LONGEST = 2_000  # characters of an error's text


def status_of(error: BaseException) -> str:
    """Return the status of a run that *error* leaves."""
    if suspension_in(error) is not None:
        return "suspended"
    if isinstance(error, NeedsReconciliation):
        return "needs_reconciliation"
    if isinstance(error, EmergencyError):
        return "halted"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "failed" if isinstance(error, Exception) else "interrupted"


def suspension_in(error: BaseException) -> Suspension | None:
    """Return the suspension that *error* is, or has in its group."""
    if isinstance(error, Suspension):
        return error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            if (found := suspension_in(one)) is not None:
                return found
    return None


def text_of(error: BaseException) -> str:
    """Return why a run ends, as it is stored."""
    suspension = suspension_in(error)
    if suspension is not None:
        return suspension.question.text
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 (an exception that cannot be shown is still one)
        said = ""
    name = type(error).__name__
    return f"{name}: {said}"[:_LONGEST] if said else name
