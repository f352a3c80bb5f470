"""Checks of arguments: the name and the wrong value are in each error."""

from __future__ import annotations

import math
from typing import Any


def text(name: str, value: Any) -> str:
    """Return *value* if it is a text that is not empty.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} must be a text that is not empty, not {value!r:.80}")
    return value


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return *value* if it is a whole number from *least* on.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r:.80}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")
    return value


def seconds(name: str, value: Any) -> float:
    """Return *value* if it is a number of seconds above zero, and finite.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above zero, or no end would come.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r:.80}")
    if not value > 0 or math.isinf(value):
        raise ValueError(f"{name} must be above 0 seconds and finite, not {value!r}")
    return value


def yes_or_no(name: str, value: Any) -> bool:
    """Return *value* if it is True or False.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r:.80}")
    return value
