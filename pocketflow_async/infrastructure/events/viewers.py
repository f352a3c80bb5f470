"""People who look at events: each has a queue of its own that drops what they are too slow for."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pocketflow_async.infrastructure.events.bus import Bus
from pocketflow_async.infrastructure.events.cloudevents import to_cloudevent
from pocketflow_async.infrastructure.events.subscription import Event, Subscription
from pocketflow_async.infrastructure.events.wire import to_json

FILTERS: Final = ("workflow_id", "bot_id", "strategy_id", "execution_id", "type")
"""Fields of events that viewers may ask for."""


class Past(Protocol):
    """Where the events of runs are kept; every store is one."""

    async def events(self, run_id: str, after: int = 0) -> Sequence[Any]:
        """Return the events of a run after a number; each has its JSON in `data`."""


@dataclass(frozen=True, slots=True)
class View:
    """What a viewer wants to see.

    Attributes:
        wanted: Values that fields of the event must have.
        after: The last event that it has got: `execution_id/seq`, or an `event_id`.
        envelope: Whether events come as CloudEvents.
    """

    wanted: Mapping[str, str]
    after: str | None = None
    envelope: bool = False

    def shows(self, event: Event) -> bool:
        """Return whether *event* is wanted."""
        return all(event.get(name) == value for name, value in self.wanted.items())


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent to a viewer.

    Attributes:
        text: JSON; empty: only to show that the connection lives.
        id: What the viewer may ask to go on after; None: it cannot.
        missed: How many events it did not get just before this; then there is no text.
    """

    text: str = ""
    id: str | None = None
    missed: int = 0


def place_of(event: Event) -> str | None:
    """Return what names the place of *event* in its run, or else the event."""
    execution, seq, own = (event.get(name) for name in ("execution_id", "seq", "event_id"))
    name = f"{execution}/{seq}" if execution and isinstance(seq, int) else own
    return name if isinstance(name, str) and name.isprintable() else None


class Viewers:
    """Shows the events of a bus to any number of people, and never lets the bus wait for them.

    It subscribes when the first of them comes.

    Args:
        bus: Where the events come from.
        channels: Which of its channels are shown.
        past: Where events are kept; None: only the last ones are, here.
        most: How many may look at once.
        size: How many events may wait for one of them.
        recent: How many events are kept for those who come back.
        beat: Seconds of silence after which a sign of life is sent.
    """

    def __init__(
        self,
        bus: Bus,
        channels: Sequence[str],
        *,
        past: Past | None = None,
        most: int = 100,
        size: int = 256,
        recent: int = 1000,
        beat: float = 15.0,
    ) -> None:
        self._bus = bus
        self._channels = channels
        self._past = past
        self._most = most
        self._size = size
        self._recent: deque[Event] = deque(maxlen=recent)
        self._beat = beat
        self._queues: set[_Queue] = set()
        self._subscribed: list[Subscription] = []
        self._starting = asyncio.Lock()
        self._closed = False

    def __len__(self) -> int:
        return len(self._queues)

    @property
    def full(self) -> bool:
        """Whether nobody else may look."""
        return len(self._queues) >= self._most

    async def start(self) -> None:
        """Begin to listen, so that what happens before the first viewer comes is kept as well."""
        async with self._starting:
            if not self._subscribed and not self._closed:
                self._subscribed = [
                    await self._bus.subscribe(
                        channel, self._take, policy="drop_oldest", name="event viewers"
                    )
                    for channel in self._channels
                ]

    async def close(self) -> None:
        """Let all of them go; a server that stops waits for that."""
        self._closed = True
        for queue in self._queues:
            queue.wake.set()
        for channel in self._channels:
            await self._bus.unsubscribe(channel, self._take)

    async def messages(self, view: View) -> AsyncGenerator[Message, None]:
        """Yield what *view* wants to see: what was missed first, then what happens.

        It ends when the viewers or the bus are closed.
        """
        queue = _Queue(view, self._size)
        self._queues.add(queue)  # before anything else, so that nothing falls in between
        try:
            await self.start()
            shown: dict[Any, int] = {}
            if view.after is not None:
                for event in await self._missed(view, view.after):
                    _note(shown, event)
                    yield _message(view, event)
            while not (self._closed or (self._bus.closed and not queue.events)):
                for message in await self._next(queue, shown):
                    yield message
        finally:
            self._queues.discard(queue)

    async def _next(self, queue: _Queue, shown: dict[Any, int]) -> list[Message]:
        if not queue.events:
            queue.wake.clear()
            try:
                async with asyncio.timeout(self._beat):
                    await queue.wake.wait()
            except TimeoutError:
                return [Message()]
        messages = [Message(missed=queue.missed)] if queue.missed else []
        queue.missed = 0
        if queue.events:
            event = queue.events.popleft()
            if not _is_shown(shown, event):
                messages.append(_message(queue.view, event))
        return messages

    async def _missed(self, view: View, after: str) -> list[Event]:
        execution, _, seq = after.rpartition("/")
        if self._past is not None and seq.isdecimal():
            wanted = view.wanted.get("execution_id", execution)
            if wanted == execution:
                rows = await self._past.events(execution, int(seq))
                events = [json.loads(row.data) for row in rows]
                return [event for event in events if view.shows(event)]
        recent = list(self._recent)
        known = [at for at, event in enumerate(recent) if place_of(event) == after]
        return [event for event in recent[known[-1] + 1 :] if view.shows(event)] if known else []

    def _take(self, event: Event) -> None:
        self._recent.append(event)
        for queue in self._queues:
            queue.offer(event)


class _Queue:
    """What waits for one viewer."""

    def __init__(self, view: View, size: int) -> None:
        self.view = view
        self.events: deque[Event] = deque()
        self.missed = 0
        self.wake = asyncio.Event()
        self._size = size

    def offer(self, event: Event) -> None:
        if not self.view.shows(event):
            return
        if len(self.events) >= self._size:
            self.events.popleft()
            self.missed += 1
        self.events.append(event)
        self.wake.set()


def _note(shown: dict[Any, int], event: Event) -> None:
    if isinstance(event.get("seq"), int):
        shown[event.get("execution_id")] = event["seq"]


def _is_shown(shown: dict[Any, int], event: Event) -> bool:
    last, seq = shown.get(event.get("execution_id")), event.get("seq")
    return last is not None and isinstance(seq, int) and seq <= last


def _message(view: View, event: Event) -> Message:
    try:
        text = to_json(_enveloped(event) if view.envelope else event)
    except ValueError:
        return Message(missed=1)
    return Message(text, place_of(event))


def _enveloped(event: Event) -> dict[str, Any]:
    made = to_cloudevent({**event, "type": str(event.get("type") or "message")})
    return {**made, "data": event}
