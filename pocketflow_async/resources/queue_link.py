"""The connection of a message queue to its broker: made when needed, made anew when lost."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, ClassVar, Final, Self, TypeVar

from pocketflow_async.clock import clock
from pocketflow_async.resources.queue_errors import QueueClosedError, QueueUnreachableError

logger = logging.getLogger(__name__)

T = TypeVar("T")
_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_CLOSING: Final = 5.0
"""Seconds that one thing may take which is done on the way out."""


class Linked(ABC):
    """Has a connection to a broker, one at a time.

    Args:
        name: What it is called in traces.
        timeout: Seconds in which the broker must confirm, all reconnections included.
    """

    system: ClassVar[str]
    lost: tuple[type[Exception], ...] = ()
    """What says that a connection is lost, or cannot be made now."""
    fatal: tuple[type[Exception], ...] = ()
    """What says that trying again is of no use; asked first."""

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self.timeout = timeout
        self._current: Any = None
        self._connecting = asyncio.Lock()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._working = 0
        self._resting = asyncio.Event()  # no consumer is doing anything
        self._resting.set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed here."""
        return self._ended.done()

    async def ping(self) -> bool:
        """Return True when the broker answers.

        Raises:
            Exception: The error of the connection, at once.
        """
        async with asyncio.timeout(self.timeout):
            await self._ping(await self._link())
        return True

    async def close(self) -> None:
        """End all consumers and close the connection. May be done again."""
        if not self._ended.done():
            self._ended.set_result(None)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    while self._working:  # one that rested may be at work again by now
                        await self._resting.wait()
            await self._end_sources()
        finally:
            await self._forget()

    aclose = close

    def terminate(self) -> None:
        """Cut the connection, when the event loop that it belongs to is closed."""
        link, self._current = self._current, None
        if link is not None:
            self._sever(link)

    @contextmanager
    def _at_work(self) -> Generator[None, None, None]:
        """Let `close` wait for the end of the block."""
        self._working += 1
        self._resting.clear()
        try:
            yield
        finally:
            self._working -= 1
            if not self._working:
                self._resting.set()

    async def _until_ended(self, work: Awaitable[T], seconds: float | None) -> T | None:
        """Return what *work* does; None when the queue is closed or time is over before that."""
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        handed = False
        try:
            await asyncio.wait(
                (task, self._ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not task.done():
                return None
            handed = True
            return task.result()
        finally:
            if not handed:
                await self._undo(task)

    async def _undo(self, task: asyncio.Future[Any]) -> None:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            await self._quietly(self._give_back(task.result()))  # it came at the very end

    async def _patiently(self, what: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do *work*, and over lost connections again, for as long as may be."""
        last: BaseException | None = None
        limit = asyncio.timeout(self.timeout)
        failures = 0
        try:
            async with limit:
                while True:
                    try:
                        return await work(await self._link())
                    except QueueClosedError:
                        raise
                    except self.fatal:
                        raise
                    except self.lost as error:
                        last = error
                    await clock().asleep(pause_after(failures))
                    failures += 1
        except TimeoutError as error:
            if not limit.expired():
                raise
            if last is None:  # it is there and says nothing: another one may do better
                await self._forget()
            cause = last or error
            raise QueueUnreachableError(self.name, what, self.timeout, last) from cause

    async def _link(self) -> Any:
        """Return the connection that is open, or open one; one at a time."""
        if self._ended.done():
            raise QueueClosedError(self.name)
        if self._current is not None and self._is_open(self._current):
            return self._current
        async with self._connecting:
            if self._current is not None and self._is_open(self._current):
                return self._current
            await self._forget()
            link = await self._connect()
            if self._ended.done():
                await self._let_go(link)
                raise QueueClosedError(self.name)
            self._current = link
            return link

    async def _forget(self) -> None:
        """Close the connection, if there is one."""
        link, self._current = self._current, None
        if link is not None:
            await self._let_go(link)

    async def _let_go(self, link: Any) -> None:
        await self._quietly(self._disconnect(link))

    async def _quietly(self, work: Awaitable[Any]) -> None:
        """Do what is good to do, and cannot be done any better when it fails."""
        try:
            async with asyncio.timeout(_CLOSING):
                await work
        except Exception as error:  # noqa: BLE001 (the broker sees to what is left undone)
            logger.debug("%r: %s on the way out", self, type(error).__name__)

    @abstractmethod
    async def _give_back(self, result: Any) -> None:
        """Undo what was done for somebody who does not want it any more."""

    @abstractmethod
    async def _end_sources(self) -> None:
        """Give back what consumers have fetched that are not at work."""

    @abstractmethod
    async def _connect(self) -> Any:
        """Open a connection; when it is cancelled or fails, nothing is open."""

    @abstractmethod
    def _is_open(self, link: Any) -> bool:
        """Return whether *link* can be used."""

    @abstractmethod
    async def _disconnect(self, link: Any) -> None:
        """Close *link*."""

    @abstractmethod
    def _sever(self, link: Any) -> None:
        """Cut *link*, whose event loop is closed."""

    @abstractmethod
    async def _ping(self, link: Any) -> None:
        """Return when the broker answers."""


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row, and one more."""
    return _PAUSES[min(failures, len(_PAUSES) - 1)]
