"""The fields of a JSON object that somebody else may have written, checked one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_MOST: Final = (1 << 63) - 1  # what SQLite can hold
_HEX: Final = re.compile(r"[0-9a-f]+")


class Unfit(Exception):
    """A line is not what its format says; the message tells what is wrong with it."""


def text(said: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return the text *name*; *default*, if there is one, where it is missing or null."""
    value = said.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Unfit(f"{name} must be a text, not {_shown(value)}")
    return value


def text_or_none(said: Mapping[str, Any], name: str) -> str | None:
    """Return the text *name*, or None where it is missing or null."""
    return None if said.get(name) is None else text(said, name)


def identity(said: Mapping[str, Any], name: str, digits: int) -> str:
    """Return the id *name*, of so many hex digits and not all zeros, in small letters."""
    value = said.get(name)
    found = value.lower() if isinstance(value, str) else ""
    if len(found) != digits or not _HEX.fullmatch(found) or not found.strip("0"):
        raise Unfit(f"{name} must be {digits} hex digits and not zero, not {_shown(value)}")
    return found


def identity_or_none(said: Mapping[str, Any], name: str, digits: int) -> str | None:
    """Return the id *name*, or None where it is missing, null, empty or zero."""
    value = said.get(name)
    if value is None or (isinstance(value, str) and not value.strip("0")):
        return None
    return identity(said, name, digits)


def whole(said: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return the whole number *name*, which JSON may hold as a text of digits."""
    value = said.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -_MOST <= value <= _MOST:
        raise Unfit(f"{name} must be a whole number of 64 bits, not {_shown(value)}")
    return value


def moment(said: Mapping[str, Any], name: str) -> int:
    """Return the Unix time *name* in nanoseconds."""
    found = whole(said, name)
    if found < 0:
        raise Unfit(f"{name} must be nanoseconds since 1970, not {found}")
    return found


def moment_or_none(said: Mapping[str, Any], name: str) -> int | None:
    """Return the Unix time *name* in nanoseconds, or None where it is missing or null."""
    return None if said.get(name) is None else moment(said, name)


def seconds_or_none(said: Mapping[str, Any], name: str) -> float | None:
    """Return the number *name*, or None where it is missing or null."""
    value = said.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise Unfit(f"{name} must be a number, not {_shown(value)}")
    return value


def mapping(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object *name*; an empty one where it is missing or null."""
    value = said.get(name)
    if value is not None and not isinstance(value, dict):
        raise Unfit(f"{name} must be an object, not {_shown(value)}")
    return value or {}


def items(said: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the list of objects *name*; an empty one where it is missing or null."""
    value = said.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Unfit(f"{name} must be a list of objects, not {_shown(value)}")
    return value


def texts(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the list of texts *name*; an empty one where it is missing or null."""
    value = said.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Unfit(f"{name} must be a list of texts, not {_shown(value)}")
    return tuple(value)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    said = repr(value)
    return said if len(said) <= 40 else said[:39] + "…"
