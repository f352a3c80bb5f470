"""Any flow, cancelled at any moment: its trace is a well-formed tree that tells what happened."""

import asyncio
import warnings
from collections import Counter

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pocketflow_async import AsyncFlow, Flow
from pocketflow_async.clock import using_clock
from tests.tracing.wellformed_kit import Trouble, build, programs, races, sync_parts
from tracing import trace_flow
from tracing.record import OUTCOMES
from tracing.testing import FakeClock, capture

PHASES = ("prep", "exec", "fallback", "post")
moments = st.none() | st.integers(0, 8).map(lambda seconds: seconds + 0.0107)
slowly = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def until(run, moment):
    """Await *run*, cancelled after *moment* seconds if it takes so long."""
    task = asyncio.ensure_future(run)
    if moment is not None:
        asyncio.get_running_loop().call_later(moment, task.cancel)
    await asyncio.wait([task])
    if task.cancelled():
        return "cancelled", "CancelledError", ""
    return seen_of(task.result)


def seen_of(call):
    """Return what the caller of a run sees, as (outcome, error or result, message)."""
    try:
        return "completed", call(), ""
    except Trouble as error:
        return "failed", "Trouble", str(error)
    except TimeoutError as error:
        return "timed_out", type(error).__name__, str(error)


def perform(spec, moment, traced):
    """Run a program once; return what the caller saw, what the nodes counted, and `shared`."""
    counts, shared, clock = Counter(), {}, FakeClock()
    flow = AsyncFlow(build(spec, counts), name="Root")
    if traced:
        flow = trace_flow(flow_name="Root")(flow)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        seen = clock.run(until(flow.run_async(shared), moment))
    return seen, counts, shared, clock.monotonic()


@slowly
@given(spec=programs, moment=moments)
def test_any_trace_is_a_well_formed_tree(spec, moment):
    """One root, all ended, times nested, attempts as counted, outcome and result as seen."""
    plain = perform(spec, moment, traced=False)
    with capture() as traces:
        traced = perform(spec, moment, traced=True)

    event(traced[0][0])
    if not races(spec):
        assert traced == plain
    check_trace(traces.one("Root"), *traced[:2])


@slowly
@given(spec=sync_parts)
def test_any_trace_of_a_synchronous_flow_too(spec):
    """The same for `run`, where waits and timeouts are the clock's."""
    seen = []
    for traced in (False, True):
        counts, shared, clock = Counter(), {}, FakeClock()
        flow = Flow(build(spec, counts), name="Root")
        with capture() as traces, using_clock(clock), warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            run = (trace_flow(flow_name="Root")(flow) if traced else flow).run
            seen.append((seen_of(lambda: run(shared)), counts, shared, clock.waits))  # noqa: B023

    assert seen[0] == seen[1]
    check_trace(traces.one("Root"), *seen[1][:2])


@settings(max_examples=30, deadline=None)
@given(specs=st.lists(st.tuples(programs, moments), min_size=2, max_size=4))
def test_runs_at_once_are_traces_of_their_own(specs):
    """Several programs at the same time, some cancelled: each trace is that of one program."""
    counts = [Counter() for _ in specs]

    async def main():
        flows = [
            trace_flow(flow_name=f"Root{place}")(AsyncFlow(build(spec, counts[place])))
            for place, (spec, _) in enumerate(specs)
        ]
        return await asyncio.gather(
            *(
                until(flow.run_async({}), moment)
                for flow, (_, moment) in zip(flows, specs, strict=True)
            )
        )

    with capture() as traces, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        seen = FakeClock().run(main())

    assert len(traces) == len(specs)
    for place, each in enumerate(seen):
        check_trace(traces.one(f"Root{place}"), each, counts[place])


def check_trace(trace, seen, counts):
    """Compare a trace with what its caller saw and its nodes counted."""
    assert len(trace.roots) == 1
    outcome, error, message = seen
    assert trace.root.outcome == trace.outcome == outcome, trace.tree(phases=True)
    if outcome != "completed":
        assert trace.root.error.type.rpartition(".")[2] == error
        assert trace.root.error.message == message
    found = Counter()
    ids = Counter()
    for span in trace.walk():
        check_span(span)
        ids[span.span.span_id] += 1
        found.update((span.name, phase.kind) for phase in span.phases)
        ids.update(phase.span_id for phase in span.phases)
    assert {key: found[key] for key in counts} == dict(counts), trace.tree(phases=True)
    assert set(ids.values()) == {1}


def check_span(span):
    """A span has ended, lies inside its parent, and its phases inside it, attempts in order."""
    own = span.span
    assert own.outcome in OUTCOMES
    assert (own.error is None) == (own.outcome == "completed")
    for phase in own.phases:
        assert phase.outcome in OUTCOMES
        assert own.start_ns <= phase.start_ns <= phase.end_ns <= own.end_ns
    attempts = [phase for phase in own.phases if phase.kind == "exec"]
    assert [phase.attempt for phase in attempts] == list(range(len(attempts)))
    assert all(phase.outcome != "completed" for phase in attempts[:-1])
    # A wait is planned after every failed attempt but the last; a cancellation may come in it.
    assert all(phase.wait is not None for phase in attempts[:-1])
    if span.parent is None:
        assert own.parent_id is None
        return
    above = span.parent.span
    assert own.trace_id == above.trace_id
    around = next(
        (phase for phase in above.phases if phase.span_id == own.parent_id),
        above if above.span_id == own.parent_id else None,
    )
    assert around is not None
    assert around.start_ns <= own.start_ns <= own.end_ns <= around.end_ns
