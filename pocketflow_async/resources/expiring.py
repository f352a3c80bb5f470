"""Values by key that run out and that are pushed out: the pure part of the memory cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

_SLACK = 64


class Entry(NamedTuple):
    """A value, and when it runs out; None: never."""

    value: Any
    until: float | None = None


class Expiring:
    """At most *limit* values; the one that was not used for longest is pushed out.

    It has no clock: whoever asks says what time it is, and never an earlier time than before.

    Args:
        limit: Most values that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pushed_out = 0
        self._entries: OrderedDict[Any, Entry] = OrderedDict()  # the last was used last
        self._ends: list[tuple[float, int, Any]] = []  # a heap; may name ends that are past
        self._count = 0  # keys need not be comparable

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        """Go over the keys; the one that was not used for longest is first."""
        return iter(list(self._entries))

    def get(self, key: Any, now: float) -> Entry | None:
        """Return what *key* has; None: nothing, or no more."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until is not None and entry.until <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Any, entry: Entry, now: float) -> None:
        """Keep *entry* in place of what *key* has."""
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if entry.until is not None:
            self._count += 1
            heappush(self._ends, (entry.until, self._count, key))
        self.purge(now)
        while len(self._entries) > self.limit:
            self._entries.popitem(last=False)
            self.pushed_out += 1
        if len(self._ends) > 2 * len(self._entries) + _SLACK:
            self._rebuild()

    def pop(self, key: Any, now: float) -> Entry | None:
        """Forget *key* and return what it had."""
        entry = self.get(key, now)
        self._entries.pop(key, None)
        return entry

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._ends.clear()

    def purge(self, now: float) -> None:
        """Forget what has run out."""
        while self._ends and self._ends[0][0] <= now:
            _, _, key = heappop(self._ends)
            entry = self._entries.get(key)
            if entry is not None and entry.until is not None and entry.until <= now:
                del self._entries[key]

    def _rebuild(self) -> None:
        """Forget ends of values that have been replaced since, so that they take no room."""
        self._ends = [
            (entry.until, number, key)
            for number, (key, entry) in enumerate(self._entries.items())
            if entry.until is not None
        ]
        self._count = len(self._ends)
        heapify(self._ends)
