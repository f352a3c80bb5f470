"""A store that fails, waits or is another's: nothing is done that is not recorded."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3

import pytest

from pocketflow_async.infrastructure.store.errors import LeaseLost, StoreUnavailable
from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.infrastructure.store.sqlite import SqliteStore
from pocketflow_async.workflow.execution_journal import ExecutionJournal
from pocketflow_async.workflow.recording import Execution, Past
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    Calls,
    executor,
    heard,
    infrastructure,
    provider,
    trade,
    types,
    yields,
)

CHEAP = {PRICE: yields(price=0.5)}


class Failing(MemoryStore):
    """A store whose writes of runs raise from some number on, once or always."""

    def __init__(self, *, at, error=None, always=True):
        super().__init__()
        self.at = at
        self.error = error or StoreUnavailable("test", "is full")
        self.always = always
        self.writes = 0

    def _fail(self):
        self.writes += 1
        if self.writes == self.at or (self.always and self.writes > self.at):
            raise self.error

    async def create_run(self, run, **more):
        self._fail()
        return await super().create_run(run, **more)

    async def append(self, *args, **more):
        self._fail()
        await super().append(*args, **more)


class Slow(MemoryStore):
    """A store whose writes of runs wait, and can be seen to."""

    def __init__(self):
        super().__init__()
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.slow_phase = None

    async def create_run(self, run, *, entries=(), **more):
        await self._wait(entries)
        return await super().create_run(run, entries=entries, **more)

    async def append(self, *args, entries=(), **more):
        await self._wait(entries)
        await super().append(*args, entries=entries, **more)

    async def _wait(self, entries):
        if any(entry.phase == self.slow_phase for entry in entries):
            self.waiting.set()
            await self.go_on.wait()


async def test_an_execution_that_cannot_be_recorded_does_not_begin():
    """Its error comes out; nothing has run, nobody was told, and nothing is there of it."""
    async with infrastructure(Failing(at=1)) as infra:
        events = await heard(infra)
        price = Calls({"price": 0.5})

        with pytest.raises(StoreUnavailable, match="is full"):
            await executor(infra, trade(), {PRICE: price}).execute()

        assert (len(price), events) == (0, [])
        assert await infra.store.runs() == []
        assert await infra.store.keys("workflow:") == []


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("at", range(2, 6))
async def test_what_cannot_be_recorded_is_not_done_and_not_told(at, always, caplog):
    """Whichever write fails, the error comes out; the record has no gap and all effects."""
    async with infrastructure(Failing(at=at, always=always)) as infra:
        events = await heard(infra)
        price, bought = Calls({"price": 0.5}), Calls({"order": 1})

        with caplog.at_level(logging.CRITICAL), pytest.raises(StoreUnavailable):
            await executor(infra, trade(), {PRICE: price, BUY: bought}).execute()

        (row,) = await infra.store.runs()
        stored = [json.loads(event.data) for event in await infra.store.events(row.run_id)]
        entries = await infra.store.entries(row.run_id)
        assert row.status == "running"  # to be recovered: how it stands is in the journal
        assert stored == events
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert [entry.place for entry in entries] == list(range(1, len(entries) + 1))
        began = {entry.node_id for entry in entries if entry.phase == "started"}
        assert len(price) == int("price" in began)
        assert len(bought) == int("order" in began)


async def test_an_execution_of_another_is_left_alone():
    """After `LeaseLost` nothing is done, recorded or told."""
    async with infrastructure(Failing(at=3, error=LeaseLost("r"), always=False)) as infra:
        events = await heard(infra)
        bought = Calls({"order": 1})

        with pytest.raises(LeaseLost):
            await executor(infra, trade(), {**CHEAP, BUY: bought}).execute()

        begun = ["execution_started", "node_started", "node_completed", "node_started"]
        assert types(events) == begun
        assert len(bought) == 0
        assert infra.store.writes == 3


@pytest.mark.parametrize("phase", ["started", "completed"])
async def test_cancelled_in_the_middle_of_a_write(phase):
    """The write comes to its end first; then it is recorded and told that it was cancelled."""
    store = Slow()
    store.slow_phase = phase
    async with infrastructure(store) as infra:
        events = await heard(infra)
        price = Calls({"price": 0.5})
        running = asyncio.ensure_future(executor(infra, trade(), {PRICE: price}).execute())
        await store.waiting.wait()
        running.cancel()
        await asyncio.sleep(0)
        assert not running.done()
        store.slow_phase = None
        store.go_on.set()

        with pytest.raises(asyncio.CancelledError):
            await running

        (row,) = await store.runs()
        stored = [event.type for event in await store.events(row.run_id)]
        assert row.status == "cancelled"
        assert stored == types(events)
        assert stored[-1] == "execution_cancelled"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert len(price) == int(phase == "completed")
        assert (phase == "completed") == ("price" in json.loads(row.result)["outputs"])


async def test_a_locked_database_file(tmp_path):
    """It is named; nothing is half recorded, and the next execution goes through."""
    path = tmp_path / "state.db"
    async with SqliteStore(path, busy_timeout=0.05) as store, infrastructure(store) as infra:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailable, match="is locked by another process"):
            await executor(infra, trade(), CHEAP).execute()

        assert await store.runs() == []
        other.execute("ROLLBACK")
        other.close()
        assert (await executor(infra, trade(), CHEAP).execute())["status"] == "completed"


async def test_results_are_durable(tmp_path):
    """They are in the file when `execute` returns, for whoever opens it next."""
    path = tmp_path / "state.db"
    async with SqliteStore(path) as store, infrastructure(store) as infra:
        result = await executor(infra, trade(), CHEAP).execute()

    async with SqliteStore(path) as store, infrastructure(store) as infra:
        made = executor(infra, trade(), CHEAP)
        key = f"workflow:w:execution:{result['execution_id']}:result"
        assert await infra.state.get(key) == result
        assert (await made.get_execution_history())[0]["status"] == "completed"


async def test_hostile_outputs_are_stored(tmp_path):
    """NULs, half surrogates and a megabyte go into the file and come back."""
    output = {"nul": "a\0b", "half": "\ud800", "big": "x" * 1_000_000, "'; --": "💥"}
    async with SqliteStore(tmp_path / "state.db") as store, infrastructure(store) as infra:
        made = executor(infra, {"blocks": [provider("a'b")]}, {PRICE: yields(**output)})
        result = await made.execute()

        assert result["outputs"]["a'b"] == output
        key = f"workflow:w:execution:{result['execution_id']}:result"
        assert (await infra.state.get(key))["outputs"]["a'b"] == output
        entries = await store.entries(result["execution_id"])
        assert json.loads(entries[1].output) == output


# --- an execution that goes on --------------------------------------------------------------------


async def test_what_was_done_before_is_not_done_again(infra):
    """`go_on` runs what the past does not name, with its outputs, attempts and numbers."""
    events = await heard(infra)
    price, bought = Calls({"price": 0.1}), Calls({"order": 1})
    made = executor(infra, trade(), {PRICE: price, BUY: bought})
    execution = Execution("exec_w_old", "w", made.definition.hash, made.definition.text)
    journal = ExecutionJournal(infra.store)
    await journal.started(execution, [])
    await journal.finished("running", b"{}", None, [])
    await journal.close()
    journal = ExecutionJournal(infra.store)
    await journal.take("exec_w_old")
    past = Past(
        outputs={"price": {"price": 0.5}},
        durations={"price": 12.5},
        attempts={"cheap": 2},
        seq=0,
    )

    result = await made.go_on(execution, past, journal)

    assert (len(price), len(bought)) == (0, 1)
    assert result["status"] == "completed"
    assert result["execution_id"] == made.execution_id == "exec_w_old"
    assert list(result["outputs"]) == ["price", "cheap", "order"]
    assert result["results"][0]["duration"] == 12.5
    assert events[0]["type"] == "execution_resumed"
    assert [event["seq"] for event in events] == list(range(1, 7))
    entries = await infra.store.entries("exec_w_old")
    assert [(one.node_id, one.phase, one.attempt) for one in entries] == [
        *(("cheap", "started", 3), ("cheap", "completed", 3)),
        *(("order", "started", 1), ("order", "completed", 1)),
    ]
    assert bought.contexts[0].idempotency_key == "exec_w_old:order"


async def test_failures_of_the_past_count(infra):
    """What needs a block that failed before is skipped; the result has it all."""
    failed = {"nodeId": "price", "error": "gone", "error_type": "ConnectionError"}
    made = executor(infra, trade(), CHEAP)
    execution = Execution("exec_w_old", "w", made.definition.hash, made.definition.text)
    journal = ExecutionJournal(infra.store)
    await journal.started(execution, [])

    result = await made.go_on(execution, Past(errors={"price": failed}), journal)

    assert result["status"] == "completed_with_errors"
    assert result["errors"] == [failed]
    assert [one["nodeId"] for one in result["skipped"]] == ["cheap", "order"]
