"""Executions go on after their process has ended."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyHalted
from pocketflow_async.infrastructure.owners import this_process
from pocketflow_async.infrastructure.store.errors import LeaseLost
from pocketflow_async.workflow.block_values import OutputError
from pocketflow_async.workflow.executor import NoHandlerError
from pocketflow_async.workflow.recovery import (
    NOT_DONE,
    ExecutionNotFound,
    NeedsReconciliation,
    NotResumable,
    TooManyRecoveries,
    WorkflowDefinitionChanged,
    recover,
    resume_execution,
)
from tests.executor.executor_kit import Waiting, executor, heard, types
from tests.executor.recovery_kit import Killed, Place, workflow

ALL = ["p", "q", "c", "a", "b"]


@pytest.fixture
def place():
    return Place()


async def test_committed_blocks_do_not_run_again(place):
    """It goes on at the block in which the process died, with the results of those before."""
    name = await place.dies(during="c")
    place.later()

    (found,) = await place.recovered()

    assert (found.execution_id, found.workflow_id, found.status) == (name, "w", "completed")
    assert found.error is None
    assert place.world.done == ALL
    assert list(found.result["outputs"]) == ALL
    assert [one["nodeId"] for one in found.result["results"]] == ALL
    assert await place.recovered() == []


async def test_the_record_is_that_of_one_execution(place):
    """Events are numbered on, attempts are counted on, and result and status are in the state."""
    name = await place.dies(after="q")
    place.later()
    await place.recovered()

    events = [json.loads(event.data) for event in await place.store.events(name)]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert types(events).count("execution_started") == 1
    assert types(events)[4:6] == ["execution_resumed", "node_started"]
    assert types(events)[-1] == "execution_completed"
    entries = await place.store.entries(name)
    assert [entry.place for entry in entries] == list(range(1, len(entries) + 1))
    assert [(one.attempt, one.phase) for one in entries if one.node_id == "q"] == [
        (1, "started"),
        (2, "started"),
        (2, "completed"),
    ]
    keys = {context.idempotency_key for context in place.world.contexts}
    assert keys == {f"{name}:{node}" for node in ALL}
    state = await place.store.get(f"workflow:w:execution:{name}:result")
    assert json.loads(state)["outputs"]["q"] == {"out": ["q", 2]}
    row = await place.store.run(name)
    assert (row.status, row.owner) == ("completed", None)


async def test_it_is_told_that_it_goes_on(place):
    """Who hears the bus gets the last events of the dead again, with their ids, then the new."""
    name = await place.dies(during="c")
    place.later()
    async with place.process() as infra:
        events = await heard(infra)
        await recover(infra, handlers=place.world.handlers)

    stored = [json.loads(event.data) for event in await place.store.events(name)]
    assert events == stored[stored.index(events[0]) :]
    assert types(events)[:3] == ["node_completed", "node_started", "execution_resumed"]


@pytest.mark.parametrize("died", ["during", "after"])
async def test_an_action_in_flight_is_not_done_again(place, died):
    """Nobody knows whether it was done: the execution waits, and says what to look for."""
    name = await place.dies(**{died: "a"})
    place.later()

    (found,) = await place.recovered()

    assert found.status == "needs_reconciliation"
    assert isinstance(found.error, NeedsReconciliation)
    assert f"{name}:a" in str(found.error)
    assert place.world.count("a") == (died == "after")
    row = await place.store.run(name)
    assert (row.status, row.owner, row.error) == (found.status, None, str(found.error))
    result = json.loads(row.result)
    assert result["in_doubt"] == [{"nodeId": "a", "idempotency_key": f"{name}:a", "attempt": 1}]
    assert json.loads(await place.store.get(f"workflow:w:execution:{name}:status")) == found.status
    assert await place.recovered() == []  # it waits for somebody who knows


async def test_what_is_known_of_an_action_is_asked_for(place):
    """If it was done, its output is what `reconcile` says; if it was not, it is done now."""
    asked = []

    async def reconcile(key, doubt):
        asked.append((key, doubt.node_id, doubt.node["type"], doubt.attempt))
        return {"out": "filled"} if place.world.count("a") else NOT_DONE

    first = await place.dies(during="a")
    place.later()
    (found,) = await place.recovered(reconcile=reconcile)
    assert found.result["outputs"]["a"] == {"out": ["a", 2]}

    second = await place.dies(after="a")
    place.later()
    (found,) = await place.recovered(reconcile=reconcile)
    assert found.result["outputs"]["a"] == {"out": "filled"}

    assert asked == [(f"{name}:a", "a", "order", 1) for name in (first, second)]
    assert place.world.count("a") == 2
    told = [json.loads(event.data) for event in await place.store.events(second)]
    (about,) = [one for one in told if one["type"] == "node_completed" and one["node_id"] == "a"]
    assert about["reconciled"] is True
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))


async def test_an_execution_that_waits_goes_on_when_somebody_knows(place):
    """By `resume_execution`, with the same idempotency key."""
    name = await place.dies(during="a")
    place.later()
    await place.recovered()

    async with place.process() as infra:
        result = await resume_execution(
            infra, name, handlers=place.world.handlers, reconcile=lambda key, doubt: NOT_DONE
        )

    assert result["status"] == "completed"
    assert place.world.done == ALL
    assert place.world.contexts[3].idempotency_key == f"{name}:a"


async def test_a_reconcile_that_fails_leaves_the_execution_as_it_was(place):
    """It is tried again next time; the message says what it may return."""
    await place.dies(during="a")
    place.later()

    (found,) = await place.recovered(reconcile=lambda key, doubt: True)
    assert "NOT_DONE" in str(found.error)
    assert found.status == "running"

    (found,) = await place.recovered(reconcile=lambda key, doubt: 1 / 0)
    assert isinstance(found.error, ZeroDivisionError)

    (found,) = await place.recovered(reconcile=lambda key, doubt: NOT_DONE)
    assert found.status == "completed"


@pytest.mark.parametrize("answer", [{}, {"done": True}])
async def test_outputs_that_lack_one_are_refused(place, answer):
    """Nothing is stored, and the execution waits on; whoever answers learns what is missing."""
    name = await place.dies(during="a")
    place.later()
    await place.recovered()
    before = await place.store.entries(name)

    async with place.process() as infra:
        handlers = place.world.handlers
        with pytest.raises(OutputError, match="no 'out' for block 'a'"):
            await resume_execution(
                infra, name, handlers=handlers, reconcile=lambda key, doubt: answer
            )

        assert await place.store.entries(name) == before
        row = await place.store.run(name)
        assert (row.status, row.owner) == ("needs_reconciliation", None)
        assert "idempotency key" in row.error

        await resume_execution(
            infra, name, handlers=handlers, reconcile=lambda key, doubt: {"out": "filled"}
        )
    assert place.world.count("a") == 0


async def test_what_is_skipped_under_reducing_after_a_crash_says_that_it_had_begun(place):
    """An entry is not made while only exits may be; nobody reads that it was never tried."""
    await place.dies(during="a")
    place.later()

    async with place.process() as infra:
        await infra.emergency.reduce("careful")
        (found,) = await recover(
            infra, handlers=place.world.handlers, reconcile=lambda key, doubt: NOT_DONE
        )

    first, second = found.result["skipped"]
    assert (first["nodeId"], second["nodeId"]) == ("a", "b")
    assert "careful. Attempt 1 had begun before" in first["reason"]
    assert place.world.count("a") == 0


async def test_what_an_execution_waited_for_is_forgotten_once_it_goes_on(place):
    """A completed execution has no error."""
    name = await place.dies(during="a")
    place.later()
    await place.recovered()
    assert (await place.store.run(name)).error

    async with place.process() as infra:
        await resume_execution(
            infra, name, handlers=place.world.handlers, reconcile=lambda key, doubt: NOT_DONE
        )

    row = await place.store.run(name)
    assert (row.status, row.error) == ("completed", None)


async def test_a_block_may_say_itself_whether_it_may_run_again(place):
    """`on_restart` of a block counts before what is usual for its category."""
    made = workflow()
    made["blocks"][3]["on_restart"] = "rerun"
    made["blocks"][0]["on_restart"] = "reconcile"
    for dies_in, status in (("a", "completed"), ("p", "needs_reconciliation")):
        place.world.dies_in = dies_in
        async with place.process() as infra:
            with pytest.raises(Killed):
                await executor(infra, made, place.world.handlers).execute()
        place.later()
        (found,) = await place.recovered()
        assert found.status == status


async def test_another_definition_is_refused(place):
    """What was begun is not executed by other rules; it waits for a process that has the old."""
    name = await place.dies(during="c")
    place.later()
    changed = workflow()
    changed["blocks"][3]["properties"] = {"amount": 1000}

    (found,) = await place.recovered(workflows={"w": changed})
    assert isinstance(found.error, WorkflowDefinitionChanged)
    assert found.status == "running"
    assert place.world.done == ["p", "q"]
    async with place.process() as infra:
        with pytest.raises(WorkflowDefinitionChanged):
            await resume_execution(infra, name, workflow=changed, handlers=place.world.handlers)

    moved = workflow()
    moved["blocks"][0]["x"] = 100  # where it stands in an editor means nothing
    (found,) = await place.recovered(workflows={"w": moved})
    assert found.status == "completed"


async def test_one_that_cannot_go_on_does_not_hold_up_others(place):
    """The one without handlers is reported, and left for a process that has them."""
    await place.dies(during="c", workflow_id="first")
    await place.dies(during="c", workflow_id="second")
    place.later()

    def make(row):
        own = place.world.handlers if row.workflow_id == "second" else {}
        return executor(infra, json.loads(row.definition), own, row.workflow_id)

    async with place.process() as infra:
        bad, good = await recover(infra, executor=make)

    assert (bad.status, good.status) == ("running", "completed")
    assert isinstance(bad.error, NoHandlerError)


async def test_a_halt_is_obeyed_and_the_execution_goes_on_after_it(place):
    """Under a halt it waits as "halted", with nothing done; then the next call takes it up."""
    name = await place.dies(during="c")
    place.later()
    async with place.process() as infra:
        await infra.emergency.halt("too hot")

    for _ in range(2):
        (found,) = await place.recovered()
        assert found.status == "halted"
        assert isinstance(found.error, EmergencyHalted)
    assert place.world.done == ["p", "q"]
    assert (await place.store.run(name)).owner is None

    async with place.process() as infra:
        await infra.emergency.resume()
    (found,) = await place.recovered()
    assert found.status == "completed"


async def test_an_execution_whose_caller_was_told_of_a_halt_goes_on_only_by_name(place):
    """The caller has its error; nothing trades behind its back."""
    wait = Waiting(out=1)
    async with place.process() as infra:
        made = executor(infra, workflow(), {**place.world.handlers, "conditions": wait})
        task = asyncio.create_task(made.execute())
        await wait.began.wait()
        await infra.emergency.halt("too hot")
        wait.go_on.set()
        with pytest.raises(EmergencyHalted):
            await task
        await infra.emergency.resume()
    place.later()
    assert await place.recovered() == []

    async with place.process() as infra:
        result = await resume_execution(infra, made.execution_id, handlers=place.world.handlers)
    assert result["status"] == "completed"
    assert place.world.done == ["p", "q", "a", "b"]


async def test_nothing_is_recovered_when_it_is_shut_down(place):
    """Only an operator ends that."""
    await place.dies(during="c")
    async with place.process() as infra:
        await infra.emergency.shutdown("over")

    with pytest.raises(EmergencyHalted):
        await place.recovered()


async def test_old_prices_are_fetched_again_before_an_action(place):
    """And so is what was concluded from them; with a younger age nothing is."""
    await place.dies(during="a")
    place.later()
    known = {"reconcile": lambda key, doubt: NOT_DONE}

    (found,) = await place.recovered(max_input_age=1e9, **known)
    assert place.world.done == ALL

    place.world.done.clear()
    name = await place.dies(during="a")
    place.later()
    (found,) = await place.recovered(max_input_age=10, **known)
    assert place.world.done == ["p", "q", "c", "p", "q", "c", "a", "b"]
    assert found.result["outputs"]["p"] == {"out": ["p", 2]}
    entries = await place.store.entries(name)
    assert [one.attempt for one in entries if one.node_id == "c"] == [1, 1, 2, 2]


async def test_a_committed_action_does_not_run_again_for_fresher_prices(place):
    """Its order was placed; the other one gets new prices."""
    await place.dies(during="b")
    place.later()

    (found,) = await place.recovered(max_input_age=10, reconcile=lambda key, doubt: NOT_DONE)

    assert found.status == "completed"
    assert place.world.done == ["p", "q", "c", "a", "p", "q", "c", "b"]


async def test_many_may_recover_at_once(place):
    """Each execution is taken by one of them."""
    names = {await place.dies(during="c") for _ in range(5)}
    place.later()
    place.world.done.clear()

    found = await asyncio.gather(*(place.recovered() for _ in range(6)))

    taken = [one.execution_id for some in found for one in some if one.status == "completed"]
    assert sorted(taken) == sorted(names)
    assert sorted(place.world.done) == sorted(["c", "a", "b"] * 5)


async def test_a_living_process_keeps_its_execution(place):
    """It is at work there: nobody takes it, and by name it is refused."""
    wait = Waiting(out=1)
    async with place.process() as infra:
        made = executor(infra, workflow(), {**place.world.handlers, "conditions": wait})
        task = asyncio.create_task(made.execute())
        await wait.began.wait()

        assert await place.recovered() == []
        with pytest.raises(NotResumable, match="another process"):
            await resume_execution(infra, made.execution_id, handlers=place.world.handlers)

        wait.go_on.set()
        assert (await task)["status"] == "completed"


async def test_a_process_that_stood_still_does_nothing_any_more(place):
    """Another has taken its execution: it places no order, and writes nothing."""
    wait = Waiting(out=1)
    async with place.process() as infra:
        made = executor(infra, workflow(), {**place.world.handlers, "conditions": wait})
        task = asyncio.create_task(made.execute())
        await wait.began.wait()
        place.later()
        (found,) = await place.recovered()
        row = await place.store.run(made.execution_id)

        wait.go_on.set()
        with pytest.raises(LeaseLost):
            await task

    assert found.status == "completed"
    assert place.world.done == ALL
    assert await place.store.run(made.execution_id) == row


async def test_the_execution_of_a_dead_process_is_taken_at_once(place):
    """A process of this machine that has surely ended need not be waited for."""
    name = await place.dies(during="c")
    host, _, start, where, chance = this_process().rsplit(":", 4)
    if not start:
        pytest.skip("this system does not tell when a process began")
    dead = f"{host}:4194305:{start}:{where}:{chance}"  # more than Linux has
    place.store._runs[name] = replace(place.store._runs[name], owner=dead)

    (found,) = await place.recovered()

    assert found.status == "completed"


async def test_the_end_is_told_when_the_process_died_before_it_could(place):
    """Where other processes hear the bus, it is noted with the end, until it was published."""
    name = await place.dies(during="b")
    place.later()
    await place.recovered(reconcile=lambda key, doubt: NOT_DONE)
    await place.store.put(f"pocketflow:untold:{name}", b"1")
    async with place.process() as infra:
        events = await heard(infra)
        await recover(infra)
        await infra.events.flush()

    assert types(events) == ["node_completed", "execution_completed"]
    assert await place.store.keys("pocketflow:untold:") == []


async def test_an_end_is_noted_as_told_once_it_was_published(place):
    """On a bus that other processes hear; a process that lives leaves no note."""
    notes = []

    class Shared:
        def __init__(self, bus):
            self._bus = bus

        def __getattr__(self, name):
            return getattr(self._bus, name)

        async def publish(self, channel, event):
            notes.append((event["type"], len(await place.store.keys("pocketflow:untold:"))))
            await self._bus.publish(channel, event)

    async with place.process() as infra:
        infra.events = Shared(infra.events)
        await executor(infra, workflow(), place.world.handlers).execute()

    assert notes[-2:] == [("node_completed", 1), ("execution_completed", 1)]
    assert notes[-3][1] == 0
    assert await place.store.keys("pocketflow:untold:") == []


async def test_what_cannot_go_on_says_why(place):
    """An unknown execution, in memory too, and one that is over."""
    async with place.process() as infra:
        with pytest.raises(ExecutionNotFound, match="memory"):
            await resume_execution(infra, "exec_w_1")
        made = executor(infra, workflow(), place.world.handlers)
        await made.execute()
        with pytest.raises(NotResumable, match="completed"):
            await resume_execution(infra, made.execution_id)


async def test_a_recovery_that_is_cancelled_ends_what_it_recovers(place):
    """As the execution would have been; nothing is left at work."""
    name = await place.dies(during="c")
    place.later()
    wait = Waiting(out=1)
    async with place.process() as infra:
        own = {**place.world.handlers, "conditions": wait}
        task = asyncio.create_task(recover(infra, handlers=own))
        await wait.began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert (await place.store.run(name)).status == "cancelled"
    assert place.world.done == ["p", "q"]


async def test_what_kills_every_process_does_not_do_so_for_ever(place):
    """After twenty times an execution is left alone, until somebody says its name."""
    name = await place.dies(during="c")
    for _ in range(20):
        place.later()
        place.world.dies_in = "c"
        with pytest.raises(BaseExceptionGroup):
            await place.recovered()
    place.later()

    for _ in range(2):
        (found,) = await place.recovered()
        assert isinstance(found.error, TooManyRecoveries)
        assert found.status == "running"
    async with place.process() as infra:
        result = await resume_execution(infra, name, handlers=place.world.handlers)
    assert result["status"] == "completed"


async def test_a_failed_block_stays_failed(place):
    """It was told of; only what does not need it goes on."""
    made = workflow()
    made["blocks"][4]["inputs"] = {"signal": "p.out"}
    failing = place.world

    async def condition(node, inputs, context):
        raise ValueError("no")

    own = {**failing.handlers, "conditions": condition}
    failing.dies_in = "b"
    async with place.process() as infra:
        with pytest.raises(Killed):
            await executor(infra, made, own).execute()
    place.later()

    (found,) = await place.recovered(reconcile=lambda key, doubt: NOT_DONE)

    assert found.status == "completed_with_errors"
    assert found.result["errors"] == [{"nodeId": "c", "error": "no", "error_type": "ValueError"}]
    assert [one["nodeId"] for one in found.result["skipped"]] == ["a"]
    assert failing.done == ["p", "q", "b"]
