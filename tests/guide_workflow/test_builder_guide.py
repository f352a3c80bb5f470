"""Each block of workflow-builder-guide.md runs as it stands; see `test_left_out` for the rest.

A test is named after the headings of its block, and gives it the names that the guide has from an
earlier block or leaves to its reader. The Complete Example is in `test_complete_example`.
"""

from __future__ import annotations

import asyncio
import logging
import types

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncRetryPolicy,
    AsyncWorkflowBuilder,
    ErrorHandler,
    RetryPolicy,
)
from tests.guide_workflow.stand_ins import Getting, Pool, Registry, Response


@pytest.fixture
def builder():
    """The builder that the guide makes in its first block."""
    return AsyncWorkflowBuilder("my_async_workflow")


async def run(workflow, inputs=None, **options):
    return await AsyncLocalRuntime(**options).execute_workflow_async(workflow, inputs)


async def execute(workflow, inputs=None, **options):
    """Run *workflow*; fail if one of its nodes does."""
    result = await run(workflow, inputs, **options)
    assert result["errors"] == {}
    assert result["skipped"] == {}
    return result["results"]


def test_builder_core_components_asyncworkflowbuilder(block):
    """The built workflow has the builder's name and description."""
    builder = block.run()["builder"]
    builder.add_async_code("only", "result = 1")
    workflow = builder.build()

    assert (workflow.name, workflow.description) == ("my_async_workflow", "Example async workflow")


async def test_builder_core_components_configuration_classes_retrypolicy(block, clock):
    """All is read back; of five attempts waits are 1, 2, 4, 8 s, for these errors alone."""
    policy = block.run()["retry_policy"]

    assert (policy.max_retries, policy.base_delay, policy.max_delay) == (5, 1.0, 60.0)
    assert list(policy.retry_on) == [ConnectionError, TimeoutError]
    assert policy.is_retried(ConnectionResetError())
    assert not policy.is_retried(ValueError())


@pytest.mark.parametrize(("error", "attempts"), [(ConnectionError, 5), (ValueError, 1)])
def test_builder_core_components_configuration_classes_retrypolicy__enforced(
    block, builder, clock, error, attempts
):
    """The number is all attempts, and the policy is enforced."""
    made = []

    def work():
        made.append(1)
        raise error("no")

    policy = block.run()["retry_policy"]
    builder.add_async_code("flaky", work, retry_policy=policy)
    result = clock.run(run(builder))

    assert list(result["errors"]) == ["flaky"]
    assert len(made) == attempts
    assert clock.waits == [1.0, 2.0, 4.0, 8.0][: attempts - 1]


async def test_builder_core_components_configuration_classes_errorhandler(block, builder, caplog):
    """The fallback is the node's value, and the error is logged at the level that was said."""
    handler = block.run()["error_handler"]
    builder.add_async_code("broken", "result = 1 / 0", error_handler=handler)
    with caplog.at_level(logging.DEBUG, "pocketflow_async.workflow"):
        results = await execute(builder)

    assert results == {"broken": {"error": True, "message": "Operation failed"}}
    records = [record for record in caplog.records if "broken" in record.getMessage()]
    assert [record.levelname for record in records if record.levelno > logging.DEBUG] == ["WARNING"]


async def test_builder_building_async_workflows_basic_async_code_nodes(block, builder, aiohttp):
    """The node imports its module, awaits inside `async with`, and leaves its dict."""
    block.run(builder=builder)
    spec = builder.build().nodes["fetch_data"]

    assert (spec.timeout, spec.max_concurrent_tasks) == (30, 10)
    assert spec.description == "Fetch data from API"
    assert await execute(builder) == {"fetch_data": {"data": {"items": 3}, "status": 200}}
    assert aiohttp.urls == ["https://api.example.com/data"]


async def test_builder_building_async_workflows_resource_management(block, builder):
    """Declared without a server; the node calls the method with its parameters by name."""
    pool = Pool({"id": 1, "active": True})
    block.run(builder=builder)
    results = await execute(builder, resource_registry=Registry(main_db=pool))

    rows = [{"id": 1, "active": True}]
    assert results == {"db_query": {"result": rows, "resource": "main_db", "operation": "fetch"}}
    assert pool.queries == ["SELECT * FROM users WHERE active = true"]
    assert builder.list_required_resources() == ["main_db", "api_client", "redis_cache"]


def test_builder_building_async_workflows_resource_management__secrets(block, builder):
    """The bearer token in the headers is not shown by what the builder or workflow say."""
    block.run(builder=builder)
    workflow = builder.build()

    registry = builder.get_resource_registry()
    factories = [made_by.factory for made_by in registry._registered.values()]
    shown = repr([workflow, dict(workflow.metadata), registry, vars(registry), factories])
    assert "Bearer" not in shown


def test_builder_building_async_workflows_parallel_processing(block, builder, clock):
    """Ten at a time, in batches of 50, in order: 100 items of 0.1 s take 1 s."""
    block.run(builder=builder)
    items = [{"id": number, "value": number + 0.5} for number in range(100)]
    result = clock.run(run(builder, {"items": items}))

    assert result["errors"] == {}
    found = result["results"]["process_items"]
    assert found["results"] == [
        {"id": number, "processed": True, "result": 2 * number + 1} for number in range(100)
    ]
    statistics = found["statistics"]
    counts = [statistics[key] for key in ("total", "successful", "failed")]
    assert counts == [100, 100, 0]
    assert clock.monotonic() == pytest.approx(1.0)


def test_builder_building_async_workflows_parallel_processing__errors(block, builder, clock):
    """An item without a value is reported; the others go on."""
    block.run(builder=builder)
    items = [{"id": 0, "value": 1}, {"id": 1}, {"id": 2, "value": 3}]
    found = clock.run(execute(builder, {"items": items}))["process_items"]

    assert [entry["result"] for entry in found["results"]] == [2, 6]
    (error,) = found["errors"]
    assert (error["index"], error["error_type"], error["item"]) == (1, "KeyError", {"id": 1})


async def test_builder_building_async_workflows_scatter_gather_pattern(block, builder):
    """All three ids are there: results of the scatter, the same gathered, workers as its alias."""
    block.run(builder=builder)
    builder.add_async_code("count", "result = {'letters': sum(r['length'] for r in results)}")
    builder.add_connection("gather_results", "results", "count", "results")
    results = await execute(builder, {"items": ["ab", "c", "def"]})

    right = [
        {"original": word, "transformed": word.upper(), "length": len(word)}
        for word in ("ab", "c", "def")
    ]
    assert results["scatter_process"]["results"] == right
    assert results["gather_results"]["results"] == right
    assert results["gather_results"]["statistics"]["total"] == 3
    assert results["count"] == {"letters": 6}
    assert builder.build().aliases["worker"] == "scatter_process"


def client(*answers):
    """Return an HTTP client that gives *answers* in turn: responses and errors."""
    left = list(answers)

    def call(url, json=None):
        return Getting(left.pop(0))

    return types.SimpleNamespace(get=call, post=call)


def test_builder_built_in_async_patterns_retry_with_exponential_backoff(block, builder, clock):
    """Waits of 1 and 2 s for the errors that are named; the answer tells of the attempts."""
    block.run(builder=builder)
    http = client(ConnectionResetError("cut"), TimeoutError("late"), Response({"rows": 2}))
    made = clock.run(execute(builder, {"http_client": http}))["retry_operation"]

    assert (made["status"], made["data"]) == (200, {"rows": 2})
    assert (made["success"], made["total_attempts"]) == (True, 3)
    kinds = [entry.get("error_type") for entry in made["attempts"]]
    assert kinds == ["ConnectionResetError", "TimeoutError", None]
    assert clock.waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("error", "calls", "text"),
    [
        (ConnectionError("down"), 5, "RuntimeError: Operation failed after 5 attempts: down"),
        (ValueError("odd"), 1, "ValueError: odd"),
    ],
)
def test_builder_built_in_async_patterns_retry_with_exponential_backoff__fails(
    block, builder, clock, error, calls, text
):
    """Five attempts fail the node; an error that is not named does so at once, as it is."""
    block.run(builder=builder)
    result = clock.run(run(builder, {"http_client": client(*[error] * 5)}))

    assert result["errors"]["retry_operation"].startswith(text)
    assert clock.waits == [1.0, 2.0, 4.0, 8.0][: calls - 1]


def test_builder_built_in_async_patterns_rate_limiting(block, builder, clock):
    """The answer has the limiter's figures; 21 runs in a row take a tenth of a second."""
    block.run(builder=builder, AsyncPatterns=AsyncPatterns)
    workflow = builder.build()

    async def in_a_row():
        inputs = {"api_client": client(*[Response({"ok": 1})] * 21), "payload": {}}
        return [(await execute(workflow, inputs))["api_call"] for _ in range(21)]

    made = clock.run(in_a_row())
    infos = [each.pop("_rate_limit_info") for each in made]
    assert made == [{"ok": 1}] * 21
    assert [info["tokens_remaining"] for info in infos] == pytest.approx([*range(19, -1, -1), 0])
    assert [info["requests_in_window"] for info in infos] == list(range(1, 22))
    assert clock.monotonic() == pytest.approx(0.1)


RECOVERY = {
    "ErrorHandler": ErrorHandler,
    "AsyncRetryPolicy": AsyncRetryPolicy,
}  # which the guide has imported further up, or not at all


def test_builder_advanced_features_error_handling_and_recovery(block, builder, clock, aiohttp):
    """After three attempts, 0.5 s and 1 s apart, the node has its fallback for a value."""
    aiohttp.responses = [aiohttp.ClientError("down")]
    block.run(builder=builder, **RECOVERY)
    result = clock.run(run(builder))

    assert result["errors"] == {}
    assert result["results"] == {"resilient_operation": {"error": True, "recovered": True}}
    assert list(result.handled) == ["resilient_operation"]
    assert aiohttp.urls == ["https://api.example.com/data"] * 3
    assert clock.waits == [0.5, 1.0]


def test_builder_advanced_features_error_handling_and_recovery__recovers(
    block, builder, clock, aiohttp
):
    """When the second attempt succeeds, its result counts."""
    aiohttp.responses = [aiohttp.ClientError("down"), Response({"rows": 2})]
    block.run(builder=builder, **RECOVERY)

    assert clock.run(execute(builder)) == {"resilient_operation": {"rows": 2}}
    assert clock.waits == [0.5]


def test_builder_advanced_features_error_handling_and_recovery__other_errors(
    block, builder, clock, aiohttp
):
    """An error that the policy does not name is not tried again."""
    aiohttp.responses = [ValueError("odd")]
    block.run(builder=builder, **RECOVERY)

    assert clock.run(execute(builder)) == {
        "resilient_operation": {"error": True, "recovered": True}
    }
    assert len(aiohttp.urls) == 1


async def test_builder_advanced_features_workflow_metadata_and_tracking(block, builder, capsys):
    """What it prints: the resources in the order they were named, the count, the description."""

    async def some_operation():
        return {"done": True}

    made = block.run(builder=builder)

    assert capsys.readouterr().out == (
        "Required resources: ['database', 'cache']\n"
        "Node count: 1\n"
        "Node description: Important business operation\n"
    )
    registry = Registry(database=object(), cache=object())
    results = await execute(
        made["workflow"], {"some_operation": some_operation}, resource_registry=registry
    )
    assert results == {"tracked_operation": {"done": True}}


async def test_builder_best_practices_resource_management(block):
    """Declarations chain; the bad example is still code that runs."""
    made = block.run(AsyncWorkflowBuilder=AsyncWorkflowBuilder)
    builder = made["builder"]

    async def create_db_connection(host):
        return host

    assert builder.list_required_resources() == ["main_db", "redis", "api"]
    results = await execute(builder, {"create_db_connection": create_db_connection})
    assert results == {"bad_example": {"db": "db.prod.com"}}


def test_builder_best_practices_error_handling(block, builder, clock):
    """The good way keeps the error, the bad one loses it; both go on."""

    async def api_call():
        raise OSError("down")

    api_client = types.SimpleNamespace(get=lambda path: api_call())
    block.run(builder=builder, **RECOVERY)
    result = clock.run(run(builder, {"api_client": api_client, "api_call": api_call}))

    # The input `api_call` is no dict, so it is for all nodes, though one has that id.
    assert result["errors"] == {}
    assert result["results"] == {"api_call": {"error": True}, "bad_error_handling": {"error": True}}
    assert list(result.handled) == ["api_call"]
    assert clock.waits == [1.0, 2.0]


async def test_builder_best_practices_async_patterns(block, builder):
    """The good way needs no `result`; the bad one runs too."""
    calls = []

    async def call():
        calls.append(1)
        return {"call": len(calls)}

    block.run(builder=builder, AsyncPatterns=AsyncPatterns)
    results = await execute(builder, {"api": types.SimpleNamespace(call=call)})

    assert list(results["api_calls"]) == ["_rate_limit_info"]
    assert results["api_calls"]["_rate_limit_info"]["tokens_remaining"] == 19
    assert results["manual_rate_limit"]["call"] == 2


async def test_builder_best_practices_fluent_interface(block, capsys):
    """Nodes return their ids, which connect; chaining them breaks as the guide says."""

    async def process_data():
        return [3, 4]

    async def transform_data(data):
        return {"sum": sum(data)}

    names = {"AsyncWorkflowBuilder": AsyncWorkflowBuilder}
    made = block.run(part=slice(-1), **names)

    assert (made["step1_id"], made["step2_id"]) == ("step1", "step2")
    inputs = {"process_data": process_data, "transform_data": transform_data}
    assert (await execute(made["workflow"], inputs))["step2"] == {"sum": 7}
    with pytest.raises(AttributeError, match="'str' object has no attribute 'add_async_code'"):
        block.run(**names)


async def test_builder_debugging_and_monitoring_node_metadata(block, builder):
    """The metadata of the node are there before and after the build."""
    block.run(builder=builder, operation_code="result = {'orders': 2}")
    said = {
        "description": "Processes customer orders from queue",
        "required_resources": ["database", "message_queue"],
    }

    assert builder.get_node_metadata("critical_operation") == said
    workflow = builder.build()
    assert workflow.metadata["node_metadata"] == {"critical_operation": said}
    assert workflow.nodes["critical_operation"].timeout == 30


def test_builder_debugging_and_monitoring_resource_tracking(block, builder, capsys):
    """What was declared has a factory."""
    builder.with_database("main_db").with_cache("redis")
    block.run(builder=builder)

    assert capsys.readouterr().out == "Workflow requires: ['main_db', 'redis']\n"


def test_builder_debugging_and_monitoring_resource_tracking__missing(block, builder):
    """What a node requires and nobody declared is found."""
    builder.add_async_code("node", "result = 1", required_resources=["queue"])
    with pytest.raises(ValueError, match=r"^Missing resource factory: queue$"):
        block.run(builder=builder)


async def test_builder_debugging_and_monitoring_execution_monitoring(block, builder, capsys):
    """What it prints of a run that goes well."""
    builder.add_async_code("calls", "result = {'_rate_limit_info': {'waited': n}}")
    builder.add_async_code("other", "result = n")
    await block.arun(builder=builder, workflow=builder.build(), inputs={"n": 2})

    assert capsys.readouterr().out == (
        "Workflow completed successfully\nNode calls rate limit: {'waited': 2}\n"
    )


async def test_builder_debugging_and_monitoring_execution_monitoring__errors(
    block, builder, capsys
):
    """What it prints when nodes fail: those that did, and none of those left out for it."""
    builder.add_async_code("bad", "result = 1 / n")
    builder.add_async_code("after", "result = value")
    builder.add_connection("bad", "result", "after", "value")
    made = await block.arun(builder=builder, workflow=builder.build(), inputs={"n": 0})

    first, second = capsys.readouterr().out.splitlines()
    assert first == "Workflow had errors:"
    assert second.startswith("  - bad: ZeroDivisionError: division by zero")
    assert list(made["result"]["skipped"]) == ["after"]


async def test_builder_performance_considerations_concurrency_control(block, builder):
    """A function in place of the code; batches of 100; never more than four per processor."""
    now = most = 0

    async def process_function(item):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return item + 1

    block.run(builder=builder, process_function=process_function, cpu_count=lambda: 2)
    results = await execute(builder, {"items": list(range(250))})

    assert results["process_large_dataset"]["results"] == list(range(1, 251))
    assert most == 8


def test_builder_performance_considerations_resource_limits(block, builder):
    """The sizes and the host are what was declared."""
    block.run(builder=builder)
    (made_by,) = builder.get_resource_registry()._registered.values()

    config = {"min_size": 5, "max_size": 20, "host": "db.prod.com"}
    assert {key: made_by.factory.get_config()[key] for key in config} == config


def test_builder_performance_considerations_timeouts(block, builder, clock):
    """A node that takes longer than its 30 s has failed at that moment."""
    code = "import asyncio\nawait asyncio.sleep(60)\nresult = 1"
    block.run(builder=builder, api_call_code=code)
    result = clock.run(run(builder))

    assert "Async code execution exceeded 30s timeout" in result["errors"]["external_api"]
    assert clock.monotonic() == pytest.approx(30.0)


def test_builder_performance_considerations_timeouts__tasks(block, builder, clock):
    """Of the tasks that the node's own code makes, ten are at work at a time."""
    code = """
    async def call():
        await asyncio.sleep(1)
    await asyncio.gather(*(asyncio.create_task(call()) for _ in range(25)))
    result = "done"
    """
    block.run(builder=builder, api_call_code=code)

    assert clock.run(execute(builder)) == {"external_api": "done"}
    assert clock.monotonic() == pytest.approx(3.0)


async def test_builder_integration_with_existing_code_migrating_from_workflowbuilder(block):
    """Both builders from one block; the second asks for an awaitable."""

    async def process_data():
        return {"rows": 1}

    builder = block.run()["builder"]

    assert builder.name.startswith("async_workflow_")
    assert await execute(builder, {"process_data": process_data}) == {"process": {"rows": 1}}


async def test_builder_integration_with_existing_code_migrating_from_workflowbuilder__before(block):
    """The first builder's workflow runs too, and wraps its result."""
    builder = block.run(part=slice(4))["builder"]

    assert await execute(builder, {"process_data": lambda: 5}) == {"process": {"result": 5}}


async def test_builder_integration_with_existing_code_using_with_existing_resources(block):
    """The registry that is there is used, and stays the same object."""
    registry = Registry(main_db=Pool("row"))
    names = {"AsyncWorkflowBuilder": AsyncWorkflowBuilder}
    made = block.run(get_existing_registry=lambda: registry, **names)
    builder = made["builder"]
    builder.add_resource_node("query", "main_db", "fetch", ["SELECT 1"])

    assert builder.get_resource_registry() is registry
    assert "new_cache" in builder.list_required_resources()
    assert (await execute(builder))["query"]["result"] == ["row"]


async def test_builder_troubleshooting_debug_mode(block, builder, caplog):
    """At level DEBUG the logger tells of construction and execution."""
    logger = logging.getLogger("pocketflow_async.workflow")
    before = logger.level
    try:
        block.run()
        builder.add_async_code("first", "result = 1")
        builder.add_async_code("second", "result = value")
        builder.add_connection("first", "result", "second", "value")
        workflow = builder.build()
        built = [record.getMessage() for record in caplog.records]
        await execute(workflow)
        ran = [record.getMessage() for record in caplog.records[len(built) :]]
    finally:
        logger.setLevel(before)

    assert any("first" in text for text in built)
    assert any("second" in text for text in ran)
    assert {record.name for record in caplog.records} == {"pocketflow_async.workflow"}


def test_the_policies_are_one_class():
    """`AsyncRetryPolicy`, which the guide never imports, is `RetryPolicy`."""
    assert AsyncRetryPolicy is RetryPolicy
