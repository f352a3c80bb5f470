"""Files of traces read in: each line looked at before anything is kept, then trace by trace.

The spans of one trace may be lines apart, as in a Collector's file, and files may be larger than
memory: the lines are sorted by trace in a temporary database, which SQLite keeps on disk and
removes by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from types import ModuleType
from typing import Any, Final

import orjson

from tracing.errors import TracingError
from tracing.formats import jsonl_lines, otlp_spans
from tracing.formats.arrived import Arrived
from tracing.formats.fields import Unfit

_OURS: Final = "pocketflow-async"
_OTLP: Final = "otlp-json"
_READERS: Final[dict[str, ModuleType]] = {_OURS: jsonl_lines, _OTLP: otlp_spans}


class BadFile(TracingError):
    """A file does not hold traces, or not whole ones; nothing was taken from it."""

    def __init__(self, file: str, line: int | None, cause: str) -> None:
        place = file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {cause}. Nothing was imported from this file.")


def read(file: str, lines: Iterable[bytes]) -> Generator[Arrived, None, None]:
    """Yield the traces of a file in the order in which they begin there.

    Args:
        file: What it is called in errors.
        lines: Its lines.

    Raises:
        BadFile: A line is not one of a known format, or lines are missing; before the first trace.
    """
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.execute("PRAGMA journal_mode = OFF")
        scratch.execute("CREATE TABLE items (format TEXT, trace TEXT, item BLOB)")
        scratch.execute("BEGIN")
        scratch.executemany("INSERT INTO items VALUES (?, ?, ?)", _items(file, lines))
        scratch.execute("CREATE INDEX by_trace ON items (trace, format)")
        for _ in _traces(file, scratch, _OURS):
            pass  # only ours say how many lines they have; a lack is found before any is used
        yield from _traces(file, scratch)


def _items(file: str, lines: Iterable[bytes]) -> Iterator[tuple[str, str, bytes]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield from _split(_parsed(line, number))
        except Unfit as error:
            raise BadFile(file, number, str(error)) from None


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    try:
        said = orjson.loads(bare)
    except orjson.JSONDecodeError as error:
        raise Unfit(
            f"it is not a line of JSON ({error}); one object over several lines becomes one line "
            "with `jq -c .`"
        ) from None
    if not isinstance(said, dict):
        raise Unfit("it is not a JSON object")
    return said


def _split(said: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    if jsonl_lines.knows(said):
        yield _OURS, jsonl_lines.check(said), orjson.dumps(said)
    elif otlp_spans.knows(said):
        for trace_id, item in otlp_spans.split(said):
            yield _OTLP, trace_id, orjson.dumps(item)
    else:
        raise Unfit(
            "it is neither a line of `traces export --format jsonl` nor OTLP JSON with spans"
        )


def _traces(
    file: str, scratch: sqlite3.Connection, only: str = "%"
) -> Generator[Arrived, None, None]:
    order = (
        "SELECT format, trace FROM items WHERE format LIKE ?"
        " GROUP BY format, trace ORDER BY min(rowid)"
    )
    query = "SELECT item FROM items WHERE trace = ? AND format = ? ORDER BY rowid"
    for kind, trace in scratch.execute(order, (only,)).fetchall():
        items = [orjson.loads(item) for (item,) in scratch.execute(query, (trace, kind))]
        try:
            yield _READERS[kind].gather(items)
        except Unfit as error:
            raise BadFile(file, None, str(error)) from None
