"""What policies raise themselves, each with a message that says what to do next.

ResilienceError
├── CallTimeoutError (TimeoutError)   a call took longer than its Timeout
├── CircuitBreakerOpen                a breaker lets nothing through
├── RateLimitExceeded                 a limiter that does not wait has no room
├── BulkheadFull                      too many calls are at work or wait already
├── RedisUnreachableError (ConnectionError)  a limiter that is in Redis has no connection to it
└── BatcherClosed (RuntimeError)      something was added to a batcher that is closed
"""

from __future__ import annotations

from typing import Any


class ResilienceError(Exception):
    """Base of what policies raise themselves."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message, since each class makes its own of other arguments."""
        return (_again, (type(self), self.args), self.__dict__)


def _again(cls: type[ResilienceError], args: tuple[Any, ...]) -> ResilienceError:
    error = cls.__new__(cls)
    error.args = args
    return error


class CallTimeoutError(ResilienceError, TimeoutError):
    """Raised when a call took longer than it may.

    Attributes:
        seconds: What it had.
        operation: What it is called.
    """

    def __init__(self, seconds: float, operation: str = "the call") -> None:
        super().__init__(f"{operation} took longer than {seconds:g} s")
        self.seconds = seconds
        self.operation = operation


class CircuitBreakerOpen(ResilienceError):
    """Raised in place of a call that a circuit breaker does not let through.

    Attributes:
        name: Name of the breaker.
        failures: Failures in its window when it opened.
        state: "open", "forced_open", or "half_open" when all its probes are taken.
        retry_after: Seconds until it lets a probe through; None: not known.
    """

    def __init__(
        self, name: str, failures: int, state: str = "open", retry_after: float | None = None
    ) -> None:
        when = "" if retry_after is None else f"; it lets a probe through in {retry_after:.3g} s"
        super().__init__(f"circuit breaker {name!r} is {state} after {failures} failures{when}")
        self.name = name
        self.failures = failures
        self.state = state
        self.retry_after = retry_after


class RateLimitExceeded(ResilienceError):
    """Raised in place of a call that a rate limiter has no room for, and that does not wait.

    Attributes:
        name: Name of the limiter.
        retry_after: Seconds until there may be room.
    """

    def __init__(self, name: str, retry_after: float) -> None:
        super().__init__(f"rate limiter {name!r} has no room; try again in {retry_after:.3g} s")
        self.name = name
        self.retry_after = retry_after


class BulkheadFull(ResilienceError):
    """Raised in place of a call that a bulkhead has no room for.

    Attributes:
        name: Name of the bulkhead.
        limit: Most calls at work.
        waiting: How many wait already.
    """

    def __init__(self, name: str, limit: int, waiting: int) -> None:
        super().__init__(
            f"bulkhead {name!r} is full: {limit} calls are at work and {waiting} wait. "
            "Try later, or raise its limit"
        )
        self.name = name
        self.limit = limit
        self.waiting = waiting


class BatcherClosed(ResilienceError, RuntimeError):
    """Raised when something is added to a batcher that is closed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"batcher {name!r} is closed: nothing can be added to it")
        self.name = name


class RedisUnreachableError(ResilienceError, ConnectionError):
    """Raised when a policy that has its state in Redis cannot ask it: no connection, no login.

    The client's error is its cause.

    Attributes:
        name: Name of the policy.
    """

    def __init__(self, what: str, name: str, cause: BaseException) -> None:
        why = f"{type(cause).__name__}: {cause}"
        super().__init__(f"{what} {name!r} cannot ask Redis: {why:.500}")
        self.name = name
