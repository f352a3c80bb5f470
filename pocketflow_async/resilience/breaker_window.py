"""The calls of late, counted: a window that slides with time and with calls."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

GRAIN: Final = 1000
"""Into how many parts a window of time alone is cut, so that it stays small under any load."""


class Window:
    """Counts calls and failures; no clock, no lock.

    It holds the calls of the last *seconds*; one that is just as old is out. With a *limit* it
    holds no more than the last so many of them, each on its own. Without, calls within a thousandth
    of *seconds* are counted as one entry that leaves with the oldest of them: it never holds more
    than about 1,000 entries, and a call leaves up to a thousandth early.

    Args:
        seconds: How long it holds a call.
        limit: How many calls it holds at most; None: any number.

    Attributes:
        calls: How many calls are in it, as of the last `add` or `move_to`.
        failures: How many of them have failed.
    """

    __slots__ = ("_entries", "_grain", "_limit", "_seconds", "calls", "failures")

    def __init__(self, seconds: float = math.inf, limit: int | None = None) -> None:
        self._seconds = seconds
        self._limit = limit
        self._grain = seconds / GRAIN if limit is None else 0.0
        self._entries: deque[list[float]] = deque()  # of [moment, calls, failures]
        self.calls = 0
        self.failures = 0

    def add(self, now: float, failed: bool) -> None:
        """Count a call that ended *now*, which is never before the one added last."""
        entries = self._entries
        if entries and entries[0][0] <= now - self._seconds:
            self.move_to(now)
        if entries and now - entries[-1][0] < self._grain:
            last = entries[-1]
            last[1] += 1
            last[2] += failed
        else:
            entries.append([now, 1, failed])
        self.calls += 1
        self.failures += failed
        if self._limit is not None and self.calls > self._limit:
            self._drop()

    def move_to(self, now: float) -> None:
        """Let go what is too old *now*."""
        entries, oldest = self._entries, now - self._seconds
        while entries and entries[0][0] <= oldest:
            self._drop()

    def clear(self) -> None:
        """Forget all calls."""
        self._entries.clear()
        self.calls = self.failures = 0

    def _drop(self) -> None:
        _, calls, failures = self._entries.popleft()
        self.calls -= int(calls)
        self.failures -= int(failures)
