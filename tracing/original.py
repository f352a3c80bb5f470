"""Flows written for the original `pocketflow` package, seen without being changed.

The original knows no observers, so something has to say where a node begins. The mechanism here is
a *gate*: a descriptor in the place of a private method of the original's base classes (`_run`,
`_exec`, `_orch` and their asynchronous kin), installed once for each module of the original when
the first of its flows runs traced. Asked for inside a traced run it gives the watched variant of
the method (`original_sync`, `original_async`), which does the same in the same order and enters a
`Step` around each unit of work; asked anywhere else it gives the original function itself.

Why this, and not what else would do:

- Wrapping the nodes (as pocketflow_tracing 0.1.5 does) binds the wrapper to the node that was
  wrapped, while every visit runs on a copy of it: params, `cur_retry` and state are lost.
- Changing the class of each visit's copy shows in `type(self)`, and not every class allows it.
- Wrapping the base classes' methods in functions would put a further frame under each, so that a
  nesting of 300 flows, which runs today, would not; traced or not. A gate costs no frame: what it
  gives is called directly, and the watched variants need as many frames as the originals.
- Driving the graph from outside, with nothing installed, loses the phases of all nodes that
  override a private method and call `super()`, and flows that are run by hand inside a node.

Only methods that are known are driven: a method is compared by the names it uses, and one that is
not as in PocketFlow 0.0.2, 0.0.3 or git HEAD (or has been replaced by the user) is left alone.
Which of them it is, matters in one place: HEAD keeps the number of the attempt of asynchronous
nodes in `cur_retry`. A copy of the original's file in somebody's own project is recognized too.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final
from weakref import WeakSet

from tracing.context import position
from tracing.recorder import active

logger = logging.getLogger(__name__)

_PACKAGE: Final = "pocketflow"
_installing = threading.Lock()
_judged: WeakSet[type] = WeakSet()
_gated: WeakSet[ModuleType] = WeakSet()


class Gate:
    """Stands for a method of the original: itself, or watched where a traced run is under way."""

    __slots__ = ("original", "watched")

    def __init__(self, original: Callable[..., Any], watched: Callable[..., Any]) -> None:
        self.original = original
        self.watched = watched

    def __get__(self, node: object | None, owner: type | None = None) -> Any:
        watched = active() is not None and position.get() is not None
        chosen = self.watched if watched else self.original
        return chosen if node is None else MethodType(chosen, node)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.original,)  # a class pickled by value takes the original along


def _same(value: Any) -> Any:
    return value


def adopt(source: object) -> None:
    """Make the original's flows visible, if *source* is one or the package has been imported.

    Called as every traced run begins. Never raises.
    """
    cls = type(source)
    if cls in _judged and (_PACKAGE not in sys.modules or sys.modules[_PACKAGE] in _gated):
        return
    try:
        with _installing:
            for module in (sys.modules.get(_PACKAGE), _module_of(cls)):
                if module is not None and module not in _gated:
                    if _is_known(module):
                        _install(module)
                    _gated.add(module)
            _judged.add(cls)
    except Exception:
        logger.exception("nodes of %r are not traced one by one", source)


def _module_of(cls: type) -> ModuleType | None:
    """Return the module of the original that *cls* comes from, or None if it comes from none."""
    for base in cls.__mro__:
        if base.__name__ == "BaseNode" and not hasattr(base, "_pf_kind"):
            return sys.modules.get(base.__module__)
    return None


def _is_known(module: ModuleType) -> bool:
    """Return whether *module* is an original, and not 0.0.1, whose flows go on differently."""
    return hasattr(getattr(module, "BaseNode", None), "next") and hasattr(module, "Flow")


def _install(module: ModuleType) -> None:
    from tracing.original_async import WATCHED_ASYNC  # noqa: PLC0415 (for those who use it)
    from tracing.original_sync import WATCHED  # noqa: PLC0415 (for those who use it)

    for (owner, name), (used, make) in {**WATCHED, **WATCHED_ASYNC}.items():
        cls = getattr(module, owner, None)
        method = None if cls is None else cls.__dict__.get(name)
        if isinstance(method, FunctionType):
            found = _names(method.__code__)
            if found in (used, used | _HEAD_ONLY):
                setattr(cls, name, Gate(method, make(module, method)))
            else:
                logger.debug("%s.%s is not as known; it is left alone", owner, name)


_HEAD_ONLY: Final = frozenset({"cur_retry"})


def _names(code: CodeType) -> frozenset[str]:
    """Return the names that *code* uses, those of comprehensions and generators in it included."""
    inner = [_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return frozenset(code.co_names).union(*inner) - {"super"}
