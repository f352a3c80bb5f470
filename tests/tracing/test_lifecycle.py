"""Lifecycles told by hand: states, the table of transitions, statistics, handlers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from datetime import timedelta

import pytest

from tracing import TracingConfig
from tracing.async_lifecycle import (
    LEGAL,
    AsyncLifecycleEvent,
    AsyncLifecycleManager,
    AsyncNodeLifecycle,
    AsyncNodeState,
    AsyncPhase,
)
from tracing.core import LangfuseTracer
from tracing.lifecycle_states import FINAL

S = AsyncNodeState


@pytest.fixture
def manager():
    return AsyncLifecycleManager(LangfuseTracer(TracingConfig()))


def states(lifecycle):
    return [event.state for event in lifecycle.events]


def test_values_are_those_of_the_contract():
    """States and phases have the original's values, and RETRYING besides."""
    assert {state.value for state in S} == {
        "created", "starting", "running", "suspended", "resuming", "completing", "completed",
        "cancelled", "failed", "retrying",
    }  # fmt: skip
    assert [phase.value for phase in AsyncPhase] == ["prep", "exec", "post", "cleanup"]


def test_an_event_has_the_fields_and_defaults_of_the_contract():
    """Names, their order and defaults are the original's; the time is UTC and says so."""
    event = AsyncLifecycleEvent()

    assert [field.name for field in dataclasses.fields(event)] == [
        "event_id", "node_id", "node_name", "phase", "state", "timestamp", "task_id",
        "context_data", "duration_ms", "error", "metadata",
    ]  # fmt: skip
    assert (event.phase, event.state, event.metadata) == (AsyncPhase.EXEC, S.CREATED, {})
    assert len(event.event_id) == 36
    assert event.timestamp.utcoffset() == timedelta(0)


def test_a_lifecycle_has_the_fields_and_defaults_of_the_contract():
    """A new lifecycle is CREATED in PREP, active, and has no duration."""
    lifecycle = AsyncNodeLifecycle("n", "Node")

    assert [field.name for field in dataclasses.fields(lifecycle)] == [
        "node_id", "node_name", "start_time", "end_time", "current_state", "current_phase",
        "events", "suspend_count", "resume_count", "task_switches", "context_data",
    ]  # fmt: skip
    assert (lifecycle.current_state, lifecycle.current_phase) == (S.CREATED, AsyncPhase.PREP)
    assert lifecycle.is_active
    assert lifecycle.duration_ms is None
    assert lifecycle.start_time.utcoffset() == timedelta(0)

    lifecycle.complete()

    assert (lifecycle.current_state, lifecycle.is_active) == (S.COMPLETED, False)
    assert lifecycle.duration_ms >= 0


def test_the_guides_lines(manager):
    """The API reference: start, transition, suspend, resume."""
    node_id, node_name, phase = "node_1", "Node", AsyncPhase.EXEC
    lifecycle = manager.start_lifecycle(node_id, node_name, phase)

    manager.transition_state(node_id, AsyncNodeState.RUNNING)
    manager.suspend_node(node_id, "await_operation")
    manager.resume_node(node_id, "operation_complete")

    assert states(lifecycle) == [S.STARTING, S.RUNNING, S.SUSPENDED, S.RESUMING, S.RUNNING]
    assert lifecycle.events[2].metadata == {"suspend_reason": "await_operation"}
    assert lifecycle.events[3].metadata == {"resume_reason": "operation_complete"}
    assert (lifecycle.suspend_count, lifecycle.resume_count) == (1, 1)
    assert {event.phase for event in lifecycle.events} == {AsyncPhase.EXEC}
    assert manager.get_lifecycle(node_id) is lifecycle


@pytest.mark.parametrize("spell", [lambda state: state, lambda state: state.value, str.upper])
def test_strings_and_members_are_both_accepted(manager, spell):
    """A state or phase may be a member, its value, or its name."""
    spelled = spell if spell is not str.upper else lambda member: member.name
    lifecycle = manager.start_lifecycle("n", "Node", spelled(AsyncPhase.PREP))

    manager.transition_state("n", spelled(S.RUNNING), spelled(AsyncPhase.POST))

    assert (lifecycle.current_state, lifecycle.current_phase) == (S.RUNNING, AsyncPhase.POST)


def test_an_unknown_word_is_an_error_that_names_the_choices(manager):
    """Nothing is silently made RUNNING: ValueError, and the state stays."""
    lifecycle = manager.start_lifecycle("n", "Node")

    with pytest.raises(ValueError, match=r"no such state: 'runing'; choose one of created, st"):
        manager.transition_state("n", "runing")
    with pytest.raises(ValueError, match=r"no such phase: 'main'; choose one of prep, exec"):
        manager.transition_state("n", "running", "main")
    with pytest.raises(ValueError, match="no such phase"):
        manager.start_lifecycle("m", "Node", "main")

    assert states(lifecycle) == [S.STARTING]


def test_an_illegal_transition_is_reported_and_marked(manager, caplog):
    """It is logged with both states and the node, and its event says so; the state is as told."""
    lifecycle = manager.start_lifecycle("n7", "Node")

    with caplog.at_level(logging.WARNING):
        manager.resume_node("n7")
        manager.transition_state("n7", "created", metadata={"why": "test"})

    assert "Node (n7) went from starting to resuming" in caplog.text
    assert "Node (n7) went from running to created" in caplog.text
    assert [event.metadata.get("illegal", False) for event in lifecycle.events] == [
        False, True, False, True,
    ]  # fmt: skip
    assert lifecycle.events[-1].metadata == {"why": "test", "illegal": True}
    assert lifecycle.current_state is S.CREATED


def test_the_table_names_every_state_and_ends_at_the_final_ones():
    """Every state is in LEGAL; from all but the final ones, all may fail or be cancelled."""
    assert set(LEGAL) == set(S)
    for state, following in LEGAL.items():
        if state in FINAL:
            assert not following
        else:
            assert {S.FAILED, S.CANCELLED} <= following
            assert S.CREATED not in following


def test_ends_move_to_the_completed_with_their_cause(manager):
    """Completed, failed and cancelled ones are active no more; causes are in the metadata."""
    for name in ("a", "b", "c"):
        manager.start_lifecycle(name, name.upper())
        manager.transition_state(name, "running")
    manager.transition_state("a", S.COMPLETED)
    manager.fail_node("b", KeyError("no"))
    manager.cancel_node("c")

    done = {lifecycle.node_id: lifecycle for lifecycle in manager.completed_lifecycles}
    assert manager.active_lifecycles == {}
    assert {name: lifecycle.current_state for name, lifecycle in done.items()} == {
        "a": S.COMPLETED,
        "b": S.FAILED,
        "c": S.CANCELLED,
    }
    assert done["b"].events[-1].metadata == {"error_type": "KeyError", "error_message": "'no'"}
    assert done["c"].events[-1].metadata == {"cancel_reason": "task_cancelled"}
    assert all(lifecycle.end_time is not None for lifecycle in done.values())
    manager.transition_state("a", S.RUNNING)  # unknown by now: nothing
    assert manager.get_lifecycle("a") is None


def test_statistics_have_the_keys_of_the_contract(manager):
    """One key while empty; then seven, with states of what has ended."""
    assert manager.get_statistics() == {"total_lifecycles": 0}

    manager.start_lifecycle("a", "A")
    manager.start_lifecycle("b", "B")
    manager.transition_state("b", "running")
    manager.suspend_node("b")
    manager.resume_node("b")
    manager.transition_state("b", "completed")

    found = manager.get_statistics()
    assert found.pop("average_duration_ms") >= 0
    assert found == {
        "total_lifecycles": 2,
        "active_lifecycles": 1,
        "completed_lifecycles": 1,
        "total_suspends": 1,
        "total_resumes": 1,
        "state_distribution": {"completed": 1},
    }


def test_handlers_hear_every_event_and_may_fail(manager, caplog):
    """A handler's exception is logged; the others hear on; a removed one does not."""
    heard = []

    def broken(event):
        raise RuntimeError("deaf")

    manager.add_event_handler(broken)
    manager.add_event_handler(heard.append)
    manager.start_lifecycle("n", "Node")
    manager.remove_event_handler(heard.append)
    manager.remove_event_handler(print)
    manager.transition_state("n", "running")

    assert [event.state for event in heard] == [S.STARTING]
    assert "deaf" in caplog.text


def test_cleanup_cancels_only_what_was_told_to_this_manager(manager):
    """Two managers of one tracer: the cleanup of one leaves the other's alone."""
    other = AsyncLifecycleManager(manager.tracer)
    manager.start_lifecycle("mine", "Node")
    other.start_lifecycle("other", "Node")

    manager.cleanup()

    assert [found.current_state for found in manager.completed_lifecycles] == [S.CANCELLED]
    assert list(other.active_lifecycles) == ["other"]


async def test_the_current_lifecycle_is_each_tasks_own(manager):
    """Tasks see what they have started, and what is around it once that has ended."""

    async def work(name):
        manager.start_lifecycle(name, name)
        await asyncio.sleep(0)
        inside = manager.get_current_lifecycle().node_id
        manager.transition_state(name, "failed")
        return inside, manager.get_current_lifecycle().node_id

    assert manager.get_current_lifecycle() is None
    manager.start_lifecycle("outer", "outer")

    assert await asyncio.gather(work("a"), work("b")) == [("a", "outer"), ("b", "outer")]
    assert manager.get_current_lifecycle().node_id == "outer"


async def test_events_of_another_task_count_as_a_switch(manager):
    """task_switches counts changes of the task that tells."""

    async def tell():
        manager.transition_state("n", "running")

    lifecycle = manager.start_lifecycle("n", "Node")
    await asyncio.create_task(tell())
    manager.transition_state("n", "completed")

    assert lifecycle.task_switches == 2


def test_a_lifecycle_under_way_with_the_same_id_is_replaced(manager):
    """The second start is the one that is known."""
    manager.start_lifecycle("n", "first")
    second = manager.start_lifecycle("n", "second")

    assert manager.get_lifecycle("n") is second
    assert manager.get_statistics()["total_lifecycles"] == 1


def test_what_was_told_by_hand_is_bounded(manager):
    """Of 1,500 lifecycles that ended, and of 1,500 events of one, the last 1,000 are kept."""
    for number in range(1_500):
        manager.start_lifecycle(str(number), "Node")
        manager.transition_state(str(number), "failed")
    lifecycle = manager.start_lifecycle("long", "Node")
    for _ in range(1_500):
        manager.transition_state("long", "running")

    done = manager.completed_lifecycles
    assert (len(done), done[-1].node_id) == (1_000, "1499")
    assert len(lifecycle.events) == 1_000
