"""A workflow as a node of a flow."""

from __future__ import annotations

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import WorkflowBuilder, WorkflowExecutionError, WorkflowNode


def adding():
    builder = WorkflowBuilder("adding")
    builder.add_function("sum", lambda x, y=1: x + y)
    return builder


async def test_a_workflow_runs_in_a_flow():
    """Its inputs come from shared, its results go there, and the flow goes on."""
    seen = []

    class Last(AsyncNode):
        async def prep_async(self, shared):
            seen.append(shared["results"]["sum"])

    node = WorkflowNode(adding())
    node >> Last()
    shared = {"x": 2, 5: "no name"}

    await AsyncFlow(start=node).run_async(shared)

    assert seen == [3]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["x"], 3),
        (("x", "y"), 12),
        ({"x": "y", "y": "x"}, 12),
        ({"x": "other"}, 101),
        (lambda shared: {"x": shared["other"], "y": 5}, 105),
    ],
)
async def test_inputs_are_chosen(inputs, expected):
    """By names, by names of their own, or by a function."""
    shared = {"x": 2, "y": 10, "other": 100}

    await WorkflowNode(adding(), inputs=inputs, into="out").run_async(shared)

    assert shared["out"]["sum"] == expected


async def test_a_failing_workflow_is_tried_again_and_has_a_fallback():
    """The node's own retries and fallback are about the whole workflow."""
    calls = []
    builder = WorkflowBuilder()
    builder.add_function("bad", lambda: calls.append(1) or 1 / 0)

    class Safe(WorkflowNode):
        async def exec_fallback_async(self, prep_res, exc):
            return {"results": str(type(exc).__name__)}

    shared = {}
    await Safe(builder, max_retries=3).run_async(shared)

    assert len(calls) == 3
    assert shared["results"] == "WorkflowExecutionError"
    with pytest.raises(WorkflowExecutionError, match="bad"):
        await WorkflowNode(builder).run_async({})


async def test_a_runtime_is_shared_when_it_is_given():
    """Then it is not closed after the run, and its limits hold."""
    async with AsyncLocalRuntime(max_concurrent_nodes=1) as runtime:
        node = WorkflowNode(adding(), runtime=runtime, into=None, name="add")
        for _ in range(2):
            shared = {"x": 1}
            await node.run_async(shared)
            assert shared == {"x": 1}


async def test_a_node_may_choose_its_action_by_the_result():
    """`post_async` gets the whole result of the run."""

    class Choosing(WorkflowNode):
        async def post_async(self, shared, prep_res, exec_res):
            return exec_res["status"]

    assert await Choosing(adding()).run_async({"x": 1}) == "success"


async def test_a_workflow_node_in_a_flow_in_a_workflow():
    """They nest in each other, on one runtime with one slot."""
    outer = WorkflowBuilder("outer")
    async with AsyncLocalRuntime(max_concurrent_nodes=1) as runtime:
        node = WorkflowNode(adding(), inputs=["x"], runtime=runtime)
        outer.add_flow("flow", AsyncFlow(start=node), outputs=["results"])
        result = await runtime.execute_workflow_async(outer.build(), {"x": 5})

    assert result["errors"] == {}
    assert result["results"]["flow"] == {"results": {"sum": 6}}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("w",), {}),
        ((None,), {}),
        ((adding(),), {"inputs": "x"}),
        ((adding(),), {"inputs": 5}),
        ((adding(),), {"runtime": 5}),
        ((adding(),), {"tiemout": 5}),
    ],
)
def test_wrong_arguments_are_refused(arguments, options):
    """When the node is made, and not when it runs."""
    with pytest.raises(TypeError):
        WorkflowNode(*arguments, **options)


async def test_a_shared_that_is_no_dict_needs_a_function():
    """The error says so."""
    with pytest.raises(TypeError, match="inputs=, a function"):
        await WorkflowNode(adding()).run_async([1])
