"""Programs that tests start as processes of their own, to be killed: `store_worker.py WHAT URL …`.

Each line on standard output is something that the store has acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sys
from dataclasses import replace

from pocketflow_async.infrastructure.store import (
    LeaseLost,
    SqliteStore,
    StoreUnavailable,
    open_store,
)
from tests.infrastructure.store_kit import a_run, an_entry, an_event


def acknowledge(*what: object) -> None:
    os.write(1, (" ".join(map(str, what)) + "\n").encode())  # at once: we may be killed after it


async def write(store, name):
    """Write runs without end, several at a time."""

    async def one(number):
        run_id = f"{name}-{number}"
        await store.create_run(a_run(run_id), lease=60, events=[an_event(1, run_id)])
        acknowledge(run_id, 0)
        for place in itertools.count(1):
            await store.append(
                run_id, "me", 1,
                entries=[an_entry(place, run_id)], events=[an_event(place + 1, run_id)],
                state={run_id: b"%d" % place},
            )  # fmt: skip
            acknowledge(run_id, place)

    await asyncio.gather(*(one(number) for number in range(4)))


async def count(store, name, times):
    """Read, modify and write, so many times."""
    for _ in range(int(times)):
        await store.add("sum", 1)
        await store.change_emergency(
            "c", lambda row: replace(row, metadata={"n": row.metadata.get("n", 0) + 1})
        )
    acknowledge("counted", name)


async def claim(store, name, runs):
    """Claim what is abandoned, and do one thing to each that was got."""
    for number in range(int(runs)):
        run = await store.claim(f"r{number}", name, 60)
        if run is not None:
            await store.append(run.run_id, name, run.fence, entries=[an_entry(1, run.run_id)])
            acknowledge(run.run_id, name, run.fence)


async def stand_still(store, name):
    """Take a run for a moment, wait to be stopped and continued, and go on."""
    run = await store.claim("r", name, 0.05)
    acknowledge("claimed", run.fence)
    await asyncio.to_thread(sys.stdin.readline)
    try:
        await store.append("r", name, run.fence, entries=[an_entry(1)], state={"who": b"zombie"})
    except LeaseLost:
        acknowledge("lost")
    else:
        acknowledge("kept")


async def fill(store, name, limit):
    """Write until there is no room for larger files, then show that what was kept can be read."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    for number in itertools.count():
        try:
            await store.put(f"{name}{number}", bytes(500_000))
        except StoreUnavailable as error:
            acknowledge(number, len(await store.keys()), str(error))
            return


async def leave(store, name):
    """Leave a second store open, with something just asked for."""
    other = SqliteStore(store.path)
    await other.put(name, b"1")
    acknowledge("left")
    globals()["left"] = other, asyncio.ensure_future(other.put(f"{name}2", b"2"))


async def main(what, url, *args):
    async with open_store(url) as store:
        acknowledge("open")
        await globals()[what](store, *args)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
