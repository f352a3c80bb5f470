"""Read traces back: from the file of any process, finished or still running, or from memory."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from tracing.errors import AmbiguousTrace, StoreMissing, StoreUnreadable, TraceNotFound
from tracing.record import FAILED, INTERRUPTED, TIMED_OUT
from tracing.store import owner as owners
from tracing.store import tree
from tracing.store.model import TraceSummary, TraceTree
from tracing.store.schema import NotAStore, check, connect_readonly
from tracing.store.tree import Fate

if TYPE_CHECKING:
    from tracing.store.store import TraceStore

_DIGITS: Final = 32  # of a trace id
_SHOWN: Final = 5  # candidates named in an error
_BAD: Final = f"('{FAILED}', '{TIMED_OUT}', '{INTERRUPTED}')"
_SUMMARY: Final = f"""
SELECT id, trace_id, name, session_id, user_id, tags, metadata, started_ns, duration_ns, outcome,
       owner,
       (SELECT count(*) FROM records WHERE trace = traces.id)
           - (SELECT count(*) FROM records WHERE trace = traces.id AND kind IN ('event', 'score')),
       (SELECT count(*) FROM records WHERE trace = traces.id AND outcome IN {_BAD})
FROM traces
"""
_OPEN: Final = "SELECT owner FROM records WHERE trace = ? AND duration_ns IS NULL"


class TraceReader:
    """Answers questions about a store. Each answer is a fresh look; for any thread.

    Args:
        source: The path of a store, or a `TraceStore` of this process.
        wall_ns: Unix time in nanoseconds.
        probe: Looks whether a process of this machine lives.
    """

    def __init__(
        self,
        source: str | Path | TraceStore,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        probe: owners.Probe = owners.start_token,
    ) -> None:
        self._store = None if isinstance(source, (str, Path)) or source.path else source
        self.path = os.fspath(source) if isinstance(source, (str, Path)) else source.path
        self._wall_ns = wall_ns
        self._probe = probe

    def traces(
        self, limit: int = 20, name: str | None = None, offset: int = 0
    ) -> list[TraceSummary]:
        """Return traces, the latest first.

        Args:
            limit: Number of traces, at most.
            name: Only traces of this name.
            offset: Number of traces to leave out first.

        Raises:
            StoreMissing: There is no file.
            StoreUnreadable: The file is not a trace store, or damaged.
        """
        with self._connected() as connection:
            if connection is None:
                return []
            where = "" if name is None else "WHERE name = ?"
            rows = connection.execute(
                f"{_SUMMARY} {where} ORDER BY started_ns DESC, id DESC LIMIT ? OFFSET ?",
                (*([] if name is None else [name]), limit, offset),
            ).fetchall()
            fate = self._fates(connection)
            return [_summary(connection, row, fate) for row in rows]

    def trace(self, trace_id: str) -> TraceTree:
        """Return the whole trace whose id is, or starts with, *trace_id*.

        Raises:
            TraceNotFound: No trace has such an id.
            AmbiguousTrace: Several have.
            StoreMissing: There is no file.
            StoreUnreadable: The file is not a trace store, or damaged.
        """
        with self._connected() as connection:
            if connection is None:
                raise TraceNotFound(trace_id)
            row = _find(connection, trace_id)
            fate = self._fates(connection)
            summary = _summary(connection, row, fate)
            found = connection.execute(
                f"SELECT {', '.join(tree.COLUMNS)} FROM records WHERE trace = ? ORDER BY id",
                (row[0],),
            ).fetchall()
            roots = tree.build(summary.trace_id, found, fate)
            return TraceTree(summary, roots, _dropped(connection, {line[-1] for line in found}))

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection | None, None, None]:
        """Give a connection with one consistent view; None: nothing was ever stored."""
        try:
            if self._store is not None:
                with self._store._worker.lock:
                    yield self._store._writer.connection
            else:
                with self._file() as connection:
                    yield connection
        except (sqlite3.Error, NotAStore, OSError) as error:
            raise StoreUnreadable(str(self.path), str(error)) from error

    @contextmanager
    def _file(self) -> Generator[sqlite3.Connection | None, None, None]:
        path = str(self.path)
        if not os.path.exists(path):
            raise StoreMissing(path)
        connection = connect_readonly(path)
        try:
            connection.execute("BEGIN")
            yield connection if check(connection) else None
        finally:
            with suppress(sqlite3.Error):
                connection.close()

    def _fates(self, connection: sqlite3.Connection) -> Callable[[int], Fate]:
        """Return a function that tells what became of a process, by its row number."""
        host, now = owners.here(), self._wall_ns()
        query = f"SELECT {owners.COLUMNS} FROM owners WHERE id = ?"

        @cache
        def fate(number: int) -> Fate:
            row = connection.execute(query, (number,)).fetchone()
            if row is None:
                return Fate(alive=False, last_ns=0)
            owner = owners.from_row(row)[1]
            return Fate(owners.is_alive(owner, host, now, self._probe), owner.heartbeat_ns)

        return fate


def _find(connection: sqlite3.Connection, prefix: str) -> tuple[Any, ...]:
    digits = prefix.strip().replace("-", "").lower()
    if not digits or len(digits) > _DIGITS or digits.strip("0123456789abcdef"):
        raise TraceNotFound(prefix)
    bounds = [bytes.fromhex(digits.ljust(_DIGITS, fill)) for fill in "0f"]
    found = connection.execute(
        f"{_SUMMARY} WHERE trace_id BETWEEN ? AND ? LIMIT {_SHOWN}", bounds
    ).fetchall()
    if not found:
        raise TraceNotFound(prefix)
    if len(found) > 1:
        raise AmbiguousTrace(prefix, [row[1].hex() for row in found])
    only: tuple[Any, ...] = found[0]
    return only


def _summary(
    connection: sqlite3.Connection, row: tuple[Any, ...], fate: Callable[[int], Fate]
) -> TraceSummary:
    number, trace_id, name, session, user, tags, metadata, start, duration, outcome, owner = row[
        :11
    ]
    if duration is None:
        became = fate(owner)
        end = became.end(start)
        duration, outcome = None if end is None else end - start, became.outcome
    open_owners = connection.execute(_OPEN, (number,)).fetchall()
    interrupted = sum(not fate(open_owner).alive for (open_owner,) in open_owners)
    return TraceSummary(
        trace_id=trace_id.hex(),
        name=name,
        outcome=outcome,
        started_ns=start,
        duration_ns=duration,
        spans=row[11],
        failures=row[12] + interrupted,
        session_id=session,
        user_id=user,
        tags=tuple(orjson.loads(tags)) if tags else (),
        metadata=orjson.loads(metadata) if metadata else {},
    )


def _dropped(connection: sqlite3.Connection, owners: set[int]) -> int:
    marks = ",".join("?" * len(owners))
    query = f"SELECT coalesce(sum(dropped), 0) FROM owners WHERE id IN ({marks})"
    return int(connection.execute(query, list(owners)).fetchone()[0])
