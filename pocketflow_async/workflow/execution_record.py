"""What an execution has recorded, and tells of once that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from pocketflow_async.offloading import returned
from pocketflow_async.workflow.recording import Event, Recording


class ExecutionRecord:
    """Publishes the events of one execution, each after it was kept with what it tells of.

    Args:
        recording: Keeps the record.
        publish: Publishes an event.
        waits: Whether the recording waits for something, such as a disk.

    Attributes:
        is_broken: Whether something could not be kept: then nothing can any more.
    """

    def __init__(
        self, recording: Recording, publish: Callable[[Event], Awaitable[None]], *, waits: bool
    ) -> None:
        self.is_broken = False
        self._recording = recording
        self._publish = publish
        self._waits = waits
        self._unkept: list[Event] = []
        self._unpublished: list[Event] = []

    async def note(self, noting: Coroutine[Any, Any, None], events: Sequence[Event]) -> None:
        """Have it kept with what is kept next."""
        await noting
        self._unkept += events

    async def flush(self) -> None:
        """Have all kept that was noted, and publish it."""
        if self._unkept:
            await self.keep(self._recording.flush(), ())

    async def keep(self, writing: Coroutine[Any, Any, None], events: Sequence[Event]) -> None:
        """Have it kept, with all that was noted, to the end even when cancelled; publish it."""
        self._unkept += events
        try:
            if self._waits:
                await self._written(asyncio.ensure_future(writing))
            else:
                await writing
                self._kept()
        except Exception:
            self.is_broken = True
            raise
        while self._unpublished:
            await self._publish(self._unpublished.pop(0))

    async def _written(self, task: asyncio.Task[None]) -> None:
        # A write that is cancelled may have been done or not: what comes next has to know.
        try:
            await returned(task)
        finally:
            if not task.cancelled() and task.exception() is None:
                self._kept()

    def _kept(self) -> None:
        self._unpublished += self._unkept
        self._unkept.clear()
