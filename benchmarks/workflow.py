"""Workflows against kailash from PyPI and against plain asyncio.

Each round starts a process for each of the three, in turn, so that a busy machine disturbs all
alike and what kailash does to asyncio (it replaces `asyncio.create_task`, and not always back)
stays with it. Its interpreter is that of a virtual environment of its own; where there is none, its
columns are left out. Figures are medians over the rounds of the medians in each process. Read the
ratios.

CPU is that of the whole process. What plain asyncio does is the least that the same result costs:
for the chain a task per node that runs compiled code in a fresh namespace, for the map a task, a
semaphore and a timeout per item.

    python -m venv /tmp/venv-kailash && /tmp/venv-kailash/bin/pip install kailash
    PYTHONPATH=. python -P benchmarks/workflow.py [ROUNDS] [VENV]
"""

import ast
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

NODES, SLOTS, WORKERS = 200, 50, 50
NAP, LONG, SHORT = 0.01, 0.2, 0.01  # seconds
SMALL, LARGE = 5_000, 100_000
IDEAL = NAP * NODES / SLOTS
CRITICAL = LONG + SHORT

FIRST, NEXT = "result = {'v': 1}", "result = {'v': x + 1}"
SLEEP = "import asyncio\nawait asyncio.sleep({})\nresult = {{'v': 1}}"
ITEM = "async def process_item(item):\n    return item + 1"

ENGINES = ("asyncio", "kailash", "ours")
Make = Callable[[], Callable[[], Awaitable[Any]]]
"""Builds something, and returns what runs it once and gives what was asked of it."""


def chain(engine: Any, runtime: Any) -> Callable[[], Awaitable[Any]]:
    builder = engine("chain")
    port = "result.v" if engine.__module__.startswith("kailash") else "v"
    builder.add_async_code("n0", FIRST)
    for number in range(1, NODES):
        builder.add_async_code(f"n{number}", NEXT)
        builder.add_connection(f"n{number - 1}", port, f"n{number}", "x")
    workflow = builder.build()

    async def run() -> Any:
        last = (await executed(runtime, workflow, {}))[f"n{NODES - 1}"]
        return last.get("result", last)["v"]

    return run


def fan_out(engine: Any, runtime: Any) -> Callable[[], Awaitable[Any]]:
    builder = engine("fan-out")
    for number in range(NODES):
        builder.add_async_code(f"n{number}", SLEEP.format(NAP))
    workflow = builder.build()

    async def run() -> Any:
        return len(await executed(runtime, workflow, {}))

    return run


def branches(engine: Any, runtime: Any) -> Callable[[], Awaitable[Any]]:
    """Two branches, one slow in the beginning and one in the end."""
    builder = engine("branches")
    for name, seconds in (("a1", LONG), ("a2", SHORT), ("b1", SHORT), ("b2", LONG)):
        builder.add_async_code(name, SLEEP.format(seconds))
    builder.add_connection("a1", "result", "a2", "x")
    builder.add_connection("b1", "result", "b2", "x")
    workflow = builder.build()

    async def run() -> Any:
        return len(await executed(runtime, workflow, {}))

    return run


def mapped(count: int) -> Callable[[Any, Any], Callable[[], Awaitable[Any]]]:
    def make(engine: Any, runtime: Any) -> Callable[[], Awaitable[Any]]:
        builder = engine("map")
        builder.add_parallel_map("map", ITEM, max_workers=WORKERS)
        workflow, items = builder.build(), list(range(count))

        async def run() -> Any:
            found = (await executed(runtime, workflow, {"items": items}))["map"]
            return found.get("result", found)["results"][-1]

        return run

    return make


async def executed(runtime: Any, workflow: Any, inputs: Any) -> Any:
    """Return the results of a run; kailash gives them as the first of two."""
    result = await runtime.execute_workflow_async(workflow, inputs)
    return result[0] if isinstance(result, tuple) else result["results"]


def compiled(code: str) -> Any:
    return compile(code, "<node>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


async def evaluated(program: Any, inputs: dict[str, Any]) -> Any:
    space = {**inputs, "__builtins__": __builtins__}
    returned = eval(program, space)  # a coroutine if it awaits
    if returned is not None:
        await returned
    return space["result"]


async def plain_chain() -> Any:
    first, then = compiled(FIRST), compiled(NEXT)
    value = await asyncio.create_task(evaluated(first, {}))
    for _ in range(NODES - 1):
        value = await asyncio.create_task(evaluated(then, {"x": value["v"]}))
    return value["v"]


async def plain_fan_out() -> Any:
    program, slots = compiled(SLEEP.format(NAP)), asyncio.Semaphore(SLOTS)

    async def one() -> Any:
        async with slots:
            return await evaluated(program, {})

    return len(await asyncio.gather(*(one() for _ in range(NODES))))


async def plain_branches() -> Any:
    async def branch(*seconds: float) -> None:
        for each in seconds:
            await evaluated(compiled(SLEEP.format(each)), {})

    await asyncio.gather(branch(LONG, SHORT), branch(SHORT, LONG))
    return 4


def plain_map(count: int) -> Callable[[], Awaitable[Any]]:
    async def process_item(item: int) -> int:
        return item + 1

    async def run() -> Any:
        slots = asyncio.Semaphore(WORKERS)

        async def one(item: int) -> int:
            async with slots, asyncio.timeout(5):
                return await process_item(item)

        return (await asyncio.gather(*(one(item) for item in range(count))))[-1]

    return run


CASES: dict[str, tuple[Any, Any, Any, int]] = {
    "chain": (chain, plain_chain, NODES, 9),
    "fan-out": (fan_out, plain_fan_out, NODES, 5),
    "branches": (branches, plain_branches, 4, 3),
    "map, 5,000": (mapped(SMALL), plain_map(SMALL), SMALL, 5),
    "map, 100,000": (mapped(LARGE), plain_map(LARGE), LARGE, 1),
}
"""What builds it in an engine, what does it in plain asyncio, what comes out, how many times."""

COUNTS = {"chain": NODES, "fan-out": NODES, "map, 5,000": SMALL, "map, 100,000": LARGE}


def makers(engine: str) -> dict[str, Make]:
    """Return what builds each case."""
    if engine == "asyncio":
        return {name: (lambda plain=plain: plain) for name, (_, plain, _, _) in CASES.items()}
    package = "kailash" if engine == "kailash" else "pocketflow_async"
    builder = __import__(f"{package}.workflow", fromlist=["x"]).AsyncWorkflowBuilder
    runtime = __import__(f"{package}.runtime", fromlist=["x"]).AsyncLocalRuntime(
        max_concurrent_nodes=SLOTS
    )
    return {
        name: (lambda make=make: make(builder, runtime)) for name, (make, _, _, _) in CASES.items()
    }


async def child(engine: str) -> dict[str, dict[str, float]]:
    """Return for each case the seconds of CPU to build it, to run it first and again, and wall."""
    create_task, found = asyncio.create_task, {}
    for name, make in makers(engine).items():
        _, _, expected, times = CASES[name]
        began = time.process_time()
        run = make()
        costs = {"build": time.process_time() - began}
        spent, walls = [], []
        for _ in range(times + 1):
            gc.collect()
            began, wall = time.process_time(), time.perf_counter()
            answer = await run()
            spent.append(time.process_time() - began)
            walls.append(time.perf_counter() - wall)
            asyncio.create_task = create_task  # kailash leaves another one there
            if answer != expected:
                raise AssertionError(f"{engine}, {name}: {answer!r} instead of {expected!r}")
        costs["first"] = spent[0]
        costs["cpu"] = statistics.median(spent[1:])
        costs["wall"] = statistics.median(walls[1:])
        found[name] = costs
    return found


def started(python: str, engine: str) -> dict[str, dict[str, float]]:
    """Run the child for *engine*; what it and its libraries say besides is not shown."""
    command = [python, "-P", str(Path(__file__).resolve()), "--child", engine]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def startup(python: str, statement: str) -> float:
    """Return the seconds of CPU that a fresh interpreter needs for *statement*."""
    before = os.times()
    subprocess.run([python, "-P", "-c", statement], check=True, capture_output=True)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def imports(engine: str) -> str:
    if engine == "asyncio":
        return "import asyncio"
    package = "kailash" if engine == "kailash" else "pocketflow_async"
    return (
        f"from {package}.workflow import AsyncWorkflowBuilder; "
        f"from {package}.runtime import AsyncLocalRuntime"
    )


def measure(pythons: dict[str, str], rounds: int) -> dict[str, dict[tuple[str, str], float]]:
    """Return the median seconds by engine, and by case and what was measured."""
    table: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in pythons}
    for _ in range(rounds):
        for engine, python in pythons.items():
            mine = table[engine]
            for case, costs in started(python, engine).items():
                for what, seconds in costs.items():
                    mine.setdefault((case, what), []).append(seconds)
            mine.setdefault(("import", "cpu"), []).append(startup(python, imports(engine)))
    return {
        engine: {key: statistics.median(each) for key, each in mine.items()}
        for engine, mine in table.items()
    }


def show(
    title: str, found: dict[str, dict[tuple[str, str], float]], key: tuple[str, str], scale: float
) -> None:
    figures = {engine: mine[key] * scale for engine, mine in found.items()}
    ours = figures["ours"]
    columns = "".join(
        f"{figures[engine]:11.1f}" if engine in figures else f"{'-':>11}" for engine in ENGINES
    )
    peer = f"{ours / figures['kailash']:9.3f}x" if "kailash" in figures else f"{'-':>10}"
    print(f"{title:42}{columns}{peer}{ours / figures['asyncio']:9.2f}x")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    venv = Path(sys.argv[2] if len(sys.argv) > 2 else "/tmp/venv-kailash")
    pythons = {"asyncio": sys.executable, "kailash": str(venv / "bin" / "python")}
    if not Path(pythons["kailash"]).exists():
        del pythons["kailash"]
        print(f"no kailash in {venv}; its columns are left out. To have them:")
        print(f"  python -m venv {venv} && {venv}/bin/pip install kailash\n")
    pythons["ours"] = sys.executable
    found = measure(pythons, rounds)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {rounds} rounds\n"
    )
    print(f"{'':42}" + "".join(f"{name:>11}" for name in ENGINES), " of kailash of asyncio")
    micro = {case: 1e6 / count for case, count in COUNTS.items()}
    show(f"chain of {NODES}, CPU us/node", found, ("chain", "cpu"), micro["chain"])
    show("  its first run", found, ("chain", "first"), micro["chain"])
    if "kailash" in found:
        for engine in ("kailash", "ours"):
            found[engine]["chain", "both"] = (
                found[engine]["chain", "build"] + found[engine]["chain", "first"]
            )
        found["asyncio"]["chain", "both"] = found["asyncio"]["chain", "first"]
        show("  building it and its first run", found, ("chain", "both"), micro["chain"])
    title = f"fan-out {NODES} x {NAP * 1e3:.0f} ms, {SLOTS} slots"
    show(f"{title}, CPU us/node", found, ("fan-out", "cpu"), micro["fan-out"])
    show(f"  wall ms (ideal {IDEAL * 1e3:.0f})", found, ("fan-out", "wall"), 1e3)
    ideal = f"two unequal branches, wall ms (ideal {CRITICAL * 1e3:.0f})"
    show(ideal, found, ("branches", "wall"), 1e3)
    for case in ("map, 5,000", "map, 100,000"):
        show(f"parallel {case} items, CPU us/item", found, (case, "cpu"), micro[case])
    show("import, CPU ms", found, ("import", "cpu"), 1e3)
    late = found["ours"]["branches", "wall"] / CRITICAL - 1
    print(f"\nunequal branches: {late:.1%} above the critical path (at most 5 %)")
    if "kailash" in found:
        ratio = found["ours"]["chain", "cpu"] / found["kailash"]["chain", "cpu"]
        print(f"chain: {ratio:.3f}x kailash's CPU per node (at most 0.05x)")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--child":
        print(json.dumps(asyncio.run(child(sys.argv[2]))))
    else:
        main()
