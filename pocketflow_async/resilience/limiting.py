"""What all rate limiters are: a policy that lets a call go on when there is room for it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Hashable
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from pocketflow_async.clock import Clock
from pocketflow_async.resilience.errors import RateLimitExceeded
from pocketflow_async.resilience.keys import Key, KeySource
from pocketflow_async.resilience.policy import Facts, Policy

T = TypeVar("T")


class Admission(NamedTuple):
    """What there was to know when a call was let through."""

    tokens_remaining: float
    """How many more calls could follow at once."""
    requests_in_window: int
    """How many were let through within the window that ends now, this one included."""
    waited: float
    """Seconds that it has waited."""


class LimiterStatistics(NamedTuple):
    """What a limiter has done since it was made, in this process."""

    admitted: int
    """Calls let through."""
    refused: int
    """Calls for which there was no room in the time that they had."""
    waiting: int
    """Calls that wait now."""
    waited: float
    """Seconds that calls which were let through have waited, all together."""
    keys: int
    """Keys that have a limit of their own at the moment."""


class Counts:
    """What becomes `LimiterStatistics`; whoever counts holds a lock."""

    __slots__ = ("admitted", "refused", "waited")

    def __init__(self) -> None:
        self.admitted = 0
        self.refused = 0
        self.waited = 0.0


class Limiter(Policy):
    """Lets a call go on when there is room for it; else it waits, or is refused.

        async with limiter: …              with limiter: …
        await limiter.take()               limiter.take_blocking()
        @limiter                           limiter.of(customer)  # a limit for each customer

    Args:
        name: What it is called in traces and errors; "limiter" if it is left out.
        wait: Whether calls wait for room; otherwise they are refused at once.
        max_wait: Seconds that a call waits at most; it is refused as soon as it is known that this
            is not enough. Any time if it is left out.
        key: Under which limit a guarded call is, each key having one of its own: a template such as
            `"{customer}"`, or a function of its arguments. They are those of a function that is
            decorated, or in a `functools.partial`.
        clock: Its time; that of the context in which it is used if it is left out.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    kind = "limiter"

    def __init__(
        self,
        name: str | None,
        wait: bool,
        max_wait: float | None,
        key: KeySource | None,
        clock: Clock | None,
    ) -> None:
        super().__init__(name, clock=clock)
        self.max_wait = longest_wait(wait, max_wait)
        self.key = None if key is None else Key(key)

    @abstractmethod
    async def take(self, key: Hashable = None) -> Admission:
        """Wait until the caller may go on. May be cancelled, and then uses nothing up.

        Args:
            key: Under which limit it is; None: the one without a key.

        Raises:
            RateLimitExceeded: There is no room in the time that it may wait.
        """

    @abstractmethod
    def take_blocking(self, key: Hashable = None) -> Admission:
        """Do what `take` does, and block this thread meanwhile."""

    @abstractmethod
    def reset(self) -> Any:
        """Forget all calls so far; what is returned is awaited, if it can be."""

    def of(self, key: Hashable) -> Keyed:
        """Return the limit of *key* as a policy of its own; it keeps nothing itself."""
        return Keyed(self, key)

    async def __aenter__(self) -> Admission:
        return await self.take()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: what counts is when a call begins."""

    def __enter__(self) -> Admission:
        return self.take_blocking()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing: what counts is when a call begins."""

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        key = None if self.key is None else self.key.of(call)
        if facts is None:
            await self.take(key)
        else:
            with _told(facts) as told:
                told.admission = await self.take(key)
        return await call()

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        key = None if self.key is None else self.key.of(call)
        if facts is None:
            self.take_blocking(key)
        else:
            with _told(facts) as told:
                told.admission = self.take_blocking(key)
        return call()


class Keyed(Policy):
    """The limit of one key of a limiter; `Limiter.of` makes it.

    Args:
        limiter: Keeps all the state.
        key: Which limit of it.
    """

    kind = "limiter"

    def __init__(self, limiter: Limiter, key: Hashable) -> None:
        super().__init__(limiter.name)
        hash(key)  # now, and not when it is used
        self.limiter = limiter
        self._key = key

    def __repr__(self) -> str:
        return f"<one key of {self.limiter!r}>"  # the key may be a secret

    async def take(self) -> Admission:
        """Wait until the caller may go on; see `Limiter.take`."""
        return await self.limiter.take(self._key)

    def take_blocking(self) -> Admission:
        """Do what `take` does, and block this thread meanwhile."""
        return self.limiter.take_blocking(self._key)

    async def __aenter__(self) -> Admission:
        return await self.take()

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: what counts is when a call begins."""

    def __enter__(self) -> Admission:
        return self.take_blocking()

    def __exit__(self, *_: object) -> None:
        """Do nothing: what counts is when a call begins."""

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        with _told(facts) as told:
            told.admission = await self.take()
        return await call()

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        with _told(facts) as told:
            told.admission = self.take_blocking()
        return call()


class _told:
    """Puts into *facts* what became of a call that asked to be let through."""

    __slots__ = ("_facts", "admission")

    def __init__(self, facts: Facts | None) -> None:
        self._facts = facts
        self.admission: Admission | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        facts, admission = self._facts, self.admission
        if facts is None:
            return
        if admission is not None:
            facts["flow.limiter.waited_seconds"] = admission.waited
            facts["flow.limiter.tokens_remaining"] = admission.tokens_remaining
        elif isinstance(error, RateLimitExceeded):
            facts["flow.limiter.refused"] = True
            facts["flow.limiter.retry_after_seconds"] = error.retry_after


def longest_wait(wait: bool, max_wait: float | None) -> float | None:
    """Return the seconds that a call may wait; None: any time.

    Raises:
        TypeError: One of them is of a wrong type.
        ValueError: `max_wait` is negative or no number, or there are both.
    """
    if not isinstance(wait, bool):
        raise TypeError(f"wait must be True or False, not {wait!r:.80}; seconds are max_wait")
    if max_wait is None:
        return None if wait else 0.0
    if isinstance(max_wait, bool) or not isinstance(max_wait, int | float):
        raise TypeError(f"max_wait must be a number or None, not {max_wait!r:.80}")
    if not max_wait >= 0:
        raise ValueError(f"max_wait must be 0 or more, not {max_wait!r}")
    if not wait and max_wait:
        raise ValueError(f"wait=False waits not at all, and max_wait={max_wait!r} does: give one")
    return float(max_wait)
