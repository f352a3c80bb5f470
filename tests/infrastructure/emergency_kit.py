"""A store that fails on demand, listeners that remember, and a controller to try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pocketflow_async.infrastructure.emergency import EmergencyController, EmergencyEvent
from pocketflow_async.infrastructure.store import EmergencyRow, MemoryStore, StoreUnavailable


class Shaky(MemoryStore):
    """A store whose emergency rows can be made to fail, to hang, or to answer late."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_reads = False
        self.fails_writes = False
        self.hangs = False
        self.writes = 0

    async def emergency(self, controller_id: str) -> EmergencyRow:
        if self.fails_reads:
            raise StoreUnavailable("of the test", "is away")
        return await super().emergency(controller_id)

    async def change_emergency(self, controller_id: str, change: Any) -> Any:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails_writes:
            raise StoreUnavailable("of the test", "is full")
        self.writes += 1
        return await super().change_emergency(controller_id, change)


class Heard:
    """Remembers what it is told of, and lets others wait for it."""

    def __init__(self) -> None:
        self.events: list[EmergencyEvent] = []
        self._news = asyncio.Event()

    async def __call__(self, event: EmergencyEvent) -> None:
        self.events.append(event)
        self._news.set()

    @property
    def changes(self) -> list[tuple[str, str, str | None]]:
        return [(str(e.previous_state), str(e.new_state), e.reason) for e in self.events]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.events) < count:
                self._news.clear()
                await self._news.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0)


class Published:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def publish(self, channel: str, event: dict[str, Any]) -> None:
        self.events.append((channel, event))


def control(store: Any = None, **more: Any) -> EmergencyController:
    """Return a controller that looks for changes by others as often as it can."""
    known = {"poll_seconds": 0.0, "listener_seconds": 2.0, **more}
    return EmergencyController(store=MemoryStore() if store is None else store, **known)
