"""Many workflows at once through one infrastructure."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from pocketflow_async.infrastructure.logging_context import current
from pocketflow_async.infrastructure.store.sqlite import SqliteStore
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    executor,
    heard,
    infrastructure,
    trade,
)

MANY = 50


async def assert_ids_apart(infra):
    """Execute fifty workflows at once; check that each has only its own."""
    events = await heard(infra)
    chance = random.Random(7)
    lines = []

    async def price(node, inputs, context):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        lines.append((context, current()))
        return {"price": int(context.workflow_id[2:]) / 1000, "by": context.execution_id}

    async def buying(node, inputs, context):
        await asyncio.sleep(0)
        lines.append((context, current()))
        return {"order": context.idempotency_key}

    async def one(number):
        ids = (f"wf{number}", f"bot{number % 5}", f"strategy{number % 3}")
        made = executor(infra, trade(), {PRICE: price, BUY: buying}, *ids, flush_timeout=10)
        return ids, await made.execute()

    done = await asyncio.gather(*map(one, range(MANY)))

    assert len({result["execution_id"] for _, result in done}) == MANY
    by_execution = defaultdict(list)
    for event in events:
        by_execution[event["execution_id"]].append(event)
    assert len(by_execution) == MANY
    for ids, result in done:
        execution_id = result["execution_id"]
        assert result["status"] == "completed"
        assert result["workflow_id"] == ids[0]
        assert result["outputs"]["price"]["by"] == execution_id
        assert result["outputs"]["order"]["order"] == f"{execution_id}:order"
        own = by_execution[execution_id]
        assert [event["seq"] for event in own] == list(range(1, 9))
        assert {(e["workflow_id"], e["bot_id"], e["strategy_id"]) for e in own} == {ids}
        state = f"workflow:{ids[0]}:execution:{execution_id}"
        assert await infra.state.get(f"{state}:result") == result
        stored = await infra.store.events(execution_id)
        assert [event.seq for event in stored] == list(range(1, 9))
    assert len(lines) == 2 * MANY
    for context, ids in lines:
        assert ids["correlation_id"] == ids["execution_id"] == context.execution_id
        assert ids["workflow_id"] == context.workflow_id
        assert ids["node_id"] == context.node_id


async def test_fifty_workflows_keep_their_ids_apart(infra):
    """Results, events, state, keys and lines of the log: each has its own ids only."""
    await assert_ids_apart(infra)


async def test_fifty_workflows_in_a_file(tmp_path):
    """The same with a store on disk, whose writes take turns."""
    async with SqliteStore(tmp_path / "state.db") as store, infrastructure(store) as infra:
        await assert_ids_apart(infra)
