"""Handlers of events for tests, and ways to wait for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANNEL = "workflow_events"


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until *condition* is true; it is looked at again and again."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (conditions of other processes too)
            await asyncio.sleep(0.002)


class Heard:
    """A handler that keeps what it hears.

    Args:
        gate: What each call waits for; None: nothing.
    """

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.calls = 0
        self._gate = gate

    async def __call__(self, event: dict[str, Any]) -> None:
        self.calls += 1
        if self._gate is not None:
            await self._gate.wait()
        self.events.append(event)

    @property
    def numbers(self) -> list[int]:
        """The `n` of the events."""
        return [event["n"] for event in self.events]


def numbered(first: int, last: int) -> list[dict[str, Any]]:
    """Return events with `n` from *first* to *last*."""
    return [{"type": "tick", "n": n} for n in range(first, last + 1)]


def member(env: dict[str, str], *arguments: object) -> subprocess.Popen[bytes]:
    """Start a member of a consumer group, see `events_worker`; it says when it is ready."""
    script = Path(__file__).with_name("events_worker.py")
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
