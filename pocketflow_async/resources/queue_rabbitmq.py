"""Message queues in RabbitMQ.

A queue is a durable fanout exchange of its name; each group has a durable queue `name:group` bound
to it. What is published before any group is known waits in a queue `name`, and goes to the group
that consumes first. So a group that comes new gets what is published from then on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pocketflow_async.needing import need
from pocketflow_async.resources.queue import MessageQueue
from pocketflow_async.resources.queue_errors import StaleMessageError
from pocketflow_async.resources.queue_message import Draft, Message, Verdict
from pocketflow_async.resources.queue_source import Source
from pocketflow_async.resources.severing import sever


class _Link:
    """A connection, and its channel for all that is no consumer's."""

    def __init__(self, connection: Any, channel: Any) -> None:
        self.connection = connection
        self.channel = channel
        self.declared: dict[str, Any] = {}  # exchanges by name


class RabbitQueue(MessageQueue):
    """Queues in RabbitMQ; made by `MessageQueueFactory`.

    Args:
        options: What `aio_pika.connect` takes.
        **rest: See `MessageQueue`.
    """

    system = "rabbitmq"

    def __init__(self, options: Mapping[str, Any], **rest: Any) -> None:
        super().__init__(**rest)
        self._pika = need("aio_pika", "resources")
        errors = self._pika.exceptions
        self._options = options
        self.lost = (
            errors.AMQPError,
            need("pamqp.exceptions", "resources").PAMQPException,
            OSError,
            RuntimeError,  # that is what it says on a connection that is gone
        )
        self.fatal = (errors.AuthenticationError, errors.ProbableAuthenticationError)

    async def _connect(self) -> Any:
        given = dict(self._options)
        url = given.pop("url", None)
        connection = await self._pika.connect(url, timeout=self.timeout, **given)
        try:
            return _Link(connection, await connection.channel())
        except BaseException:
            await self._quietly(connection.close())
            raise

    def _is_open(self, link: _Link) -> bool:
        return not link.connection.is_closed and not link.channel.is_closed

    async def _disconnect(self, link: _Link) -> None:
        await link.connection.close()

    def _sever(self, link: _Link) -> None:
        connection = getattr(link.connection.transport, "connection", None)
        writer = getattr(connection, "writer", None)
        sever(getattr(writer, "transport", None))

    async def _ping(self, link: _Link) -> None:
        await link.channel.get_underlay_channel()
        channel = await link.connection.channel(publisher_confirms=False)
        await channel.close()

    async def _publish(self, link: _Link, draft: Draft) -> None:
        exchange = link.declared.get(draft.queue)
        if exchange is None:
            exchange = await self._exchange(link, draft.queue)
        message = self._pika.Message(
            draft.body,
            headers=dict(draft.headers),
            message_id=draft.id,
            delivery_mode=self._pika.DeliveryMode.PERSISTENT,
        )
        answer = await exchange.publish(message, "", mandatory=True)
        if _was_returned(answer):  # nobody is bound to it yet
            await link.channel.declare_queue(draft.queue, durable=True)
            await link.channel.default_exchange.publish(message, draft.queue, mandatory=True)

    async def _exchange(self, link: _Link, queue: str) -> Any:
        kind = self._pika.ExchangeType.FANOUT
        exchange = await link.channel.declare_exchange(queue, kind, durable=True)
        link.declared[queue] = exchange
        return exchange

    async def _declare(self, link: _Link, queue: str, group: str) -> None:
        await self._bound(link.channel, queue, group)

    async def _bound(self, channel: Any, queue: str, group: str) -> list[Any]:
        """Return what the consumers of a group read from."""
        kind = self._pika.ExchangeType.FANOUT
        exchange = await channel.declare_exchange(queue, kind, durable=True)
        own = await channel.declare_queue(f"{queue}:{group}", durable=True)
        await own.bind(exchange)
        return [await channel.declare_queue(queue, durable=True), own]

    async def _delete(self, link: _Link, queue: str, groups: tuple[str, ...]) -> None:
        link.declared.pop(queue, None)
        await link.channel.exchange_delete(queue)
        for name in (queue, *(f"{queue}:{group}" for group in groups)):
            await link.channel.queue_delete(name)

    async def _source(self, link: _Link, queue: str, group: str, prefetch: int) -> Source:
        channel = await link.connection.channel(publisher_confirms=False)
        source = _Channel(self, channel, queue)
        try:
            await channel.set_qos(prefetch_count=prefetch)
            await source.begin(await self._bound(channel, queue, group))
        except BaseException:
            await self._quietly(source.close())
            raise
        return source


def _was_returned(answer: Any) -> bool:
    return hasattr(answer, "delivery")


class _Channel(Source):
    """One consumer of a group: a channel of its own, which ends with the last of its messages."""

    def __init__(self, queue: RabbitQueue, channel: Any, name: str) -> None:
        self._queue = queue
        self._channel = channel
        self._name = name
        self._tags: list[tuple[Any, str]] = []
        self._arrived: deque[Any] = deque()
        self._something = asyncio.Event()
        self._out = 0  # handed out and not settled
        self._closed = False
        self._lost: BaseException | None = None
        channel.close_callbacks.add(self._cut)

    async def begin(self, queues: list[Any]) -> None:
        """Let messages come."""
        for queue in queues:
            self._tags.append((queue, await queue.consume(self._came)))

    async def _came(self, incoming: Any) -> None:
        self._arrived.append(incoming)
        self._something.set()

    def _cut(self, _: Any, error: BaseException | None) -> None:
        self._lost = error or ConnectionResetError("the channel is closed")
        self._something.set()

    def ready(self) -> Message | None:
        if self._lost is not None or not self._arrived:
            return None
        self._out += 1
        return self._message(self._arrived.popleft())

    async def next(self) -> Message:
        while True:
            message = self.ready()
            if message is not None:
                return message
            if self._lost is not None:
                raise ConnectionResetError("the channel is closed") from self._lost
            self._something.clear()
            await self._something.wait()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for queue, tag in self._tags:
            await queue.cancel(tag)
        if not self._out:
            await self._channel.close()  # which gives back all that has come
            return
        while self._arrived:
            await self._arrived.popleft().nack()

    def _message(self, incoming: Any) -> Message:
        async def settle(verdict: Verdict) -> None:
            if self._lost is not None:
                raise StaleMessageError(message.id) from self._lost
            try:
                if verdict == "ack":
                    await incoming.ack()
                else:
                    await incoming.nack(requeue=verdict == "nack")
            except self._queue.lost as error:
                raise StaleMessageError(message.id) from error
            await self._settled()

        headers = {str(name): _text(value) for name, value in incoming.headers.items()}
        name = incoming.message_id or str(incoming.delivery_tag)
        draft = Draft(self._name, incoming.body, headers, name)
        message = self._queue.message(draft, settle, redelivered=bool(incoming.redelivered))
        return message

    async def _settled(self) -> None:
        self._out -= 1
        if self._closed and not self._out:
            with suppress(*self._queue.lost):
                await self._channel.close()


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
