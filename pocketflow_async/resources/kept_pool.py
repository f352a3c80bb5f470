"""A pool that opens, keeps and closes the connections of a driver that has no good pool itself."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from pocketflow_async.clock import clock
from pocketflow_async.resources.database_facts import Where
from pocketflow_async.resources.database_pool import DatabasePool

logger = logging.getLogger(__name__)


class KeptPool(DatabasePool):
    """Keeps connections that are idle, the one used last on top, and opens others when needed.

    All that must not be broken off when its caller is cancelled, opening and putting in order, is
    done in tasks of the pool, which hold the slot until they are done, and end with the pool.

    Args:
        where: Which database it is.
        min_size: Connections that are kept open.
        max_size: Most connections at a time.
        acquire_timeout: Seconds to wait for a connection; None: any time.
        max_idle: Seconds after which a connection that nobody has used is closed, when there are
            more than *min_size*; looked after whenever one is given back.
    """

    def __init__(
        self,
        where: Where,
        min_size: int,
        max_size: int,
        acquire_timeout: float | None,
        max_idle: float,
    ) -> None:
        super().__init__(where, min_size, max_size, acquire_timeout)
        self._max_idle = max_idle
        self._idle: list[tuple[Any, float]] = []
        self._open: set[Any] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._all_back: asyncio.Future[None] | None = None
        self._is_terminated = False

    # For the driver.

    @abstractmethod
    async def _connect(self) -> Any:
        """Open a connection; if that fails, nothing is open."""

    @abstractmethod
    def _is_well(self, raw: Any) -> bool:
        """Return whether an idle connection may be given out."""

    @abstractmethod
    def _is_clean(self, raw: Any) -> bool:
        """Return whether a connection that comes back can be given out again as it is."""

    @abstractmethod
    async def _clean(self, raw: Any) -> bool:
        """Put it in order; return whether that was possible."""

    @abstractmethod
    async def _disconnect(self, raw: Any) -> None:
        """Close a connection in good order."""

    @abstractmethod
    def _cut(self, raw: Any) -> None:
        """Cut a connection, with or without an event loop."""

    # Opening and giving out.

    async def open(self) -> None:
        """Open the first connections; the very first one alone, so that its error is the only one.

        Raises:
            Exception: It is not possible; nothing is open then.
        """
        lent: list[Any] = []
        try:
            if self._min_size:
                lent.append(await self._lend())
            more = (self._lend() for _ in range(self._min_size - 1))
            lent.extend(await asyncio.gather(*more, return_exceptions=True))
            for each in lent:
                if isinstance(each, BaseException):
                    raise each
            for connection, _ in lent:
                await self.release(connection)
        except BaseException:
            self.terminate()
            await self._stop_tasks()
            raise
        self._acquired_total = self._waited_total = 0
        self._waited_seconds = 0.0

    async def _get(self) -> Any:
        while self._idle:
            raw, _ = self._idle.pop()
            if self._is_well(raw):
                return raw
            self._drop(raw)
        opening = self._go(self._opened())
        try:
            await asyncio.wait({opening})
        except asyncio.CancelledError:
            opening.add_done_callback(self._opened_for_nobody)
            raise
        error = self._closed_error() if opening.cancelled() else opening.exception()
        if error is not None:
            self._give()
            raise error
        return opening.result()

    async def _opened(self) -> Any:
        raw = await self._connect()
        if self._is_terminated:
            self._cut(raw)
            raise self._closed_error()
        self._open.add(raw)
        return raw

    def _opened_for_nobody(self, opening: asyncio.Task[Any]) -> None:
        """Keep what was opened for somebody who has been cancelled since."""
        if not opening.cancelled() and opening.exception() is None:
            self._keep(opening.result())
        self._give()

    # Taking back.

    async def _take_back(self, raw: Any) -> None:
        if raw not in self._open:  # cut while it was out
            self._give()
        elif self._is_clean(raw):
            self._keep(raw)
            self._give()
        else:
            await asyncio.wait({self._go(self._put_in_order(raw))})

    async def _put_in_order(self, raw: Any) -> None:
        usable = False
        try:
            usable = await self._clean(raw)
        except Exception as error:  # noqa: BLE001 (then it is of no use)
            logger.info("a connection of %r is gone: %s", self.name, type(error).__name__)
        finally:
            if usable:
                self._keep(raw)
            else:
                self._drop(raw)
            self._give()

    def _keep(self, raw: Any) -> None:
        if self._ended is not None:
            return  # `_close` is waiting for the slot, and closes all that are open
        now = clock().monotonic()
        self._idle.append((raw, now))
        while len(self._open) > self._min_size and now - self._idle[0][1] > self._max_idle:
            self._drop(self._idle.pop(0)[0])

    def _give(self) -> None:
        self._slots.give()
        back = self._all_back
        if back is not None and not back.done() and self._leases() == 0:
            back.set_result(None)

    def _drop(self, raw: Any) -> None:
        """Close a connection that is not kept, beside other work."""
        if raw in self._open and not self._is_terminated:
            self._open.discard(raw)
            self._go(self._disconnected(raw))

    async def _disconnected(self, raw: Any) -> None:
        try:
            await self._disconnect(raw)
        except BaseException as error:
            logger.info("closing a connection of %r: %s", self.name, type(error).__name__)
            self._cut(raw)
            if not isinstance(error, Exception):
                raise

    def _go(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Its state and its end.

    def _counts(self) -> tuple[int, int]:
        return len(self._open), len(self._idle)

    async def _close(self) -> None:
        if self._leases():
            self._all_back = asyncio.get_running_loop().create_future()
            await self._all_back
        self._idle.clear()
        for raw in list(self._open):
            self._drop(raw)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _terminate(self) -> None:
        self._is_terminated = True
        self._idle.clear()
        for raw in list(self._open):
            self._open.discard(raw)
            self._cut(raw)
        if not self._loop.is_closed():
            for task in list(self._tasks):
                task.cancel()

    async def _stop_tasks(self) -> None:
        """Wait for what `terminate` has broken off."""
        while self._tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(self._tasks)
