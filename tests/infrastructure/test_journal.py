"""A run that this process has: leases, fences, and what is known after an error."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.infrastructure.journal import Line, RunJournal
from pocketflow_async.infrastructure.store.errors import (
    LeaseLost,
    RunExists,
    StoreUnavailable,
    UnstorableError,
)
from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.infrastructure.store.model import EventRow, RunRow


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Failing:
    """A store one of whose methods fails, before or after it has done its work."""

    def __init__(self, store, method, error, *, after=False):
        self.store = store
        self.method = method
        self.error = error
        self.after = after

    def __getattr__(self, name):
        real = getattr(self.store, name)
        if name != self.method or self.error is None:
            return real

        async def fail(*args, **more):
            error, self.error = self.error, None
            if self.after:
                await real(*args, **more)
            raise error

        return fail


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def store(time):
    return MemoryStore(clock=time)


def row(run_id="r", owner="a"):
    return RunRow(run_id, "workflow", "w", "hash", owner=owner)


async def begun(store, **options):
    journal = RunJournal(store, owner="a", **options)
    await journal.create(row())
    return journal


async def test_lines_get_their_places_one_after_another(store):
    """Over several writes, and by whoever has the run; events go with them."""
    first = await begun(store)
    await first.write([Line("n", "started", 1, "k")], [EventRow("r", 1, "t", "{}")])
    await first.write([Line("n", "completed", 1, "k", b"1"), Line("m", "skipped", error="why")])
    await first.write(release=True)
    await first.close()

    second = RunJournal(store, owner="b")
    await second.take("r")
    await second.write([Line("m", "started")], status="completed", release=True)
    await second.close()

    entries = await store.entries("r")
    assert [(entry.place, entry.node_id, entry.phase) for entry in entries] == [
        (1, "n", "started"),
        (2, "n", "completed"),
        (3, "m", "skipped"),
        (4, "m", "started"),
    ]
    kept = await store.run("r")
    assert (kept.status, kept.owner, kept.seq) == ("completed", None, 1)


async def test_a_run_is_taken_only_when_its_lease_is_over(store, time):
    """Before, nobody gets it; after, the first owner can write no more, and is told."""
    first, second = await begun(store, lease=10), RunJournal(store, owner="b", lease=10)
    assert await second.take("r") is None

    time.now += 11
    taken = await second.take("r")

    assert (taken.owner, taken.fence) == ("b", 2)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await first.write([Line("n", "started")])
    with pytest.raises(LeaseLost):
        await first.still_ours()
    await second.write([Line("n", "started")])
    await first.close()
    await second.close()


async def test_the_lease_is_renewed_while_the_run_is_held(time):
    """So a long node does not lose its run; after `close` it is renewed no more."""
    renewed = asyncio.Event()

    class Noting(MemoryStore):
        async def renew(self, *args):
            await super().renew(*args)
            renewed.set()

    store = Noting(clock=time)
    journal = await begun(store, lease=0.03)
    time.now += 5

    await renewed.wait()
    assert (await store.run("r")).lease_until == pytest.approx(time.now + 0.03)

    await journal.close()
    assert len(asyncio.all_tasks()) == 1


async def test_a_process_that_stood_still_asks_before_it_goes_on(store, time):
    """If nobody has taken the run, it has it again; if somebody has, it must not go on."""
    mine = Time()
    journal = await begun(store, lease=10, monotonic=mine)
    mine.now += 11
    time.now += 11

    await journal.still_ours()
    assert (await store.run("r")).lease_until == time.now + 10

    mine.now += 11
    time.now += 11
    await store.claim("r", "b", 10)
    with pytest.raises(LeaseLost):
        await journal.still_ours()
    await journal.close()


@pytest.mark.parametrize("after", [False, True], ids=["not written", "written"])
async def test_nothing_is_written_after_an_error_that_leaves_open_what_was(store, after):
    """The run stays as it is, until its lease is over."""
    failing = Failing(store, "append", StoreUnavailable("here", "is away"), after=after)
    journal = await begun(failing)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await journal.write([Line("n", "completed", output=b"1")])
    with pytest.raises(StoreUnavailable):
        await journal.write(status="failed", release=True)

    assert len(await store.entries("r")) == after
    assert (await store.run("r")).status == "running"
    await journal.close()


async def test_a_write_that_was_cancelled_is_the_last(store):
    """It is not known what became of it."""
    journal = await begun(Failing(store, "append", asyncio.CancelledError()))

    with pytest.raises(asyncio.CancelledError):
        await journal.write([Line("n", "started")])
    with pytest.raises(LeaseLost):
        await journal.write([Line("n", "started")])
    await journal.close()


async def test_what_cannot_be_stored_does_no_harm(store):
    """Nothing of it was written, so the end can be written."""
    journal = await begun(store)
    with pytest.raises(UnstorableError):
        await journal.write([Line("a\0b", "started")])

    await journal.write(status="failed", release=True)

    assert (await store.run("r")).status == "failed"
    await journal.close()


async def test_a_run_is_created_once(store):
    """The second to do so is told."""
    journal = await begun(store)
    other = RunJournal(store, owner="b")

    with pytest.raises(RunExists):
        await other.create(row(owner="b"))
    with pytest.raises(LeaseLost):
        await other.write([Line("n", "started")])
    await journal.close()


async def test_a_lease_that_cannot_be_renewed_is_tried_again(caplog):
    """The store may be back in time."""
    tries, seen = asyncio.Queue(), []

    class Away(MemoryStore):
        async def renew(self, *args):
            tries.put_nowait(args)
            seen.append(args)
            if len(seen) == 1:
                raise StoreUnavailable("here", "is away")
            await super().renew(*args)

    journal = await begun(Away(), lease=0.03)
    for _ in range(2):
        await tries.get()

    assert "is not renewed" in caplog.text
    await journal.still_ours()
    await journal.close()
