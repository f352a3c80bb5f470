"""How long an error asks to wait: its `retry_after`, or the Retry-After of an HTTP answer."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any


def wait_asked_for(error: BaseException) -> float | None:
    """Return the seconds that *error* asks to wait; None: it does not.

    That is its attribute `retry_after` (seconds, or a timedelta), or else the header Retry-After
    in its `headers`, or in those of its `response`, as the HTTP clients have them.
    """
    with suppress(Exception):  # an exotic error must not hide itself
        seconds = _number(getattr(error, "retry_after", None))
        if seconds is not None:
            return seconds
        for holder in (error, getattr(error, "response", None)):
            headers = getattr(holder, "headers", None)
            if (text := _header(headers, "Retry-After")) is not None:
                return parse_retry_after(text, _header(headers, "Date"))
    return None


def parse_retry_after(text: str, date: str | None = None) -> float | None:
    """Return the seconds that the header Retry-After asks for; None: it is no such header.

    Args:
        text: Seconds, or the date to wait for.
        date: The header Date of the same answer, so that the clocks need not be the same; else
            the time of this machine is taken.
    """
    seconds = _number(_float(text))
    if seconds is not None:
        return seconds
    until = _moment(text)
    if until is None:
        return None
    sent = _moment(date) if date else None
    now = time.time() if sent is None else sent  # the clock's own time knows no dates
    return max(0.0, until - now)


def _number(value: Any) -> float | None:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(0.0, float(value)) if math.isfinite(value) else None


def _float(text: str) -> float | None:
    try:
        return float(text) if text.isascii() else None
    except ValueError:
        return None


def _moment(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 (6 ms, for a date only)

    try:
        moment: datetime = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:  # "-0000": in the time of Greenwich too
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _header(headers: Any, name: str) -> str | None:
    get = getattr(headers, "get", None)
    if get is None:
        return None
    for spelled in (name, name.lower()):  # a plain dict tells them apart
        value = get(spelled)
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if isinstance(value, str):
            return value.strip()
    return None
