"""What the commands ask of the store, and what they get when there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tracing.errors import StoreError, StoreMissing
from tracing.store.location import MEMORY, resolve
from tracing.store.model import TraceSummary, TraceTree
from tracing.store.reader import TraceReader
from tracing.store.schema import check, connect_readonly

LATEST = "latest"


class NothingKept(StoreError):
    """Traces are not written to any file, so that no command can read them."""

    def __init__(self, location: str) -> None:
        kept = "are not kept" if location == "off" else "live and die with their process"
        super().__init__(
            f"the trace store is {location!r}: traces {kept}. "
            "Set POCKETFLOW_TRACE_STORE to a file, or unset it for the usual one."
        )


class NoTraces(StoreError):
    """The store holds no trace at all."""

    def __init__(self, path: str, program: str) -> None:
        super().__init__(
            f"no traces yet in {path}. See one with `{program} demo`, "
            "or put @trace_flow() on a flow and run it."
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know about a store from outside."""

    path: str
    exists: bool
    writable: bool
    bytes: int = 0
    """Size of the file, its write-ahead log included."""
    traces: int = 0
    spans: int = 0
    dropped: int = 0
    """Records that writing processes could not keep."""


def store_path(given: Path | None) -> str:
    """Return the path of the store to read.

    Raises:
        NothingKept: The environment says `memory` or `off`.
    """
    path = resolve(given)
    if path is None or path == MEMORY:
        raise NothingKept(path or "off")
    return path


def summaries(path: str, limit: int, name: str | None) -> list[TraceSummary]:
    """Return the latest traces; none when there is no store yet."""
    try:
        return TraceReader(path).traces(limit, name)
    except StoreMissing:
        return []


def tree(trace: str, path: str, program: str) -> TraceTree:
    """Return the trace whose id is or starts with *trace*, or the latest one.

    Raises:
        NoTraces: The store is empty or missing.
        TracingError: The store cannot be read, or has no such trace, or several.
    """
    latest = summaries(path, 1, None)
    if not latest:
        raise NoTraces(path, program)
    return TraceReader(path).trace(latest[0].trace_id if trace == LATEST else trace)


def facts(path: str) -> Facts:
    """Look at the store at *path*.

    Raises:
        StoreUnreadable: The file is not a trace store, or damaged.
    """
    file = Path(path)
    if not file.exists():
        return Facts(path, exists=False, writable=_may_be_made(file.parent))
    TraceReader(path).traces(1)  # says so, if it is no store
    log = Path(f"{path}-wal")
    counted = _count(path)
    return Facts(
        path,
        exists=True,
        writable=os.access(file, os.W_OK) and os.access(file.parent, os.W_OK),
        bytes=file.stat().st_size + (log.stat().st_size if log.exists() else 0),
        traces=counted[0],
        spans=counted[1],
        dropped=counted[2],
    )


def _may_be_made(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _count(path: str) -> tuple[int, int, int]:
    connection = connect_readonly(path)
    try:
        if not check(connection):
            return 0, 0, 0
        counted: tuple[int, int, int] = connection.execute(
            "SELECT (SELECT count(*) FROM traces), (SELECT count(*) FROM records),"
            " (SELECT coalesce(sum(dropped), 0) FROM owners)"
        ).fetchone()
        return counted
    finally:
        connection.close()
