"""A fresh shallow copy of a node for every visit, as PocketFlow makes with `copy.copy`.

`copy.copy` costs more than all the rest of a visit. Ordinary nodes need only a new object with the
same `__dict__`; classes that say otherwise (`__copy__`, `__slots__`, `__getstate__` …) still get
`copy.copy` itself. The verdict is kept in the class's own `__dict__`, so it lives as long as the
class and is never inherited.
"""

from __future__ import annotations

import copy
import copyreg
from abc import ABCMeta
from typing import Any, TypeVar

_T = TypeVar("_T")
_FLAG = "_pf_copied_by_dict"
_new = object.__new__


def fresh(node: _T) -> _T:
    """Return a shallow copy of *node*, equal to what `copy.copy` makes."""
    cls = type(node)
    if _FLAG in cls.__dict__ or _learn(cls):
        twin = _new(cls)
        twin.__dict__ = node.__dict__.copy()
        return twin
    return copy.copy(node)


def _learn(cls: type[Any]) -> bool:
    """Decide once whether objects of *cls* are no more than their `__dict__`."""
    if not _plain(cls):
        return False
    setattr(cls, _FLAG, True)
    return True


def _plain(cls: type[Any]) -> bool:
    base: Any = object
    return (
        bool(cls.__dictoffset__)
        and type(cls) in (type, ABCMeta)
        and cls.__new__ is base.__new__
        and cls.__setattr__ is base.__setattr__
        and cls.__getattribute__ is base.__getattribute__
        and cls.__reduce_ex__ is base.__reduce_ex__
        and cls.__reduce__ is base.__reduce__
        and getattr(cls, "__getstate__", None) is getattr(base, "__getstate__", None)
        and not any(
            hasattr(cls, name)
            for name in ("__copy__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
        )
        and not copyreg._slotnames(cls)  # type: ignore[attr-defined]
        and cls not in copyreg.dispatch_table
    )
