"""Where the messages of one consumer come from, and where they go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from pocketflow_async.resources.queue_message import Message


class Source(ABC):
    """Where one consumer's messages come from, over one connection."""

    @abstractmethod
    def ready(self) -> Message | None:
        """Return a message that is here already."""

    @abstractmethod
    async def next(self) -> Message:
        """Wait for a message; when it is cancelled, none is lost.

        Raises:
            Exception: One of those that say that the connection is lost.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give back what was fetched and not handed out. May be done again."""


class Messages:
    """The messages of one consumer: `async for message in queue.consume("jobs"):`.

    With `async with` around it, it ends with the block, and not only when it is collected.
    """

    def __init__(self, messages: AsyncGenerator[Message, None]) -> None:
        self._messages = messages

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await anext(self._messages)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End, and give back what was fetched and not handed out."""
        await self._messages.aclose()
