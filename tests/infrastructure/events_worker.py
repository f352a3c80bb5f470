"""A member of a consumer group in a process of its own, for tests that kill it.

Usage: events_worker.py URL PREFIX GROUP LOG [die]: writes a line per event into LOG; with `die` it
kills itself in the middle of its third event.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from pocketflow_async.infrastructure.events import RedisStreamsBus


async def main(url: str, prefix: str, group: str, log: str, *how: str) -> None:
    """Listen until we are killed."""
    seen = 0

    async def handle(event):
        nonlocal seen
        seen += 1
        if "die" in how and seen == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "a") as file:
            file.write(f"{event['n']}\n")

    bus = RedisStreamsBus(url, prefix=prefix, group=group, idle=0.3, deliveries=50)
    await bus.subscribe("workflow_events", handle)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
