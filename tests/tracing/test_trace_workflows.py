"""A runtime under `trace_flow` leaves a trace for each workflow it executes."""

from __future__ import annotations

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncWorkflowBuilder
from tracing import trace_flow


def builder() -> AsyncWorkflowBuilder:
    made = AsyncWorkflowBuilder(name="Division")
    half = made.add_async_code("half", "result = number / 2")
    inverse = made.add_async_code("inverse", "result = 1 / half")
    shown = made.add_async_code("shown", "result = str(inverse)")
    made.add_connection(half, None, inverse, "half")
    made.add_connection(inverse, None, shown, "inverse")
    return made


@pytest.mark.parametrize("built", [True, False])
async def test_a_workflow_is_the_root_of_its_trace(traces, built):
    """One span for the workflow, with session and contents; below it one for each node."""
    runtime = trace_flow(session_id="s-1")(AsyncLocalRuntime())
    workflow = builder().build() if built else builder()

    result = await runtime.execute_workflow_async(workflow, {"number": 4})

    assert result["results"]["shown"] == "0.5"
    (tree,) = traces.all()
    (root,) = tree.roots
    assert (root.kind, root.name, root.outcome) == ("workflow", "Division", "completed")
    assert tree.summary.session_id == "s-1"
    assert root.input == b'{"number":4}'
    assert root.output == b'{"half":2.0,"inverse":0.5,"shown":"0.5"}'
    assert [(child.name, child.outcome) for child in root.children] == [
        ("half", "completed"),
        ("inverse", "completed"),
        ("shown", "completed"),
    ]


async def test_a_failed_node_makes_the_workflow_fail_in_its_trace(traces):
    """The result is that of an untraced run; the trace says what failed and what was skipped."""
    runtime = trace_flow(AsyncLocalRuntime())
    plain = await AsyncLocalRuntime().execute_workflow_async(builder(), {"number": 0})

    result = await runtime.execute_workflow_async(builder(), {"number": 0})

    assert list(result["errors"]) == list(plain["errors"]) == ["inverse"]
    assert (result["results"], result["skipped"]) == (plain["results"], plain["skipped"])
    root = traces.one()
    assert root.outcome == "failed"
    assert {child.name: child.outcome for child in root.children} == {
        "half": "completed",
        "inverse": "failed",
        "shown": "skipped",
    }


async def test_several_runs_at_once_have_their_own_traces(traces):
    """One runtime, two workflows at once: two traces."""
    import asyncio

    runtime = trace_flow(AsyncLocalRuntime())
    workflow = builder().build()
    await asyncio.gather(
        *(runtime.execute_workflow_async(workflow, {"number": number}) for number in range(1, 9))
    )

    found = traces.all()
    assert len(found) == 8
    assert {len(tree.roots[0].children) for tree in found} == {3}
