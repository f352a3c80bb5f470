"""Lanes for spans that overlap: on one lane, two of them nest or have nothing in common.

Viewers of Chrome's format draw a lane as one stack of calls. A span goes on the lane of its parent
while nothing else of the parent is going on there, and otherwise on the first lane that is free.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import NamedTuple


class Bar(NamedTuple):
    """What is to be drawn: from when to when, and inside what."""

    key: str
    parent: str | None
    start_ns: int
    end_ns: int


def assign(bars: Iterable[Bar]) -> dict[str, int]:
    """Return the number of the lane, from 0 on, for the key of each bar.

    Args:
        bars: Parents before their children, where both have the same start and end.
    """
    lanes = _Lanes()
    for bar in sorted(bars, key=lambda bar: (bar.start_ns, -bar.end_ns)):
        lanes.place(bar)
    return lanes.homes


class _Lanes:
    """The lanes at one moment, which only ever moves on."""

    def __init__(self) -> None:
        self.homes: dict[str, int] = {}
        self._stacks: list[list[Bar]] = []
        """What is open on each lane, outermost first."""
        self._free: list[int] = []
        self._busy: list[tuple[int, int]] = []
        """When each lane with something on it will be free, and its number; both are heaps."""

    def place(self, bar: Bar) -> None:
        """Find a lane for *bar*, which starts no earlier than all before it."""
        self._move_on(bar.start_ns)
        home = self.homes.get(bar.parent) if bar.parent is not None else None
        if home is None or not self._fits(bar, home):
            home = self._empty()
            heapq.heappush(self._busy, (bar.end_ns, home))
        self._stacks[home].append(bar)
        self.homes[bar.key] = home

    def _move_on(self, now_ns: int) -> None:
        while self._busy and self._busy[0][0] <= now_ns:
            lane = heapq.heappop(self._busy)[1]
            self._stacks[lane].clear()
            heapq.heappush(self._free, lane)

    def _fits(self, bar: Bar, lane: int) -> bool:
        """Tell whether *bar* may lie right inside of what is open on *lane*."""
        stack = self._stacks[lane]
        while stack and stack[-1].end_ns <= bar.start_ns:
            stack.pop()
        return bool(stack) and stack[-1].key == bar.parent and bar.end_ns <= stack[-1].end_ns

    def _empty(self) -> int:
        if self._free:
            return heapq.heappop(self._free)
        self._stacks.append([])
        return len(self._stacks) - 1
