"""The ids that belong on each line of a log, wherever in a run it is written.

They are held, immutable, in one ContextVar, which tasks and threads started by asyncio inherit.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final
from uuid import uuid4

IDS: Final = ("correlation_id", "execution_id", "node_id", "trace_id", "span_id")
"""What a host's own format may name, as in `%(execution_id)s`."""

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_context: ContextVar[Mapping[str, Any]] = ContextVar("pocketflow_log_context", default=_NONE)


class bound_context:
    """Put *values* on each line of a `with` block, and of tasks that are started in it.

    A class with slots, not `@contextmanager`: it is entered once per node.

    Args:
        **values: What to say; None: nothing of that name.
    """

    __slots__ = ("_token", "_values")

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __enter__(self) -> None:
        self._token: Token[Mapping[str, Any]] = _context.set({**_context.get(), **self._values})

    def __exit__(self, *_: object) -> None:
        _context.reset(self._token)


def bind_context(**values: Any) -> None:
    """Put *values* on each later line of this task, and of those that it starts."""
    _context.set({**_context.get(), **values})


def unbind_context(*names: str) -> None:
    """Leave *names* off the later lines of this task."""
    _context.set({name: value for name, value in _context.get().items() if name not in names})


def clear_context() -> None:
    """Leave everything off the later lines of this task, the ids of the trace excepted."""
    _context.set(_NONE)


def set_correlation_id(correlation_id: str | None = None) -> str:
    """Put a correlation id on each later line of this task; None: a new one. Return it."""
    correlation_id = correlation_id or uuid4().hex
    bind_context(correlation_id=correlation_id)
    return correlation_id


def get_correlation_id() -> str | None:
    """Return the correlation id of this task; None: it has none."""
    return _context.get().get("correlation_id")


def current() -> dict[str, Any]:
    """Return what belongs on a line that is written here."""
    found = _trace_ids()
    found.update((name, value) for name, value in _context.get().items() if value is not None)
    return found


class ContextFilter(logging.Filter):
    """Adds what belongs on a line to its record; lets all of them through.

    It has to be at a handler, not at a logger, whose filters do not see the lines of others.

    Args:
        absent: What `IDS` are that there are not; None: they are left off.
    """

    def __init__(self, absent: str | None = None) -> None:
        super().__init__()
        self._absent = absent

    def filter(self, record: logging.LogRecord) -> bool:
        """Add to *record* what it does not have."""
        found, known = current(), record.__dict__
        # Whole too: what is called like a part of every record would else be lost.
        known.setdefault("context", found)
        for name, value in found.items():
            known.setdefault(name, value)
        if self._absent is not None:
            for name in IDS:
                known.setdefault(name, self._absent)
        return True


def _trace_ids() -> dict[str, str]:
    """Return the ids of the span that is current for OpenTelemetry; ours is, once it is loaded."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    try:
        here = api.get_current_span().get_span_context()
        if not here.is_valid:
            return {}
        return {"trace_id": f"{here.trace_id:032x}", "span_id": f"{here.span_id:016x}"}
    except Exception:  # noqa: BLE001 (another thread is loading it, or a span is a stranger's)
        return {}
