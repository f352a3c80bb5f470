"""A limit that many processes and machines share through Redis."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, Final, Literal
from uuid import uuid4

from pocketflow_async.arguments import seconds
from pocketflow_async.clock import Clock
from pocketflow_async.needing import need
from pocketflow_async.offloading import returned
from pocketflow_async.resilience.errors import RateLimitExceeded
from pocketflow_async.resilience.keys import KeySource
from pocketflow_async.resilience.limiter import RateLimiter
from pocketflow_async.resilience.limiting import Admission, Counts, Limiter, LimiterStatistics
from pocketflow_async.resilience.redis_asking import RedisAsking
from pocketflow_async.resilience.redis_away import Away, words
from pocketflow_async.resilience.redis_window import ADMITTED, REFUSED, WAITING, Answer
from pocketflow_async.resilience.window import Window

logger = logging.getLogger(__name__)

_LEAST: Final = 0.0005
"""Seconds of the shortest sleep: the server is not asked more often."""

_SLACK: Final = 0.01
"""Seconds by which those ahead may be late before one that may wait only so long gives up."""


class RedisRateLimiter(Limiter):
    """Lets at most *limit* calls through in any window of *per* seconds, over all processes.

    It is exact, by the clock of the server: what is counted is the moment at which one script lets
    a call through there. (On its way back one answer may take longer than another.) Those who wait
    stand in a queue in Redis and pass in the order in which they arrived there; each sleeps for as
    long as it is told. A caller that is cancelled leaves the queue, and gives back what it has just
    been given. If its process dies or stalls, it loses its place a second after it should have
    asked again.

    All that share a limit give the same *prefix*, *name* and figures. The keys in Redis lapse when
    they are no longer needed. A server that forgets them, as at a restart without persistence,
    forgets the calls too.

        limiter = RedisRateLimiter(redis.asyncio.from_url(url), 100, 60, name="mail")
        async with limiter:
            await send(mail)

    Args:
        client: A `redis.asyncio.Redis`, which belongs to one event loop; or a `redis.Redis`, which
            is for threads, and is asked from one where somebody awaits `take`.
        limit: Most calls in a window.
        per: Its length, in seconds.
        burst: Most calls in any `per * burst / limit` seconds, so that not all come at once; with 1
            they are spaced evenly. The limit if it is left out.
        prefix: What its keys in Redis begin with.
        wait: Whether calls wait for room; otherwise they are refused at once.
        max_wait: Seconds that a call waits at most; it is refused as soon as it is known that this
            is not enough. Any time if it is left out.
        key: Under which limit a guarded call is, each key having one of its own: a template such as
            `"{customer}"`, or a function of its arguments. They are those of a function that is
            decorated, or in a `functools.partial`.
        timeout: Seconds that an asynchronous client may take for an answer. A synchronous one has
            its own, `socket_timeout`.
        when_away: What becomes of calls while Redis cannot be asked: "raise" an error, which is
            safe; or "local", to hold each process to the whole limit by itself. Redis is then tried
            again after *retry_after* seconds: by one call, which waits a fifth of *timeout* for it
            (but a tenth of a second), while the others go on.
        retry_after: See *when_away*.
        name: What it is called in Redis, in traces and errors; "limiter" if it is left out.
        clock: What it sleeps by. How it goes has no influence on the limit.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        client: Any,
        limit: int,
        per: float = 1.0,
        *,
        burst: int | None = None,
        prefix: str = "pocketflow:limiter:",
        wait: bool = True,
        max_wait: float | None = None,
        key: KeySource | None = None,
        timeout: float = 1.0,
        when_away: Literal["raise", "local"] = "raise",
        retry_after: float = 5.0,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, wait, max_wait, key, clock)
        if when_away not in ("raise", "local"):
            raise ValueError(f"when_away must be 'raise' or 'local', not {when_away!r:.80}")
        self._window = window = Window(limit, per, burst)
        self._asking = RedisAsking(client, window, prefix, self.name, seconds("timeout", timeout))
        self._timeout = timeout
        self._away = Away(seconds("retry_after", retry_after))
        self._local: RateLimiter | None = None
        if when_away == "local":
            self._local = RateLimiter.window(
                limit, per, burst=burst, wait=wait, max_wait=max_wait, name=self.name, clock=clock
            )
        exceptions = need("redis.exceptions", "workflow")
        self._errors: tuple[type[Exception], ...] = (exceptions.RedisError, OSError)
        self._counts = Counts()
        self._waiting = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        window = self._window
        return f"<RedisRateLimiter {self.name!r}, {window.limit} in any {window.per:g} s>"

    @property
    def rate(self) -> float:
        """Calls per second on the long average."""
        return self._window.rate

    @property
    def limit(self) -> int:
        """Most calls in a window."""
        return self._window.limit

    @property
    def per(self) -> float:
        """Length of a window, in seconds."""
        return self._window.per

    @property
    def burst(self) -> int:
        """Most calls at once."""
        return self._window.burst

    @property
    def waiting(self) -> int:
        """How many callers of this process wait."""
        return self._waiting

    def statistics(self) -> LimiterStatistics:
        """Return what it has done so far, in this process; keys are not counted."""
        with self._lock:
            counts = self._counts
            return LimiterStatistics(
                counts.admitted, counts.refused, self._waiting, counts.waited, 0
            )

    async def take(self, key: Hashable = None) -> Admission:
        """Wait until the caller may go on. May be cancelled, and then uses nothing up.

        Args:
            key: Under which limit it is; None: the one without a key.

        Raises:
            RateLimitExceeded: There is no room in the time that it may wait.
            RedisUnreachableError: There is no connection to Redis, or it does not take the login.
            CallTimeoutError: It has not answered in time.
            redis.exceptions.RedisError: What it says against the question.
        """
        return await self._take(_Claim(key, self.max_wait, self._time()))

    def take_blocking(self, key: Hashable = None) -> Admission:
        """Do what `take` does, by a synchronous client, and block this thread meanwhile.

        Raises:
            TypeError: The client is an asynchronous one.
        """
        return self._take_blocking(_Claim(key, self.max_wait, self._time()))

    async def try_take(self, key: Hashable = None) -> Admission | None:
        """Let the caller through if that can be now and nobody waits for it; else return None."""
        try:
            return await self._take(_Claim(key, 0.0, self._time()))
        except RateLimitExceeded:
            return None

    def try_take_blocking(self, key: Hashable = None) -> Admission | None:
        """Do what `try_take` does, by a synchronous client."""
        try:
            return self._take_blocking(_Claim(key, 0.0, self._time()))
        except RateLimitExceeded:
            return None

    async def reset(self, key: Hashable = None) -> None:
        """Forget all calls so far, of all processes. Who waits may lose its place to others."""
        if self._local is not None:
            self._local.reset()
        await self._asking.forget(key)

    def reset_blocking(self, key: Hashable = None) -> None:
        """Do what `reset` does, by a synchronous client."""
        if self._local is not None:
            self._local.reset()
        self._asking.forget_blocking(key)

    async def _take(self, claim: _Claim) -> Admission:
        local = self._local
        if local is not None and not self._may_ask(claim):
            return await self._by_itself(local, claim)
        try:
            while True:
                # In a task of its own: a cancellation waits for the answer, to give it back.
                await returned(asyncio.create_task(self._ask(claim)))
                answer = self._heard(claim)
                if isinstance(answer, Admission):
                    return answer
                await claim.clock.asleep(answer)
        except self._errors as error:
            if local is None:
                raise
            self._went_away(claim, error)
            return await self._by_itself(local, claim)
        finally:
            if self._ended(claim):
                with suppress(*self._errors):
                    await returned(asyncio.create_task(self._give_back(claim)))

    def _take_blocking(self, claim: _Claim) -> Admission:
        local = self._local
        if local is not None and not self._may_ask(claim):
            return self._by_itself_blocking(local, claim)
        asking = self._asking
        try:
            while True:
                claim.last = asking.ask_blocking(claim.key, claim.ticket, claim.patience())
                answer = self._heard(claim)
                if isinstance(answer, Admission):
                    return answer
                claim.clock.sleep(answer)
        except self._errors as error:
            if local is None:
                raise
            self._went_away(claim, error)
            return self._by_itself_blocking(local, claim)
        finally:
            if self._ended(claim):
                with suppress(*self._errors):
                    asking.give_back_blocking(claim.key, claim.ticket, claim.at)

    def _may_ask(self, claim: _Claim) -> bool:
        """Return whether Redis is asked for *claim*, which is told for how long."""
        claim.seconds = self._away.seconds_to_ask(claim.began, self._timeout)
        return claim.seconds is not None

    def _went_away(self, claim: _Claim, error: Exception) -> None:
        if self._away.begins(claim.clock.monotonic()):
            logger.warning(
                "rate limiter %r cannot ask Redis (%s): this process holds to the limit by itself",
                self.name,
                words(error.__cause__ or error),
            )

    async def _by_itself(self, local: RateLimiter, claim: _Claim) -> Admission:
        """Go on without Redis; a place in the queue there lapses by itself."""
        claim.is_settled = True
        key, patience = claim.key, claim.patience()
        try:
            admission = local.try_take(key) or await local.wait_for(key, patience)
        except RateLimitExceeded:
            self._count(None)
            raise
        self._count(admission.waited)
        return admission

    def _by_itself_blocking(self, local: RateLimiter, claim: _Claim) -> Admission:
        """Do what `_by_itself` does, and block this thread meanwhile."""
        claim.is_settled = True
        key, patience = claim.key, claim.patience()
        try:
            admission = local.try_take(key) or local.wait_for_blocking(key, patience)
        except RateLimitExceeded:
            self._count(None)
            raise
        self._count(admission.waited)
        return admission

    async def _ask(self, claim: _Claim) -> None:
        patience, allowed = claim.patience(), claim.seconds
        claim.last = await self._asking.ask(claim.key, claim.ticket, patience, allowed)

    async def _give_back(self, claim: _Claim) -> None:
        await self._asking.give_back(claim.key, claim.ticket, claim.at)

    def _heard(self, claim: _Claim) -> Admission | float:
        """Return the admission, or after how many seconds to ask again."""
        said = claim.last
        assert said is not None
        claim.seconds = None
        if self._away.ends():
            logger.info("rate limiter %r asks Redis again", self.name)
        if said.state == WAITING:
            with self._lock:
                self._waiting += not claim.is_queued
            claim.is_queued = True
            return max(said.wait, _LEAST)
        claim.is_settled = True
        if said.state == REFUSED:
            self._count(None)
            raise RateLimitExceeded(self.name, said.wait)
        waited = claim.waited()
        self._count(waited)
        if self._local is not None:
            self._local.try_take(claim.key)  # so that it knows how many there were
        return Admission(float(said.room), said.calls, waited)

    def _count(self, waited: float | None) -> None:
        """Count a call that was let through after so many seconds; None: it was refused."""
        with self._lock:
            if waited is None:
                self._counts.refused += 1
            else:
                self._counts.admitted += 1
                self._counts.waited += waited

    def _ended(self, claim: _Claim) -> bool:
        """Note that nobody waits any more; return whether there is something to give back."""
        with self._lock:
            self._waiting -= claim.is_queued
        return not claim.is_settled and claim.last is not None


class _Claim:
    """One who asks: for how long, and what was said last."""

    __slots__ = (
        "began", "clock", "is_queued", "is_settled", "key", "last", "max_wait", "seconds", "ticket"
    )  # fmt: skip

    def __init__(self, key: Hashable, max_wait: float | None, clock: Clock) -> None:
        self.key = key
        self.max_wait = max_wait
        self.clock = clock
        self.began = clock.monotonic()
        self.ticket = "" if max_wait == 0 else uuid4().hex
        self.seconds: float | None = None  # that Redis has for its next answer; None: as usual
        self.last: Answer | None = None
        self.is_queued = False
        self.is_settled = False

    @property
    def at(self) -> int | None:
        """When it was let through, by the server's clock in microseconds; None: it was not."""
        said = self.last
        return said.at if said is not None and said.state == ADMITTED else None

    def patience(self) -> float | None:
        """Return for how many seconds more it would wait; None: any time."""
        if self.max_wait is None or not self.is_queued:
            return self.max_wait
        return max(0.0, self.began + self.max_wait - self.clock.monotonic()) + _SLACK

    def waited(self) -> float:
        """Return the seconds that it has waited; the way to the server aside if it had not to."""
        return self.clock.monotonic() - self.began if self.is_queued else 0.0
