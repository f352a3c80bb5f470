"""What every event bus can do, and what all of them do alike."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pocketflow_async.infrastructure.events.errors import PublishError, SubscribeError
from pocketflow_async.infrastructure.events.subscription import (
    Event,
    Handler,
    Policy,
    Subscription,
    Terms,
    in_handler,
)
from pocketflow_async.resilience.tasks import stopped

WORKFLOW_EVENTS = "workflow_events"
"""The channel that executors publish on."""


class EventBus(Protocol):
    """The four methods that the rest of the infrastructure needs of a bus."""

    async def publish(self, channel: str, event: Mapping[str, Any]) -> None:
        """Give *event* to all who hear *channel*."""

    async def subscribe(self, channel: str, handler: Handler) -> Any:
        """Have *handler* called for each event on *channel*."""

    async def unsubscribe(self, channel: str, handler: Handler | None = None) -> bool:
        """Have it called no more."""

    async def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until all that was published has been handled; return whether it has."""


class Bus(ABC):
    """The part that all buses share: who hears what."""

    def __init__(self) -> None:
        self._subscriptions: list[Subscription] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._paused = False
        self._closed = False

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it takes no more events."""
        return self._closed

    @abstractmethod
    async def publish(self, channel: str, event: Mapping[str, Any]) -> None:
        """Give *event* to all who hear *channel*."""

    async def publish_many(self, channel: str, events: Iterable[Mapping[str, Any]]) -> None:
        """Publish them one after another.

        Raises:
            PublishError: One was not taken; those before it were, those after it not.
        """
        for event in events:
            await self.publish(channel, event)

    async def subscribe(
        self,
        channel: str,
        handler: Handler,
        *,
        policy: Policy = "block",
        size: int = 1000,
        name: str | None = None,
    ) -> Subscription:
        """Have *handler* called for each event published on *channel* from now on.

        It is called in a task of its own, with one event at a time, in the order in which they
        were published, and gets a copy. What it raises is logged. A handler that hears the channel
        already is not added again.

        Args:
            channel: What to hear.
            handler: A function, asynchronous or not, of an event.
            policy: What happens when *size* events wait: "block" lets publishers wait (within
                limits, see the bus), "drop_oldest" drops what has waited longest, "fail" raises
                `PublishError` at the publisher. For streams, see `RedisStreamsBus`.
            size: How many events may wait for it.
            name: What it is called in logs.

        Raises:
            SubscribeError: The bus is closed, or one of these is wrong.
        """
        return await self._add(Terms(channel, handler, policy, size, name))

    async def pattern_subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        policy: Policy = "block",
        size: int = 1000,
        name: str | None = None,
    ) -> Subscription:
        """Have *handler* called for events on all channels that match a pattern with `*` and `?`.

        Raises:
            SubscribeError: As `subscribe`.
        """
        return await self._add(Terms(pattern, handler, policy, size, name, pattern=True))

    async def subscribe_many(
        self, channels: Iterable[str] | Mapping[str, Handler], handler: Handler | None = None
    ) -> list[Subscription]:
        """Subscribe *handler* to several channels, or each channel's own handler.

        Raises:
            SubscribeError: As `subscribe`; those before it are subscribed.
        """
        if isinstance(channels, Mapping):
            return [await self.subscribe(channel, own) for channel, own in channels.items()]
        if handler is None:
            raise SubscribeError("subscribe_many needs a handler, or a dict of them by channel")
        return [await self.subscribe(channel, handler) for channel in channels]

    async def unsubscribe(self, channel: str, handler: Handler | None = None) -> bool:
        """Have *handler* (None: any) called no more for *channel*; return whether it was.

        What waits for it is dropped; a call that is under way goes on.
        """
        gone = [
            each
            for each in self._subscriptions
            if each.channel == channel and handler in (None, each.handler)
        ]
        self._remove(gone)
        return bool(gone)

    async def unsubscribe_all(self, channel: str | None = None) -> None:
        """Have all handlers of *channel* (None: of all channels) called no more."""
        self._remove([each for each in self._subscriptions if channel in (None, each.channel)])

    async def start_listening(self) -> None:
        """Go on after `stop_listening`; else handlers are called anyway."""
        self._pause(False)

    async def stop_listening(self) -> None:
        """Call no handler until `start_listening`; events are kept as far as there is room."""
        self._pause(True)

    def get_channels(self) -> list[str]:
        """Return the channels and patterns that somebody hears, in order."""
        return sorted({each.channel for each in self._subscriptions})

    def get_subscriber_count(self, channel: str | None = None) -> int:
        """Return how many handlers hear *channel*; None: any."""
        return sum(channel is None or each.hears(channel) for each in self._subscriptions)

    @abstractmethod
    async def ping(self) -> bool:
        """Return whether events can be published."""

    async def flush(self, timeout: float | None = 5.0) -> bool:
        """Wait until what was published before has been handled; return whether it has.

        A handler that flushes does not wait: it would wait for itself. What `stop_listening` holds
        back is not waited for.

        Args:
            timeout: The longest wait, in seconds; None: any.
        """
        try:
            async with asyncio.timeout(0 if in_handler() else timeout) as limit:
                await self._flushed()
        except TimeoutError:
            if not limit.expired():
                raise
            return False
        return True

    async def close(self, timeout: float | None = 5.0) -> None:
        """Take no more events, let handlers finish with those there are, and end; again is fine.

        A handler that closes does not wait: the others end on their own, and who made the bus
        still closes it.

        Args:
            timeout: What handlers may take, in seconds; then they are cancelled. None: any time.
        """
        if not self._closed:
            self._closed = True
            await self._finish(timeout)
        for subscription in self._subscriptions:
            self._await(subscription.close(drain=not self._paused))
        self._subscriptions.clear()
        if in_handler():
            return
        here = asyncio.get_running_loop()
        tasks = [task for task in self._ending if task.get_loop() is here]
        self._ending.clear()  # those of another loop went with it
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=timeout)
        finally:
            await stopped(tasks)
            await self._release()

    async def _add(self, terms: Terms) -> Subscription:
        if self._closed:
            raise SubscribeError("the event bus is closed")
        terms.check()
        for known in self._subscriptions:
            same = (known.channel, known.pattern) == (terms.channel, terms.pattern)
            if same and known.handler == terms.handler:
                return known
        made = self._subscription(terms)
        made.pause(self._paused)
        self._subscriptions.append(made)
        return made

    @abstractmethod
    def _subscription(self, terms: Terms) -> Subscription:
        """Return a new subscription."""

    @abstractmethod
    async def _flushed(self) -> None:
        """Wait until what was published has been handled."""

    async def _finish(self, timeout: float | None) -> None:  # noqa: B027 (nothing is fine)
        """Do what must be done before the subscriptions end."""

    async def _release(self) -> None:  # noqa: B027 (nothing is fine)
        """Let go of everything else; called after the subscriptions have ended, maybe again."""

    def _checked(self, channel: Any, event: Any) -> Event:
        if self._closed:
            raise PublishError("the event bus is closed")
        if not isinstance(channel, str) or not channel:
            raise PublishError("a channel is a text that is not empty")
        if not isinstance(event, Mapping):
            raise PublishError(f"an event is a dict, not {type(event).__name__}")
        return event if isinstance(event, dict) else dict(event)

    def _remove(self, gone: list[Subscription]) -> None:
        self._subscriptions = [each for each in self._subscriptions if each not in gone]
        for subscription in gone:
            self._await(subscription.close(drain=False))

    def _await(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        for subscription in self._subscriptions:
            subscription.pause(paused)
