"""The emergency control: its ladder, what is stored when, and what is known without the store."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.infrastructure.emergency import (
    EmergencyController,
    EmergencyHalted,
    EmergencyState,
)
from pocketflow_async.infrastructure.emergency_states import (
    event_between,
    lowering,
    plain,
    raising,
    record_of,
    restoring,
    short,
    state_of,
)
from pocketflow_async.infrastructure.store import (
    EmergencyRow,
    MemoryStore,
    SqliteStore,
    StoreUnavailable,
)
from tests.infrastructure.emergency_kit import Heard, Published, Shaky, control

AT = "2026-01-25T10:15:23.456Z"
NORMAL, ALERT, REDUCING, HALT, SHUTDOWN = EmergencyState
STATES = st.sampled_from(EmergencyState)


# --- the ladder -----------------------------------------------------------------------------------


def test_values_and_what_each_state_lets_through():
    """The values are the contract's, and each state lets through less than the one before."""
    effects = ("increase", "reduce", "none")
    table = {str(state): [state.lets(one) for one in effects] for state in EmergencyState}

    assert table == {
        "normal": [True, True, True],
        "alert": [True, True, True],
        "reducing": [False, True, True],
        "halt": [False, False, True],
        "shutdown": [False, False, False],
    }
    assert [state for state in EmergencyState if state.can_trade()] == [NORMAL, ALERT]
    assert [state for state in EmergencyState if state.can_run()] == [NORMAL, ALERT, REDUCING]
    assert [state for state in EmergencyState if not state.can_operate()] == [SHUTDOWN]


@given(st.lists(STATES))
def test_severity_only_rises(states):
    """However states are asked for, the worst of them stays, with the first reason for it."""
    row = EmergencyRow()
    for number, state in enumerate(states):
        row = raising(state, f"r{number}", AT, {})(row) or row

    worst = max(states, key=lambda state: state.severity, default=NORMAL)
    assert state_of(row) is worst
    if worst is not NORMAL:
        assert row.reason == f"r{states.index(worst)}"


@given(STATES, st.booleans())
def test_lowering_never_raises_the_severity(state, reducing):
    """To lower a state that is low already changes nothing."""
    row = raising(state, "why", AT, {})(EmergencyRow()) or EmergencyRow()

    after = lowering("all well", AT, {}, reducing=reducing)(row) or row

    assert state_of(after).severity <= state.severity
    assert after.reducing == (state_of(after) is REDUCING)


async def test_alert_does_not_end_a_halt():
    """`alert()` after `halt()` leaves trading stopped."""
    controller = control()
    await controller.halt("loss")

    await controller.alert("slow data")
    await controller.set_state("alert", "slow data")
    await controller.reduce("slow data")

    assert (controller.state, controller.reason) == (HALT, "loss")
    with pytest.raises(EmergencyHalted):
        await controller.assert_can_trade()


async def test_resume_does_not_end_a_shutdown():
    """A shutdown outlives `resume()` and ends by `reset()`, which needs somebody responsible."""
    controller = control()
    await controller.shutdown("fire")

    with pytest.raises(EmergencyHalted, match=r"shutdown state\. Reason: fire"):
        await controller.resume()
    with pytest.raises(EmergencyHalted):
        await controller.set_state(NORMAL, "please")
    with pytest.raises(ValueError, match="operator"):
        await controller.reset(operator=" ")
    assert controller.is_shutdown

    await controller.reset(operator="ann")
    assert controller.is_normal
    assert controller.get_status()["metadata"]["resumed"]["operator"] == "ann"


async def test_halt_can_be_lowered_to_reducing():
    """From a halt one may let exits through first, and halt again."""
    controller = control()
    await controller.halt("loss")

    await controller.resume("leave positions", reducing=True)
    assert controller.is_reducing
    assert controller.get_status()["reducing"]
    await controller.admit("reduce")
    with pytest.raises(EmergencyHalted, match="reducing"):
        await controller.admit("increase")

    await controller.halt("left")
    assert controller.is_halted
    await controller.resume()
    assert controller.is_normal
    assert not controller.get_status()["reducing"]


async def test_resume_only_of_what_was_looked_at():
    """Who resumes the state that he saw does not undo a halt that came after it."""
    controller = control()
    await controller.alert("slow")
    seen = controller.get_status()["version"]
    await controller.halt("loss")

    with pytest.raises(EmergencyHalted, match="loss") as caught:
        await controller.resume(if_version=seen)

    assert caught.value.__notes__ == ["It has changed since."]
    assert controller.is_halted
    await controller.resume(if_version=controller.get_status()["version"])
    assert controller.is_normal


async def test_unknown_state_counts_as_a_halt():
    """What only a later version knows, and a flag that was set beside, fail closed."""
    store = MemoryStore()
    await store.change_emergency("default", lambda row: EmergencyRow(state="frozen", at=AT))
    with pytest.raises(EmergencyHalted):
        await control(store).admit("reduce")

    assert state_of(EmergencyRow(reducing=True)) is REDUCING
    assert state_of(EmergencyRow(state="halt", reducing=True)) is HALT


async def test_errors_say_state_and_reason_and_can_be_copied():
    """The message is the contract's; state and reason are attributes, also of a pickled copy."""
    controller = control()
    await controller.halt("daily loss")

    with pytest.raises(EmergencyHalted) as caught:
        await controller.assert_can_trade()

    said = "Emergency controller is in halt state. Reason: daily loss"
    for error in (caught.value, copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert (str(error), error.state, error.reason) == (said, HALT, "daily loss")


async def test_initialising_is_blocked_by_a_shutdown_only():
    """`assert_can_operate` passes under HALT, `assert_can_run` under REDUCING."""
    controller = control()
    await controller.reduce("volatile")
    await controller.assert_can_run()
    with pytest.raises(EmergencyHalted):
        await controller.assert_can_trade()
    await controller.halt("loss")
    await controller.assert_can_operate()
    with pytest.raises(EmergencyHalted):
        await controller.assert_can_run()
    await controller.shutdown("fire")
    with pytest.raises(EmergencyHalted):
        await controller.assert_can_operate()


async def test_properties_follow_the_state():
    """Each `is_…` is true in its state only, and what may be done follows."""
    controller = control()
    seen = []
    for change in (controller.alert, controller.reduce, controller.halt, controller.shutdown):
        await change("why")
        names = [name for name in dir(controller) if name.startswith("is_")]
        seen.append([name for name in names if getattr(controller, name)])

    assert seen == [["is_alert"], ["is_reducing"], ["is_halted"], ["is_shutdown"]]
    assert not controller.can_operate()
    assert not controller.can_trade()
    assert repr(controller) == "<EmergencyController default: shutdown>"


# --- what is stored -------------------------------------------------------------------------------


async def test_halt_is_stored_when_it_returns(tmp_path):
    """A second controller on the same store, asked right after `halt()`, refuses."""
    async with SqliteStore(tmp_path / "s.db") as store, SqliteStore(tmp_path / "s.db") as other:
        first, second = control(store), control(other)
        await second.assert_can_trade()

        await first.halt("loss", account="a1")

        with pytest.raises(EmergencyHalted, match="loss"):
            await second.assert_can_trade()
        assert second.get_status()["metadata"] == {"account": "a1"}
        await second.resume()
        await first.assert_can_trade()


async def test_halt_is_still_there_in_a_new_store(tmp_path):
    """Closing the store keeps the halt: whoever opens it again starts halted."""
    async with SqliteStore(tmp_path / "s.db") as store:
        await control(store).halt("loss")
    async with SqliteStore(tmp_path / "s.db") as store, control(store) as controller:
        assert controller.is_halted


async def test_controllers_of_other_ids_are_not_concerned():
    """A halt is of one controller."""
    store = MemoryStore()
    await control(store, controller_id="btc").halt("loss")

    await control(store, controller_id="eth").assert_can_trade()


async def test_halt_holds_even_if_it_cannot_be_stored():
    """Without the store this process stops all the same, and stores it when the store is back."""
    store = Shaky()
    controller, heard = control(store), Heard()
    controller.subscribe(heard)
    store.fails_writes = True

    with pytest.raises(StoreUnavailable):
        await controller.halt("loss")
    assert not controller.get_status()["stored"]
    await heard.until(1)
    with pytest.raises(EmergencyHalted):
        await controller.admit("increase")
    await control(store).assert_can_trade()  # others cannot know

    store.fails_writes = False
    with pytest.raises(EmergencyHalted):
        await controller.admit("increase")
    with pytest.raises(EmergencyHalted):
        await control(store).assert_can_trade()
    assert await controller.flush(5)
    assert heard.changes == [("normal", "halt", "loss")]
    await controller.close()


async def test_cancelled_halt_holds():
    """Who cancels a `halt()` that waits for the store has halted this process, and later all."""
    store = Shaky()
    controller = control(store)
    store.hangs = True
    halting = asyncio.create_task(controller.halt("loss"))
    await asyncio.sleep(0)
    halting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await halting
    assert controller.is_halted

    store.hangs = False
    await controller.close()
    assert (await store.emergency("default")).state == "halt"


async def test_close_without_a_store_ends():
    """A halt that can never be stored does not keep `close()` from ending."""
    store = Shaky()
    controller = control(store)
    store.fails_writes = True
    with pytest.raises(StoreUnavailable):
        await controller.halt("loss")

    await controller.close()
    await controller.close()


async def test_unreadable_store_stops_what_has_an_effect():
    """Without the store nothing is traded, but reading and cancelling go on, as far as is known."""
    store = Shaky()
    controller = control(store)
    await controller.refresh()
    store.fails_reads = True

    for effect in ("increase", "reduce"):
        with pytest.raises(StoreUnavailable):
            await controller.admit(effect)
    await controller.admit("none")

    store.fails_reads = False
    await controller.shutdown("fire")
    store.fails_reads = True
    with pytest.raises(EmergencyHalted):
        await controller.admit("none")


async def test_resume_that_fails_changes_nothing():
    """A `resume()` that cannot be stored leaves the halt in force."""
    store = Shaky()
    controller = control(store)
    await controller.halt("loss")
    store.fails_writes = True

    with pytest.raises(StoreUnavailable):
        await controller.resume()

    assert controller.is_halted


async def test_resume_takes_back_what_was_not_stored():
    """A halt that could not be stored is ended by `resume()` like any other."""
    store = Shaky()
    controller = control(store)
    store.fails_writes = True
    with pytest.raises(StoreUnavailable):
        await controller.halt("loss")
    store.fails_writes = False

    await controller.resume()

    await controller.admit("increase")
    assert controller.get_status()["stored"]


async def test_late_answer_does_not_undo_a_halt():
    """An older row that arrives after a newer one is not believed."""
    store = MemoryStore()
    controller = control(store)
    old = await store.emergency("default")
    await controller.halt("loss")

    class Stale(MemoryStore):
        async def emergency(self, controller_id):
            return old

    controller._shared._store = Stale()
    with pytest.raises(EmergencyHalted):
        await controller.assert_can_trade()


@pytest.mark.parametrize(
    "fact",
    [object(), float("nan"), 10**5000, {1: {2: {3: {4: 5}}}}, "\0\ud800", b"\xff", [..., {}]],
    ids=["object", "nan", "huge", "deep", "unicode", "bytes", "list"],
)
async def test_no_fact_keeps_from_halting(fact, tmp_path):
    """Facts that are no JSON become text; a halt is never refused for them."""
    async with SqliteStore(tmp_path / "s.db") as store:
        controller = control(store)

        await controller.halt("loss \0 \ud800", fact=fact, further_reasons="x", resumed=[1])

        assert controller.is_halted
        await controller.halt("again", reason_code=fact)
        json.dumps(controller.get_status(), allow_nan=False)


def test_hostile_facts_become_texts():
    """Objects whose own methods raise, and endless ones, are told of in short."""

    class Hostile(dict):
        def items(self):
            raise RuntimeError

        def __str__(self):
            raise RuntimeError

    endless = []
    endless.append(endless)

    assert plain({"a": Hostile(), "b": True}) == {"a": "<Hostile>", "b": True}
    assert len(json.dumps(plain(endless))) < 100
    assert len(short("x" * 10_000)) == 2000
    assert plain([1.5, float("inf"), 1 << 70]) == [1.5, "inf", str(1 << 70)]


# --- reasons and events ---------------------------------------------------------------------------


async def test_second_reason_is_kept_and_told():
    """Another halt keeps the first reason and adds its own; the same one again changes nothing."""
    controller, heard = control(), Heard()
    controller.subscribe(heard)
    await controller.halt("loss")
    await controller.halt("loss")
    await controller.halt("exchange down", venue="x")
    await controller.halt("exchange down")
    await controller.flush(5)

    assert heard.changes == [("normal", "halt", "loss"), ("halt", "halt", "exchange down")]
    status = controller.get_status()
    assert status["halt_reason"] == "loss"
    (further,) = status["metadata"]["further_reasons"]
    assert (further["reason"], further["venue"]) == ("exchange down", "x")
    await controller.close()


async def test_event_has_all_that_the_contract_says():
    """An event names controller, states, reason, time with its zone, and facts."""
    controller, heard = control(clock=lambda: 1_769_336_123.456), Heard()
    await controller.subscribe(heard)
    await controller.halt("loss", account="a1")
    await controller.resume("looked at it", ticket=7)
    await controller.flush(5)

    halted, resumed = heard.events
    assert halted.controller_id == "default"
    assert (halted.previous_state, halted.new_state) == (NORMAL, HALT)
    assert halted.timestamp == datetime(2026, 1, 25, 10, 15, 23, 456000, UTC)
    assert halted.metadata == {"account": "a1"}
    assert (resumed.new_state, resumed.reason) == (NORMAL, "looked at it")
    assert resumed.metadata["ticket"] == 7
    await controller.close()


async def test_changes_are_published_by_who_makes_them():
    """The bus gets one event for each change, from the process that made it, after it is stored."""
    store, bus, other_bus = MemoryStore(), Published(), Published()
    controller, other = control(store, bus=bus), control(store, bus=other_bus)

    await controller.halt("loss")
    await controller.halt("loss")
    await other.refresh()
    await controller.resume()
    await controller.flush(5)

    assert [(channel, event["new_state"]) for channel, event in bus.events] == [
        ("workflow_events", "halt"),
        ("workflow_events", "normal"),
    ]
    event = bus.events[0][1]
    assert event["type"] == "emergency_state_changed"
    assert (event["previous_state"], event["reason"]) == ("normal", "loss")
    assert event["timestamp"].endswith("Z")
    assert event["event_id"] != bus.events[1][1]["event_id"]
    assert other_bus.events == []


async def test_failing_bus_does_not_matter(caplog):
    """A bus that raises is logged; the halt is stored."""

    class Broken:
        async def publish(self, channel, event):
            raise ConnectionError("no bus")

    controller = control(bus=Broken())
    await controller.halt("loss")
    await controller.flush(5)

    assert controller.is_halted
    assert "no bus" in caplog.text


def test_no_event_where_nothing_is_to_be_told():
    """Rows that differ in limits only tell nothing."""
    row = EmergencyRow("halt", "loss", AT, 3)

    assert event_between("c", row, EmergencyRow("halt", "loss", AT, 4, limits={"a": {}})) is None
    assert event_between("c", EmergencyRow(), EmergencyRow(at=AT, version=2)) is None
    other = event_between("c", row, EmergencyRow("halt", "fire", AT, 5))
    assert other is not None
    assert other.reason == "fire"


# --- status and copies ----------------------------------------------------------------------------


async def test_status_has_the_keys_of_the_contract():
    """`get_status()` needs no await and has every key that was promised."""
    controller = control(limits={"daily_loss": -500})
    status = controller.get_status()
    wanted = (
        "controller_id state can_trade can_operate halt_reason halt_timestamp risk_limits "
        "metadata handlers_count"
    )

    assert set(wanted.split()) <= set(status)
    assert status["state"] == "normal"
    assert status["halt_timestamp"] is None
    assert status["risk_limits"]["daily_loss"] == {
        "current": None,
        "limit": -500.0,
        "utilization": 0.0,
    }
    await controller.halt("loss")
    assert controller.get_status()["halt_timestamp"].endswith("Z")


class State:
    """What `infra.state` offers, as far as copies need it."""

    def __init__(self):
        self.values = {}

    async def set(self, key, value):
        self.values[key] = json.loads(json.dumps(value))

    async def get(self, key):
        return self.values.get(key)


@pytest.mark.parametrize("kind", [State, MemoryStore])
async def test_copy_can_be_restored_elsewhere(kind):
    """A copy in another store halts a controller that knows nothing, and tells whether it was."""
    place = kind()
    controller = control()
    assert not await control().restore_state(place)
    await controller.halt("loss", account="a1")
    await controller.persist_state(place)

    fresh = control()
    assert await fresh.restore_state(place)

    assert (fresh.state, fresh.reason) == (HALT, "loss")
    assert fresh.get_status()["metadata"] == {"account": "a1"}


async def test_old_copy_does_not_undo_a_resume():
    """A copy made before a `resume()` in the same store is not believed."""
    store = MemoryStore()
    controller = control(store)
    await controller.halt("loss")
    await controller.persist_state()
    await controller.resume()

    assert await controller.restore_state()
    assert controller.is_normal


async def test_copy_of_a_normal_state_does_not_resume():
    """Restoring never lowers the state."""
    place = State()
    await control().persist_state(place)
    controller = control()
    await controller.halt("loss")

    assert await controller.restore_state(place)
    assert controller.is_halted


@pytest.mark.parametrize(
    "stored", [b"{", "[]", b"null", {"state": "wild"}, {"state": "halt", "halt_timestamp": "now"}]
)
def test_copy_that_cannot_be_read_is_an_error(stored):
    """A damaged copy is no reason to go on as if nothing had been."""
    with pytest.raises(ValueError, match="cannot be read"):
        restoring(stored)


def test_copy_has_the_keys_of_the_contract():
    """The record under `emergency_controller:{id}` has what its readers look for."""
    record = record_of(EmergencyRow("halt", "loss", AT, 2, limits={"a": {}}), {"b": {}})

    assert record == {
        "state": "halt",
        "halt_reason": "loss",
        "halt_timestamp": AT,
        "metadata": {},
        "risk_limits": {"a": {}, "b": {}},
        "version": 2,
    }


async def test_opening_a_controller_reads_the_state():
    """`async with` knows at once whether it is halted, and raises if that cannot be known."""
    store = Shaky()
    await control(store).halt("loss")
    async with EmergencyController(store=store) as controller:
        assert controller.is_halted
    store.fails_reads = True
    with pytest.raises(StoreUnavailable):
        async with control(store):
            pass
