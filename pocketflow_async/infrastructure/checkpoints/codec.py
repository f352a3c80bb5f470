"""What a run shares, as JSON and back: the same values of the same types, or an error.

Text, bool, None, finite floats and ints of 64 bits are themselves, as are lists and dicts with text
for keys. All else is an object `{"$": tag, …}`. An object that is found twice is stored once, so
that two names for one list are two names for one list afterwards.

Reading runs no code that the store names: classes are looked up in modules that the program has
imported, and must be registered, or enums, named tuples, dataclasses or pydantic models. Objects of
the latter get their state back; neither `__init__` nor validators run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from enum import Enum
from itertools import count
from typing import Any, Final

from pocketflow_async.infrastructure.checkpoints.errors import CheckpointError
from pocketflow_async.infrastructure.checkpoints.objects import (
    READERS,
    Refusal,
    state_of,
)
from pocketflow_async.infrastructure.checkpoints.types import VALUES, by_class, by_name
from pocketflow_async.wording import a

_TAG: Final = "$"
_LEAVES: Final = frozenset({str, bool, type(None)})
_MOST: Final = 1 << 63


def encode(value: Any, what: str = "the value") -> bytes:
    """Return *value* as JSON.

    Raises:
        CheckpointError: Something in it cannot be stored; the message says where it is.
    """
    document: dict[str, Any] = {}
    Encoder().put(value, document, what, what)
    return dumps(document[what])


def decode(stored: bytes | str, what: str = "the value") -> Any:
    """Return what `encode` was given.

    Raises:
        CheckpointError: It cannot be read: it is no such JSON, or a class is not there.
    """
    return Decoder().read(loads(stored, what), what)


def dumps(document: Any) -> bytes:
    """Return what encoders have put into *document* as JSON."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError:
        raise CheckpointError("what the run shares is nested too deeply to be stored") from None


def loads(stored: bytes | str, what: str) -> Any:
    """Return JSON as it is read.

    Raises:
        CheckpointError: It is none.
    """
    try:
        return json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} cannot be read again: {error}") from error


class Encoder:
    """Puts values into one document."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[Any, Any, int | None]] = {}
        self._open: set[int] = set()
        self._kept: list[Any] = []  # what is freed would leave its id to another
        self._numbers = count(1)

    def put(self, value: Any, document: Any, key: Any, what: str) -> None:
        """Set `document[key]` to what stands for *value*.

        Raises:
            CheckpointError: Something in it cannot be stored; the message begins with *what*, and
                the way to it.
        """
        try:
            self._put(value, document, key)
        except Refusal as refusal:
            where = "".join(reversed(refusal.path))
            raise CheckpointError(f"{what}{where} {refusal.why}") from refusal.__cause__
        except RecursionError:
            raise CheckpointError(f"{what} is nested too deeply to be stored") from None

    def _put(self, value: Any, out: Any, key: Any) -> None:
        cls = type(value)
        if cls in _LEAVES:
            out[key] = value
        elif cls is int:
            small = -_MOST <= value < _MOST
            out[key] = value if small else {_TAG: "int", "v": hex(value)}
        elif cls is float:
            out[key] = value if math.isfinite(value) else {_TAG: "float", "v": repr(value)}
        elif cls in _ITSELF or isinstance(value, Enum):
            self._write(value, cls, out, key)
        else:
            self._once(value, cls, out, key)

    def _once(self, value: Any, cls: type[Any], out: Any, key: Any) -> None:
        """Put what may be changed: where it is met again, a reference to the first time."""
        mark = id(value)
        if mark in self._open:
            raise Refusal("contains itself: that cannot be stored")
        if mark in self._places:
            where, at, number = self._places[mark]
            if number is None:
                number = next(self._numbers)
                where[at] = {_TAG: "as", "n": number, "v": where[at]}
                self._places[mark] = (where, at, number)
            out[key] = {_TAG: "ref", "n": number}
            return
        self._places[mark] = (out, key, None)
        self._kept.append(value)
        self._open.add(mark)
        try:
            self._write(value, cls, out, key)
        finally:
            self._open.discard(mark)

    def _write(self, value: Any, cls: type[Any], out: Any, key: Any) -> None:
        if cls is dict:
            self._dict(value, out, key)
        elif cls is list:
            out[key] = target = [None] * len(value)
            self._items(list(value), target)
        elif cls in _GROUPS:
            items = list(value)
            target = [None] * len(items)
            out[key] = {_TAG: cls.__name__, "v": target}
            self._items(items, target)
        else:
            self._object(value, cls, out, key)

    def _items(self, items: Iterable[Any], target: list[Any]) -> None:
        index = 0
        try:
            for index, item in enumerate(items):
                self._put(item, target, index)
        except Refusal as refusal:
            refusal.path.append(f"[{index}]")
            raise

    def _dict(self, value: dict[Any, Any], out: Any, key: Any) -> None:
        pairs = list(value.items())
        name: Any = None
        try:
            if all(type(name) is str for name in value) and _TAG not in value:
                out[key] = plain = dict[str, Any]()
                for name, item in pairs:
                    self._put(item, plain, name)
                return
            rows = [[None, None] for _ in pairs]
            out[key] = {_TAG: "dict", "v": rows}
            for row, (name, item) in zip(rows, pairs, strict=True):
                self._put(name, row, 0)
                self._put(item, row, 1)
        except Refusal as refusal:
            refusal.path.append(f"[{name!r:.80}]")
            raise

    def _object(self, value: Any, cls: type[Any], out: Any, key: Any) -> None:
        kind = by_class.get(cls)
        if kind is None:
            tag, name, state = state_of(value, cls)
            out[key] = target = {_TAG: tag, "t": name, "v": None}
        else:
            try:
                state = kind.encode(value)
            except Exception as error:
                said = f"cannot be stored: {type(error).__name__}: {error}"
                raise Refusal(said) from error
            out[key] = target = {_TAG: kind.name, "v": None}
        self._kept.append(state)
        if type(state) is dict and kind is None:
            self._attributes(state, target)
        else:
            self._put(state, target, "v")

    def _attributes(self, state: dict[str, Any], target: dict[str, Any]) -> None:
        name = ""
        target["v"] = values = dict[str, Any]()
        try:
            for name, item in state.items():
                self._put(item, values, name)
        except Refusal as refusal:
            if name != "__dict__":  # the fields of a model
                refusal.path.append(f".{name}")
            raise


_GROUPS: Final = frozenset({tuple, set, frozenset})
_ITSELF: Final = frozenset({tuple, frozenset, *VALUES})


class Decoder:
    """Reads the values of one document, in the order they were put there."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}

    def read(self, raw: Any, what: str, into: dict[Any, Any] | None = None) -> Any:
        """Return the value that *raw* stands for; a dict as *into*, if that is given.

        Raises:
            CheckpointError: It stands for none.
        """
        try:
            return self._read(raw) if into is None else self._read_into(raw, into)
        except CheckpointError as error:
            raise CheckpointError(f"{what} cannot be read again: {error}") from error
        except Exception as error:
            raise CheckpointError(
                f"{what} cannot be read again: {type(error).__name__}: {error}"
            ) from error

    def _read_into(self, raw: Any, into: dict[Any, Any]) -> dict[Any, Any]:
        if type(raw) is dict and raw.get(_TAG) == "as":
            self._known[raw["n"]] = into
            raw = raw["v"]
        found = self._read(raw)
        if type(found) is not dict:
            raise CheckpointError(f"it is {a(type(found).__name__)}, and no dict")
        into.clear()
        into.update(found)
        return into

    def _read(self, raw: Any) -> Any:
        cls = type(raw)
        if cls is list:
            return [self._read(item) for item in raw]
        if cls is not dict:
            return raw
        if _TAG not in raw:
            return {key: self._read(item) for key, item in raw.items()}
        return self._tagged(raw[_TAG], raw)

    def _tagged(self, tag: str, raw: dict[str, Any]) -> Any:
        if tag == "ref":
            return self._known[raw["n"]]
        value = self._value(tag, raw)
        if tag == "as":
            self._known[raw["n"]] = value
        return value

    def _value(self, tag: str, raw: dict[str, Any]) -> Any:
        content = raw["v"]
        if tag == "int":
            return int(content, 16)
        if tag == "float":
            return float(content)
        if tag == "dict":
            return {self._read(key): self._read(item) for key, item in content}
        content = self._read(content)
        if tag in READERS:
            return READERS[tag](content, raw.get("t"))
        kind = by_name.get(tag)
        if kind is None:
            raise CheckpointError(f"the type {tag!r} is not registered: call register_type for it")
        return kind.decode(content)
