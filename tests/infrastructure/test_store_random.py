"""Random operations: a file and PostgreSQL answer as memory does, whatever is asked."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketflow_async.infrastructure.store import MemoryStore, StoreError
from tests.infrastructure.store_kit import World, a_run, an_entry, an_event, timeless

KEYS = st.sampled_from(["", "a", "ab", "b%", "é", "\U0010ffff", "a\0"])
VALUES = st.sampled_from([b"", b"7", b"-12", b"x", b"\xff\0", b"1.0"])
TTLS = st.sampled_from([None, 0.0, 100.0, 1000.0])
IDS = st.sampled_from(["r1", "r2"])
OWNERS = st.sampled_from(["me", "you"])
NUMBERS = st.integers(0, 4)
STATE = st.none() | st.dictionaries(KEYS, VALUES, max_size=2)
LEASES = st.sampled_from([0.0, 100.0, 1000.0])
TEXTS = st.none() | st.sampled_from(["done", "é\0", "\ud800x"])


def made(name, *args, **options):
    return st.tuples(st.just(name), st.tuples(*args), st.fixed_dictionaries({}, optional=options))


def halted(state, key):
    def change(row):
        if state is None:
            return None
        return replace(row, state=state, metadata={**row.metadata, key: row.version})

    return change


ENTRIES = st.lists(st.builds(an_entry, NUMBERS, output=st.none() | VALUES, error=TEXTS), max_size=2)
EVENTS = st.lists(st.builds(an_event, NUMBERS), max_size=2)
OPERATIONS = st.one_of(
    made("get", KEYS),
    made("get_many", st.lists(KEYS, max_size=4)),
    made("put", KEYS, VALUES, TTLS),
    made("put_many", st.dictionaries(KEYS, VALUES, max_size=3), TTLS),
    made("put_if_absent", KEYS, VALUES, TTLS),
    made("add", KEYS, st.integers(-(10**20), 10**20)),
    made("take", KEYS),
    made("delete", KEYS),
    made("exists", KEYS),
    made("keys", KEYS),
    made("emergency", KEYS),
    made("change_emergency", KEYS, st.builds(halted, st.sampled_from([None, "halt", "x\0"]), KEYS)),
    made(
        "create_run",
        st.builds(a_run, IDS, owner=st.none() | OWNERS, error=TEXTS),
        lease=LEASES,
        events=EVENTS,
        state=STATE,
    ),
    made("run", IDS),
    made("runs", status=st.sampled_from(["running", "done"]), limit=NUMBERS),
    made("abandoned", NUMBERS),
    made("claim", IDS, OWNERS, LEASES),
    made("renew", IDS, OWNERS, NUMBERS, LEASES),
    made(
        "append",
        *(IDS, OWNERS, st.integers(1, 3)),
        entries=ENTRIES,
        events=EVENTS,
        state=STATE,
        status=TEXTS,
        result=TEXTS,
        error=TEXTS,
        release=st.booleans(),
    ),
    made("entries", IDS),
    made("events", IDS, NUMBERS),
    made("pass_time", st.sampled_from([50.0, 150.0])),
)


async def answer(store, name, args, options):
    try:
        return await getattr(store, name)(*args, **options)
    except StoreError as error:
        return type(error), str(error)


async def all_of(store):
    runs = await store.runs()
    return (
        await store.get_many(await store.keys()),
        runs,
        [await store.entries(run.run_id) for run in runs],
        [await store.events(run.run_id) for run in runs],
    )


async def assert_same_answers(world, operations, same):
    """Do the same with *world*'s store and with one in memory."""
    async with world, MemoryStore(clock=world.clock) as model:
        for name, args, options in operations:
            if name == "pass_time":
                await world.pass_time(*args)
                continue
            wanted = await answer(model, name, args, options)
            assert same(await answer(world.store, name, args, options)) == same(wanted)
        assert same(await all_of(world.store)) == same(await all_of(model))


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=40))
def test_files_answer_as_memory_does(operations):
    """Whatever is done to a store in a file, its answers, errors and contents are the model's."""
    with TemporaryDirectory() as folder:
        asyncio.run(
            assert_same_answers(World("sqlite", Path(folder)), operations, lambda value: value)
        )


@pytest.fixture
def empty(postgres_url, postgres_schema, tmp_path):
    """Return what makes an empty world in PostgreSQL, again and again."""

    async def prepare():
        async with World("postgres", tmp_path, postgres_url, postgres_schema):
            connection = await asyncpg.connect(postgres_url)
            try:
                await connection.execute(f'SET search_path = "{postgres_schema}"')
                await connection.execute("TRUNCATE state, emergencies, runs, entries, events")
            finally:
                await connection.close()
        return World("postgres", tmp_path, postgres_url, postgres_schema)

    return prepare


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(OPERATIONS, max_size=40))
def test_postgresql_answers_as_memory_does(empty, operations):
    """As above; only the times, which are of another clock, are left out."""

    async def run():
        await assert_same_answers(await empty(), operations, timeless)

    asyncio.run(run())


@given(st.text())
def test_any_text_is_kept_whole_or_mended(text):
    """What cannot be stored becomes U+FFFD; JSON stays what it was, escapes or not."""
    from pocketflow_async.infrastructure.store.kept import prose

    mended = prose(text)
    mended.encode()
    assert "\0" not in mended
    assert prose(mended) == mended
    if "\0" not in text:
        assert len(mended) <= len(text)
    assert prose(json.dumps(text)) == json.dumps(text)
    plain = text.encode("utf-8", "ignore").decode()
    assert json.loads(prose(json.dumps(plain, ensure_ascii=False))) == plain
