"""The tries of one call: what tenacity's loop asks about them, and their face as a loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pocketflow_async.clock import Clock
from pocketflow_async.needing import need
from pocketflow_async.resilience.retry_after import wait_asked_for

if TYPE_CHECKING:
    from pocketflow_async.resilience.policy import Facts
    from pocketflow_async.resilience.retry import Retry

T = TypeVar("T")

_ATTEMPTS: Final = "flow.retry.attempts"
_WAITED: Final = "flow.retry.waited_seconds"
_ERRORS: Final = "flow.retry.errors"


class Retried(NamedTuple):
    """A try that has failed and that another one follows."""

    name: str
    """Name of the policy."""
    attempt: int
    """Number of the try that has failed; the first is 1."""
    attempts: int | None
    """How many there may be in all; None: any number."""
    error: Exception
    """What it raised."""
    wait: float
    """Seconds until the next one."""


class Tries:
    """The tries of one call.

    Args:
        retry: Decides about them.
        clock: Its time and waits.
        facts: Where to tell of them; None: nobody watches.
    """

    __slots__ = ("_began", "_clock", "_facts", "_first", "_retry", "_why", "number")

    def __init__(self, retry: Retry, clock: Clock, facts: Facts | None = None) -> None:
        self.number = 0
        self._retry = retry
        self._clock = clock
        self._began = 0.0 if retry.deadline is None else clock.monotonic()
        self._first: Exception | None = None
        self._facts = facts
        self._why = ""
        if facts is not None:
            facts[_ATTEMPTS] = 1

    async def agoing_on(self, call: Callable[[], Awaitable[T]], first: Exception) -> T:
        """Go on after the *first* try, of which tenacity hears as if it had made it.

        Raises:
            Exception: The error of the last try.
        """
        self._first = first

        async def again() -> T:
            if self._begin() == 1:
                raise first
            return await call()

        value: T = await self.asynchronous()(again)
        return value

    def going_on(self, call: Callable[[], T], first: Exception) -> T:
        """Go on after the *first* try, in a thread; see `agoing_on`."""
        self._first = first

        def again() -> T:
            if self._begin() == 1:
                raise first
            return call()

        value: T = self.synchronous()(again)
        return value

    def asynchronous(self) -> Any:
        """Return tenacity's loop for this one call, since it cannot be shared."""
        return self._loop("AsyncRetrying", self._clock.asleep, self._atell)

    def synchronous(self) -> Any:
        """Return tenacity's loop for this one call, with waits that block the thread."""
        return self._loop("Retrying", self._clock.sleep, self._tell)

    def _loop(self, kind: str, sleep: Any, tell: Any) -> Any:
        tenacity = need("tenacity", "workflow")
        return getattr(tenacity, kind)(
            sleep=sleep,
            retry=tenacity.retry_if_exception(self._is_retried),
            wait=self._wait,
            stop=self._is_over,
            before_sleep=tell,
            reraise=True,
        )

    def _begin(self) -> int:
        self.number += 1
        if self._facts is not None:
            self._facts[_ATTEMPTS] = self.number
        return self.number

    # What tenacity asks after each failed try, in this order.

    def _is_retried(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False
        if self._facts is not None:
            self._facts[_ERRORS] = [*self._facts.get(_ERRORS, ()), type(error).__name__]
        known, self._first = self._first, None
        if known is not None or self._retry.is_retried(error):
            return True
        self._note(error)
        return False

    def _wait(self, state: Any) -> float:
        delay = self._retry.delay(self.number)
        asked = wait_asked_for(state.outcome.exception())
        if asked is None:
            return delay
        if asked > self._retry.patience:
            self._why = f": it asks to wait {asked:.4g} s, above patience={self._retry.patience:g}"
        return max(delay, asked)

    def _is_over(self, state: Any) -> bool:
        retry = self._retry
        over = bool(self._why) or (retry.attempts is not None and self.number >= retry.attempts)
        if not over and retry.deadline is not None:
            then = self._clock.monotonic() - self._began + state.upcoming_sleep
            if over := then > retry.deadline:
                self._why = f": the next would begin after deadline={retry.deadline:g}"
        if over:
            self._note(state.outcome.exception())
        return over

    def _tell(self, state: Any) -> None:
        answer = self._told(state)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("on_retry is asynchronous: it goes with asynchronous calls only")

    async def _atell(self, state: Any) -> None:
        answer = self._told(state)
        if inspect.isawaitable(answer):
            await answer

    def _told(self, state: Any) -> object:
        retry, wait = self._retry, state.upcoming_sleep
        if self._facts is not None:
            self._facts[_WAITED] = round(self._facts.get(_WAITED, 0.0) + wait, 6)
        if retry.on_retry is None:
            return None
        error = state.outcome.exception()
        return retry.on_retry(Retried(retry.name, self.number, retry.attempts, error, wait))

    def _note(self, error: BaseException) -> None:
        if self.number == 1 and not self._why:
            return
        attempts = "1 attempt" if self.number == 1 else f"{self.number} attempts"
        text = f"after {attempts}{self._why}"
        with suppress(Exception):  # an exotic error must not hide itself
            if text not in getattr(error, "__notes__", ()):  # the same object, raised once more
                error.add_note(text)


class Try:
    """One try of a loop: `with attempt:` around what is tried.

    Attributes:
        number: The first is 1.
    """

    __slots__ = ("_manager", "number")

    def __init__(self, manager: Any, tries: Tries) -> None:
        self._manager = manager
        tries.number += 1
        self.number = tries.number

    def __repr__(self) -> str:
        return f"<Try {self.number}>"

    def __enter__(self) -> Try:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is not None and not isinstance(error, Exception):
            return False  # cancelled: not even what stands after the block is done
        return bool(self._manager.__exit__(kind, error, trace))


class AsyncTries:
    """The tries of an `async for`. No generator: nobody closes one that is left by `return`."""

    __slots__ = ("_loop", "_tries")

    def __init__(self, tries: Tries) -> None:
        self._tries = tries
        self._loop = aiter(tries.asynchronous())

    def __aiter__(self) -> AsyncTries:
        return self

    async def __anext__(self) -> Try:
        return Try(await anext(self._loop), self._tries)
