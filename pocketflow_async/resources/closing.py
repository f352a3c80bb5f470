"""Closes resources that are not wanted any more, as soon as nobody uses them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pocketflow_async.resources.entry import Entry, Figures
from pocketflow_async.resources.errors import in_words
from pocketflow_async.resources.flights import outlast, spawn
from pocketflow_async.resources.rules import Rules

logger = logging.getLogger(__name__)


class Closing:
    """Closes the resources of one event loop.

    Args:
        loop: The event loop.
        rules: How long it may take.
        figures: Finds what is counted about a resource.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rules: Rules,
        figures: Callable[[str], Figures],
    ) -> None:
        self._loop = loop
        self._rules = rules
        self._figures = figures
        self._retired: set[Entry] = set()
        self._in_order = False
        self._came_back: asyncio.Future[None] | None = None

    @property
    def retired(self) -> set[Entry]:
        """What is not handed out any more, and not closed yet."""
        return self._retired

    def retire(self, entry: Entry) -> None:
        """Close *entry* as soon as nobody uses it."""
        if not entry.is_closed:
            entry.is_retired = True
            self._retired.add(entry)
            self._settle(entry)

    def release(self, entry: Entry) -> None:
        """Note that one who used *entry* does so no more; may be called in any thread."""
        entry.leases -= 1
        if entry.leases or not (entry.is_retired or self._came_back is not None):
            return
        if _running() is self._loop:
            self._settle(entry)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._settle, entry)

    def let_go(self, needs: Sequence[Entry]) -> None:
        """Note that one resource that was made of *needs* is no more."""
        for needed in needs:
            needed.needed_by -= 1
            self._settle(needed)

    def _settle(self, entry: Entry) -> None:
        if self._came_back is not None and not self._came_back.done():
            self._came_back.set_result(None)
        if entry.is_retired and entry.is_idle and not (entry.is_closed or self._in_order):
            self._start(entry)

    def _start(self, entry: Entry) -> None:
        if entry.closing is None or (entry.closing.done() and not entry.is_closed):
            name = f"{entry.name}.close"
            entry.closing = spawn(lambda: self._close(entry), name, self._rules.time())

    async def _close(self, entry: Entry) -> None:
        trouble = await self._tried(entry)
        if trouble == _CANCELLED:  # as a loop does with all tasks before it ends
            trouble = await self._tried(entry)
        figures = self._figures(entry.name)
        if trouble:
            logger.warning("closing resource %r: %s", entry.name, trouble)
            figures.close_failures += 1
            _terminate(entry)
        else:
            logger.debug("resource %r closed", entry.name)
        figures.closed += 1
        entry.is_closed = True
        self._retired.discard(entry)
        self.let_go(entry.needs)

    async def _tried(self, entry: Entry) -> str:
        """Close *entry*; return what went wrong, in words."""
        limit = self._rules.close_timeout
        close, resource = entry.made_by.close, entry.resource
        task = spawn(lambda: close(resource), f"{entry.name}.closing", self._rules.time())
        await outlast((task,), limit)
        if not task.done():
            task.cancel()
            await outlast((task,), limit)
            if task.done() and not task.cancelled():
                task.exception()  # looked at
            return f"it took longer than {limit:g} s"
        if task.cancelled():
            return _CANCELLED
        error = task.exception()
        return "" if error is None else in_words(error)

    async def wait_for_users(
        self, entries: Callable[[], Iterable[Entry]], work: Callable[[], list[asyncio.Task[Entry]]]
    ) -> None:
        """Wait until nothing is used or being made, but not longer than `close_timeout`.

        Args:
            entries: Finds what may be in use.
            work: Finds what is being made.
        """
        end = self._loop.time() + self._rules.close_timeout
        while (left := end - self._loop.time()) > 0:
            self._came_back = self._loop.create_future()
            waiting: list[asyncio.Future[Any]] = [*work()]
            if any(entry.leases for entry in entries()):
                waiting.append(self._came_back)
            if not waiting:
                break
            try:
                await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:  # the loop is ending: no time is left
                break
        self._came_back = None

    async def close_in_order(self, entries: Iterable[Entry]) -> None:
        """Close *entries* one after the other, whether they are used or not; never raises."""
        self._in_order = True
        for entry in entries:
            if entry.leases:
                logger.warning("resource %r is closed while %d use it", entry.name, entry.leases)
            self.retire(entry)
            while not entry.is_closed:
                self._start(entry)
                if entry.closing is not None:
                    await outlast((entry.closing,))
        self._in_order = False  # what comes late is closed as it comes

    def abandon(self, entries: Iterable[Entry]) -> None:
        """Let go of *entries* without the loop, which is closed or stands still."""
        for entry in entries:
            logger.warning("resource %r was left open by an event loop that is gone", entry.name)
            self._figures(entry.name).closed += 1
            entry.is_retired = entry.is_closed = True
            _terminate(entry)
        self._retired.clear()


_CANCELLED: Final = "it was cancelled"


def _terminate(entry: Entry) -> None:
    try:
        entry.made_by.terminate(entry.resource)
    except Exception as error:  # noqa: BLE001 (nothing more can be done)
        logger.debug("terminating resource %r: %s", entry.name, in_words(error))


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
