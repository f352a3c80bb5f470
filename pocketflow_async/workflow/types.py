"""Types of ports: what is inside a type, and whether one type can be another.

Nothing is refused unless it is certain: a value of type `Animal` may well be a `Dog`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from typing import Any, Final

_NUMBERS: Final = {float: (int,), complex: (int, float)}
"""What else may stand where a number is wanted, as type checkers see it."""

_SCALARS: Final = (int, float, complex, bool, str, bytes, type(None))


def fields_of(annotation: Any) -> dict[str, Any] | None:
    """Return the types of what a TypedDict, dataclass or NamedTuple holds by name.

    None for all other types.
    """
    annotation = _bare(annotation)
    named = isinstance(annotation, type) and (
        typing.is_typeddict(annotation)
        or dataclasses.is_dataclass(annotation)
        or (issubclass(annotation, tuple) and hasattr(annotation, "_fields"))
    )
    if not named:
        return None
    try:
        hints = typing.get_type_hints(annotation)
    except (NameError, TypeError, AttributeError):
        hints = {}
    names = getattr(annotation, "_fields", None) or getattr(
        annotation, "__dataclass_fields__", annotation.__annotations__
    )
    return {name: hints.get(name) for name in names}


def step(annotation: Any, name: str) -> Any:
    """Return the type of what is found under *name* in a value of type *annotation*.

    None where that is not known.

    Raises:
        LookupError: There is certainly nothing under that name.
    """
    fields = fields_of(annotation)
    if fields is not None:
        return fields[name]
    if _is_scalar(annotation):
        raise LookupError(f"{name_of_type(annotation)} has no parts")
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return arguments[1] if len(arguments) == 2 else None
    if isinstance(origin, type) and origin in (list, collections.abc.Sequence):
        if not name.removeprefix("-").isdigit():
            raise LookupError(f"{name_of_type(annotation)} has places, not names")
        return arguments[0]
    return None


def _is_scalar(annotation: Any) -> bool:
    return _bare(annotation) in _SCALARS if _hashable(annotation) else False


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def name_of_type(annotation: Any) -> str:
    """Return *annotation* as its author would write it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "None" if annotation is type(None) else annotation.__qualname__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def fits(source: Any, target: Any) -> bool:
    """Return whether a value of type *source* can be one of type *target*.

    False only where it is certain that it cannot; a type that is not known (None) fits anything.
    """
    return _fits(source, target, 20)


def _fits(source: Any, target: Any, depth: int) -> bool:
    source, target = _bare(source), _bare(target)
    if not depth or _unknown(source) or _unknown(target) or source is target:
        return True
    for side, is_source in ((source, True), (target, False)):
        if _is_union(side):
            pairs = [(m, target) if is_source else (source, m) for m in typing.get_args(side)]
            return any(_fits(one, other, depth - 1) for one, other in pairs)
    if typing.get_origin(source) is typing.Literal:
        return any(_holds(value, target, depth) for value in typing.get_args(source))
    if typing.get_origin(target) is typing.Literal:
        return any(_fits(source, type(value), depth - 1) for value in typing.get_args(target))
    return _classes_fit(source, target, depth)


def _holds(value: Any, target: Any, depth: int) -> bool:
    """Return whether the literal *value* can be of type *target*."""
    if typing.get_origin(target) is typing.Literal:
        return value in typing.get_args(target)
    return _fits(type(value), target, depth - 1)


def _classes_fit(source: Any, target: Any, depth: int) -> bool:
    one, other = _class_of(source), _class_of(target)
    if one is None or other is None or _is_protocol(one) or _is_protocol(other):
        return True
    if one in _NUMBERS.get(other, ()):
        return True
    if not (_is_a(one, other) or _is_a(other, one)):
        return False
    if typing.is_typeddict(source) and typing.is_typeddict(target):
        return _dicts_fit(source, target, depth)
    return all(
        _fits(inner, outer, depth - 1)
        for inner, outer in zip(_inner(source), _inner(target), strict=False)
    )


def _dicts_fit(source: Any, target: Any, depth: int) -> bool:
    have, want = fields_of(source) or {}, fields_of(target) or {}
    if not target.__required_keys__ <= have.keys():
        return False
    return all(_fits(have[name], want[name], depth - 1) for name in want.keys() & have.keys())


def _inner(annotation: Any) -> tuple[Any, ...]:
    """Return the types of what a container holds, where they can be compared by their places."""
    arguments, own = typing.get_args(annotation), _class_of(annotation)
    if own is None or own is tuple or not _is_a(own, collections.abc.Iterable):
        return ()
    return arguments if len(arguments) == 1 + _is_a(own, collections.abc.Mapping) else ()


def _class_of(annotation: Any) -> type | None:
    """Return the class whose instances are of type *annotation*; None where that is not known."""
    if typing.is_typeddict(annotation):
        return dict
    origin = typing.get_origin(annotation) or annotation
    return origin if isinstance(origin, type) else None


def _is_a(one: type, other: type) -> bool:
    try:
        return issubclass(one, other)
    except TypeError:
        return True  # a class that refuses the question


def _is_protocol(one: type) -> bool:
    return bool(getattr(one, "_is_protocol", False))


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _unknown(annotation: Any) -> bool:
    return annotation is None or annotation in (Any, object) or isinstance(annotation, str)


def _bare(annotation: Any) -> Any:
    """Return *annotation* without what says nothing about its values."""
    for _ in range(20):
        if typing.get_origin(annotation) in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, typing.TypeVar):
            annotation = annotation.__bound__
        else:
            break
    return annotation


_WRAPPERS: Final = (
    typing.Annotated,
    typing.Final,
    typing.ClassVar,
    typing.Required,
    typing.NotRequired,
)
