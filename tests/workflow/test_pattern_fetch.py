"""AsyncPatterns.parallel_fetch: several things at once, each of which fails alone."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    PortError,
    RetryPolicy,
    SafetyViolationError,
    WorkflowBuilder,
    WorkflowValidationError,
)
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def builder():
    return AsyncWorkflowBuilder()


def add(builder, operations, **options):
    return AsyncPatterns.parallel_fetch(builder, "fetch", operations, **options)


async def run(workflow, inputs=None, **options):
    return await AsyncLocalRuntime(**options).execute_workflow_async(workflow, inputs)


def test_all_are_done_at_once(builder, clock):
    """Each by its key, in the order given, with indented code as people write it."""
    operations = {
        "users": """
            await asyncio.sleep(3)
            result = ["ann"]
        """,
        "orders": """
            await asyncio.sleep(1)
            result = {"count": 2}
        """,
        "stock": "result = None",
    }
    assert add(builder, operations) == "fetch"
    result = clock.run(run(builder))

    assert result["results"]["fetch"] == {
        "successful": {"users": ["ann"], "orders": {"count": 2}, "stock": None},
        "failed": {},
        "statistics": {
            "total_operations": 3,
            "successful_count": 3,
            "failed_count": 0,
            "success_rate": 1.0,
        },
    }
    assert list(result["results"]["fetch"]["successful"]) == ["users", "orders", "stock"]
    assert clock.monotonic() == 3


def test_the_time_is_each_operations_own(builder, clock):
    """A late one fails alone, is cancelled, and keeps its key; the others' values stay."""
    operations = {
        "slow": "try:\n    await asyncio.sleep(100)\nfinally:\n    ended.append('slow')",
        "just": "await asyncio.sleep(9)\nresult = 1",
        "quick": "result = 2",
    }
    add(builder, operations)
    ended = []
    fetched = clock.run(run(builder, {"ended": ended}))["results"]["fetch"]

    assert fetched["successful"] == {"just": 1, "quick": 2}
    assert fetched["failed"] == {"slow": "CallTimeoutError: operation 'slow' took longer than 10 s"}
    assert fetched["statistics"]["success_rate"] == pytest.approx(2 / 3)
    assert ended == ["slow"]
    assert clock.monotonic() == 10


def test_without_a_limit_they_take_as_long_as_they_take(builder, clock):
    """Longer than the 30 s of a code node too."""
    add(builder, {"a": "await asyncio.sleep(1000)\nresult = 1"}, timeout_per_operation=None)

    assert clock.run(run(builder))["results"]["fetch"]["successful"] == {"a": 1}
    assert clock.monotonic() == 1000


def test_an_error_is_told_with_its_type(builder, clock):
    """Of every kind; also where it has no words, or only its own task was cancelled."""
    operations = {
        "a": "raise ConnectionError('no route')",
        "b": "raise OSError",
        "c": "raise KeyError('zip')",
        "d": "raise TimeoutError('mine')",
        "e": "result = int('x')",
        "f": "raise asyncio.CancelledError",
        "g": "raise SystemExit(3)",
    }
    add(builder, operations)
    result = clock.run(run(builder))
    failed = result["results"]["fetch"]["failed"]

    assert failed == {
        "a": "ConnectionError: no route",
        "b": "OSError",
        "c": "KeyError: 'zip'",
        "d": "TimeoutError: mine",
        "e": "ValueError: invalid literal for int() with base 10: 'x'",
        "f": "CancelledError",
        "g": "NodeExecutionError: node 'fetch': its code raised SystemExit(3)",
    }
    assert result["status"] == "success"
    assert result["results"]["fetch"]["statistics"]["success_rate"] == 0.0


KEYS = ["my-api", "a b", "", "class", "1", "x.y", "ü", "result", "asyncio", "fetch_users", "a\nb"]


def test_keys_are_any_texts(builder, clock):
    """They become no names of anything."""
    add(builder, {key: f"result = {number}" for number, key in enumerate(KEYS)})
    fetched = clock.run(run(builder))["results"]["fetch"]

    assert fetched["successful"] == {key: number for number, key in enumerate(KEYS)}


def test_inputs_are_for_all_and_none_is_called(builder, clock):
    """Not even one that is a function whose name begins with `fetch_`; each has its own names."""

    def fetch_everything():
        raise AssertionError("called")

    operations = {"a": "own = n\nn = 10\nresult = own", "b": "result = n * 2"}
    add(builder, operations)
    result = clock.run(run(builder, {"n": 3, "fetch_everything": fetch_everything}))

    assert result["errors"] == {}
    assert result["results"]["fetch"]["successful"] == {"a": 3, "b": 6}


def test_it_fails_if_it_is_not_to_go_on(builder, clock):
    """At the first failure; the rest is cancelled, and the cause is the error itself."""
    operations = {
        "slow": "try:\n    await asyncio.sleep(8)\nfinally:\n    ended.append(1)",
        "bad": "await asyncio.sleep(2)\nraise ConnectionError('no route')",
        "quick": "result = 1",
    }
    add(builder, operations, continue_on_error=False)
    builder.add_async_code("after", "result = data")
    builder.add_connection("fetch", "successful.quick", "after", "data")
    ended = []
    result = clock.run(run(builder, {"ended": ended}))

    said = "RuntimeError: 1 operations failed: {'bad': 'ConnectionError: no route'}"
    assert result["errors"]["fetch"].startswith(said)
    assert isinstance(result.exceptions["fetch"].__cause__, ConnectionError)
    assert "after" in result["skipped"]
    assert ended == [1]
    assert clock.monotonic() == 2


def test_being_late_ends_it_too_if_it_is_not_to_go_on(builder, clock):
    """And if nothing fails it yields what it would otherwise."""
    operations = {"a": "await asyncio.sleep(n)\nresult = 1", "b": "result = 2"}
    add(builder, operations, continue_on_error=False, timeout_per_operation=2)
    workflow = builder.build()

    error = clock.run(run(workflow, {"n": 3}))["errors"]["fetch"]
    assert "1 operations failed: {'a': \"CallTimeoutError: operation 'a' took" in error
    fetched = clock.run(run(workflow, {"n": 1}))["results"]["fetch"]
    assert fetched["successful"] == {"a": 1, "b": 2}


def test_several_that_fail_at_once_are_all_named(builder, clock):
    """The number is how many there were."""
    code = "await asyncio.sleep(1)\nraise OSError(n)"
    add(builder, {"a": code, "b": code}, continue_on_error=False)
    error = clock.run(run(builder, {"n": 1}))["errors"]["fetch"]

    assert "2 operations failed: {'a': 'OSError: 1', 'b': 'OSError: 1'}" in error


def test_functions_do_as_well_as_code(builder, clock):
    """Each gets the inputs that it takes; plain ones run in threads."""

    async def users(url: str):
        await asyncio.sleep(1)
        return [url]

    def orders(url: str, count: int = 2):
        return (count, threading.current_thread() is threading.main_thread())

    add(builder, {"users": users, "orders": orders, "both": "result = url"})
    workflow = builder.build()
    fetched = clock.run(run(workflow, {"url": "x"}))["results"]["fetch"]

    assert fetched["successful"] == {"users": ["x"], "orders": (2, False), "both": "x"}
    ports = workflow.nodes["fetch"].inputs
    assert set(ports.known) == {"url", "count"}
    assert ports.known["url"].required
    assert not ports.known["count"].required


async def test_a_plain_function_that_is_late_is_waited_for(builder):
    """It has failed all the same, and the others are done meanwhile."""
    may_go, done = threading.Event(), []

    def slow():
        return may_go.wait(20)

    async def quick():
        done.append(1)

    add(builder, {"slow": slow, "quick": quick}, timeout_per_operation=0.01)
    running = asyncio.create_task(run(builder))
    await asyncio.sleep(0.05)
    assert done == [1]
    assert not running.done()
    may_go.set()
    fetched = (await running)["results"]["fetch"]
    assert list(fetched["failed"]) == ["slow"]
    assert fetched["successful"] == {"quick": None}


def test_what_they_make_leads_on_by_ports(builder, clock):
    """A key, a part of a value, all that has failed; a wrong port is found before the run."""
    add(builder, {"users": "result = {'names': ['ann']}", "bad": "raise OSError('x')"})
    builder.add_async_code("show", "result = (names, failed, rate)")
    builder.add_connection("fetch", "successful.users.names", "show", "names")
    builder.add_connection("fetch", "failed", "show", "failed")
    builder.add_connection("fetch", "statistics.success_rate", "show", "rate")
    shown = clock.run(run(builder))["results"]["show"]

    assert shown == (["ann"], {"bad": "OSError: x"}, 0.5)
    builder.add_async_code("wrong", "result = data")
    builder.add_connection("fetch", "succesful", "wrong", "data")
    with pytest.raises((PortError, WorkflowValidationError), match="successful"):
        builder.build()


def test_resources_are_there_by_name(builder, clock):
    """And by `get_resource`, in each operation."""

    class Client:
        async def get(self, path):
            await asyncio.sleep(1)
            return f"got {path}"

    class Registry:
        def has_factory(self, name):
            return name == "api_client"

        async def get_resource(self, name):
            return client

    client = Client()
    operations = {
        "users": "result = await api_client.get('/users')",
        "orders": "result = await (await get_resource('api_client')).get('/orders')",
    }
    add(builder, operations, required_resources=["api_client"])
    fetched = clock.run(run(builder, resource_registry=Registry()))["results"]["fetch"]

    assert fetched["successful"] == {"users": "got /users", "orders": "got /orders"}
    assert clock.monotonic() == 1


def test_concurrent_runs_do_not_mix(builder, clock):
    """Nothing is kept from run to run."""
    code = "await asyncio.sleep(n)\nif n % 3 == 0:\n    raise OSError(n)\nresult = n"
    add(builder, {"a": code, "b": "result = -n"})
    workflow = builder.build()

    async def main():
        runtime = AsyncLocalRuntime(max_concurrent_nodes=100)
        runs = (runtime.execute_workflow_async(workflow, {"n": n}) for n in range(9))
        return await asyncio.gather(*runs)

    for n, result in enumerate(clock.run(main())):
        fetched = result["results"]["fetch"]
        if n % 3 == 0:
            assert fetched["failed"] == {"a": f"OSError: {n}"}
            assert fetched["successful"] == {"b": -n}
        else:
            assert fetched["successful"] == {"a": n, "b": -n}


@pytest.mark.parametrize("continue_on_error", [True, False])
def test_cancelling_the_run_cancels_all(builder, clock, continue_on_error):
    """Each comes to its end first, and none is a failure."""
    ended = []
    code = "try:\n    await asyncio.sleep(9)\nfinally:\n    ended.append(1)"
    add(builder, {"a": code, "b": code}, continue_on_error=continue_on_error)

    async def main():
        task = asyncio.create_task(run(builder, {"ended": ended}))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    clock.run(main())
    assert ended == [1, 1]


def test_a_retry_policy_tries_all_of_it_again(builder, clock):
    """Where the node fails at all."""
    add(
        builder,
        {"a": "calls.append('a')", "b": "calls.append('b')\nif len(calls) < 4: raise OSError"},
        continue_on_error=False,
        retry_policy=RetryPolicy(max_attempts=3, initial_delay=1),
    )
    calls = []
    result = clock.run(run(builder, {"calls": calls}))

    assert result["errors"] == {}
    assert calls == ["a", "b", "a", "b"]


def test_who_watches_sees_each_operation(builder, clock):
    """As an item of the node, with what it has come to, and its limit inside."""
    seen = []
    add(builder, {"users": "result = [1]", "bad": "raise OSError('x')"})
    with observing(lambda step: seen.append(step)):
        clock.run(run(builder))

    items = {step.name: step for step in seen if step.kind == "item"}
    assert items["users"].result == [1]
    assert items["bad"].result is None
    limits = [step.name for step in seen if step.kind == "policy"]
    assert limits == ["operation 'users'", "operation 'bad'"]


def test_inputs_of_several_are_joined(builder):
    """A type is known where all agree; an input is needed if one needs it."""

    def a(x: int, y: int = 1): ...
    def b(x: int, y: str, z: list[int]): ...

    add(builder, {"a": a, "b": b})
    ports = builder.build().nodes["fetch"].inputs

    assert not ports.open
    known = {name: (port.annotation, port.required) for name, port in ports.known.items()}
    assert known == {"x": (int, True), "y": (None, True), "z": (list[int], True)}
    assert "'a', 'b'" in repr(builder.build().nodes["fetch"].work)


@pytest.mark.parametrize(
    ("operations", "options", "error", "said"),
    [
        ({}, {}, ValueError, "node 'fetch': fetch_operations must not be empty"),
        (["a"], {}, TypeError, "node 'fetch': fetch_operations must be a dict, not ['a']"),
        ({3: "result = 1"}, {}, TypeError, "the keys of fetch_operations must be texts, not 3"),
        ({"a": 3}, {}, TypeError, "operation 'a': node 'fetch': code must be a string or"),
        ({"a": "x", "b": ""}, {}, WorkflowValidationError, "operation 'b': node 'fetch': Code"),
        ({"a": "x", "b": "x ="}, {}, WorkflowValidationError, "operation 'b': "),
        ({"a": "eval('1')"}, {}, SafetyViolationError, "operation 'a': "),
        ({"a": "x"}, {"timeout_per_operation": 0}, ValueError, "timeout_per_operation must be"),
        ({"a": "x"}, {"continue_on_error": 1}, TypeError, "continue_on_error must be True or"),
        ({"a": "x"}, {"timeout": 3}, TypeError, "takes no timeout: it is timeout_per_operation"),
        ({"a": "x"}, {"timeout_per_op": 3}, TypeError, "timeout_per_op"),
    ],
)
def test_what_cannot_be_is_refused_and_adds_nothing(builder, operations, options, error, said):
    """The error says of which operation."""
    with pytest.raises(error) as caught:
        add(builder, operations, **options)
    assert said in str(caught.value)
    assert list(builder.nodes) == []


def test_a_builder_is_needed(builder):
    """The plain one will do; an id is taken once."""
    plain = WorkflowBuilder()
    assert add(plain, {"a": "result = 1"}, description="d") == "fetch"
    assert plain.nodes["fetch"].description == "d"
    with pytest.raises(WorkflowValidationError, match="already exists"):
        add(plain, {"a": "result = 1"})
    with pytest.raises(TypeError, match="a workflow builder is needed first"):
        AsyncPatterns.parallel_fetch("b", "fetch", {"a": "result = 1"})
