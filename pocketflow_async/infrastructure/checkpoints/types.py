"""The types whose values a checkpoint can hold as themselves, besides JSON's own.

Values are known by their exact class: one of a subclass would come back as something else.
"""

from __future__ import annotations

import base64
import datetime as dt
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pocketflow_async.wording import a

T = TypeVar("T")


class Type(NamedTuple):
    """How values of one class are stored."""

    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


by_class: Final[dict[type[Any], Type]] = {}
by_name: Final[dict[str, Type]] = {}
VALUES: Final[set[type[Any]]] = set()
"""Classes whose objects never change: it does not matter whether two names mean the same one."""
_lock = threading.Lock()


def register_type(
    cls: type[T],
    encode: Callable[[T], Any],
    decode: Callable[[Any], T],
    *,
    name: str | None = None,
) -> None:
    """Let checkpoints hold objects of *cls*; in every program that resumes such a run, too.

    Args:
        cls: Their exact class; subclasses need their own.
        encode: Returns what an object is made of, in types that checkpoints hold.
        decode: Makes the object again of that.
        name: What it is called in the store; "module:class" when left out. Keep it when the class
            moves.

    Raises:
        TypeError: *cls* is no class.
        ValueError: Another class has that name, or *cls* is stored in a way that is fixed.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_type takes a class, not {cls!r}")
    if cls in _FIXED:
        raise ValueError(f"{cls.__name__} is always stored in the same way")
    chosen = name or f"{cls.__module__}:{cls.__qualname__}"
    with _lock:
        taken = next((known for known, kind in by_class.items() if kind.name == chosen), None)
        if chosen in TAGS or taken in _FIXED:
            raise ValueError(f"the name {chosen!r} is one of the engine's own")
        # A module that is loaded anew brings its classes anew.
        if taken is not None and (taken.__module__, taken.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(f"the name {chosen!r} is taken by {taken.__qualname__}")
        by_class[cls] = by_name[chosen] = Type(chosen, encode, decode)


TAGS: Final = frozenset(
    {"as", "dataclass", "dict", "enum", "float", "frozenset", "int", "model", "namedtuple", "ref"}
    | {"set", "tuple"}
)
"""What the codec says itself."""


# --- time -----------------------------------------------------------------------------------------


def _zone(zone: dt.tzinfo | None) -> Any:
    """Return a time zone as JSON: None, seconds and perhaps a name, or a key of the IANA list.

    Raises:
        ValueError: It is of another kind.
    """
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key:
        return zone.key
    if type(zone) is dt.timezone:
        offset, *names = zone.__getinitargs__()  # type: ignore[attr-defined]  # as pickle does
        return [offset.total_seconds(), *names]
    raise ValueError(f"its time zone is {a(type(zone).__name__)}, and no ZoneInfo or timezone")


def _zoned(said: Any) -> dt.tzinfo | None:
    if said is None:
        return None
    if isinstance(said, str):
        return ZoneInfo(said)
    zone = dt.timezone(dt.timedelta(seconds=said[0]), *said[1:])
    return dt.UTC if zone == dt.UTC and len(said) == 1 else zone


def _moment(value: dt.datetime | dt.time) -> list[Any]:
    bare = value.replace(tzinfo=None, fold=0)
    return [bare.isoformat(), _zone(value.tzinfo), *([1] if value.fold else [])]


def _datetime(said: list[Any]) -> dt.datetime:
    bare = dt.datetime.fromisoformat(said[0])
    return bare.replace(tzinfo=_zoned(said[1]), fold=len(said) > 2)


def _time(said: list[Any]) -> dt.time:
    bare = dt.time.fromisoformat(said[0])
    return bare.replace(tzinfo=_zoned(said[1]), fold=len(said) > 2)


# --- all of them ----------------------------------------------------------------------------------


def _text(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _pairs(value: dict[Any, Any]) -> list[list[Any]]:
    return [list(pair) for pair in value.items()]


def _range(said: list[int]) -> range:
    return range(*said)


_BUILT_IN: Final[list[tuple[type[Any], str, Callable[[Any], Any], Callable[[Any], Any]]]] = [
    (dt.datetime, "datetime", _moment, _datetime),
    (dt.time, "time", _moment, _time),
    (dt.date, "date", dt.date.isoformat, dt.date.fromisoformat),
    (
        dt.timedelta,
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda said: dt.timedelta(*said),
    ),
    (Decimal, "decimal", str, Decimal),
    (UUID, "uuid", str, UUID),
    (
        Fraction,
        "fraction",
        lambda value: [value.numerator, value.denominator],
        lambda said: Fraction(*said),
    ),
    (
        complex,
        "complex",
        lambda value: [value.real, value.imag],
        lambda said: complex(*said),
    ),
    (range, "range", lambda value: [value.start, value.stop, value.step], _range),
    (type(Path()), "path", str, Path),
    (PurePosixPath, "posixpath", str, PurePosixPath),
    (PureWindowsPath, "windowspath", str, PureWindowsPath),
    (bytes, "bytes", _text, base64.b64decode),
    (bytearray, "bytearray", _text, lambda said: bytearray(base64.b64decode(said))),
    (Counter, "counter", _pairs, lambda said: Counter(dict(said))),
    (OrderedDict, "ordered", _pairs, OrderedDict),
    (
        deque,
        "deque",
        lambda value: [list(value), value.maxlen],
        lambda said: deque(*said),
    ),
]
for _cls, _name, _encode, _decode in _BUILT_IN:
    by_class[_cls] = by_name[_name] = Type(_name, _encode, _decode)
_CHANGING: Final = {bytearray, Counter, OrderedDict, deque}
VALUES.update({cls for cls, *_ in _BUILT_IN} - _CHANGING)
_FIXED: Final = frozenset(
    {str, int, float, bool, type(None), list, dict, tuple, set, frozenset, *by_class}
)
