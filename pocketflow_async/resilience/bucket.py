"""A bucket of tokens: decides when the next call may happen; no clock, no waiting, no lock."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from pocketflow_async.arguments import above_zero, whole


class Pace(Protocol):
    """Decides when calls may happen, given the time; it is told of each that does."""

    def wait(self, now: float, ahead: int = 0) -> float:
        """Return the seconds until a call may happen, if *ahead* others come first."""

    def admit(self, now: float) -> tuple[float, int] | None:
        """Note a call if it may happen now; return what there is to know then, else None.

        That is how many more may happen at once, and how many were in the window that ends now.
        """

    def tokens(self, now: float) -> float:
        """Return how many calls may happen at once."""

    def is_idle(self, now: float) -> bool:
        """Return whether it is as good as new: no call so far matters any more."""

    def fill(self) -> None:
        """Forget all calls so far."""


class Bucket:
    """Decides when the next call may happen; no clock, no waiting, no lock.

    It holds *burst* tokens and is refilled at *rate* a second; a call takes one. So in any span of
    time there are at most `rate * seconds + burst` calls. Times are counted from the moment at
    which it was last full, so that no rounding adds up.

    Args:
        rate: Calls per second.
        burst: Most calls at once after a rest.

    Raises:
        TypeError: One of them is no number.
        ValueError: The rate is not above 0 and finite, or the burst is below 1.
    """

    __slots__ = ("_full_at", "_latest", "_taken", "burst", "rate")

    def __init__(self, rate: float, burst: int = 1) -> None:
        self.rate = above_zero("rate", rate)
        self.burst = whole("burst", burst)
        self.fill()

    def fill(self) -> None:
        """Make it full, as it was when it was new."""
        self._taken = 0  # since it was full
        self._full_at = -math.inf
        self._latest = -math.inf

    def wait(self, now: float, ahead: int = 0) -> float:
        """Return the seconds from *now* until a call may happen; 0: it may now.

        Args:
            now: The moment.
            ahead: How many other calls come before it, each as soon as it may.
        """
        self._move_to(now)
        over = self._taken + 1 + ahead - self.burst
        if over <= 0:
            return 0.0
        since = self._full_at if self._taken else now
        return max(0.0, since + over / self.rate - now)

    def take(self, now: float) -> bool:
        """Take a token if there is one; return whether there was."""
        if self.wait(now) > 0:
            return False
        self._taken += 1
        return True

    def tokens(self, now: float) -> float:
        """Return how many tokens there are, with the part of the next one."""
        self._move_to(now)
        if not self._taken:
            return float(self.burst)
        refilled = (now - self._full_at) * self.rate
        return min(float(self.burst), max(0.0, self.burst - self._taken + refilled))

    def is_idle(self, now: float) -> bool:
        """Return whether it is full."""
        self._move_to(now)
        return not self._taken

    def _move_to(self, now: float) -> None:
        """Let time pass. Where it goes back, as with another clock, the tokens stay as they are."""
        if now < self._latest:
            self._full_at -= self._latest - now
        self._latest = now
        if not self._taken or now >= self._full_at + self._taken / self.rate:
            self._full_at, self._taken = now, 0


class CountingBucket(Bucket):
    """A bucket that also knows how many calls there were within the last *window* seconds.

    Args:
        rate: Calls per second.
        burst: Most calls at once after a rest.
        window: Seconds.

    Raises:
        TypeError: One of them is no number.
        ValueError: One of them is out of range.
    """

    __slots__ = ("_recent", "window")

    def __init__(self, rate: float, burst: int, window: float) -> None:
        self.window = above_zero("window", window)
        self._recent: deque[float] = deque()
        super().__init__(rate, burst)

    def fill(self) -> None:
        """Forget all calls so far."""
        super().fill()
        self._recent.clear()

    def admit(self, now: float) -> tuple[float, int] | None:
        """Take a token if there is one; return how many are left, and the calls in the window."""
        if self.wait(now) > 0:
            return None
        self._taken += 1
        recent = self._recent
        if recent and recent[-1] > now:  # another clock
            recent.clear()
        recent.append(now)
        oldest = now - self.window
        while recent[0] <= oldest:
            recent.popleft()
        left = self.burst - self._taken + (now - self._full_at) * self.rate
        return max(0.0, left), len(recent)
