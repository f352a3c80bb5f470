"""Who sees to it that items of a batch are processed when no run comes for them any more."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final

from pocketflow_async.clock import clock
from pocketflow_async.workflow.patterns.batch_processor_late import Late

if TYPE_CHECKING:
    from pocketflow_async.workflow.patterns.batch_processor_work import BatchWork

logger = logging.getLogger("pocketflow_async.workflow")

_LEAST: Final = 1e-6
"""Seconds of the shortest sleep, so that time moves on whatever the rounding."""


class Guard:
    """A task that is there as long as items wait, or are at work, on one event loop.

    It processes what has become too old. When it is cancelled, as all tasks are when their loop
    ends, it waits for the runs that are at work, and then processes all that waits.

    Args:
        work: Whose items they are.
        late: With what it processes them.
    """

    def __init__(self, work: BatchWork, late: Late) -> None:
        self.work = work
        self.late = late
        self.runs = 0
        """How many runs of the loop are at work."""
        self._asked: list[asyncio.Future[list[Exception]]] = []
        self._is_closing = False
        self._nap: asyncio.Timeout | None = None
        self._until = -math.inf  # the moment at which it wakes by itself
        self._last_gone: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task; the work knows the guard by then."""
        self._task = asyncio.get_running_loop().create_task(
            self._watch(),
            name=f"{self.late.node_id} batch",
            context=self.late.variables.copy(),
        )

    async def leave(self) -> None:
        """Note that a run is at its end; wait for the task where there is nothing more to do."""
        if self.left():
            await self._ended()

    def left(self) -> bool:
        """Do as `leave` without waiting; return whether there is nothing more to do."""
        self.runs -= 1
        last = self._last_gone
        if not self.runs and last is not None and not last.done():
            last.set_result(None)
        is_over = self.work.is_over(self)
        if is_over or self.work.due_at() < self._until:
            self.wake()
        return is_over

    async def flush(self, *, closing: bool = False) -> list[Exception]:
        """Process all that waits; return the errors of what could not be processed.

        Args:
            closing: Whether to be over then, whatever is left, unless runs are at work.
        """
        asked: asyncio.Future[list[Exception]] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._is_closing = self._is_closing or closing
        self.wake()
        errors = await asked
        if self.work.is_over(self):
            self.wake()
            await self._ended()
        return errors

    async def _ended(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _watch(self) -> None:
        try:
            while self._asked or not self.work.is_over(self):
                if self._asked:
                    await self._flush_as_asked()
                    continue
                pause = self.work.due_at() - clock().monotonic()
                if pause <= 0:
                    await self.work.flush_late(self.late)
                else:
                    await self._sleep(pause)
        except asyncio.CancelledError:
            self.work.forget(self)
            await self._end()
            raise

    async def _flush_as_asked(self) -> None:
        asked, self._asked = self._asked, []
        errors: list[Exception] = []
        try:
            errors = await self.work.flush_late(self.late, force=True)
        finally:
            for one in asked:
                if not one.done():
                    one.set_result(errors)
        if self._is_closing and not self.runs:
            self.work.forget(self)
        self._is_closing = False

    async def _sleep(self, seconds: float) -> None:
        """Sleep that long, or until woken."""
        self._until = clock().monotonic() + seconds
        try:
            async with asyncio.timeout(None) as self._nap:
                if seconds < math.inf:
                    await clock().asleep(max(seconds, _LEAST))
                else:
                    await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return  # woken: nothing else in there times out
        finally:
            self._nap = None
            self._until = -math.inf

    def wake(self) -> None:
        """Let it look again at what there is to do."""
        nap, self._nap = self._nap, None
        if nap is not None:
            nap.reschedule(-math.inf)

    async def _end(self) -> None:
        while self.runs:
            self._last_gone = asyncio.get_running_loop().create_future()
            await self._last_gone
        await self._flush_as_asked()
        if left := self.work.waiting:
            logger.error(
                "node %r: the event loop ends, and %d items could not be processed; they are kept "
                "for the next run",
                self.late.node_id,
                left,
            )
