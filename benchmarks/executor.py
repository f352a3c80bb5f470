"""The executor of JSON workflows, in memory and durable, against bare commits and DBOS.

The cases are interleaved, batch by batch, so that a busy machine disturbs all alike. Figures are
medians over the rounds of the medians in each batch, in milliseconds of wall time. Read the ratios.

SQLite is as in production: every commit is on the disk (WAL, synchronous = FULL). "bare" does by
hand what a run comes down to: as many commits as ours makes, of the same rows, in the thread of the
loop. "four" keeps each thing by itself: that the run begins, that a block begins, what it yields,
and how the run ends.

DBOS (on SQLite too, with its own settings: a rollback journal, synchronous = FULL) does a workflow
of as many steps, in a process of its own, with the interpreter of a virtual environment of its own;
where there is none, its column is left out.

    python -m venv /tmp/venv-dbos && /tmp/venv-dbos/bin/pip install 'dbos>=3.4,<4'
    python -P benchmarks/executor.py [ROUNDS] [VENV]
"""

import asyncio
import gc
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

RUNS, AT_ONCE, CHAIN = 20, 50, 10
DURABLE, MEMORY = 2.0, 0.3
"""Milliseconds that a run of one block may take at most."""

Batch = Callable[[], Awaitable[list[float]]]
"""Does a batch of runs; returns the seconds that each has taken."""


def one_by_one(run: Callable[[], Awaitable[Any]]) -> Batch:
    async def batch() -> list[float]:
        seconds = []
        for _ in range(RUNS):
            began = time.perf_counter()
            await run()
            seconds.append(time.perf_counter() - began)
        return seconds

    return batch


def at_once(run: Callable[[], Awaitable[Any]]) -> Batch:
    async def batch() -> list[float]:
        began = time.perf_counter()
        await asyncio.gather(*(run() for _ in range(AT_ONCE)))
        return [(time.perf_counter() - began) / AT_ONCE]

    return batch


# --- ours -----------------------------------------------------------------------------------------


def chain(category: str, count: int) -> dict[str, Any]:
    """Return a workflow of *count* blocks, each after the one before it."""
    blocks = [
        {
            "id": f"n{number}",
            "category": category,
            "type": "work",
            "inputs": {"price": f"n{number - 1}.price"} if number else {},
            "outputs": ["price"],
        }
        for number in range(count)
    ]
    return {"blocks": blocks, "connections": []}


async def work(node: dict[str, Any], inputs: dict[str, Any], context: Any) -> dict[str, Any]:
    return {"price": 1.0}


def executed(executor: Any) -> Callable[[], Awaitable[Any]]:
    async def run() -> Any:
        result = await executor.execute()
        if result["status"] != "completed":
            raise SystemExit(f"wrong: {result}")
        return result

    return run


async def asks(executor: Any, store: Any) -> tuple[int, int, list[Any]]:
    """Return how often one run writes and reads, and the rows that it leaves."""
    counts = {"create_run": 0, "append": 0, "emergency": 0}

    def counted(name: str) -> Any:
        method = getattr(store, name)

        async def call(*args: Any, **more: Any) -> Any:
            counts[name] += 1
            return await method(*args, **more)

        return call

    for name in counts:
        setattr(store, name, counted(name))
    run_id = (await executor.execute())["execution_id"]
    for name in counts:
        delattr(store, name)
    run, events = await store.run(run_id), await store.events(run_id)
    rows = [run.definition, run.result, *(event.data for event in events)]
    return counts["create_run"] + counts["append"], counts["emergency"], rows


# --- by hand --------------------------------------------------------------------------------------


def bare(path: Path, commits: int, rows: list[Any]) -> Callable[[], Awaitable[Any]]:
    """Return a run that keeps *rows* in so many commits, and does nothing else."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "CREATE TABLE runs (run INTEGER PRIMARY KEY, status TEXT, result TEXT)",
        "CREATE TABLE events (run INTEGER, seq INTEGER, data TEXT, PRIMARY KEY (run, seq))",
    ):
        db.execute(statement)
    number, share = 0, -(-len(rows) // commits)

    async def run() -> None:
        nonlocal number
        number += 1
        for commit in range(commits):
            db.execute("BEGIN IMMEDIATE")
            if commit == 0:
                db.execute("INSERT INTO runs VALUES (?, 'running', NULL)", (number,))
            for seq in range(commit * share, min((commit + 1) * share, len(rows))):
                db.execute("INSERT INTO events VALUES (?, ?, ?)", (number, seq, rows[seq]))
            if commit == commits - 1:
                db.execute("UPDATE runs SET status = 'completed' WHERE run = ?", (number,))
            db.execute("COMMIT")

    return run


# --- DBOS -----------------------------------------------------------------------------------------


async def dbos(folder: str) -> None:
    """Do the batches that standard input asks for, by name, in the interpreter of DBOS."""
    from dbos import DBOS  # type: ignore[import-not-found]

    address = f"sqlite:///{folder}/dbos.db"
    DBOS(config={"name": "bench", "system_database_url": address, "log_level": "ERROR"})

    async def plain() -> dict[str, Any]:
        return {"price": 1.0}

    step = DBOS.step()(plain)

    async def of_one() -> Any:
        return await step()

    async def of_many() -> Any:
        for _ in range(CHAIN):
            await step()

    one, many = DBOS.workflow()(of_one), DBOS.workflow()(of_many)
    DBOS.launch()
    batches = {"one": one_by_one(one), "chain": one_by_one(many), "at once": at_once(one)}
    for line in sys.stdin:
        print(json.dumps(await batches[line.strip()]()), flush=True)
    DBOS.destroy()


def peer(stack: AsyncExitStack, python: Path, folder: str) -> Callable[[str], Batch]:
    """Start DBOS in a process of its own; return what asks it for a batch."""
    process = subprocess.Popen(
        [python, "-P", str(Path(__file__).resolve()), "--dbos", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    stack.callback(process.wait)
    assert process.stdin is not None
    assert process.stdout is not None
    stack.callback(process.stdin.close)
    asking, answers = process.stdin, process.stdout

    def batch_of(name: str) -> Batch:
        async def batch() -> list[float]:
            asking.write(f"{name}\n")
            asking.flush()
            return json.loads(answers.readline())  # type: ignore[no-any-return]

        return batch

    return batch_of


# --------------------------------------------------------------------------------------------------


async def cases(stack: AsyncExitStack, folder: str, python: Path | None) -> dict[str, Batch]:
    """Return the batches by name; those of a table's row have it before the colon."""
    from pocketflow_async.infrastructure.config import Config
    from pocketflow_async.infrastructure.events.memory import MemoryBus
    from pocketflow_async.infrastructure.factory import Infrastructure
    from pocketflow_async.infrastructure.store import MemoryStore, SqliteStore
    from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor
    from pocketflow_async.workflow.executor import WorkflowExecutor

    config = Config(env="production", logging={"configure": False})
    infras = {}
    for name, store in (
        ("memory", MemoryStore()),
        ("sqlite", SqliteStore(f"{folder}/ours.db")),
    ):
        await stack.enter_async_context(store)
        bus = await stack.enter_async_context(MemoryBus())
        infras[name] = await Infrastructure.create(config=config, store=store, events=bus)
        await stack.enter_async_context(infras[name])

    theirs = None if python is None else peer(stack, python, folder)
    found: dict[str, Batch] = {}
    for row, category, count in (
        ("one block", "providers", 1),
        ("one block that trades", "actions", 1),
        (f"{CHAIN} blocks", "conditions", CHAIN),
    ):
        workflow, handlers = chain(category, count), {category: work}
        made = {
            name: EnhancedWorkflowExecutor(workflow, infra, "bench", handlers=handlers)
            for name, infra in infras.items()
        }
        writes, reads, rows = await asks(made["sqlite"], infras["sqlite"].store)
        print(f"{row}: {writes} commits and {reads} looks for a halt")
        found[f"{row}:base"] = one_by_one(executed(WorkflowExecutor(workflow, handlers=handlers)))
        for name, executor in made.items():
            found[f"{row}:{name}"] = one_by_one(executed(executor))
        name = row.replace(" ", "-")
        found[f"{row}:bare"] = one_by_one(bare(Path(folder, f"{name}.db"), writes, rows))
        four = bare(Path(folder, f"{name}-four.db"), 2 * count + 2, rows)
        found[f"{row}:four"] = one_by_one(four)
        if theirs is not None:
            found[f"{row}:dbos"] = theirs("chain" if count > 1 else "one")
        if row == "one block":
            together = f"  {AT_ONCE} at once, each"
            for name, executor in made.items():
                found[f"{together}:{name}"] = at_once(executed(executor))
            if theirs is not None:
                found[f"{together}:dbos"] = theirs("at once")
    return found


COLUMNS = {
    "base": "base",
    "memory": "in memory",
    "sqlite": "SQLite",
    "bare": "bare",
    "four": "four",
    "dbos": "DBOS",
}


def show(figures: dict[str, float]) -> None:
    """Print the table: milliseconds, and ours on SQLite as a multiple of others."""
    heads = "".join(f"{head:>11}" for head in COLUMNS.values())
    print(f"\n{'ms a run':24}{heads}{'of bare':>10}{'of DBOS':>10}")
    for row in dict.fromkeys(key.split(":")[0] for key in figures):
        mine = {column: figures.get(f"{row}:{column}") for column in COLUMNS}
        cells = "".join(
            f"{'-':>11}" if value is None else f"{value:11.3f}" for value in mine.values()
        )
        ratios = "".join(
            f"{'-':>10}" if (other := mine[name]) is None else f"{mine['sqlite'] / other:9.2f}x"
            for name in ("bare", "dbos")
            if mine["sqlite"] is not None
        )
        print(f"{row:24}{cells}{ratios}")


async def measure(rounds: int, python: Path | None) -> dict[str, list[float]]:
    """Return for each case the median milliseconds of each round."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        batches = await cases(stack, folder, python)
        for batch in batches.values():
            await batch()
        table: dict[str, list[float]] = {name: [] for name in batches}
        for _ in range(rounds):
            for name, batch in batches.items():
                gc.collect()
                table[name].append(statistics.median(await batch()) * 1e3)
    return table


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    venv = Path(sys.argv[2] if len(sys.argv) > 2 else "/tmp/venv-dbos")
    python: Path | None = venv / "bin" / "python"
    if python is not None and not python.exists():
        python = None
        print(f"no DBOS in {venv}; its column is left out. To have it:")
        print(f"  python -m venv {venv} && {venv}/bin/pip install 'dbos>=3.4,<4'\n")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {rounds} rounds")
    found = asyncio.run(measure(rounds, python))
    show({name: statistics.median(each) for name, each in found.items()})
    print()
    for column, most in (("sqlite", DURABLE), ("memory", MEMORY)):
        took = found[f"one block:{column}"]
        print(
            f"one block, {COLUMNS[column]}: {statistics.median(took):.3f} ms, "
            f"in the quietest round {min(took):.3f} (at most {most})"
        )


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--dbos":
        asyncio.run(dbos(sys.argv[2]))
    else:
        main()
