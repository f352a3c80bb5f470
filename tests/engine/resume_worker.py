"""A program with a durable flow, which a test kills, stops, and starts again.

    python resume_worker.py run|resume STORE FOLDER [POINT]

Effects are lines in FOLDER/effects, appended and synced. POINT says where it kills itself with
SIGKILL: `effect:NAME` behind an effect; `before:N` or `after:N` around the N-th write to the store.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.infrastructure.checkpoints import (
    RUN_AGAIN,
    RunBusy,
    RunSuspended,
    ask,
    current_run,
)
from pocketflow_async.infrastructure.store import LeaseLost, SqliteStore

MODE, STORE, FOLDER = sys.argv[1:4]
POINT = sys.argv[4] if len(sys.argv) > 4 else ""
HERE = Path(FOLDER)
LEASE = float(os.environ.get("LEASE", "60"))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def say(line: str) -> None:
    """Have an effect outside of the store."""
    file = os.open(HERE / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.fsync(file)
    os.close(file)
    if f"effect:{line.split()[0]}" == POINT:
        die()


class Killing(SqliteStore):
    """Kills the process around one of its writes."""

    writes = 0

    async def append(self, *args: Any, **given: Any) -> None:
        self.writes += 1
        if f"before:{self.writes}" == POINT:
            die()
        await super().append(*args, **given)
        if f"after:{self.writes}" == POINT:
            die()

    async def create_run(self, *args: Any, **given: Any) -> Any:
        if POINT == "before:0":
            die()
        row = await super().create_run(*args, **given)
        if POINT == "after:0":
            die()
        return row


class Does(AsyncNode):
    async def exec_async(self, prep_res):
        name = current_run().node
        say(f"{name} {current_run().idempotency_key}")
        if name == "slow":
            (HERE / f"slow.{os.getpid()}").touch()
            while not (HERE / "go").exists():  # noqa: ASYNC110 (another process makes it)
                await asyncio.sleep(0.01)

    async def post_async(self, shared, prep_res, exec_res):
        shared["trail"].append(current_run().node)
        shared["sum"] += Decimal("0.1")


class Sells(Does):
    on_restart = "reconcile"

    async def reconcile_async(self, shared, idempotency_key):
        if f"sell {idempotency_key}" not in (HERE / "effects").read_text().splitlines():
            return RUN_AGAIN
        await self.post_async(shared, None, None)
        return None


class Asks(Does):
    async def exec_async(self, prep_res):
        if await ask("go on?", choices=[True, False]):
            await super().exec_async(prep_res)


def flow() -> AsyncFlow:
    names = os.environ.get("NODES", "a in(b,c) sell d").split()
    kinds = {"sell": Sells, "ask": Asks}
    made = []
    for name in names:
        if name.startswith("in("):
            first, second = (Does(name=one) for one in name[3:-1].split(","))
            first >> second
            made.append(AsyncFlow(first, name="in"))
        else:
            made.append(kinds.get(name, Does)(name=name))
    for before, after in pairwise(made):
        before >> after
    return AsyncFlow(made[0], name="Worked")


async def main() -> int:
    async with Killing(STORE) as store:
        try:
            shared: dict[str, Any] = {"trail": [], "sum": Decimal(0)}
            if MODE == "run":
                await flow().run_async(shared, run_id="r", store=store, lease=LEASE)
            else:
                await flow().resume("r", shared, store=store, lease=LEASE)
        except RunBusy:
            return 3
        except RunSuspended:
            return 4
        except LeaseLost:
            return 5
    print(json.dumps({"trail": shared["trail"], "sum": str(shared["sum"])}))
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
