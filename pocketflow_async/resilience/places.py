"""Who has one of a limited number of places, and who waits for one; no lock, no clock, no loop."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

W = TypeVar("W")


class Places(Generic[W]):
    """Gives out places, in the order in which they are asked for.

    While somebody waits no place is free: a place that becomes free is theirs (`following`).

    Args:
        limit: How many there are.
        waiting: How many may wait; None: any number.
    """

    __slots__ = ("_queue", "limit", "most_waiting", "taken")

    def __init__(self, limit: int, waiting: int | None = None) -> None:
        self.limit = limit
        self.most_waiting = waiting
        self.taken = 0
        self._queue: OrderedDict[W, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def take(self) -> bool:
        """Take a place if one is free; return whether one was."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def queue(self, who: W, again: bool = False) -> bool:
        """Let *who* wait; return False if too many do already, and it did not wait before."""
        if not again and self.most_waiting is not None and self.waiting >= self.most_waiting:
            return False
        self._queue[who] = None
        return True

    def drop(self, who: W) -> bool:
        """Let *who* wait no longer; return False if it did not wait (any more)."""
        if who not in self._queue:
            return False
        del self._queue[who]
        return True

    def free(self) -> None:
        """Give a place back. `following` says whose it is then."""
        self.taken -= 1

    def following(self) -> W | None:
        """Give a free place, if there is one, to who has waited longest; return who that is."""
        if not self._queue or self.taken >= self.limit:
            return None
        who, _ = self._queue.popitem(last=False)
        self.taken += 1
        return who
