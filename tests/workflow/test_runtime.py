"""AsyncLocalRuntime: what runs when, and what comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import re
import threading
from contextvars import ContextVar

import pytest

from pocketflow_async.hooks import guarding
from pocketflow_async.runtime import (
    AsyncLocalRuntime,
    ExecutionMetrics,
    RunResult,
    WorkflowTimeoutError,
)
from pocketflow_async.workflow.errors import (
    CyclicDependencyError,
    WorkflowExecutionError,
    WorkflowValidationError,
)
from pocketflow_async.workflow.policies import ErrorHandler, RetryPolicy
from pocketflow_async.workflow.spec import Port, Ports
from tests.workflow.runtime_kit import (
    Peak,
    giver,
    node,
    nothing_left,
    raiser,
    sleeper,
    workflow,
)
from tracing.testing import FakeClock


class Registry:
    """Two resources."""

    def __init__(self, **resources):
        self.resources = resources
        self.cleanups = 0

    def has_factory(self, name):
        return name in self.resources

    async def get_resource(self, name):
        return self.resources[name]

    async def cleanup(self):
        self.cleanups += 1


async def execute(flow, inputs=None, **options):
    return await AsyncLocalRuntime().execute_workflow_async(flow, inputs, **options)


def bare(errors):
    """Return *errors* without the places in files."""
    return {node_id: re.sub(r" \(/\S+, line \d+\)", "", text) for node_id, text in errors.items()}


def flaky(failures, error=ValueError):
    calls = []

    async def work(**inputs):
        calls.append(inputs)
        if len(calls) <= failures:
            raise error(f"failure {len(calls)}")
        return len(calls)

    return work, calls


# When nodes run


def test_a_node_starts_as_soon_as_its_own_inputs_are_there():
    """a(0.4) -> c and b(0.01) -> d(0.3) take 0.4 s and not 0.7: there are no levels."""
    flow = workflow(
        [
            node("a", sleeper(0.4)),
            node("b", sleeper(0.01)),
            node("c", giver(1)),
            node("d", sleeper(0.3)),
        ],
        "a -> c",
        "b -> d",
    )

    result = FakeClock().run(execute(flow))

    assert result["total_duration"] == pytest.approx(0.4)
    assert result["execution_times"] == pytest.approx({"a": 0.4, "b": 0.01, "c": 0, "d": 0.3})


def test_a_node_gets_the_inputs_of_the_run_and_what_its_edges_bring():
    """Inputs go to all nodes, a dict under an id to that node, and edges win over both."""
    got = {}

    def note(name):
        async def work(**inputs):
            got[name] = inputs
            return {"x": {"y": name}}

        return work

    flow = workflow([node("a", note("a")), node("b", note("b"))], "a.x.y -> b.z", "a -> b.whole")

    asyncio.run(execute(flow, {"a": {"own": 1}, "z": 2, "k": 3}))

    assert got["a"] == {"own": 1, "z": 2, "k": 3}
    assert got["b"] == {"z": "a", "k": 3, "whole": {"x": {"y": "a"}}}


async def test_a_node_with_closed_inputs_gets_only_what_it_knows():
    """Inputs of the run that a function does not take are kept from it."""

    async def work(x):
        return x

    flow = workflow([node("a", work, inputs=Ports({"x": Port("x")}, open=False))])

    result = await execute(flow, {"x": 1, "y": 2})

    assert result["results"] == {"a": 1}


async def test_limits_hold_over_all_runs_of_a_runtime():
    """Never more than `max_concurrent_nodes` are at work, whichever run they belong to."""
    peak = Peak()

    async def work(**_):
        with peak:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    flow = workflow([node(f"n{number}", work) for number in range(20)])
    runtime = AsyncLocalRuntime(max_concurrent_nodes=3)

    results = await asyncio.gather(*(runtime.execute_workflow_async(flow) for _ in range(5)))

    assert peak.most == 3
    assert all(len(result["results"]) == 20 for result in results)
    assert all(1 <= result["metrics"].concurrent_executions <= 3 for result in results)


def test_a_run_with_many_ready_nodes_does_not_starve_a_small_one():
    """A run of one node waits for a turn or two, not for the thousand nodes of another run."""

    async def main():
        runtime = AsyncLocalRuntime(max_concurrent_nodes=2)
        many = workflow([node(f"n{number}", sleeper(1)) for number in range(1000)])
        small = workflow([node("x", sleeper(1))])
        big = asyncio.create_task(runtime.execute_workflow_async(many))
        await asyncio.sleep(0.5)
        result = await runtime.execute_workflow_async(small)
        assert not big.done()
        return result, await big

    small, big = FakeClock().run(main())

    assert small["total_duration"] == pytest.approx(1.5)
    assert small["metrics"].waiting_times == pytest.approx({"x": 0.5})
    assert big["total_duration"] == pytest.approx(501)


def test_durations_exclude_the_wait_for_a_slot():
    """Four nodes of 0.1 s at limit 1 each took 0.1 s; their waiting is a figure of its own."""
    flow = workflow([node(f"n{number}", sleeper(0.1)) for number in range(4)])
    runtime = AsyncLocalRuntime(max_concurrent_nodes=1)

    result = FakeClock().run(runtime.execute_workflow_async(flow))

    metrics = result["metrics"]
    assert list(metrics.node_durations.values()) == pytest.approx([0.1] * 4)
    assert list(metrics.waiting_times.values()) == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_results_do_not_depend_on_the_limit(limit):
    """Results stand in the order in which the nodes were added, whoever ended first."""
    flow = workflow(
        [node("a", giver(1)), node("b", sleeper(0.001, 2)), node("c", giver(3))], "b -> a"
    )

    result = await AsyncLocalRuntime(max_concurrent_nodes=limit).execute_workflow_async(flow)

    assert list(result["results"].items()) == [("a", 1), ("b", 2), ("c", 3)]


# What comes back


async def test_the_result_is_one_dict():
    """It has the keys of decision 3; every run has an id of its own."""
    flow = workflow([node("a", giver({"n": 1}))])

    first, second = await execute(flow), await execute(flow)

    assert isinstance(first, RunResult)
    assert set(first) == {
        "results",
        "errors",
        "skipped",
        "status",
        "total_duration",
        "workflow_id",
        "execution_times",
        "metrics",
    }
    assert first["results"] == {"a": {"n": 1}}
    assert (first["errors"], first["skipped"], first["status"]) == ({}, {}, "success")
    assert first["workflow_id"] == first.run_id != second["workflow_id"]
    assert (await execute(flow, run_id="mine"))["workflow_id"] == "mine"


async def test_metrics_answer_to_attributes_and_keys():
    """`metrics.x`, `metrics["x"]` and `"x" in metrics` agree; without profiling there are none."""
    flow = workflow([node("a", giver(1))])

    metrics = (await execute(flow))["metrics"]

    assert isinstance(metrics, ExecutionMetrics)
    assert metrics.node_durations is metrics["node_durations"]
    assert set(metrics) == {
        "total_duration",
        "node_durations",
        "waiting_times",
        "concurrent_executions",
        "resource_access_count",
        "resource_wait_seconds",
        "error_count",
        "retry_count",
    }
    assert "node_durations" in metrics
    assert not hasattr(metrics, "nothing")
    assert json.loads(json.dumps(metrics)) == metrics == pickle.loads(pickle.dumps(metrics))
    runtime = AsyncLocalRuntime(enable_profiling=False)
    assert "metrics" not in await runtime.execute_workflow_async(flow)


async def test_a_failing_node_skips_what_depends_on_it_and_nothing_else():
    """The unrelated branch goes on; errors holds the failed node only, skipped the others."""
    flow = workflow(
        [
            node("a", raiser(KeyError("zip"))),
            node("b", giver(1)),
            node("c", giver(1)),
            node("x", sleeper(0.001, "x")),
            node("y", giver("y")),
        ],
        "a -> b",
        "b -> c",
        "x -> c",
        "x -> y",
    )

    async with nothing_left():
        result = await execute(flow)

    assert result["results"] == {"x": "x", "y": "y"}
    assert bare(result["errors"]) == {"a": "KeyError: 'zip'"}
    assert result["skipped"] == {
        "b": "it needs 'a', which failed",
        "c": "it needs 'a', which failed",
    }
    assert result["status"] == "failed"
    assert result["metrics"].error_count == 1
    assert isinstance(result.exceptions["a"], KeyError)


async def test_a_missing_port_fails_the_node_that_wants_it():
    """The error names what there is instead."""
    flow = workflow([node("a", giver({"n": 1})), node("b", giver(2))], "a.m -> b")

    result = await execute(flow)

    assert result["results"] == {"a": {"n": 1}}
    assert "'n'" in result["errors"]["b"]


def test_on_error_raise_ends_the_run_at_the_first_failure():
    """The others are cancelled and awaited before; the error has what there was by then."""
    ended = []

    async def slow(**_):
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(1)
            ended.append("slow")

    flow = workflow([node("a", giver(1)), node("b", raiser(ValueError("no"))), node("c", slow)])

    async def main():
        async with nothing_left():
            with pytest.raises(
                WorkflowExecutionError, match=r"node 'b' failed: ValueError: no"
            ) as e:
                await execute(flow, on_error="raise")
        return e.value

    error = FakeClock().run(main())

    assert ended == ["slow"]
    assert isinstance(error.__cause__, ValueError)
    assert error.result["results"] == {"a": 1}


# Conditions, retries, error handlers


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_node_whose_condition_is_false_is_skipped_with_what_needs_it(is_async):
    """It is no failure; who can do without its output runs without it."""

    async def later(inputs):
        return inputs["n"] > 1

    async def work(a=None, **_):
        return a

    optional = Ports({"a": Port("a", required=False)}, open=True)
    flow = workflow(
        [
            node("a", giver("a"), condition=later if is_async else lambda inputs: inputs["n"] > 1),
            node("b", giver("b")),
            node("c", work, inputs=optional),
        ],
        "a -> b",
        "a -> c",
    )

    assert (await execute(flow, {"n": 2}))["results"] == {"a": "a", "b": "b", "c": "a"}
    result = await execute(flow, {"n": 1})

    assert result["results"] == {"c": None}
    assert result["skipped"] == {
        "a": "its condition is false",
        "b": "it needs 'a', which was skipped",
    }
    assert result["status"] == "success"


def test_a_failed_attempt_is_repeated_as_the_policy_says():
    """Each attempt gets fresh inputs, and waits as long as the policy says."""
    work, calls = flaky(2)
    flow = workflow([node("a", work, retry_policy=RetryPolicy(3))])
    clock = FakeClock()

    result = clock.run(execute(flow, {"n": 1}))

    assert result["results"] == {"a": 3}
    assert calls == [{"n": 1}] * 3
    assert clock.waits == [1.0, 2.0]
    assert result["metrics"].retry_count == 2


def test_what_the_policy_does_not_name_is_not_repeated():
    """Nor is there an attempt more than the policy allows."""
    other, other_calls = flaky(1, TypeError)
    often, often_calls = flaky(9)
    flow = workflow(
        [
            node("a", other, retry_policy=RetryPolicy(3, retry_on=[ValueError])),
            node("b", often, retry_policy=RetryPolicy(3)),
        ]
    )

    result = FakeClock().run(execute(flow))

    assert bare(result["errors"]) == {"a": "TypeError: failure 1", "b": "ValueError: failure 3"}
    assert (len(other_calls), len(often_calls)) == (1, 3)


async def test_error_handlers_answer_for_a_failed_node(caplog):
    """fallback, custom, ignore and log; the node then counts as successful, with a note."""

    async def custom(error, inputs):
        return {"error": str(error), "inputs": inputs}

    fallback = {"list": []}
    failing = raiser(ValueError("no"))
    flow = workflow(
        [
            node("fallback", failing, error_handler=ErrorHandler("fallback", fallback)),
            node("custom", failing, error_handler=ErrorHandler("custom", custom_handler=custom)),
            node("ignore", failing, error_handler=ErrorHandler("ignore")),
            node("log", failing, error_handler=ErrorHandler("log", log_level="warning")),
            node("wrapped", failing, error_handler=ErrorHandler("fallback", 1), wrapped=True),
            node("after", giver("ran")),
        ],
        "ignore -> after",
    )

    with caplog.at_level(logging.WARNING, "pocketflow_async"):
        result = await execute(flow, {"n": 1})

    assert result["results"] == {
        "fallback": {"list": []},
        "custom": {"error": "no", "inputs": {"n": 1}},
        "ignore": None,
        "log": None,
        "wrapped": {"result": 1},
        "after": "ran",
    }
    assert result["results"]["fallback"] is not fallback
    assert set(result.handled) == {"fallback", "custom", "ignore", "log", "wrapped"}
    assert [(r.levelname, r.getMessage()) for r in caplog.records if "'log'" in r.getMessage()] == [
        ("WARNING", "node 'log' failed: ValueError: no")
    ]


async def test_a_handler_that_raises_fails_the_node():
    """With its own error."""

    def custom(error, inputs):
        raise RuntimeError("worse")

    flow = workflow(
        [
            node(
                "a",
                raiser(ValueError()),
                error_handler=ErrorHandler("custom", custom_handler=custom),
            )
        ]
    )

    assert bare((await execute(flow))["errors"]) == {"a": "RuntimeError: worse"}


# Timeouts and cancellation


def test_a_node_that_takes_too_long_fails():
    """The contract's own text; a node that is quick enough is left alone, so are the others."""
    flow = workflow(
        [
            node("a", sleeper(10), timeout=5),
            node("b", sleeper(4.9, "b"), timeout=5),
            node("c", sleeper(0.2, "c"), timeout=1),
            node("d", sleeper(20, "d")),
            node("e", sleeper(5, "e"), timeout=6),
        ],
        "c -> e",
    )

    result = FakeClock().run(execute(flow))

    assert result["errors"] == {"a": "ExecutionTimeoutError: node 'a' (function) exceeded 5 s"}
    assert result["results"] == {"b": "b", "c": "c", "d": "d", "e": "e"}
    assert result["execution_times"]["a"] == pytest.approx(5)
    assert isinstance(result.exceptions["a"], TimeoutError)


def test_each_attempt_has_its_own_time():
    """A timeout is an error like others: the policy may try again."""
    flow = workflow([node("a", sleeper(10), timeout=2, retry_policy=RetryPolicy(2))])

    result = FakeClock().run(execute(flow))

    assert "exceeded 2 s" in result["errors"]["a"]
    assert result["total_duration"] == pytest.approx(2 + 1 + 2)


def test_a_node_may_catch_its_timeout():
    """As with asyncio.timeout: what catches the cancellation may still return, and stays usable."""

    async def stubborn(**_):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            return asyncio.current_task().cancelling()

    flow = workflow([node("a", stubborn, timeout=1)])

    assert FakeClock().run(execute(flow))["results"] == {"a": 1}


@pytest.mark.parametrize("own", [True, False])
def test_a_run_that_takes_too_long_is_cancelled(own):
    """Everything at work is ended first; the error has the results so far."""
    ended = []

    async def slow(**_):
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(1)

    flow = workflow([node("a", giver(1)), node("b", slow), node("c", slow)], "b -> c")

    async def main():
        runtime = AsyncLocalRuntime(execution_timeout=None if own else 3)
        async with nothing_left():
            with pytest.raises(WorkflowTimeoutError, match="longer than its timeout of 3s") as e:
                await runtime.execute_workflow_async(flow, timeout=3 if own else None)
        assert runtime._slots.free == 10
        return e.value

    error = FakeClock().run(main())

    assert isinstance(error, TimeoutError)
    assert error.result["results"] == {"a": 1}
    assert ended == [1]


async def test_cancellation_runs_finally_and_leaves_nothing():
    """Neither task nor slot, however often the caller is cancelled meanwhile."""
    runtime = AsyncLocalRuntime(max_concurrent_nodes=2)
    started, ended = asyncio.Event(), []

    async def slow(**_):
        started.set()
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.001)
            ended.append(1)

    flow = workflow([node(f"n{number}", slow) for number in range(5)])
    async with nothing_left():
        run = asyncio.create_task(runtime.execute_workflow_async(flow))
        await started.wait()
        run.cancel()
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    assert ended == [1, 1]
    assert runtime._slots.free == 2
    assert (await runtime.execute_workflow_async(workflow([node("a", giver(1))])))["results"]


async def test_cancelling_waits_for_the_thread_at_work():
    """A thread cannot be stopped, so the run ends when it has come back."""
    started, go_on, ended = threading.Event(), threading.Event(), []

    def work(**_):
        started.set()
        go_on.wait(10)
        ended.append(1)

    flow = workflow([node("a", work), node("b", work)], "a -> b")
    runtime = AsyncLocalRuntime()
    run = asyncio.create_task(runtime.execute_workflow_async(flow))
    await asyncio.to_thread(started.wait, 10)
    run.cancel()
    await asyncio.sleep(0)
    assert not run.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert ended == [1]
    assert (runtime._slots.free, runtime._pool.slots.free) == (10, 4)


async def test_a_node_that_cancels_itself_has_failed():
    """The run is not cancelled by it, nor by who cancels the task before it began."""

    async def work(**_):
        raise asyncio.CancelledError("mine")

    async def cancel_other(**_):
        for task in asyncio.all_tasks():
            if task.get_name() == "early":
                task.cancel()

    flow = workflow(
        [
            node("a", work),
            node("killer", cancel_other),
            node("early", giver(1)),
            node("b", giver(1)),
        ],
        "early -> b",
    )

    result = await execute(flow)

    assert bare(result["errors"]) == {"a": "CancelledError: mine", "early": "CancelledError"}
    assert result["skipped"] == {"b": "it needs 'early', which failed"}


# Synchronous nodes


async def test_synchronous_nodes_run_in_threads_side_by_side_with_context():
    """Each sees the context variables of the caller; as many at a time as there are threads."""
    user = ContextVar("user")
    together = threading.Barrier(2, timeout=10)
    loop_thread = threading.get_ident()

    def work(**_):
        together.wait()
        return user.get(), threading.get_ident() != loop_thread

    user.set("ann")
    runtime = AsyncLocalRuntime(thread_pool_size=2)
    flow = workflow([node("a", work), node("b", work), node("c", work), node("d", work)])

    result = await runtime.execute_workflow_async(flow)

    assert set(result["results"].values()) == {("ann", True)}
    await runtime.cleanup()


async def test_waiting_for_a_thread_counts_as_waiting_and_keeps_no_slot():
    """With all threads busy, asynchronous nodes still get their slots."""
    go_on = threading.Event()

    def blocked(**_):
        go_on.wait(10)

    async def free(**_):
        go_on.set()

    flow = workflow([node("a", blocked), node("b", blocked), node("c", blocked), node("z", free)])
    runtime = AsyncLocalRuntime(thread_pool_size=1, max_concurrent_nodes=2)

    result = await runtime.execute_workflow_async(flow)

    assert result["status"] == "success"
    assert result["metrics"].waiting_times["c"] > 0
    await runtime.cleanup()


async def test_context_variables_do_not_leak_from_node_to_node():
    """A node that sets one does not change what its dependants see."""
    user = ContextVar("user", default="nobody")

    async def write(**_):
        user.set("a")

    async def read(**_):
        return user.get()

    flow = workflow([node("a", write), node("b", read)], "a -> b")

    assert (await execute(flow))["results"]["b"] == "nobody"


async def test_a_synchronous_node_that_raises_stop_iteration_fails():
    """A future cannot hold it; the run must not hang."""

    def work(**_):
        raise StopIteration

    result = await execute(workflow([node("a", work)]))

    assert result["errors"]["a"].startswith("RuntimeError")


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_node_that_yields_a_coroutine_has_failed(is_async):
    """The error says what to do; the coroutine is closed."""

    def sync(**_):
        return giver(1)()

    async def later(**_):
        return giver(1)()

    result = await execute(workflow([node("a", later if is_async else sync)]))

    assert "'a' yielded a coroutine that nobody awaits" in result["errors"]["a"]


async def test_a_synchronous_node_out_of_time_fails_when_its_thread_is_back():
    """A thread cannot be stopped, and nothing outlives the run."""
    go_on, ended = threading.Event(), []

    def work(**_):
        go_on.wait(10)
        ended.append(1)

    asyncio.get_running_loop().call_later(0.03, go_on.set)

    result = await execute(workflow([node("a", work, timeout=0.01)]))

    assert "exceeded 0.01 s" in result["errors"]["a"]
    assert ended == [1]


# Resources, gates, runs within runs


async def test_resources_come_from_the_runtime_or_else_from_the_workflow():
    """Each use is counted; one that nobody has is a LookupError."""

    async def work(context, **_):
        return (
            context.has_resource("db"),
            await context.get_resource("db"),
            await context.get_resource("cache"),
            await context.get_resource("cache"),
        )

    async def missing(context, **_):
        await context.get_resource("nothing")

    mine, its = Registry(db="db of runtime"), Registry(db="other", cache="cache of workflow")
    flow = workflow(
        [node("a", work, context=True), node("b", missing, context=True)], resource_registry=its
    )
    async with AsyncLocalRuntime(resource_registry=mine) as runtime:
        result = await runtime.execute_workflow_async(flow)

    cache = "cache of workflow"
    assert result["results"] == {"a": (True, "db of runtime", cache, cache)}
    assert result["metrics"].resource_access_count == {"db": 1, "cache": 2}
    assert "there is no resource 'nothing'" in result["errors"]["b"]
    assert (mine.cleanups, its.cleanups) == (1, 0)


async def test_a_gate_can_refuse_a_node():
    """It fails with what the gate raised: no retry, no handler; a gate may be asynchronous."""
    asked = []

    async def gate(step):
        asked.append((step.kind, step.name))
        if (step.kind, step.name) in {("node", "b"), ("exec", "c")}:
            raise PermissionError(step.name)

    calls = []

    async def work(**_):
        calls.append(1)

    flow = workflow(
        [
            node("a", work),
            node("b", work),
            node("c", work, retry_policy=RetryPolicy(3), error_handler=ErrorHandler("ignore")),
        ]
    )
    with guarding(gate):
        result = await execute(flow)

    assert bare(result["errors"]) == {"b": "PermissionError: b", "c": "PermissionError: c"}
    assert calls == [1]
    assert asked[0] == ("workflow", "test")
    assert asked.count(("exec", "c")) == 1


async def test_a_gate_can_refuse_a_run():
    """Its error leaves the run as it is."""

    def gate(step):
        raise PermissionError("not now")

    with guarding(gate), pytest.raises(PermissionError, match="not now"):
        await execute(workflow([node("a", giver(1))]))


@pytest.mark.parametrize("ways", [1, 3])
async def test_a_run_inside_a_node_borrows_its_slot(ways):
    """With one slot an inner run would wait for ever; the limit holds nevertheless."""
    runtime = AsyncLocalRuntime(max_concurrent_nodes=1, thread_pool_size=1)
    peak = Peak()

    async def work(**_):
        with peak:
            await asyncio.sleep(0)

    inner = workflow([node("x", work), node("y", work), node("z", lambda **_: 1)], "x -> z")

    async def outer(context, **_):
        runs = (context.execute_workflow(inner, {}) for _ in range(ways))
        results = await asyncio.gather(*runs)
        with peak:
            await asyncio.sleep(0)
        return [list(result["results"]) for result in results]

    flow = workflow([node(name, outer, context=True) for name in "abc"])

    result = await asyncio.wait_for(runtime.execute_workflow_async(flow), 20)

    assert result["results"] == dict.fromkeys("abc", [["x", "y", "z"]] * ways)
    assert peak.most == 1
    assert runtime._slots.free == 1
    await runtime.cleanup()


async def test_a_run_that_outlives_the_node_that_started_it_borrows_nothing():
    """What a node has left behind neither takes a slot of it nor gives one back."""
    runtime = AsyncLocalRuntime(max_concurrent_nodes=1)
    go_on, left = asyncio.Event(), []
    inner = workflow([node("x", giver(1))])

    async def early():
        await runtime.execute_workflow_async(workflow([node("w", go_on.wait)]))

    async def late():
        await go_on.wait()
        await runtime.execute_workflow_async(inner)

    async def outer(**_):
        left.extend([asyncio.create_task(early()), asyncio.create_task(late())])
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    await runtime.execute_workflow_async(workflow([node("a", outer)]))
    go_on.set()
    await asyncio.gather(*left)

    assert runtime._slots.free == 1


async def test_a_failing_run_inside_a_node_fails_the_node():
    """With what failed inside, by name."""
    inner = workflow([node("x", raiser(ValueError("no")))])

    async def outer(context, **_):
        return await context.execute_workflow(inner, {})

    result = await execute(workflow([node("a", outer, context=True)]))

    text = "WorkflowExecutionError: node 'x' failed: ValueError: no"
    assert bare(result["errors"]) == {"a": text}


# Many at once, many loops


async def test_two_hundred_runs_at_once_keep_apart():
    """Every run sees its own inputs only."""

    async def first(n, **_):
        await asyncio.sleep(0)
        return {"n": n}

    async def second(n, m, **_):
        await asyncio.sleep(0)
        return n, m

    flow = workflow([node("a", first), node("b", second)], "a.n -> b.m")
    runtime = AsyncLocalRuntime(max_concurrent_nodes=7)
    async with nothing_left():
        results = await asyncio.gather(
            *(runtime.execute_workflow_async(flow, {"n": number}) for number in range(200))
        )

    assert [result["results"]["b"] for result in results] == [(n, n) for n in range(200)]
    assert len({result["workflow_id"] for result in results}) == 200
    assert runtime._slots.free == 7


def test_a_runtime_outlives_its_event_loops():
    """The same runtime and workflow run on one loop after the other, also after `cleanup`."""
    flow = workflow([node("a", giver(1)), node("b", lambda **_: 2)])
    runtime = AsyncLocalRuntime()

    for _ in range(3):
        assert asyncio.run(runtime.execute_workflow_async(flow))["results"] == {"a": 1, "b": 2}
        asyncio.run(runtime.cleanup())
        asyncio.run(runtime.close())


def test_a_runtime_may_be_at_work_in_several_threads_at_once():
    """One limit holds for them all, and each loop gets its slots back."""
    peak, lock, most = 0, threading.Lock(), []
    runtime = AsyncLocalRuntime(max_concurrent_nodes=2, thread_pool_size=2)

    async def work(**_):
        nonlocal peak
        with lock:
            peak += 1
            most.append(peak)
        await asyncio.sleep(0)
        with lock:
            peak -= 1

    flow = workflow(
        [node(f"n{number}", work) for number in range(30)] + [node("s", lambda **_: "s")],
        *(f"n{number} -> n{number + 1}" for number in range(0, 28, 2)),
    )
    results = []

    def one():
        results.append(asyncio.run(runtime.execute_workflow_async(flow)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert [result["status"] for result in results] == ["success"] * 6
    assert max(most) <= 2
    assert (runtime._slots.free, runtime._pool.slots.free) == (2, 2)
    asyncio.run(runtime.cleanup())


# Bad input


async def test_what_is_no_workflow_is_refused():
    """A builder is built; anything else is a TypeError."""

    class Builder:
        def build(self):
            return workflow([node("a", giver(1))])

    assert (await execute(Builder()))["results"] == {"a": 1}
    for wrong in (None, "workflow", Builder, object()):
        with pytest.raises(TypeError, match="no workflow"):
            await execute(wrong)


@pytest.mark.parametrize("inputs", [[1], "x", {1: 2}])
async def test_inputs_must_be_values_by_name(inputs):
    """Everything else is a TypeError before anything runs."""
    with pytest.raises(TypeError, match="inputs of a run"):
        await execute(workflow([node("a", giver(1))]), inputs)


async def test_a_circle_is_refused():
    """Before anything runs, with the path."""
    flow = workflow([node("a", giver(1)), node("b", giver(1))], "a -> b", "b -> a")

    with pytest.raises(CyclicDependencyError) as error:
        await execute(flow)
    assert set(error.value.path) == {"a", "b"}


async def test_inputs_that_nobody_gives_are_named_before_the_run():
    """All of them at once; with them the same workflow runs."""
    needs = Ports({"x": Port("x"), "y": Port("y")}, open=False)

    async def work(x, y):
        return x + y

    flow = workflow([node("a", work, inputs=needs)])

    with pytest.raises(WorkflowValidationError) as error:
        await execute(flow, {})
    assert "'x'" in str(error.value)
    assert "'y'" in str(error.value)
    assert (await execute(flow, {"x": 1, "a": {"y": 2}}))["results"] == {"a": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrent_nodes", 0),
        ("max_concurrent_nodes", 1.5),
        ("max_concurrent_nodes", True),
        ("thread_pool_size", 0),
        ("execution_timeout", 0),
        ("execution_timeout", "1"),
    ],
)
def test_options_out_of_range_are_refused(name, value):
    """With the name of the option."""
    with pytest.raises((TypeError, ValueError), match=name):
        AsyncLocalRuntime(**{name: value})


def test_unknown_options_are_ignored_with_a_warning():
    """As the guide's `**ignored`."""
    with pytest.warns(UserWarning, match="'debug'"):
        AsyncLocalRuntime(debug=True)


async def test_the_analysis_is_logged_before_the_run(caplog):
    """At level INFO, unless it is turned off."""
    flow = workflow([node("a", giver(1)), node("b", giver(1))])
    with caplog.at_level(logging.INFO, "pocketflow_async.runtime"):
        await AsyncLocalRuntime(enable_analysis=False).execute_workflow_async(flow)
        assert not caplog.records
        await AsyncLocalRuntime().execute_workflow_async(flow)

    assert "workflow test" in caplog.text
    assert str(AsyncLocalRuntime().analyze(flow)) in caplog.text


async def test_an_empty_workflow_ends_at_once():
    """There is nothing to do."""
    result = await execute(workflow([]))

    assert (result["results"], result["status"]) == ({}, "success")


async def test_a_long_chain_and_a_wide_fan_run():
    """Ten thousand nodes in a row and as many side by side, without recursion."""
    count = 10_000
    chain = workflow(
        [node(f"n{number}", giver(number)) for number in range(count)],
        *(f"n{number} -> n{number + 1}" for number in range(count - 1)),
    )
    fan = workflow([node(f"n{number}", giver(number)) for number in range(count)])

    for flow in (chain, fan):
        assert len((await execute(flow))["results"]) == count
