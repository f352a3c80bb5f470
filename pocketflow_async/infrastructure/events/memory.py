"""An event bus within one process."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.infrastructure.events.bus import Bus
from pocketflow_async.infrastructure.events.errors import PublishError
from pocketflow_async.infrastructure.events.subscription import (
    Event,
    Subscription,
    Terms,
    in_handler,
)

BEYOND: Final = 10_000
"""How many events beyond its size a queue takes of publishers that must not wait."""

_TURN: Final = 20
_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None)})
_log = logging.getLogger(__name__)


class MemoryBus(Bus):
    """Gives events to the handlers of this process, each of which has its queue and its task.

    Events of one publisher arrive in their order. A publisher waits only for subscribers with the
    policy "block" whose queue is full, and no longer than *patience*: then they lose the event,
    which is counted and logged, and nobody waits for them again until they have handled one. A
    handler that publishes does not wait, since it might wait for itself; queues grow beyond their
    size for that, but not without end.

    A cancelled `publish` has reached those subscribers that had room.

    Args:
        patience: The longest that one `publish` waits, in seconds; None: as long as it takes.
    """

    def __init__(self, *, patience: float | None = 5.0) -> None:
        super().__init__()
        self._patience = patience

    def __repr__(self) -> str:
        return f"<MemoryBus: {len(self._subscriptions)} subscriptions>"

    async def publish(self, channel: str, event: Mapping[str, Any]) -> None:
        """Give a copy of *event* to each handler that hears *channel*.

        Raises:
            PublishError: The bus is closed or belongs to another event loop, or the event cannot
                be copied: nobody has got it. Or a queue with the policy "fail" is full: the others
                have got it.
        """
        event = self._checked(channel, event)
        hearing = [each for each in self._subscriptions if each.hears(channel)]
        places: list[tuple[_Queued, _Place]] = []
        refused: list[str] = []
        for subscription, own in [(each, _own(event)) for each in hearing]:
            assert isinstance(subscription, _Queued)
            place = subscription.offer(own, refused)
            if place is not None:
                places.append((subscription, place))
        if places:
            await self._wait(places)
        if refused:
            names = ", ".join(refused)
            raise PublishError(f"{names} did not take an event on {channel!r}: the queue is full")

    async def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until what was published before has been handled; see `Bus.flush`."""
        return not self._subscriptions or await super().flush(timeout)

    async def ping(self) -> bool:
        """Return whether events can be published."""
        return not self._closed

    async def _wait(self, places: list[tuple[_Queued, _Place]]) -> None:
        late = False
        try:
            async with asyncio.timeout(self._patience) as limit:
                for _, place in places:
                    await place.taken
        except TimeoutError:
            late = True
            assert limit.expired()
        finally:
            for subscription, place in places:
                subscription.withdraw(place, late=late)

    async def _flushed(self) -> None:
        for subscription in list(self._subscriptions):
            assert isinstance(subscription, _Queued)
            await subscription.flushed()

    def _subscription(self, terms: Terms) -> Subscription:
        return _Queued(terms)


class _Place:
    """An event that waits for room in a queue, and the publisher that waits with it."""

    __slots__ = ("event", "taken")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Queued(Subscription):
    """A handler with a queue."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.policy = terms.policy
        self.size = terms.size
        self._queue: deque[tuple[int, Event]] = deque()
        self._places: deque[_Place] = deque()
        self._number = 0
        self._losses = 0
        self._now: int | None = None
        self._stuck = self._paused = self._ended = False
        self._start()

    @property
    def waiting(self) -> int:
        """How many events wait for the handler."""
        return len(self._queue) + len(self._places)

    def offer(self, event: Event, refused: list[str]) -> _Place | None:
        """Take *event*, or note who refuses it; return where to wait, if the publisher should.

        Raises:
            PublishError: The bus belongs to another event loop.
        """
        if self._ended:
            return None
        self._ensure()
        if len(self._queue) < self.size and not self._places:
            self._take(event)
            return None
        if self.policy == "fail":
            refused.append(self.name)
            self.dropped += 1
            return None
        if self.policy == "drop_oldest" or self._paused:
            self._lose_oldest()
            self._take(event)
            return None
        return self._full(event)

    def withdraw(self, place: _Place, *, late: bool) -> None:
        """Forget a place that no room was found for."""
        if place not in self._places:
            return
        self._places.remove(place)
        if late:
            self._lost()

    async def flushed(self) -> None:
        """Wait until all that is in the queue now has been handled or dropped."""
        if not self._paused and not self._ended:
            self._ensure()
            last = self._number
            await self.until(lambda: self._ended or self._paused or self._oldest() > last)

    def pause(self, paused: bool) -> None:
        """Hold events back, or go on."""
        self._paused = paused
        self._poke()

    def close(self, *, drain: bool) -> asyncio.Task[None] | None:
        """Let it end after the event that is being handled; with *drain*, after all it has."""
        self._ended = True
        self._paused = False
        while self._places:  # their publishers need not wait any more
            self._admit()
        if not drain:
            self.dropped += len(self._queue)
            self._queue.clear()
        self._poke()
        return None if self._task is None or self._task.done() else self._task

    def _full(self, event: Event) -> _Place | None:
        if in_handler() and len(self._queue) < self.size + BEYOND:
            while self._places:  # those who wait came first
                self._admit()
            self._take(event)
            return None
        if self._stuck or in_handler():
            self._lost()
            return None
        place = _Place(event)
        self._places.append(place)
        return place

    def _take(self, event: Event) -> None:
        self._number += 1
        self._queue.append((self._number, event))
        self._wake.set()

    def _admit(self) -> None:
        place = self._places.popleft()
        self._take(place.event)
        if not place.taken.done():
            place.taken.set_result(None)

    def _lose_oldest(self) -> None:
        if self._queue:
            self._queue.popleft()
        self.dropped += 1
        self._changed()

    def _lost(self) -> None:
        self.dropped += 1
        self._stuck = True
        self._losses += 1
        if str(self._losses).strip("0") == "1":  # the first, the tenth, the hundredth …
            message = "the event handler %s of channel %r does not keep up: it has lost %d events"
            _log.warning(message, self.name, self.channel, self._losses)

    def _oldest(self) -> int:
        if self._now is not None:
            return self._now
        return self._queue[0][0] if self._queue else self._number + 1

    def _poke(self) -> None:
        if self._task is not None and not self._task.get_loop().is_closed():
            self._wake.set()
        self._changed()

    def _ensure(self) -> None:
        """See to it that there is a task: one of a loop that is gone is replaced."""
        task, here = self._task, asyncio.get_running_loop()
        if task is not None and task.get_loop() is not here and task.get_loop().is_running():
            raise PublishError("this event bus belongs to another event loop, which is running")
        if task is None or task.done() or task.get_loop() is not here:
            self._start()

    def _start(self) -> None:
        here = asyncio.get_running_loop()
        if self._task is not None and self._task.get_loop() is not here:
            self._places.clear()  # their publishers are gone with their loop
        self._now = None
        self._wake = asyncio.Event()
        self._task = here.create_task(self._run(), name=f"events {self.channel} -> {self.name}")

    async def _work(self) -> None:
        wake = self._wake
        while wake is self._wake:  # else another task has taken over
            while self._queue and not self._paused:
                self._now, event = self._queue.popleft()
                if self._places and len(self._queue) < self.size:
                    self._admit()
                await self._call(event)
                self._now, self._stuck = None, False
                self._changed()
                if self.handled % _TURN == 0:
                    await asyncio.sleep(0)  # handlers that never wait must not stop the rest
            if self._ended:
                return
            wake.clear()
            await wake.wait()


def _own(event: Event) -> Event:
    try:
        copied: Event = _copied(event)
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PublishError(f"the event cannot be copied: {reason}") from error
    return copied


def _copied(value: Any) -> Any:
    """Return a deep copy; several times as fast as `copy.deepcopy` for what events are made of."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    return copy.deepcopy(value)
