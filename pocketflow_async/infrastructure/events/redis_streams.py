"""An event bus for many processes, in Redis streams (6.2 or later)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pocketflow_async.infrastructure.events.bus import Bus
from pocketflow_async.infrastructure.events.cloudevents import to_cloudevent
from pocketflow_async.infrastructure.events.errors import PublishError, SubscribeError
from pocketflow_async.infrastructure.events.redis_group import GroupReader
from pocketflow_async.infrastructure.events.redis_outbox import Outbox
from pocketflow_async.infrastructure.events.redis_places import ANSWER, Streams, faults
from pocketflow_async.infrastructure.events.redis_reader import Reader
from pocketflow_async.infrastructure.events.subscription import Subscription, Terms
from pocketflow_async.infrastructure.events.wire import to_json
from pocketflow_async.needing import need

if TYPE_CHECKING:
    from redis.asyncio import Redis


class RedisStreamsBus(Bus):
    """Each channel is a stream; its entries are CloudEvents as JSON.

    Publishing: an event is kept here until the server has it, so a connection that is lost loses
    nothing and order is kept; a process that dies while the server is away loses what it kept. A
    publisher waits for the server for at most *patience* seconds, and not at all while it is away.

    Hearing: without a group each subscription gets every event published after it was made, and
    keeps its place over lost connections. With a group each event goes to one member of it, in
    whatever process, at least once: it is acknowledged after the handler was called, and taken
    over when its member dies. A group outlives its members: it goes on where it was.

    Publishers never wait for handlers, since the stream is the queue: the policies and sizes of
    `subscribe` are without effect. A stream keeps about *keep* entries (up to some hundred more);
    who is farther behind than that loses the oldest, which is logged.

    Belongs to the event loop that it is first used in.

    Args:
        redis: A URL, or a `redis.asyncio.Redis` that the caller closes, whose timeouts, if it has
            any, are longer than *block*.
        prefix: What all keys begin with.
        group: The group of all subscriptions; None: each gets everything.
        keep: About how many events each channel keeps.
        size: How many events may wait here for a server that is away.
        patience: How long one `publish` waits for the server, in seconds.
        idle: Seconds after which what a member of a group has left is taken over. A member that
            is alive says so in time, however long its handler takes.
        deliveries: How many members may die of one event.
        block: How long one read waits for events, in seconds.

    Raises:
        ImportError: redis is not installed; says how it is.
        ValueError: The URL is none of Redis.
    """

    def __init__(
        self,
        redis: str | Redis,
        *,
        prefix: str = "pocketflow:events:",
        group: str | None = None,
        keep: int = 100_000,
        size: int = 10_000,
        patience: float = 1.0,
        idle: float = 30.0,
        deliveries: int = 5,
        block: float = 1.0,
    ) -> None:
        super().__init__()
        self._own = isinstance(redis, str)
        self._where = _address(redis) if isinstance(redis, str) else type(redis).__name__
        self._client = _connect(redis) if isinstance(redis, str) else redis
        self._streams = Streams(self._client, prefix, block, keep)
        register = self._streams.register
        self._outbox = Outbox(
            self._client, register=register, keep=keep, size=size, patience=patience
        )
        self._group = group
        self._idle = idle
        self._deliveries = deliveries
        self._faults = faults()
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<RedisStreamsBus at {self._where}: {len(self._subscriptions)} subscriptions>"

    @property
    def unsent(self) -> int:
        """How many events wait here for the server."""
        return len(self._outbox)

    async def publish(self, channel: str, event: Mapping[str, Any]) -> None:
        """Write *event* to the stream of *channel*; cancelled or not, it will be.

        Raises:
            PublishError: The bus is closed; the event cannot be written as JSON; so many wait for
                a server that is away that there is no room; or the server refuses it.
        """
        event = self._checked(channel, event)
        try:
            envelope = to_cloudevent({**event, "type": str(event.get("type") or "message")})
            body = to_json({**envelope, "data": event})
        except ValueError as error:
            raise PublishError(f"the event cannot be written as JSON: {error}") from error
        await self._outbox.put(channel, self._streams.key(channel), body)

    async def ping(self) -> bool:
        """Return whether the server answers."""
        try:
            async with asyncio.timeout(ANSWER):
                await self._client.ping()
        except self._faults:
            return False
        return not self._closed

    async def _add(self, terms: Terms) -> Subscription:
        async with self._opening:
            made = await super()._add(terms)
            assert isinstance(made, Reader)
            if not made.opened:
                await self._open(made)
        return made

    async def _open(self, made: Reader) -> None:
        try:
            async with asyncio.timeout(ANSWER):
                await made.open()
        except self._faults as error:
            kind = type(error).__name__
            said = f"nothing can be subscribed at Redis, {self._where}: {kind}"
            raise SubscribeError(said) from error
        finally:
            if not made.opened:
                self._remove([made])

    def _subscription(self, terms: Terms) -> Subscription:
        if self._group is None:
            return Reader(self._streams, terms)
        return GroupReader(self._streams, terms, self._group, self._idle, self._deliveries)

    async def _flushed(self) -> None:
        await self._outbox.emptied()
        last = dict(self._outbox.last)
        for subscription in list(self._subscriptions):
            assert isinstance(subscription, Reader)
            await subscription.flushed(last)

    async def _finish(self, timeout: float | None) -> None:
        await self._outbox.close(timeout)
        await self.flush(timeout)

    async def _release(self) -> None:
        if self._own:
            await self._client.aclose()


def _connect(url: str) -> Redis:
    redis = need("redis.asyncio", "workflow")
    # What is tried again, and when, is decided here: so redis itself tries once, without limits.
    never = need("redis.asyncio.retry", "workflow").Retry(
        need("redis.backoff", "workflow").NoBackoff(), 0
    )
    client: Redis = redis.Redis.from_url(url, retry=never, socket_timeout=None, protocol=2)
    return client


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else "a socket"
