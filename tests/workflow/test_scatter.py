"""Scatter and gather: three names, one result."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncWorkflowBuilder, WorkflowValidationError

PROCESS = """
    def process_item(item):
        return {"original": item, "transformed": item.upper(), "length": len(item)}
"""


def built():
    builder = AsyncWorkflowBuilder()
    builder.add_scatter_gather(
        "scatter_process", "worker", "gather_results", PROCESS, worker_count=4
    )
    return builder


async def run(builder, **inputs):
    async with AsyncLocalRuntime() as runtime:
        return await runtime.execute_workflow_async(builder.build(), inputs)


async def test_scatter_and_gather_have_the_same_results():
    """Both ids give results and statistics, in the order of the items."""
    result = await run(built(), items=["a", "bb"])

    for node_id in ("scatter_process", "gather_results"):
        out = result["results"][node_id]
        assert [row["transformed"] for row in out["results"]] == ["A", "BB"]
        assert out["statistics"]["total"] == 2
        assert out["errors"] == []


@pytest.mark.parametrize("node_id", ["scatter_process", "worker", "gather_results"])
async def test_all_three_ids_can_be_connected(node_id):
    """Whatever is connected to one of them gets the results."""
    builder = built()
    builder.add_function("count", lambda rows: len(rows))
    builder.add_function("source", lambda: ["x", "y", "z"])
    builder.add_connection("source", None, "scatter_process", "items")
    builder.add_connection(node_id, "results", "count", "rows")

    result = await run(builder)

    assert result["results"]["count"] == 3
    assert {"scatter_process", "gather_results"} <= set(builder.build().nodes)


async def test_fields_and_workers_are_as_said():
    """Names of the fields, and never more than worker_count items at work."""
    now = peak = 0

    async def work(item):
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.001)
        now -= 1
        return item

    builder = AsyncWorkflowBuilder()
    node_id = builder.add_scatter_gather(
        "s", "w", "g", work, worker_count=3, scatter_field="rows", gather_field="made"
    )
    result = await run(builder, rows=range(12))

    assert node_id == "s"
    assert peak == 3
    assert result["results"]["g"]["made"] == list(range(12))


async def test_a_failing_item_fails_both_unless_it_may_go_on():
    """The options of maps are there too."""
    builder = AsyncWorkflowBuilder()
    builder.add_scatter_gather("s", "w", "g", lambda item: 1 / item)
    builder.add_scatter_gather("s2", "w2", "g2", lambda item: 1 / item, continue_on_error=True)

    result = await run(builder, items=[1, 0])

    assert list(result["errors"]) == ["s"]
    assert list(result["skipped"]) == ["g"]
    assert result["results"]["g2"]["statistics"]["failed"] == 1
    assert result["results"]["g2"]["errors"][0]["error_type"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        (("a", "a", "b"), WorkflowValidationError),
        (("a", "b", "a"), WorkflowValidationError),
        (("taken", "b", "c"), WorkflowValidationError),
        (("a", "taken", "c"), WorkflowValidationError),
        (("a", "b", "taken"), WorkflowValidationError),
        (("a", "", "c"), WorkflowValidationError),
        (("a", "b", "c.d"), WorkflowValidationError),
        (("a", None, "c"), TypeError),
    ],
)
def test_ids_that_cannot_be_add_nothing(ids, error):
    """Taken, equal or hostile ids are refused before anything is added."""
    builder = AsyncWorkflowBuilder()
    builder.add_function("taken", len)

    with pytest.raises(error):
        builder.add_scatter_gather(*ids, PROCESS)

    assert list(builder.nodes) == ["taken"]


def test_the_name_of_the_workers_is_taken():
    """No later node can have it."""
    with pytest.raises(WorkflowValidationError, match="already exists"):
        built().add_function("worker", len)


def test_wrong_options_are_refused():
    """Counts and fields are checked as those of maps; nothing is added."""
    builder = AsyncWorkflowBuilder()
    for options in ({"worker_count": 0}, {"gather_field": "errors"}, {"scatter_field": ""}):
        with pytest.raises((TypeError, ValueError)):
            builder.add_scatter_gather("s", "w", "g", PROCESS, **options)

    assert not builder.nodes
    assert not builder.build().aliases
