"""Objects of the program's own classes: what they are made of, and how they are made again."""

from __future__ import annotations

import copyreg
import dataclasses
import sys
from collections.abc import Callable, Mapping
from enum import Enum, Flag
from typing import Any, Final

from pocketflow_async.infrastructure.checkpoints.errors import CheckpointError

_MADE_IN_PYTHON: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE


class Refusal(Exception):
    """Why a value cannot be stored; where it is is added on the way out, the last part first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str] = []


def state_of(value: Any, cls: type[Any]) -> tuple[str, str, Any]:
    """Return the tag for an object, the name of its class, and what it is made of.

    Raises:
        Refusal: It is of a kind that cannot be stored as it is.
    """
    name = f"{cls.__module__}:{cls.__qualname__}"
    if isinstance(value, Enum):
        tag, state = "enum", _member(value)
    elif issubclass(cls, tuple) and cls.__bases__ == (tuple,) and hasattr(cls, "_fields"):
        tag, state = "namedtuple", list(value)
    elif _is_model(cls):
        tag, state = "model", dict(value.__getstate__())
    elif dataclasses.is_dataclass(cls) and _is_plain(cls):
        tag, state = "dataclass", _attributes(value)
    else:
        raise Refusal(_advice(cls, name))
    if _found(name) is not cls:
        raise Refusal(
            f"is of the type {cls.__qualname__}, which is not found as {name}: define the class at "
            "the top level of its module, or call register_type for it"
        )
    return tag, name, state


def _advice(cls: type[Any], name: str) -> str:
    shown = name.removeprefix("builtins:").replace(":", ".")
    return (
        f"is of the type {shown}, which a checkpoint cannot hold. Keep it out of what the nodes "
        "share (make it in the node that needs it), or call "
        f"register_type({cls.__name__}, encode, decode)"
    )


def _member(value: Enum) -> Any:
    # A flag may be several members at once, which have no common name.
    return [value.value] if isinstance(value, Flag) else value.name


def _is_model(cls: type[Any]) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


def _is_plain(cls: type[Any]) -> bool:
    """Return whether objects of *cls* are no more than their attributes.

    Those of subclasses of built-in ones, as exceptions and dicts are, hold more.
    """
    return all(base is object or base.__flags__ & _MADE_IN_PYTHON for base in cls.__mro__)


def _attributes(value: Any) -> dict[str, Any]:
    slots = copyreg._slotnames(type(value))  # type: ignore[attr-defined]  # what pickle asks
    own = dict(getattr(value, "__dict__", {}))
    return {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **own}


def _found(name: str) -> Any:
    """Return what a name "module:class" means now; None: nothing. Imports and runs nothing."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        names: Mapping[str, Any] = getattr(found, "__dict__", {})
        found = names.get(part)
    return found


# --- and back -------------------------------------------------------------------------------------


def _class(name: str, base: Callable[[type[Any]], bool]) -> type[Any]:
    found = _found(name)
    if not isinstance(found, type) or not base(found):
        module = name.partition(":")[0]
        why = "" if module in sys.modules else f": import {module} before the run is resumed"
        raise CheckpointError(f"the class {name.replace(':', '.')} is not there{why}")
    return found


def _enum(content: Any, name: str) -> Any:
    cls = _class(name, lambda cls: issubclass(cls, Enum))
    return cls(content[0]) if isinstance(content, list) else cls.__members__[content]


def _namedtuple(content: list[Any], name: str) -> Any:
    cls = _class(name, lambda cls: issubclass(cls, tuple) and hasattr(cls, "_fields"))
    if len(content) != len(cls._fields):
        raise CheckpointError(f"{cls.__qualname__} has {len(cls._fields)} fields by now")
    return tuple.__new__(cls, content)


def _dataclass(content: dict[str, Any], name: str) -> Any:
    cls: Any = _class(name, lambda cls: dataclasses.is_dataclass(cls) and _is_plain(cls))
    value = object.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.name not in content:
            if field.default_factory is not dataclasses.MISSING:
                content[field.name] = field.default_factory()
            elif field.default is not dataclasses.MISSING:
                content[field.name] = field.default
            elif field.init:
                raise CheckpointError(f"{cls.__qualname__}.{field.name} was not there yet")
    for attribute, item in content.items():
        object.__setattr__(value, attribute, item)  # a frozen one has no other way
    return value


def _model(content: dict[str, Any], name: str) -> Any:
    cls: Any = _class(name, _is_model)
    values = content["__dict__"]
    for field, info in cls.model_fields.items():
        if field not in values:
            if info.is_required():
                raise CheckpointError(f"{cls.__qualname__}.{field} was not there yet")
            values[field] = info.get_default(call_default_factory=True)
    value = object.__new__(cls)
    value.__setstate__(content)
    return value


READERS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "as": lambda content, _: content,
    "tuple": lambda content, _: tuple(content),
    "set": lambda content, _: set(content),
    "frozenset": lambda content, _: frozenset(content),
    "enum": _enum,
    "namedtuple": _namedtuple,
    "dataclass": _dataclass,
    "model": _model,
}
"""What makes the value of its content, by tag."""
