"""Reading traces: lists, trees, and what became of processes that are gone; and forgetting them."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracing.store_kit import finish, flow, new_trace, start, wait_until
from tracing.errors import (
    AmbiguousTrace,
    StoreError,
    StoreMissing,
    StoreUnreadable,
    TraceNotFound,
    TracingError,
)
from tracing.record import phase_id
from tracing.store import Span, TraceReader, TraceStore, owner, tree
from tracing.store.owner import SILENCE_NS, Owner, is_alive, start_token
from tracing.store.rows import signed, unsigned
from tracing.store.schema import connect
from tracing.store.tree import Fate

DAY = 86_400 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    """A store in a file."""
    made = TraceStore(tmp_path / "traces.db")
    yield made
    made.close()


def put(store: TraceStore, name: str = "flow", trace_id: int | None = None, age: int = 0) -> str:
    trace = new_trace(name)
    trace.trace_id = trace_id or trace.trace_id
    trace.wall_ns -= age
    store.closed(finish(start(trace, name=name)))
    store.flush(10)
    return f"{trace.trace_id:032x}"


def test_a_list_is_sorted_cut_and_filtered(store):
    """The latest trace comes first, whatever the order of writing."""
    ids = [put(store, "ab"[number % 2], age=(5 - number) * DAY // 24) for number in range(5)]
    oldest = put(store, "a", age=DAY)
    reader = store.reader()

    assert [trace.trace_id for trace in reader.traces()] == [*reversed(ids), oldest]
    assert [trace.trace_id for trace in reader.traces(limit=2, offset=1)] == [ids[3], ids[2]]
    assert [trace.trace_id for trace in reader.traces(name="b")] == [ids[3], ids[1]]
    assert reader.traces(name="c") == []


def test_ids_may_be_shortened(store):
    """A beginning of an id is enough while only one trace has it."""
    first = put(store, trace_id=0xABC1 << 112)
    second = put(store, trace_id=0xABC2 << 112)
    reader = store.reader()

    assert reader.trace("ABC1").summary.trace_id == first
    assert reader.trace(second).summary.trace_id == second
    with pytest.raises(AmbiguousTrace, match="Give more digits") as caught:
        reader.trace("abc")
    assert set(caught.value.candidates) == {first, second}


@pytest.mark.parametrize("wrong", ["ffff", "", "no id", "0" * 33, "%"])
def test_an_unknown_id_says_so(store, wrong):
    """An id that no trace has, or none could have, is not found."""
    put(store, trace_id=1)

    with pytest.raises(TraceNotFound, match="List the traces"):
        store.reader().trace(wrong)


def test_a_missing_store_is_not_made(tmp_path):
    """Reading where nothing is says what to do, and leaves nothing behind."""
    reader = TraceReader(tmp_path / "no.db")

    for question in (reader.traces, lambda: reader.trace("ab")):
        with pytest.raises(StoreMissing, match="Run a traced flow first"):
            question()
    assert list(tmp_path.iterdir()) == []
    assert issubclass(StoreMissing, StoreError)
    assert issubclass(StoreError, TracingError)


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 300, b"SQLite format 3\0" + b"x" * 999]
)
def test_a_file_of_another_kind_is_unreadable(tmp_path, content):
    """A file that is no database is named in the error."""
    path = tmp_path / "letter.db"
    path.write_bytes(content)

    with pytest.raises(StoreUnreadable, match=r"letter\.db"):
        TraceReader(path).traces()


def test_another_programs_database_is_unreadable(tmp_path):
    """A database that is no trace store is said to be one."""
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()

    with pytest.raises(StoreUnreadable, match="another program"):
        TraceReader(path).traces()


def test_a_newer_store_is_unreadable(store):
    """A newer format asks for an upgrade instead of guessing."""
    put(store)
    other = sqlite3.connect(str(store.path))
    other.execute("PRAGMA user_version = 99")
    other.close()

    with pytest.raises(StoreUnreadable, match="upgrade pocketflow-async"):
        TraceReader(str(store.path)).traces()


def test_an_empty_file_has_no_traces(tmp_path):
    """A file that a writer is just about to fill is an empty list, not an error."""
    (tmp_path / "new.db").touch()

    assert TraceReader(tmp_path / "new.db").traces() == []
    with pytest.raises(TraceNotFound):
        TraceReader(tmp_path / "new.db").trace("ab")


def test_an_unused_memory_store_has_no_traces():
    """A memory store can be read before anything was written."""
    assert TraceStore(None).reader().traces() == []


def test_memory_can_be_read_after_close():
    """What a memory store holds can still be read when it is closed."""
    store = TraceStore("memory")
    put(store, "kept")
    store.close()

    assert [trace.name for trace in store.reader().traces()] == ["kept"]


READ_ONLY = """
import sys
from tracing.store import TraceReader
print(*(trace.name for trace in TraceReader(sys.argv[1]).traces()))
"""


def test_a_store_in_a_read_only_folder_can_be_read(store, tmp_path, child_env):
    """A reader who may not write, as in a mounted backup, sees the traces all the same."""
    put(store, "kept")
    store.close()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    bind = ["mount", "--bind", "-o", "ro", str(tmp_path), str(mounted)]
    if subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("only root can mount a read-only folder")
    try:
        child = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(mounted / "traces.db")],
            env=child_env,
            capture_output=True,
            text=True,
        )
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)

    assert (child.stdout, child.stderr) == ("kept\n", "")


def row(span: int, parent: int | None, began: int = 0, **fields: Any) -> list[Any]:
    values: dict[str, Any] = dict.fromkeys(tree.COLUMNS)
    values.update(span_id=signed(span), kind="node", name=str(span), started_ns=began, owner=1)
    values.update(parent_id=None if parent is None else signed(parent), duration_ns=1, **fields)
    return list(values.values())


def names(spans: tuple[Span, ...]) -> list[Any]:
    return [[span.name, *names(span.children)] for span in spans]


def alive(_: int) -> Fate:
    return Fate(True, 0)


def test_children_hang_below_spans_and_phases():
    """A child belongs to the span whose id, or one of whose phases' ids, is its parent."""
    phases = b'[["prep",0,1],["exec",1,1]]'
    rows = [
        row(4, phase_id(2, 1), 30),
        row(3, 2, 20),
        row(2, 1, 10, phases=phases),
        row(1, None),
        row(5, 2**64 - 1, 40),
    ]

    found = tree.build("0" * 32, rows, alive)

    assert names(found) == [["1", ["2", ["3"], ["4"]]], ["5"]]


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12), st.integers(0, 5))))
def test_every_record_is_in_the_tree_once(links):
    """Whatever the parents are, cycles included, each record is in the tree exactly once."""
    rows = [row(span, parent or None, began) for span, parent, began in links]

    spans = list(tree.build("0" * 32, rows, alive))
    found = []
    while spans:
        span = spans.pop()
        found.append(span.name)
        spans += span.children

    assert sorted(found) == sorted({str(span) for span, _, _ in links})


def test_a_very_deep_trace_is_built():
    """Depth is not limited by Python's stack."""
    rows = [row(number + 1, number or None, number) for number in range(20_000)]

    (top,) = tree.build("0" * 32, rows, alive)

    depth = 1
    while top.children:
        (top,) = top.children
        depth += 1
    assert depth == 20_000


@given(st.integers(0, 2**64 - 1))
def test_ids_survive_the_sign(number):
    """All 64-bit ids fit into SQLite's signed integers and back."""
    assert -(2**63) <= signed(number) < 2**63
    assert unsigned(signed(number)) == number


HERE = "host|boot|ns"


@pytest.mark.parametrize(
    ("host", "started", "silence", "ended", "seen", "verdict"),
    [
        (HERE, "77", 10**15, False, "77", True),
        (HERE, "77", 0, False, "78", False),
        (HERE, "77", 0, False, None, False),
        (HERE, "77", 0, True, "77", False),
        (HERE, None, 0, False, "", True),
        (HERE, None, SILENCE_NS, False, "", False),
        (HERE, "77", 0, False, "", True),
        (HERE, None, 0, False, None, False),
        ("other", "77", 0, False, "77", True),
        ("other", "77", SILENCE_NS - 1, False, None, True),
        ("other", "77", SILENCE_NS, False, "77", False),
    ],
)
def test_who_is_alive(host, started, silence, ended, seen, verdict):
    """Here the process itself decides, by its start; elsewhere, or hidden, its heartbeats do."""
    now = 2 * 10**18
    me = Owner("t", 5, host, started, now - silence, ended)

    assert is_alive(me, HERE, now, lambda _: seen) is verdict


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_processes_are_told_apart():
    """A living process has a start, the same at each look; one that ended has none."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    token = start_token(child.pid)
    assert token
    assert start_token(child.pid) == token
    child.kill()
    wait_until(lambda: start_token(child.pid) is None)  # already as a zombie
    child.communicate()

    assert start_token(child.pid) is None
    assert start_token(os.getpid()) == owner.current().started


def test_traces_over_age_are_forgotten(tmp_path):
    """Finished traces over age go when a writer starts; running ones stay, however old."""
    path = tmp_path / "traces.db"
    first = TraceStore(path, max_age=math.inf)
    old = put(first, "old", age=20 * DAY)
    put(first, "young", age=10 * DAY)
    running = start(new_trace("running"))
    running.trace.wall_ns -= 30 * DAY
    first.opened(running)
    wait_until(lambda: len(first.reader().traces()) == 3)
    second = TraceStore(path)
    put(second, "new")

    wait_until(lambda: len(second.reader().traces()) == 3)

    assert {trace.name for trace in second.reader().traces()} == {"young", "running", "new"}
    with pytest.raises(TraceNotFound):
        second.reader().trace(old)
    first.close()
    second.close()


def test_a_file_over_size_loses_its_oldest_traces(tmp_path):
    """A file over its size gives back room: the oldest finished traces go, the latest stay."""
    path = tmp_path / "traces.db"
    first = TraceStore(path)
    for number in range(20):
        for record in flow(100, f"flow {number}", content=b'"' + b"x" * 1000 + b'"'):
            first.closed(record)
    first.flush(10)
    first.close()
    before = path.stat().st_size
    limit = before // 2

    second = TraceStore(path, max_file_bytes=limit)
    put(second, "new")
    wait_until(lambda: second._worker._sweep is None and second.counts().stored == 1)
    wait_until(lambda: len(second.reader().traces(100)) < 21)
    wait_until(lambda: second._worker._sweep is None)
    second.close()

    left = [trace.name for trace in TraceReader(path).traces(100)]
    assert path.stat().st_size <= limit
    assert left == ["new", *(f"flow {number}" for number in range(19, 20 - len(left), -1))]
    assert 5 < len(left) < 12
    rest = sqlite3.connect(path)
    assert rest.execute("SELECT count(*) FROM records").fetchone() == ((len(left) - 1) * 101 + 1,)
    rest.close()


def test_a_large_store_is_listed_at_once(tmp_path):
    """Listing does not get slower with the size of the store."""
    path = tmp_path / "large.db"
    connection = connect(str(path))
    connection.execute("BEGIN")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " INSERT INTO traces (trace_id, owner, entry, name, started_ns, duration_ns, outcome)"
        " SELECT randomblob(16), 1, i, 'flow', i, 5, 'completed' FROM n"
    )
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199999)"
        " INSERT INTO records (trace, owner, span_id, kind, name, started_ns, duration_ns, outcome)"
        " SELECT i / 10 + 1, 1, i, 'node', 'Node', i, 5, 'completed' FROM n"
    )
    connection.execute("COMMIT")
    connection.close()
    reader = TraceReader(path)
    times = []
    for offset in (0, 0, 5000):
        before = time.perf_counter()
        found = reader.traces(20, offset=offset)
        times.append(time.perf_counter() - before)
        assert [trace.spans for trace in found] == [10] * 20

    assert min(times) < 0.05
    assert reader.trace(found[0].trace_id).summary == found[0]
