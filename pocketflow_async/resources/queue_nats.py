"""Message queues in NATS JetStream.

A queue is a stream with one subject of its name, which keeps all messages for a time (`keep`). A
group is a durable consumer; one that comes new gets everything that is kept.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from pocketflow_async.needing import need
from pocketflow_async.resources.queue import MessageQueue
from pocketflow_async.resources.queue_message import Draft, Message, Verdict
from pocketflow_async.resources.queue_source import Source
from pocketflow_async.resources.severing import sever

logger = logging.getLogger(__name__)

T = TypeVar("T")
_ID: Final = "Nats-Msg-Id"
_WEEK: Final = 7 * 24 * 3600.0
_PULL: Final = 5.0
"""Seconds for which the server is asked for messages at a time."""
_SAID: Final[Mapping[Verdict, bytes]] = {"ack": b"+ACK", "nack": b"-NAK", "drop": b"+TERM"}


class _Link:
    """A connection; *ended* when it is lost."""

    def __init__(self) -> None:
        self.client: Any = None
        self.stream: Any = None
        self.ended = asyncio.Event()
        self.declared: set[tuple[str, ...]] = set()

    async def end(self) -> None:
        """Say that it is lost; nats calls it."""
        self.ended.set()

    async def of(self, work: Coroutine[Any, Any, T]) -> T:
        """Await *work* as long as there is a connection: nats waits on for answers without one.

        Raises:
            ConnectionResetError: There is none any more.
        """
        task = asyncio.ensure_future(work)
        end = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ConnectionResetError("the connection to NATS is lost")
        finally:
            task.cancel()
            end.cancel()
            await asyncio.wait({task, end})
            if not task.cancelled():
                task.exception()  # seen


class NatsQueue(MessageQueue):
    """Queues in NATS JetStream; made by `MessageQueueFactory`.

    Args:
        options: What `nats.connect` takes; `url`, or `host` and `port`, for its servers.
        keep: Seconds for which messages are kept at most, read or not.
        **rest: See `MessageQueue`.
    """

    system = "nats"

    def __init__(self, options: Mapping[str, Any], *, keep: float = _WEEK, **rest: Any) -> None:
        super().__init__(**rest)
        self._nats = need("nats", "resources")
        self._api = need("nats.js.api", "resources")
        errors = need("nats.errors", "resources")
        refused = need("nats.js.errors", "resources")
        self._options = options
        self._keep = keep
        self._refused: type[Exception] = refused.BadRequestError
        self._absent: type[Exception] = refused.NotFoundError
        self._streamless: type[Exception] = refused.NoStreamResponseError
        self.lost = (errors.Error, OSError, asyncio.TimeoutError)
        self.fatal = (
            errors.AuthorizationError,
            errors.MaxPayloadError,
            errors.BadSubjectError,
            errors.BadHeaderError,
            refused.BadRequestError,
        )

    async def _connect(self) -> Any:
        link = _Link()
        given = dict(self._options)
        host, port = given.pop("host", None), given.pop("port", None)
        url = given.pop("url", None) or f"nats://{host}:{port}"
        link.client = client = self._nats.NATS()
        try:
            await client.connect(
                url,
                allow_reconnect=False,  # connections are made anew in one way for all back ends
                max_reconnect_attempts=1,
                reconnect_time_wait=0.05,
                connect_timeout=self.timeout,
                ping_interval=10,
                closed_cb=link.end,
                error_cb=_ignore,
                **given,
            )
        except BaseException:
            await self._quietly(client.close())
            raise
        link.stream = client.jetstream(timeout=self.timeout)
        return link

    def _is_open(self, link: _Link) -> bool:
        reading: Any = getattr(link.client, "_reading_task", None)  # without it nothing comes in
        is_deaf = reading is not None and reading.done()
        return not link.ended.is_set() and bool(link.client.is_connected) and not is_deaf

    async def _disconnect(self, link: _Link) -> None:
        await link.client.close()

    def _sever(self, link: _Link) -> None:
        writer = getattr(getattr(link.client, "_transport", None), "_io_writer", None)
        sever(getattr(writer, "transport", None))

    async def _ping(self, link: _Link) -> None:
        await link.of(_flushed(link.client, self.timeout))

    async def _publish(self, link: _Link, draft: Draft) -> None:
        await self._stream(link, draft.queue)
        headers = {**draft.headers, _ID: draft.id}
        try:
            await link.of(link.stream.publish(draft.queue, draft.body, headers=headers))
        except self._streamless:
            link.declared.clear()  # somebody has deleted it
            raise

    async def _stream(self, link: _Link, queue: str) -> None:
        if (queue,) in link.declared:
            return
        config = self._api.StreamConfig(
            name=_token(queue),
            subjects=[queue],
            retention=self._api.RetentionPolicy.LIMITS,
            storage=self._api.StorageType.FILE,
            max_age=self._keep,
        )
        try:
            await link.of(link.stream.add_stream(config))
        except self._refused:
            await link.of(link.stream.stream_info(_token(queue)))  # it is there, and made otherwise
        link.declared.add((queue,))

    async def _declare(self, link: _Link, queue: str, group: str) -> None:
        await self._stream(link, queue)
        if (queue, group) in link.declared:
            return
        config = self._api.ConsumerConfig(
            durable_name=_token(group),
            ack_policy=self._api.AckPolicy.EXPLICIT,
            deliver_policy=self._api.DeliverPolicy.ALL,
            ack_wait=self.ack_wait,
            max_ack_pending=20_000,
        )
        try:
            await link.of(link.stream.add_consumer(_token(queue), config))
        except self._refused:
            await link.of(link.stream.consumer_info(_token(queue), _token(group)))
        link.declared.add((queue, group))

    async def _delete(self, link: _Link, queue: str, groups: tuple[str, ...]) -> None:
        link.declared.clear()
        with suppress(self._absent):
            await link.of(link.stream.delete_stream(_token(queue)))

    async def _source(self, link: _Link, queue: str, group: str, prefetch: int) -> Source:
        await self._declare(link, queue, group)
        source = _Pull(self, link, queue, group, prefetch)
        await source.begin()
        return source

    async def settle(self, reply: str, verdict: Verdict) -> None:
        """Do with a message what was said about it, and wait until the server has it."""

        async def say(link: _Link) -> None:
            await link.of(link.client.request(reply, _SAID[verdict], self.timeout))

        await self._patiently("acknowledgement", say)


class _Pull(Source):
    """One consumer of a group: asks for messages when it is asked for one."""

    def __init__(self, queue: NatsQueue, link: _Link, name: str, group: str, prefetch: int) -> None:
        self._queue = queue
        self._link = link
        self._name = name
        self._prefetch = prefetch
        self._asks = f"$JS.API.CONSUMER.MSG.NEXT.{_token(name)}.{_token(group)}"
        self._inbox = link.client.new_inbox()
        self._subscription: Any = None
        self._arrived: deque[Any] = deque()
        self._asked = 0  # messages that may still come
        self._until = 0.0
        self._something = asyncio.Event()

    async def begin(self) -> None:
        """Let messages come."""
        self._subscription = await self._link.client.subscribe(self._inbox, cb=self._came)

    async def _came(self, message: Any) -> None:
        if message.reply:
            self._asked -= 1
            self._arrived.append(message)
        else:
            self._asked = 0  # the server says that there is no more for now: ask again
        self._something.set()

    def ready(self) -> Message | None:
        return self._message(self._arrived.popleft()) if self._arrived else None

    async def next(self) -> Message:
        loop = asyncio.get_running_loop()
        while True:
            message = self.ready()
            if message is not None:
                return message
            if self._asked <= 0 or loop.time() >= self._until:
                await self._ask(loop.time())
            self._something.clear()
            with suppress(TimeoutError):  # then one must ask again
                async with asyncio.timeout_at(self._until):
                    await self._link.of(self._something.wait())

    async def _ask(self, now: float) -> None:
        request = {"batch": self._prefetch, "expires": int(_PULL * 1e9)}
        await self._link.client.publish(self._asks, json.dumps(request).encode(), self._inbox)
        self._asked, self._until = self._prefetch, now + _PULL + 1.0

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None or self._link.ended.is_set():
            return
        await self._link.of(subscription.drain())  # what was on its way is here then
        while self._arrived:
            await self._link.client.publish(self._arrived.popleft().reply, _SAID["nack"])
        await self._link.of(_flushed(self._link.client, self._queue.timeout))

    def _message(self, raw: Any) -> Message:
        async def settle(verdict: Verdict) -> None:
            await self._queue.settle(raw.reply, verdict)

        headers = dict(raw.headers or {})
        facts = raw.metadata
        name = headers.pop(_ID, None) or f"{_token(self._name)}-{facts.sequence.stream}"
        draft = Draft(self._name, raw.data, headers, name)
        return self._queue.message(draft, settle, redelivered=facts.num_delivered > 1)


async def _flushed(client: Any, timeout: float) -> None:
    """Wait until the server has had all that was sent.

    When cancelled, the flush itself goes on to its end: nats-py stops reading for good when the
    answer comes and nobody waits for it any more.
    """
    flush = asyncio.ensure_future(client.flush(timeout))
    try:
        await asyncio.shield(flush)
    finally:
        flush.add_done_callback(lambda done: done.cancelled() or done.exception())


def _token(name: str) -> str:
    """Return what a stream or consumer is called: a dot has a meaning there."""
    return name.replace(".", "=")


async def _ignore(error: Exception) -> None:
    logger.debug("NATS: %s", type(error).__name__)
