"""What a circuit breaker decides: states and their changes, given the time. No clock, no lock.

closed ──failures──> open ──reset_timeout──> half_open ──successes of probes──> closed
                      ^                          │
                      └────a probe failed────────┘
forced_open is entered and left by hand only.

A *generation* is the time between two changes. Each call that is let through belongs to the one in
which it began, and what becomes of it counts in that one only: a call that hung through an outage
and fails at last does not open a breaker that has closed meanwhile.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from pocketflow_async.arguments import number, seconds, whole
from pocketflow_async.resilience.breaker_window import Window

State: TypeAlias = Literal["closed", "open", "half_open", "forced_open"]
Outcome: TypeAlias = Literal["success", "failure", "nothing"]
"""What a call says of what it called; "nothing" for one that was cancelled, for example."""
Command: TypeAlias = Literal["force_open", "force_close", "reset"]

FAILED: Final = "too many calls failed"
WAITED: Final = "reset_timeout is over"
PROBE_FAILED: Final = "a probe failed"
PROBES_SUCCEEDED: Final = "the probes succeeded"
FORCED_OPEN: Final = "force_open"
FORCED_CLOSED: Final = "force_close"
RESET: Final = "reset"

_COUNTS: Final = (
    "failure_threshold",
    "minimum_calls",
    "half_open_max_calls",
    "success_threshold",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """When a breaker opens and closes; seconds throughout.

    Attributes:
        failure_threshold: How many calls in the window must have failed for it to open.
        window: For how long a call counts; None: as long as it is among the last `window_calls`.
        window_calls: How many of the last calls count; None: all within `window`.
        minimum_calls: How many calls must be in the window.
        failure_rate: What part of those in the window must have failed, from 0 to 1; None: any.
        reset_timeout: How long it is open before probes are let through.
        half_open_max_calls: How many probes may be at work at once.
        success_threshold: How many probes must have succeeded for it to close.
        probe_timeout: After how long a probe that has not come back gives up its place; None: not
            before it comes back.

    Raises:
        TypeError: A value is of a wrong type.
        ValueError: A value is out of its range, or the breaker could never open.
    """

    failure_threshold: int = 5
    window: float | None = 120.0
    window_calls: int | None = None
    minimum_calls: int = 1
    failure_rate: float | None = None
    reset_timeout: float = 60.0
    half_open_max_calls: int = 1
    success_threshold: int = 1
    probe_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            whole(name, getattr(self, name))
        self._check_window()
        number("reset_timeout", self.reset_timeout)
        if self.probe_timeout is not None:
            seconds("probe_timeout", self.probe_timeout)
        if self.failure_rate is not None:
            number("failure_rate", self.failure_rate)
            if self.failure_rate > 1:
                raise ValueError(f"failure_rate must be from 0 to 1, not {self.failure_rate!r}")

    def _check_window(self) -> None:
        if self.window is not None:
            seconds("window", self.window)
        elif self.window_calls is None:
            raise ValueError(
                "without a window, window_calls is needed, or failures would count for ever"
            )
        if self.window_calls is None:
            return
        whole("window_calls", self.window_calls)
        for name in ("failure_threshold", "minimum_calls"):
            if self.window_calls < getattr(self, name):
                raise ValueError(
                    f"window_calls must be at least {name} ({getattr(self, name)}), or the "
                    f"breaker could never open; not {self.window_calls}"
                )

    def opens(self, calls: int, failures: int) -> bool:
        """Return whether a closed breaker opens at a failure, with so many in its window."""
        return (
            failures >= self.failure_threshold
            and calls >= self.minimum_calls
            and (self.failure_rate is None or failures >= self.failure_rate * calls)
        )


class Change(NamedTuple):
    """The breaker has become another one."""

    before: State
    after: State
    reason: str
    at: float
    """The moment, as it was given."""


class Ticket(NamedTuple):
    """A call that was let through."""

    generation: int
    probe: int | None
    """Number of the probe, if it is one."""


class Refusal(NamedTuple):
    """A call that was not let through."""

    state: State
    failures: int
    retry_after: float | None
    """Seconds until a probe is let through; None: not known."""


@dataclass(slots=True)
class Counts:
    """All calls since the last reset, in whatever state."""

    successes: int = 0
    failures: int = 0
    ignored: int = 0
    refused: int = 0
    opened: int = 0


class Machine:
    """A breaker's state, moved on by what it is told and by the time that it is given.

    It is never at odds with the clock: should that go back, as another one might, no time has
    passed in here.

    Args:
        settings: When it opens and closes.

    Attributes:
        state: As of the last time that it was told of.
        generation: Number of changes so far.
        free: The ticket of any call while it is closed; None while it is not. It may be read at
            any time, whatever else happens: a call that takes it began just before.
        counts: What there was since the last reset.
        changes: What has changed and nobody has taken yet.
    """

    __slots__ = (
        "_failures", "_failures_at", "_latest", "_number", "_opened_at", "_probes", "_skew",
        "_successes", "_window", "changes", "counts", "free", "generation", "settings", "state",
    )  # fmt: skip

    def __init__(self, settings: Settings) -> None:
        span = math.inf if settings.window is None else settings.window
        self.settings = settings
        self.state: State = "closed"
        self.generation = 0
        self.free: Ticket | None = Ticket(0, None)
        self.counts = Counts()
        self.changes: deque[Change] = deque()
        self._window = Window(span, settings.window_calls)
        self._probes: dict[int, float] = {}  # until when each holds its place
        self._number = 0
        self._successes = 0  # of probes
        self._failures = 0  # when it opened, and of probes since
        self._opened_at: float | None = None
        self._failures_at: float | None = None
        self._latest = -math.inf
        self._skew = 0.0

    @property
    def probes(self) -> int:
        """How many probes are at work."""
        return len(self._probes)

    @property
    def calls(self) -> int:
        """How many calls are in the window; there are none unless it is closed."""
        return self._window.calls

    @property
    def failures(self) -> int:
        """How many have failed: in the window, or unless it is closed when it opened."""
        return self._window.failures if self.state == "closed" else self._failures

    def look(self, now: float) -> State:
        """Return the state, which may have changed with time."""
        self._look(self._move_to(now))
        return self.state

    def admit(self, now: float) -> Ticket | Refusal:
        """Let a call through, or not."""
        if self.free is not None:
            return self.free
        moment = self._move_to(now)
        self._look(moment)
        if self.state == "half_open":
            self._drop_lost(moment)
            if len(self._probes) < self.settings.half_open_max_calls:
                return self.take(now, True)
        self.counts.refused += 1
        return Refusal(self.state, self._failures, self.retry_after(now))

    def take(self, now: float, probe: bool) -> Ticket:
        """Let a call through without asking, since that was decided elsewhere."""
        if not probe:
            return Ticket(self.generation, None)
        moment = self._move_to(now)
        lasts = self.settings.probe_timeout
        self._number += 1
        self._probes[self._number] = math.inf if lasts is None else moment + lasts
        return Ticket(self.generation, self._number)

    def record(self, ticket: Ticket, outcome: Outcome, now: float) -> bool:
        """Take in what has become of a call; return whether that has opened the breaker."""
        if ticket is self.free and outcome == "success":  # as nearly always
            self.counts.successes += 1
            self._window.add(self._move_to(now), False)
            return False
        if not self.note(ticket, outcome, now) or outcome == "nothing":
            return False
        moment = now + self._skew
        if self.state == "closed":
            if outcome == "success" or not self.settings.opens(self.calls, self._window.failures):
                return False
            self._failures = self._window.failures
            self._become("open", FAILED, moment)
            return True
        if self.state != "half_open":
            return False
        if outcome == "failure":
            self._failures += 1
            self._become("open", PROBE_FAILED, moment)
            return True
        self._successes += 1
        if self._successes >= self.settings.success_threshold:
            self._become("closed", PROBES_SUCCEEDED, moment)
        return False

    def note(self, ticket: Ticket, outcome: Outcome, now: float) -> bool:
        """Count what has become of a call, which decides nothing; return whether it could."""
        moment = self._move_to(now)
        if outcome == "success":
            self.counts.successes += 1
        elif outcome == "failure":
            self.counts.failures += 1
            self._failures_at = moment
        else:
            self.counts.ignored += 1
        if ticket.generation != self.generation:
            return False
        if ticket.probe is not None:
            self._probes.pop(ticket.probe, None)
        if self.state == "closed" and outcome != "nothing":
            self._window.add(moment, outcome == "failure")
        return True

    def command(self, command: Command, now: float) -> None:
        """Do what somebody has said by hand."""
        moment = self._move_to(now)
        if command == "force_open":
            if self.state != "forced_open":
                self._failures = self.failures
                self._become("forced_open", FORCED_OPEN, moment)
            return
        if command == "reset":
            self.counts = Counts()
            self._failures_at = None
        self._become("closed", FORCED_CLOSED if command == "force_close" else RESET, moment)

    def adopt(
        self, state: State, reason: str, failures: int, open_for: float | None, now: float
    ) -> None:
        """Be as others have decided; *open_for* is for how many seconds it has been open."""
        moment = self._move_to(now)
        if state != self.state:
            self._become(state, reason, moment)
        if state != "closed":
            self._failures = failures
            if open_for is not None:
                self._opened_at = moment - open_for

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a probe is let through; None: not known, or not needed."""
        if self.state != "open" or self._opened_at is None:
            return None
        moment = self._move_to(now)
        return max(0.0, self._opened_at + self.settings.reset_timeout - moment)

    def opened_at(self) -> float | None:
        """Return when it opened, by the clock that it was given; None: it is closed."""
        return None if self._opened_at is None else self._opened_at - self._skew

    def failed_at(self) -> float | None:
        """Return when a call failed last, by the clock that it was given; None: none has."""
        return None if self._failures_at is None else self._failures_at - self._skew

    def forget_old(self, now: float) -> None:
        """Let go what is too old to count."""
        moment = self._move_to(now)
        self._window.move_to(moment)
        self._drop_lost(moment)

    def _look(self, moment: float) -> None:
        if self.state != "open" or self._opened_at is None:
            return
        if moment >= self._opened_at + self.settings.reset_timeout:
            self._become("half_open", WAITED, moment)

    def _drop_lost(self, moment: float) -> None:
        for probe in [probe for probe, until in self._probes.items() if until <= moment]:
            del self._probes[probe]

    def _become(self, state: State, reason: str, moment: float) -> None:
        before, self.state = self.state, state
        self.generation += 1
        self.free = Ticket(self.generation, None) if state == "closed" else None
        self._window.clear()
        self._probes.clear()
        self._successes = 0
        if state == "closed":
            self._opened_at, self._failures = None, 0
        elif state != "half_open":
            self._opened_at = moment
            self.counts.opened += 1
        if before != state:
            self.changes.append(Change(before, state, reason, moment - self._skew))

    def change_clock(self, now: float) -> None:
        """Go on by another clock, which shows *now*; no time has passed."""
        if self._latest > -math.inf:
            self._skew += self._latest - now
            self._latest = now

    def _move_to(self, now: float) -> float:
        """Return the moment in here at which the clock shows *now*."""
        if now < self._latest:
            self._skew += self._latest - now
        self._latest = now
        return now + self._skew
