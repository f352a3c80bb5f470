"""Equal time limits for very many short pieces of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Deadlines:
    """One timer for all items: they have equal times, so the oldest is always the next to be late.

    `asyncio.timeout` for each would cost as much as all the rest of a trivial item.
    """

    def __init__(self, function: Callable[[Any], Awaitable[Any]], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._live: dict[asyncio.Task[Any], float] = {}  # in the order of their deadlines
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Deadlines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def call(self, item: Any) -> Any:
        """Do *item*, or cancel it when its time is over.

        Raises:
            TimeoutError: It was.
        """
        task = asyncio.current_task()
        assert task is not None
        self._live[task] = due = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._ring)
        try:
            return await self._function(item)
        except asyncio.CancelledError as error:
            if task in self._late and task.cancelling() == 1:
                raise TimeoutError(f"the item took longer than {self._seconds:g} s") from error
            raise
        finally:
            self._live.pop(task, None)
            if task in self._late:
                self._late.discard(task)
                task.uncancel()

    def _ring(self) -> None:
        """Cancel what is late; set the timer for the next."""
        self._timer = None
        now = self._loop.time()
        for task, due in list(self._live.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._ring)
                break
            del self._live[task]
            self._late.add(task)
            task.cancel()
