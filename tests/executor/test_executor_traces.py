"""What an execution looks like in a trace."""

from __future__ import annotations

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyHalted
from pocketflow_async.workflow.executor import WorkflowExecutor
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    Calls,
    executor,
    provider,
    raises,
    threshold,
    trade,
    yields,
)
from tracing import trace_flow
from tracing.names import LINKS
from tracing.testing import capture

CHEAP = {PRICE: yields(price=0.5)}


@pytest.fixture
def seen():
    with capture() as traces:
        yield traces


@trace_flow(flow_name="morning")
async def traced(made):
    return await made.execute()


async def test_an_execution_is_a_workflow_of_blocks(seen, infra):
    """Both executors: inputs, outputs, and links from each block to those that it needs."""
    for made in (
        WorkflowExecutor({**trade(), "name": "Trade"}, handlers=CHEAP),
        executor(infra, {**trade(), "name": "Trade"}, CHEAP),
    ):
        await traced(made)

    for trace in seen.all():
        root = trace.roots[0]
        (run,) = [span for span in root.walk() if span.kind == "workflow"]
        nodes = [span for span in run.walk() if span.kind == "node"]
        assert (run.name, run.span.outcome) == ("Trade", "completed")
        assert [span.name for span in nodes] == ["price", "cheap", "order"]
        assert (nodes[1].input, nodes[1].output) == ({"value": 0.5, "max": 0.99}, {"pass": True})
        assert [phase.kind for phase in nodes[1].phases] == ["prep", "exec"]
        (link,) = nodes[1].attributes[LINKS]
        assert link["span_id"] == nodes[0].span.span_id
        assert list(run.output) == ["price", "cheap", "order"]
        assert run.attributes["flow.execution_id"].startswith("exec_")
        assert run.attributes["flow.workflow_id"] in ("workflow", "w")


async def test_attempts_are_phases(seen, infra):
    """Each attempt of a provider is an `exec`, the first with its error and the wait."""
    price = Calls(ConnectionError("down"), {"price": 0.5})

    await traced(executor(infra, trade(), {PRICE: price}))

    attempts = [one for one in seen.find("price").phases if one.kind == "exec"]
    assert [(one.outcome, one.wait) for one in attempts] == [("failed", 0.0), ("completed", None)]


async def test_failed_and_skipped_blocks_show(seen, infra):
    """The execution is failed in the trace, though the caller gets a result."""
    workflow = {"blocks": [*trade()["blocks"], provider("o"), threshold("t", "o.price", max=1)]}

    async def price(node, inputs, context):
        return {"price": 0.5} if node["id"] == "o" else 1 / 0

    result = await traced(executor(infra, workflow, {PRICE: price}))

    assert result["status"] == "completed_with_errors"
    outcomes = {
        name: seen.find(name).span.outcome for name in ("w", "price", "cheap", "order", "t")
    }
    assert outcomes == {
        **dict.fromkeys(("w", "price"), "failed"),
        **dict.fromkeys(("cheap", "order"), "skipped"),
        "t": "completed",
    }


async def test_a_halt_shows_as_such(seen, infra):
    """The block that was not let through did not fail: it was halted."""

    async def price(node, inputs, context):
        await infra.emergency.halt("fell")
        return {"price": 0.5}

    with pytest.raises(EmergencyHalted):
        await traced(executor(infra, trade(), {PRICE: price, BUY: raises(ValueError())}))

    assert seen.find("order").span.outcome == "halted"
    assert seen.find("cheap").span.outcome == "completed"


async def test_the_run_knows_its_trace(seen, infra):
    """The stored run has the traceparent, so that it can be taken up in the same trace."""
    result = await traced(executor(infra, trade(), CHEAP))

    row = await infra.store.run(result["execution_id"])
    run = seen.find("w").span
    assert row.trace is not None
    assert row.trace.split("-")[1:3] == [run.trace_id, run.span_id]


async def test_untraced_and_traced_results_are_the_same():
    """Watching changes nothing."""
    made = WorkflowExecutor(trade(), handlers=CHEAP)

    one, other = await made.execute(), await traced(made)

    assert one["outputs"]["cheap"] == other["outputs"]["cheap"]
    assert one["status"] == other["status"]
