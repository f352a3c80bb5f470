"""Places in an execution where its process is killed, or stopped, by itself and at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from crash.effects import Effects

NODES = ("price", "depth", "check", "buy", "hedge", "tell")
ACTIONS = ("buy", "hedge", "tell")
FLAKY = "depth"
"""Its first attempt of all fails, so that it is tried again."""

IN_NODES = (
    "intent:before",
    "intent:after",
    "effect:before",
    "effect:after",
    "result:before",
    "result:after",
    "told:before",
    "told:after",
)
"""Around what is stored before, the effect, what is stored after, and the event that is told."""
AT_ENDS = (
    "row:before",
    "row:after",
    "sleep:in",
    "end:before",
    "end:after",
    "end told:before",
    "end told:after",
)
"""Around the row of the run, in the wait for another attempt, and around the end of the run."""
IN_RECOVERY = ("claim:before", "claim:after", "resumed:before", "resumed:after")
IN_HALT = ("halt:before", "halt:after")


class Trap:
    """Kills this process (SIGKILL), or stops it (SIGSTOP), where it is told to.

    Args:
        point: Where; empty: nowhere.
        node: In which node, where the point is in one; None: in any.
        stops: Whether it only stops.
        effects: Told of a stop.
    """

    def __init__(self, point: str, node: str | None, stops: bool, effects: Effects) -> None:
        self.point = point
        self.node = node
        self._stops = stops
        self._effects = effects
        self._sprung = False

    def at(self, point: str, node: str | None = None) -> None:
        """Be at a place."""
        if self._sprung or point != self.point or (self.node and node and node != self.node):
            return
        self._sprung = True
        if self._stops:
            self._effects.say("stopped", point=point, node=node)
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.kill(os.getpid(), signal.SIGKILL)


class TrapStore:
    """A store that has traps around what an execution writes; else it is the one in it."""

    def __init__(self, store: Any, trap: Trap, effects: Effects) -> None:
        self._store = store
        self._trap = trap
        self._effects = effects

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def __aenter__(self) -> TrapStore:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()

    async def create_run(self, run: Any, **more: Any) -> Any:
        """Keep a new run, with its first intent; who is told of that says so."""
        points = [("row", None), *_points_of(more)]
        self._at(points, "before")
        kept = await self._store.create_run(run, **more)
        self._effects.say("begun", run=run.run_id)
        self._at(points, "after")
        return kept

    async def claim(self, run_id: str, *args: Any) -> Any:
        """Take a run."""
        self._trap.at("claim:before")
        taken = await self._store.claim(run_id, *args)
        if taken is not None:
            self._trap.at("claim:after")
        return taken

    async def append(self, run_id: str, owner: str, fence: int, **more: Any) -> None:
        """Add to a run; what is committed is said, before anything else can happen."""
        points = _points_of(more)
        self._at(points, "before")
        await self._store.append(run_id, owner, fence, **more)
        for point, node in points:
            if point == "result":
                self._effects.say("committed", run=run_id, node=node)
            if point == "end":
                self._effects.say("ended", run=run_id, status=more["status"])
        self._at(points, "after")

    async def change_emergency(self, controller_id: str, change: Any) -> Any:
        """Change the emergency state."""
        self._trap.at("halt:before")
        answer = await self._store.change_emergency(controller_id, change)
        self._trap.at("halt:after")
        return answer

    def _at(self, points: list[tuple[str, str | None]], when: str) -> None:
        for point, node in points:
            self._trap.at(f"{point}:{when}", node)


class TrapBus:
    """An event bus that has traps around what is published; else it is the one in it."""

    def __init__(self, bus: Any, trap: Trap) -> None:
        self._bus = bus
        self._trap = trap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, channel: str, event: Mapping[str, Any]) -> None:
        """Publish an event."""
        kind, node = event["type"], event.get("node_id")
        ends = kind in ("execution_completed", "execution_halted", "execution_failed")
        point = "end told" if ends else "told" if kind == "node_completed" else ""
        self._trap.at(f"{point}:before", node)
        await self._bus.publish(channel, event)
        self._trap.at(f"{point}:after", node)


def _points_of(written: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return where a transaction is, which may be in several places at once."""
    names = {"started": "intent", "completed": "result"}
    found: list[tuple[str, str | None]] = [
        (names.get(entry.phase, ""), entry.node_id) for entry in written.get("entries", ())
    ]
    if status := written.get("status"):
        found.append(("resumed" if status == "running" else "end", None))
    return found


def handlers(effects: Effects, trap: Trap, later: Callable[[], None], seconds: float) -> Any:
    """Return what the blocks do: a line in the world, with traps before and after.

    Args:
        effects: The world.
        trap: The trap.
        later: Called when the flaky node has failed, and waits for its next attempt.
        seconds: How long each takes.
    """

    async def work(node: dict[str, Any], inputs: dict[str, Any], context: Any) -> dict[str, Any]:
        name = node["id"]
        trap.at("effect:before", name)
        facts = {"run": context.execution_id, "node": name, "attempt": context.attempt}
        if name == FLAKY and context.attempt == 1:
            effects.say("failed", **facts)
            later()
            raise ConnectionError("the first attempt always fails")
        effects.say("effect", key=context.idempotency_key, **facts)
        trap.at("effect:after", name)
        await asyncio.sleep(seconds)
        return {"out": [name, sorted(json.dumps(value) for value in inputs.values())]}

    return {"providers": work, "conditions": work, "actions": work}


WORKFLOW = {
    "blocks": [
        {"id": "price", "category": "providers", "type": "venue", "outputs": ["out"]},
        {"id": "depth", "category": "providers", "type": "book", "outputs": ["out"]},
        {
            "id": "check",
            "category": "conditions",
            "type": "gauge",
            "inputs": {"price": "price.out", "depth": "depth.out"},
            "outputs": ["out"],
        },
        *(
            {
                "id": name,
                "category": "actions",
                "type": "order",
                "inputs": {"signal": "check.out"},
                "outputs": ["out"],
            }
            for name in ("buy", "hedge")
        ),
        {
            "id": "tell",
            "category": "actions",
            "type": "message",
            "inputs": {"order": "buy.out", "other": "hedge.out"},
            "outputs": ["out"],
        },
    ]
}
"""Two providers, a condition on both, two orders, and a message about them."""
