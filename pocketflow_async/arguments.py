"""Checks of arguments: the name and the wrong value are in each error."""

from __future__ import annotations

import math
import sys
from typing import Any


def text(name: str, value: Any) -> str:
    """Return *value* if it is a text that is not empty.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} must be a text that is not empty, not {value!r:.80}")
    return value


def number(name: str, value: float, least: float = 0.0) -> float:
    """Return *value* if it is a finite number from *least* on.

    Raises:
        TypeError: It is no number.
        ValueError: It is too small, or not finite.
    """
    _check_number(name, value)
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be at least {least:g} and finite, not {value!r:.80}")
    return value


def seconds(name: str, value: float) -> float:
    """Return *value* if it is a number of seconds above 0, and finite.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0, or no end would come.
    """
    _check_number(name, value, "a number of seconds")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 seconds and finite, not {value!r:.80}")
    return value


def whole(name: str, value: int, least: int = 1) -> int:
    """Return *value* if it is a whole number from *least* on.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r:.80}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r:.80}")
    return value


def above_zero(name: str, value: float) -> float:
    """Return *value*, the argument *name*.

    Raises:
        TypeError: It is no number.
        ValueError: It is not above 0 and finite.
    """
    _check_number(name, value)
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be above 0 and finite, not {value!r:.80}")
    return value


def yes_or_no(name: str, value: Any) -> bool:
    """Return *value* if it is True or False.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r:.80}")
    return value


def _check_number(name: str, value: object, what: str = "a number") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {what}, not {value!r:.80}")
