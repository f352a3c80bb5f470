"""What the processes do that are killed: one job each, said as JSON.

python -m crash.worker '{"job": "execute", …}'
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crash.effects import Effects
from crash.traps import WORKFLOW, Trap, TrapBus, TrapStore, handlers
from pocketflow_async.infrastructure.config import Config
from pocketflow_async.infrastructure.emergency import EmergencyHalted
from pocketflow_async.infrastructure.events.memory import MemoryBus
from pocketflow_async.infrastructure.events.redis_streams import RedisStreamsBus
from pocketflow_async.infrastructure.factory import Infrastructure
from pocketflow_async.infrastructure.store.errors import LeaseLost, StoreError
from pocketflow_async.infrastructure.store.opening import open_store
from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor
from pocketflow_async.workflow.execution_journal import ExecutionJournal
from pocketflow_async.workflow.recovery import NOT_DONE, InDoubt, recover, resume_execution

SETTINGS: dict[str, Any] = {
    "env": "production",
    "logging": {"configure": False},
    "resilience": {"retry_min_wait": 0.02, "retry_max_wait": 0.04},
}
LONGEST = 60.0
"""Seconds that one recovery may take."""


class Executor(EnhancedWorkflowExecutor):
    """One whose lease is short."""

    lease = 30.0

    async def _recording(self, execution: Any) -> ExecutionJournal:
        return ExecutionJournal.on(self.infra, self.lease)


class Job:
    """One process at work.

    Args:
        said: What it is to do: `job`, `store`, `effects`, `redis`, `prefix`, `lease`, `point`,
            `node`, `stops`, `seconds`, `asks`.
    """

    def __init__(self, **said: Any) -> None:
        self.said = said
        self.effects = Effects(Path(said["effects"]))
        self.trap = Trap(
            said.get("point", ""), said.get("node"), bool(said.get("stops")), self.effects
        )
        self.lease = float(said.get("lease", 30.0))
        self.handlers = handlers(
            self.effects, self.trap, self._later, float(said.get("seconds", 0.0))
        )

    async def do(self) -> Any:
        """Do the job; return what it has found."""
        async with AsyncExitStack() as stack:
            store = open_store(self.said["store"])
            await stack.enter_async_context(store)
            bus: Any = MemoryBus()
            if redis := self.said.get("redis"):
                bus = RedisStreamsBus(redis, prefix=self.said["prefix"])
            await stack.enter_async_context(bus)
            self.infra = await Infrastructure.create(
                config=Config(**SETTINGS),
                store=TrapStore(store, self.trap, self.effects),  # type: ignore[arg-type]
                events=TrapBus(bus, self.trap),
            )
            stack.push_async_callback(self.infra.close)
            return await getattr(self, self.said["job"])()

    async def execute(self) -> Any:
        """Execute the workflow once."""
        executor = Executor(WORKFLOW, self.infra, "wf", handlers=self.handlers)
        executor.lease = self.lease
        try:
            return (await executor.execute())["status"]
        except (LeaseLost, EmergencyHalted, StoreError) as error:
            return type(error).__name__

    async def recover(self) -> Any:
        """Recover until nothing is left that could go on, and all of it has ended."""
        end = time.monotonic() + LONGEST
        found: dict[str, str] = {}
        while time.monotonic() < end:
            try:
                for one in await recover(
                    self.infra, handlers=self.handlers, reconcile=self._asked, lease=self.lease
                ):
                    found[one.execution_id] = f"{one.status} {type(one.error).__name__}"
                if self.said.get("once") or not await self.infra.store.runs(status="running"):
                    return found
            except StoreError as error:  # the server is away
                found["store"] = str(error)
            await asyncio.sleep(0.05)
        return {**found, "late": "there are runs left"}

    async def settle(self) -> Any:
        """Let all executions go on that wait for somebody who knows."""
        waiting = await self.infra.store.runs(status="needs_reconciliation")
        for row in waiting:
            await resume_execution(
                self.infra,
                row.run_id,
                handlers=self.handlers,
                reconcile=lambda key, doubt: self._known(key),
                lease=self.lease,
            )
        return len(waiting)

    async def go_on(self) -> Any:
        """Let all executions go on that were halted while somebody waited for them."""
        waiting = await self.infra.store.runs(status="halted")
        for row in waiting:
            await resume_execution(
                self.infra, row.run_id, handlers=self.handlers, reconcile=self._asked
            )
        return len(waiting)

    async def halt(self) -> Any:
        """Halt, and say so when it was acknowledged."""
        await self.infra.emergency.halt("the harness says so")
        self.effects.say("halted")

    async def resume(self) -> Any:
        """End the halt."""
        await self.infra.emergency.reset(operator="the harness")

    async def examine(self) -> Any:
        """Return all that the store has."""
        store = self.infra.store
        rows = await store.runs(limit=10_000)
        runs = [
            {
                **asdict(row),
                "entries": [
                    {**asdict(entry), "output": None} for entry in await store.entries(row.run_id)
                ],
                "events": [json.loads(event.data) for event in await store.events(row.run_id)],
            }
            for row in rows
        ]
        untold = await store.keys("pocketflow:untold:")
        return {"state": str(self.infra.emergency.state), "runs": runs, "untold": untold}

    async def _asked(self, key: str, doubt: InDoubt) -> Any:
        return self._known(key) if self.said.get("asks", True) else None

    def _known(self, key: str) -> Any:
        """Say what the world knows of an idempotency key."""
        done = self.effects.of("effect", key=key)
        return {"out": ["reconciled"]} if done else NOT_DONE

    def _later(self) -> None:
        if self.trap.point == "sleep:in":
            asyncio.get_running_loop().call_later(
                0.01, lambda: os.kill(os.getpid(), signal.SIGKILL)
            )


def main(said: dict[str, Any]) -> None:
    """Do a job, and write what it found where it is told to, in one piece."""
    logging.disable(logging.CRITICAL if not said.get("loud") else logging.NOTSET)
    found = asyncio.run(Job(**said).do())
    if target := said.get("answer"):
        part = Path(f"{target}.part")
        part.write_text(json.dumps(found))
        part.rename(target)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
