"""The program that is traced, and killed: flows of nine nodes, in a process of its own.

    python -m chaos.flow '{"endpoint": …, "session": …, "runs": …, …}'

What it says goes to its standard output, one JSON object a line; the last one tells when it ended.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import tracing
from pocketflow_async import AsyncFlow, AsyncNode

NODES = 9
RECORDS = NODES + 1
SPANS = 4 * NODES + 3
"""Of one run: each node and its three phases, the flow and its two."""
WARM = 20
"""Runs before the clock is read."""
POISON = "Poison"
"""Name of the node whose span a receiver may refuse."""
DOCUMENTS = ["a" * 40, "b" * 40]


class Work(AsyncNode):
    """A node with contents that are its own in each run."""

    async def prep_async(self, shared: dict[str, Any]) -> dict[str, Any]:
        """Say what is asked."""
        return {"question": f"what is after {shared['number']}?", "documents": DOCUMENTS}

    async def exec_async(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer, as others have a turn of the loop."""
        await asyncio.sleep(0)
        return {"answer": asked["question"], "tokens": 17, "sources": [1, 2, 3]}

    async def post_async(
        self, shared: dict[str, Any], asked: dict[str, Any], answer: dict[str, Any]
    ) -> None:
        """Count."""
        shared["number"] += 1


Poison = type(POISON, (Work,), {})


def flow(config: tracing.TracingConfig, session: str, last: type[AsyncNode] = Work) -> Any:
    """Return a traced flow whose last node is a *last*."""
    nodes = [Work() for _ in range(NODES - 1)] + [last()]
    for one, other in pairwise(nodes):
        one >> other
    return tracing.trace_flow(
        config=config, flow_name="Chaos", session_id=session, user_id="chaos", tags=["chaos", "t"]
    )(AsyncFlow(start=nodes[0]))


async def burst(usual: Any, poisoned: Any, runs: int, poison: int | None) -> dict[str, Any]:
    """Run as fast as it goes; say how long that took by the clock, and of this thread's CPU."""
    for number in range(WARM):
        await usual.run_async({"number": -100 * (number + 1)})
    began, spent, stood = time.perf_counter(), time.thread_time(), queued()
    all_threads = time.process_time()
    for number in range(runs):
        await (poisoned if number == poison else usual).run_async({"number": 100 * number})
    cpu = time.thread_time() - spent
    return {
        "wall": time.perf_counter() - began,
        "cpu": cpu,
        "beside": time.process_time() - all_threads - cpu,
        "queued": queued() - stood,
    }


def queued() -> float:
    """Return for how many seconds this thread could have run, but all cores were taken."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # not Linux: then it is part of the noise
        return 0.0


async def paced(usual: Any, runs: int, pause: float) -> dict[str, Any]:
    """Run with a *pause* of so many seconds between; say how many seconds each run took."""
    took = []
    for number in range(runs + WARM):
        began = time.perf_counter()
        await usual.run_async({"number": 100 * number})
        if number >= WARM:
            took.append(time.perf_counter() - began)
        await asyncio.sleep(pause)
    return {"took": took}


def peak() -> int:
    """Return the most memory that this process has had, in megabytes.

    `getrusage` would tell that of the process which started it, if that was larger.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))


def say(**facts: Any) -> None:
    """Write one line for the process that started this one."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the first argument says."""
    said = json.loads(sys.argv[1])
    endpoint = said.get("endpoint")
    config = tracing.TracingConfig(**({"otlp_endpoint": endpoint} if endpoint else {}))
    usual, poisoned = (flow(config, said["session"], last) for last in (Work, Poison))
    if said.get("pause") is not None:
        facts = asyncio.run(paced(usual, said["runs"], said["pause"]))
    else:
        facts = asyncio.run(burst(usual, poisoned, said["runs"], said.get("poison")))
    say(**facts)
    if said.get("store"):  # so that all of the burst is in the store when this process is killed
        store = tracing.store.open_stores()[0]
        say(stored=store.flush(60).stored)
    until = time.monotonic() + said.get("flush", 0)
    while time.monotonic() < until:
        counts = tracing.flush(max(0.0, min(5.0, until - time.monotonic())))
        say(**counts._asdict())
        if not counts.failed:
            break
    if said.get("linger"):
        time.sleep(said["linger"])  # until it is killed
    say(**tracing.counts()._asdict(), peak=peak())
    say(end=time.time())


if __name__ == "__main__":
    main()
