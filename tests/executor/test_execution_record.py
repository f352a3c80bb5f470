"""What is kept together, what is not, and what is asked between being told of and being done."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyHalted
from pocketflow_async.infrastructure.events.bus import WORKFLOW_EVENTS
from pocketflow_async.infrastructure.store.errors import LeaseLost
from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.infrastructure.store.sqlite import SqliteStore
from pocketflow_async.workflow.execution_journal import ExecutionJournal
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    Calls,
    executor,
    infrastructure,
    provider,
    trade,
    yields,
)

CHEAP = {PRICE: yields(price=0.5)}


class Noting(MemoryStore):
    """A store that notes what each transaction has, and how often it is asked for a halt."""

    def __init__(self):
        super().__init__()
        self.transactions = []
        self.looks = 0

    async def create_run(self, run, *, entries=(), **more):
        self.transactions.append(["row", *said(entries)])
        return await super().create_run(run, entries=entries, **more)

    async def append(self, *args, entries=(), status=None, **more):
        ends = [status] if status else []
        self.transactions.append([*said(entries), *ends])
        await super().append(*args, entries=entries, status=status, **more)

    async def emergency(self, controller_id):
        self.looks += 1
        return await super().emergency(controller_id)


def said(entries):
    return [f"{entry.node_id} {entry.phase}" for entry in entries]


async def test_a_run_of_one_block_has_two_transactions():
    """That it begins with the intent, what came of it with the end; two looks for a halt."""
    async with infrastructure(Noting()) as infra:
        made = executor(infra, {"blocks": [provider("price")]}, CHEAP)
        await made.initialize()
        infra.store.looks = 0
        await made.execute()

        assert infra.store.transactions == [
            ["row", "price started"],
            ["price completed", "completed"],
        ]
        assert infra.store.looks == 2


async def test_what_was_done_is_kept_before_an_action_is_asked_for():
    """Without an effect, a result is kept with the next intent; before an action, by itself."""
    async with infrastructure(Noting()) as infra:
        await executor(infra, trade(), {**CHEAP, BUY: yields(order=1)}).execute()

        assert infra.store.transactions == [
            ["row", "price started"],
            ["price completed", "cheap started"],
            ["cheap completed"],
            ["order started"],
            ["order completed", "completed"],
        ]


async def test_who_is_told_of_a_result_may_halt_the_action_after_it():
    """A listener that halts at once is in time: the action after what it heard is not done."""
    async with infrastructure() as infra:
        bought = Calls({"order": 1})

        async def listener(event):
            if event["type"] == "node_completed" and event["node_id"] == "cheap":
                await infra.emergency.halt("it fell")

        await infra.events.subscribe(WORKFLOW_EVENTS, listener)
        with pytest.raises(EmergencyHalted, match="it fell"):
            await executor(infra, trade(), {**CHEAP, BUY: bought}).execute()

        assert len(bought) == 0


async def test_an_execution_that_was_lost_while_it_was_told_of_has_no_effect():
    """The lease is looked at last, after events were published, which may take long."""
    now = [0.0]

    class Late(ExecutionJournal):
        def __init__(self, store):
            super().__init__(store)
            self._journal._monotonic = lambda: now[0]

    async with infrastructure() as infra:
        bought = Calls({"order": 1})
        made = executor(infra, trade(), {**CHEAP, BUY: bought})

        async def recording(execution):
            return Late(infra.store)

        async def publish(channel, event):
            if event["type"] == "node_started" and event["node_id"] == "order":
                now[0] += 1000.0  # it stood still, and another has taken it
                row = infra.store._runs[event["execution_id"]]
                infra.store._runs[row.run_id] = type(row)(
                    **{name: getattr(row, name) for name in row.__slots__} | {"owner": "another"}
                )

        made._recording = recording
        infra.events.publish = publish
        with pytest.raises(LeaseLost):
            await made.execute()

        assert len(bought) == 0


async def test_executions_are_numbered_in_the_order_of_time(tmp_path):
    """So that their rows lie side by side; no two have the same id."""
    async with SqliteStore(tmp_path / "s.db") as store, infrastructure(store) as infra:
        made = executor(infra, {"blocks": [provider("price")]}, CHEAP)
        ids = []
        for _ in range(3):
            ids.append((await made.execute())["execution_id"])
            await asyncio.sleep(0.002)

        assert ids == sorted(set(ids))
