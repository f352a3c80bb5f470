"""Each block of the guide runs as it stands, and does what the guide says of it."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from tests.guide import guide_kit, test_api_reference
from tests.guide.guide_kit import BLOCKS, arun, run
from tracing import trace_flow


class OutputNode(Node):
    def prep(self, shared):
        shared["shown"] = shared.get("output")


class AsyncOutputNode(AsyncNode):
    async def prep_async(self, shared):
        shared["shown"] = shared.get("output")


def spans(root):
    return [(child.name, child.outcome) for child in root.children]


def test_every_block_has_its_test():
    """No block of the guide is left out, and no test is about a block that is not there."""
    tests = {*globals(), *vars(test_api_reference)}

    assert set(BLOCKS) <= tests
    assert len(BLOCKS) == 29


def test_the_reader_of_the_guide():
    """Headings make the name; blocks of other languages and problems by number are told apart."""
    text = "# T\n## A\n### 1. B\n```bash\nx\n```\n```python\none\n```\n## C\n```python\ntwo\n```\n"

    assert guide_kit.blocks(text) == {"A / 1. B": "one\n", "C": "two\n"}


def test_migration_steps_2_basic_async_node_migration_before_synchronous_node():
    """A synchronous node runs as before."""
    name = "test_migration_steps_2_basic_async_node_migration_before_synchronous_node"
    made = run(name, process_data=str.upper)
    shared = {"input_data": "test"}

    assert Flow(made["DataProcessingNode"]()).run(shared) == "default"
    assert shared["output"] == "TEST"


async def test_migration_steps_2_basic_async_node_migration_after_async_node(traces, value):
    """An asynchronous node, "with proper tracing"."""

    async def async_process_data(data):
        return data.upper()

    name = "test_migration_steps_2_basic_async_node_migration_after_async_node"
    made = run(name, async_process_data=async_process_data)
    shared = {"input_data": "test"}

    assert await trace_flow(AsyncFlow(made["DataProcessingNode"]())).run_async(shared) == "default"
    assert shared["output"] == "TEST"
    (node,) = traces.one().children
    assert (value(node.input), value(node.output)) == ("test", "TEST")


def migrated(colour):
    """Run the block of a node; return what it defines."""

    async def async_process_data(data):
        return data.upper()

    name = f"test_migration_steps_2_basic_async_node_migration_{colour}"
    return run(name, process_data=str.upper, async_process_data=async_process_data)


def test_migration_steps_3_flow_migration_before_synchronous_flow(traces):
    """A traced synchronous flow, nodes and all."""
    nodes = migrated("before_synchronous_node")
    name = "test_migration_steps_3_flow_migration_before_synchronous_flow"
    made = run(name, OutputNode=OutputNode, **nodes)
    shared = {"input_data": "test"}
    made["DataProcessingFlow"]().run(shared)

    assert shared["shown"] == "TEST"
    root = traces.one()
    assert root.name == "DataProcessingFlow"
    assert spans(root) == [("DataProcessingNode", "completed"), ("OutputNode", "completed")]


def asynchronous_flow():
    """Run the block of the asynchronous flow; return what it defines."""
    nodes = migrated("after_async_node")
    name = "test_migration_steps_3_flow_migration_after_async_flow"
    return run(name, **{"OutputNode": AsyncOutputNode, **nodes})


async def test_migration_steps_3_flow_migration_after_async_flow(traces, phases):
    """A traced asynchronous flow whose own phases call `super()`."""
    shared = {"input_data": "test"}
    await asynchronous_flow()["DataProcessingFlow"]().run_async(shared)

    assert shared["shown"] == "TEST"
    root = traces.one()
    assert spans(root) == [("DataProcessingNode", "completed"), ("AsyncOutputNode", "completed")]
    assert phases(root) == ["prep completed", "post completed"]


def test_migration_steps_4_execution_migration_before_synchronous_execution(traces):
    """`flow.run(shared)`."""
    nodes = migrated("before_synchronous_node")
    flow = run(
        "test_migration_steps_3_flow_migration_before_synchronous_flow",
        OutputNode=OutputNode,
        **nodes,
    )
    name = "test_migration_steps_4_execution_migration_before_synchronous_execution"
    made = run(name, DataProcessingFlow=flow["DataProcessingFlow"])

    assert made["result"] is None
    assert made["shared"]["shown"] == "TEST"
    assert traces.one().outcome == "completed"


def test_migration_steps_4_execution_migration_after_async_execution(traces):
    """`asyncio.run` of a `main` that awaits `run_async`."""
    name = "test_migration_steps_4_execution_migration_after_async_execution"
    flow = asynchronous_flow()["DataProcessingFlow"]

    assert run(name, DataProcessingFlow=flow)["result"] is None
    assert spans(traces.one())[0] == ("DataProcessingNode", "completed")


async def test_advanced_features_1_concurrent_flow_execution(traces):
    """Five flows at once: five results, five traces, each with its own nodes."""

    class Echo(AsyncNode):
        async def prep_async(self, shared):
            await asyncio.sleep(0)
            return shared["input"]

        async def post_async(self, shared, given, result):
            return given

    class WithNode(AsyncFlow):
        def __init__(self):
            super().__init__(start=Echo())

    name = "test_advanced_features_1_concurrent_flow_execution"
    made = run(name, AsyncFlow=WithNode)

    assert await made["run_concurrent_flows"]() == [f"data_{i}" for i in range(5)]
    found = traces.all()
    assert [tree.roots[0].name for tree in found] == ["ConcurrentFlow"] * 5
    assert [spans(tree.roots[0]) for tree in found] == [[("Echo", "completed")]] * 5


@pytest.mark.parametrize("failures", [0, 2, 3])
async def test_advanced_features_2_error_handling_and_recovery(failures, traces, phases, no_wait):
    """Connection errors are tried again after a second; then comes the fallback."""
    tries = []

    async def risky_async_operation(given):
        tries.append(given)
        if len(tries) <= failures:
            raise ConnectionError("reset")
        return "done"

    async def safe_fallback_operation(given):
        return "safe"

    made = run(
        "test_advanced_features_2_error_handling_and_recovery",
        AsyncNode=AsyncNode,
        risky_async_operation=risky_async_operation,
        safe_fallback_operation=safe_fallback_operation,
    )
    await trace_flow(AsyncFlow(made["RobustAsyncNode"]())).run_async({})

    assert no_wait.waits == [1.0] * min(failures, 2)
    expected = ["exec failed"] * failures
    expected.append("fallback completed" if failures == 3 else "exec completed")
    assert phases(traces.one().children[0])[1:-1] == expected


async def test_advanced_features_3_nested_flow_composition(traces):
    """A flow run by the overridden `run_async` of another is part of its trace."""

    class Succeeds(AsyncNode):
        async def post_async(self, shared, given, result):
            return "success"

    @trace_flow(flow_name="AnalysisFlow")
    class AnalysisFlow(AsyncFlow):
        def __init__(self):
            super().__init__(start=Succeeds())

    name = "test_advanced_features_3_nested_flow_composition"
    made = run(name, AsyncFlow=AsyncFlow, trace_flow=trace_flow, AnalysisFlow=AnalysisFlow)
    shared = {}

    assert await made["MainFlow"](start=Succeeds()).run_async(shared) == "success"
    assert shared["analysis"] == "success"
    root = traces.one()
    assert root.name == "MainFlow"
    assert spans(root) == [("Succeeds", "completed"), ("AnalysisFlow", "completed")]


@pytest.mark.parametrize("seconds", [0.0, 6.0])
async def test_advanced_features_4_performance_monitoring(seconds, traces, capsys, monkeypatch):
    """A flow that measures itself, and says so when it was slow."""
    name = "test_advanced_features_4_performance_monitoring"
    made = run(name, AsyncFlow=AsyncFlow, trace_flow=trace_flow)
    moments = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(made["time"], "time", lambda: next(moments))
    shared = {}
    await made["MonitoredFlow"](start=AsyncNode()).run_async(shared)
    monkeypatch.undo()

    assert shared["execution_time"] == seconds
    assert ("6.00s" in capsys.readouterr().out) is (seconds > 5)


def test_configuration_updates_enhanced_tracing_configuration():
    """The existing options and the five new ones."""
    config = run("test_configuration_updates_enhanced_tracing_configuration")["config"]

    assert (config.trace_async_lifecycle, config.performance_monitoring) == (True, True)


async def test_common_migration_patterns_1_mixed_sync_async_flows(traces):
    """A synchronous node before an asynchronous one in an AsyncFlow."""

    class SyncProcessingNode(Node):
        pass

    class AsyncProcessingNode(AsyncNode):
        pass

    made = run(
        "test_common_migration_patterns_1_mixed_sync_async_flows",
        AsyncFlow=AsyncFlow,
        trace_flow=trace_flow,
        SyncProcessingNode=SyncProcessingNode,
        AsyncProcessingNode=AsyncProcessingNode,
    )
    await made["MixedFlow"]().run_async({})

    assert spans(traces.one()) == [
        ("SyncProcessingNode", "completed"),
        ("AsyncProcessingNode", "completed"),
    ]


def test_common_migration_patterns_2_batch_processing_migration_before():
    """Items one after the other, in a traced function too."""
    name = "test_common_migration_patterns_2_batch_processing_migration_before"
    made = run(name, process_item=lambda item: item * 2)

    assert trace_flow(made["process_batch"])([1, 2]) == [2, 4]


async def test_common_migration_patterns_2_batch_processing_migration_after(traces, value):
    """Items at once, each traced in the trace of the batch."""

    @trace_flow
    async def process_item_async(item):
        await asyncio.sleep(0)
        return item * 2

    name = "test_common_migration_patterns_2_batch_processing_migration_after"
    made = run(name, asyncio=asyncio, process_item_async=process_item_async)

    assert await trace_flow(made["process_batch_async"])([1, 2]) == [2, 4]
    assert [value(child.output) for child in traces.one().children] == [2, 4]


class Database:
    """Stands for a database of either colour."""

    async def __aenter__(self):
        return Asynchronous()

    async def __aexit__(self, *_):
        return None

    def execute(self, query, given):
        return self

    def fetchall(self):
        return ["row"]


class Asynchronous:
    async def execute(self, query, given):
        return self

    async def fetchall(self):
        return ["row"]


def test_common_migration_patterns_3_database_operations_before(traces, value):
    """A query in a node; its rows are the node's output."""
    name = "test_common_migration_patterns_3_database_operations_before"
    made = run(name, Node=Node, get_db_connection=Database, query="select")
    trace_flow(Flow(made["DatabaseNode"]())).run({})

    assert value(traces.one().children[0].output) == ["row"]


async def test_common_migration_patterns_3_database_operations_after(traces, value):
    """The same with an asynchronous connection."""
    name = "test_common_migration_patterns_3_database_operations_after"
    made = run(name, AsyncNode=AsyncNode, get_async_db_connection=Database, query="select")
    await trace_flow(AsyncFlow(made["DatabaseNode"]())).run_async({})

    assert value(traces.one().children[0].output) == ["row"]


@trace_flow()
class YourAsyncFlow(AsyncFlow):
    def __init__(self):
        class Works(AsyncNode):
            async def exec_async(self, given):
                await asyncio.sleep(0)

            async def post_async(self, shared, given, result):
                shared["expected_output"] = True
                return "expected_result"

        super().__init__(start=Works())


async def test_testing_your_migration_1_unit_tests(traces):
    """The guide's test passes."""
    made = run("test_testing_your_migration_1_unit_tests", YourAsyncFlow=YourAsyncFlow)
    await made["test_async_flow"]()

    assert traces.one().outcome == "completed"


async def test_testing_your_migration_2_performance_tests(traces):
    """The guide's test passes: ten flows at once, ten traces."""
    made = run(
        "test_testing_your_migration_2_performance_tests",
        YourAsyncFlow=YourAsyncFlow,
        pytest=pytest,
        asyncio=asyncio,
    )
    await made["test_concurrent_performance"]()

    assert len(traces.all()) == 10


async def both_ways(name, problematic, fixed, **names):
    """Run the two functions of a block on troubleshooting, in one traced run."""
    made = await arun(name, **names)

    @trace_flow(flow_name="both")
    async def work():
        return [await made[problematic](), await made[fixed]()]

    return await work()


async def test_troubleshooting_common_issues_and_solutions_context_lost_across_async_boundaries(
    traces,
):
    """Context is managed: what runs in a task of its own is in the trace too."""
    name = "test_troubleshooting_common_issues_and_solutions_context_lost_across_async_boundaries"
    await both_ways(name, "problematic_function", "fixed_function")
    made = await arun(name)

    @trace_flow(flow_name="outer")
    async def outer():
        await made["fixed_function"]()
        await asyncio.create_task(YourAsyncFlow().run_async({}))

    await outer()
    assert spans(traces.all()[-1].roots[0]) == [("YourAsyncFlow", "completed")]


async def test_troubleshooting_common_issues_and_solutions_mixed_sync_async_deadlocks():
    """Both run; the first blocks the loop for as long as it takes."""

    async def async_non_blocking_function():
        await asyncio.sleep(0)
        return "async"

    assert await both_ways(
        "test_troubleshooting_common_issues_and_solutions_mixed_sync_async_deadlocks",
        "problematic_async",
        "fixed_async",
        sync_blocking_function=lambda: time.sleep(0) or "sync",
        async_non_blocking_function=async_non_blocking_function,
    ) == ["sync", "async"]


async def test_troubleshooting_common_issues_and_solutions_memory_leaks_in_long_running_flows():
    """Resources of `async with` are given back."""
    log = []

    @asynccontextmanager
    async def resource_manager():
        log.append("taken")
        yield
        log.append("given back")

    await both_ways(
        "test_troubleshooting_common_issues_and_solutions_memory_leaks_in_long_running_flows",
        "problematic_flow",
        "fixed_flow",
        resource_manager=resource_manager,
    )

    assert log == ["taken", "given back"]
