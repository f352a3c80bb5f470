"""A sender loses nothing, repeats nothing that has arrived, and stands in nobody's way."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.tracing.spool_kit import FakeWire, ids, is_wire, route, run, target
from tests.tracing.store_kit import wait_until
from tracing.export.delivery import Delivery
from tracing.export.model import Answer, OutSpan
from tracing.export.sender import Sender
from tracing.export.verdict import Backoff, Kind
from tracing.record import Record
from tracing.store import TraceStore

Answers = Callable[[Sequence[OutSpan]], Answer]
Begin = Callable[..., tuple[TraceStore, FakeWire, Sender]]
NO_WAIT = Backoff(first=0.0, refused=0.0, random=lambda: 0.0)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Make a store with a sender to target `one`; both end with the test."""
    made: list[tuple[TraceStore, Sender]] = []

    def begin(
        answers: Answers | None = None,
        *,
        path: Path | None = tmp_path / "s.db",
        backoff: Backoff = NO_WAIT,
        **options: Any,
    ) -> tuple[TraceStore, FakeWire, Sender]:
        store = TraceStore(path)
        wire = FakeWire(target(), answers)
        options.setdefault("delay", 0.01)
        sender = Sender(
            store, target(), connect=lambda _: is_wire(wire), backoff=backoff, **options
        )
        store.couriers.append(sender)
        made.append((store, sender))
        return store, wire, sender

    yield begin
    for store, sender in made:
        sender.stop(time.monotonic() + 1)
        sender.join(time.monotonic() + 5)
        store.close()


def put(store: TraceStore, records: Sequence[Record]) -> None:
    for record in records:
        store.opened(record)
        store.closed(record)


def send(store: TraceStore, sender: Sender, seconds: float = 20.0) -> None:
    assert store.flush(seconds).failed == 0
    sender.flush(time.monotonic() + seconds)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_what_is_stored_arrives_without_being_asked_for(begin, tmp_path, where):
    """The first record starts the thread; everything arrives, in order."""
    store, wire, sender = begin(path=tmp_path / "s.db" if where == "file" else None)
    records = run(route("one"), nodes=30)

    put(store, records)

    wait_until(lambda: sender.sent() == 31)
    assert [span.span_id for span in wire.taken if "." not in span.name] == [
        record.span_id.to_bytes(8, "big") for record in records
    ]
    assert sender.failed() == 0
    assert sender.dropped() == 0


def test_flush_returns_when_all_has_arrived(begin):
    """After a flush nothing waits: neither delay nor company is waited for."""
    store, wire, sender = begin(delay=1000.0)
    records = run(route("one"), nodes=1500)
    put(store, records)

    send(store, sender)

    assert ids(records) <= {span.span_id for span in wire.taken}
    assert sender.sent() == len(records)
    assert len(wire.requests) > 1


def test_nothing_is_sent_when_nothing_is_for_the_target(begin):
    """Records without a route start no thread."""
    store, wire, sender = begin()
    put(store, run(None))

    send(store, sender)

    assert wire.requests == []
    assert sender._thread is None


def test_a_target_that_comes_back_gets_everything_once(begin, caplog):
    """Failures cost nothing but time: one warning, one word when it works again, no repetition."""
    caplog.set_level(logging.INFO, "tracing")
    down = threading.Event()
    down.set()
    store, wire, sender = begin(lambda spans: Answer(None if down.is_set() else 200, "refused"))
    records = run(route("one"), nodes=50)
    put(store, records)
    send(store, sender)
    assert (sender.sent(), sender.failed()) == (0, 51)

    wait_until(lambda: len(wire.requests) > 5)
    down.clear()
    wait_until(lambda: sender.sent() == 51)

    assert sorted(span.span_id for span in wire.taken) == sorted(
        {span.span_id for span in wire.taken}
    )
    assert ids(records) <= {span.span_id for span in wire.taken}
    said = [line.getMessage() for line in caplog.records if line.levelno >= logging.INFO]
    assert len([line for line in said if "do not reach one" in line]) == 1
    assert len([line for line in said if "takes traces again" in line]) == 1
    assert len(said) == 2


def test_flush_waits_for_one_try_only(begin):
    """While a target is in trouble a flush returns after one more try."""
    store, wire, sender = begin(
        lambda spans: Answer(503, "busy"), backoff=Backoff(first=1000.0, random=lambda: 1.0)
    )
    put(store, run(route("one")))
    send(store, sender)
    tried = len(wire.requests)

    sender.flush(time.monotonic() + 1000)

    assert len(wire.requests) == tried + 1
    assert sender.failed() == 4


def test_a_server_that_asks_for_time_gets_it(begin):
    """Retry-After is obeyed, even when somebody flushes meanwhile."""
    store, wire, sender = begin(lambda spans: Answer(429, "slow down", retry_after=200.0))
    put(store, run(route("one")))
    send(store, sender)
    assert len(wire.requests) == 1

    sender.flush(time.monotonic() + 1000)

    assert len(wire.requests) == 1
    assert sender._not_before > time.monotonic() + 150


def test_the_bad_span_is_found_set_aside_and_reported(begin, caplog):
    """Of a batch that is refused only what is refused alone is left out; all else arrives."""
    bad = "Node17.exec"
    store, wire, sender = begin(
        lambda spans: Answer(400, "bad span") if bad in [s.name for s in spans] else Answer(200)
    )
    records = run(route("one"), nodes=40)
    put(store, records)
    send(store, sender)

    names = wire.names
    assert len(names) == len(set(names))
    assert len(names) == 40 * 4 + 1 - 1
    assert "Node17" in names
    assert bad not in names
    (told,) = store.outbox.waiting()
    assert (told.waiting, told.aside) == (0, 1)
    assert told.reason is not None
    assert bad in told.reason
    assert "bad span" in told.reason
    assert sender.dropped() == 1
    assert sender.sent() == 40
    assert any("set aside" in line.getMessage() for line in caplog.records)
    assert len(wire.requests) < 40


def test_requests_that_are_too_large_are_cut(begin):
    """After 413 halves are sent, down to what fits; nothing is lost."""
    store, wire, sender = begin(
        lambda spans: Answer(413, "too large") if len(spans) > 20 else Answer(200)
    )
    records = run(route("one"), nodes=100)
    put(store, records)
    send(store, sender)

    assert len(wire.taken) == 401
    assert store.outbox.waiting()[0].aside == 0


def test_the_size_that_fits_is_remembered(begin):
    """After the first 413 requests are made small enough from the start."""
    refused = []

    def answer(spans: Sequence[OutSpan]) -> Answer:
        if len(spans) > 300:
            refused.append(len(spans))
            return Answer(413, "too large")
        return Answer(200)

    store, wire, sender = begin(answer)
    put(store, run(route("one"), nodes=2000))
    send(store, sender)

    assert len(wire.taken) == 8001
    assert len(refused) == 3  # 512 records, 256, 128: 64 of them fit


def test_an_address_that_takes_nothing_costs_nothing(begin):
    """Where even a request without spans is refused, the address is wrong and not the spans."""
    store, wire, sender = begin(lambda spans: Answer(400, "what is this?"))
    put(store, run(route("one"), nodes=20))
    send(store, sender)

    (told,) = store.outbox.waiting()
    assert (told.waiting, told.aside) == (21, 0)
    batch, probe = wire.requests[:2]  # on a slow machine it has tried again by now
    assert len(batch) == 81
    assert probe == []


def test_a_partial_success_is_not_repeated(begin, caplog):
    """What a server takes but for some spans is done: OTLP says that it must not be sent again."""
    store, wire, sender = begin(lambda spans: Answer(200, "2 were odd", rejected=2))
    put(store, run(route("one")))
    send(store, sender)

    assert len(wire.requests) == 1
    assert store.outbox.waiting()[0].waiting == 0
    assert any("2 of its spans: 2 were odd" in line.getMessage() for line in caplog.records)


def test_an_answer_that_is_no_otlp_is_not_believed(begin):
    """A portal that answers 200 to everything does not make spans vanish."""
    store, _wire, sender = begin(lambda spans: Answer(200, "<html>", valid=False))
    put(store, run(route("one")))
    send(store, sender)

    assert sender.failed() == 4


def test_runs_with_different_resources_go_in_requests_of_their_own(begin):
    """Each route's resource and phases are those it was recorded with."""
    store, wire, sender = begin()
    plain = route("one")
    folded = route("one", shown=frozenset(), release="r2")
    put(store, [*run(plain, 2), *run(folded, 2), *run(plain, 2)])
    send(store, sender)

    assert [len(request) for request in wire.requests] == [18, 3]
    assert [way.release for way in wire.routes] == [None, "r2"]


def test_a_wire_that_raises_is_only_trouble(begin):
    """A mistake in the sending code neither ends the thread nor loses a span."""
    broken = threading.Event()
    broken.set()

    def answer(spans: Sequence[OutSpan]) -> Answer:
        if broken.is_set():
            raise RuntimeError("our own mistake")
        return Answer(200)

    store, _wire, sender = begin(answer)
    put(store, run(route("one")))
    send(store, sender)
    assert sender.failed() == 4

    broken.clear()
    wait_until(lambda: sender.sent() == 4)


def test_a_store_that_is_locked_for_a_moment_is_only_slower(begin, tmp_path):
    """Another process that holds the lock delays the note that something has arrived, no more."""
    locked = sqlite3.connect(tmp_path / "s.db", isolation_level=None, check_same_thread=False)
    taken = threading.Event()

    def answer(spans: Sequence[OutSpan]) -> Answer:
        if not taken.is_set():
            locked.execute("BEGIN IMMEDIATE")
            taken.set()
        return Answer(200)

    with closing(locked):
        store, wire, sender = begin(answer)
        put(store, run(route("one")))
        assert store.flush(20).failed == 0
        assert taken.wait(20)
        wait_until(lambda: len(wire.requests) == 1)
        assert sender.sent() == 0
        locked.execute("ROLLBACK")
        wait_until(lambda: sender.sent() == 4)
    assert len(wire.requests) == 1


def test_a_flow_at_full_speed_is_let_pass(begin):
    """While thousands of records a second arrive, sending waits, but not for ever."""
    now = [1000.0]
    arrived = [0]
    store, _, sender = begin(clock=lambda: now[0], delay=0.5)
    store.arrived = lambda: arrived[0]  # type: ignore[method-assign]

    def half_a_second_with(records: int) -> bool:
        now[0] += 0.5
        arrived[0] += records
        return sender._lets_pass(now[0])

    half_a_second_with(0)
    assert [half_a_second_with(5_000) for _ in range(22)] == [True] * 20 + [False] * 2
    assert not half_a_second_with(10)
    assert half_a_second_with(5_000)


def test_a_forked_child_sends_only_its_own(begin):
    """What was recorded before a fork is sent once, by the parent; the child sends its own."""
    store, wire, sender = begin(delay=1000.0)
    mine = run(route("one"), nodes=3)
    put(store, mine)
    assert store.flush(20).failed == 0
    reading, writing = os.pipe()

    child = os.fork()
    if not child:
        own = run(route("one"), nodes=1)
        put(store, own)
        send(store, sender)
        said = {span.span_id for span in wire.taken if "." not in span.name}
        os.write(writing, b"right" if said == ids(own) else repr(said).encode())
        os._exit(0)
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 1000) == b"right"
    os.close(reading)

    send(store, sender)
    assert {span.span_id for span in wire.taken if "." not in span.name} == ids(mine)


def test_two_targets_make_their_own_progress(tmp_path):
    """One that is down holds up nobody; later it gets what it has missed."""
    store = TraceStore(tmp_path / "s.db")
    down = FakeWire(target("down"), lambda spans: Answer(None, "refused"))
    up = FakeWire(target("up"))
    senders = [
        Sender(store, wire.target, connect=lambda _, wire=wire: wire, backoff=NO_WAIT, delay=0.01)  # type: ignore[misc]
        for wire in (down, up)
    ]
    store.couriers += senders
    records = run(route("down", "up"), nodes=20)
    put(store, records)
    for sender in senders:
        send(store, sender)

    assert (senders[0].sent(), senders[1].sent()) == (0, 21)
    assert {told.name: told.waiting for told in store.outbox.waiting()} == {"down": 21, "up": 0}
    down.answers = lambda spans: Answer(200)
    wait_until(lambda: senders[0].sent() == 21)
    for sender in senders:
        sender.stop(time.monotonic() + 1)
        sender.join(time.monotonic() + 5)
    store.close()
    assert down.closed
    assert up.closed


def test_delivery_stops_where_time_is_up(tmp_path):
    """With no time left what remains is left for later, and what has arrived counts."""
    store = TraceStore(None)
    put(store, [*run(route("one"), 2), *run(route("one", release="x"), 2)])
    assert store.flush(20).failed == 0
    load = store.outbox.take(target().key, 100, 1 << 30)
    wire = FakeWire(target())
    times = iter([1.0, 0.0])

    outcome = Delivery(target(), is_wire(wire)).deliver(load.items, lambda: next(times))

    assert outcome.done == 3
    assert outcome.verdict is not None
    assert outcome.verdict.kind is Kind.RETRY
    store.close()
