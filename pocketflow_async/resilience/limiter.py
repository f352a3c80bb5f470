"""A limit to how often something happens, for all tasks, event loops and threads of a process.

`Bucket` and `Window` decide, given the time. `RateLimiter` lets callers wait for them in the order
in which they came. Nothing is kept outside of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, Self, TypeVar

from pocketflow_async.arguments import above_zero, whole
from pocketflow_async.clock import Clock
from pocketflow_async.resilience.bucket import Bucket, CountingBucket
from pocketflow_async.resilience.errors import RateLimitExceeded
from pocketflow_async.resilience.keyed import Lane, Lanes
from pocketflow_async.resilience.keys import KeySource
from pocketflow_async.resilience.limiting import Admission, Counts, Limiter, LimiterStatistics
from pocketflow_async.resilience.turns import LEAST, TaskTurn, ThreadTurn
from pocketflow_async.resilience.window import Window

__all__ = ["Admission", "Bucket", "LimiterStatistics", "RateLimiter", "Window"]

_SLACK: Final = 0.01
"""Seconds by which those ahead may be late before one that may wait only so long gives up."""

Turn = TypeVar("Turn", TaskTurn, ThreadTurn)


class RateLimiter(Limiter):
    """Lets calls through at a rate, in the order in which they ask, over all tasks and threads.

    There are two kinds, and what is counted is the moment at which a call is let through:

    - `RateLimiter(10, burst=20)`, a bucket of tokens, for a rate on the long average: at most
      `rate * seconds + burst` calls in any span of time.
    - `RateLimiter.window(100, 60)`, an exact sliding window, for a limit that must hold: at most
      100 calls in any 60 seconds, wherever these begin.

    It may be shared by event loops and threads, at the same time or one after another. A caller
    that is cancelled leaves the queue and uses nothing up. Only who is first sleeps until there is
    room; the others wait for their turn.

        limiter = RateLimiter(10, burst=20)
        await limiter.take()

    Args:
        rate: Calls per second.
        burst: Most calls at once after a rest; twice the rate if it is left out, and at least 1.
        window: Seconds over which `Admission.requests_in_window` counts.
        wait: Whether calls wait for room; otherwise they are refused at once.
        max_wait: Seconds that a call waits at most; it is refused as soon as it is known that this
            is not enough. Any time if it is left out.
        key: Under which limit a guarded call is, each key having one of its own: a template such as
            `"{customer}"`, or a function of its arguments. They are those of a function that is
            decorated, or in a `functools.partial`.
        max_keys: How many keys have a limit of their own at the same time. Idle ones are forgotten;
            where all are in use, those that come besides share one limit.
        name: What it is called in traces and errors; "limiter" if it is left out.
        clock: Its time; that of the context in which it is used if it is left out.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        rate: float,
        burst: int | None = None,
        *,
        window: float = 1.0,
        wait: bool = True,
        max_wait: float | None = None,
        key: KeySource | None = None,
        max_keys: int = 10_000,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        rate = above_zero("rate", rate)
        burst = max(1, int(2 * rate)) if burst is None else whole("burst", burst)
        super().__init__(name, wait, max_wait, key, clock)
        self._decide_by(lambda: CountingBucket(rate, burst, window), max_keys)

    @classmethod
    def window(
        cls,
        limit: int,
        per: float = 1.0,
        *,
        burst: int | None = None,
        wait: bool = True,
        max_wait: float | None = None,
        key: KeySource | None = None,
        max_keys: int = 10_000,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Return one that lets at most *limit* calls through in any window of *per* seconds.

        Windows are half-open: a call at `t` counts in `[t, t + per)`. It remembers the moments of
        up to *limit* calls, for each key.

        Args:
            limit: Most calls in a window.
            per: Its length, in seconds.
            burst: Most calls in any `per * burst / limit` seconds, so that not all come at once;
                with 1 they are spaced evenly. The limit if it is left out.
            wait: See the class.
            max_wait: See the class.
            key: See the class.
            max_keys: See the class.
            name: See the class.
            clock: See the class.

        Raises:
            TypeError: An argument is of a wrong type.
            ValueError: An argument is out of range.
        """
        limiter = cls.__new__(cls)
        Limiter.__init__(limiter, name, wait, max_wait, key, clock)
        limiter._decide_by(lambda: Window(limit, per, burst), max_keys)
        return limiter

    def _decide_by(self, make: Callable[[], CountingBucket | Window], max_keys: int) -> None:
        self._pace = make()
        self._lane = Lane(self._pace)
        self._lanes = Lanes(make, max_keys)
        self._counts = Counts()
        self._lock = threading.RLock()  # a task may be collected, and leave, while it is held

    def __repr__(self) -> str:
        pace = self._pace
        if isinstance(pace, Window):
            how = f"{pace.limit} in any {pace.per:g} s"
        else:
            how = f"{pace.rate} a second"
        return f"<RateLimiter {how}, burst {pace.burst}, {self.waiting} waiting>"

    @property
    def rate(self) -> float:
        """Calls per second on the long average."""
        return self._pace.rate

    @property
    def burst(self) -> int:
        """Most calls at once after a rest."""
        return self._pace.burst

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        with self._lock:
            return len(self._lane.turns) + self._lanes.waiting

    @property
    def tokens(self) -> float:
        """How many calls without a key could be let through at once."""
        with self._lock:
            return self._pace.tokens(self._time().monotonic())

    def statistics(self) -> LimiterStatistics:
        """Return what it has done so far."""
        with self._lock:
            counts = self._counts
            waiting, keys = self.waiting, len(self._lanes)
            return LimiterStatistics(counts.admitted, counts.refused, waiting, counts.waited, keys)

    def reset(self) -> None:
        """Forget all calls so far. Who waits keeps its place; the first sleeps to its end."""
        with self._lock:
            self._pace.fill()
            self._lanes.fill()

    def try_take(self, key: Hashable = None) -> Admission | None:
        """Let the caller through if that can be now and nobody waits; else return None."""
        clock = self._time()
        with self._lock:
            now = clock.monotonic()
            lane = self._lane if key is None else self._lanes.lane(key, now)
            if lane.turns:
                lane.turns.drop_stopped()
                if lane.turns:
                    return None
            return self._taken(lane, now, 0.0)

    async def take(self, key: Hashable = None) -> Admission:
        """Wait until the caller may go on. May be cancelled, and then uses nothing up.

        Args:
            key: Under which limit it is; None: the one without a key.

        Raises:
            RateLimitExceeded: There is no room in the time that it may wait.
        """
        admission = self.try_take(key)
        return await self.wait_for(key, self.max_wait) if admission is None else admission

    def take_blocking(self, key: Hashable = None) -> Admission:
        """Do what `take` does, and block this thread meanwhile.

        Threads and tasks stand in one queue. On the thread of an event loop the loop stands still
        meanwhile, and those of its tasks that wait are not waited for.
        """
        admission = self.try_take(key)
        return self.wait_for_blocking(key, self.max_wait) if admission is None else admission

    async def wait_for(self, key: Hashable, max_wait: float | None) -> Admission:
        """Wait in the queue, for *max_wait* seconds at most; `take` does it if there is no room."""
        turn = TaskTurn(asyncio.get_running_loop())
        asking = _Asking(turn, key, max_wait, self._time())
        try:
            while True:
                answer = self._look(asking)
                if isinstance(answer, Admission):
                    return answer
                if asking.is_first:
                    await asking.clock.asleep(answer)
                else:
                    await asking.turn.called()
        finally:
            self._leave(asking)

    def wait_for_blocking(self, key: Hashable, max_wait: float | None) -> Admission:
        """Do what `wait_for` does, and block this thread meanwhile."""
        asking = _Asking(ThreadTurn(), key, max_wait, self._time())
        try:
            while True:
                answer = self._look(asking)
                if isinstance(answer, Admission):
                    return answer
                if asking.is_first:
                    asking.clock.sleep(answer)
                else:
                    asking.turn.called(asking.clock, answer)
        finally:
            asking.turn.gone()
            self._leave(asking)

    def _look(self, asking: _Asking[Any]) -> Admission | float:
        """Return the admission of who asks, or after how many seconds there may be room."""
        turn = asking.turn
        with self._lock:
            now = asking.clock.monotonic()
            lane = asking.lane
            if lane is None or turn not in lane.turns:
                lane = self._lane if asking.key is None else self._lanes.lane(asking.key, now)
                asking.lane = lane
                lane.turns.drop_stopped()
                self._refuse_if_late(asking, now, lane.pace.wait(now, len(lane.turns)))
                lane.turns.join(turn)
            asking.is_first = lane.turns.is_first(turn)
            if not asking.is_first:
                turn.expect()
                return lane.pace.wait(now)
            admission = self._taken(lane, now, now - asking.began)
            if admission is not None:
                return admission
            wait = lane.pace.wait(now)
            self._refuse_if_late(asking, now - _SLACK, wait)
            return max(wait, LEAST)

    def _taken(self, lane: Lane, now: float, waited: float) -> Admission | None:
        """Let one through if that can be; the lock is held."""
        found = lane.pace.admit(now)
        if found is None:
            return None
        counts = self._counts
        counts.admitted += 1
        counts.waited += waited
        return Admission(*found, waited)

    def _refuse_if_late(self, asking: _Asking[Any], now: float, wait: float) -> None:
        """Raise if *wait* more seconds from *now* are too long; the lock is held."""
        if asking.max_wait is not None and now + wait > asking.began + asking.max_wait:
            self._counts.refused += 1
            raise RateLimitExceeded(self.name, wait)

    def _leave(self, asking: _Asking[Any]) -> None:
        """Let who asked leave the queue; whoever is first then is called."""
        lane = asking.lane
        if lane is not None:
            with self._lock:
                lane.turns.leave(asking.turn)


class _Asking(Generic[Turn]):
    """One who waits: in which lane, since when, and if it is its turn."""

    __slots__ = ("began", "clock", "is_first", "key", "lane", "max_wait", "turn")

    def __init__(self, turn: Turn, key: Hashable, max_wait: float | None, clock: Clock) -> None:
        self.turn: Turn = turn
        self.key = key
        self.max_wait = max_wait
        self.clock = clock
        self.began = clock.monotonic()
        self.lane: Lane | None = None
        self.is_first = False
