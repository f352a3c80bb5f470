"""`trace_flow` on an executor itself."""

from __future__ import annotations

import pytest

from pocketflow_async.infrastructure.factory import Infrastructure
from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor
from pocketflow_async.workflow.executor import WorkflowExecutor
from tests.tracing.conftest import Traces
from tracing import trace_flow

WORKFLOW = {
    "blocks": [
        {
            "id": "sum",
            "name": "Sum",
            "category": "conditions",
            "type": "math",
            "properties": {"operation": "add", "a": 1, "b": 2, "value1": 1, "value2": 2},
            "inputs": {},
            "outputs": ["result"],
        }
    ]
}


@pytest.fixture
def traces(store_path):
    return Traces(store_path)


async def test_an_executor_is_traced_as_it_is(traces):
    """Its execution is the root, with the ids of the run, and its blocks are the nodes."""
    result = await trace_flow(WorkflowExecutor(WORKFLOW)).execute()

    root = traces.one()
    assert (root.kind, root.outcome) == ("workflow", "completed")
    assert [child.name for child in root.children] == ["sum"]
    assert result["status"] == "completed"


async def test_an_enhanced_executor_tells_its_ids(traces):
    """The execution's id, which its events and logs have too, is on the root."""
    async with await Infrastructure.create("development") as infra:
        executor = EnhancedWorkflowExecutor(WORKFLOW, infra, "adding", bot_id="bot-1")
        result = await trace_flow(executor).execute()

    root = traces.one()
    assert root.name == "adding"
    assert result["execution_id"] in root.attributes.values()
    assert isinstance(executor, EnhancedWorkflowExecutor)
