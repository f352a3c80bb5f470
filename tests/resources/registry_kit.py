"""Resources that note what is done to them, and the wait for a condition."""

from __future__ import annotations

import asyncio

from pocketflow_async.resources import ResourceFactory

LONGEST = 10.0
"""Seconds after which a condition that does not come true has failed."""


class Thing:
    """A resource; it knows its loop and whether it is open."""

    def __init__(self, log, name):
        self.log = log
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.is_open = True

    async def close(self):
        self.log.append(f"close {self.name}")
        await asyncio.sleep(0)
        self.is_open = False


class Making(ResourceFactory):
    """Makes things called `name`, `name2` …, and keeps them all.

    Args:
        name: What they are called.
        log: What is done is noted there, too.
        seconds: How long it takes to make one.
        errors: Raised in turn before one is made.
    """

    def __init__(self, name="thing", log=None, seconds=0.0, errors=()):
        self.name = name
        self.log = [] if log is None else log
        self.seconds = seconds
        self.errors = list(errors)
        self.made = []
        self.begun = 0
        self.cancelled = 0
        self.gate = None

    async def create(self):
        self.begun += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.errors:
            raise self.errors.pop(0)
        number = len(self.made) + 1
        thing = Thing(self.log, self.name if number == 1 else f"{self.name}{number}")
        self.made.append(thing)
        return thing

    @property
    def open(self):
        """What is open."""
        return [thing for thing in self.made if thing.is_open]


async def until(condition):
    """Wait until *condition* is true."""
    async with asyncio.timeout(LONGEST):
        while not condition():  # noqa: ASYNC110 (it may be anything, not an event)
            await asyncio.sleep(0.001)
