"""The thread between buffer and file: when to write, what if that fails, who waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Final, NamedTuple

from tracing.record import Record
from tracing.store import trouble
from tracing.store.buffer import Buffer
from tracing.store.trouble import Backoff
from tracing.store.writer import Writer

logger = logging.getLogger(__name__)

TICK: Final = 0.03
"""Seconds that a finished record waits for company."""
_BURST: Final = 150
"""Number of records in one tick that says the program is at full speed …"""
_PATIENCE: Final = 0.5
"""… and so many seconds it is left alone: this thread would take every other turn of the GIL."""
MANY: Final = 16_384
"""Number of waiting records that ends the wait.

Not less: a writer at work takes turns with the flow at the interpreter lock, so a burst goes by
faster when the writer lets it pass first.
"""
_BATCH: Final = 2048  # records per transaction: some 20 ms of the lock that other processes want
_BEAT: Final = 1.0  # seconds between heartbeats
SWEEP: Final = 600.0
"""Seconds between looks for old traces."""
_AGAIN: Final = 0.02  # seconds before another try at a lock; SQLite has waited BUSY_MS before


class Counts(NamedTuple):
    """What became of the finished records of this process."""

    stored: int
    sent: int
    """Exported; 0 for the store itself."""
    failed: int
    """Not stored so far because the file is in trouble, or the time given was over."""
    dropped: int
    """Lost for good."""


class _Flush:
    """Somebody waiting until what is queued now has been tried."""

    __slots__ = ("done", "stored", "target", "tries")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.stored = False
        """Whether all of it was settled, rather than tried in vain."""
        self.target = 0
        """Number of settled records at which that is so."""
        self.tries = 0
        """Number of tries before."""


class Worker:
    """Empties a buffer into a writer.

    Args:
        buffer: Where the records come from.
        writer: Where they go.
        open_after: Age in seconds at which an open record is written.
        max_records: How many the buffer takes; for the words of the warning.
        clock_ns: The clock of `Record.start`.
        sweep_every: Seconds between looks for old traces.
    """

    def __init__(
        self,
        buffer: Buffer,
        writer: Writer,
        open_after: float,
        max_records: int,
        clock_ns: Callable[[], int],
        sweep_every: float = SWEEP,
    ) -> None:
        self._sweep_every = sweep_every
        self.lock = threading.Lock()
        """Held while the writer is used, so that a fork or a reader can wait for a quiet moment."""
        self.on_stored: Callable[[list[Record], set[str]], None] | None = None
        """Called with what has just been stored, and the keys of the targets it goes to."""
        self._buffer = buffer
        self._writer = writer
        self._open_after_ns = int(open_after * 1e9)
        self._max_records = max_records
        self._clock_ns = clock_ns
        self._backoff = Backoff()
        self._hand: list[Record] = []
        self._shown: dict[int, tuple[Record, object]] = {}
        """Records that are open in the file, and how far they were when last written."""
        self._stored = self._lost = self._told = self._tries = 0
        self._flushes: deque[_Flush] = deque()
        self._waiting: list[_Flush] = []
        self._stop_at: float | None = None
        self._due: float | None = None
        self._queued = 0
        self._calm_since = 0.0
        self._next_beat = self._next_sweep = 0.0
        self._sweep: Generator[set[str] | None, None, None] | None = None

    def run(self) -> None:
        """Work until told to stop. The body of the thread."""
        while self._stop_at is None:
            self._buffer.wait(self._nap(), self._is_urgent)
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - without this thread nothing would ever be stored
                self._despair()
        self.finish(self._stop_at)

    def counts(self) -> Counts:
        """Return the totals at this moment."""
        failed = self._pending() if self._backoff.in_trouble else 0
        return Counts(self._stored, 0, failed, self._buffer.dropped + self._lost)

    def arrived(self) -> int:
        """Return how many records have finished so far."""
        return self._settled() + self._pending()

    def flush(self, timeout: float) -> Counts:
        """Have everything written that is queued now; wait no longer than *timeout* seconds."""
        flush = _Flush()
        self._flushes.append(flush)
        self._buffer.wake()
        flush.done.wait(timeout)
        return self.counts()._replace(failed=0 if flush.stored else self._pending())

    def stop(self, deadline: float) -> None:
        """Make `run` end, by *deadline* of the monotonic clock if it can."""
        self._stop_at = deadline
        self._buffer.wake()

    def finish(self, deadline: float) -> None:
        """Write everything left, open records included, sign off and close the file."""
        with self.lock:
            self._drain(deadline)
            lost = self._pending()
            self._lost += lost
            self._buffer.release(self._hand)
            self._hand = []
            self._buffer.queue.clear()
            if lost:
                logger.warning(
                    "%d spans were lost: the trace store %s could not be written before the end",
                    lost,
                    self._writer.path,
                )
            if self._backoff.busy_since is None:  # else it would only wait for the lock again
                self._sign_off(deadline)
            self._writer.disconnect()
        for flush in (*self._waiting, *self._flushes):
            flush.done.set()

    def _sign_off(self, deadline: float) -> None:
        while True:
            try:
                return self._writer.goodbye(self._buffer.dropped + self._lost)
            except trouble.EXPECTED as error:
                if not trouble.is_busy(error) or time.monotonic() >= deadline:
                    logger.debug("cannot sign off in %s: %s", self._writer.path, error)
                    return None
                time.sleep(_AGAIN)

    def _drain(self, deadline: float) -> None:
        now = time.monotonic()
        while self._work(now, final=True):
            now = time.monotonic()
            if now >= deadline or self._backoff.in_trouble:
                return
            if self._backoff.busy_since is not None:
                time.sleep(_AGAIN)

    def _despair(self) -> None:
        """Drop the batch in hand: it holds something that is not even a record."""
        logger.warning("%d spans are lost", len(self._hand), exc_info=True)
        self._lost += len(self._hand)
        self._buffer.held = 0
        self._hand = []
        self._due = time.monotonic() + 10 * TICK

    def _pending(self) -> int:
        return len(self._hand) + len(self._buffer.queue)

    def _settled(self) -> int:
        return self._stored + self._lost

    def _is_urgent(self) -> bool:
        return bool(self._flushes) or self._stop_at is not None

    def _nap(self) -> float | None:
        """Return how long there is nothing to do, in seconds; None: until a record comes."""
        now = time.monotonic()
        if self._waiting or self._is_urgent():
            return 0 if self._backoff.busy_since is None else _AGAIN
        if self._backoff.retry_at > now:
            return self._backoff.retry_at - now
        if len(self._buffer.queue) >= MANY or self._sweep is not None:
            return 0
        return None if self._due is None else self._due - now

    def _turn(self) -> None:
        now = time.monotonic()
        while self._flushes:
            flush = self._flushes.popleft()
            flush.target = self._settled() + self._pending()
            flush.tries = self._tries
            self._waiting.append(flush)
        if self._is_ripe(now):
            with self.lock:
                self._work(now)
                self._sweep_on(now)
        self._answer()

    def _is_ripe(self, now: float) -> bool:
        if self._waiting or self._is_urgent():
            return True
        if self._backoff.retry_at > now:
            return False
        if self._due is None:  # just woken: give the others of the batch a moment to arrive
            self._due = now + TICK
            self._calm_since, self._queued = now, 0
        queued = len(self._buffer.queue)
        if queued >= MANY or self._sweep is not None:
            return True
        if now < self._due:
            return False
        arrived, self._queued = queued - self._queued, queued
        if arrived >= _BURST and now < self._calm_since + _PATIENCE:
            self._due = now + TICK
            return False
        self._calm_since = now
        return True

    def _answer(self) -> None:
        for flush in list(self._waiting):
            flush.stored = self._settled() >= flush.target
            if flush.stored or (self._backoff.in_trouble and self._tries > flush.tries):
                self._waiting.remove(flush)
                flush.done.set()

    def _work(self, now: float, *, final: bool = False) -> bool:
        """Write what there is to write; tell whether finished records are left."""
        self._hand += self._buffer.take(_BATCH - len(self._hand))
        beat = bool(self._buffer.live) and now >= self._next_beat
        dropped = self._buffer.dropped + self._lost
        opened = self._to_open(refresh=beat, final=final)
        if self._hand or opened or beat or dropped != self._told:
            self._try(opened, dropped, now)
        if beat:
            self._next_beat = now + _BEAT
        self._due = now + TICK if self._pending() or self._buffer.live else None
        return self._pending() > 0

    def _try(self, opened: list[Record], dropped: int, now: float) -> None:
        ghosts = self._ghosts() if dropped != self._told and not self._buffer.queue else []
        try:
            if self._writer.moved():
                self._writer.disconnect()
            hurry = len(self._buffer.queue) > self._max_records // 8
            stored = self._writer.write([*self._hand, *ghosts], opened, dropped, hurry=hurry)
        except Exception as error:  # noqa: BLE001 - this thread must outlive whatever happens
            self._failed(error, now)
        else:
            for record in (*self._hand, *ghosts):
                self._shown.pop(record.span_id, None)
            self._shown.update((record.span_id, (record, _mark(record))) for record in opened)
            self._told = dropped
            self._settle(stored - len(ghosts))
        self._tries += 1

    def _settle(self, stored: int) -> None:
        self._stored += stored
        self._lost += len(self._hand) - stored
        self._buffer.release(self._hand)
        hand, self._hand = self._hand, []
        self._tell(hand)
        if self._backoff.succeeded():
            logger.info("the trace store %s works again: spans are stored", self._writer.path)

    def _tell(self, records: list[Record]) -> None:
        for record in records:
            if record.host is not None:
                record.host = None  # it was kept until its row was written
        if self.on_stored is None:
            return
        try:
            self.on_stored(records, self._writer.addressed)
        except Exception:
            logger.debug("a watcher of the store failed", exc_info=True)

    def _failed(self, error: Exception, now: float) -> None:
        if not trouble.is_expected(error):
            logger.warning("cannot store some spans", exc_info=error)
            self._salvage(now)
            return
        if not trouble.is_busy(error):
            self._writer.disconnect()
        if self._backoff.failed(error, now):
            logger.warning(
                "cannot write the trace store %s: %s. The flow goes on; up to %d spans are kept in"
                " memory, then dropped. You can also set POCKETFLOW_TRACE_STORE to another file",
                self._writer.path,
                trouble.cause(error),
                self._max_records,
            )

    def _salvage(self, now: float) -> None:
        """Store the batch one by one, without what is wrong with it."""
        while self._hand:
            record = self._hand[0]
            try:
                stored = self._writer.write([record], (), self._told)
            except Exception as error:  # noqa: BLE001 - see `_try`
                if trouble.is_expected(error):
                    self._backoff.failed(error, now)
                    return
                stored = 0
            del self._hand[0]
            self._stored += stored
            self._lost += 1 - stored
            self._buffer.release([record])
            self._tell([record])

    def _to_open(self, *, refresh: bool, final: bool) -> list[Record]:
        """Return the open records to write: old ones, the entries of new traces, changed ones."""
        if not self._buffer.live:
            return []
        limit = self._clock_ns() - self._open_after_ns
        ids = {record.trace.trace_id for record in self._hand}
        entries = {trace_id for trace_id in ids if not self._writer.knows(trace_id)}
        found: list[Record] = []
        for record in self._buffer.open_records():
            if record.span_id in self._writer.mind.rows:
                if (refresh or final) and self._has_changed(record):
                    found.append(record)
            elif final or record.start <= limit:
                found.append(record)
            elif record.trace.trace_id in entries:
                entries.discard(record.trace.trace_id)
                found.append(record)
            elif not entries:
                break  # the rest is younger still
        return found

    def _has_changed(self, record: Record) -> bool:
        shown = self._shown.get(record.span_id)
        return shown is None or shown[1] != _mark(record)

    def _ghosts(self) -> list[Record]:
        """Return records that are open in the file, but ended and were then dropped."""
        live = self._buffer.live
        held = {record.span_id for record in self._hand}
        return [
            record
            for span_id, (record, _) in self._shown.items()
            if record.end is not None and span_id not in live and span_id not in held
        ]

    def _sweep_on(self, now: float) -> None:
        """Take a step in clearing the file out, if it is time for that."""
        if self._backoff.retry_at > now or self._writer.connection is None:
            return
        if self._sweep is None and now >= self._next_sweep:
            self._next_sweep = now + self._sweep_every
            self._sweep = self._writer.sweep()
        try:
            left = None if self._sweep is None else next(self._sweep)
            if left and self.on_stored is not None:
                self.on_stored([], left)  # there may be what dead processes cannot send any more
        except StopIteration:
            self._sweep = None
        except Exception:
            logger.debug("cannot clear out %s", self._writer.path, exc_info=True)
            self._sweep = None


def _mark(record: Record) -> object:
    """Return what changes when an open record goes on."""
    phases = record.phases
    last = phases[-1] if phases else None
    attributes = record.attributes
    return (
        len(phases),
        last is None or last.end is None,
        record.input is None,
        None if attributes is None else len(attributes),
    )
