"""What the executor does with an infrastructure: events, state, halts, retries, breakers."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from datetime import datetime

import pytest

from pocketflow_async.clock import Clock, using_clock
from pocketflow_async.infrastructure.emergency import EmergencyHalted, RiskLimitExceeded
from pocketflow_async.infrastructure.events import parse_event
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    Calls,
    Waiting,
    block,
    buy,
    executor,
    heard,
    infrastructure,
    provider,
    raises,
    threshold,
    trade,
    types,
    yields,
)

CHEAP = {PRICE: yields(price=0.5)}


class Waits(Clock):
    """A clock that notes waits, and does something instead of each."""

    def __init__(self, instead=None):
        self.waits = []
        self.instead = instead

    async def asleep(self, seconds):
        self.waits.append(seconds)
        if self.instead is not None:
            await self.instead()

    def uniform(self, low, high):
        return high


# --- events ---------------------------------------------------------------------------------------


async def test_three_blocks_are_eight_events(infra):
    """In order, numbered from 1, delivered before `execute` returns."""
    events = await heard(infra)

    await executor(infra, trade(), CHEAP).execute()

    assert types(events) == [
        "execution_started",
        *["node_started", "node_completed"] * 3,
        "execution_completed",
    ]
    assert [event["seq"] for event in events] == list(range(1, 9))


async def test_every_event_has_all_ids(infra):
    """Defect 22: the last one too; with an id of its own and a time that names its zone."""
    events = await heard(infra)

    result = await executor(infra, trade(), CHEAP, "trade_001", "bot", "strategy").execute()

    for event in events:
        assert event["execution_id"] == result["execution_id"]
        assert (event["workflow_id"], event["bot_id"], event["strategy_id"]) == (
            *("trade_001", "bot", "strategy"),
        )
        assert event["schema_version"] == 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"])
        assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
    assert len({event["event_id"] for event in events}) == 8


async def test_events_say_what_the_contract_says(infra):
    """Their own keys, as dicts and as typed models."""
    events = await heard(infra)
    workflow = trade()
    workflow["blocks"][0]["name"] = "The price"
    workflow["blocks"] += [provider("bad"), threshold("after", "bad.price", max=1)]

    async def price(node, inputs, context):
        return {"price": 0.5} if node["id"] == "price" else 1 / 0

    await executor(infra, workflow, {PRICE: price}).execute()

    def of(kind, node=None):
        (found,) = [one for one in events if (one["type"], one.get("node_id")) == (kind, node)]
        return found

    assert of("execution_started")["node_count"] == 5
    started = of("node_started", "price")
    assert (started["node_name"], started["node_category"]) == ("The price", "providers")
    done = of("node_completed", "price")
    assert (done["outputs"], done["status"]) == ({"price": 0.5}, "success")
    assert done["duration_ms"] >= 0
    failed = of("node_failed", "bad")
    assert (failed["error"], failed["error_type"]) == ("division by zero", "ZeroDivisionError")
    assert of("node_skipped", "after")["reason"] == "it needs 'bad', which failed"
    ended = of("execution_completed")
    assert ended["status"] == "completed_with_errors"
    assert ended["duration_ms"] >= 0
    assert [parse_event(event).to_dict() for event in events] == events


async def test_a_subscriber_cannot_hurt_another_or_the_run(infra):
    """Defect 21: each gets a copy; errors and slowness are its own."""
    events = []

    async def spoils(event):
        kept = copy.deepcopy(event)
        event.clear()
        events.append(kept)

    async def fails(event):
        raise RuntimeError("not my day")

    for handler in (spoils, fails):
        await infra.events.subscribe("workflow_events", handler)
    other = await heard(infra)

    result = await executor(infra, trade(), CHEAP).execute()

    assert result["status"] == "completed"
    assert events == other
    assert len(other) == 8


async def test_a_slow_subscriber_stalls_nothing(infra):
    """Defect 21: all blocks run while it still has the first event; at the end there is a limit."""
    began, release = asyncio.Event(), asyncio.Event()
    seen = []

    async def slow(event):
        began.set()
        await release.wait()
        seen.append(event["type"])

    await infra.events.subscribe("workflow_events", slow)

    result = await executor(infra, trade(), CHEAP, flush_timeout=0.01).execute()

    assert (result["status"], seen, began.is_set()) == ("completed", [], True)
    release.set()
    assert await infra.events.flush()
    assert len(seen) == 8


async def test_a_bus_that_takes_nothing_costs_no_trade(infra):
    """The record has the events; that they were not published is logged."""
    await infra.events.close()

    result = await executor(infra, trade(), CHEAP).execute()

    assert result["status"] == "completed"
    assert len(await infra.store.events(result["execution_id"])) == 8


async def test_large_outputs_and_secrets_are_not_broadcast(infra):
    """Defect 22: events tell of a megabyte that it is one, and of a key that there is one."""
    events = await heard(infra)
    workflow = {"blocks": [provider("big"), provider("secret")]}

    async def price(node, inputs, context):
        if node["id"] == "big":
            return {"data": "x" * 1_000_000, "n": 1}
        return {"api_key": "k-123456789", "note": "Bearer abcdefghijkl", "n": 2}

    result = await executor(infra, workflow, {PRICE: price}).execute()

    big, secret = [one["outputs"] for one in events if one["type"] == "node_completed"]
    assert big == {"truncated": True, "characters": 1_000_017, "keys": ["data", "n"]}
    assert "k-123456789" not in str(secret)
    assert "abcdefghijkl" not in str(secret)
    assert secret["n"] == 2
    assert result["outputs"]["secret"]["api_key"] == "k-123456789"
    stored = await infra.store.events(result["execution_id"])
    assert "k-123456789" not in str(stored)


# --- state and history ----------------------------------------------------------------------------


async def test_state_keys(infra):
    """Status, result and the latest execution are where the contract has them."""
    price = Waiting(price=0.5)
    made = executor(infra, trade(), {PRICE: price}, "trade_001")
    running = asyncio.ensure_future(made.execute())
    await price.began.wait()
    key = f"workflow:trade_001:execution:{made.execution_id}"
    assert await infra.state.get(f"{key}:status") == "running"
    assert await infra.state.get("workflow:trade_001:latest_execution") == made.execution_id
    assert await infra.state.get(f"{key}:result") is None
    price.go_on.set()

    result = await running

    assert await infra.state.get(f"{key}:status") == "completed"
    assert await infra.state.get(f"{key}:result") == result


async def test_history_has_all_executions(infra):
    """Defect 15: the newest first, also those that ended badly, of this workflow alone."""
    made = executor(infra, trade(), CHEAP, "one")
    first, second = await made.execute(), await made.execute()
    await executor(infra, trade(), CHEAP, "other").execute()
    await infra.emergency.halt("enough")
    with pytest.raises(EmergencyHalted):
        await made.execute()

    history = await made.get_execution_history()

    assert history == [
        {"execution_id": made.execution_id, "status": "halted"},
        {"execution_id": second["execution_id"], "status": "completed"},
        {"execution_id": first["execution_id"], "status": "completed"},
    ]
    assert await made.get_execution_history(limit=1) == history[:1]


async def test_the_journal_has_intent_before_effect(infra):
    """Each block: that it begins, with its key, before it does; then what it yielded."""
    seen = []

    async def price(node, inputs, context):
        (entry,) = await infra.store.entries(context.execution_id)
        seen.append((entry.node_id, entry.phase, entry.attempt, entry.key))
        assert entry.key == context.idempotency_key
        return {"price": 0.5}

    result = await executor(infra, trade(), {PRICE: price}).execute()

    run_id = result["execution_id"]
    entries = await infra.store.entries(run_id)
    assert seen == [("price", "started", 1, f"{run_id}:price")]
    assert [(one.node_id, one.phase) for one in entries] == [
        (name, phase) for name in ("price", "cheap", "order") for phase in ("started", "completed")
    ]
    assert json.loads(entries[1].output) == {"price": 0.5}
    row = await infra.store.run(run_id)
    assert (row.status, row.owner, row.definition_hash) == (
        *("completed", None),
        executor(infra, trade(), CHEAP).definition.hash,
    )


# --- halts ----------------------------------------------------------------------------------------


async def test_a_halt_before_the_start(infra):
    """`execution_started` and then `execution_halted`; nothing has run."""
    events = await heard(infra)
    price = Calls({"price": 0.5})
    await infra.emergency.halt("too much")
    made = executor(infra, trade(), {PRICE: price})

    with pytest.raises(EmergencyHalted, match="too much"):
        await made.execute()

    own = [event for event in events if "execution_id" in event]
    assert types(own) == ["execution_started", "execution_halted"]
    assert own[1]["reason"] == "too much"
    assert len(price) == 0
    key = f"workflow:w:execution:{made.execution_id}"
    assert await infra.state.get(f"{key}:status") == "halted"
    assert (await infra.state.get(f"{key}:result"))["status"] == "halted"


async def test_a_halted_executor_initializes_and_a_shut_down_one_does_not(infra):
    """As the contract has it."""
    await infra.emergency.halt("no trades")
    await executor(infra, trade(), CHEAP).initialize()
    await infra.emergency.shutdown("no nothing")

    with pytest.raises(EmergencyHalted, match="no nothing"):
        await executor(infra, trade(), CHEAP).initialize()


async def test_a_halt_between_blocks(infra):
    """Set by the price, it is there before the order."""
    events = await heard(infra)
    bought = Calls({"order": 1})

    async def price(node, inputs, context):
        await context.infra.emergency.halt("fell")
        return {"price": 0.5}

    with pytest.raises(EmergencyHalted):
        await executor(infra, trade(), {PRICE: price, BUY: bought}).execute()

    assert len(bought) == 0
    assert types(events)[-1] == "execution_halted"
    assert "node_failed" not in types(events)
    assert not [e for e in events if e["type"] == "node_started" and e["node_id"] == "order"]


async def test_a_halt_during_the_last_block(infra):
    """Defect 10: what it did is recorded, and the execution is halted, not completed."""
    events = await heard(infra)

    async def buying(node, inputs, context):
        await infra.emergency.halt("in the meantime")
        return {"order": 7}

    made = executor(infra, trade(), {**CHEAP, BUY: buying})
    with pytest.raises(EmergencyHalted):
        await made.execute()

    assert types(events)[-1] == "execution_halted"
    result = await infra.state.get(f"workflow:w:execution:{made.execution_id}:result")
    assert (result["status"], result["outputs"]["order"]) == ("halted", {"order": 7})


@pytest.mark.parametrize("kind", ["cancel", "exit"])
async def test_what_takes_risk_away(infra, kind):
    """Defect 10: under a halt a cancellation runs; under REDUCING an exit, too, and no entry."""
    last = (
        block("out", "actions", "cancel", {"signal": "cheap.pass"})
        if kind == "cancel"
        else buy("out", "cheap.pass", type="sell", risk_effect="reduce")
    )
    calming = {"blocks": [*trade()["blocks"][:2], last]}
    await infra.emergency.reduce("careful")

    assert (await executor(infra, calming, CHEAP).execute())["status"] == "completed"
    refused = await executor(infra, trade(), CHEAP).execute()
    assert [one["nodeId"] for one in refused["skipped"]] == ["order"]

    await infra.emergency.halt("stop")
    if kind == "cancel":
        assert (await executor(infra, calming, CHEAP).execute())["status"] == "completed"
    else:
        with pytest.raises(EmergencyHalted):
            await executor(infra, calming, CHEAP).execute()


async def test_under_reducing_an_entry_is_refused_when_it_comes(infra):
    """It is skipped with the reason, and what needs it too; the exit after it runs."""
    price, bought, sold = Calls({"price": 0.5}), Calls({"order": 1}), Calls({"order": 2})
    workflow = trade()
    workflow["blocks"] += [
        block("tell", "actions", "notify", {"signal": "order.order"}),
        buy("exit", "cheap.pass", type="sell", risk_effect="reduce"),
    ]
    events = await heard(infra)
    await infra.emergency.reduce("careful")

    result = await executor(
        infra, workflow, {PRICE: price, BUY: bought, ("actions", "sell"): sold}
    ).execute()

    assert (len(price), len(bought), len(sold)) == (1, 0, 1)
    assert result["status"] == "completed"
    order, tell = result["skipped"]
    assert order["nodeId"] == "order"
    assert "is in reducing state. Reason: careful" in order["reason"]
    assert tell == {"nodeId": "tell", "reason": "it needs 'order', which was skipped"}
    told = [(one["type"], one["node_id"]) for one in events if one.get("node_id") == "order"]
    assert told == [("node_skipped", "order")]


async def test_a_halt_while_it_reduces_ends_it(infra):
    """What was only careful becomes a halt: then not even the exit runs."""
    sold = Calls({"order": 2})
    workflow = trade()
    workflow["blocks"][2] = buy("exit", "cheap.pass", type="sell", risk_effect="reduce")

    async def price(node, inputs, context):
        await infra.emergency.halt("now")
        return {"price": 0.5}

    await infra.emergency.reduce("careful")
    with pytest.raises(EmergencyHalted, match="now"):
        await executor(infra, workflow, {PRICE: price, ("actions", "sell"): sold}).execute()

    assert len(sold) == 0


async def test_a_halt_by_another_process(infra):
    """The row that all share is read before each block; this process need not have heard."""
    bought = Calls({"order": 1})

    async def price(node, inputs, context):
        other = type(infra.emergency)(store=infra.store)
        await other.halt("elsewhere")
        return {"price": 0.5}

    with pytest.raises(EmergencyHalted, match="elsewhere"):
        await executor(infra, trade(), {PRICE: price, BUY: bought}).execute()

    assert len(bought) == 0


async def test_a_limit_exceeded_in_a_block(infra):
    """Defect 9: the block is recorded as failed, the execution too, and nothing follows."""
    events = await heard(infra)
    bought = Calls({"order": 1})

    async def price(node, inputs, context):
        await context.infra.emergency.check_risk_limit("daily_loss", -600, -500.0, auto_halt=True)

    with pytest.raises(RiskLimitExceeded):
        await executor(infra, trade(), {PRICE: price, BUY: bought}).execute()

    own = [event for event in events if "execution_id" in event]
    assert types(own)[-2:] == ["node_failed", "execution_failed"]
    assert own[-1]["error_type"] == "RiskLimitExceeded"
    assert infra.emergency.is_halted
    assert len(bought) == 0


# --- retries and breakers -------------------------------------------------------------------------


async def test_providers_are_tried_again(infra):
    """After errors that may pass, with an event each; the key stays, the attempt counts."""
    events = await heard(infra)
    price = Calls(ConnectionError("down"), {"price": 0.5})

    result = await executor(infra, trade(), {PRICE: price}).execute()

    assert result["status"] == "completed"
    assert [context.attempt for context in price.contexts] == [1, 2]
    assert len({context.idempotency_key for context in price.contexts}) == 1
    (retrying,) = [event for event in events if event["type"] == "node_retrying"]
    assert (retrying["attempt"], retrying["error"], retrying["error_type"]) == (
        *(1, "down", "ConnectionError"),
    )
    assert [event["seq"] for event in events] == list(range(1, 10))
    entries = await infra.store.entries(result["execution_id"])
    assert [(one.phase, one.attempt) for one in entries if one.node_id == "price"] == [
        *(("started", 1), ("started", 2), ("completed", 2)),
    ]


async def test_what_is_not_tried_again(infra):
    """Mistakes of a program, and all that are no providers."""
    for handlers, error in (
        ({PRICE: Calls(ValueError("x"), {"price": 0.5})}, "ValueError"),
        ({**CHEAP, BUY: Calls(ConnectionError("x"), {"order": 1})}, "ConnectionError"),
    ):
        result = await executor(infra, trade(), handlers).execute()
        assert [one["error_type"] for one in result["errors"]] == [error]


async def test_timeouts_are_tried_again_and_counted():
    """Defect 16: a venue that hangs opens its breaker."""
    async with infrastructure(circuit_failure_threshold=4) as infra:
        hang = Calls(None)
        hang.answers = []

        async def hanging(node, inputs, context):
            hang.contexts.append(context)
            await asyncio.Event().wait()

        workflow = {"blocks": [{**provider(), "timeout": 0.01}]}
        for expected in ("CallTimeoutError", "CallTimeoutError", "CircuitBreakerOpen"):
            result = await executor(infra, workflow, {PRICE: hanging}).execute()
            assert result["errors"][0]["error_type"] == expected
        assert len(hang.contexts) == 4


async def test_no_attempt_after_a_halt(infra):
    """It is looked for before the wait and after it; the execution is halted."""
    for instead in (None, lambda: infra.emergency.halt("while waiting")):
        price = Calls(ConnectionError("down"), {"price": 0.5})

        async def failing(node, inputs, context, price=price, instead=instead):
            if instead is None:
                await infra.emergency.halt("at work")
            return await price(node, inputs, context)

        made = executor(infra, trade(), {PRICE: failing})
        made._retry = type(infra.retry)(3, 5, 60).policy()
        waits = Waits(instead)
        with using_clock(waits), pytest.raises(EmergencyHalted):
            await made.execute()

        assert len(price) == 1
        assert waits.waits == ([] if instead is None else [5])
        await infra.emergency.resume()


async def test_a_venue_may_ask_for_a_longer_wait(infra):
    """`retry_after` counts as in any retry."""
    error = ConnectionError("busy")
    error.retry_after = 7
    waits = Waits()
    with using_clock(waits):
        made = executor(infra, trade(), {PRICE: Calls(error, {"price": 0.5})})
        assert (await made.execute())["status"] == "completed"

    assert waits.waits == [7]


async def test_one_breaker_for_all_executors():
    """Defect 18: executors made for each run, as the guide does, share what they know."""
    async with infrastructure(circuit_failure_threshold=3, retry_max_attempts=1) as infra:
        price = Calls(ConnectionError("down"))
        kinds = []
        for number in range(20):
            made = executor(infra, trade(), {PRICE: price}, f"run_{number}")
            kinds += [one["error_type"] for one in (await made.execute())["errors"]]

        assert len(price) == 3
        assert kinds == ["ConnectionError"] * 3 + ["CircuitBreakerOpen"] * 17
        assert made.api_breaker.is_open
        assert made.api_breaker.get_stats()["state"] == "open"
        assert made.api_breaker.get_stats()["failure_threshold"] == 3


async def test_a_dead_venue_does_not_block_a_healthy_one():
    """Defect 18: each dependency has its own, by venue, profile, host or name."""
    async with infrastructure(circuit_failure_threshold=1, retry_max_attempts=1) as infra:
        blocks = [
            {**provider("dead"), "type": "kraken"},
            {**provider("alive"), "type": "luno"},
            {**provider("main", profile_id="a"), "type": "kraken"},
            provider("rest", url="https://api.example.com/v1"),
            provider("named", dependency="venue"),
            provider("plain"),
        ]

        async def venue(node, inputs, context):
            if node["id"] == "dead":
                raise ConnectionError("down")
            return {"price": 1}

        made = executor(infra, {"blocks": blocks}, {"providers": venue})
        for _ in range(2):
            result = await made.execute()
            assert len(result["outputs"]) == 5

        assert list(made.breakers) == [
            *("kraken", "luno", "kraken:a", "test:api.example.com", "venue", "test:plain"),
        ]
        assert made.breakers["kraken"].is_open
        assert result["errors"][0]["error_type"] == "CircuitBreakerOpen"


async def test_mistakes_do_not_trip_a_breaker():
    """Defect 18: a ValueError says nothing about the venue, and neither does being cancelled."""
    async with infrastructure(circuit_failure_threshold=1) as infra:
        made = executor(infra, trade(), {PRICE: raises(ValueError("mine"))})
        await made.execute()
        assert made.api_breaker.is_closed

        waiting = Waiting()
        made = executor(infra, trade(), {PRICE: waiting})
        running = asyncio.ensure_future(made.execute())
        await waiting.began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert made.api_breaker.is_closed


async def test_a_breaker_may_be_forced(infra):
    """`api_breaker.force_open()` keeps the provider from being called."""
    price = Calls({"price": 0.5})
    made = executor(infra, trade(), {PRICE: price})
    await made.api_breaker.force_open()

    result = await made.execute()

    assert (len(price), result["errors"][0]["error_type"]) == (0, "CircuitBreakerOpen")
    await made.api_breaker.force_close()
    assert (await made.execute())["status"] == "completed"
    assert executor(infra, {"blocks": []}).api_breaker.is_closed


async def test_the_time_of_a_block_is_the_configured_one():
    """Where the block does not say, the settings do."""
    async with infrastructure(node_timeout=0.01, retry_max_attempts=1) as infra:
        made = executor(infra, trade(), {PRICE: Waiting()})
        assert (await made.execute())["errors"][0][
            "error"
        ] == "block 'price' took longer than 0.01 s"


# --- ends -----------------------------------------------------------------------------------------


async def test_a_cancelled_execution_says_so(infra):
    """Defect 15: it has a last event and a status, and leaves no task behind."""
    events = await heard(infra)
    price = Waiting()
    made = executor(infra, trade(), {PRICE: price})
    before = asyncio.all_tasks()
    running = asyncio.ensure_future(made.execute())
    await price.began.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert types(events) == ["execution_started", "node_started", "execution_cancelled"]
    assert await made.get_execution_history() == [
        {"execution_id": made.execution_id, "status": "cancelled"}
    ]
    assert asyncio.all_tasks() == before
    assert not made.is_running


async def test_a_stopped_execution_is_recorded(infra):
    """`stop()` ends it as "cancelled", with the event."""
    events = await heard(infra)
    made = executor(infra, trade(), CHEAP)

    async def price(node, inputs, context):
        made.stop()
        return {"price": 0.5}

    made = executor(infra, trade(), {PRICE: price})
    result = await made.execute()

    assert result["status"] == "cancelled"
    assert types(events)[-3:] == ["node_skipped", "node_skipped", "execution_cancelled"]
    assert (await made.get_execution_history())[0]["status"] == "cancelled"


async def test_ids_are_checked(infra):
    """An id that no store could hold is refused when the executor is made."""
    with pytest.raises(ValueError, match="workflow_id"):
        executor(infra, trade(), None, "a\0b")
    with pytest.raises(ValueError, match="bot_id"):
        executor(infra, trade(), None, "w", "")
    with pytest.raises(TypeError, match="strategy_id"):
        executor(infra, trade(), None, "w", "b", 3)
    with pytest.raises(ValueError, match="max_input_age must be above 0 seconds, not 0"):
        executor(infra, trade(), max_input_age=0)


async def test_own_ids_and_times(infra):
    """Both come from functions that a test may give."""
    events = await heard(infra)
    made = executor(infra, trade(), CHEAP, new_id=lambda: "7", clock=lambda: 0.5)

    assert (await made.execute())["execution_id"] == "exec_w_7"
    assert {event["timestamp"] for event in events} == {"1970-01-01T00:00:00.500Z"}
    assert made.start_time == 0.5
