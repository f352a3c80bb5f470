"""The items of a batch processor: which wait, which are at work, for any number of threads."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from pocketflow_async.clock import clock
from pocketflow_async.resilience.batching import Batch, Due


class BatchStatistics(NamedTuple):
    """What a batch processor has done, and has to do."""

    waiting: int
    """Items that wait, those that failed among them."""
    failed: int
    """Items that wait for another attempt."""
    working: int
    """Items at work."""
    batches: int
    """Batches that were processed."""
    items: int
    """Items in them."""
    failures: int
    """Attempts that failed."""


class Store:
    """A `Batch` with a lock, the time of the context, and figures.

    Args:
        size: Most items of a batch.
        interval: Most seconds that an item waits; None: until there are enough.

    Raises:
        TypeError: One of them is no number.
        ValueError: One of them is out of range.
    """

    def __init__(self, size: int, interval: float | None) -> None:
        self.lock = threading.RLock()
        self._batch: Batch[Any] = Batch(size, interval)
        self._working = self._batches = self._items = self._failures = 0

    def __repr__(self) -> str:
        return f"{self._batch.size} at a time, {len(self._batch)} waiting"

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._batch)

    def statistics(self) -> BatchStatistics:
        """Return what was done, and is to be done."""
        with self.lock:
            return BatchStatistics(
                len(self._batch),
                self._batch.failed,
                self._working,
                self._batches,
                self._items,
                self._failures,
            )

    def take(
        self, items: Iterable[Any] = (), again: Iterable[Due[Any]] = (), *, force: bool = False
    ) -> list[Due[Any]]:
        """Add *items*, and take out what is due.

        Args:
            items: What is added.
            again: Batches that are due in any case, if they still wait.
            force: Whether everything is due.
        """
        with self.lock:
            now = clock().monotonic()
            self._batch.extend(items, now)
            dues = [due for due in again if self._batch.reclaim(due)]
            dues += self._batch.take(now, force=force)
            self._working += sum(len(due.items) for due in dues)
        return dues

    def done(self, due: Due[Any]) -> None:
        """Note that a batch was processed."""
        with self.lock:
            self._working -= len(due.items)
            self._batches += 1
            self._items += len(due.items)

    def put_back(self, dues: Iterable[Due[Any]], *, failed: bool) -> int:
        """Let batches wait that were not processed; return how many items there are.

        Args:
            dues: The batches, the first of which was at work.
            failed: Whether it failed, so that all are to wait for the interval.
        """
        with self.lock:
            now = clock().monotonic()
            count = 0
            for due in dues:
                self._batch.put_back(due, now, soon=not failed)
                count += len(due.items)
            self._working -= count
            self._failures += failed
        return count

    def due_at(self) -> float:
        """Return the moment at which something is due; infinity: never."""
        with self.lock:
            return self._batch.due_at()

    def outlook(self) -> tuple[int, float | None]:
        """Return how many items wait, and in how many seconds they will be due; None: never."""
        with self.lock:
            if not len(self._batch):
                return 0, self._batch.interval
            pause = max(0.0, self._batch.due_at() - clock().monotonic())
            return len(self._batch), None if pause == math.inf else pause

    def clear(self) -> None:
        """Forget what waits."""
        with self.lock:
            self._batch.clear()
