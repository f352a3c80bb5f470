"""Whatever a node run was like, its lifecycle follows the table."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

import tracing.record as r
from tracing.lifecycle_derived import lifecycle_of, state_of, suspensions
from tracing.lifecycle_states import FINAL, LEGAL, AsyncNodeState
from tracing.performance_monitor import running_seconds
from tracing.recorder import new_trace

S = AsyncNodeState
OUTCOMES = (r.FAILED, r.CANCELLED, r.TIMED_OUT, r.HALTED)


times = st.integers(0, 3)


def suspend(draw, record, now, failing):
    """Add some suspensions from *now* on, overlapping or not; return when they are over."""
    pauses = []
    for _ in range(draw(st.integers(0, 2))):
        now += draw(times)
        pauses.append(r.Phase("suspended", now))
        now += draw(times)
        if draw(st.booleans()):
            pauses[-1].end, pauses[-1].outcome = now, r.COMPLETED
    record.phases.extend(pauses)
    for pause in pauses:
        if pause.end is None:  # left by what ends the phase, or later, by a task that outlives it
            pause.end = now + draw(times)
            pause.outcome = r.FAILED if failing else r.COMPLETED
    return now


@st.composite
def records(draw):
    """Draw the record of a node run: retried, suspended, failing or cut off anywhere."""
    now = 1_000
    record = r.Record(new_trace("t"), 1, None, "node", "Node", now)
    attempts = draw(st.integers(1, 4))
    plan = ["prep", *["exec"] * attempts, *draw(st.sampled_from([[], ["fallback"]])), "post"]
    stop = draw(st.integers(0, len(plan)))  # the phase that fails for good; none if beyond
    for place, kind in enumerate(plan[: stop + 1]):
        now += draw(times)
        phase = r.Phase(kind, now, place - 1 if kind == "exec" else 0)
        record.phases.append(phase)
        again = kind == "exec" and place < attempts and place != stop
        failing = again or place == stop
        now = suspend(draw, record, now, failing) + draw(times)
        phase.end, phase.outcome = now, r.FAILED if failing else r.COMPLETED
        if again:
            phase.wait = 0.5
    if draw(st.booleans()):
        failed = stop < len(plan)
        record.end = now + draw(times)
        record.outcome = draw(st.sampled_from(OUTCOMES)) if failed else r.COMPLETED
        record.error = r.Failure("ValueError", "bad") if failed else None
    return record


@given(records())
def test_every_lifecycle_follows_the_table_in_order_of_time(record):
    """Each state may follow the one before; times never go back; counts agree with statistics."""
    lifecycle = lifecycle_of(record)
    states = [event.state for event in lifecycle.events]

    assert states[0] is S.CREATED
    for before, after in pairwise(states):
        assert after in LEGAL[before], [state.value for state in states]
    times = [event.timestamp for event in lifecycle.events]
    assert times == sorted(times)
    assert (lifecycle.suspend_count, lifecycle.resume_count) == suspensions(record)
    if record.end is not None:
        assert lifecycle.current_state is state_of(record)
        assert lifecycle.current_state in FINAL
        assert 0 <= running_seconds(record) * 1e9 <= record.end - record.start + 1
    else:
        assert lifecycle.is_active
