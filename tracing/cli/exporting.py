"""Traces on their way from the store into a file, one at a time."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rich.text import Text

from tracing.cli import reading, words
from tracing.errors import TraceNotFound, TracingError
from tracing.store.model import TraceSummary, TraceTree
from tracing.store.reader import TraceReader

_ALL = -1  # SQLite's word for no limit


class NotWritten(TracingError):
    """The file to write cannot be written."""

    def __init__(self, file: str, cause: str) -> None:
        super().__init__(f"cannot write {file}: {cause}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which traces are meant; nothing at all means the latest one."""

    ids: tuple[str, ...] = ()
    every: bool = False
    name: str | None = None
    limit: int | None = None


@dataclass(slots=True)
class _Trees:
    """The chosen traces, the oldest first, and how many there have been."""

    reader: TraceReader
    summaries: list[TraceSummary]
    traces: int = 0
    spans: int = 0
    running: int = field(default=0)

    def __iter__(self) -> Iterator[TraceTree]:
        for summary in self.summaries:
            try:
                tree = self.reader.trace(summary.trace_id)
            except TraceNotFound:
                continue  # the store's limits have deleted it meanwhile
            self.traces += 1
            self.spans += tree.summary.spans
            self.running += tree.summary.duration_ns is None
            yield tree


def to_stream(path: str, choice: Choice, format: str, program: str) -> None:
    """Write the chosen traces of the store at *path* to standard output.

    Raises:
        TracingError: The store cannot be read, or has no such trace.
    """
    found = _Trees(TraceReader(path), _chosen(path, choice, program))
    for piece in _pieces(found, format, program):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def to_file(path: str, choice: Choice, format: str, file: Path, program: str) -> Text:
    """Write the chosen traces of the store at *path* to *file*; return what to say about it.

    Raises:
        NotWritten: The file cannot be written; what was there before still is.
        TracingError: The store cannot be read, or has no such trace.
    """
    found = _Trees(TraceReader(path), _chosen(path, choice, program))
    try:
        if file.exists() and not file.is_file():  # a pipe, or a device
            with file.open("wb") as target:
                target.writelines(_pieces(found, format, program))
        else:
            _replace(file, found, format, program)
    except OSError as error:
        raise NotWritten(str(file), error.strerror or str(error)) from error
    held = f"{words.count(found.traces, 'trace')}, {words.count(found.spans, 'span')}"
    said = Text.assemble(("wrote    ", "dim"), str(file), ("  ", ""), (held, "dim"))
    if found.running:
        said.append(f"  ({found.running:,} still running)", "cyan")
    return said


def _replace(file: Path, found: _Trees, format: str, program: str) -> None:
    """Write beside *file* first, so that there is never half of one under its name."""
    target: BinaryIO
    number, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(number, "wb") as target:
            target.writelines(_pieces(found, format, program))
        os.replace(beside, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _chosen(path: str, choice: Choice, program: str) -> list[TraceSummary]:
    if choice.every or choice.name is not None or choice.limit is not None:
        found = reading.summaries(path, choice.limit or _ALL, choice.name)
        if not found and choice.name is not None:
            raise (
                reading.NoTraces(path, program)
                if not reading.summaries(path, 1, None)
                else (_Unknown(choice.name, path))
            )
    else:
        wanted = choice.ids or (reading.LATEST,)
        found = [reading.tree(one, path, program).summary for one in wanted]
    if not found:
        raise reading.NoTraces(path, program)
    unique = {summary.trace_id: summary for summary in found}
    return sorted(unique.values(), key=lambda summary: summary.started_ns)


class _Unknown(TracingError):
    def __init__(self, name: str, path: str) -> None:
        super().__init__(f"no traces named {name!r} in {path}")


def _pieces(found: _Trees, format: str, program: str) -> Iterator[bytes]:
    if format == "chrome":
        from tracing.formats import chrome  # noqa: PLC0415 (only what is asked for)

        yield from chrome.document(found, found.summaries[0].started_ns)
    elif format == "otlp-json":
        from tracing.cli import configuring, waiting  # noqa: PLC0415
        from tracing.export.model import Route  # noqa: PLC0415
        from tracing.formats import otlp_lines  # noqa: PLC0415

        route = configuring.route(program)
        for tree in found:
            meant = waiting.shape(str(found.reader.path), tree.summary.trace_id)
            yield from otlp_lines.lines(tree, Route.of_shape(meant) if meant else route)
    else:
        from tracing.formats import jsonl  # noqa: PLC0415

        for tree in found:
            yield from jsonl.lines(tree)
