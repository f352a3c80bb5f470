"""One trace over a crash."""

from __future__ import annotations

import pytest

from pocketflow_async.hooks import Step, guarding
from pocketflow_async.workflow.recovery import recover
from tests.executor.executor_kit import executor
from tests.executor.recovery_kit import Killed, Place, workflow
from tracing import trace_flow
from tracing.testing import capture


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def seen():
    with capture() as traces:
        yield traces


def runs(seen):
    """The runs of the workflow in all traces, the first before those after it."""
    spans = [span for trace in seen.all() for root in trace.roots for span in root.walk()]
    return sorted(
        (one for one in spans if one.kind == "workflow"), key=lambda one: one.span.start_ns
    )


@trace_flow(flow_name="morning")
async def traced(made):
    return await made.execute()


@trace_flow(flow_name="start")
async def started_again(infra, world):
    return await recover(infra, handlers=world.handlers)


async def killed(place, run):
    place.world.dies_in = "c"
    async with place.process() as infra:
        with pytest.raises(Killed):
            await run(executor(infra, workflow(), place.world.handlers))
    place.later()


async def test_what_goes_on_is_in_the_trace_that_it_began_in(seen, place):
    """Both processes show in one trace: the second below the run of the first."""
    await killed(place, traced)
    async with place.process() as infra:
        (found,) = await started_again(infra, place.world)

    assert found.status == "completed"
    first, second = runs(seen)
    assert second.span.trace_id == first.span.trace_id
    assert second.span.parent_id == first.span.span_id
    nodes = [span.name for span in second.walk() if span.kind == "node"]
    assert nodes == ["c", "a", "b"]


async def test_the_row_says_in_which_trace_it_began(seen, place):
    """As W3C traceparent; none where nobody watched."""
    await killed(place, traced)
    (row,) = await place.store.runs()
    (run,) = runs(seen)
    assert row.trace == f"00-{run.span.trace_id}-{run.span.span_id}-01"

    unseen = Place()
    await unseen.dies(during="c")
    (row,) = await unseen.store.runs()
    assert row.trace is None


async def test_gates_hold_for_what_is_recovered(seen, place):
    """They are those of whoever recovers, also where it has a trace of its own."""
    await killed(place, traced)

    def gate(step: Step) -> None:
        if step.name == "a":
            raise PermissionError("not today")

    async with place.process() as infra:
        with guarding(gate):
            (found,) = await started_again(infra, place.world)

    assert isinstance(found.error, PermissionError)
    assert found.status == "failed"
    assert place.world.done == ["p", "q", "c"]
