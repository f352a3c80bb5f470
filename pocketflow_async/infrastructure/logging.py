"""Structured logs: lines with the ids of the run, node and trace that they belong to.

Nothing is configured by importing this. `configure_logging` does it, once the program says so, and
leaves a host's own configuration as it is: then the ids are there for its format to name.

    configure_logging("INFO", "json")
    log = get_logger(__name__)
    with bound_context(execution_id="exec_1", node_id="price"):
        log.info("price fetched", symbol="BTC", price=50_000)
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from contextlib import suppress
from typing import Any, Final, TextIO

from pocketflow_async.infrastructure.logging_context import (
    ContextFilter,
    bind_context,
    bound_context,
    clear_context,
    get_correlation_id,
    set_correlation_id,
    unbind_context,
)
from pocketflow_async.infrastructure.logging_format import (
    LineFormatter,
    to_console,
    to_json,
    to_record,
)
from pocketflow_async.needing import need

__all__ = [
    "bind_context",
    "bound_context",
    "clear_context",
    "configure_logging",
    "get_correlation_id",
    "get_logger",
    "reset_logging",
    "set_correlation_id",
    "unbind_context",
]

_FORMATS: Final = ("json", "console")
_lock = threading.Lock()


class _Handler(logging.StreamHandler[TextIO]):
    """That which `configure_logging` has made."""


def configure_logging(
    level: str | int = "INFO",
    format: str = "json",
    add_correlation_id: bool = True,
    show_locals: bool = False,
    *,
    stream: TextIO | None = None,
    force: bool = False,
) -> bool:
    """Write all logs as structured lines, those of the standard library's loggers too.

    Where the program has configured the root logger itself, that stays as it is; its records get
    the ids as attributes, "-" where there are none. Being called again replaces what it did before.

    Args:
        level: The least level that is written, such as "INFO", in upper or lower case.
        format: "json", or "console" for people.
        add_correlation_id: Whether each line has the ids of the run, node and trace.
        show_locals: Whether tracebacks show local variables; secrets are hidden by their names.
        stream: Where to; None: standard error.
        force: Whether handlers that the program has made are taken off.

    Returns:
        Whether the lines are written by us; False: the program's own configuration holds.

    Raises:
        ImportError: structlog is not installed.
        ValueError: There is no such level or format.
    """
    number = _level(level)
    if format not in _FORMATS:
        raise ValueError(f"{format!r} is no format of logs; there are {', '.join(_FORMATS)}")
    structlog = need("structlog", "workflow")
    with suppress(ImportError):
        # Once it is loaded, the span of a trace is to be found through it.
        importlib.import_module("opentelemetry.trace")
    with _lock:
        root = logging.getLogger()
        if _hosts(root) and not force:
            _lend_ids(root, add_correlation_id)
            return False
        _take_off(root, everything=force)
        root.addHandler(_handler(stream or sys.stderr, format, add_correlation_id, show_locals))
        root.setLevel(number)
        if force or not structlog.is_configured():
            structlog.configure(logger_factory=_plain_logger, **_options(structlog))
    return True


def reset_logging() -> None:
    """Take off what `configure_logging` has put on; levels stay."""
    with _lock:
        root = logging.getLogger()
        _take_off(root, everything=False)
        _lend_ids(root, False)
        structlog: Any = sys.modules.get("structlog")
        if structlog is not None and structlog.get_config()["logger_factory"] is _plain_logger:
            structlog.reset_defaults()


def get_logger(name: str | None = None, **values: Any) -> Any:
    """Return a structlog logger that writes through the standard library's of that name.

    It can be made, and used, before anything is configured, and wherever the host writes its logs.

    Args:
        name: Its name; None: that of the calling module.
        **values: What each of its lines says.

    Raises:
        ImportError: structlog is not installed.
    """
    structlog = need("structlog", "workflow")
    if name is None:
        name = str(sys._getframe(1).f_globals.get("__name__", "root"))
    logger = logging.getLogger(name)
    return structlog.wrap_logger(
        logger, cache_logger_on_first_use=True, **_options(structlog), **values
    )


def _options(structlog: Any) -> dict[str, Any]:
    return {
        "processors": [
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            to_record,
        ],
        "wrapper_class": structlog.stdlib.BoundLogger,
        "context_class": dict,
    }


def _plain_logger(*names: Any) -> logging.Logger:
    return logging.getLogger(names[0] if names else None)


def _handler(stream: TextIO, format: str, ids: bool, show_locals: bool) -> logging.Handler:
    handler = _Handler(stream)
    render = to_json if format == "json" else to_console(stream)
    handler.setFormatter(LineFormatter(render, show_locals=show_locals))
    if ids:
        handler.addFilter(ContextFilter())
    return handler


def _level(level: str | int) -> int:
    if isinstance(level, int):
        return level
    number = logging.getLevelNamesMapping().get(level.strip().upper())
    if number is None:
        raise ValueError(f"{level!r} is no level of logs; there are DEBUG, INFO, WARNING, ERROR")
    return number


def _hosts(root: logging.Logger) -> list[logging.Handler]:
    """Return the handlers that the program has made."""
    silent = (_Handler, logging.NullHandler)
    return [handler for handler in root.handlers if not isinstance(handler, silent)]


def _lend_ids(root: logging.Logger, wanted: bool) -> None:
    for handler in _hosts(root):
        for known in [one for one in handler.filters if isinstance(one, ContextFilter)]:
            handler.removeFilter(known)
        if wanted:
            handler.addFilter(ContextFilter("-"))


def _take_off(root: logging.Logger, *, everything: bool) -> None:
    for handler in list(root.handlers):
        if everything or isinstance(handler, _Handler):
            root.removeHandler(handler)
            if isinstance(handler, _Handler):
                handler.flush()  # the stream is not ours to close
