"""What is due of a batch, by number and by age: a pure decision with no clock and no lock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from pocketflow_async.arguments import seconds, whole

T = TypeVar("T")

FULL: Final = "batch_full"
AGED: Final = "time_based"
FORCED: Final = "forced"


class Due(Generic[T]):
    """Items that are to be processed together.

    Attributes:
        items: The items, in the order in which they were added.
        reason: Why they are due: `FULL`, `AGED` or `FORCED`.
    """

    __slots__ = ("items", "reason")

    def __init__(self, items: list[T], reason: str) -> None:
        self.items = items
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Due {len(self.items)} items, {self.reason}>"


class _Back(NamedTuple, Generic[T]):
    """A batch that was put back, and the moment from which it is due again."""

    due: Due[T]
    at: float


class Batch(Generic[T]):
    """Holds items until they are due: *size* of them at once, the rest when the oldest is so old.

    A batch that could not be processed can be put back. It stays as it is, so that one bad item
    does not spoil others, and is due again later. When time goes back, ages stay as they are.

    Args:
        size: Most items of a batch.
        interval: Seconds after which an item is due, whatever the number; None: never.

    Raises:
        TypeError: One of them is no number.
        ValueError: The size is below 1, or the interval is not above 0 and finite.
    """

    __slots__ = ("_back", "_count", "_items", "_latest", "_since", "interval", "size")

    def __init__(self, size: int, interval: float | None) -> None:
        self.size = whole("size", size)
        self.interval = None if interval is None else seconds("interval", interval)
        self._items: deque[T] = deque()
        self._since: deque[float] = deque()  # when each was added
        self._back: deque[_Back[T]] = deque()
        self._count = 0  # of items that were put back
        self._latest = -math.inf

    def __len__(self) -> int:
        """Return how many items wait, those that were put back among them."""
        return len(self._items) + self._count

    @property
    def failed(self) -> int:
        """How many of them were put back."""
        return self._count

    def add(self, item: T, now: float) -> None:
        """Let *item* wait."""
        self._move_to(now)
        self._items.append(item)
        self._since.append(now)

    def extend(self, items: Iterable[T], now: float) -> None:
        """Let all *items* wait."""
        self._move_to(now)
        self._items.extend(items)
        self._since.extend([now] * (len(self._items) - len(self._since)))

    def discard(self, item: T) -> bool:
        """Forget the first *item* that waits and was not put back; return whether there was one."""
        try:
            place = self._items.index(item)
        except ValueError:
            return False
        del self._items[place], self._since[place]
        return True

    def take(self, now: float, *, force: bool = False) -> list[Due[T]]:
        """Take what is due out, the oldest first; with *force*, all there is."""
        self._move_to(now)
        found = self._taken_back(now, force)
        while len(self._items) >= self.size:
            found.append(self._cut(self.size, FULL))
        if self._items:
            if self._ends(self._since[0]) <= now:
                found.append(self._cut(len(self._items), AGED))
            elif force:
                found.append(self._cut(len(self._items), FORCED))
        return found

    def put_back(self, due: Due[T], now: float, *, soon: bool = False) -> None:
        """Take a batch in again, which is due after the interval, or at once if *soon*.

        Where there is no interval, it is due whenever something is taken, but not by itself.
        """
        self._move_to(now)
        later = 0.0 if soon or self.interval is None else self.interval
        self._back.append(_Back(due, now + later))
        self._count += len(due.items)

    def reclaim(self, due: Due[T]) -> bool:
        """Take out a batch that was put back, due or not; return whether it was still there."""
        for place, back in enumerate(self._back):
            if back.due is due:
                del self._back[place]
                self._count -= len(due.items)
                return True
        return False

    def due_at(self) -> float:
        """Return the moment at which something is due by itself; infinity: never."""
        if len(self._items) >= self.size:
            return -math.inf
        if self.interval is None:
            return math.inf
        first = self._ends(self._since[0]) if self._items else math.inf
        return min(first, min((back.at for back in self._back), default=math.inf))

    def clear(self) -> None:
        """Forget all items."""
        self._items.clear()
        self._since.clear()
        self._back.clear()
        self._count = 0

    def _taken_back(self, now: float, force: bool) -> list[Due[T]]:
        found: list[Due[T]] = []
        for _ in range(len(self._back)):
            back = self._back.popleft()
            if back.at > now and not force:
                self._back.append(back)
                continue
            if back.at > now:
                back.due.reason = FORCED
            elif self.interval is not None:
                back.due.reason = AGED
            found.append(back.due)
            self._count -= len(back.due.items)
        return found

    def _cut(self, count: int, reason: str) -> Due[T]:
        items, since = self._items, self._since
        for _ in range(count):
            since.popleft()
        return Due([items.popleft() for _ in range(count)], reason)

    def _ends(self, since: float) -> float:
        return math.inf if self.interval is None else since + self.interval

    def _move_to(self, now: float) -> None:
        """Let time pass. Where it goes back, as with another clock, nothing gets any younger."""
        gone_back = self._latest - now
        self._latest = now
        if 0 < gone_back < math.inf:
            self._since = deque(moment - gone_back for moment in self._since)
            self._back = deque(_Back(back.due, back.at - gone_back) for back in self._back)
