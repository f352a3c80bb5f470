"""Each block of async-runtime-guide.md runs as it stands; see `test_left_out` for the rest.

A test is named after the headings of its block, and gives it the names that the guide has from an
earlier block or leaves to its reader. Where a block measures time, `clock` makes it virtual.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import random
import re
import time
import types
from contextlib import contextmanager

import pytest

from pocketflow_async.nodes.code import AsyncPythonCodeNode, PythonCodeNode
from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime, NodeFinished, NodeStarted
from pocketflow_async.workflow import AsyncWorkflowBuilder, WorkflowBuilder
from tests.guide_workflow.stand_ins import Pool, Registry

RUNTIME = {"AsyncLocalRuntime": AsyncLocalRuntime}


def sleepers(**seconds):
    """Return a workflow of independent nodes that sleep, by their names."""
    builder = AsyncWorkflowBuilder("sleepers")
    for name, each in seconds.items():
        builder.add_async_code(name, f"await asyncio.sleep({each})\nresult = {each}")
    return builder.build()


def seconds_for(runtime, count, clock):
    """Return how long *runtime* takes, in virtual time, for *count* nodes of a second each."""
    workflow = sleepers(**{f"n{number}": 1 for number in range(count)})
    before = clock.monotonic()
    result = clock.run(runtime.execute_workflow_async(workflow, {}))
    assert result["status"] == "success"
    return round(clock.monotonic() - before, 6)


@contextmanager
def plain_logging():
    """Let the root logger be as a fresh process has it; afterwards all is as it was."""
    root, own = logging.getLogger(), logging.getLogger("pocketflow_async")
    resources = logging.getLogger("pocketflow_async.resources")
    loggers = (root, own, resources)
    levels, handlers = [logger.level for logger in loggers], root.handlers[:]
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def test_runtime_quick_start_basic_usage(block, clock, capsys):
    """Any workflow: the duration and the results are printed."""
    builder = WorkflowBuilder()
    code = "import asyncio\nawait asyncio.sleep(0.5)\nresult = input.upper()"
    builder.add_node("AsyncPythonCodeNode", "upper", {"code": code})
    block.run(workflow=builder.build())

    assert capsys.readouterr().out == (
        "Completed in 0.50 seconds\nResults: {'upper': {'result': 'DATA'}}\n"
    )


async def test_runtime_result_format(block):
    """What the guide shows has no key that the result has not, and `metrics` is as shown."""
    shown = ast.literal_eval(block.code)
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "node_id", {"code": "result = {'a': 1}"})
    builder.add_node("PythonCodeNode", "failed_node", {"code": "raise ValueError('no')"})
    result = await AsyncLocalRuntime().execute_workflow_async(builder.build())

    assert shown.keys() <= result.keys()
    assert shown["results"].keys() == result["results"].keys()
    assert result["results"]["node_id"] == {"result": {"a": 1}}
    assert shown["errors"].keys() == result["errors"].keys()
    assert result["errors"]["failed_node"].startswith("ValueError: no")
    assert shown["metrics"].keys() <= result["metrics"].keys()
    assert {type(result[key]) for key in ("total_duration", "workflow_id")} == {float, str}
    again = await AsyncLocalRuntime().execute_workflow_async(builder.build())
    assert again["workflow_id"] != result["workflow_id"]


def test_runtime_configuration_options_runtime_settings(block, clock):
    """The options are taken, and hold."""
    registry = Registry()
    runtime = block.run(registry=registry, **RUNTIME)["runtime"]

    assert runtime.resource_registry is registry
    assert (runtime.max_concurrent_nodes, runtime.thread_pool_size) == (10, 4)
    assert (runtime.enable_analysis, runtime.enable_profiling) == (True, True)
    assert seconds_for(runtime, 20, clock) == 2.0


def test_runtime_configuration_options_performance_tuning_for_high_throughput(block, clock):
    """Twenty at a time."""
    runtime = block.run(**RUNTIME)["runtime"]

    assert seconds_for(runtime, 40, clock) == 2.0
    assert runtime.thread_pool_size == 8


def test_runtime_configuration_options_performance_tuning_for_resource_constrained_environments(
    block, clock
):
    """Four at a time, and no metrics."""
    runtime = block.run(**RUNTIME)["runtime"]
    result = clock.run(runtime.execute_workflow_async(sleepers(only=0)))

    assert "metrics" not in result
    assert seconds_for(runtime, 8, clock) == 2.0


def test_runtime_configuration_options_performance_tuning_for_development_debugging(
    block, clock, caplog
):
    """One after the other, with metrics, and the analysis is logged."""
    runtime = block.run(**RUNTIME)["runtime"]
    with caplog.at_level(logging.INFO, "pocketflow_async.runtime"):
        result = clock.run(runtime.execute_workflow_async(sleepers(a=1, b=2, c=3)))

    assert result["metrics"].node_durations == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert result["metrics"].waiting_times == {"a": 0.0, "b": 1.0, "c": 3.0}
    assert result["total_duration"] == 6.0
    (record,) = caplog.records
    assert "sleepers" in record.getMessage()


async def processors(workflow, runtime):
    """Return the names of events of the two processors, in their order."""
    kinds = (NodeStarted, NodeFinished)
    return [
        (type(event).__name__, event.node_id)
        async for event in runtime.stream(workflow, {})
        if isinstance(event, kinds) and event.node_id != "input"
    ]


def test_runtime_workflow_patterns_automatic_concurrency(block, capsys):
    """Both branches start before either has ended, in threads, and yield what they should."""
    runtime = AsyncLocalRuntime()
    made = block.run(runtime=runtime, time=time, asyncio=asyncio)

    assert re.fullmatch(r"Parallel execution took \d\.\d\ds\n", capsys.readouterr().out)
    result = asyncio.run(made["execute"]())
    assert result["results"] == {
        "input": {"result": {"data": [1, 2, 3, 4, 5]}},
        "process1": {"result": {"processed": [2, 4, 6, 8, 10]}},
        "process2": {"result": {"processed": [1, 4, 9, 16, 25]}},
    }
    workflow = made["workflow"].build()
    events = asyncio.run(processors(workflow, runtime))
    assert events[:2] == [("NodeStarted", "process1"), ("NodeStarted", "process2")]
    assert result["metrics"].concurrent_executions == 2
    asyncio.run(runtime.cleanup())


async def test_runtime_workflow_patterns_mixed_sync_async_support(block):
    """The asynchronous node's rows go into the synchronous one."""
    pool = Pool({"name": "Ada"}, {"name": "Bob"})
    runtime = AsyncLocalRuntime(resource_registry=Registry(main_db=pool))
    made = await block.arun(runtime=runtime, WorkflowBuilder=WorkflowBuilder)

    assert made["PythonCodeNode"] is PythonCodeNode
    assert made["AsyncPythonCodeNode"] is AsyncPythonCodeNode
    assert made["result"]["results"] == {
        "fetch": {"result": {"users": [{"name": "Ada"}, {"name": "Bob"}]}},
        "process": {"result": {"processed": [{"name": "ADA"}, {"name": "BOB"}]}},
    }
    assert made["result"]["metrics"].resource_access_count == {"main_db": 1}
    await runtime.cleanup()


async def test_runtime_workflow_patterns_data_pipeline_pattern(block, capsys):
    """Of four rows three are valid."""
    async with AsyncLocalRuntime() as runtime:
        made = await block.arun(runtime=runtime, WorkflowBuilder=WorkflowBuilder)

    assert capsys.readouterr().out == "Validated 3 records\n"
    validated = made["result"]["results"]["validate"]["result"]
    assert validated == {
        "validated": [
            {"name": "John Doe", "email": "john@example.com", "status": "active"},
            {"name": "Jane Smith", "email": "jane@example.com", "status": "active"},
            {"name": "Bob Johnson", "email": "bob@example.com", "status": "active"},
        ],
        "valid_count": 3,
    }


async def test_runtime_workflow_patterns_api_aggregation_pattern(block):
    """The three calls run side by side, and what they yield comes together."""
    async with AsyncLocalRuntime() as runtime:
        made = await block.arun(runtime=runtime, WorkflowBuilder=WorkflowBuilder)

    result = made["result"]
    assert result["errors"] == {}
    assert result["results"]["aggregate"]["result"]["profile"] == {
        "user_info": {"id": 123, "name": "John Doe", "email": "john@example.com"},
        "order_history": [
            {"id": 1, "user_id": 123, "total": 99.99},
            {"id": 2, "user_id": 123, "total": 149.99},
        ],
        "user_preferences": {"user_id": 123, "theme": "dark", "notifications": True},
        "profile_complete": True,
    }
    assert result["metrics"].concurrent_executions == 3


@pytest.mark.parametrize("luck", [0.9, 0.1])
async def test_runtime_error_handling_graceful_failure_handling(block, capsys, monkeypatch, luck):
    """Either way the run returns: `errors` says which."""
    monkeypatch.setattr(random, "random", lambda: luck)
    async with AsyncLocalRuntime() as runtime:
        made = await block.arun(runtime=runtime, WorkflowBuilder=WorkflowBuilder)

    printed = capsys.readouterr().out.splitlines()
    if luck > 0.5:
        assert printed == ["Workflow succeeded"]
        data = {"value": 42, "status": "success"}
        assert made["result"]["results"] == {"risky_operation": {"result": {"data": data}}}
    else:
        assert printed[0] == "Workflow had errors:"
        assert printed[1].startswith("  risky_operation: Exception: Operation failed randomly")
        assert "line 10)" in printed[1]
        assert len(printed) == 2


def test_runtime_error_handling_monitoring_errors(block, clock, capsys):
    """Errors are printed, and nodes that took more than a second."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("bad", "raise ValueError('no')")
    builder.add_async_code("slow", "await asyncio.sleep(n)\nresult = n")
    builder.add_async_code("fast", "await asyncio.sleep(0.5)\nresult = n")
    names = {"workflow": builder.build(), "inputs": {"n": 1.5}}
    clock.run(block.arun(runtime=AsyncLocalRuntime(), **names))

    first, second, *slow = capsys.readouterr().out.splitlines()
    assert first == "Workflow had errors:"
    assert second.startswith("  bad: ValueError: no")
    assert slow == ["Slow nodes detected:", "  slow: 1.50s"]


async def test_runtime_performance_optimization_resource_usage_monitoring(block, capsys):
    """Each access of a resource is counted, over all nodes."""
    registry = Registry(database=object(), api_client=object())
    builder = AsyncWorkflowBuilder()
    code = "for _ in range({}):\n    await get_resource('{}')\nresult = n"
    builder.add_async_code("first", code.format(7, "database"))
    builder.add_async_code("second", code.format(4, "database"))
    builder.add_async_code("third", code.format(6, "api_client"))
    runtime = AsyncLocalRuntime(resource_registry=registry)
    await block.arun(runtime=runtime, workflow=builder.build(), inputs={"n": 1})

    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed[:2]) == ["api_client: 6 accesses", "database: 11 accesses"]
    assert printed[2:] == [
        "High database usage - consider connection pooling",
        "Multiple API calls - consider batching or caching",
    ]


def test_runtime_performance_optimization_concurrent_execution_tuning(block, clock, capsys):
    """The limit holds over all runs at once on a runtime: ten of 0.1 s take 1 s one by one."""
    names = {
        "create_test_workflow": lambda: sleepers(only=0.1),
        "time": types.SimpleNamespace(time=clock.monotonic),
        "asyncio": asyncio,
    }
    clock.run(block.arun(**names, **RUNTIME))

    assert capsys.readouterr().out.splitlines() == [
        "Concurrency 1: 1.00s",
        "Concurrency 2: 0.50s",
        "Concurrency 5: 0.20s",
        "Concurrency 10: 0.10s",
        "Concurrency 20: 0.10s",
    ]


async def test_runtime_best_practices_resource_management(block):
    """`cleanup` cleans up the registry, once."""
    registry = Registry()
    names = {"registry": registry, "workflow": sleepers(only=0), "inputs": {}}
    made = await block.arun(**names, **RUNTIME)

    assert made["result"]["status"] == "success"
    assert registry.cleanups == 1


async def test_runtime_best_practices_resource_management__raises(block):
    """Also when the run is refused."""
    registry = Registry()
    names = {"registry": registry, "workflow": "no workflow", "inputs": {}}
    with pytest.raises(TypeError, match="no workflow"):
        await block.arun(**names, **RUNTIME)

    assert registry.cleanups == 1


async def test_runtime_best_practices_error_monitoring(block, caplog):
    """The log record has the figures; each error is logged."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("good", "result = n")
    builder.add_async_code("bad", "raise ValueError('no')")
    logger = logging.getLogger("guide")
    names = {"workflow": builder.build(), "inputs": {"n": 1}, "logger": logger}
    with caplog.at_level(logging.INFO, "guide"):
        made = await block.arun(runtime=AsyncLocalRuntime(), **names)

    info, error = (record for record in caplog.records if record.name == "guide")
    assert (info.node_count, info.error_count) == (1, 1)
    assert info.workflow_id == made["result"].run_id
    assert 0 < info.duration == made["result"]["total_duration"]
    assert error.getMessage().startswith("Node bad failed: ValueError: no")


async def test_runtime_best_practices_pythoncodenode_best_practices(block):
    """The dotted output of the source goes into the input of the processor."""
    workflow = WorkflowBuilder()
    workflow.add_node("PythonCodeNode", "source", {"code": "result = {'data': 21}"})
    block.run(workflow=workflow)
    async with AsyncLocalRuntime() as runtime:
        result = await runtime.execute_workflow_async(workflow)

    assert result["results"]["processor"] == {"result": {"output": 42}}


def doubling():
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "double", {"code": "result = n * 2"})
    return builder.build()


def test_runtime_migration_from_localruntime_simple_migration_before(block):
    """Results by node, and the id of the run."""
    made = block.run(workflow=doubling(), inputs={"n": 4})

    assert made["results"] == {"double": {"result": 8}}
    assert isinstance(made["run_id"], str)
    made["runtime"].close()


def test_runtime_migration_from_localruntime_simple_migration_after(block):
    """The same results, under a key."""
    made = block.run(workflow=doubling(), inputs={"n": 4})

    assert made["results"] == {"double": {"result": 8}}
    asyncio.run(made["runtime"].cleanup())


def test_runtime_migration_from_localruntime_advanced_migration_before(block):
    """The old options are taken without a warning (which would be an error here)."""
    runtime = block.run(LocalRuntime=LocalRuntime)["runtime"]

    assert runtime.execute(doubling(), {"n": 1})[0] == {"double": {"result": 2}}
    runtime.close()


def test_runtime_migration_from_localruntime_advanced_migration_after(block, clock):
    """Five at a time."""
    assert seconds_for(block.run(**RUNTIME)["runtime"], 10, clock) == 2.0


def test_runtime_troubleshooting_common_issues_slow_performance(block, clock, capsys):
    """A node that takes more than two seconds is named; waiting for a slot is not counted."""
    names = {"workflow": sleepers(a=1.5, slow=2.5, b=1.5), "inputs": {}}
    runtime = AsyncLocalRuntime(max_concurrent_nodes=1)
    made = clock.run(block.arun(runtime=runtime, **names, **RUNTIME))

    assert capsys.readouterr().out == "Slow node: slow took 2.50s\n"
    assert seconds_for(made["runtime"], 20, clock) == 1.0


async def test_runtime_troubleshooting_common_issues_resource_connection_issues(block, capsys):
    """How often each resource was asked for."""
    builder = AsyncWorkflowBuilder()
    builder.add_resource_node("query", "main_db", "fetch", ["SELECT 1"])
    runtime = AsyncLocalRuntime(resource_registry=Registry(main_db=Pool("row")))
    with plain_logging():
        await block.arun(runtime=runtime, workflow=builder.build(), inputs={})
        level = logging.getLogger("pocketflow_async.resources").level

    assert capsys.readouterr().out == "Resource usage: {'main_db': 1}\n"
    assert level == logging.DEBUG


def test_runtime_troubleshooting_common_issues_memory_issues(block, clock):
    """Two at a time."""
    runtime = block.run(**RUNTIME)["runtime"]

    assert seconds_for(runtime, 4, clock) == 2.0
    assert runtime.thread_pool_size == 2


async def test_runtime_troubleshooting_debug_mode(block, capsys):
    """The analysis and the events of the run are logged."""
    names = {"workflow": sleepers(first=0, second=0), "inputs": {}}
    with plain_logging():
        made = await block.arun(**names, **RUNTIME)

    logged = capsys.readouterr().err
    assert made["result"]["metrics"].waiting_times.keys() == {"first", "second"}
    assert "INFO:pocketflow_async.runtime:run " in logged
    assert "DEBUG:pocketflow_async.workflow:NodeFinished second" in logged
