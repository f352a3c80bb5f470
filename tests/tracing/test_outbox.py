"""The spool: what is to be sent is there until it has arrived, for each target by itself."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tracing.spool_kit import route, run, target
from tests.tracing.store_kit import finish, new_trace, phase, start
from tracing.record import FAILED, Keep, Record
from tracing.store import TraceStore
from tracing.store.load import Load

Make = Callable[..., TraceStore]
EVERYTHING = 1 << 40


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


def store_all(store: TraceStore, records: list[Record]) -> None:
    for record in records:
        store.opened(record)
        store.closed(record)
    assert store.flush(20).failed == 0


def take(store: TraceStore, name: str = "one", most: int = 1000, room: int = EVERYTHING) -> Load:
    return store.outbox.take(target(name).key, most, room)


def span_ids(load: Load) -> list[int]:
    return [int(item.span.span_id, 16) for item in load.items]


def ids(records: list[Record]) -> list[int]:
    return [record.span_id for record in records]


@pytest.mark.parametrize("path", ["file", None])
def test_records_wait_for_each_target_of_their_route(make, tmp_path, path):
    """Each target has what its routes say, in the order in which it finished, and nothing else."""
    store = make(tmp_path / "s.db" if path else None)
    both, one, none = run(route("one", "two")), run(route("one")), run(None)

    store_all(store, [*both, *one, *none])

    assert span_ids(take(store)) == ids([*both, *one])
    assert span_ids(take(store, "two")) == ids(both)
    assert take(store, "three").items == []


def test_a_load_is_there_until_it_is_settled(make):
    """Taking changes nothing; settling the first items leaves the others, in order."""
    store = make()
    records = run(route("one"), nodes=9)
    store_all(store, records)

    load = take(store)
    store.outbox.settle(target("one").key, load, 4)

    assert span_ids(load) == ids(records)
    assert span_ids(take(store)) == ids(records)[4:]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    steps=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=30),
)
def test_any_sequence_of_loads_gives_every_record_once_and_in_order(make, batches, steps):
    """However loads are cut and however much of each arrives, nothing is left out or repeated."""
    store = make(None)
    records = []
    for nodes in batches:
        some = run(route("one"), nodes)
        store_all(store, some)
        records += some
    arrived: list[int] = []

    for most, done in steps:
        load = take(store, most=most)
        done = min(done, len(load.items))
        arrived += span_ids(load)[:done]
        store.outbox.settle(target("one").key, load, done)
    while (load := take(store, most=5)).items:
        arrived += span_ids(load)
        store.outbox.settle(target("one").key, load, len(load.items))

    assert arrived == ids(records)
    assert store.outbox.own(target("one").key) == 0


def test_a_load_is_bounded_by_bytes_but_never_empty(make):
    """Large contents make small loads; a record larger than all room comes alone."""
    store = make()
    records = run(route("one"), nodes=4)
    for record in records:
        record.input = b'"' + b"x" * 10_000 + b'"'
    store_all(store, records)

    assert len(take(store, room=25_000).items) == 2
    assert len(take(store, room=1).items) == 1


def test_an_item_has_what_is_needed_to_send_it_alone(make):
    """Facts of the trace, phase of the parent, events and shape come with the record."""
    store = make()
    way = route("one", shown=frozenset({"exec"}))
    trace = new_trace("research", route=way, session_id="s", user_id="u", tags=("a",), state="x=1")
    root = start(trace)
    node = start(trace, root.span_id, "Node", host=root)
    phase(node, "prep")
    inner = start(trace, 0, "Inner", host=node)
    phase(node, "exec")
    from tracing.record import phase_id

    inner.parent_id = phase_id(node.span_id, 1)
    event = Record(trace, 77, inner.span_id, "event", "seen", time.perf_counter_ns())
    event.attributes = {"page": 3}
    store_all(store, [finish(event), finish(inner), finish(node), finish(root)])

    items = take(store).items

    assert [item.span.name for item in items] == ["Inner", "Node", "Node"]
    first = items[0]
    assert first.within == (1, "exec")
    assert items[1].within is None
    assert [(event.name, event.attributes) for event in first.span.events] == [
        ("seen", {"page": 3})
    ]
    assert (first.facts.name, first.facts.session_id, first.facts.user_id) == ("research", "s", "u")
    assert first.facts.tags == ("a",)
    assert first.state == "x=1"
    assert first.shape == way.shape
    assert [item.foreign for item in items] == [False, False, False]


def test_a_first_record_with_a_parent_elsewhere_is_foreign(make):
    """The root of what this process has of a trace says that its parent is in another system."""
    store = make()
    record = start(new_trace(route=route("one")), 0xABC)
    store_all(store, [finish(record)])

    assert [item.foreign for item in take(store).items] == [True]


def test_what_is_set_aside_is_told_and_not_sent(make):
    """A record that a target never takes is counted with its reason, and does not come again."""
    store = make()
    records = run(route("one"), nodes=2)
    store_all(store, records)
    key = target("one").key
    load = take(store)

    store.outbox.set_aside(key, [load.items[0].row], "Node0: 400 bad id")
    store.outbox.settle(key, load, 1)

    (told,) = store.outbox.waiting()
    assert (told.name, told.waiting, told.aside, told.reason) == ("one", 2, 1, "Node0: 400 bad id")
    assert span_ids(take(store)) == ids(records)[1:]


def test_records_deleted_before_they_were_sent_are_counted(make, tmp_path):
    """What age or size took away is missing from the load, and the load says how many."""
    store = make()
    records = run(route("one"), nodes=3)
    store_all(store, records)
    with closing(sqlite3.connect(tmp_path / "traces.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM records WHERE name IN ('Node0', 'Node2')")

    load = take(store)
    store.outbox.settle(target("one").key, load, len(load.items))

    assert (len(load.items), load.missing) == (2, 2)
    assert take(store).parts == []


def test_secrets_of_a_target_are_not_in_the_file(make, tmp_path):
    """Of headers the store keeps a fingerprint only."""
    secret = target("one", headers={"authorization": "Basic c2VjcmV0"})
    from tracing.export.model import Route

    store = make()
    store_all(store, run(Route((secret,), {})))
    store.close()

    assert b"c2VjcmV0" not in (tmp_path / "traces.db").read_bytes()


CHILD = """
import os, signal, sys, time
from tests.tracing.spool_kit import route, run
from tests.tracing.store_kit import finish, new_trace, start
from tracing.store import TraceStore
store = TraceStore(sys.argv[1], open_after=0.0)
for record in run(route("one"), 2):
    store.opened(record)
    store.closed(record)
trace = new_trace(route=route("one"))
root = start(trace)
store.opened(root)
node = finish(start(trace, root.span_id, "Done", host=root))
store.closed(node)
assert store.flush(20).failed == 0
print("stored", flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("death", ["kill", "exit"])
def test_what_a_dead_process_left_goes_to_the_next(make, tmp_path, child_env, death):
    """Finished records, and those that were open when it died, are taken over, once."""
    path = tmp_path / "s.db"
    command = [sys.executable, "-c", CHILD, str(path), death]
    child = subprocess.run(command, env=child_env, capture_output=True, text=True, timeout=40)
    assert "stored" in child.stdout, child.stderr
    store = make(path)
    store.sign()
    writer = store._writer
    for _ in writer.sweep():
        pass

    adopted = store.outbox.adopt(target("one").key)
    load = take(store)

    assert adopted == 5
    assert sorted(item.span.outcome for item in load.items) == [*["completed"] * 4, "interrupted"]
    assert store.outbox.adopt(target("one").key) == 0


def test_what_a_living_process_has_is_left_to_it(make, tmp_path):
    """Another store of a living process sends its own."""
    first, second = make(tmp_path / "s.db"), make(tmp_path / "s.db")
    store_all(first, run(route("one")))
    second.sign()

    assert second.outbox.adopt(target("one").key) == 0
    assert take(second).items == []
    assert len(take(first).items) == 4


@pytest.mark.parametrize(
    ("keep", "fields", "sent"),
    [
        (Keep(True, True, None), {}, False),
        (Keep(True, False, None), {"outcome": FAILED}, True),
        (Keep(False, True, None), {"outcome": FAILED}, False),
        (Keep(False, True, None), {"attempts": 2}, True),
        (Keep(True, False, None), {"attempts": 2}, False),
        (Keep(False, False, 0), {}, True),
        (Keep(False, False, 10**15), {}, False),
        (None, {}, True),
    ],
)
def test_a_trace_outside_the_sample_is_sent_whole_if_it_matters(make, keep, fields, sent):
    """Failed, retried or slow: all of it goes out; otherwise none, and the store has it anyway."""
    store = make()
    records = run(route("one"), nodes=3, keep=keep, **fields)

    for record in records:
        store.opened(record)
    for record in records:  # one by one: it is decided at the end about what is stored already
        store.closed(record)
        assert store.flush(20).failed == 0

    assert sorted(span_ids(take(store))) == (sorted(ids(records)) if sent else [])
    assert store.reader().traces()[0].spans == 4


def test_what_comes_late_follows_its_trace(make):
    """A record after the end goes out if the trace did; a failed one takes the whole with it."""
    store = make()
    kept = run(route("one"), nodes=1, keep=Keep(True, True, None), outcome=FAILED)
    plain = run(route("one"), nodes=1, keep=Keep(True, True, None))
    store_all(store, [*kept, *plain])
    late = start(kept[0].trace, kept[-1].span_id, "Late", host=kept[-1])
    quiet = start(plain[0].trace, plain[-1].span_id, "Late", host=plain[-1])
    store_all(store, [finish(late), finish(quiet)])
    first = span_ids(take(store))

    bad = start(plain[0].trace, plain[-1].span_id, "Bad", host=plain[-1])
    store_all(store, [finish(bad, outcome=FAILED)])

    assert sorted(first) == sorted([*ids(kept), late.span_id])
    assert sorted(span_ids(take(store))) == sorted(
        [*first, *ids(plain), quiet.span_id, bad.span_id]
    )


def test_what_was_sent_leaves_a_store_in_transit(make):
    """A store that nobody reads keeps nothing that has arrived."""
    store = make(None, is_transit=True)
    store_all(store, run(route("one"), nodes=5))
    load = take(store)

    store.outbox.settle(target("one").key, load, 3)
    assert store.reader().traces()[0].spans == 6
    load = take(store)
    store.outbox.settle(target("one").key, load, len(load.items))

    assert store.reader().traces() == []


def test_a_file_of_format_1_is_brought_up_to_date(make, tmp_path):
    """A store of the version before is read, written and sent from."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        from tracing.store.schema import _TABLES, APPLICATION

        old = _TABLES.replace("    route INTEGER,\n    within TEXT,\n", "")
        old = old.replace(
            "    outcome TEXT,\n    sampled INTEGER,\n    state TEXT\n", "    outcome TEXT\n"
        )
        connection.executescript(old)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("PRAGMA user_version = 1")
        assert "sampled" not in old
        assert "route" not in old
    store = make(path)

    store_all(store, run(route("one")))

    assert len(take(store).items) == 4
