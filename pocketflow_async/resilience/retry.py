"""Another try after an error: what is worth one, and after how long.

Here it is decided; the loop is tenacity's. It is entered once a first try has failed, so a call
that succeeds at once does not pay for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, TypeVar

from pocketflow_async.arguments import number, whole
from pocketflow_async.clock import Clock
from pocketflow_async.needing import need
from pocketflow_async.resilience.errors import BatcherClosed, CircuitBreakerOpen
from pocketflow_async.resilience.matching import Errors, matcher
from pocketflow_async.resilience.policy import Facts, Policy
from pocketflow_async.resilience.retry_tries import AsyncTries, Retried, Tries, Try

__all__ = ["Retried", "Retry", "Try", "longest_wait"]

T = TypeVar("T")

_ONLY_BY_NAME: Final = (CircuitBreakerOpen, BatcherClosed)


def longest_wait(attempt: int, base: float, cap: float, factor: float) -> float:
    """Return the longest wait after failed try number *attempt*, in seconds; the first is 1.

    It grows by *factor* from *base* to *cap*. The wait itself is drawn from between 0 and this
    ("full jitter"), which brings the load of many callers down fastest: Marc Brooker,
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """
    try:
        return min(cap, base * factor ** (attempt - 1))
    except OverflowError:
        return cap if base else 0.0


class Retry(Policy):
    """Tries again after an error, at growing and random distances.

        @Retry(attempts=5, on=(ConnectionError, TimeoutError))
        async def fetch(url): ...

        async for attempt in Retry():
            with attempt:
                ...

    An error may ask for a longer wait, by its attribute `retry_after` (seconds) or by the header
    Retry-After of its HTTP response. The error of the last try is raised as it is, with a note
    that says how many there were. Being cancelled is never answered with another try.

    An open circuit breaker asks not to be called, and a closed batcher stays closed: their errors
    (`CircuitBreakerOpen`, `BatcherClosed`) are tried again only where `on` names their class, or a
    function decides so.

    Nothing is kept from one call to the next; it may be shared by tasks, event loops and threads.

    Args:
        attempts: Tries in all, the first included; None: any number within the deadline.
        base: Longest wait after the first failed try, in seconds.
        cap: Longest wait after any, in seconds, unless an error asks for a longer one.
        on: Errors worth another try: a class, classes, or a function of the error. Only an
            `Exception` is, whatever it says.
        backoff: What the longest wait is multiplied by from one try to the next.
        jitter: Whether the wait is drawn from between 0 and the longest; else it is the longest.
        deadline: Seconds over all tries: none begins after it, and one that would is not waited
            for. A try at work is not interrupted: put a `Timeout` around, or inside, for that.
        patience: Longest wait that an error may ask for, in seconds; one that asks for more is
            raised at once.
        name: What it is called in traces.
        clock: Its time, waits and chance; those of the context if left out.
        on_retry: Called with a `Retried` before each wait; for asynchronous calls it may be
            asynchronous. What it raises ends the call.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
        ImportError: tenacity is not installed.
    """

    kind = "retry"

    def __init__(
        self,
        attempts: int | None = 3,
        *,
        base: float = 0.1,
        cap: float = 30.0,
        on: Errors = (Exception,),
        backoff: float = 2.0,
        jitter: bool = True,
        deadline: float | None = None,
        patience: float = 120.0,
        name: str | None = None,
        clock: Clock | None = None,
        on_retry: Callable[[Retried], object] | None = None,
    ) -> None:
        super().__init__(name, clock=clock)
        need("tenacity", "workflow")  # said here, and not in the middle of a failure
        if attempts is None and deadline is None:
            raise ValueError("attempts=None needs a deadline, or it would try for ever")
        self.attempts = None if attempts is None else whole("attempts", attempts)
        self.base = number("base", base)
        self.cap = number("cap", cap)
        self.on = matcher(on)
        self.backoff = number("backoff", backoff, least=1)
        self.jitter = bool(jitter)
        self.deadline = None if deadline is None else number("deadline", deadline)
        self.patience = number("patience", patience)
        if on_retry is not None and not callable(on_retry):
            raise TypeError(f"on_retry must be a function, not {on_retry!r:.80}")
        self.on_retry = on_retry

    def __repr__(self) -> str:
        limit = "" if self.deadline is None else f", deadline={self.deadline:g}"
        return (
            f"Retry(attempts={self.attempts}, base={self.base:g}, cap={self.cap:g}, "
            f"on={self.on!r}{limit})"
        )

    def is_retried(self, error: BaseException) -> bool:
        """Return whether *error* is worth another try, if there may be one."""
        if not isinstance(error, Exception):
            return False
        if isinstance(error, _ONLY_BY_NAME) and self.on.decide is None:
            named = tuple(one for one in self.on.classes if issubclass(one, _ONLY_BY_NAME))
            return isinstance(error, named)
        return self.on.takes(error)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed try number *attempt*; the first is 1."""
        longest = longest_wait(attempt, self.base, self.cap, self.backoff)
        return self._time().uniform(0.0, longest) if self.jitter else longest

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        tries = None
        if self.deadline is not None or facts is not None:
            tries = Tries(self, self._time(), facts)
        try:
            return await call()
        except Exception as error:
            if self.attempts == 1 or not self.is_retried(error):
                raise
            first = error
        # Outside of the handler: the first error is not to be the context of all that follow.
        try:
            return await (tries or Tries(self, self._time())).agoing_on(call, first)
        finally:
            del first  # its traceback holds this frame: no cycle

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        tries = None
        if self.deadline is not None or facts is not None:
            tries = Tries(self, self._time(), facts)
        try:
            return call()
        except Exception as error:
            if self.attempts == 1 or not self.is_retried(error):
                raise
            first = error
        try:
            return (tries or Tries(self, self._time())).going_on(call, first)
        finally:
            del first

    def __iter__(self) -> Iterator[Try]:
        """Yield tries, each for a `with` block, until one has succeeded.

        What a failed try raised is raised by the loop if it was the last one; until then, what
        stands after the block is done after it too. The loop is no step in traces.
        """
        tries = Tries(self, self._time())
        for manager in tries.synchronous():
            yield Try(manager, tries)

    def __aiter__(self) -> AsyncIterator[Try]:
        """Yield tries, each for a `with` block, until one has succeeded; see `__iter__`."""
        return AsyncTries(Tries(self, self._time()))
