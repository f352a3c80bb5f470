"""The trace store of this process: takes records from flows and never stands in their way."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tracing.record import Record
from tracing.redact import Redactor
from tracing.store.buffer import Buffer
from tracing.store.courier import Courier
from tracing.store.location import is_memory, resolve
from tracing.store.outbox import Outbox
from tracing.store.retention import Limits
from tracing.store.worker import MANY, SWEEP, Counts, Worker
from tracing.store.writer import Writer

if TYPE_CHECKING:
    import sqlite3

    from tracing.store.reader import TraceReader

_TRANSIT: Final = "memory:in transit"
_TRANSIT_BYTES: Final = 128 * 2**20
_SECRETS: Final = Redactor()
_EXIT: Final = 2.0  # seconds that all stores together may take at the end of the process
_MARGIN: Final = 0.5  # the worker stops trying this much earlier, to sign off and close
_TIDY: Final = 5.0  # seconds between looks at the size of what is in transit
_LAST: Final = 0.6  # seconds of it that are not for sending
_FORK: Final = 1.0  # seconds that a fork may wait for the end of a transaction


class TraceStore:
    """Keeps records in one SQLite file, by a thread of its own.

    `opened` and `closed` cost well under a microsecond and never raise or wait. If the file cannot
    be written, records stay in memory up to the limits, and are then dropped and counted.

    Args:
        path: The file, made when the first record comes; None or `memory` for a database in memory.
        max_records: Most finished records that wait in memory.
        max_bytes: Most bytes of content that they hold together.
        redact: Takes secrets out of inputs, outputs, attributes and metadata; None keeps them.
        open_after: Age in seconds at which a record is written although it still runs.
        max_age: Age in seconds at which finished traces are deleted.
        max_file_bytes: Size of the file at which the oldest finished traces are deleted.
        is_transit: Whether nobody reads it: what has been sent is deleted.
        clock_ns: The monotonic clock of `Record.start`, in nanoseconds.
        wall_ns: Unix time in nanoseconds.
    """

    opened: Callable[[Record], None]
    """Note that a record has begun. For any thread."""
    closed: Callable[[Record], None]
    """Store a finished record, soon. For any thread."""

    def __init__(
        self,
        path: str | Path | None,
        *,
        max_records: int = 200_000,
        max_bytes: int = 256 * 2**20,
        redact: Redactor | None = _SECRETS,
        open_after: float = 0.25,
        max_age: float = 14 * 86_400.0,
        max_file_bytes: int = 2**30,
        is_transit: bool = False,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        in_memory = path is None or is_memory(os.fspath(path))
        self.path = None if path is None or in_memory else os.path.realpath(path)
        self.is_transit = is_transit
        self.outbox = Outbox(self, wall_ns=wall_ns)
        self.couriers: list[Courier] = []
        """What sends the records on; those who send them add themselves."""
        self.gauges: object = None
        """What tells how it stands to those who measure it."""
        self.watchers: list[Callable[[Sequence[Record]], None]] = []
        """Called in the store's thread with each batch of finished records that was stored."""
        self._max_records = max_records
        self._redactor = redact
        self._open_after = open_after
        self._limits = Limits(max_age, max_file_bytes)
        self._clock_ns = clock_ns
        self._wall_ns = wall_ns
        self._closing = threading.Lock()
        self._frozen = self._sealed = False
        self.is_closed = False
        self._buffer = Buffer(max_records, max_bytes, MANY, self._start)
        self.opened = self._buffer.opened
        self.closed = self._buffer.closed
        self._begin()
        _alive.add(self)

    @classmethod
    def at(cls, location: str | Path, **options: Any) -> TraceStore:
        """Return this process's store for a path or `memory`; the first call's *options* count.

        Raises:
            ValueError: *location* is `off`.
        """
        found = resolve(location)
        if found is None:
            raise ValueError(
                "`off` means no store at all. Give a path or `memory`, or use open_store."
            )
        with _registering:
            store = _stores.get(found)
            if store is None or store.is_closed:
                store = _stores[found] = cls(found, **options)
            return store

    def redact_also(self, redactor: Redactor) -> None:
        """Take secrets out from now on, and with them what *redactor* takes out."""
        if self._redactor is not None:
            redactor = self._redactor.and_also(redactor.keys, redactor.patterns, redactor.functions)
        self._redactor = self._writer.redactor = redactor

    def counts(self) -> Counts:
        """Return what became of this process's finished records so far."""
        return self._worker.counts()

    def flush(self, timeout: float = 5.0) -> Counts:
        """Wait until everything finished so far is stored, at most *timeout* seconds.

        While the file is in trouble this returns after one more try.
        """
        if self._thread is None or self.is_closed:
            return self.counts()
        return self._worker.flush(timeout)

    async def aflush(self, timeout: float = 5.0) -> Counts:
        """Do what `flush` does without blocking the event loop.

        When this is cancelled, writing goes on in the background.
        """
        return await asyncio.to_thread(self.flush, timeout)

    def close(self, timeout: float = 2.0) -> Counts:
        """Write what is left, for at most *timeout* seconds. Later records are dropped.

        Open records are written too; readers then see them as interrupted.
        """
        with _registering:
            for location in [key for key, store in _stores.items() if store is self]:
                del _stores[location]
        with self._closing:
            if not self.is_closed:
                self.is_closed = True
                used = self._buffer.started or self._writer.number
                self._buffer.shut()
                if used:
                    self._end(time.monotonic() + timeout)
        return self.counts()

    @property
    def number(self) -> int:
        """Row number of this process among the owners of the file; 0: it has none yet."""
        return self._writer.number

    def sign(self) -> int:
        """Make sure that this process is among the owners of the file; return its number.

        Raises:
            sqlite3.Error: The file cannot be written.
            OSError: It cannot be made.
            NotAStore: It is not a trace store.
        """
        with self._worker.lock:
            self._writer.connect()
        return self._writer.number

    def bury(self) -> None:
        """Mark what dead processes left open as interrupted, so that it can be sent.

        Raises:
            sqlite3.Error: The file cannot be written.
        """
        with self._worker.lock:
            next(self._writer.sweep())

    def open_records(self) -> list[Record]:
        """Return the records that go on now, the oldest first."""
        return self._buffer.open_records()

    def arrived(self) -> int:
        """Return how many records have finished so far in this process."""
        return self._worker.arrived()

    @contextmanager
    def shared(self) -> Generator[sqlite3.Connection, None, None]:
        """Give the connection of a store in memory, which has but one, for a moment."""
        with self._worker.lock:
            yield self._writer.connect()

    def reader(self) -> TraceReader:
        """Return a reader of this store."""
        from tracing.store.reader import TraceReader  # noqa: PLC0415 - flows do not read

        return TraceReader(self)

    def _begin(self) -> None:
        """Start with no thread and no connection. The buffer stays: others hold its methods."""
        self._thread: threading.Thread | None = None
        self._writer = Writer(self.path, self._redactor, self._limits, self._wall_ns)
        self._worker = Worker(
            self._buffer,
            self._writer,
            self._open_after,
            self._max_records,
            self._clock_ns,
            _TIDY if self.is_transit else SWEEP,
        )
        self._worker.on_stored = self._tell

    def _tell(self, records: Sequence[Record], addressed: set[str]) -> None:
        for courier in self.couriers:
            if courier.key in addressed:
                courier.wake()
        for watch in self.watchers:
            watch(records)

    def _start(self) -> None:
        _outlast_worker()
        thread = threading.Thread(target=self._worker.run, name="trace-store", daemon=True)
        thread.start()
        self._thread = thread

    def _stop(self, deadline: float) -> float:
        """Tell the worker to end; return until when it will go on trying."""
        stop_at = deadline - min(_MARGIN, max(0.0, deadline - time.monotonic()) / 2)
        self._worker.stop(stop_at)
        return stop_at

    def _end(self, deadline: float) -> None:
        stop_at = self._stop(deadline)
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        else:  # there was no thread to be had
            self._worker.finish(stop_at)

    def _freeze(self, deadline: float) -> None:
        """Close the file for the moment of a fork: SQLite must not be carried into the child."""
        self._frozen = self._worker.lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        if self._frozen:
            self._writer.disconnect()
        self._sealed = self.outbox.lock.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def _thaw(self) -> None:
        if self._sealed:
            self.outbox.lock.release()
        if self._frozen:
            self._worker.lock.release()

    def _restart(self) -> None:
        """Forget, in a forked child, what is the parent's to write."""
        self._closing = threading.Lock()
        self.outbox.lock = threading.Lock()
        for courier in self.couriers:
            courier.restart()
        if self.is_closed:
            return
        if self._writer.connection is not None and self.path is not None:
            _abandoned.append(self._writer.connection)  # closing it would break the parent's locks
        self._buffer.reset()
        self._begin()


def open_store(
    location: str | Path | None = None,
    *,
    redact: bool = True,
    redact_keys: Iterable[str] = (),
    in_transit: bool = False,
    **options: Any,
) -> TraceStore | None:
    """Return this process's store for *location*, or None when that says `off`.

    Args:
        location: A path, `memory` or `off`; None: `default_path()`.
        redact: Whether secrets are taken out. All who share a store get what the strictest asks.
        redact_keys: More keys whose values are secret.
        in_transit: Whether traces are sent somewhere: then `off` is a store in memory that keeps
            only what has still to be sent.
        options: For `TraceStore`, when this is the first call for the location.
    """
    found = resolve(location)
    if found is None:
        if not in_transit:
            return None
        found = _TRANSIT
        options = {"is_transit": True, "max_file_bytes": _TRANSIT_BYTES, **options}
    if not redact:
        return TraceStore.at(found, redact=None, **options)
    redactor = Redactor(redact_keys)
    store = TraceStore.at(found, redact=redactor, **options)
    store.redact_also(redactor)
    return store


_alive: weakref.WeakSet[TraceStore] = weakref.WeakSet()
_stores: dict[str, TraceStore] = {}
_registering = threading.Lock()
_abandoned: list[Any] = []


def open_stores() -> list[TraceStore]:
    """Return the stores that this process has opened and not closed."""
    return [store for store in list(_alive) if not store.is_closed]


def _outlast_worker() -> None:
    """Have the stores closed at the end of a worker of `multiprocessing`, which skips `atexit`."""
    parent = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    if parent is not None and parent() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415 (there already)

        Finalize(None, _close_all, exitpriority=0)


def _close_all() -> None:
    deadline = time.monotonic() + _EXIT
    stores = list(_alive)
    _hand_over(stores, deadline)
    for store in stores:
        store._stop(deadline)  # all at once: one that hangs takes no time from the others
    for store in stores:
        store.close(max(0.0, deadline - time.monotonic()))


def _hand_over(stores: list[TraceStore], deadline: float) -> None:
    """Give the couriers the time that is left but for what the stores need themselves."""
    couriers = [courier for store in stores for courier in store.couriers]
    if not couriers:
        return
    for store in stores:
        if store.couriers:
            store.flush(max(0.0, deadline - _LAST - time.monotonic()))
    for courier in couriers:
        courier.stop(deadline - _LAST)
    for courier in couriers:
        courier.join(deadline - _LAST)


def _before_fork() -> None:
    _registering.acquire()
    deadline = time.monotonic() + _FORK
    for store in list(_alive):
        store._freeze(deadline)


def _after_fork_in_parent() -> None:
    for store in list(_alive):
        store._thaw()
    _registering.release()


def _after_fork_in_child() -> None:
    for store in list(_alive):
        store._restart()
    _registering.release()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
