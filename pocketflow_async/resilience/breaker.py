"""A circuit breaker: calls that would fail anyway are not made, until what they call is well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from pocketflow_async.arguments import seconds
from pocketflow_async.clock import Clock
from pocketflow_async.resilience.breaker_gate import Gate, Listener
from pocketflow_async.resilience.breaker_guard import Guard
from pocketflow_async.resilience.breaker_shared import SharedGate, SharedState
from pocketflow_async.resilience.breaker_states import Settings, State
from pocketflow_async.resilience.breaker_verdict import IsFailure, Judge
from pocketflow_async.resilience.policy import Facts, Policy
from pocketflow_async.wording import a

T = TypeVar("T")

_entered: ContextVar[tuple[Guard, ...]] = ContextVar("pocketflow_breakers", default=())
"""The blocks of `with breaker:` that this context is in, the innermost last."""
_ASKED: Final = ("ask", "aask")
"""What a `SharedState` can do."""


class BreakerStatistics(NamedTuple):
    """A breaker as it stands; moments are those of its clock (`Clock.monotonic`)."""

    state: State
    calls: int
    """In the window."""
    failures: int
    """In the window, or with which it opened."""
    probes: int
    """At work now."""
    successes_total: int
    """Since the last reset, as those below."""
    failures_total: int
    ignored_total: int
    """That said nothing, such as those that were cancelled."""
    refused_total: int
    opened_total: int
    opened_at: float | None
    last_failure_time: float | None
    retry_after: float | None
    """Seconds until it lets a probe through; None: that is not what it waits for."""


class CircuitBreaker(Policy):
    """Lets no calls through for a while when too many have failed, then tries with a few.

        venue = CircuitBreaker("venue", failure_threshold=5, reset_timeout=30)

        @venue
        async def price(symbol): ...

    *Closed*, it lets all through and counts. It opens at a failure with which at least
    `failure_threshold` calls of those in the window have failed, there are at least
    `minimum_calls` in it, and at least `failure_rate` of them have failed. *Open*, it raises
    `CircuitBreakerOpen` in place of the call. After `reset_timeout` it is *half-open*: at most
    `half_open_max_calls` probes are at work at once, over all tasks and threads; one that fails
    opens it again, and `success_threshold` that succeed close it. A call that began before the last
    change counts no more.

    Timeouts are failures. Being cancelled is none, and gives a probe's place back. Beware: an
    `asyncio.timeout` or `wait_for` *around* the guarded call cancels it, which is all that can be
    seen from here, so a service that hangs would never open it. Put the timeout inside
    (`compose(breaker, Timeout(2))`), or set `slow_after`, by which such calls count too.

    It may be shared by tasks, event loops and threads.

    Args:
        name: What it is called; needed if its state is shared.
        failure_threshold: How many calls in the window must have failed.
        window: Seconds for which a call counts; None: as long as it is in `window_calls`.
        window_calls: How many of the last calls count; None: all within `window`.
        minimum_calls: How many calls must be in the window.
        failure_rate: What part of them must have failed, from 0 to 1; None: any.
        reset_timeout: Seconds for which it is open.
        half_open_max_calls: How many probes may be at work at once.
        success_threshold: How many of them must succeed.
        probe_timeout: Seconds after which a probe that has not come back gives up its place, for
            calls that may hang for ever; None: it keeps it (for 60 seconds, with `shared`).
        slow_after: Seconds after which any call is a failure, whatever becomes of it, even if it
            is cancelled; None: a call may take any time.
        is_failure: Says of an error whether it is a failure (True), an answer of a service that is
            well (False) or says nothing (None); or the classes of errors that are failures, where
            others are answers, mistakes aside. When left out: all errors but mistakes of the
            caller (`TypeError`, `ValueError`, `LookupError` …) and refusals of other policies.
        is_bad_result: Says of a result whether it is a failure; None: none is.
        clock: Its time; that of the context in which it is used if it is left out.
        on_event: Called with a `BreakerEvent` at each change, or several such; see `listen`.
        shared: Where it shares its state with other processes, a `RedisBreakerState`.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range, or a shared breaker has no name.
    """

    kind = "circuit_breaker"

    def __init__(
        self,
        name: str | None = None,
        *,
        failure_threshold: int = 5,
        window: float | None = 120.0,
        window_calls: int | None = None,
        minimum_calls: int = 1,
        failure_rate: float | None = None,
        reset_timeout: float = 60.0,
        half_open_max_calls: int = 1,
        success_threshold: int = 1,
        probe_timeout: float | None = None,
        slow_after: float | None = None,
        is_failure: IsFailure | type[Exception] | tuple[type[Exception], ...] | None = None,
        is_bad_result: Callable[[Any], object] | None = None,
        clock: Clock | None = None,
        on_event: Listener | Iterable[Listener] | None = None,
        shared: SharedState | None = None,
    ) -> None:
        super().__init__(name, clock=clock)
        if slow_after is not None:
            seconds("slow_after", slow_after)
        if shared is not None and not name:
            raise ValueError("a breaker that is shared needs a name: it is known by that")
        if shared is not None and not all(callable(getattr(shared, f, None)) for f in _ASKED):
            raise TypeError(f"shared must be a RedisBreakerState, not {a(type(shared).__name__)}")
        self.settings = Settings(
            failure_threshold,
            window,
            window_calls,
            minimum_calls,
            failure_rate,
            reset_timeout,
            half_open_max_calls,
            success_threshold,
            probe_timeout,
        )
        judge = Judge(is_failure, is_bad_result, slow_after)
        gate = (self.name, self.settings, judge, self._time, _listeners(on_event))
        self._judge = judge
        self._shared = None if shared is None else SharedGate(*gate, shared=shared)
        self._gate = self._shared or Gate(*gate)
        self._is_plain = shared is None and slow_after is None

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state}>"

    @property
    def state(self) -> State:
        """`closed`, `open`, `half_open` or `forced_open`; if shared, as of the last question."""
        return self._gate.state()

    @property
    def is_closed(self) -> bool:
        """Whether all calls are let through."""
        return self.state == "closed"

    @property
    def is_open(self) -> bool:
        """Whether no call is let through, be it forced or not."""
        return self.state in ("open", "forced_open")

    @property
    def is_half_open(self) -> bool:
        """Whether probes are let through."""
        return self.state == "half_open"

    def force_open(self) -> None:
        """Let nothing through until `force_close` or `reset`.

        Like those two it holds here at once; where the state is shared, the others are told with
        the next call or `refresh`.
        """
        self._gate.command("force_open")

    def force_close(self) -> None:
        """Let calls through, and begin to count anew."""
        self._gate.command("force_close")

    def reset(self) -> None:
        """Be as new: closed, with nothing counted, in the statistics neither."""
        self._gate.command("reset")

    async def refresh(self) -> State:
        """See how the shared state is, and tell it what was forced; return the state."""
        if self._shared is not None:
            await self._shared.arefresh()
        return self.state

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with a `BreakerEvent` at each change; return what ends that.

        Events come in order, one at a time, in a thread that makes a call. A listener has to be
        quick, and what it raises is logged.

        Raises:
            TypeError: It cannot be called, or is asynchronous.
        """
        return self._gate.listen(listener)

    def guard(self) -> Guard:
        """Return a context manager, async or not, for one call; it tells how that came out."""
        return Guard(self, self._gate, self._judge)

    def statistics(self) -> BreakerStatistics:
        """Return how it stands."""
        stands = self._gate.standing()
        counts = stands.counts
        return BreakerStatistics(
            stands.state,
            stands.calls,
            stands.failures,
            stands.probes,
            counts.successes,
            counts.failures,
            counts.ignored,
            counts.refused,
            counts.opened,
            stands.opened_at,
            stands.failed_at,
            stands.retry_after,
        )

    def get_stats(self) -> dict[str, Any]:
        """Return how it stands as a dict.

        `failure_count` and `recent_failures` are those that count now, `success_count` and
        `total_failures` all since the last reset; `last_failure_time` and `opened_at` are moments
        of its clock (`Clock.monotonic`) or None.
        """
        stands = self.statistics()
        return {
            "name": self.name,
            "state": stands.state,
            "failure_count": stands.failures,
            "success_count": stands.successes_total,
            "recent_failures": stands.failures,
            "total_failures": stands.failures_total,
            "ignored_count": stands.ignored_total,
            "refused_count": stands.refused_total,
            "opened_count": stands.opened_total,
            "probes": stands.probes,
            "last_failure_time": stands.last_failure_time,
            "opened_at": stands.opened_at,
            "time_until_retry": stands.retry_after,
            "failure_threshold": self.settings.failure_threshold,
            "config": {**asdict(self.settings), "slow_after": self._judge.slow_after},
        }

    def __enter__(self) -> Guard:
        guard = self.guard().__enter__()
        _entered.set((*_entered.get(), guard))
        return guard

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave_block().__exit__(kind, error, trace)

    async def __aenter__(self) -> Guard:
        guard = await self.guard().__aenter__()
        _entered.set((*_entered.get(), guard))
        return guard

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave_block().__aexit__(kind, error, trace)

    def _leave_block(self) -> Guard:
        """Return the guard of the innermost block of this breaker, which is left now."""
        entered = _entered.get()
        for place in range(len(entered) - 1, -1, -1):
            if entered[place].breaker is self:
                _entered.set((*entered[:place], *entered[place + 1 :]))
                return entered[place]
        raise RuntimeError(
            f"`with` of circuit breaker {self.name!r} is left in another context than it was "
            "entered in: use `with breaker.guard():` there"
        )

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        gate, judge = self._gate, self._judge
        if facts is not None or not self._is_plain:
            async with Guard(self, gate, judge, facts) as guard:
                value = await call()
                guard.result(value)
            return value
        ticket = gate.ticket()  # what a guard does, in a third of its time
        try:
            value = await call()
        except BaseException as error:
            gate.settle(ticket, judge.of_error(error))
            raise
        gate.settle(ticket, judge.of_value(value))
        return value

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        gate, judge = self._gate, self._judge
        if facts is not None or not self._is_plain:
            with Guard(self, gate, judge, facts) as guard:
                value = call()
                guard.result(value)
            return value
        ticket = gate.ticket()
        try:
            value = call()
        except BaseException as error:
            gate.settle(ticket, judge.of_error(error))
            raise
        gate.settle(ticket, judge.of_value(value))
        return value


def _listeners(given: Listener | Iterable[Listener] | None) -> tuple[Listener, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, Iterable) else (given,)
