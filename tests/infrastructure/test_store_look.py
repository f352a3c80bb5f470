"""The state of emergencies is seen without the store's thread, and as it is."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from pocketflow_async.infrastructure.store import SqliteStore, StoreUnavailable
from pocketflow_async.infrastructure.store.sqlite_look import Look
from pocketflow_async.infrastructure.store.sqlite_schema import identity


@pytest.fixture
async def store(tmp_path):
    """Return an open store that does not wait long for others."""
    async with SqliteStore(tmp_path / "store.db", busy_timeout=0.2) as store:
        yield store


def halted(row):
    return replace(row, state="halt")


async def test_what_others_have_committed_is_seen(store):
    """Each change of another connection is there at the next look."""
    async with SqliteStore(store.path) as other:
        for version in range(1, 5):
            await other.change_emergency("c", halted)
            seen = store._worker.look("c")
            assert (seen.state, seen.version) == ("halt", version)
            assert await store.emergency("c") == seen


async def test_a_busy_thread_and_a_long_change_are_not_waited_for(store):
    """Neither what this store does meanwhile, nor the transaction of another program."""
    await store.change_emergency("c", halted)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await store.emergency("c")).state == "halt"
        other.execute("ROLLBACK")


async def test_there_is_no_answer_where_something_is_in_the_way(store, monkeypatch):
    """Another thread that looks, another process, another file: the store's thread is asked."""
    await store.change_emergency("c", halted)
    with closing(Look(store.path, identity(store.path))) as look:
        assert look.emergency("c").state == "halt"
        with look._lock:
            assert look.emergency("c") is None
        look._file = (0, 0)
        assert look.emergency("c") is None
        look._file = identity(store.path)
        look._pid = os.getpid() + 1
        assert look.emergency("c") is None
        look._pid = os.getpid()
    assert look.emergency("c") is None
    look.close()

    monkeypatch.setattr(Look, "emergency", lambda *_: None)
    assert (await store.emergency("c")).state == "halt"


async def test_a_file_that_was_replaced_is_told_of(store):
    """The halt in the old one is not forgotten for what the new one says."""
    await store.change_emergency("c", halted)
    os.rename(store.path, store.path.with_suffix(".old"))

    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.emergency("c")


async def test_a_closed_store_answers_no_more(store):
    """Not even with what it has seen, and its file is closed."""
    await store.change_emergency("c", halted)
    await store.close()

    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.emergency("c")


async def test_many_threads_may_look_at_once(store):
    """Each gets the state or no answer, and never an error."""
    await store.change_emergency("c", halted)
    found = []

    def look():
        found.extend(store._worker.look("c") for _ in range(200))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {None if row is None else row.state for row in found} <= {None, "halt"}
    assert len(found) == 800
