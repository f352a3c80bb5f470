"""Scores: judgements of a span or a whole trace, kept with it, also long after it has ended."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real
from time import perf_counter_ns, time_ns
from typing import Any, Final

from tracing import names
from tracing.context import position
from tracing.opened import moment
from tracing.record import Keep, Trace
from tracing.sampling import is_kept
from tracing.spans import effective, here, recorder_here

_TRACE_DIGITS: Final = 32
_SPAN_DIGITS: Final = 16
_WHOLE: Final = 0
"""Stands for the span where a whole trace is judged."""
_AS_ITS_TRACE: Final = Keep(failed=False, retried=False, slow_ns=None)
"""A score is sent if its trace is; it does not make it matter."""
_UNKNOWN: Final = "(scored before it was seen)"
"""Name of a trace that the store knows nothing of but its score."""


def score(
    name: str,
    value: float | str,
    comment: str | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
) -> None:
    """Judge the span we are in, or a trace, or a span of it.

    Args:
        name: What is judged, such as "correct".
        value: A finite number, a bool, or a text that is not empty.
        comment: Why.
        trace_id: 32 hex digits: the trace, which may have ended, in this or another process. It is
            looked for in the store of this context, or the environment's.
        span_id: 16 hex digits: the span; of this trace if *trace_id* is left out.

    Raises:
        TypeError: An argument has a type that cannot be.
        ValueError: A text is empty, the number not finite, or an id not one.

    Where tracing is off it only checks its arguments; outside every traced run, without a
    *trace_id*, it does nothing and says so once in the log.
    """
    fields = checked(name, value, comment)
    span = None if span_id is None else _id(span_id, _SPAN_DIGITS, "span_id")
    if trace_id is not None:
        _score_elsewhere(name, fields, _id(trace_id, _TRACE_DIGITS, "trace_id"), span or _WHOLE)
        return
    record, recorder = here()
    if record is not None and recorder is not None:
        moment(recorder, record.trace, span or record.span_id, names.SCORE, name, fields)


def _score_elsewhere(name: str, fields: dict[str, Any], trace_id: int, parent_id: int) -> None:
    recorder = recorder_here()
    if recorder is None:
        return
    now = position.get()
    if now is not None and now[0].trace.trace_id == trace_id:
        trace = now[0].trace
    else:
        config = effective()
        sampled = is_kept(trace_id, config.sample_rate)
        if not sampled and not config.keep:
            return
        trace = Trace(trace_id, _UNKNOWN, time_ns(), perf_counter_ns())
        trace.route = recorder.route
        trace.keep = None if sampled else _AS_ITS_TRACE
    moment(recorder, trace, parent_id, names.SCORE, name, fields)


def checked(name: str, value: object, comment: str | None) -> dict[str, Any]:
    """Return the attributes of a score.

    Raises:
        TypeError: An argument has a type that cannot be.
        ValueError: A text is empty, or the number not finite.
    """
    if not isinstance(name, str):
        raise TypeError(f"score: name must be a string, not {name!r}")
    if not name.strip():
        raise ValueError("score: name is empty; say what is judged, such as 'correct'")
    if comment is not None and not isinstance(comment, str):
        raise TypeError(f"score: comment must be a string, not {comment!r}")
    found: dict[str, Any] = {names.VALUE: _value(name, value)}
    if comment:
        found[names.COMMENT] = comment
    return found


def _value(name: str, value: object) -> float | str:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"score {name!r}: the text is empty")
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        number: float = int(value)
        return number if abs(number) < 1 << 53 else float(number)
    if not isinstance(value, (Real, Decimal)):
        raise TypeError(
            f"score {name!r}: the value must be a number, a bool or a text, "
            f"not {type(value).__name__}"
        )
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"score {name!r}: the value must be a finite number, not {number}")
    return number


def _id(text: object, digits: int, name: str) -> int:
    if not isinstance(text, str):
        raise TypeError(f"score: {name} must be a string of {digits} hex digits, not {text!r}")
    plain = text.strip().replace("-", "").lower()
    number = int(plain, 16) if plain and not plain.strip("0123456789abcdef") else 0
    if len(plain) != digits or not number:
        raise ValueError(f"score: {name} must be {digits} hex digits and not all 0, not {text!r}")
    return number
