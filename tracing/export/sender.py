"""The thread between the spool and one target: when to send, when to wait, who is told."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from tracing.export.delivery import Delivery, Outcome, Wire
from tracing.export.model import Target
from tracing.export.verdict import Backoff, Kind, Verdict

if TYPE_CHECKING:
    from tracing.store.load import Load
    from tracing.store.store import TraceStore

logger = logging.getLogger(__name__)

DELAY: Final = 0.5
"""Seconds that what is stored waits for company."""
MOST: Final = 512
"""Records in one load; with their phases about 2,000 spans."""
ROOM: Final = 1 << 20
"""Bytes of content in one load, about: receivers commonly take 4 MiB."""
_FULL_SPEED: Final = 3000.0  # records a second: the flow needs the interpreter more than we do …
_COURTESY: Final = 10.0  # … and may have it for so many seconds
_SHARE: Final = 4.0  # after that it has so many times the time that we take
_LOOK: Final = 30.0  # seconds between looks for what dead processes have left
_SICK: Final = 1.0  # seconds before another try when the store itself does not answer
_INSISTENCE: Final = 5.0  # seconds that a change of the store is tried for …
_AGAIN: Final = 0.02  # … and seconds between these tries
_TROUBLE: Final = (sqlite3.Error, OSError)


class Sender:
    """Sends what a store has for one target, in a thread that starts with the first record.

    Args:
        store: The store, of this process.
        target: Where to.
        connect: Makes the wire to the target, in the thread.
        clock: Monotonic time in seconds.
        backoff: How long to wait after a failure.
        delay: Seconds that what is stored waits for company.
    """

    def __init__(
        self,
        store: TraceStore,
        target: Target,
        *,
        connect: Callable[[Target], Wire],
        clock: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
        delay: float = DELAY,
    ) -> None:
        self.key = target.key
        self.name = target.name
        self.target = target
        self._store = store
        self._connect = connect
        self._clock = clock
        self._backoff = backoff or Backoff()
        self._delay = delay
        self._begin()

    def _begin(self) -> None:
        self._bell = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wire: Wire | None = None
        self._delivery: Delivery | None = None
        self._stop_at: float | None = None
        self._flushes: list[threading.Event] = []
        self._waiting = False
        """Whether there may be something to send."""
        self._due = 0.0
        self._not_before = 0.0
        self._asked_to_wait = False
        self._failures = 0
        self._trouble = ""
        self._overdue = False
        self._next_look = 0.0
        self._seen = 0
        self._seen_at = 0.0
        self._busy_since: float | None = None
        self._sent = self._lost = 0

    def renew(self, target: Target) -> None:
        """Send with what *target* says from now on: the same place, by newer settings."""
        if target != self.target:
            self.target = target
            self._delivery = None
            self._not_before = 0.0

    def restart(self) -> None:
        """Begin anew, in a forked child: what was recorded before is the parent's to send."""
        if self._wire is not None:
            _abandoned.append(self._wire)  # its connections are the parent's; closing them is too
        self._begin()

    def wake(self) -> None:
        """Say that there is something to send. Never blocks, never raises."""
        if not self._waiting:
            now = self._clock()
            self._due = now + self._delay
            self._seen, self._seen_at = self._store.arrived(), now
            self._waiting = True
            self._bell.set()
        if self._thread is None:
            self._start()

    def sent(self) -> int:
        """Return how many records of this store the target has taken from this process."""
        return self._sent

    def failed(self) -> int:
        """Return how many wait although it was tried to send them, or there was no time."""
        if not self._failures and not self._overdue:
            return 0
        try:
            return self._store.outbox.own(self.key)
        except _TROUBLE:
            return 0

    @property
    def trouble(self) -> str:
        """Why the last try failed; empty if it did not."""
        return self._trouble

    def dropped(self) -> int:
        """Return how many the target will not take, or were deleted before they were sent."""
        return self._lost

    def flush(self, deadline: float) -> None:
        """Wait until all is sent or was tried in vain, until *deadline* of the clock."""
        if self._thread is None and not self._is_anything_left():
            return
        done = threading.Event()
        self._flushes.append(done)
        self._waiting = True
        self._bell.set()
        self._start()
        self._overdue = not done.wait(max(0.0, deadline - self._clock()))

    def stop(self, deadline: float) -> None:
        """Have it send what it can until *deadline* and then end."""
        self._stop_at = deadline
        self._bell.set()

    def join(self, deadline: float) -> None:
        """Wait for the end of the thread, until *deadline*: a request may hang for longer."""
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - self._clock()))

    def run(self) -> None:
        """Send until told to stop. The body of the thread."""
        while self._stop_at is None:
            self._bell.wait(self._nap())
            self._bell.clear()
            self._guarded(self._turn)
        if not self._failures and self._waiting:
            self._guarded(self._send_last)
        self._answer(list(self._flushes))
        if self._wire is not None:
            self._wire.close()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and self._stop_at is None:
                thread = threading.Thread(
                    target=self.run, name=f"trace-sender-{self.target.name}", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # no thread to be had: the next process sends it
                    logger.debug("cannot start the thread for %s", self.target.name, exc_info=True)
                    return
                self._thread = thread

    def _is_anything_left(self) -> bool:
        try:
            return bool(self._store.number) and self._store.outbox.own(self.key) > 0
        except _TROUBLE:
            return False

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _TROUBLE as error:  # the store is locked or gone; its own writer says so
            logger.debug("cannot read what is to be sent to %s: %s", self.target.name, error)
            self._not_before = self._clock() + _SICK
            self._answer(list(self._flushes))
        except Exception as error:
            self._failed(Verdict(Kind.RETRY, f"{type(error).__name__}: {error}"))
            logger.debug("sending to %s failed", self.target.name, exc_info=True)
            self._answer(list(self._flushes))

    def _nap(self) -> float | None:
        """Return how long there is nothing to do, in seconds; None: until woken."""
        now = self._clock()
        look = None if self._store.path is None else max(0.0, self._next_look - now)
        if not self._waiting:
            return look
        if self._is_urgent():
            return 0.0
        return max(0.0, max(self._due, self._not_before) - now)

    def _is_urgent(self) -> bool:
        return bool(self._flushes) and not (
            self._asked_to_wait and self._clock() < self._not_before
        )

    def _look(self, now: float) -> None:
        """Take over what dead processes have left: now and then, and when somebody waits."""
        waited_for = bool(self._flushes) or self._stop_at is not None
        if self._store.path is not None and (waited_for or now >= self._next_look):
            self._next_look = now + _LOOK
            if self._store.outbox.adopt(self.key):
                self._waiting = True

    def _turn(self) -> None:
        now = self._clock()
        self._look(now)
        if not self._waiting:
            return
        if not self._is_urgent():
            if now < max(self._due, self._not_before):
                self._answer(list(self._flushes))  # nobody waits for a server that wants time
                return
            if self._lets_pass(now):
                self._due = now + self._delay
                return
        self._send_all()

    def _lets_pass(self, now: float) -> bool:
        """Tell whether the flow is at full speed, and is to have the interpreter to itself."""
        arrived = self._store.arrived()
        rate = (arrived - self._seen) / max(now - self._seen_at, 0.001)
        self._seen, self._seen_at = arrived, now
        if rate < _FULL_SPEED or self._flushes:
            self._busy_since = None
            return False
        if self._busy_since is None:
            self._busy_since = now
        return now - self._busy_since < _COURTESY

    def _send_last(self) -> None:
        self._look(self._clock())  # a process may be too short for it to have come to that
        self._send_all()

    def _send_all(self) -> None:
        """Send load after load, until nothing is left or something is in the way."""
        while True:
            flushes = list(self._flushes)  # those who ask from now on may want more than we take
            self._waiting = False  # what comes from now on sets it again
            load = self._store.outbox.take(self.key, MOST, ROOM)
            if not load.parts:
                self._answer(flushes)
                return
            self._waiting = True
            began = self._clock()
            outcome = self._connected().deliver(load.items, self._time_left)
            self._settle(load, outcome)
            if outcome.verdict is not None:
                if self._stop_at is None or self._clock() < self._stop_at:
                    self._failed(outcome.verdict)  # else time was up, which is no trouble of its
                self._answer(flushes)
                return
            self._succeeded()
            if self._stop_at is None and not self._flushes and self._rests(began):
                return

    def _rests(self, began: float) -> bool:
        """Tell whether to wait before the next load, after one that *began* then."""
        now = self._clock()
        if self._lets_pass(now):
            self._due = now + self._delay
            return True
        if self._busy_since is None:
            return False
        self._due = now + _SHARE * (now - began)  # it does not end: from now on we take turns
        return True

    def _connected(self) -> Delivery:
        if self._delivery is None:
            with self._store.outbox.lock:  # a fork in the middle of an import would never end
                self._wire = self._connect(self.target)
            self._delivery = Delivery(self.target, self._wire)
        return self._delivery

    def _time_left(self) -> float:
        stop_at = self._stop_at
        if stop_at is None:
            return self.target.timeout
        return min(self.target.timeout, stop_at - self._clock())

    def _settle(self, load: Load, outcome: Outcome) -> None:
        """Note in the store what has become of *load*; try until that is done."""
        outbox = self._store.outbox
        if outcome.aside:
            self._report(outcome)
            for row, reason in outcome.aside:
                self._insist(partial(outbox.set_aside, self.key, [row], reason))
        self._insist(partial(outbox.settle, self.key, load, outcome.done))
        aside = len({row for row, _ in outcome.aside})
        self._sent += outcome.done - aside
        self._lost += aside + load.missing
        if outcome.rejected:
            logger.warning(
                "%s took a request but for %d of its spans: %s",
                self.target.name,
                outcome.rejected,
                outcome.said,
            )
        if load.missing:
            logger.warning(
                "%d spans for %s were deleted from the trace store, for age or size, before they "
                "could be sent",
                load.missing,
                self.target.name,
            )

    def _insist(self, change: Callable[[], None]) -> None:
        """Make a change in the store, against other processes that hold its lock for a moment."""
        until = self._clock() + _INSISTENCE
        while True:
            try:
                change()
            except sqlite3.OperationalError:
                if self._clock() > until or self._stop_at is not None:
                    raise  # then it is sent again, with the same ids
                self._bell.wait(_AGAIN)
            else:
                return

    def _report(self, outcome: Outcome) -> None:
        logger.warning(
            "spans set aside: %d, for %s will not take them (%s). `pocketflow-async doctor` "
            "lists them",
            len(outcome.aside),
            self.target.name,
            outcome.aside[0][1],
        )

    def _succeeded(self) -> None:
        if self._failures:
            logger.info("%s takes traces again", self.target.name)
        self._failures = 0
        self._trouble = ""
        self._not_before = 0.0
        self._asked_to_wait = False

    def _failed(self, verdict: Verdict) -> None:
        self._failures += 1
        self._trouble = verdict.why
        wait = self._backoff.wait(verdict, self._failures)
        self._not_before = self._clock() + wait
        self._asked_to_wait = verdict.retry_after is not None
        if self._failures == 1:
            logger.warning(
                "traces do not reach %s: %s. They are kept in %s and sent as soon as that works; "
                "`pocketflow-async doctor` looks for the cause",
                self.target.name,
                verdict.why.rstrip(".?! "),
                self._store.path or "memory",
            )
        else:
            logger.debug("%s: %s; next try in %.1f s", self.target.name, verdict.why, wait)

    def _answer(self, flushes: list[threading.Event]) -> None:
        for done in flushes:
            self._flushes.remove(done)
            done.set()


_abandoned: list[Wire] = []
