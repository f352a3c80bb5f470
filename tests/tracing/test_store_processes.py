"""Several processes and one store: at the same time, by fork, and killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracing.store_kit import (
    finish,
    new_trace,
    start,
    wait_until,
)
from tracing.store import Counts, TraceReader, TraceStore

Make = Callable[..., TraceStore]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make stores that are closed in the end."""
    stores: list[TraceStore] = []

    def make(path: Any = tmp_path / "traces.db", **options: Any) -> TraceStore:
        stores.append(TraceStore(path, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def rows(store: TraceStore | Path, query: str) -> list[tuple[Any, ...]]:
    path = store if isinstance(store, Path) else store.path
    connection = sqlite3.connect(str(path))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


WRITER = """
import sys
from tests.tracing.store_kit import flow
from tracing.store import TraceStore
store = TraceStore.at(sys.argv[1])
for _ in range(50):
    for record in flow(99, sys.argv[2]):
        store.opened(record)
        store.closed(record)
print(*store.flush(40))
store.close(30)  # the end of a process would not wait so long for a busy file
"""


def test_four_processes_write_one_file(tmp_path, child_env):
    """Four processes write 5,000 records each into a new file; none is lost."""
    path = tmp_path / "deep" / "shared.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"flow {number}"],
            env=child_env,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    said = [child.communicate(timeout=50)[0].split() for child in children]

    assert said == [["5000", "0", "0", "0"]] * 4
    assert rows(path, "SELECT count(*), count(DISTINCT trace) FROM records") == [(20_000, 200)]
    assert rows(path, "SELECT count(*), sum(ended) FROM owners") == [(4, 4)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert len(TraceReader(path).traces(1000, name="flow 3")) == 50


def in_child(store: TraceStore, queue: Any) -> None:
    before = store.counts()
    store.closed(finish(start(new_trace("child"))))
    queue.put((before, store.flush(10)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(make):
    """Parent and child of a fork each write their own records, once, as processes of their own."""
    store = make()
    root = start(new_trace("parent"))
    store.opened(root)
    for _ in range(1000):
        store.closed(finish(start(new_trace("parent"))))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    children = [context.Process(target=in_child, args=(store, queue)) for _ in range(3)]
    for child in children:
        child.start()
    said = [queue.get() for _ in children]
    for child in children:
        child.join(10)
    store.closed(finish(root))

    assert said == [(Counts(0, 0, 0, 0), Counts(1, 0, 0, 0))] * 3
    assert store.flush(10) == Counts(1001, 0, 0, 0)
    names = "SELECT name, count(*) FROM traces GROUP BY name ORDER BY name"
    assert rows(store, names) == [("child", 3), ("parent", 1001)]
    assert rows(store, "SELECT count(*) FROM owners") == [(4,)]
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]


RUNNING = """
import sys, time
from tests.tracing.store_kit import finish, new_trace, phase, start
from tracing.store import TraceStore
store = TraceStore.at(sys.argv[1])
trace = new_trace("doomed")
root = start(trace, name="doomed")
store.opened(root)
for number in range(3):
    node = start(trace, root.span_id, f"done {number}")
    store.opened(node)
    store.closed(finish(node))
node = start(trace, root.span_id, "dying")
phase(node, "prep")
phase(node, "exec", done=False)
store.opened(node)
print("ready", flush=True)
time.sleep(60)
"""


def test_kill_leaves_what_was_finished_and_what_was_open(tmp_path, child_env, make):
    """A running flow can be watched from outside; after `kill -9` it shows where it died."""
    path = tmp_path / "traces.db"
    child = subprocess.Popen(
        [sys.executable, "-c", RUNNING, str(path)], env=child_env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        reader = TraceReader(path)
        wait_until(lambda: path.exists() and reader.traces() and reader.traces()[0].spans == 5)
        watched = reader.trace(reader.traces()[0].trace_id)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
    dead = reader.trace(watched.summary.trace_id)

    assert (watched.summary.outcome, watched.summary.duration_ns) == ("running", None)
    assert watched.roots[0].children[3].phases[1].outcome == "running"
    for tree in (dead, _after_a_new_writer(make, path, dead.summary.trace_id)):
        assert (tree.summary.outcome, tree.summary.failures) == ("interrupted", 2)
        assert tree.summary.duration_ns is not None
        top = tree.roots[0]
        assert [span.name for span in top.children] == ["done 0", "done 1", "done 2", "dying"]
        assert [span.outcome for span in top.children] == ["completed"] * 3 + ["interrupted"]
        last = top.children[3]
        assert [(p.kind, p.outcome) for p in last.phases] == [
            ("prep", "completed"),
            ("exec", "interrupted"),
        ]
        assert last.end_ns is not None
        assert last.end_ns >= last.start_ns


def _after_a_new_writer(make: Make, path: Path, trace_id: str) -> Any:
    store = make(path)
    store.closed(finish(start(new_trace("later"))))
    store.flush(10)
    wait_until(lambda: rows(path, "SELECT 1 FROM records WHERE duration_ns IS NULL") == [])
    assert rows(path, "SELECT outcome FROM traces WHERE name = 'doomed'") == [("interrupted",)]
    return store.reader().trace(trace_id)


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from pocketflow_async import Flow, Node
from tracing import trace_flow

def job(number):
    trace_flow(Flow(Node(), name="Job")).run({"number": number})

if __name__ == "__main__":
    job(-1)  # the parent has a store and its thread before it forks
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(job, range(4)))
    process = context.Process(target=job, args=(5,))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_of_multiprocessing_lose_nothing(
    method: str, tmp_path: Path, store_path: Path, child_env: dict[str, str]
) -> None:
    """Workers end without `atexit`; what they recorded is stored all the same."""
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    subprocess.run(
        [sys.executable, "-W", "ignore", script, method], env=child_env, check=True, timeout=60
    )

    assert [found.outcome for found in TraceReader(store_path).traces()] == ["completed"] * 6
