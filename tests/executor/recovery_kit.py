"""Executions whose process dies, as far as that can be done within one: see crash/ for the rest."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.workflow.recovery import recover
from tests.executor.executor_kit import block, executor, infrastructure, provider

LEASE = 30.0


class Time:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


class Killed(BaseException):
    """Stands for the end of the process: nobody catches it."""


class World:
    """Does what all blocks do, notes it, and dies in one of them."""

    def __init__(self):
        self.done = []
        self.contexts = []
        self.dies_in = None
        self.dies_after = None

    async def __call__(self, node, inputs, context):
        name = node["id"]
        if name == self.dies_in:
            self.dies_in = None
            raise Killed
        self.done.append(name)
        self.contexts.append(context)
        if name == self.dies_after:
            self.dies_after = None
            raise Killed
        return {"out": [name, context.attempt]}

    @property
    def handlers(self):
        return dict.fromkeys(("providers", "conditions", "actions", "triggers", "risk"), self)

    def count(self, name):
        return self.done.count(name)


def workflow():
    """Return two prices, what is concluded from them, and two orders, one after the other."""
    return {
        "blocks": [
            provider("p", outputs=["out"]),
            provider("q", outputs=["out"]),
            block("c", "conditions", "gauge", {"p": "p.out", "q": "q.out"}, ["out"]),
            block("a", "actions", "order", {"signal": "c.out"}, ["out"]),
            block("b", "actions", "order", {"signal": "c.out", "first": "a.out"}, ["out"]),
        ]
    }


class Place:
    """A store that outlives processes, its time, and the world."""

    def __init__(self):
        self.time = Time()
        self.store = MemoryStore(clock=self.time)
        self.world = World()

    @asynccontextmanager
    async def process(self):
        """A process: an infrastructure of its own on the same store."""
        async with infrastructure(self.store) as infra:
            yield infra

    async def dies(self, *, during=None, after=None, workflow_id="w"):
        """Have a process execute the workflow, and die; return the id of the execution."""
        self.world.dies_in, self.world.dies_after = during, after
        async with self.process() as infra:
            made = executor(infra, workflow(), self.world.handlers, workflow_id)
            with pytest.raises(Killed):
                await made.execute()
            return made.execution_id

    def later(self, seconds=LEASE + 1):
        """Let the leases of those who died run out."""
        self.time.now += seconds

    async def recovered(self, **options):
        """Have a new process recover."""
        async with self.process() as infra:
            return await recover(infra, handlers=self.world.handlers, **options)
