"""LocalRuntime: the synchronous door."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from pocketflow_async.runtime import LocalRuntime
from pocketflow_async.workflow.errors import WorkflowExecutionError
from tests.workflow.runtime_kit import giver, node, raiser, workflow


async def add(x, y=0, **_):
    return x + y


def test_execute_returns_results_and_run_id():
    """Parameters may be for single nodes; inputs go first."""
    flow = workflow([node("a", add), node("b", lambda **inputs: inputs)])
    with LocalRuntime() as runtime:
        results, run_id = runtime.execute(
            flow, parameters={"x": 1, "a": {"y": 2, "x": 0}}, inputs={"a": {"x": 5}}
        )
        _, other = runtime.execute(flow, parameters={"x": 1})

    assert results == {"a": 7, "b": {"x": 1}}
    assert isinstance(run_id, str)
    assert run_id != other


def test_execute_raises_when_a_node_fails():
    """There is nowhere else to say it."""
    with pytest.raises(WorkflowExecutionError, match="'a' failed"):
        LocalRuntime().execute(workflow([node("a", raiser(ValueError("no")))]))


def test_execute_workflow_says_how_it_went():
    """status, results and error, whatever happens."""
    good = workflow([node("a", giver(1))])
    bad = workflow([node("a", giver(1)), node("b", raiser(ValueError("no")))])
    circle = workflow([node("a", giver(1)), node("b", giver(1))], "a -> b", "b -> a")
    runtime = LocalRuntime(debug=True, enable_cycles=True, max_concurrency=5)

    assert runtime.execute_workflow(good, {"x": 1}) == {
        "status": "success",
        "results": {"a": 1},
        "error": None,
    }
    found = runtime.execute_workflow(bad)
    assert found.pop("error").startswith("node 'b' failed: ValueError: no (/")
    assert found == {"status": "failed", "results": {"a": 1}}
    refused = runtime.execute_workflow(circle)
    assert refused["status"] == "failed"
    assert "circle" in refused["error"]


async def test_inside_a_running_loop_it_uses_another_thread():
    """As in a notebook; context variables are seen there, and errors come back."""
    user = ContextVar("user")
    user.set("ann")

    async def who(**_):
        return user.get(), threading.get_ident()

    runtime = LocalRuntime()
    results, _ = runtime.execute(workflow([node("a", who)]))

    assert results["a"][0] == "ann"
    assert results["a"][1] != threading.get_ident()
    with pytest.raises(WorkflowExecutionError):
        runtime.execute(workflow([node("a", raiser(ValueError()))]))
    runtime.close()


def test_a_run_inside_a_synchronous_node_borrows_its_slot_and_its_thread():
    """With one slot and one thread it would wait for ever otherwise."""
    runtime = LocalRuntime(max_concurrency=1, thread_pool_size=1)
    inner = workflow([node("x", lambda **_: 1), node("y", giver(2))])
    flow = workflow([node("a", lambda **_: runtime.execute(inner)[0]), node("b", giver(3))])

    results = []
    thread = threading.Thread(target=lambda: results.append(runtime.execute(flow)[0]), daemon=True)
    thread.start()
    thread.join(20)

    assert results == [{"a": {"x": 1, "y": 2}, "b": 3}]
    runtime.close()


def test_several_threads_may_use_one():
    """The limit holds over all of them."""
    runtime = LocalRuntime(max_concurrency=2)
    flow = workflow([node("a", add), node("b", lambda x, **_: x)], "a -> b")
    results = {}

    def one(number):
        results[number] = runtime.execute(flow, {"x": number})[0]["a"]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert results == {number: number for number in range(8)}
    runtime.close()


def test_it_leaves_no_event_loop_behind():
    """Neither set nor running."""
    LocalRuntime().execute(workflow([node("a", giver(1))]))

    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_unknown_options_are_ignored_with_a_warning():
    """As with AsyncLocalRuntime."""
    with pytest.warns(UserWarning, match="'verbose'"):
        LocalRuntime(verbose=True)
