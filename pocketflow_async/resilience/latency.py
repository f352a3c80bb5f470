"""How long recent calls have taken: a sliding sample and its quantiles."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class Latencies:
    """The last *size* durations, always in order too; no clock, no lock.

    Args:
        size: How many are kept.

    Raises:
        ValueError: That is none.
    """

    __slots__ = ("_recent", "_size", "_sorted")

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"the size of a sample must be at least 1, not {size!r}")
        self._size = size
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, seconds: float) -> None:
        """Add a duration; the oldest one goes when there are too many."""
        if len(self._recent) == self._size:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, part: float) -> float:
        """Return the shortest duration that at least *part* of them do not exceed.

        Raises:
            ValueError: There are none.
        """
        if not self._sorted:
            raise ValueError("there are no durations yet")
        return self._sorted[max(0, math.ceil(part * len(self._sorted)) - 1)]

    def clear(self) -> None:
        """Forget all of them."""
        self._recent.clear()
        self._sorted.clear()
