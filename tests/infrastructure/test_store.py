"""What every store does, in memory, in a file, and in PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from pocketflow_async.infrastructure.store import (
    EmergencyRow,
    LeaseLost,
    NotANumberError,
    OutOfOrderError,
    RunExists,
    StoreUnavailable,
    UnstorableError,
)
from tests.infrastructure.store_kit import KINDS, World, a_run, an_entry, an_event, timeless

HALF = "\ud83d"  # half of a surrogate pair, which is no character


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    """Return where a store of each kind can be."""
    if request.param != "postgres":
        return World(request.param, tmp_path)
    url = request.getfixturevalue("postgres_url")
    return World("postgres", tmp_path, url, request.getfixturevalue("postgres_schema"))


@pytest.fixture
async def world(place):
    """Return an open store of each kind, and its time."""
    async with place:
        yield place


@pytest.fixture
def store(world):
    """Return the store alone."""
    return world.store


# --- values by key --------------------------------------------------------------------------------


async def test_values_are_kept_as_they_are(store):
    """Any bytes under any name, the empty ones too; other keys have nothing."""
    values = {"": b"", "ключ 🔑\n": bytes(range(256)), "%_*?[a]": b"null", "big": bytes(2_000_000)}

    await store.put_many(values)

    assert await store.get_many([*values, "nothing"]) == values
    assert [await store.get(key) for key in values] == list(values.values())
    assert await store.get("nothing") is None
    assert [await store.exists(key) for key in ("", "nothing")] == [True, False]


async def test_later_values_replace_earlier_ones_and_their_time(store, world):
    """A second value has only its own time to live."""
    await store.put("a", b"1", 10)
    await store.put("a", b"2")
    await store.put("b", b"1")
    await store.put("b", b"2", 10)

    await world.pass_time(11)

    assert await store.get_many(["a", "b"]) == {"a": b"2"}


async def test_values_are_over_when_their_time_is(store, world):
    """Nothing can be done with a value whose time is over; for a new one there is room."""
    for key in "abcde":
        await store.put(key, b"1", 10)
    assert await store.keys() == list("abcde")

    await world.pass_time(10)

    assert await store.keys() == []
    assert await store.get("a") is None
    assert await store.exists("a") is False
    assert await store.take("a") is None
    assert await store.delete("b") is False
    assert await store.add("c", 5) == 5
    assert await store.put_if_absent("d", b"2") is True
    assert await store.get_many(list("abcde")) == {"c": b"5", "d": b"2"}


async def test_values_without_any_time_are_over_at_once(store):
    """A time to live of 0 is none."""
    await store.put("a", b"1", 0)

    assert await store.get("a") is None


async def test_sums_keep_the_time_of_what_they_add_to(store, world):
    """`add` begins at 0, takes numbers of any size and sign, and does not make a value live on."""
    await store.put("a", b"40", 10)

    assert await store.add("a", 2) == 42
    assert await store.add("b", -7) == -7
    assert await store.add("b", 10**30) == 10**30 - 7
    assert await store.get("b") == b"%d" % (10**30 - 7)

    await world.pass_time(10)

    assert await store.get("a") is None


@pytest.mark.parametrize("value", [b"", b"1.5", b'"1"', b" 1", b"1_0", b"1\n", b"\xff", b"NaN"])
async def test_only_whole_numbers_are_added_to(store, value):
    """Another value stays as it is, and the error names its key."""
    await store.put("k", value)

    with pytest.raises(NotANumberError, match="'k'"):
        await store.add("k", 1)

    assert await store.get("k") == value


async def test_values_are_put_only_where_there_is_none(store):
    """The first wins."""
    assert await store.put_if_absent("a", b"1") is True
    assert await store.put_if_absent("a", b"2") is False
    assert await store.get("a") == b"1"


async def test_values_are_taken_once(store):
    """`take` and `delete` say what there was."""
    await store.put_many({"a": b"1", "b": b"2"})

    assert [await store.take("a"), await store.take("a")] == [b"1", None]
    assert [await store.delete("b"), await store.delete("b")] == [True, False]


async def test_keys_are_found_by_how_they_begin(store):
    """No character of a prefix means anything but itself; the order is that of Python."""
    keys = ["a", "a%", "a%b", "a_", "ab", "b", "aé", "a\U0010ffff", "a\ud7ffx", "a\ue000", "[a]"]
    await store.put_many(dict.fromkeys(keys, b""))

    for prefix in ("", "a", "a%", "a_", "b", "[", "a\U0010ffff", "a\ud7ff", "zz", "\U0010ffff"):
        assert await store.keys(prefix) == sorted(k for k in keys if k.startswith(prefix))


async def test_what_is_added_at_once_adds_up(store):
    """200 concurrent sums lose none, and of 50 that want to be first one is."""
    await asyncio.gather(*(store.add("n", 1) for _ in range(200)))
    firsts = await asyncio.gather(*(store.put_if_absent("x", b"%d" % n) for n in range(50)))

    assert await store.get("n") == b"200"
    assert firsts.count(True) == 1


async def test_what_is_taken_at_once_is_taken_by_one(store):
    """Of 30 takers one gets the value."""
    await store.put("a", b"1")

    found = await asyncio.gather(*(store.take("a") for _ in range(30)))

    assert sorted(found, key=bool) == [None] * 29 + [b"1"]


@pytest.mark.parametrize("key", ["a\0b", f"a{HALF}"])
async def test_keys_that_some_store_cannot_hold_are_refused_by_all(store, key):
    """What works in memory works in production."""
    for attempt in (
        store.put(key, b""),
        store.put_many({"fine": b"", key: b""}),
        store.get(key),
        store.add(key, 1),
        store.keys(key),
        store.create_run(a_run(key)),
        store.run(key),
        store.claim("r", key, 1),
        store.emergency(key),
    ):
        with pytest.raises(UnstorableError, match="cannot be stored"):
            await attempt

    assert await store.keys() == []


async def test_values_that_are_no_bytes_are_refused(store):
    """A text or number is a mistake, and nothing of its change is kept; a buffer is copied."""
    for value in ("text", 5, None):
        with pytest.raises(UnstorableError, match=type(value).__name__):
            await store.put_many({"a": b"", "k": value})
    buffer = bytearray(b"abc")
    await store.put("b", buffer)
    buffer[0] = 0

    assert await store.get_many(["a", "b"]) == {"b": b"abc"}


# --- emergencies ----------------------------------------------------------------------------------


async def test_a_controller_nobody_has_changed_is_normal(store):
    """There need be no row."""
    assert await store.emergency("any") == EmergencyRow()


async def test_emergencies_are_changed_as_a_whole(store):
    """Each change is told what was, counts one up, and is what everybody reads from then on."""
    halted = EmergencyRow(
        "halt",
        "it burns\0 🔥",
        "2026-01-25T10:15:23.456Z",
        7,
        True,
        {"by": ["me"]},
        {"x": {"a": 1.5}},
    )
    before, after = await store.change_emergency("c", lambda row: halted)
    assert before == EmergencyRow()
    assert after == replace(halted, version=1, reason="it burns\ufffd 🔥")
    assert await store.emergency("c") == after
    assert await store.emergency("other") == EmergencyRow()

    seen = []
    again = await store.change_emergency("c", lambda row: seen.append(row))
    assert again == (after, after)
    assert seen == [after]

    before, last = await store.change_emergency("c", lambda row: replace(row, state="normal"))
    assert (before, last) == (after, replace(after, state="normal", version=2))


async def test_emergencies_are_copies(store):
    """Who changes what it was given, or what it got, changes nothing stored."""
    facts = {"list": [1]}
    _, after = await store.change_emergency("c", lambda row: replace(row, metadata=facts))
    facts["list"].append(2)
    after.metadata["list"].append(3)
    (await store.emergency("c")).metadata["list"].append(4)

    assert (await store.emergency("c")).metadata == {"list": [1]}


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError("no"), StopIteration(), asyncio.CancelledError()]
)
async def test_changes_that_raise_change_nothing(store, error):
    """The error of a change is its caller's; the store goes on."""

    def change(row):
        raise error

    with pytest.raises((type(error), RuntimeError)) as raised:
        await store.change_emergency("c", change)
    # A coroutine cannot raise StopIteration.
    assert raised.value is error or raised.value.__cause__ is error

    assert await store.emergency("c") == EmergencyRow()
    await store.put("a", b"1")
    assert await store.get("a") == b"1"


async def test_emergencies_that_are_no_json_are_refused(store):
    """The error says which part; NaN and infinity are numbers like others here."""
    with pytest.raises(UnstorableError, match="metadata"):
        await store.change_emergency("c", lambda row: replace(row, metadata={"a": object()}))
    await store.change_emergency("c", lambda row: replace(row, limits={"a": float("inf")}))

    assert (await store.emergency("c")).limits == {"a": float("inf")}


async def test_emergencies_changed_at_once_are_changed_one_by_one(store):
    """40 concurrent changes each see the one before."""

    def raised(row):
        return replace(row, metadata={"n": row.metadata.get("n", 0) + 1})

    await asyncio.gather(*(store.change_emergency("c", raised) for _ in range(40)))

    row = await store.emergency("c")
    assert (row.version, row.metadata) == (40, {"n": 40})


# --- runs -----------------------------------------------------------------------------------------


async def test_new_runs_are_kept_with_their_events_and_state(store):
    """All that is given is there, the run owned for the lease by who has created it."""
    given = a_run(
        definition="{}", inputs='{"a": 1}', bot_id="b", strategy_id="s", trace="00-…", error="é\0"
    )
    kept = await store.create_run(given, lease=30, events=[an_event(1)], state={"k": b"v"})

    assert timeless(kept) == timeless(
        replace(given, fence=1, seq=1, error="é\ufffd", lease_until=1)
    )
    assert kept.created_at == kept.updated_at == kept.lease_until - 30 > 1_700_000_000
    assert await store.run("r") == kept
    (event,) = await store.events("r")
    assert event == an_event(1, at=event.at)
    assert event.at == pytest.approx(kept.created_at, abs=1)
    assert await store.get("k") == b"v"
    assert await store.entries("r") == []


async def test_what_there_is_not_is_not_found(store):
    """A run that nobody created is None, and has nothing."""
    assert await store.run("x") is None
    assert await store.entries("x") == await store.events("x") == []
    assert await store.claim("x", "me", 1) is None
    with pytest.raises(LeaseLost):
        await store.renew("x", "me", 1, 1)
    with pytest.raises(LeaseLost):
        await store.append("x", "me", 1)


async def test_runs_are_created_once(store):
    """A second run of that id is refused, and nothing of it is kept."""
    first = await store.create_run(a_run(), lease=30)

    with pytest.raises(RunExists, match="'r'"):
        await store.create_run(a_run(), events=[an_event(1)], state={"k": b"v"})

    assert await store.run("r") == first
    assert await store.events("r") == []
    assert await store.get("k") is None


async def test_runs_grow_by_what_is_appended(store):
    """Entries, events, state and the run itself change together."""
    run = await store.create_run(a_run(), lease=30, events=[an_event(1)])
    lines = [an_entry(1, phase="started"), an_entry(2, key="k", output=b"\0[1]", attempt=2)]
    await store.append("r", "me", 1, entries=lines, events=[an_event(2), an_event(3)])
    await store.append(
        "r", "me", 1, entries=[an_entry(3, error=f"no{HALF}", at=5.0)], state={"k": b"v"},
        status="failed", result="{}", error="bad\0",
    )  # fmt: skip

    kept = await store.entries("r")
    assert [entry.at > 0 for entry in kept] == [True] * 3
    assert kept[2].at == 5.0
    assert timeless(kept) == timeless([*lines, an_entry(3, error="no\ufffd")])
    assert [event.seq for event in await store.events("r")] == [1, 2, 3]
    assert [event.seq for event in await store.events("r", after=1)] == [2, 3]
    assert await store.get("k") == b"v"
    now = await store.run("r")
    assert now == replace(
        run, status="failed", result="{}", error="bad\ufffd", seq=3, places=3,
        updated_at=now.updated_at,
    )  # fmt: skip
    assert now.updated_at >= run.updated_at


async def test_what_is_not_said_stays(store):
    """An append without a status, result or error leaves them, and the owner, as they are."""
    await store.create_run(a_run(), lease=30)
    await store.append("r", "me", 1, status="suspended", result="1", error="waits")
    before = await store.run("r")

    await store.append("r", "me", 1, entries=[an_entry(1)])

    after = await store.run("r")
    assert after == replace(before, places=1, updated_at=after.updated_at)


async def test_an_empty_error_takes_the_old_one_away(store):
    """A run that goes on has none any more; what is not said stays as it is."""
    await store.create_run(a_run(), lease=30)
    await store.append("r", "me", 1, status="suspended", result="1", error="waits")
    before = await store.run("r")

    await store.append("r", "me", 1, status="running", error="")

    after = await store.run("r")
    assert after == replace(before, status="running", error=None, updated_at=after.updated_at)


@pytest.mark.parametrize(
    ("entries", "events", "what"),
    [
        ([2], [], "entry 2 does not follow; 1"),
        ([1, 3], [], "entry 3 does not follow; 2"),
        ([1, 1], [], "entry 1 does not follow; 2"),
        ([0], [], "entry 0"),
        ([1], [1], "event 1 does not follow; 2"),
        ([1], [2, 4], "event 4 does not follow; 3"),
    ],
)
async def test_what_does_not_follow_is_refused(store, entries, events, what):
    """Places and numbers have no gaps and come once; of what was refused nothing is kept."""
    before = await store.create_run(a_run(), lease=30, events=[an_event(1)])

    with pytest.raises(OutOfOrderError, match=what):
        await store.append(
            "r", "me", 1, state={"k": b""}, status="failed",
            entries=[an_entry(place) for place in entries],
            events=[an_event(seq) for seq in events],
        )  # fmt: skip

    assert await store.run("r") == before
    assert await store.entries("r") == []
    assert await store.get("k") is None


async def test_events_of_new_runs_begin_with_one(store):
    """A run whose first event is the second is not created."""
    with pytest.raises(OutOfOrderError):
        await store.create_run(a_run(), events=[an_event(2)])

    assert await store.run("r") is None


async def test_new_runs_may_have_entries(store):
    """They are there with the run, and those that are appended follow; none with a gap is kept."""
    with pytest.raises(OutOfOrderError):
        await store.create_run(a_run(), entries=[an_entry(2)])
    assert await store.run("r") is None

    lines = [an_entry(1, phase="started", key="k"), an_entry(2, output=b"[1]", attempt=2)]
    kept = await store.create_run(a_run(), lease=30, entries=lines, events=[an_event(1)])
    await store.append("r", "me", 1, entries=[an_entry(3)])

    assert kept.places == 2
    found = await store.entries("r")
    assert timeless(found) == timeless([*lines, an_entry(3)])
    assert all(entry.at > 0 for entry in found)
    assert (await store.run("r")).places == 3


async def test_only_who_has_a_run_may_append(store, world):
    """Another owner, an older fence, and one that has given it back are told that it is lost."""
    await store.create_run(a_run(), lease=30)
    for owner, fence in (("you", 1), ("me", 2), ("me", 0)):
        with pytest.raises(LeaseLost):
            await store.append("r", owner, fence, entries=[an_entry(1)])
        with pytest.raises(LeaseLost):
            await store.renew("r", owner, fence, 30)

    await store.append("r", "me", 1, entries=[an_entry(1)], release=True)

    with pytest.raises(LeaseLost, match="'r'"):
        await store.append("r", "me", 1, entries=[an_entry(2)])
    run = await store.run("r")
    assert (run.owner, run.lease_until, run.places) == (None, 0.0, 1)


async def test_zombies_are_fenced(store, world):
    """Who stood still past its lease can write until another has claimed the run, and no more."""
    await store.create_run(a_run(), lease=30)
    await world.pass_time(31)
    await store.append("r", "me", 1, entries=[an_entry(1)])

    claimed = await store.claim("r", "you", 30)
    with pytest.raises(LeaseLost):
        await store.append("r", "me", 1, entries=[an_entry(2)], state={"k": b"zombie"})
    with pytest.raises(LeaseLost):
        await store.renew("r", "me", 1, 30)
    await store.append("r", "you", claimed.fence, entries=[an_entry(2)])

    assert (claimed.owner, claimed.fence, claimed.places) == ("you", 2, 1)
    assert await store.run("r") == replace(
        claimed, places=2, updated_at=(await store.run("r")).updated_at
    )
    assert await store.get("k") is None


async def test_a_process_is_fenced_from_its_own_past(store, world):
    """Who claims its own run again has another fence; the old one is worth nothing."""
    await store.create_run(a_run(), lease=30)
    await world.pass_time(30)

    again = await store.claim("r", "me", 30)

    assert again.fence == 2
    with pytest.raises(LeaseLost):
        await store.append("r", "me", 1)


async def test_runs_are_had_by_one(store, world):
    """A run can be claimed when nobody has it: its lease is over, given back, or never began."""
    await store.create_run(a_run(), lease=30)
    assert await store.claim("r", "you", 30) is None
    assert await store.claim("r", "me", 30) is None
    await store.renew("r", "me", 1, 100)
    await world.pass_time(40)
    assert await store.claim("r", "you", 30) is None
    await store.append("r", "me", 1, release=True)
    claimed = await store.claim("r", "you", 30)
    assert await store.run("r") == claimed

    free = await store.create_run(a_run("free", owner=None), lease=30)
    assert (free.owner, free.fence, free.lease_until) == (None, 0, 0.0)
    assert (await store.claim("free", "you", 30)).fence == 1


async def test_of_many_claimers_one_gets_the_run(store):
    """20 processes that find the same abandoned run do not all go on with it."""
    await store.create_run(a_run(), lease=0)

    claims = await asyncio.gather(*(store.claim("r", f"p{n}", 30) for n in range(20)))

    (one,) = [claim for claim in claims if claim]
    assert await store.run("r") == one
    assert one.fence == 2


async def test_abandoned_runs_are_found_oldest_first(store, world):
    """Those that run and that nobody has; not those that have ended, and not those at work."""
    for name in ("b", "a", "done", "busy", "free"):
        await store.create_run(a_run(name, owner=None if name == "free" else "me"), lease=10)
    await store.append("done", "me", 1, status="completed")
    await store.renew("busy", "me", 1, 100)
    assert [run.run_id for run in await store.abandoned()] == ["free"]

    await world.pass_time(11)

    assert [run.run_id for run in await store.abandoned()] == ["b", "a", "free"]
    assert [run.run_id for run in await store.abandoned(limit=1)] == ["b"]
    assert await store.abandoned(0) == []


async def test_runs_are_listed_newest_first(store):
    """By status, workflow and kind, so many at most."""
    for number in range(6):
        await store.create_run(a_run(f"r{number}", workflow_id=f"w{number % 2}"), lease=10)
    await store.create_run(a_run("f", kind="flow", workflow_id="w0"), lease=10)
    await store.append("r2", "me", 1, status="failed")

    async def found(**wanted):
        return [run.run_id for run in await store.runs(**wanted)]

    assert await found() == ["f", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert await found(limit=2) == ["f", "r5"]
    assert await found(limit=0) == []
    assert await found(workflow_id="w0") == ["f", "r4", "r2", "r0"]
    assert await found(workflow_id="w0", kind="workflow", status="running") == ["r4", "r0"]
    assert await found(status="failed") == ["r2"]
    assert await found(kind="nothing") == []


async def test_many_runs_at_once_keep_apart(store):
    """50 runs written at once each have their own entries and events, without gaps."""

    async def whole(number):
        name = f"r{number}"
        await store.create_run(a_run(name), lease=30, events=[an_event(1, name)])
        for step in range(1, 6):
            await store.append(
                name, "me", 1,
                entries=[an_entry(step, name, output=name.encode())],
                events=[an_event(step + 1, name)],
            )  # fmt: skip
        await store.append(name, "me", 1, status="completed", result=f'"{name}"', release=True)

    await asyncio.gather(*(whole(number) for number in range(50)))

    for run in await store.runs(status="completed"):
        entries, events = await store.entries(run.run_id), await store.events(run.run_id)
        assert [entry.place for entry in entries] == [1, 2, 3, 4, 5]
        assert {entry.output for entry in entries} == {run.run_id.encode()}
        assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]
    assert len(await store.runs(status="completed")) == 50


async def test_one_that_fails_takes_no_other_with_it(store):
    """Of changes made at once, the bad ones are told, and the good ones kept."""
    await store.create_run(a_run(), lease=30)
    await store.put("text", b"x")

    results = await asyncio.gather(
        store.put("a", b"1"),
        store.append("r", "you", 1, state={"bad": b""}),
        store.append("r", "me", 1, entries=[an_entry(1)]),
        store.add("text", 1),
        store.create_run(a_run(), state={"bad": b""}),
        store.change_emergency("c", lambda row: 1 / 0),
        store.put("b", b"2"),
        return_exceptions=True,
    )

    raised = [type(result) for result in results if isinstance(result, BaseException)]
    assert raised == [LeaseLost, NotANumberError, RunExists, ZeroDivisionError]
    assert await store.keys() == ["a", "b", "text"]
    assert (await store.run("r")).places == 1


# --- its life -------------------------------------------------------------------------------------


async def test_cancelled_changes_are_done_or_not(store):
    """A change whose caller is cancelled leaves all of it or nothing, and the store usable."""
    for number in range(40):
        task = asyncio.ensure_future(store.put_many({f"a{number}": b"1", f"b{number}": b"1"}))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await store.put("end", b"")

    left = await store.keys("a")
    assert [key.replace("b", "a") for key in await store.keys("b")] == left


async def test_stores_say_how_they_are(store):
    """A store that works is healthy; after it is closed it is not, and refuses."""
    facts = await store.health()
    assert facts["status"] == "healthy"
    assert (facts["durable"], facts["shared"]) == (store.durable, store.shared)

    await store.close()
    await store.close()

    assert (await store.health())["status"] == "unhealthy"
    for attempt in (store.get("a"), store.put("a", b""), store.run("r"), store.emergency("c")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt


async def test_what_was_asked_for_before_closing_is_done(world):
    """Closing waits for what is under way."""
    store = world.store
    tasks = [asyncio.create_task(store.put(f"k{n}", b"")) for n in range(30)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*tasks)

    if world.kind != "memory":
        async with world.another() as again:
            assert len(await again.keys()) == 30


async def test_others_see_what_is_stored(world):
    """Two stores at one place are one: values, halts and claims of one are those of the other."""
    if world.kind == "memory":
        assert not world.store.shared
        return
    one = world.store
    async with world.another() as two:
        await one.put("a", b"1")
        assert await two.get("a") == b"1"
        await two.change_emergency("c", lambda row: replace(row, state="halt"))
        assert (await one.emergency("c")).state == "halt"
        await asyncio.gather(*(store.add("n", 1) for store in (one, two) * 50))
        assert await one.get("n") == b"100"
        await one.create_run(a_run(), lease=0)
        claims = await asyncio.gather(one.claim("r", "one", 30), two.claim("r", "two", 30))
        assert len([claim for claim in claims if claim]) == 1


async def test_stores_work_from_any_event_loop(world):
    """Threads with loops of their own use the same store at the same time."""
    store = world.store

    async def count(times):
        for _ in range(times):
            await store.add("n", 1)

    threads = [asyncio.to_thread(asyncio.run, count(20)) for _ in range(3)]
    await asyncio.gather(count(20), *threads)

    assert await store.get("n") == b"80"
