"""A breaker's state with its lock, its clock and those who listen: where calls go in and out."""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from pocketflow_async.clock import Clock
from pocketflow_async.resilience.breaker_states import (
    Command,
    Counts,
    Machine,
    Outcome,
    Refusal,
    Settings,
    State,
    Ticket,
)
from pocketflow_async.resilience.breaker_verdict import Judge
from pocketflow_async.resilience.errors import CircuitBreakerOpen

logger = logging.getLogger(__name__)


class BreakerEvent(NamedTuple):
    """A breaker's state has changed."""

    name: str
    before: State
    after: State
    reason: str
    at: float
    """The moment, by the clock of the breaker (`Clock.monotonic`), in seconds."""


Listener: TypeAlias = Callable[[BreakerEvent], object]


class Entry(NamedTuple):
    """A call that was let through, and all that is needed when it comes back."""

    ticket: Ticket
    state: State
    failures: int
    began: float
    shared: Any = None
    """What is known about it elsewhere, if others share the state; None: only here."""


class Left(NamedTuple):
    """How the breaker was left behind by a call."""

    state: State
    failures: int
    opened: bool
    """Whether it was this call that opened it."""


class Standing(NamedTuple):
    """A breaker as it stands; moments are those of its clock."""

    state: State
    calls: int
    failures: int
    probes: int
    opened_at: float | None
    failed_at: float | None
    retry_after: float | None
    counts: Counts


class Gate:
    """Lets calls in and takes note of how they come out, from any number of tasks and threads.

    Args:
        name: Name of the breaker.
        settings: When it opens and closes.
        judge: What calls say.
        time: Gives the clock.
        listeners: Told of changes, in their order, by the thread that has caused them or another
            that is at it just then. What they raise is logged.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        judge: Judge,
        time: Callable[[], Clock],
        listeners: Iterable[Listener] = (),
    ) -> None:
        self.name = name
        self.settings = settings
        self.judge = judge
        self.machine = Machine(settings)
        self.listeners: tuple[Listener, ...] = ()
        # Reentrant: a call may be collected, and so come out, while this thread holds it.
        self.lock = threading.RLock()
        self._clock = time
        self._last_clock: Clock | None = None
        self._untold: deque[BreakerEvent] = deque()
        self._telling = threading.Lock()
        for listener in listeners:
            self.listen(listener)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell *listener* of changes from now on; return what ends that.

        Raises:
            TypeError: It cannot be called, or is asynchronous.
        """
        if not callable(listener):
            raise TypeError(f"a listener must be callable, not {listener!r:.80}")
        if inspect.iscoroutinefunction(listener):
            raise TypeError("a listener must be a plain function: nobody would wait for it")
        with self.lock:
            self.listeners = (*self.listeners, listener)
        return lambda: self._unlisten(listener)

    def ticket(self) -> Ticket:
        """Let a call in, of which nobody wants to know more.

        Raises:
            CircuitBreakerOpen: It is not let in.
        """
        return self.machine.free or self.admit().ticket

    def settle(self, ticket: Ticket, outcome: Outcome) -> None:
        """Take note of what has become of a call."""
        machine = self.machine
        with self.lock:
            machine.record(ticket, outcome, self.now())
        if machine.changes:
            self.tell()

    def admit(self) -> Entry:
        """Let a call in.

        Raises:
            CircuitBreakerOpen: It is not let in.
        """
        machine = self.machine
        with self.lock:
            now = self.now()
            ticket = machine.admit(now)
            if not isinstance(ticket, Refusal):
                entry = Entry(ticket, machine.state, machine.failures, now)
        if machine.changes:
            self.tell()
        if isinstance(ticket, Refusal):
            raise CircuitBreakerOpen(self.name, ticket.failures, ticket.state, ticket.retry_after)
        return entry

    def come_out(self, entry: Entry, outcome: Outcome) -> Left:
        """Take note of what has become of a call."""
        machine = self.machine
        with self.lock:
            now = self.now()
            opened = machine.record(entry.ticket, self.in_time(entry, outcome, now), now)
            left = Left(machine.state, machine.failures, opened)
        if machine.changes:
            self.tell()
        return left

    def now(self) -> float:
        """Return the time; the lock is held. With another clock than before none has passed."""
        clock = self._clock()
        if clock is not self._last_clock:
            if self._last_clock is not None:
                self.machine.change_clock(clock.monotonic())
            self._last_clock = clock
        return clock.monotonic()

    def _read_now(self) -> float:
        """Return the time by the clock of the last call, wherever this is read."""
        return self.now() if self._last_clock is None else self._last_clock.monotonic()

    def in_time(self, entry: Entry, outcome: Outcome, now: float) -> Outcome:
        """Return *outcome*, or that it has failed if it took too long."""
        slow_after = self.judge.slow_after
        return outcome if slow_after is None or now - entry.began <= slow_after else "failure"

    def command(self, command: Command) -> None:
        """Do what somebody has said by hand."""
        with self.lock:
            self.machine.command(command, self.now())
        self.tell()

    def state(self) -> State:
        """Return the state as it is now."""
        with self.lock:
            self.look(self._read_now())
            state = self.machine.state
        if self.machine.changes:
            self.tell()
        return state

    def look(self, now: float) -> None:
        """Let the state change with time; the lock is held."""
        self.machine.look(now)

    def counted(self) -> tuple[int, int]:
        """Return the calls in the window and the failures that count; the lock is held."""
        return self.machine.calls, self.machine.failures

    def standing(self) -> Standing:
        """Return how it stands now."""
        machine = self.machine
        with self.lock:
            now = self._read_now()
            self.look(now)
            machine.forget_old(now)
            standing = Standing(
                machine.state,
                *self.counted(),
                machine.probes,
                machine.opened_at(),
                machine.failed_at(),
                machine.retry_after(now),
                replace(machine.counts),
            )
        if machine.changes:
            self.tell()
        return standing

    def tell(self) -> None:
        """Tell the listeners of what has changed: each change once, in order, without the lock."""
        with self.lock:
            changes = self.machine.changes
            while changes:
                self._untold.append(BreakerEvent(self.name, *changes.popleft()))
        # Whoever tells looks again once it has let go, so nothing is left over; and a listener that
        # changes the state itself does not get here twice.
        while self._untold:
            if not self._telling.acquire(blocking=False):
                return
            try:
                while self._untold:
                    self._tell_all(self._untold.popleft())
            finally:
                self._telling.release()

    def _tell_all(self, event: BreakerEvent) -> None:
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("the listener %r failed at %r", listener, event)

    def _unlisten(self, listener: Listener) -> None:
        with self.lock:
            left = list(self.listeners)
            if listener in left:
                left.remove(listener)
            self.listeners = tuple(left)
