"""One handler of one channel, called in a task of its own, one event after another."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from inspect import isawaitable
from typing import Any, Final, Literal, TypeAlias

from pocketflow_async.infrastructure.events.errors import SubscribeError
from pocketflow_async.wording import a

Event: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[Event], Awaitable[Any] | None]
Policy: TypeAlias = Literal["block", "drop_oldest", "fail"]
POLICIES: Final = ("block", "drop_oldest", "fail")

_log = logging.getLogger(__name__)
_inside: ContextVar[bool] = ContextVar("pocketflow_in_event_handler", default=False)


def in_handler() -> bool:
    """Return whether this is a handler, or was started by one: it must not wait for handlers."""
    return _inside.get()


@dataclass(frozen=True, slots=True)
class Terms:
    """What is subscribed, and how; see `Bus.subscribe`."""

    channel: str
    handler: Handler
    policy: Policy = "block"
    size: int = 1000
    name: str | None = None
    pattern: bool = False

    def check(self) -> None:
        """Raise SubscribeError if something is wrong."""
        channel: Any = self.channel
        size: Any = self.size
        if not isinstance(channel, str) or not channel:
            raise SubscribeError("a channel is a text that is not empty")
        if not callable(self.handler):
            raise SubscribeError(f"{a(type(self.handler).__name__)} cannot be called: no handler")
        if self.policy not in POLICIES:
            raise SubscribeError(f"{self.policy!r} is no policy; there are {', '.join(POLICIES)}")
        if not isinstance(size, int) or size < 1:
            raise SubscribeError("size is how many events may wait: 1 or more")


class Subscription(ABC):
    """A handler that hears a channel, until it is unsubscribed or the bus closes.

    Args:
        terms: What is heard, by whom.

    Attributes:
        handled: How many events the handler was called with.
        failed: How many of these calls raised.
        dropped: How many events it never got.
    """

    def __init__(self, terms: Terms) -> None:
        own: Any = getattr(terms.handler, "__qualname__", type(terms.handler).__qualname__)
        self.channel, self.handler, self.pattern = terms.channel, terms.handler, terms.pattern
        self.name = terms.name or str(own)
        self.handled = self.failed = self.dropped = 0
        self._task: asyncio.Task[None] | None = None
        self._changes: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        counts = f"{self.handled} handled, {self.failed} failed, {self.dropped} dropped"
        return f"<Subscription {self.name} to {self.channel!r}: {counts}>"

    def hears(self, channel: str) -> bool:
        """Return whether events on *channel* are for it."""
        return fnmatchcase(channel, self.channel) if self.pattern else channel == self.channel

    @abstractmethod
    def close(self, *, drain: bool) -> asyncio.Task[None] | None:
        """Let it end after the event that is being handled; with *drain*, after all it has.

        Returns:
            The task to wait for; None: it has ended.
        """

    @abstractmethod
    def pause(self, paused: bool) -> None:
        """Hold events back, or go on."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition*, looked at after each event, is true."""
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._changes.append((condition, future))
            await future

    def _changed(self) -> None:
        if not self._changes:
            return
        waiting, self._changes = self._changes, []
        for condition, future in waiting:
            if future.done():
                continue
            if condition():
                future.set_result(None)
            else:
                self._changes.append((condition, future))

    async def _call(self, event: Event) -> None:
        """Call the handler; whatever it raises is logged, and hurts nobody else."""
        self.handled += 1
        try:
            answer = self.handler(event)
            if isawaitable(answer):
                await answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._complain()  # it has awaited something that was cancelled
        except Exception:  # noqa: BLE001 (its error is its own)
            self._complain()

    def _complain(self) -> None:
        self.failed += 1
        message = "the event handler %s of channel %r has failed"
        _log.warning(message, self.name, self.channel, exc_info=True)

    async def _run(self) -> None:
        _inside.set(True)
        await self._work()

    @abstractmethod
    async def _work(self) -> None:
        """Call the handler with each event."""
