"""What goes into the trace store comes out of it again, whoever writes and however much."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracing.store_kit import (
    failure,
    finish,
    flow,
    new_trace,
    phase,
    start,
    wait_until,
)
from tracing.record import phase_id
from tracing.redact import Redactor
from tracing.store import Counts, TraceStore, open_store
from tracing.store.location import default_path, resolve

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


@pytest.mark.parametrize("where", ["file", "memory"])
def test_a_trace_comes_back(make, tmp_path, where):
    """Everything a record holds is read back, from a file and from memory."""
    store = make(tmp_path / "t.db" if where == "file" else None)
    trace = new_trace("research", session_id="s1", user_id="u1", tags=("a", "b"))
    trace.metadata = {"version": 3}
    root = start(trace, name="research")
    node = start(trace, root.span_id, "Fetch", index=4, attributes={"pages": 2})
    phase(node, "prep")
    bad = phase(node, "exec")
    bad.outcome, bad.error, bad.wait = "failed", failure(), 0.5
    phase(node, "exec", attempt=1)
    child = start(trace, phase_id(node.span_id, 2), "helper")
    for record in (root, node, child):
        store.opened(record)
    store.closed(finish(child))
    node.error = failure("no page")
    store.closed(finish(node, "failed"))
    store.closed(finish(root, "failed", content=None))

    assert store.flush(10) == Counts(3, 0, 0, 0)
    summary = store.reader().traces()[0]
    tree = store.reader().trace(f"{trace.trace_id:032x}"[:12].upper())
    top = tree.roots[0]
    below = top.children[0]

    assert (summary.trace_id, summary.name) == (f"{trace.trace_id:032x}", "research")
    assert (summary.outcome, summary.spans, summary.failures) == ("failed", 3, 2)
    assert (summary.session_id, summary.user_id, summary.tags) == ("s1", "u1", ("a", "b"))
    assert summary.metadata == {"version": 3}
    assert summary.started_ns == trace.wall(root.start)
    assert summary.duration_ns == root.end - root.start
    assert tree.summary == summary
    assert (len(tree.roots), tree.dropped) == (1, 0)
    assert (top.name, top.parent_id, top.input, top.outcome) == ("research", None, None, "failed")
    assert (below.name, below.index, below.attributes) == ("Fetch", 4, {"pages": 2})
    assert (below.input, below.error) == (node.input, failure("no page"))
    assert [(p.kind, p.attempt, p.outcome) for p in below.phases] == [
        ("prep", 0, "completed"),
        ("exec", 0, "failed"),
        ("exec", 1, "completed"),
    ]
    assert (below.phases[1].error, below.phases[1].wait, below.attempts) == (failure(), 0.5, 2)
    assert below.phases[1].start_ns == trace.wall(bad.start)
    assert below.phases[1].end_ns == trace.wall(bad.end)
    assert (below.children[0].name, below.children[0].parent_id) == (
        "helper",
        below.phases[2].span_id,
    )


def test_odd_records_do_no_harm(make):
    """Surrogates, huge numbers and NULs in a record are stored in some way, and harm no other."""
    store = make()
    trace = new_trace("na\ud800me")
    trace.metadata = {"deep": {"x": object()}, "\ud800": 2**70}
    odd = start(trace, name="\ud800\x00", index=2**80, attributes={"\ud800": 2**70, "f": print})
    odd.error = failure("bad \ud800 text")
    store.closed(finish(odd))
    broken = start(new_trace())
    broken.phases = None  # type: ignore[assignment]
    broken.name = 5  # type: ignore[assignment]
    store.closed(finish(broken))
    store.closed(finish(start(new_trace("fine"), name="fine")))

    counts = store.flush(10)

    assert counts == Counts(2, 0, 0, 1)
    assert {trace.name for trace in store.reader().traces()} >= {"fine", "na\\ud800me"}
    assert "\\ud800" in store.reader().trace(f"{trace.trace_id:032x}").roots[0].error.message


def test_secrets_never_reach_the_disk(make, tmp_path):
    """Inputs, outputs, attributes and metadata are redacted before anything is written."""
    store = make()
    trace = new_trace()
    trace.metadata = {"api_key": "sk-secret"}
    record = start(trace, attributes={"dbPassword": "sk-secret"})
    store.closed(finish(record, content=b'{"deep":[{"access_token":"sk-secret"}]}'))
    store.flush(10)
    store.close()

    assert b"[redacted]" in Path(str(store.path)).read_bytes()
    for file in tmp_path.iterdir():
        assert b"sk-secret" not in file.read_bytes()


def test_the_strictest_redaction_counts(tmp_path):
    """Who shares a store can ask for more redaction, not for less."""
    path = tmp_path / "shared.db"
    store = open_store(path, redact=False)
    assert store is not None
    assert open_store(path, redact_keys=("iban",)) is store
    assert open_store(path, redact=False) is store
    store.closed(finish(start(new_trace()), content=b'{"iban":"x1","password":"x2"}'))
    store.flush(10)

    root = store.reader().trace(store.reader().traces()[0].trace_id).roots[0]
    store.close()

    assert root.input == b'{"iban":"[redacted]","password":"[redacted]"}'


def test_redaction_can_be_off(make):
    """Without a redactor the content is stored as it is."""
    store = make(redact=None)
    store.closed(finish(start(new_trace()), content=b'{"password":"x"}'))
    store.flush(10)

    tree = store.reader().trace(store.reader().traces()[0].trace_id)

    assert tree.roots[0].input == b'{"password":"x"}'


def test_one_store_for_each_file(tmp_path):
    """A file has one store in a process, whatever its name is written like."""
    (tmp_path / "link").symlink_to(tmp_path)
    store = TraceStore.at(tmp_path / "a.db")

    assert TraceStore.at(str(tmp_path / "link" / ".." / tmp_path.name / "a.db")) is store
    assert TraceStore.at(tmp_path / "b.db") is not store
    store.close()
    assert TraceStore.at(tmp_path / "a.db") is not store
    for name in ("a.db", "b.db"):
        TraceStore.at(tmp_path / name).close()


def test_where_the_store_lies(tmp_path, monkeypatch):
    """The environment names the file, `memory` or `off`; else it is in the user's data folder."""
    assert default_path({"POCKETFLOW_TRACE_STORE": " /x/y.db "}) == "/x/y.db"
    assert default_path({}).endswith("pocketflow-async/traces.db")
    assert resolve("off") is None
    assert resolve("memory") == "memory"
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    assert open_store() is None
    with pytest.raises(ValueError, match="no store at all"):
        TraceStore.at("off")


def test_no_record_no_file_no_thread(make, tmp_path):
    """A store that nobody uses costs nothing and leaves nothing behind."""
    before = threading.active_count()
    store = make()

    assert store.flush(1) == store.counts() == store.close() == Counts(0, 0, 0, 0)
    assert threading.active_count() == before
    assert list(tmp_path.iterdir()) == []


def test_an_idle_worker_sleeps(make):
    """Once everything is written, the thread uses no time and waits for no clock."""
    store = make()
    store.closed(finish(start(new_trace())))
    wait_until(lambda: store.counts().stored == 1)
    wait_until(lambda: store._buffer.idle)
    store.flush(1)

    wait_until(lambda: store._buffer.idle)

    assert store._worker._nap() is None
    store.closed(finish(start(new_trace())))
    wait_until(lambda: store.counts().stored == 2)


def test_a_burst_is_neither_lost_nor_waited_for(make):
    """100,000 records at once: all stored, and no call made the flow wait."""
    store = make()
    records = [record for _ in range(1000) for record in flow(99)]
    slow = []
    for record in records:
        before = time.perf_counter()
        store.opened(record)
        store.closed(record)
        if (took := time.perf_counter() - before) > 0.01:
            slow.append(took)

    assert store.flush(50) == Counts(100_000, 0, 0, 0)
    assert rows(store, "SELECT count(*) FROM records") == [(100_000,)]
    assert len(slow) < 20  # another process may have had the processor for a while
    assert max(slow, default=0) < 0.2


def test_many_threads(make):
    """Eight threads at once lose nothing, and every trace stays whole."""
    store = make()

    def work() -> None:
        for _ in range(50):
            for record in flow(9):
                store.opened(record)
                store.closed(record)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.flush(20) == Counts(4000, 0, 0, 0)
    assert rows(store, "SELECT count(DISTINCT trace), count(*) FROM records") == [(400, 4000)]
    assert not store._buffer.live


def test_overflow_is_counted(make, tmp_path):
    """What exceeds the number of records is dropped, counted, and told to readers."""
    store = make(max_records=100)
    blocker = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    trace = new_trace()
    for _ in range(150):
        store.closed(finish(start(trace)))

    assert store.counts().dropped == 50
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.flush(20) == Counts(100, 0, 0, 50)
    assert store.reader().trace(f"{trace.trace_id:032x}").dropped == 50


def test_bytes_are_bounded(make, tmp_path):
    """What exceeds the bytes of content is dropped; the room is given back afterwards."""
    blocker = sqlite3.connect(tmp_path / "traces.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    store = make(max_bytes=10_000)
    for _ in range(8):
        store.closed(finish(start(new_trace()), content=b"[" + b"1" * 998 + b"]"))
    assert store.counts().dropped == 3
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.flush(20).stored == 5

    store.closed(finish(start(new_trace()), content=b"[" + b"1" * 998 + b"]"))

    assert store.flush(20) == Counts(6, 0, 0, 3)


def test_after_close_records_are_dropped(make):
    """A closed store takes nothing, raises nothing and counts what it drops."""
    store = make()
    store.closed(finish(start(new_trace())))
    assert store.close().stored == 1

    store.opened(record := start(new_trace()))
    store.closed(finish(record))

    assert store.counts() == store.flush(5) == Counts(1, 0, 0, 1)


async def test_aflush_leaves_the_loop_free(make, tmp_path):
    """Awaiting a flush of a locked file does not stop other tasks."""
    store = make()
    blocker = sqlite3.connect(tmp_path / "traces.db", isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN EXCLUSIVE")
    store.closed(finish(start(new_trace())))
    flushing = asyncio.create_task(store.aflush(20))
    turns = 0
    while turns < 20:
        await asyncio.sleep(0)
        turns += not flushing.done()
    blocker.execute("ROLLBACK")
    blocker.close()

    assert await flushing == Counts(1, 0, 0, 0)


def test_a_root_claims_its_trace_however_late(make):
    """A trace first seen by a child has the root's outcome in the end, not the child's."""
    store = make()
    trace = new_trace()
    root = start(trace)
    for number in range(3):
        store.closed(finish(start(trace, root.span_id, f"child {number}")))
        store.flush(10)
    store.closed(finish(root, "failed"))
    store.flush(10)
    store.closed(finish(start(trace, root.span_id, "straggler")))
    store.flush(10)

    summary = store.reader().traces()[0]

    assert (summary.outcome, summary.spans) == ("failed", 5)
    assert summary.duration_ns == root.end - root.start


def test_a_trace_whose_parent_is_elsewhere_ends_with_its_entry(make):
    """With a parent in another system, the first record here stands for the trace."""
    store = make()
    trace = new_trace()
    entry = start(trace, 12345, "served")
    store.opened(entry)
    store.closed(finish(start(trace, entry.span_id)))
    store.flush(10)
    assert store.reader().traces()[0].outcome == "running"
    store.closed(finish(entry, "cancelled"))
    store.flush(10)

    assert store.reader().traces()[0].outcome == "cancelled"
    assert [root.name for root in store.reader().trace(f"{trace.trace_id:032x}").roots] == [
        "served"
    ]


def test_open_rows_follow_the_run(make):
    """An open record is written once it is old enough, again when it goes on, and then closed."""
    now = [0]
    store = make(clock_ns=lambda: now[0], open_after=1.0)
    record = start(new_trace(), name="slow")
    record.start = 0
    record.trace.clock_ns = 0
    store.opened(record)
    store.flush(10)
    assert not store.reader().traces() if Path(str(store.path)).exists() else True
    now[0] = 2_000_000_000
    store.flush(10)
    tree = store.reader().trace(store.reader().traces()[0].trace_id)
    assert (tree.roots[0].outcome, tree.roots[0].phases) == ("running", ())

    record.phases.append(going := phase(start(record.trace), "exec", done=False))
    going.start = 5
    wait_until(lambda: store.reader().trace(tree.summary.trace_id).roots[0].phases)
    record.end, record.outcome = 3_000_000_000, "timed_out"
    store.closed(record)
    store.flush(10)

    done = store.reader().trace(tree.summary.trace_id)
    assert (done.roots[0].outcome, done.summary.outcome) == ("timed_out", "timed_out")
    assert rows(store, "SELECT count(*) FROM records") == [(1,)]


def test_a_dropped_end_does_not_leave_a_record_running(make):
    """A record that is open in the file and whose end was dropped is closed there all the same."""
    store = make(max_records=0, open_after=0)
    record = start(new_trace())
    store.opened(record)
    wait_until(lambda: Path(str(store.path)).exists() and store.reader().traces())

    store.closed(finish(record))
    store.flush(10)

    assert store.reader().traces()[0].outcome == "completed"
    assert store.counts() == Counts(0, 0, 0, 1)


def test_close_writes_what_is_open(make):
    """Records that are open when the store closes are kept, and read as interrupted."""
    store = make()
    store.opened(start(new_trace("left open")))
    store.close()

    summary = store.reader().traces()[0]

    assert (summary.name, summary.outcome, summary.failures) == ("left open", "interrupted", 1)


def test_a_deleted_file_is_made_again(make):
    """Deleting the file while a flow runs loses what was in it, not what comes after."""
    store = make()
    root = start(trace := new_trace())
    store.opened(root)
    store.closed(finish(start(trace, root.span_id)))
    store.flush(10)
    for file in Path(str(store.path)).parent.iterdir():
        file.unlink()
    store.closed(finish(root))
    store.flush(10)

    assert [span.outcome for span in store.reader().trace(f"{trace.trace_id:032x}").roots] == [
        "completed"
    ]


def test_only_the_owner_may_read_the_file(make):
    """The file holds prompts and answers, so it is closed to other users."""
    store = make()
    store.closed(finish(start(new_trace())))
    store.flush(10)

    assert Path(str(store.path)).stat().st_mode & 0o077 == 0


def test_junk_does_not_stop_the_store(make, caplog):
    """Something that is no record at all is dropped, and the store goes on."""
    store = make()
    junk: Any = type("Junk", (), {"size": 0, "span_id": 5})()
    store.closed(junk)
    wait_until(lambda: store.counts().dropped == 1)
    store.closed(finish(start(new_trace())))

    assert store.flush(10) == Counts(1, 0, 0, 1)
    assert "some spans" in caplog.text


def test_the_redactor_of_a_store_can_be_given(make):
    """A store takes any redactor."""
    store = make(redact=Redactor(("colour",), "<gone>"))
    store.closed(finish(start(new_trace()), content=b'{"colour":1}'))
    store.flush(10)

    tree = store.reader().trace(store.reader().traces()[0].trace_id)

    assert tree.roots[0].input == b'{"colour":"<gone>"}'
