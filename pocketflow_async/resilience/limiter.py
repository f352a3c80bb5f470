"""A limit to how often something happens: a pure decision, and a queue around it.

`Bucket` decides, given the time. `RateLimiter` lets callers wait for it in the order in which they
came, from any number of tasks, event loops and threads. Nothing is kept outside of the two.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from collections import OrderedDict, deque
from contextlib import suppress
from typing import Final, NamedTuple

from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock

_LEAST: Final = 1e-6
"""Seconds of the shortest sleep, so that time moves on whatever the rounding."""


_LOOK_AGAIN: Final = 1.0
"""Seconds after which one behind another loop looks whether that still runs."""


class Admission(NamedTuple):
    """What there was to know when a call was let through."""

    tokens_remaining: float
    """How many more calls could follow at once."""
    requests_in_window: int
    """How many were let through within the window that ends now, this one included."""
    waited: float
    """Seconds that it has waited."""


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
        self.rate = _rate(rate)
        self.burst = _burst(burst)
        self.fill()

    def fill(self) -> None:
        """Make it full, as it was when it was new."""
        self._taken = 0  # since it was full
        self._full_at = -math.inf
        self._latest = -math.inf

    def wait(self, now: float) -> float:
        """Return the seconds from *now* until a call may happen; 0: it may now."""
        self._move_to(now)
        over = self._taken + 1 - self.burst
        if over <= 0:
            return 0.0
        return max(0.0, self._full_at + over / self.rate - now)

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

    def _move_to(self, now: float) -> None:
        """Let time pass. Where it goes back, as with another clock, the tokens stay as they are."""
        if now < self._latest:
            self._full_at -= self._latest - now
        self._latest = now
        if not self._taken or now >= self._full_at + self._taken / self.rate:
            self._full_at, self._taken = now, 0


class _Waiting:
    """A caller in the queue."""

    __slots__ = ("behind_others", "loop", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.turn: asyncio.Future[None] | None = None
        self.behind_others = False
        """Whether, when it joined, anybody before it was on another loop."""

    async def called(self, turn: asyncio.Future[None]) -> None:
        """Wait for *turn*; or, behind another loop, which may just stop, for a while at most."""
        if not self.behind_others:
            await turn
            return
        again = self.loop.call_later(_LOOK_AGAIN, self._wake)
        try:
            await turn
        finally:
            again.cancel()

    def call(self) -> None:
        """Make it look again, on its own loop."""
        if _running() is self.loop:
            self._wake()
            return
        with suppress(RuntimeError):  # that loop is closed, and all that was on it is gone
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)


class RateLimiter:
    """Lets calls through at a rate, in the order in which they ask, over all tasks and threads.

    It may be shared by event loops, at the same time or one after another. A caller that is
    cancelled leaves the queue and uses nothing up. Only who is first sleeps until there is a token;
    the others wait for their turn.

        limiter = RateLimiter(10, burst=20)
        await limiter.take()

    Args:
        rate: Calls per second.
        burst: Most calls at once after a rest; twice the rate if it is left out, and at least 1.
        window: Seconds over which `Admission.requests_in_window` counts.
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
        clock: Clock | None = None,
    ) -> None:
        rate = _rate(rate)
        self._bucket = Bucket(rate, max(1, int(2 * rate)) if burst is None else burst)
        self._window = _above_zero("window", window)
        self._clock = clock
        self._lock = threading.RLock()  # a task may be collected, and leave, while it is held
        self._recent: deque[float] = deque()
        self._queue: OrderedDict[_Waiting, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<RateLimiter {self.rate} a second, burst {self.burst}, {self.waiting} waiting>"

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self._bucket.rate

    @property
    def burst(self) -> int:
        """Most calls at once after a rest."""
        return self._bucket.burst

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return len(self._queue)

    @property
    def tokens(self) -> float:
        """How many calls could be let through at once."""
        with self._lock:
            return self._bucket.tokens(self._time().monotonic())

    def reset(self) -> None:
        """Forget all calls so far. Who waits keeps its place; the first sleeps to its end."""
        with self._lock:
            self._bucket.fill()
            self._recent.clear()

    def try_take(self) -> Admission | None:
        """Let the caller through if that can be now and nobody waits; else return None."""
        clock = self._time()
        with self._lock:
            self._drop_stopped()
            return None if self._queue else self._taken(clock.monotonic(), None)

    async def take(self) -> Admission:
        """Wait until the caller may go on. May be cancelled."""
        clock = self._time()
        began = clock.monotonic()
        admission = self.try_take()
        if admission is not None:
            return admission
        me = _Waiting(asyncio.get_running_loop())
        try:
            while True:
                with self._lock:
                    pause = None
                    if self._is_first(me):
                        now = clock.monotonic()
                        admission = self._taken(now, began)
                        if admission is not None:
                            return admission
                        pause = max(self._bucket.wait(now), _LEAST)
                    else:
                        me.turn = me.loop.create_future()
                if pause is not None:
                    await clock.asleep(pause)
                elif me.turn is not None:
                    await me.called(me.turn)
        finally:
            self._leave(me)

    def _taken(self, now: float, began: float | None) -> Admission | None:
        """Take a token if there is one; the lock is held."""
        if not self._bucket.take(now):
            return None
        recent = self._recent
        if recent and recent[-1] > now:  # another clock
            recent.clear()
        while recent and recent[0] <= now - self._window:
            recent.popleft()
        recent.append(now)
        waited = 0.0 if began is None else now - began
        return Admission(self._bucket.tokens(now), len(recent), waited)

    def _is_first(self, me: _Waiting) -> bool:
        """Return whether it is the turn of *me*, which joins the queue; the lock is held."""
        queue = self._queue
        if me not in queue:
            last = next(reversed(queue), me)
            me.behind_others = last.loop is not me.loop or last.behind_others
            queue[me] = None
        self._drop_stopped()
        return next(iter(queue)) is me

    def _drop_stopped(self) -> None:
        """Let nobody wait for a loop that stands still. Who is on it joins again if it goes on."""
        queue = self._queue
        dropped = False
        while queue and not (first := next(iter(queue))).loop.is_running():
            del queue[first]
            first.call()
            dropped = True
        if dropped and queue:
            next(iter(queue)).call()

    def _leave(self, me: _Waiting) -> None:
        """Leave the queue; whoever is first then is called."""
        with self._lock:
            if me not in self._queue:
                return
            was_first = next(iter(self._queue)) is me
            del self._queue[me]
            self._drop_stopped()
            if was_first and self._queue:
                next(iter(self._queue)).call()

    def _time(self) -> Clock:
        return current_clock() if self._clock is None else self._clock


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _rate(value: float) -> float:
    return _above_zero("rate", value)


def _above_zero(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r:.80}")
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be above 0 and finite, not {value!r:.80}")
    return value


def _burst(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"burst must be a whole number, not {value!r:.80}")
    if value < 1:
        raise ValueError(f"burst must be at least 1, or no call could ever happen; not {value!r}")
    return value
