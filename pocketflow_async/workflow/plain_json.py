"""Plain JSON: what can be kept and comes back as it was, or an error that says where it cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from pocketflow_async.wording import a

_DEEPEST = 200

to_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""Return a value that is known to be plain as JSON text."""


class NotPlainJson(ValueError):
    """Raised for a value that JSON cannot hold as it is.

    Attributes:
        pointer: Where it is, as JSON pointer (RFC 6901); "" is the whole.
        why: What is wrong with it.
    """

    def __init__(self, pointer: str, why: str) -> None:
        super().__init__(f"at {pointer or '/'}: {why}")
        self.pointer = pointer
        self.why = why


def pointer_of(path: Iterable[str | int]) -> str:
    """Return *path* as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def encode(value: Any) -> tuple[str, Any]:
    """Return *value* as JSON text, and a copy of it as it comes back from there.

    Tuples come back as lists, and enums of text as text; everything else comes back equal.

    Raises:
        NotPlainJson: It would not come back as it is.
    """
    try:
        text = to_json(value)
        copy = json.loads(text)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        _refuse(value, (), 0)
        raise NotPlainJson("", str(error)) from error
    if copy != value:  # tuples do, and so do keys that are no text
        _refuse(value, (), 0)
    return text, copy


def _refuse(value: Any, path: tuple[str | int, ...], depth: int) -> None:
    """Raise about the first thing in *value* that is no plain JSON, if there is one."""
    if depth > _DEEPEST:
        raise NotPlainJson(pointer_of(path[:5]), f"nested more than {_DEEPEST} deep, or in itself")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                bad = f"the key {key!r:.60} is {a(type(key).__name__)}; JSON has only text for keys"
                raise NotPlainJson(pointer_of(path), bad)
            _refuse(item, (*path, key), depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse(item, (*path, index), depth + 1)
    elif why := _wrong(value):
        raise NotPlainJson(pointer_of(path), why)


def _wrong(value: Any) -> str | None:
    """Return what is wrong with a value that holds no others; None: nothing."""
    if value is None or isinstance(value, str | bool):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is no number that JSON has"
    if isinstance(value, int):
        try:
            str(value)
        except ValueError:
            return "the number has too many digits"
        return None
    return f"{a(type(value).__name__)} is no plain JSON: yield text, numbers, lists and dicts"
