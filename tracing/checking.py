"""What the fields of a `TracingConfig` may be, and how they are written in the environment."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

DETAILS: TypeAlias = Literal["phases", "nodes"]

_LEAST: Final = 256  # bytes; less shows nothing of use
_WORDS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]*")


def check(name: str, variable: str, value: Any, default: Any) -> Any:
    """Return *value* as the field *name* keeps it.

    Raises:
        ValueError: It is out of range.
        TypeError: It is of a wrong type.
    """
    if name in _RULES:
        rule, wanted = _RULES[name]
        if not rule(value):
            raise ValueError(f"{name} ({variable}) must be {wanted}, not {value!r}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool) and value not in (0, 1):
            raise TypeError(f"{name} ({variable}) must be True or False, not {value!r}")
        return bool(value)
    if isinstance(default, tuple):
        return _names(name, variable, value)
    if value is not None and not isinstance(value, str if name != "store" else (str, Path)):
        raise TypeError(f"{name} ({variable}) must be a text or None, not {value!r}")
    return value


def parse(name: str, variable: str, text: str, default: Any) -> Any:
    """Return the value that the environment variable's *text* stands for.

    Raises:
        ValueError: It stands for none.
    """
    if isinstance(default, bool):
        found = _WORDS.get(text.strip().lower())
        if found is None:
            raise ValueError(_misread(name, variable, "true or false", text))
        return found
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, (int, float)):
        wanted = "a whole number" if isinstance(default, int) else "a number"
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError(_misread(name, variable, wanted, text)) from None
    return text.strip() if name in _RULES else text


def _misread(name: str, variable: str, wanted: str, text: str) -> str:
    return f"{variable} must be {wanted}, not {text!r}. It sets the field {name}."


def _names(name: str, variable: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError(f"{name} ({variable}) is a tuple: {name}=({value!r},)")
    found = tuple(value)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{name} ({variable}) holds texts, not {one!r}")
        if name == "exporters" and not _NAME.fullmatch(one):
            raise ValueError(
                f"{name} ({variable}) holds names in small letters, such as 'otlp', not {one!r}"
            )
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_RULES: Final[dict[str, tuple[Any, str]]] = {
    "value_limit": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= _LEAST,
        f"a whole number of bytes of at least {_LEAST}",
    ),
    "slow_node_seconds": (lambda value: _is_number(value) and value > 0, "seconds above 0"),
    "block_threshold_seconds": (lambda value: _is_number(value) and value > 0, "seconds above 0"),
    "sample_rate": (
        lambda value: _is_number(value) and 0 <= value <= 1,
        "a share between 0.0 and 1.0",
    ),
    "detail": (lambda value: value in ("phases", "nodes"), "'phases' or 'nodes'"),
}
