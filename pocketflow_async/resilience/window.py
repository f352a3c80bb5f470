"""An exact sliding window: decides when the next call may happen; no clock, no waiting, no lock."""

from __future__ import annotations

import math
from collections import deque

from pocketflow_async.arguments import above_zero, whole


class Window:
    """Lets at most *limit* calls happen in any window of *per* seconds, wherever it begins.

    Windows are half-open: a call at `t` counts in `[t, t + per)`, so at `t + per` its place is free
    again. This holds for the numbers as they are, whatever the rounding of floats. With *burst*
    there are also at most so many in any `per * burst / limit` seconds, so that not all come at
    once; `burst=1` spaces them evenly. It remembers up to *limit* moments.

    Args:
        limit: Most calls in a window.
        per: Length of the window, in seconds.
        burst: Most calls at once; the limit if it is left out.

    Raises:
        TypeError: One of them is no number, or the limit or burst no whole one.
        ValueError: One of them is below 1 or not finite, or the burst is above the limit.
    """

    __slots__ = ("_latest", "_spans", "burst", "limit", "per")

    def __init__(self, limit: int, per: float = 1.0, burst: int | None = None) -> None:
        self.limit = whole("limit", limit)
        self.per = above_zero("per", per)
        self.burst = limit if burst is None else whole("burst", burst)
        if self.burst > limit:
            raise ValueError(
                f"burst must be at most the limit, {limit}: no window holds more; not {burst}"
            )
        spans = [_Span(limit, per)]
        if self.burst < limit:
            spans.append(_Span(self.burst, per * self.burst / limit))
        self._spans = spans
        self._latest = -math.inf

    @property
    def rate(self) -> float:
        """Calls per second on the long average."""
        return self.limit / self.per

    def fill(self) -> None:
        """Forget all calls so far."""
        for span in self._spans:
            span.free_at.clear()
        self._latest = -math.inf

    def wait(self, now: float, ahead: int = 0) -> float:
        """Return the seconds from *now* until a call may happen; 0: it may now.

        Args:
            now: The moment.
            ahead: How many other calls come before it, each as soon as it may. With a burst it may
                have to wait longer than is said.
        """
        self._move_to(now)
        longest = 0.0
        for span in self._spans:
            wait = span.wait(now, ahead)
            if wait > longest:
                longest = wait
        return longest

    def take(self, now: float) -> bool:
        """Note a call if it may happen now; return whether it may."""
        return self.admit(now) is not None

    def admit(self, now: float) -> tuple[float, int] | None:
        """Note a call if it may happen now; return what there is to know then, else None.

        That is how many more may happen at once, and how many were in the window that ends now.
        """
        self._move_to(now)
        whole = self._spans[0]
        room = whole.room()
        if len(self._spans) > 1:
            part = self._spans[1]
            room = min(room, part.room())
            if room:
                part.free_at.append(_sum_up(now, part.seconds))
        if not room:
            return None
        whole.free_at.append(_sum_up(now, whole.seconds))
        return room - 1.0, len(whole.free_at)

    def tokens(self, now: float) -> float:
        """Return how many calls may happen at once."""
        self._move_to(now)
        return float(min(span.room() for span in self._spans))

    def count(self, now: float) -> int:
        """Return how many calls there were in the window that ends now."""
        self._move_to(now)
        return len(self._spans[0].free_at)

    def is_idle(self, now: float) -> bool:
        """Return whether no call so far is in the window any more."""
        return not self.count(now)

    def _move_to(self, now: float) -> None:
        """Let time pass. Where it goes back, as with another clock, the waits stay as they are."""
        back = self._latest - now
        self._latest = now
        for span in self._spans:
            free_at = span.free_at
            if back > 0:
                span.free_at = free_at = deque(moment - back for moment in free_at)
            while free_at and free_at[0] <= now:
                free_at.popleft()


class _Span:
    """So many places, and for those that are taken the moment at which each is free again."""

    __slots__ = ("free_at", "limit", "seconds")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self.free_at: deque[float] = deque()

    def room(self) -> int:
        """Return how many places are not taken."""
        return self.limit - len(self.free_at)

    def wait(self, now: float, ahead: int) -> float:
        """Return the seconds until there is a place, if *ahead* others take theirs first."""
        free_at, limit = self.free_at, self.limit
        missing = ahead - self.room()
        if missing < 0:
            return 0.0
        rounds, place = divmod(missing, limit)  # in each round all places are taken once
        wait = free_at[place] - now if place < len(free_at) else self.seconds
        return wait + rounds * self.seconds


def _sum_up(moment: float, seconds: float) -> float:
    """Return the least float that is not below the exact sum.

    `due - large` is exact, since *large* is the greater one (Dekker, "A floating-point technique
    for extending the available precision", 1971).
    """
    due = moment + seconds
    small, large = (seconds, moment) if abs(moment) >= seconds else (moment, seconds)
    return math.nextafter(due, math.inf) if due - large < small else due
