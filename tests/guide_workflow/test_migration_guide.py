"""Each block of workflow-builder-migration.md runs as it stands; see `test_left_out` for the rest.

A test is named after the headings of its block, and gives it the names that the guide leaves to
its reader.
"""

from __future__ import annotations

import asyncio
import sys
import time
import types

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    WorkflowBuilder,
    WorkflowValidationError,
)
from pocketflow_async.workflow.builder import WorkflowBuilder as FromBuilder
from tests.guide_workflow.stand_ins import Getting, Pool, Registry, Response


async def execute(workflow, inputs=None, **options):
    """Run *workflow*; fail if one of its nodes does."""
    result = await AsyncLocalRuntime(**options).execute_workflow_async(workflow, inputs)
    assert result["errors"] == {}
    assert result["skipped"] == {}
    return result["results"]


def test_migration_migration_steps_update_imports_before(block):
    """The old imports give the builder and the synchronous door."""
    made = block.run()

    assert made["WorkflowBuilder"] is WorkflowBuilder is FromBuilder
    assert made["LocalRuntime"] is LocalRuntime


def test_migration_migration_steps_update_imports_after(block):
    """The new imports give the builder, the patterns and the runtime."""
    made = block.run()

    assert made["AsyncWorkflowBuilder"] is AsyncWorkflowBuilder
    assert made["AsyncPatterns"] is AsyncPatterns
    assert made["AsyncLocalRuntime"] is AsyncLocalRuntime


def test_migration_migration_steps_update_builder_creation_before(block):
    """`result = process_data(data)` gets both names from the inputs of the run."""
    made = block.run(WorkflowBuilder=WorkflowBuilder)
    results, run_id = LocalRuntime().execute(
        made["builder"], parameters={"process_data": sorted, "data": [3, 1, 2]}
    )

    assert results == {"process": {"result": [1, 2, 3]}}
    assert isinstance(run_id, str)


async def test_migration_migration_steps_update_builder_creation_after(block):
    """The indented code with a comment first is dedented, and awaits."""

    async def process_data(data):
        return sorted(data)

    made = block.run(AsyncWorkflowBuilder=AsyncWorkflowBuilder)
    workflow = made["builder"].build()

    assert workflow.name == "my_workflow"
    inputs = {"process_data": process_data, "data": [3, 1, 2]}
    assert await execute(workflow, inputs) == {"process": [1, 2, 3]}


async def test_migration_migration_steps_update_resource_management_before(block, monkeypatch):
    """A node that connects by itself; without a `result` its public names are its value."""
    psycopg2 = types.ModuleType("psycopg2")
    psycopg2.connect = lambda dsn: ("connection", dsn)
    monkeypatch.setitem(sys.modules, "psycopg2", psycopg2)
    builder = WorkflowBuilder()
    block.run(builder=builder)

    assert (await execute(builder))["db_query"]["result"]["conn"] == ("connection", "...")


async def test_migration_migration_steps_update_resource_management_after(block):
    """Declarations chain and are kept; the node asks for the resource by name."""
    pool = Pool({"id": 1}, {"id": 2})
    made = block.run(builder=AsyncWorkflowBuilder())
    builder = made["builder"]

    assert isinstance(builder, AsyncWorkflowBuilder)
    assert builder.list_required_resources() == ["main_db", "api", "redis"]
    results = await execute(builder, resource_registry=Registry(main_db=pool))
    assert results == {"db_query": [{"id": 1}, {"id": 2}]}
    assert pool.queries == ["SELECT * FROM users"]


async def test_migration_migration_steps_update_parallel_processing_before(block):
    """Threads of the node's own; its value is its public names."""
    builder = WorkflowBuilder()
    block.run(builder=builder)
    found = await execute(builder, {"process_item": str, "items": [1, 2, 3]})

    assert found["parallel"]["result"]["results"] == ["1", "2", "3"]


async def test_migration_migration_steps_update_parallel_processing_after(block):
    """Items that fail are reported, all others are there in order."""

    async def transform_item(item):
        if item == 13:
            raise ValueError("unlucky")
        return item * 10

    builder = AsyncWorkflowBuilder()
    block.run(builder=builder)
    items = list(range(20))
    results = await execute(builder, {"items": items, "transform_item": transform_item})

    assert results["parallel"]["results"] == [item * 10 for item in items if item != 13]
    (error,) = results["parallel"]["errors"]
    assert (error["index"], error["item"], error["success"]) == (13, 13, False)
    assert results["parallel"]["statistics"]["successful"] == 19
    assert results["parallel"]["statistics"]["failed"] == 1


@pytest.mark.parametrize("is_up", [True, False])
async def test_migration_migration_steps_update_error_handling_before(block, is_up):
    """The node's own `except` gives the answer or the error."""

    def get(url):
        if not is_up:
            raise OSError("down")
        return types.SimpleNamespace(json=lambda: {"url": url})

    builder = WorkflowBuilder()
    block.run(builder=builder)
    inputs = {"requests": types.SimpleNamespace(get=get), "url": "http://here"}
    results = await execute(builder, inputs)

    right = {"url": "http://here"} if is_up else {"error": "down"}
    assert results == {"api_call": {"result": right}}


def api(*answers):
    """Return a registry with an HTTP client that gives *answers* in turn: responses and errors."""
    left = list(answers)
    return Registry(api=types.SimpleNamespace(get=lambda url: Getting(left.pop(0))))


def test_migration_migration_steps_update_error_handling_after(block, clock):
    """The second attempt, a second later, gives the answer, and the attempts are told."""
    builder = AsyncWorkflowBuilder()
    block.run(builder=builder, AsyncPatterns=AsyncPatterns)
    registry = api(OSError("down"), Response({"rows": 2}))
    results = clock.run(execute(builder, {"url": "/rows"}, resource_registry=registry))

    made = results["api_call"]
    assert (made["rows"], made["success"], made["total_attempts"]) == (2, True, 2)
    assert made["attempts"] == [
        {"attempt": 1, "success": False, "duration": 0, "error": "down", "error_type": "OSError"},
        {"attempt": 2, "success": True, "duration": 0},
    ]
    assert clock.waits == [1.0]


def test_migration_migration_steps_update_runtime_and_execution_before(block, capsys):
    """`execute_workflow` gives status and results."""
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "double", {"code": "result = n * 2"})
    made = block.run(builder=builder, LocalRuntime=LocalRuntime, inputs={"n": 4})

    assert made["result"] == {
        "status": "success",
        "results": {"double": {"result": 8}},
        "error": None,
    }
    assert capsys.readouterr().out == "Success: {'double': {'result': 8}}\n"


async def test_migration_migration_steps_update_runtime_and_execution_after(block, capsys):
    """Success is an empty `errors`."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("double", "result = {'value': n * 2}")
    made = await block.arun(builder=builder, AsyncLocalRuntime=AsyncLocalRuntime, inputs={"n": 4})

    assert made["result"]["status"] == "success"
    assert capsys.readouterr().out == "Success: {'double': {'value': 8}}\n"


async def test_migration_migration_steps_update_runtime_and_execution_after__fails(block, capsys):
    """A node that fails is in `errors`, with type, message and line."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("double", "result = 2 / n")
    made = await block.arun(builder=builder, AsyncLocalRuntime=AsyncLocalRuntime, inputs={"n": 0})

    assert list(made["result"]["errors"]) == ["double"]
    printed = capsys.readouterr().out
    assert printed.startswith("Errors: {'double': ")
    assert "ZeroDivisionError: division by zero" in printed
    assert "line 1" in printed


def test_migration_common_patterns_migration_rate_limiting_before(block, monkeypatch):
    """Plain Python, in the guide for contrast."""
    done, waits = [], []
    monkeypatch.setattr(time, "sleep", waits.append)
    block.run(items=[1, 2], process=done.append)

    assert (done, waits) == ([1, 2], [0.1, 0.1])


def test_migration_common_patterns_migration_rate_limiting_after(block, clock):
    """Of 40 runs of one workflow at once, 20 go at once and the others ten a second."""
    builder = AsyncWorkflowBuilder()
    block.run(builder=builder, AsyncPatterns=AsyncPatterns)
    workflow = builder.build()

    async def process(item):
        return {"item": item, "at": clock.monotonic()}

    async def all_runs():
        inputs = ({"item": item, "process": process} for item in range(40))
        return await asyncio.gather(*(execute(workflow, given) for given in inputs))

    made = [results["rate_limited_process"] for results in clock.run(all_runs())]
    assert [each["item"] for each in made] == list(range(40))
    right = [0.0] * 20 + [number / 10 for number in range(1, 21)]
    assert [each["at"] for each in made] == pytest.approx(right)
    assert made[0]["_rate_limit_info"]["tokens_remaining"] == 19
    assert made[-1]["_rate_limit_info"]["waited"] == pytest.approx(2.0)


def test_migration_common_patterns_migration_circuit_breaker_before(block):
    """Plain Python, in the guide for contrast."""
    block.run(threshold=0)
    with pytest.raises(Exception, match=r"^Circuit open$"):
        block.run(threshold=-1)


def test_migration_common_patterns_migration_cache_aside_pattern_before(block):
    """Plain Python, in the guide for contrast."""

    class Cache(dict):
        set = dict.__setitem__

    cache = Cache()
    assert block.run(id=1, cache=cache, fetch_data="data {}".format)["data"] == "data 1"
    assert cache == {"data_1": "data 1"}
    assert block.run(id=1, cache=cache, fetch_data=None)["data"] == "data 1"


def two_nodes():
    """Return a builder with the two nodes that the guide connects."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("node1", "data = 5\nresult = {'result': data}")
    builder.add_async_code("node2", "result = input")
    return builder


def test_migration_important_differences_input_field_names(block):
    """The block connects one input twice, once right (✓) and once wrong (✗); `build` says so."""
    builder = two_nodes()
    block.run(builder=builder)

    with pytest.raises(WorkflowValidationError, match="input 'input' of node 'node2' is fed by"):
        builder.build()


def test_migration_important_differences_input_field_names__wrong(block):
    """The wrong output (✗) alone is refused before any run, and what there is is named."""
    builder = two_nodes()
    block.run(part=slice(1, None), builder=builder)

    with pytest.raises(WorkflowValidationError, match="'output'") as caught:
        builder.build()
    assert "'result'" in str(caught.value)


async def test_migration_important_differences_input_field_names__result(block):
    """The port `result` (✓) is all of `result`, as for every node of this builder."""
    builder = two_nodes()
    block.run(part=slice(1), builder=builder)

    assert (await execute(builder))["node2"] == {"result": 5}


async def test_migration_important_differences_parallel_map_inputs(block):
    """What `source` leaves under `data` are the items of the map."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("source", "result = {'data': [1, 2, 3], 'other': 0}")
    builder.add_parallel_map("parallel", "def process_item(item):\n    return -item")
    block.run(builder=builder)

    assert (await execute(builder))["parallel"]["results"] == [-1, -2, -3]


async def test_migration_complete_migration_example(block):
    """All of it is refused as printed, before any run: it leaves `transform` to its reader."""
    with pytest.raises(WorkflowValidationError, match="nobody gives input 'transform'"):
        await block.arun()


def test_migration_complete_migration_example__after(block, clock):
    """The second half fetches at its second attempt; `result` is a dict, of a list the `value`."""

    async def transform(item):
        return item * 10

    builder = block.run(part=slice(9, -3))["builder"]
    registry = api(OSError("down"), Response([1, 2]))
    result = clock.run(
        AsyncLocalRuntime(resource_registry=registry).execute_workflow_async(
            builder.build(), {"transform": transform}
        )
    )

    made = result["results"]["fetch"]
    assert (made["value"], made["total_attempts"]) == ([1, 2], 2)
    assert list(result["errors"]) == ["process"]  # which goes over no dict: connect `value` to it
    assert clock.waits == [1.0]


def test_migration_complete_migration_example__before(block):
    """The first half, up to its build: two nodes and an edge; nobody gives `transform`."""
    made = block.run(part=slice(7))

    assert list(made["workflow"].nodes) == ["fetch", "process"]
    answer = LocalRuntime().execute_workflow(made["workflow"], {})
    assert answer["status"] == "failed"
    assert "transform" in answer["error"]


def test_migration_complete_migration_example__before_runs(block, monkeypatch):
    """The first half runs once the reader's function is there."""
    requests = types.ModuleType("requests")
    requests.get = lambda url: types.SimpleNamespace(json=lambda: [url, "b"])
    monkeypatch.setitem(sys.modules, "requests", requests)
    workflow = block.run(part=slice(7))["workflow"]
    answer = LocalRuntime().execute_workflow(workflow, {"transform": str.upper})

    assert answer["status"] == "success"
    assert answer["results"]["process"] == {"result": ["HTTPS://API.EXAMPLE.COM/DATA", "B"]}
