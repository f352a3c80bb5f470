"""The engine against PocketFlow from PyPI and a bare prep/exec/post loop, and traced against not.

CPU time, medians of interleaved rounds in one process, so that a busy machine disturbs all alike.
Read the ratios. Traced runs record into a real store in a temporary folder; their figure is the CPU
time of the event loop's own thread, and in brackets that of the whole process, writer included.

    python -P benchmarks/engine.py [ROUNDS]
"""

import asyncio
import gc
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pocketflow

import pocketflow_async
from tracing import flush, trace_flow

CHAIN, BATCH, FLOWS, SHORT = 1_000, 10_000, 200, 20


def classes(engine: Any) -> dict[str, Any]:  # noqa: C901 (four small classes)
    class Link(engine.AsyncNode):
        async def prep_async(self, shared):
            return shared

        async def exec_async(self, prep_res):
            return 1

        async def post_async(self, shared, prep_res, exec_res):
            return None

    class SyncLink(engine.Node):
        def prep(self, shared):
            return shared

        def exec(self, prep_res):
            return 1

        def post(self, shared, prep_res, exec_res):
            return None

    class Loop(Link):
        async def post_async(self, shared, prep_res, exec_res):
            shared["n"] = shared.get("n", 0) + 1
            return "again" if shared["n"] < CHAIN else "end"

    class Items(engine.AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return range(BATCH)

        async def exec_async(self, prep_res):
            return prep_res

    return {"Link": Link, "SyncLink": SyncLink, "Loop": Loop, "Items": Items}


def chain(node: Any, flow: Any, length: int) -> Any:
    nodes = [node() for _ in range(length)]
    for one, other in itertools.pairwise(nodes):
        one >> other
    return flow(nodes[0])


def flows(engine: Any) -> dict[str, Any]:
    made = classes(engine)
    loop = made["Loop"]()
    loop - "again" >> loop
    return {
        "async chain": chain(made["Link"], engine.AsyncFlow, CHAIN),
        "sync chain": chain(made["SyncLink"], engine.Flow, CHAIN),
        "loop": engine.AsyncFlow(loop),
        "parallel batch": engine.AsyncFlow(made["Items"]()),
        "200 flows at once": chain(made["Link"], engine.AsyncFlow, SHORT),
    }


COUNTS = {
    "async chain": CHAIN,
    "sync chain": CHAIN,
    "loop": CHAIN,
    "parallel batch": BATCH,
    "200 flows at once": FLOWS * SHORT,
}


def runner(name: str, flow: Any) -> Callable[[], None]:
    if name == "sync chain":
        return lambda: flow.run({})
    if name == "200 flows at once":

        async def many():
            await asyncio.gather(*(flow.run_async({}) for _ in range(FLOWS)))

        return lambda: asyncio.run(many())
    return lambda: asyncio.run(flow.run_async({}))


def bare(name: str) -> Callable[[], None]:
    """The same work with no engine: a loop that awaits prep, exec and post of one object."""
    made = classes(pocketflow)
    node, sync, items = made["Link"](), made["SyncLink"](), made["Items"]()

    async def links(count):
        shared = {}
        for _ in range(count):
            prepared = await node.prep_async(shared)
            await node.post_async(shared, prepared, await node.exec_async(prepared))

    async def batch():
        await asyncio.gather(*(items.exec_async(item) for item in range(BATCH)))

    async def many():
        await asyncio.gather(*(links(SHORT) for _ in range(FLOWS)))

    def sync_links():
        shared = {}
        for _ in range(CHAIN):
            prepared = sync.prep(shared)
            sync.post(shared, prepared, sync.exec(prepared))

    if name == "sync chain":
        return sync_links
    work = {"parallel batch": batch, "200 flows at once": many}.get(name, lambda: links(CHAIN))
    return lambda: asyncio.run(work())


def measure(call: Callable[[], None], count: int) -> tuple[float, float]:
    """Return microseconds of CPU per node: of this thread, and of the process with the writer."""
    gc.collect()
    process, thread = time.process_time(), time.thread_time()
    call()
    mine = time.thread_time() - thread
    flush(60)
    return mine / count * 1e6, (time.process_time() - process) / count * 1e6


def startup(module: str) -> float:
    """Return the seconds that a fresh interpreter needs to import *module*, the best of nine."""
    command = f"{sys.executable} -c 'import {module}'"
    times = []
    for _ in range(9):
        began = time.perf_counter()
        os.system(command)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    warnings.simplefilter("ignore")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    ours, theirs = flows(pocketflow_async), flows(pocketflow)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {rounds} rounds")
    print("CPU microseconds a node (an item for the batch)\n")
    head = ("", "bare", "PocketFlow", "ours", "ratio", "traced, loop (all)", "traced/untraced")
    print("{:18} {:>6} {:>11} {:>6} {:>6} {:>19} {:>16}".format(*head))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POCKETFLOW_TRACE_STORE"] = str(Path(folder, "traces.db"))
        for name, count in COUNTS.items():
            traced = trace_flow(flow_name=name)(flows(pocketflow_async)[name])
            calls = [bare(name), runner(name, theirs[name]), runner(name, ours[name])]
            calls.append(runner(name, traced))
            for call in calls:
                call()
            table = [[measure(call, count) for call in calls] for _ in range(rounds)]
            medians = [statistics.median(row[n][0] for row in table) for n in range(4)]
            whole = statistics.median(row[3][1] for row in table)
            plain, peer, mine, seen = medians
            print(
                f"{name:18} {plain:6.2f} {peer:11.2f} {mine:6.2f} {mine / peer:5.2f}x "
                f"{seen:10.2f} ({whole:5.2f}) {seen / mine:15.1f}x"
            )
        del os.environ["POCKETFLOW_TRACE_STORE"]
    nothing, peer, mine = startup("sys"), startup("pocketflow"), startup("pocketflow_async")
    print(f"\nimport: Python {nothing * 1e3:.0f} ms, PocketFlow {peer * 1e3:.0f} ms, ", end="")
    print(
        f"ours {mine * 1e3:.0f} ms ({mine / peer:.2f}x), tracing {startup('tracing') * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()
