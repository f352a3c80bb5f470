"""What one process knows of an emergency state that all share, and how it changes that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

from pocketflow_async.clock import clock
from pocketflow_async.infrastructure.emergency_listeners import Listener, Listeners
from pocketflow_async.infrastructure.emergency_states import (
    EmergencyEvent,
    EmergencyHalted,
    EmergencyState,
    event_between,
    plain,
    state_of,
)
from pocketflow_async.infrastructure.events.stamp import timestamp, uuid7
from pocketflow_async.infrastructure.store.model import EmergencyChange, EmergencyRow, Store

logger = logging.getLogger(__name__)

CHANNEL: Final = "workflow_events"
_QUIET: Final = EmergencyRow()


class Bus(Protocol):
    """Where changes are published."""

    async def publish(self, channel: str, event: dict[str, Any]) -> Any:
        """Publish one."""


class SharedState:
    """The row of one controller.

    Args:
        controller_id: Whose row it is.
        store: Where it is.
        bus: Where changes by this process are published.
        now: Returns seconds since the epoch.
        listener_seconds: How long a listener may take.
        poll_seconds: Time between two looks, while there are listeners.

    Attributes:
        limits: What this process knows of risk limits; stored with each change.
        listeners: Who is told.
    """

    def __init__(
        self,
        controller_id: str,
        store: Store,
        bus: Bus | None,
        now: Callable[[], float],
        listener_seconds: float,
        poll_seconds: float,
    ) -> None:
        self.limits: dict[str, Mapping[str, Any]] = {}
        self.listeners = Listeners(listener_seconds)
        self._id = controller_id
        self._store = store
        self._bus = bus
        self._now = now
        self._poll_seconds = poll_seconds
        self._row = _QUIET  # what the store has last said
        self._told = _QUIET  # what the listeners know
        self._owed: list[EmergencyChange] = []  # holds here already, and is to be stored
        self._polling: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_stored(self) -> bool:
        """Return whether nothing is known here that the store has not been told."""
        return not self._owed

    def at(self) -> str:
        """Return the time as it is stored."""
        return timestamp(self._now())

    def known(self) -> EmergencyRow:
        """Return what the store has last said, and what it is still to be told."""
        return _after(self._owed, self._row)

    def refuse(
        self, permits: Callable[[EmergencyState], bool], cause: Exception | None = None
    ) -> None:
        """Raise unless what is known *permits* it.

        Raises:
            EmergencyHalted: It does not.
        """
        row = self.known()
        if not permits(state_of(row)):
            raise EmergencyHalted(state_of(row), row.reason) from cause

    async def ask(
        self, permits: Callable[[EmergencyState], bool], *, lenient: bool = False
    ) -> None:
        """Raise unless the state that all share *permits* it.

        Args:
            permits: Decides by the state.
            lenient: Go by what is known if the store cannot be read.

        Raises:
            EmergencyHalted: It does not.
            StoreError: The state cannot be read.
        """
        trouble: Exception | None = None
        try:
            await self.refresh()
        except Exception as error:  # noqa: BLE001 (what is known decides first)
            trouble = error
        self.refuse(permits, trouble)
        if trouble is not None:
            if not lenient:
                raise trouble
            logger.warning("the emergency state cannot be read (%s); going by the last", trouble)

    async def refresh(self) -> None:
        """Read the row, and store what is owed."""
        self._start_polling()
        if self._owed:
            await self._change(lambda row: row)
        else:
            self._learn(await self._store.emergency(self._id))

    async def obey(self, change: EmergencyChange) -> None:
        """Let *change* hold here from now on, whatever happens, and store it."""
        self._start_polling()
        self._owed.append(change)
        try:
            await self._change(lambda row: row)
        except BaseException as error:
            if self._owed:
                state = state_of(self.known())
                logger.critical("%s is %s, which is not stored yet: %r", self._id, state, error)
            self._tell()
            raise
        await asyncio.sleep(0)  # listeners that wait for nothing have been told then

    async def change(self, change: EmergencyChange) -> None:
        """Store *change*; it holds when it is stored."""
        await self._change(change)
        await asyncio.sleep(0)

    async def _change(self, last: EmergencyChange) -> None:
        owed, known = tuple(self._owed), dict(self.limits)  # the store has a thread of its own

        def change(row: EmergencyRow) -> EmergencyRow | None:
            now = _after(owed, row)
            new = last(now) or now
            limits = {**new.limits, **known}
            return None if new is row and limits == row.limits else replace(new, limits=limits)

        before, after = await self._store.change_emergency(self._id, change)
        self._owed = [one for one in self._owed if one not in owed]
        self._learn(after)
        event = event_between(self._id, before, after)
        if self._bus is not None and event is not None:
            bus, message = self._bus, self._message(event)
            self.listeners.spawn(self.listeners.limited(bus, lambda: bus.publish(CHANNEL, message)))

    def _learn(self, row: EmergencyRow) -> None:
        if row.version > self._row.version:  # an answer may come after one that is newer
            self._row = row
        self._tell()

    def _tell(self) -> None:
        now, before = self.known(), self._told
        self._told = now
        event = None if now is before else event_between(self._id, before, now)
        if event is None:
            return
        level = logging.WARNING if event.new_state.can_trade() else logging.CRITICAL
        old, new = event.previous_state, event.new_state
        logger.log(level, "emergency %s: %s -> %s (%s)", self._id, old, new, event.reason)
        self.listeners.tell(event)

    def _message(self, event: EmergencyEvent) -> dict[str, Any]:
        return {
            "type": "emergency_state_changed",
            "controller_id": event.controller_id,
            "previous_state": str(event.previous_state),
            "new_state": str(event.new_state),
            "reason": event.reason,
            "timestamp": self.at(),
            "metadata": plain(event.metadata),
            "event_id": uuid7(self._now),
            "schema_version": 1,
        }

    # --- changes by others ------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> None:
        """Tell *listener* of each change by any process."""
        self.listeners.add(listener)
        self._start_polling()

    def unsubscribe(self, listener: Listener) -> None:
        """Tell *listener* no more."""
        self.listeners.remove(listener)
        if not self.listeners and self._polling is not None:
            self._polling.cancel()

    async def close(self) -> None:
        """Store what is owed, look for changes no more, and end what the listeners still do."""
        self._closed = True
        if self._owed:
            with suppress(Exception):  # it has been logged
                await self.refresh()
        polling, self._polling = self._polling, None
        if polling is not None and not polling.done():
            polling.cancel()
            await asyncio.wait([polling])
        await self.listeners.close()

    def _start_polling(self) -> None:
        if not self.listeners or self._closed:
            return
        if self._polling is None or self._polling.done() or self._polling.cancelling():
            with suppress(RuntimeError):  # no loop is running yet: the first question begins
                loop = asyncio.get_running_loop()
                self._polling = loop.create_task(self._poll())

    async def _poll(self) -> None:
        failing = False
        while True:
            try:
                await self.refresh()
                failing = False
            except Exception as error:  # noqa: BLE001 (the next look may be better)
                if not failing:
                    logger.warning("the emergency state cannot be read: %s", error)
                failing = True
            await clock().asleep(self._poll_seconds)


def _after(changes: Iterable[EmergencyChange], row: EmergencyRow) -> EmergencyRow:
    for change in changes:
        row = change(row) or row
    return row
