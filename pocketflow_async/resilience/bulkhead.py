"""A limit to how many calls are at work at once, so that one slow service cannot take all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, NamedTuple, TypeVar

from pocketflow_async.arguments import seconds, whole
from pocketflow_async.clock import Clock
from pocketflow_async.resilience.bulkhead_waiting import TaskWaiting, ThreadWaiting
from pocketflow_async.resilience.errors import BulkheadFull
from pocketflow_async.resilience.places import Places
from pocketflow_async.resilience.policy import Facts, Policy

T = TypeVar("T")

_WAITED: Final = "flow.bulkhead.waited_seconds"
_AT_WORK: Final = "flow.bulkhead.at_work"
_WAITING: Final = "flow.bulkhead.waiting"


class BulkheadStatistics(NamedTuple):
    """What there is to know about a bulkhead at a moment."""

    at_work: int
    """Calls at work."""
    waiting: int
    """Calls that wait."""
    most_at_work: int
    """Most calls that were at work at once so far."""
    admitted: int
    """Calls let through so far."""
    refused: int
    """Calls refused so far, at once or after their time in the queue."""
    waited: float
    """Seconds that the calls let through have waited, all together."""


class Bulkhead(Policy):
    """Lets at most so many calls be at work at once; others wait, in the order of their coming.

        bulkhead = Bulkhead(10, waiting=100)

        @bulkhead
        async def fetch(url): ...

        async with bulkhead:
            ...

    One limit holds for all who use it: tasks of any event loops and threads, asynchronous and
    synchronous calls alike. A place that becomes free is handed to who has waited longest; nobody
    can get in between. A caller that is cancelled leaves the queue and uses nothing up. Whoever
    waits on an event loop that stands still is passed over, and asks again when that goes on.

    Synchronous calls block their thread while they wait. In the thread of a running event loop
    they are refused instead of waiting, since those whom they wait for could be on that loop.

    A call inside another one of the same bulkhead needs a place of its own: with all places taken
    by such calls it waits for ever, unless there is a `timeout`.

    Args:
        limit: Most calls at work.
        waiting: Most calls that wait; None: any number; 0: a call without a place is refused.
        name: What it is called in errors and traces.
        timeout: Most seconds that a call waits; None: any time.
        clock: Measures how long calls have waited; that of the context if left out. The `timeout`
            goes by the event loop's time, in threads by real time.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: An argument is out of range.
    """

    kind = "bulkhead"

    def __init__(
        self,
        limit: int,
        *,
        waiting: int | None = None,
        name: str | None = None,
        timeout: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, clock=clock)
        most = None if waiting is None else whole("waiting", waiting, least=0)
        self._places = Places[TaskWaiting | ThreadWaiting](whole("limit", limit), most)
        self._timeout = None if timeout is None else seconds("timeout", timeout)
        self._lock = threading.RLock()  # a task may be collected, and leave, while it is held
        self._most = self._admitted = self._refused = 0
        self._waited = 0.0

    def __repr__(self) -> str:
        places = self._places
        return f"<Bulkhead {places.taken} of {places.limit} at work, {places.waiting} waiting>"

    @property
    def limit(self) -> int:
        """Most calls at work."""
        return self._places.limit

    def statistics(self) -> BulkheadStatistics:
        """Return what there is to know now."""
        with self._lock:
            places = self._places
            return BulkheadStatistics(
                places.taken,
                places.waiting,
                self._most,
                self._admitted,
                self._refused,
                self._waited,
            )

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        if not self._enter_now():
            await self._enter_async(facts)
        self._tell(facts)
        try:
            return await call()
        finally:
            self._leave()

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        if not self._enter_now():
            self._enter(facts)
        self._tell(facts)
        try:
            return call()
        finally:
            self._leave()

    async def __aenter__(self) -> Bulkhead:
        if not self._enter_now():
            await self._enter_async(None)
        return self

    def __enter__(self) -> Bulkhead:
        if not self._enter_now():
            self._enter(None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _tell(self, facts: Facts | None) -> None:
        if facts is not None:
            facts[_AT_WORK] = self._places.taken
            facts[_WAITING] = self._places.waiting

    def _enter_now(self) -> bool:
        """Take a place if one is free."""
        with self._lock:
            if not self._places.take():
                return False
            self._count()
            return True

    async def _enter_async(self, facts: Facts | None) -> None:
        loop = asyncio.get_running_loop()
        began = self._time().monotonic()
        due = None if self._timeout is None else loop.time() + self._timeout
        me = TaskWaiting(loop)
        try:
            while not self._ask(me):
                await me.called(due, self._give_up)
        except BaseException:
            self._leave_queue(me)
            raise
        self._entered(began, facts)

    def _enter(self, facts: Facts | None) -> None:
        if _on_a_loop():
            raise self._refusal(", and a synchronous call does not wait on an event loop")
        began = self._time().monotonic()
        me = ThreadWaiting()
        try:
            while not self._ask(me):
                me.called(self._timeout)
                self._give_up(me)
        except BaseException:
            self._leave_queue(me)
            raise
        self._entered(began, facts)

    def _ask(self, me: TaskWaiting | ThreadWaiting) -> bool:
        """Return whether *me* has a place; if not, it waits for one from now on.

        Raises:
            BulkheadFull: Too many wait already, or it has waited long enough.
        """
        with self._lock:
            if me.is_late:
                raise self._refusal(f" after {self._timeout:g} s in the queue")
            if me.has_place:
                return True
            if self._places.take():
                me.has_place = True
                self._count()
                return True
            if not self._places.queue(me, again=me.was_called):
                raise self._refusal("")
            me.expect()
            return False

    def _give_up(self, me: TaskWaiting | ThreadWaiting) -> None:
        """Let *me*, whose time is up, wait no longer."""
        with self._lock:
            if self._places.drop(me):
                me.is_late = True

    def _leave_queue(self, me: TaskWaiting | ThreadWaiting) -> None:
        """Use nothing up: what *me* has got meanwhile goes to the next."""
        with self._lock:
            if me.has_place:
                self._admitted -= 1
                self._leave()
            else:
                self._places.drop(me)

    def _leave(self) -> None:
        """Give a place back, and hand it to who has waited longest and can take it."""
        with self._lock:
            places = self._places
            places.free()
            while (following := places.following()) is not None:
                following.has_place = True
                if following.call():
                    self._count()
                    return
                following.has_place = False  # its loop stands still: it asks again if that goes on
                places.free()

    def _count(self) -> None:
        self._admitted += 1
        self._most = max(self._most, self._places.taken)

    def _entered(self, began: float, facts: Facts | None) -> None:
        waited = self._time().monotonic() - began
        with self._lock:
            self._waited += waited
        if facts is not None:
            facts[_WAITED] = round(waited, 6)

    def _refusal(self, why: str) -> BulkheadFull:
        with self._lock:
            self._refused += 1
            places = self._places
            error = BulkheadFull(self.name, places.limit, places.waiting)
        if why:
            error.add_note(f"refused{why}")
        return error


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
