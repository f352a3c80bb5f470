"""Message queues with one face: each message is delivered at least once to each group.

What is published is kept by the broker until every group that is known has acknowledged it. The
consumers of one group share the messages of a queue. Connections that are lost are made anew, and
what was not confirmed is said again; so a message may come twice, with the same id.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import uuid4

from pocketflow_async.clock import clock
from pocketflow_async.resources.outgoing import Outgoing, with_headers, with_trace
from pocketflow_async.resources.queue_errors import QueueClosedError
from pocketflow_async.resources.queue_link import Linked, pause_after
from pocketflow_async.resources.queue_message import (
    Draft,
    Message,
    Verdict,
    body_of,
    headers_of,
    name_of,
)
from pocketflow_async.resources.queue_source import Messages, Source
from pocketflow_async.resources.uses import using

logger = logging.getLogger(__name__)

_SIZE: Final = "messaging.message.body.size"


class MessageQueue(Linked):
    """Publishes to queues and consumes from them; made by `MessageQueueFactory`.

    Used on the event loop that it was made on, by as many tasks as one likes.

    Args:
        name: What it is called in traces.
        outgoing: Adds the headers that name the trace; None: none are added.
        timeout: Seconds in which the broker must confirm, all reconnections included.
        ack_wait: Seconds after which a message that is not settled is delivered again. RabbitMQ
            does so when its connection ends, however long that takes.
    """

    def __init__(
        self,
        name: str = "queue",
        *,
        outgoing: Outgoing | None = with_trace,
        timeout: float = 10.0,
        ack_wait: float = 30.0,
    ) -> None:
        super().__init__(name, timeout)
        self.ack_wait = ack_wait
        self._outgoing = outgoing
        self._sources: set[Source] = set()

    async def publish(
        self, queue: str, message: Any, headers: Mapping[str, Any] | None = None
    ) -> str:
        """Publish a message; the broker has it when this returns. Returns its id.

        When it is cancelled, the broker may have it or not.

        Args:
            queue: Which queue; it is made when there is none.
            message: Bytes, a text, or anything that can be JSON.
            headers: What is said about it.

        Raises:
            QueueUnreachableError: The broker has not confirmed it in time.
            ValueError: A name or a header is one that a broker does not take.
            TypeError: The message cannot be JSON.
        """
        place, body, given = name_of("a queue", queue), body_of(message), headers_of(headers or {})
        draft = Draft(place, body, given, uuid4().hex)
        facts = {**self._facts(queue, "send"), "messaging.message.id": draft.id}
        with using(self.name, "publish", None, **facts, **{_SIZE: len(body)}):
            sent = draft._replace(headers=dict(with_headers(self._outgoing, given)))
            await self._patiently("publish", lambda link: self._publish(link, sent))
        return draft.id

    def consume(
        self,
        queue: str,
        group: str = "default",
        *,
        prefetch: int = 1,
        idle: float | None = None,
    ) -> Messages:
        """Return the messages of a queue, as they come: for `async for`, once.

        Ends when the queue is closed; goes on over lost connections. A consumer that ends or is
        cancelled gives back what it has fetched and not handed out.

        Args:
            queue: Which queue; it is made when there is none.
            group: Its consumers share the messages. A group that comes new gets all that is kept:
                see the back ends.
            prefetch: Most messages that are fetched at a time. Those wait here, and their
                `ack_wait` passes. RabbitMQ hands out no more than so many that are not settled.
            idle: Seconds without a message after which it ends; None: never.

        Raises:
            ValueError: A name is one that a broker does not take, or *prefetch* is below 1.
        """
        name_of("a queue", queue)
        name_of("a group", group)
        if prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, not {prefetch!r}")
        return Messages(self._consume(queue, group, prefetch, idle))

    async def declare(self, queue: str, group: str = "default") -> None:
        """Make a queue and let a group be known to it, so that messages are kept for it.

        Raises:
            QueueUnreachableError: The broker has not confirmed it in time.
        """
        name_of("a queue", queue)
        name_of("a group", group)
        await self._patiently("declaration", lambda link: self._declare(link, queue, group))

    async def delete(self, queue: str, *groups: str) -> None:
        """Delete a queue with all that is in it; nothing happens if there is none.

        Args:
            queue: Which queue.
            *groups: Those that are known to it; RabbitMQ does not tell. "default" always is.

        Raises:
            QueueUnreachableError: The broker has not confirmed it in time.
        """
        named = tuple(dict.fromkeys(("default", *groups)))
        name_of("a queue", queue)
        await self._patiently("deletion", lambda link: self._delete(link, queue, named))

    async def _consume(
        self, queue: str, group: str, prefetch: int, idle: float | None
    ) -> AsyncGenerator[Message, None]:
        failures = 0
        while not self._ended.done():
            try:
                with self._at_work():
                    source = await self._source(await self._link(), queue, group, prefetch)
                self._sources.add(source)
                try:
                    while message := await self._received(source, queue, group, idle):
                        failures = 0
                        yield message
                    return
                finally:
                    self._sources.discard(source)
                    with self._at_work():
                        await self._quietly(source.close())
            except QueueClosedError:
                return
            except self.fatal:
                raise
            except self.lost as error:
                logger.info("%r: consuming is interrupted: %s", self, type(error).__name__)
            await self._until_ended(clock().asleep(pause_after(failures)), None)
            failures += 1

    async def _received(
        self, source: Source, queue: str, group: str, idle: float | None
    ) -> Message | None:
        facts = {**self._facts(queue, "receive"), "messaging.consumer.group.name": group}
        with self._at_work(), using(self.name, "receive", None, **facts) as told:
            message = None if self._ended.done() else source.ready()
            if message is None:
                message = await self._until_ended(source.next(), idle)
            if told is not None and message is not None:
                told["messaging.message.id"] = message.id
                told[_SIZE] = len(message.body)
            return message

    def message(
        self, draft: Draft, settle: Callable[[Verdict], Awaitable[None]], *, redelivered: bool
    ) -> Message:
        """Return a message that has come; what is said about it by *settle* is a step."""
        facts = {**self._facts(draft.queue, "settle"), "messaging.message.id": draft.id}

        async def told(verdict: Verdict) -> None:
            with using(self.name, verdict, None, **facts):
                await settle(verdict)

        return Message(draft, told, redelivered=redelivered)

    async def _give_back(self, result: Any) -> None:
        if isinstance(result, Message):
            await result.nack()

    async def _end_sources(self) -> None:
        for source in list(self._sources):
            await self._quietly(source.close())

    def _facts(self, queue: str, kind: str) -> dict[str, Any]:
        return {
            "messaging.system": self.system,
            "messaging.destination.name": queue,
            "messaging.operation.type": kind,
        }

    @abstractmethod
    async def _publish(self, link: Any, draft: Draft) -> None:
        """Return when the broker has *draft*."""

    @abstractmethod
    async def _declare(self, link: Any, queue: str, group: str) -> None:
        """Make what is not there."""

    @abstractmethod
    async def _delete(self, link: Any, queue: str, groups: tuple[str, ...]) -> None:
        """Delete what is there."""

    @abstractmethod
    async def _source(self, link: Any, queue: str, group: str, prefetch: int) -> Source:
        """Begin to consume; what is not there is made."""
