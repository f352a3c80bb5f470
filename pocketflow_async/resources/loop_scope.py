"""The resources that are open on one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

from pocketflow_async.resources.closing import Closing
from pocketflow_async.resources.current import entered
from pocketflow_async.resources.entry import Entry, Figures
from pocketflow_async.resources.errors import (
    ResourceCreationError,
    ResourceNotFoundError,
    ResourceUnavailableError,
    in_words,
)
from pocketflow_async.resources.flights import Flight, inside, outlast, spawn
from pocketflow_async.resources.health import HealthStatus
from pocketflow_async.resources.registration import Registration
from pocketflow_async.resources.rules import Rules

logger = logging.getLogger(__name__)


class LoopScope:
    """Opens resources on one event loop, and closes them when they are not wanted or it ends.

    All methods are called on that loop, but for `release` and `abandon`.

    Args:
        rules: What holds for it.

    Attributes:
        entries: What is open and handed out, by name.
        figures: What was counted, by name.
        entered: How many `async with` blocks of the registry are open here.
        is_over: Whether it opens nothing more.
        is_loop_ending: Whether that is because its loop ends.
    """

    def __init__(self, rules: Rules) -> None:
        self.loop = asyncio.get_running_loop()
        self.entries: dict[str, Entry] = {}
        self.figures: defaultdict[str, Figures] = defaultdict(Figures)
        self.entered = 0
        self.is_over = False
        self.is_loop_ending = False
        self._rules = rules
        self._closing = Closing(self.loop, rules, self.figures.__getitem__)
        self.release = self._closing.release
        self._flights: dict[Registration, Flight[Entry]] = {}
        self._parts: dict[Flight[Any], list[Entry]] = {}  # of what is being made
        self._strays: set[asyncio.Task[HealthStatus]] = set()  # checks that took too long
        self._made = 0
        self._closer: asyncio.Task[None] | None = None
        self._sentinel = self._until_the_loop_ends()

    async def open(self) -> None:
        """Have the loop close what is open before it ends, as it does with async generators."""
        await anext(self._sentinel)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not self.is_over:
                self.is_loop_ending = True
                await self.close()

    # Finding: what is open, well, and made as it is registered now.

    async def find(self, name: str) -> Entry:
        """Return the open resource *name*: made, checked or replaced now if need be.

        Raises:
            ResourceNotFoundError: Nothing makes it, or it has failed too often.
            ResourceCreationError: It was cancelled, or resources need each other.
            Exception: What its factory raises.
        """
        entry = self.entries.get(name)
        if entry is None or not self._is_current(entry) or self._is_due(entry):
            entry = await self._found(name)
        self.figures[name].accessed += 1
        maker = inside()
        if maker is not None and maker in self._parts:
            self._parts[maker].append(entry)
            entry.needed_by += 1
        return entry

    def _is_current(self, entry: Entry) -> bool:
        made_by = entry.made_by
        return not entry.is_broken and self._rules.registered.get(made_by.name) is made_by

    def _is_due(self, entry: Entry) -> bool:
        if not entry.made_by.has_check:
            return False
        if entry.check is not None:
            return True
        rules = self._rules
        return rules.time().monotonic() - entry.checked_at >= rules.health_interval

    async def _found(self, name: str) -> Entry:
        while True:
            made_by = self._rules.registered.get(name)
            if made_by is None:
                raise ResourceNotFoundError(name, self._rules.registered)
            if self.is_over:
                raise ScopeIsOverError(name)
            entry = self.entries.get(name)
            if entry is None:
                entry = await self._creation(made_by).join()
            elif not self._is_current(entry):
                self.figures[name].recreations += 1
                self._retire(entry)
                continue
            elif self._is_due(entry):
                await self.check(entry)
            if not entry.is_retired and not entry.is_broken:
                return entry

    def _retire(self, entry: Entry) -> None:
        if self.entries.get(entry.name) is entry:
            del self.entries[entry.name]
        self._closing.retire(entry)

    # Making.

    def _creation(self, made_by: Registration) -> Flight[Entry]:
        flight = self._flights.get(made_by)
        if flight is None:
            clock = self._rules.time()
            left = made_by.breaker.refuses(clock.monotonic())
            if left is not None:
                breaker = made_by.breaker
                last = breaker.last_error
                raise ResourceUnavailableError(made_by.name, left, breaker.failures, last)

            async def make(flight: Flight[Entry]) -> Entry:
                with entered(self._rules.source):
                    return await self._create(made_by, flight)

            def ended(flight: Flight[Entry]) -> None:
                self._made_or_not(made_by, flight)

            flight = Flight(made_by.name, "create", clock, make, ended)
            self._flights[made_by] = flight
            self._parts[flight] = []
        return flight

    def _made_or_not(self, made_by: Registration, flight: Flight[Entry]) -> None:
        if self._flights.get(made_by) is flight:
            del self._flights[made_by]
        task = flight.task
        if not task.done():
            return
        if task.cancelled() or not isinstance(task.exception(), Exception | None):
            made_by.breaker.gave_up()  # that says nothing about the resource
        self._closing.let_go(self._parts.pop(flight, []))

    async def _create(self, made_by: Registration, flight: Flight[Entry]) -> Entry:
        now = self._rules.time().monotonic
        began = now()
        try:
            resource = await made_by.create()
        except Exception as error:
            made_by.breaker.failed(now(), error)
            logger.warning("resource %r could not be made: %s", made_by.name, in_words(error))
            raise
        made_by.breaker.succeeded()
        self._made += 1
        entry = Entry(made_by, resource, self._made, self._parts.pop(flight), now())
        self.figures[made_by.name].created += 1
        logger.info("resource %r made in %.3f s", made_by.name, now() - began)
        is_wanted = self._rules.registered.get(made_by.name) is made_by
        if flight.is_left or self.is_over or not is_wanted:
            self._closing.retire(entry)
        else:
            self.entries[made_by.name] = entry
        return entry

    # Checking.

    async def check(self, entry: Entry) -> HealthStatus:
        """Return how *entry* is, asked now, or by a check that is under way."""
        if entry.check is None:

            async def check(_: Flight[HealthStatus]) -> HealthStatus:
                with entered(self._rules.source):
                    return await self._check(entry)

            def ended(flight: Flight[HealthStatus]) -> None:
                if entry.check is flight:
                    entry.check = None

            entry.check = Flight(entry.name, "check", self._rules.time(), check, ended)
        return await entry.check.join()

    async def _check(self, entry: Entry) -> HealthStatus:
        status = await self._status(entry)
        entry.checked_at = self._rules.time().monotonic()
        if not status.is_healthy:
            entry.is_broken = True
            self.figures[entry.name].health_failures += 1
            logger.warning("resource %r is not well: %s", entry.name, status.message)
        return status

    async def _status(self, entry: Entry) -> HealthStatus:
        # Not `asyncio.timeout`: a check in a thread cannot be cancelled, and may never come back.
        limit = self._rules.health_timeout
        task = self.loop.create_task(entry.made_by.check(entry.resource))
        try:
            await asyncio.wait((task,), timeout=limit)
        finally:
            if not task.done():
                task.cancel()
                self._strays.add(task)
                task.add_done_callback(self._strays.discard)
        if task.done() and not task.cancelled():
            return task.result()
        return HealthStatus.unhealthy(f"Health check took longer than {limit:g} s")

    # Closing.

    def all_open(self) -> list[Entry]:
        """Return all that is open, also what is not handed out any more; the last made first."""
        found = {*self.entries.values(), *self._closing.retired}
        return sorted(found, key=lambda entry: entry.number, reverse=True)

    async def close(self) -> None:
        """Close all that is open, the last made first; a cancellation is raised in the end.

        Who uses a resource has `close_timeout` seconds to give it back; when the loop ends, none.
        """
        told: asyncio.CancelledError | None = None
        while self._closer is None or not self._closer.done():
            if self._closer is None:
                self._closer = spawn(self._close_all, "resources.close", self._rules.time())
            told = await outlast((self._closer,)) or told
            if self._closer.cancelled():  # as a loop does with all tasks, before it had begun
                self._closer = None
        self._closer.result()
        if told is not None:
            raise told

    async def _close_all(self) -> None:
        if not self.is_loop_ending:
            await self._closing.wait_for_users(self.all_open, self._being_made)
        self.is_over = True
        under_way = self._being_made()
        for task in under_way:
            task.cancel()
        await outlast(under_way, self._rules.close_timeout)
        await self._closing.close_in_order(self.all_open())
        self.entries.clear()
        await outlast(list(self._strays), self._rules.close_timeout)
        if not self.is_loop_ending:
            await self._sentinel.aclose()

    def _being_made(self) -> list[asyncio.Task[Entry]]:
        return [flight.task for flight in self._flights.values()]

    def abandon(self) -> None:
        """Let go of all that is open, without the loop, which is closed or stands still."""
        self.is_over = True
        self._closing.abandon(self.all_open())
        self.entries.clear()


class ScopeIsOverError(ResourceCreationError):
    """Raised when a resource is asked for on an event loop whose resources are closed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "the event loop is ending")
