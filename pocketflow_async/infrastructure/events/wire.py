"""Events as JSON text that every reader takes, whatever a node has put into its output."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any, Final

_AS_TEXT: Final = frozenset({"Decimal", "UUID", "PosixPath", "WindowsPath", "timedelta"})


def to_json(value: Any) -> str:
    """Return compact JSON.

    Times, decimals and ids become text, sets lists, and what is not finite null. Of any other
    object only the name of its class is told, since its text may hold secrets.

    Raises:
        ValueError: It contains itself, or is nested too deeply.
    """
    try:
        return _dumps(value)
    except (TypeError, ValueError, UnicodeError, RecursionError):
        pass  # something in it is not plain: look at all of it
    try:
        return _dumps(_plain(value))
    except RecursionError:
        raise ValueError("it contains itself, or is nested too deeply") from None


def _dumps(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text.encode()  # half a surrogate pair is no text that can be sent
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return str.__str__(value).encode(errors="replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _compound(value)


def _compound(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if type(value).__name__ in _AS_TEXT:
        return str(value)
    return f"<{type(value).__qualname__}>"
