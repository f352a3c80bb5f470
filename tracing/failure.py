"""Exceptions as data: type, message and the user's lines, with no frame kept alive."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType

import tracing.record as r

_MESSAGE = 2_000  # characters
_FRAMES = 30
_REFUSED = "__flow_refused__"

# Frames of the engine and of this package say nothing about the user's program.
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_DEMO = _HERE + "demo.py"
_ENGINE = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "pocketflow_async") + os.sep


def outcome_of(error: BaseException | None) -> str:
    """Return how a step ended that *error* left, or None did."""
    if error is None:
        return r.COMPLETED
    if getattr(error, _REFUSED, False):
        return r.HALTED
    if isinstance(error, TimeoutError):
        return r.TIMED_OUT
    if isinstance(error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
        return r.CANCELLED
    return r.FAILED


def refuse(error: BaseException) -> None:
    """Mark *error* as a gate's refusal, so that all the steps it leaves count as halted."""
    try:
        setattr(error, _REFUSED, True)
    except Exception:  # noqa: BLE001 (an exotic exception class is only shown as failed)
        return


def describe(error: BaseException, frames: bool = True) -> r.Failure:
    """Return *error* as data; never raises.

    Args:
        error: What was raised.
        frames: Whether to note the lines it came through.
    """
    cls = type(error)
    name = (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )
    try:
        message = str(error)[:_MESSAGE]
    except Exception as broken:  # noqa: BLE001 (an exception that cannot be shown is still one)
        message = f"<str() raised {type(broken).__name__}>"
    return r.Failure(name, message, _lines(error.__traceback__) if frames else ())


def _lines(trace: TracebackType | None) -> tuple[tuple[str, int, str], ...]:
    """Return the last entries of a traceback that are not ours, without reading any source."""
    found: list[tuple[str, int, str]] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == _DEMO or not code.co_filename.startswith((_HERE, _ENGINE)):
            found.append((code.co_filename, trace.tb_lineno, code.co_qualname))
        trace = trace.tb_next
    return tuple(found[-_FRAMES:])
