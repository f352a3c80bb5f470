"""The demo: read a folder of files, analyse them in a bounded parallel batch, write a report.

It needs no key and no network. What can fail does: the analyser takes only so many files at a time,
refuses the rest, and is asked again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Node
from tracing.context import current_span
from tracing.decorator import trace_flow
from tracing.errors import TracingError
from tracing.flushing import flush

_MOST = 200  # files; a demo should end soon, whatever folder it is given
_LARGEST = 2_000_000  # bytes


_MARK = "<!-- written by pocketflow-async demo -->"


class DemoError(TracingError):
    """Raised when the demo has nothing to read or nowhere to write."""


class Busy(Exception):
    """The analyser has its hands full."""


@dataclass(frozen=True)
class Facts:
    """What is known of one file."""

    path: str
    size: int
    lines: int = 0
    words: int = 0
    longest: int = 0
    common: str = ""
    problem: str = ""


class Analyser:
    """Counts what is in a file; takes at most *slots* files at a time, as many services do."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.busy = 0

    async def analyse(self, path: Path) -> Facts:
        """Return the facts about one file.

        Raises:
            Busy: There is no free slot.
            UnicodeDecodeError: The file is no UTF-8 text.
            OSError: It cannot be read.
        """
        if self.busy == self.slots:
            raise Busy(f"all {self.slots} slots are taken")
        self.busy += 1
        try:
            return await asyncio.to_thread(_facts, path)
        finally:
            self.busy -= 1


def _facts(path: Path) -> Facts:
    text = path.read_text(encoding="utf-8")
    words = [word for word in text.split() if word.isalpha() and len(word) > 3]
    common = ", ".join(word for word, _ in Counter(map(str.lower, words)).most_common(3))
    lines = text.splitlines()
    return Facts(
        str(path),
        path.stat().st_size,
        len(lines),
        len(text.split()),
        max(map(len, lines), default=0),
        common,
    )


class ListFiles(Node[Path, list[Path]]):
    """Finds the files, on a thread of its own: a folder may be slow."""

    def prep(self, shared: Any) -> Path:
        """Take the folder."""
        return Path(shared["folder"])

    def exec(self, folder: Path) -> list[Path]:
        """List its files, hidden and very large ones left out."""
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not any(
                part.startswith((".", "__")) for part in path.relative_to(folder).parts[:-1]
            )
            and not path.name.startswith(".")
            and path.stat().st_size <= _LARGEST
        ]
        return files[:_MOST]

    def post(self, shared: Any, folder: Path, files: list[Path]) -> str:
        """Go on to analyse them, or straight to the report when there are none."""
        shared["files"] = files
        return "found" if files else "empty"


class AnalyseFiles(AsyncParallelBatchNode[Path, Facts]):
    """Analyses all files, six at a time; a busy analyser is asked again a little later."""

    def __init__(self) -> None:
        super().__init__(
            max_retries=12, wait=0.002, backoff=1.6, jitter=0.5, retry_on=Busy, concurrency=6
        )
        self.analyser = Analyser(slots=4)

    async def prep_async(self, shared: Any) -> list[Path]:
        """Take the files."""
        files: list[Path] = shared["files"]
        return files

    async def exec_async(self, path: Path) -> Facts:
        """Analyse one."""
        return await self.analyser.analyse(path)

    async def exec_fallback_async(self, path: Path, exc: Exception) -> Facts:
        """Keep a file that cannot be analysed, with the reason."""
        if isinstance(exc, Busy):
            raise exc
        size = (await asyncio.to_thread(path.stat)).st_size
        return Facts(str(path), size, problem=type(exc).__name__)

    async def post_async(self, shared: Any, files: Any, facts: list[Facts]) -> None:
        """Hand the facts on."""
        shared["facts"] = facts


class WriteReport(AsyncNode[list[Facts], str]):
    """Writes what was found as a Markdown table, largest files first."""

    async def prep_async(self, shared: Any) -> list[Facts]:
        """Take the facts."""
        return sorted(shared.get("facts", []), key=lambda facts: -facts.lines)

    async def exec_async(self, facts: list[Facts]) -> str:
        """Make the text."""
        table: list[tuple[object, ...]] = [
            ("file", "bytes", "lines", "words", "longest line", "common words"),
            ("---",) * 6,
            *((f.path, f.size, f.lines, f.words, f.longest, f.problem or f.common) for f in facts),
        ]
        total = f"# {len(facts)} files, {sum(f.lines for f in facts)} lines"
        rows = ["| " + " | ".join(map(str, row)) + " |" for row in table]
        return "\n".join([total, "", *rows, "", _MARK, ""])

    async def post_async(self, shared: Any, facts: list[Facts], text: str) -> None:
        """Write it, and remember which trace this was."""
        await asyncio.to_thread(Path(shared["report"]).write_text, text, encoding="utf-8")
        here = current_span()
        shared["trace_id"] = here.trace_id if here else None


def _check(folder: Path, report: Path) -> None:
    if not folder.is_dir():
        raise DemoError(f"{folder} is not a folder. Name one with files to read.")
    if not report.exists():
        if not os.access(report.parent, os.W_OK):
            raise DemoError(f"cannot write {report} here. Name another file with --report.")
    elif not report.is_file() or _MARK not in report.read_text("utf-8", errors="replace"):
        raise DemoError(
            f"{report} is there already, and not from this demo. Name another file with --report."
        )


def flow() -> AsyncFlow[Any, Any]:
    """Make the flow: list, analyse, report."""
    found, analyse, report = ListFiles(in_thread=True), AnalyseFiles(), WriteReport()
    found - "found" >> analyse >> report
    found - "empty" >> report
    return AsyncFlow(start=found, name="AnalyseFolder")


def run(folder: Path, report: Path) -> str:
    """Run the demo, traced.

    Args:
        folder: Where to look for files.
        report: Where to write the report; an earlier one is replaced, another file is not.

    Returns:
        The id of the trace, 32 hex digits; stored when this returns. Empty when tracing is off.

    Raises:
        DemoError: The folder is none, or the report cannot be written there.
    """
    _check(folder, report)
    shared: dict[str, Any] = {"folder": str(folder), "report": str(report)}
    traced = trace_flow(flow_name="AnalyseFolder")(flow())
    asyncio.run(traced.run_async(shared))
    flush()
    return shared["trace_id"] or ""
