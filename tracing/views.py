"""How a value looks from outside, one level deep: a scalar, a text, `Items` or `Fields`.

Nothing is consumed and nothing imported. Containers are read through the methods of the built-in
type, never through a subclass's own; an object's class is `type(value)`, never `__class__`, which
may lie. A view may still raise whatever a hostile object raises: the caller catches it.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from enum import EnumMeta
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import PurePath
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
)
from typing import Any, Final, NamedTuple
from uuid import UUID

_PREVIEW: Final = 32  # bytes shown of a bytes object
_BITS: Final = 1024  # longest integer written out, for str(int) is quadratic
_ARRAYS: Final = frozenset(
    {
        "numpy",
        "pandas",
        "torch",
        "jax",
        "jaxlib",
        "polars",
        "pyarrow",
        "scipy",
        "tensorflow",
        "xarray",
    }
)


class Items(NamedTuple):
    """The first items of a sequence or set."""

    items: list[Any]
    total: int


class Fields(NamedTuple):
    """The first pairs of a mapping, or the attributes of a structured object."""

    pairs: list[tuple[Any, Any]]
    total: int


View = None | bool | int | float | str | Items | Fields

_qualname = type.__dict__["__qualname__"].__get__  # past a metaclass that answers otherwise
_module = type.__dict__["__module__"].__get__
_mro = type.__dict__["__mro__"].__get__
_namespace = type.__dict__["__dict__"].__get__


def name_of(kind: type) -> str:
    """Return the bare name of a class, never running its metaclass."""
    return str(_qualname(kind)).rpartition(".")[2]


def view(value: object, most: int) -> View:
    """Return how *value* looks, with no more than *most* of its items."""
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if issubclass(type(kind), EnumMeta):
        return view(_own(value)["_value_"], most)
    for base, look in _LOOKS:
        if issubclass(kind, base):
            return look(value, most)
    if (names := _field_names(kind)) is not None:
        return _attributes(value, names, most)
    return _described(value, kind)


def _described(value: Any, kind: type) -> str:
    root = str(_module(kind)).partition(".")[0]
    if root in _ARRAYS and _has(kind, "shape"):
        kept = f" dtype={value.dtype}" if _has(kind, "dtype") else ""
        return f"<{name_of(kind)} shape={tuple(value.shape)}{kept}>"
    if _has(kind, "__next__") or _has(kind, "__anext__"):
        return f"<{name_of(kind)}>"
    if _find(kind, "__repr__") is object.__repr__:
        return f"<{_module(kind)}.{_qualname(kind)} object>"
    return str.__str__(repr(value))


def _int(value: int, _most: int) -> int | str:
    number = int.__int__(value)
    if -(1 << 63) <= number < 1 << 64:
        return number
    bits = int.bit_length(number)
    return str(number) if bits <= _BITS else f"<int of {bits} bits>"


def _float(value: float, _most: int) -> float | str:
    number = float.__float__(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _bytes(value: bytes | bytearray, _most: int) -> str:
    size = len(memoryview(value))
    start = bytes(memoryview(value)[:_PREVIEW])
    try:
        text = start.decode()
    except UnicodeDecodeError:
        text = ""
    shown = text if text.isprintable() and text else start.hex()
    return f"<bytes {size}> {shown}{'…' if size > _PREVIEW else ''}"


def _mapping(value: dict[Any, Any], most: int) -> Fields:
    return Fields(list(islice(dict.items(value), most)), dict.__len__(value))


def _tuple(value: tuple[Any, ...], most: int) -> Items | Fields:
    names = _find(type(value), "_fields")
    items = list(islice(tuple.__iter__(value), most))
    size = tuple.__len__(value)
    if type(names) is tuple and len(names) == size:
        return Fields(list(zip(names, items, strict=False)), size)
    return Items(items, size)


def _collection(base: type) -> Callable[[Any, int], Items]:
    def look(value: Any, most: int) -> Items:
        items: Iterable[Any] = base.__iter__(value)  # type: ignore[attr-defined]
        return Items(list(islice(items, most)), base.__len__(value))  # type: ignore[attr-defined]

    return look


def _exception(value: BaseException, _most: int) -> str:
    return f"{name_of(type(value))}: {str.__str__(str(value))}"


def _callable(value: Any, _most: int) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", "?")
    return f"<{type(value).__name__} {f'{module}.' if module else ''}{name}>"


def _class(value: type, _most: int) -> str:
    return f"<class {_module(value)}.{_qualname(value)}>"


def _generator(value: Any, _most: int) -> str:
    return f"<{type(value).__name__} {value.__qualname__}>"


def _text(value: object, _most: int) -> str:
    return str.__str__(str(value))


_VIEWS_OF_DICT: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))
_LOOKS: Final[tuple[tuple[type, Callable[[Any, int], View]], ...]] = (
    (str, lambda value, _: str.__str__(value)),
    (int, _int),
    (float, _float),
    (dict, _mapping),
    (list, _collection(list)),
    (tuple, _tuple),
    *((base, _collection(base)) for base in (set, frozenset, deque, *_VIEWS_OF_DICT)),
    (bytes, _bytes),
    (bytearray, _bytes),
    (memoryview, lambda value, _: f"<memoryview {value.nbytes}>"),
    (array, lambda value, _: f"<array {value.typecode!r} of {len(value)}>"),
    (BaseException, _exception),
    (type, _class),
    *((base, _callable) for base in (FunctionType, MethodType, BuiltinFunctionType)),
    *((base, _generator) for base in (GeneratorType, CoroutineType, AsyncGeneratorType)),
    (partial, lambda value, _: f"<partial of {_described_function(value.func)}>"),
    (date, lambda value, _: value.isoformat()),
    (time, lambda value, _: value.isoformat()),
    *((base, _text) for base in (Decimal, Fraction, PurePath, UUID, timedelta)),
)


def _described_function(value: object) -> str:
    seen = view(value, 1)
    return seen if isinstance(seen, str) else name_of(type(value))


def _field_names(kind: type) -> list[str] | None:
    """Return the names of the fields of a dataclass or attrs class; none of a pydantic model.

    A pydantic model keeps its fields in its `__dict__`, which is read whole anyway.
    """
    if type(fields := _find(kind, "__dataclass_fields__")) is dict:
        return list(fields)
    if isinstance(fields := _find(kind, "__attrs_attrs__"), tuple):
        return [field.name for field in fields]
    return (
        [] if _has(kind, "__pydantic_fields__") or _has(kind, "__pydantic_core_schema__") else None
    )


def _attributes(value: object, names: list[str], most: int) -> Fields:
    own = _own(value)
    pairs = list(own.items()) if not names else []
    for name in names:
        if name in own:
            pairs.append((name, own[name]))
        elif type(slot := _find(type(value), name)) is MemberDescriptorType:
            pairs.extend(_slot(slot, name, value))
    return Fields(pairs[:most], len(pairs))


def _slot(slot: MemberDescriptorType, name: str, value: object) -> list[tuple[str, Any]]:
    try:
        return [(name, slot.__get__(value))]
    except AttributeError:  # never set
        return []


def _own(value: object) -> dict[str, Any]:
    """Return the instance's own attributes, past any `__getattribute__`; {} when it keeps none."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return dict(own) if type(own) is dict else {}


def _find(kind: type, name: str) -> Any:
    """Return the attribute *name* of a class as written there, or None; runs no descriptor."""
    for base in _mro(kind):
        if name in (namespace := _namespace(base)):
            return namespace[name]
    return None


def _has(kind: type, name: str) -> bool:
    return _find(kind, name) is not None
