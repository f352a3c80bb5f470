"""How a line of a log looks, whoever writes it: a structlog logger, or one of the standard library.

Both become a `LogRecord`, so that handlers, levels and queues are the standard library's. That of a
structlog logger has a `Line` as its message, and its values as attributes, for formats of others.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Container, Iterator, MutableMapping
from typing import Any, Final, TextIO

from pocketflow_async.infrastructure.events.stamp import timestamp
from pocketflow_async.infrastructure.logging_redaction import (
    LONGEST,
    REDACTED,
    clean,
    is_secret,
    told_items,
)
from pocketflow_async.needing import need

_STANDARD: Final = frozenset(
    {*logging.makeLogRecord({}).__dict__, "message", "asctime", "context", "color_message"}
)
"""Attributes that records have anyway."""
_OWN: Final = frozenset({"timestamp", "level", "logger", "event", "exception", "error_type"})
_CONTROLS: Final = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    ord("\n"): "\n  | ",
    ord("\t"): "\t",
}
"""So that no text of others looks like a line of its own, or moves the cursor of a terminal."""
_BRIEF: Final = 200  # characters of a local variable

Render = Callable[[dict[str, Any]], str]


class Line:
    """The message of a structlog logger and its values, which are plain and without secrets."""

    __slots__ = ("event", "values")

    def __init__(self, event: str, values: dict[str, Any]) -> None:
        self.event = event
        self.values = values

    def __str__(self) -> str:
        """Say all of it, for formats that know nothing of values."""
        return " ".join([self.event, *(f"{key}={value}" for key, value in self.values.items())])


def to_record(_: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Return what a logger of the standard library is called with; structlog's last processor."""
    known = {name: event.pop(name) for name in ("exc_info", "stack_info", "extra") if name in event}
    message = clean(str(event.pop("event", "")))
    values = told_items(event)
    extra = {**known.pop("extra", {}), **values}
    return {
        "msg": Line(message, values),
        "extra": {name: value for name, value in extra.items() if name not in _STANDARD},
        "stacklevel": _depth(),
        **known,
    }


class LineFormatter(logging.Formatter):
    """Makes a line of any record: JSON, or what people read.

    Args:
        render: Makes a text of what there is to say.
        show_locals: Whether tracebacks show local variables.
    """

    def __init__(self, render: Render, *, show_locals: bool = False) -> None:
        super().__init__()
        self._render = render
        self._show_locals = show_locals

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; never fails for what is to be said."""
        entry: dict[str, Any] = {
            "timestamp": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        message = record.msg
        if isinstance(message, Line):
            entry["event"] = message.event
            values = {**_values(record, message.values), **message.values}
        else:
            entry["event"] = clean(_message(record))
            values = _values(record)
        for name, value in values.items():
            entry[f"{name}_" if name in _OWN else name] = value
        if record.exc_info and record.exc_info[1] is not None:
            entry["error_type"] = type(record.exc_info[1]).__qualname__
            entry["exception"] = self._trace(record.exc_info[1])
        elif record.exc_text:
            entry["exception"] = clean(record.exc_text)
        if record.stack_info:
            entry["stack"] = clean(record.stack_info)
        return self._render(entry)

    def _trace(self, error: BaseException) -> str:
        try:
            told = traceback.TracebackException.from_exception(
                error, capture_locals=self._show_locals, compact=True
            )
            for one in _chain(told):
                for frame in one.stack:
                    if frame.locals:
                        frame.locals = {
                            name: REDACTED if is_secret(name) else clean(shown)[:_BRIEF]
                            for name, shown in frame.locals.items()
                        }
            text = "".join(told.format()).rstrip()
            if len(text) > LONGEST:  # the end says what it was
                text = f"{text[: LONGEST // 4]}\n…\n{text[-LONGEST // 2 :]}"
            return clean(text)
        except Exception:  # noqa: BLE001 (a variable cannot say what it is, or an error)
            return f"{type(error).__qualname__}: its traceback cannot be shown"


def to_json(entry: dict[str, Any]) -> str:
    """Return a line of JSON."""
    try:
        return str(need("orjson", "workflow").dumps(entry), "utf-8")
    except TypeError:  # numbers of more than 64 bits, halves of surrogate pairs
        return json.dumps(entry, default=repr)


def to_console(stream: TextIO) -> Render:
    """Return what makes lines for people, with colours where *stream* is a terminal."""
    dev = need("structlog", "workflow").dev
    colours = bool(getattr(stream, "isatty", bool)())
    renderer = dev.ConsoleRenderer(colors=colours, exception_formatter=dev.plain_traceback)

    def render(entry: dict[str, Any]) -> str:
        trace = entry.pop("exception", None)
        for name, value in entry.items():
            if isinstance(value, str):
                entry[name] = value.translate(_CONTROLS)
        entry.pop("error_type", None)  # the trace says it
        shown = str(renderer(None, entry["level"], entry))
        return shown if trace is None else f"{shown}\n{trace}"

    return render


# --------------------------------------------------------------------------------------------------


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 (arguments that do not fit: the line is still to be seen)
        return f"{record.msg} {record.args!r:.1000}"


def _values(record: logging.LogRecord, done: Container[str] = ()) -> dict[str, Any]:
    """Return what the record has besides the usual and *done*: extras, and ids of the run."""
    known = record.__dict__
    found = {
        name: value for name, value in known.items() if name not in _STANDARD and name not in done
    }
    found.update(known.get("context", ()))
    return told_items(found)


def _chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """Yield a told error and all that led to it or are in it."""
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        one = waiting.pop()
        if one is not None:
            yield one
            waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _depth() -> int:
    """Return how many of structlog's calls lie between the logger and who has called it."""
    frame = sys._getframe(2)  # who has called `to_record`: the caller of all processors
    depth = 0
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("structlog"):
        depth += 1
        frame = frame.f_back
    return max(depth, 1)
