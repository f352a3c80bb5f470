"""Breakers, retries and timeouts by the names of the infrastructure's guide.

Thin faces: all that they do is done by `pocketflow_async.resilience`, whose objects they show as
`policy`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial, wraps
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeVar

from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.infrastructure.events.stamp import timestamp
from pocketflow_async.resilience import CallTimeoutError as TimeoutError
from pocketflow_async.resilience import CircuitBreaker as BreakerPolicy
from pocketflow_async.resilience import (
    CircuitBreakerOpen,
    ResilienceError,
    Retried,
    Retry,
    Timeout,
    is_transient,
)

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerOpen",
    "CircuitBreakerState",
    "RetryConfig",
    "RetryExhausted",
    "TimeoutContext",
    "TimeoutError",
    "is_transient",
    "retry_async",
    "with_retry",
    "with_timeout",
]

F = TypeVar("F", bound=Callable[..., Any])

TimeoutContext = Timeout
"""`async with TimeoutContext(2):` cancels its body after 2 seconds."""


class CircuitBreakerState(StrEnum):
    """Whether calls are let through: all, none, or a few to try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class RetryExhausted(ResilienceError):
    """Raised when the last try has failed, too, from the error of that.

    Attributes:
        attempts: How many tries there were.
        last_exception: What the last one raised.
    """

    def __init__(self, attempts: int, last_exception: Exception) -> None:
        kind = type(last_exception).__name__
        super().__init__(f"{attempts} tries have failed; the last with {kind}: {last_exception}")
        self.attempts = attempts
        self.last_exception = last_exception


class CircuitBreaker:
    """Lets no calls through for a while when too many have failed; see `resilience.CircuitBreaker`.

        price = await breaker.call(fetch, "BTC")

    Mistakes of the caller, such as ValueError, and being cancelled do not count. A timeout around
    the call cancels it, which says nothing; put it inside: `breaker.call(with_timeout(2)(fetch))`.

    Args:
        name: What it is called.
        failure_threshold: How many calls in the window must have failed.
        timeout_seconds: How long it is open.
        window_seconds: How long a call counts.
        success_threshold: How many probes must succeed.
        half_open_max_calls: How many probes may be at work at once.
        clock: Its time; that of the context in which it is used if it is left out.
        policy: What does the work, in place of all these.
    """

    def __init__(
        self,
        name: str = "circuit_breaker",
        failure_threshold: int = 5,
        timeout_seconds: float = 60.0,
        window_seconds: float = 120.0,
        success_threshold: int = 2,
        half_open_max_calls: int = 1,
        *,
        clock: Clock | None = None,
        policy: BreakerPolicy | None = None,
    ) -> None:
        self._clock = clock
        self.policy = policy or BreakerPolicy(
            name,
            failure_threshold=failure_threshold,
            reset_timeout=timeout_seconds,
            window=window_seconds,
            success_threshold=success_threshold,
            half_open_max_calls=half_open_max_calls,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.policy.state}>"

    @property
    def name(self) -> str:
        """What it is called."""
        return self.policy.name

    @property
    def state(self) -> CircuitBreakerState:
        """Whether it lets calls through; one that was forced open is open."""
        return CircuitBreakerState(self.policy.state.removeprefix("forced_"))

    @property
    def is_open(self) -> bool:
        """Whether it lets no call through."""
        return self.policy.is_open

    @property
    def is_closed(self) -> bool:
        """Whether it lets all calls through."""
        return self.policy.is_closed

    @property
    def is_half_open(self) -> bool:
        """Whether it lets a few through, to try."""
        return self.policy.is_half_open

    def __call__(self, function: F) -> F:
        """Return *function* with the breaker around each call; async stays async."""
        return self.policy(function)

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what *function* returns, awaited if need be.

        Raises:
            CircuitBreakerOpen: It was not called.
        """

        async def call() -> Any:
            value = function(*args, **kwargs)
            return await value if isawaitable(value) else value

        return await self.policy.acall(call)

    async def force_open(self) -> None:
        """Let nothing through until `force_close` or `reset`."""
        self.policy.force_open()
        await self.policy.refresh()

    async def force_close(self) -> None:
        """Let calls through, and begin to count anew."""
        self.policy.force_close()
        await self.policy.refresh()

    async def reset(self) -> None:
        """Be as new."""
        self.policy.reset()
        await self.policy.refresh()

    def get_stats(self) -> dict[str, Any]:
        """Return how it stands; moments are in ISO 8601, or None."""
        found = self.policy.get_stats()
        settings = self.policy.settings
        return {
            **found,
            "state": str(self.state),
            "last_failure_time": self._moment(found["last_failure_time"]),
            "opened_at": self._moment(found["opened_at"]),
            "config": {
                "failure_threshold": settings.failure_threshold,
                "timeout_seconds": settings.reset_timeout,
                "window_seconds": settings.window,
                "success_threshold": settings.success_threshold,
                "half_open_max_calls": settings.half_open_max_calls,
            },
        }

    def _moment(self, at: float | None) -> str | None:
        if at is None:
            return None
        ago = (self._clock or current_clock()).monotonic() - at
        return timestamp(time.time() - ago)


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When a call is made again; seconds throughout.

    Attributes:
        max_attempts: Tries in all, the first included.
        min_wait: Longest wait after the first failed try.
        max_wait: Longest wait after any.
        multiplier: What the longest wait grows by from one try to the next.
        jitter: Whether a wait is drawn from between 0 and the longest; else it is the longest.
        exceptions: Errors worth another try: classes, or a function of the error.
    """

    max_attempts: int = 3
    min_wait: float = 1.0
    max_wait: float = 60.0
    multiplier: float = 2.0
    jitter: bool = True
    exceptions: tuple[type[Exception], ...] | Callable[[Exception], bool] = is_transient

    def policy(
        self,
        *,
        clock: Clock | None = None,
        on_retry: Callable[[Retried], object] | None = None,
    ) -> Retry:
        """Return what makes calls again; it raises the last error as it is.

        Args:
            clock: Its time, waits and chance.
            on_retry: Called, and awaited if need be, before each wait; what it raises ends the
                call. Here a halt is looked for.
        """
        return Retry(
            self.max_attempts,
            base=self.min_wait,
            cap=self.max_wait,
            backoff=self.multiplier,
            jitter=self.jitter,
            on=self.exceptions,
            clock=clock,
            on_retry=on_retry,
        )


async def retry_async(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    config: RetryConfig | None = None,
    clock: Clock | None = None,
    on_retry: Callable[[Retried], object] | None = None,
    **kwargs: Any,
) -> Any:
    """Return what *function* returns, called again as *config* says.

    Raises:
        RetryExhausted: The last try has failed, too. Errors that are not worth another try, those
            of `on_retry` and being cancelled pass as they are.
    """
    policy = (config or RetryConfig()).policy(clock=clock, on_retry=on_retry)
    last: Exception | None = None
    tries = 0

    async def call() -> Any:
        nonlocal last, tries
        tries += 1
        try:
            return await function(*args, **kwargs)
        except Exception as error:
            last = error
            raise

    try:
        return await policy.acall(call)
    except Exception as error:
        if error is last and policy.is_retried(error):
            raise RetryExhausted(tries, error) from error
        raise
    finally:
        last = None  # its traceback holds this frame: no cycle


def with_retry(
    config: RetryConfig | Callable[..., Any] | None = None,
    *,
    clock: Clock | None = None,
    **options: Any,
) -> Any:
    """Return a decorator that calls an `async def` again: `@with_retry(max_attempts=5)`.

    Args:
        config: How; or the function itself, for `@with_retry` alone.
        clock: Its time, waits and chance.
        **options: Those of `RetryConfig`, in place of *config*.

    Raises:
        TypeError: It goes around something that is not asynchronous, or options are given twice.
    """
    if callable(config):
        return with_retry(clock=clock, **options)(config)
    if config is not None and options:
        raise TypeError("give a RetryConfig, or its options")
    chosen = config or RetryConfig(**options)

    def decorate(function: F) -> F:
        if not iscoroutinefunction(function):
            raise TypeError("with_retry goes around an `async def`; else see resilience.Retry")

        @wraps(function)
        async def again(*args: Any, **kwargs: Any) -> Any:
            call = partial(function, *args, **kwargs)
            return await retry_async(call, config=chosen, clock=clock)

        return again  # type: ignore[return-value]

    return decorate


def with_timeout(seconds: float, operation: str | None = None) -> Timeout:
    """Return a timeout, to decorate with or for `async with`; see `resilience.Timeout`.

    Raises `TimeoutError(seconds, operation)`, which is a builtin `TimeoutError`: it is worth
    another try, and a breaker around it counts it.
    """
    return Timeout(seconds, name=operation)
