"""Where the flow leaves its records: the only part of the store that runs on its thread.

No lock is taken, not even for a moment: a thread that lost the interpreter while holding one would
stop all the others, and a finalizer that runs inside would stop itself. What is counted is written
by one side only, or corrects itself when the queue runs empty.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock

from tracing.record import Record

logger = logging.getLogger(__name__)


class Buffer:
    """Open records by span id, and a bounded queue of closed ones.

    Args:
        max_records: Most closed records that wait at a time.
        max_bytes: Most bytes of content (`Record.size`) that they hold together.
        many: Number of waiting records at which the worker is woken early.
        start: Starts the worker; called when the first record comes.
    """

    __slots__ = (
        "_added",
        "_bell",
        "_many",
        "_max_bytes",
        "_max_records",
        "_removed",
        "_start",
        "dropped",
        "held",
        "idle",
        "live",
        "queue",
        "started",
    )

    def __init__(
        self, max_records: int, max_bytes: int, many: int, start: Callable[[], None]
    ) -> None:
        self.live: dict[int, Record] = {}
        self.queue: deque[Record] = deque()
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._many = many
        self._start = start
        self.reset()

    def reset(self) -> None:
        """Forget everything, in a forked child, where the worker's thread does not exist."""
        self.live.clear()
        self.queue.clear()
        self.held = 0
        """Records that the worker has taken from the queue and not yet stored."""
        self.dropped = 0
        self.idle = True
        """Whether the worker sleeps until it is woken."""
        self.started = False
        self._bell = Lock()  # one that only the sleeper acquires: releasing it never blocks
        self._bell.acquire()
        self._added = 0
        self._removed = 0

    def shut(self) -> None:
        """Drop all records from now on, and start no worker."""
        self._max_records = -1
        self.started = True

    def opened(self, record: Record) -> None:
        """Note that *record* has begun. Never blocks, never raises; for any thread."""
        self.live[record.span_id] = record
        if self.idle:
            self.wake()

    def closed(self, record: Record) -> None:
        """Queue the finished *record*, or count it as dropped. Never blocks, never raises."""
        self.live.pop(record.span_id, None)
        waiting = len(self.queue) + self.held
        size = record.size
        if waiting >= self._max_records or self._added - self._removed + size > self._max_bytes:
            self.dropped += 1
            return
        self._added += size
        self.queue.append(record)
        if self.idle or not (waiting + 1) % self._many:
            self.wake()

    def wake(self) -> None:
        """Make the worker look at once."""
        if not self.started:
            self.started = True
            try:
                self._start()
            except Exception:
                logger.debug("cannot start the trace writer", exc_info=True)
        try:
            self._bell.release()
        except RuntimeError:  # it is ringing already
            return

    def wait(self, seconds: float | None, urgent: Callable[[], bool]) -> None:
        """Sleep until woken, at most *seconds*; None: as long as nothing waits and nothing lives.

        Args:
            seconds: How long.
            urgent: Looked at once more after others can see that the worker sleeps.
        """
        if seconds is None:
            self.idle = True
            if self.queue or self.live or urgent():
                seconds = 0
        self._bell.acquire(timeout=-1 if seconds is None else max(seconds, 0))
        self.idle = False

    def take(self, most: int) -> list[Record]:
        """Remove up to *most* records from the queue. For the worker alone."""
        added = self._added
        count = min(len(self.queue), most)
        self.held += count  # before they leave the queue, so that they are always counted
        if not self.held:
            self._removed = added  # heals what two adding threads may have lost
        popleft = self.queue.popleft
        return [popleft() for _ in range(count)]

    def release(self, records: list[Record]) -> None:
        """Give back the room of *records* that were taken. For the worker alone."""
        self.held -= len(records)
        self._removed += sum(record.size for record in records)

    def open_records(self) -> list[Record]:
        """Return the open records, the oldest first."""
        while True:
            try:
                return list(self.live.values())
            except RuntimeError:  # changed in between by a finalizer: try again
                continue
