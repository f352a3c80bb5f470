"""Files of traces on their way into the store."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.text import Text

from tracing.cli import words
from tracing.cli.console import Screen, complain
from tracing.formats.importing import Importer
from tracing.formats.reading import BadFile, read

KEPT_DAYS: Final = 14
"""Age in days at which a store forgets a trace, unless it is told otherwise."""
_DAY: Final = 86_400 * 10**9
_STDIN: Final = "-"
_CHROME: Final = re.compile(rb'\s*\{\s*"(?:displayTimeUnit|traceEvents)"\s*:')


class _Count:
    """What came of one file, or of all."""

    def __init__(self) -> None:
        self.added = self.spans = self.known = self.old = 0


def run(path: str, files: Sequence[Path], screen: Screen) -> int:
    """Import *files* into the store at *path*, saying what became of each; return how many failed.

    Raises:
        NotImported: The store cannot be written.
    """
    failed = old = 0
    with Importer(path, now := time.time_ns()) as importer:
        for file in files:
            try:
                found = _one(importer, file, now)
            except BadFile as error:
                complain(str(error))
                failed += 1
            else:
                screen.lines([_said(file, found)])
                old += found.old
    if failed < len(files):
        screen.lines([Text.assemble(("store    ", "dim"), path)])
    if old:
        for line in (
            f"{old:,} of these began more than {KEPT_DAYS} days ago: the next traced run that "
            "writes to this store",
            "deletes them. To keep them, import into a file of their own: --store PATH",
        ):
            screen.lines([Text(line, "yellow")])
    return failed


def _one(importer: Importer, file: Path, now_ns: int) -> _Count:
    found = _Count()
    with _lines(file) as lines:
        for trace in read(_named(file), _readable(file, lines)):
            if not importer.add(trace):
                found.known += 1
                continue
            found.added += 1
            found.spans += len(trace.spans)
            found.old += trace.started_ns + (trace.duration_ns or 0) < now_ns - KEPT_DAYS * _DAY
    return found


@contextmanager
def _lines(file: Path) -> Generator[Iterable[bytes], None, None]:
    if str(file) == _STDIN:
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb")
    except OSError as error:
        raise BadFile(str(file), None, f"it cannot be read ({error.strerror})") from None
    with opened:
        yield opened


def _readable(file: Path, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *lines*, unless they are of a format that leaves too much out to be read back."""
    for line in lines:
        if _CHROME.match(line):
            raise BadFile(
                _named(file),
                None,
                "it is in Chrome's format, which has not all of a trace and cannot be imported; "
                "`traces export --format jsonl` writes what can",
            )
        yield line


def _named(file: Path) -> str:
    return "standard input" if str(file) == _STDIN else str(file)


def _said(file: Path, found: _Count) -> Text:
    held = f"{words.count(found.added, 'trace')}, {words.count(found.spans, 'span')}"
    said = Text.assemble(("read     ", "dim"), _named(file), "  ", (held, "dim"))
    if found.known:
        said.append(f"  ({found.known:,} in the store already)", "cyan")
    return said
