"""AsyncPatterns.circuit_breaker: a node that is not run for a while when it fails too often."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.resilience import CircuitBreaker, CircuitBreakerOpen
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    ErrorHandler,
    RetryPolicy,
)
from tracing.testing import FakeClock

CODE = """
    # indented, as in the guides
    result = {"data": await call(), "success": True}
"""


circuit_breaker = AsyncPatterns.circuit_breaker


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def builder():
    return AsyncWorkflowBuilder()


class Call:
    """A service that raises *error* while it has one."""

    def __init__(self, error=None):
        self.error = error
        self.calls = 0

    async def __call__(self):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls


async def run(workflow, call=None):
    return await AsyncLocalRuntime().execute_workflow_async(workflow, {"call": call})


def yielded(result):
    assert result["errors"] == {}
    return result["results"]["node"]


def test_its_signature_is_the_documented_one():
    """Five failures, sixty seconds."""
    parameters = inspect.signature(circuit_breaker).parameters
    assert list(parameters)[:3] == ["builder", "node_id", "code"]
    assert parameters["failure_threshold"].default == 5
    assert parameters["reset_timeout"].default == 60.0
    assert parameters["description"].default is None


def test_a_dict_tells_how_the_breaker_stands(builder, clock):
    """Its state, the failures that count, and how long the code took."""
    code = "await asyncio.sleep(0.5)\nresult = {'data': 1}"
    assert circuit_breaker(builder, "node", code) == "node"
    made = yielded(clock.run(run(builder)))

    info = {"state": "closed", "failure_count": 0, "operation_duration": 0.5}
    assert made == {"data": 1, "_circuit_breaker_info": info}


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("result = [1]", [1]),
        ("result = 0", 0),
        ("result = None", None),
        ("return 'text'", "text"),
        ("result = {'_circuit_breaker_info': 7}", {"_circuit_breaker_info": 7}),
    ],
)
async def test_anything_else_comes_as_it_is(builder, code, value):
    """And a key of that name that the user has set stays."""
    circuit_breaker(builder, "node", code)
    assert yielded(await run(builder)) == value


def test_it_opens_over_runs_and_refuses_without_running(builder, clock):
    """Failures before the last are the node's; the one that opens it and all after it are dicts."""
    circuit_breaker(builder, "node", CODE, failure_threshold=3, reset_timeout=30)
    workflow, call = builder.build(), Call(OSError("down"))
    for _ in range(2):
        result = clock.run(run(workflow, call))
        assert result["errors"]["node"].startswith("OSError: down")
    assert yielded(clock.run(run(workflow, call))) == {
        "success": False,
        "error": "down",
        "error_type": "OSError",
        "circuit_state": "open",
        "failure_count": 3,
    }
    for _ in range(5):
        assert yielded(clock.run(run(workflow, call))) == {
            "success": False,
            "error": "Circuit breaker is OPEN",
            "circuit_state": "open",
            "failure_count": 3,
            "time_until_retry": 30,
        }
    assert call.calls == 3
    assert workflow.nodes["node"].work.breaker.state == "open"


def test_one_success_after_its_time_closes_it(builder, clock):
    """And it counts anew."""
    circuit_breaker(builder, "node", CODE, failure_threshold=2, reset_timeout=30)
    workflow = builder.build()
    for _ in range(2):
        clock.run(run(workflow, Call(OSError("down"))))
    clock.advance(30)
    made = yielded(clock.run(run(workflow, Call())))
    assert (made["data"], made["success"]) == (1, True)
    assert made["_circuit_breaker_info"]["state"] == "closed"
    result = clock.run(run(workflow, Call(OSError("down"))))
    assert "node" in result["errors"]


def test_a_failed_try_opens_it_again(builder, clock):
    """It is never left half-open, and the next run has to wait the whole time."""
    circuit_breaker(builder, "node", CODE, failure_threshold=2, reset_timeout=30)
    workflow, down = builder.build(), Call(OSError("down"))
    for _ in range(2):
        clock.run(run(workflow, down))
    clock.advance(30)
    made = yielded(clock.run(run(workflow, down)))
    assert (made["error"], made["circuit_state"], made["failure_count"]) == ("down", "open", 3)
    assert yielded(clock.run(run(workflow, down)))["time_until_retry"] == 30
    assert down.calls == 3


def test_a_success_between_failures_does_not_forget_them(builder, clock):
    """A service that fails every other run opens it too; what is old is forgotten."""
    circuit_breaker(builder, "node", CODE, failure_threshold=3)
    workflow = builder.build()
    for error in (OSError("1"), None, OSError("2"), None):
        clock.run(run(workflow, Call(error)))
    assert yielded(clock.run(run(workflow, Call(OSError("3")))))["circuit_state"] == "open"

    breaker = workflow.nodes["node"].work.breaker
    workflow.nodes["node"].work.reset()
    for _ in range(9):
        assert breaker.is_closed
        clock.run(run(workflow, Call(OSError("rare"))))
        clock.advance(61)


async def test_of_concurrent_runs_one_tries_again(builder):
    """A thousand runs at once, half-open: the code runs once, the others are told so."""
    circuit_breaker(builder, "node", CODE, failure_threshold=1, reset_timeout=0)
    workflow, runtime = builder.build(), AsyncLocalRuntime(max_concurrent_nodes=1000)
    await run(workflow, Call(OSError("down")))
    go, entered, done = asyncio.Event(), [], []

    async def call():
        entered.append(1)
        await go.wait()

    async def one():
        done.append(yielded(await runtime.execute_workflow_async(workflow, {"call": call})))
        if len(done) == 999:
            go.set()

    await asyncio.gather(*(one() for _ in range(1000)))
    assert len(entered) == 1
    assert done[-1]["success"] is True
    refused = {
        "success": False,
        "error": "Circuit breaker is HALF_OPEN",
        "circuit_state": "half_open",
        "failure_count": 1,
        "time_until_retry": None,
    }
    assert done[:-1] == [refused] * 999


def test_a_run_that_takes_too_long_is_a_failure(builder, clock):
    """The node's timeout is that of the code, and what it raises counts; queueing is no part."""
    circuit_breaker(builder, "node", "await asyncio.sleep(100)", failure_threshold=2, timeout=5)
    workflow = builder.build()
    assert "5s timeout" in clock.run(run(workflow))["errors"]["node"]
    made = yielded(clock.run(run(workflow)))
    assert (made["error_type"], made["circuit_state"]) == ("ExecutionTimeoutError", "open")


def test_a_run_that_is_cancelled_is_no_failure(builder, clock):
    """Neither closed nor half-open; its place is free again."""
    code = "await asyncio.sleep(seconds)\nresult = {}"
    circuit_breaker(builder, "node", code, failure_threshold=1, reset_timeout=0)
    workflow = builder.build()
    work = workflow.nodes["node"].work

    async def main(seconds, cancel_after):
        runtime = AsyncLocalRuntime()
        task = asyncio.create_task(runtime.execute_workflow_async(workflow, {"seconds": seconds}))
        await asyncio.sleep(cancel_after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main(10, 1))
    assert work.breaker.is_closed
    clock.run(AsyncLocalRuntime().execute_workflow_async(workflow, {"seconds": "x"}))
    assert work.breaker.is_half_open
    clock.run(main(10, 1))
    assert work.breaker.statistics().probes == 0
    clock.run(AsyncLocalRuntime().execute_workflow_async(workflow, {"seconds": 0}))
    assert work.breaker.is_closed


def test_every_error_of_the_code_is_a_failure(builder, clock):
    """A ValueError too: whoever writes the code says what fails."""
    circuit_breaker(builder, "node", "raise ValueError('no')", failure_threshold=1)
    assert yielded(clock.run(run(builder.build())))["error_type"] == "ValueError"


def test_a_breaker_inside_the_code_is_another_one(builder, clock):
    """Its refusal is an error of the code, and not that of the node."""

    async def guarded():
        raise CircuitBreakerOpen("inner", 5)

    circuit_breaker(builder, "node", guarded, failure_threshold=2)
    workflow = builder.build()
    assert clock.run(run(workflow))["errors"]["node"].startswith("CircuitBreakerOpen")
    made = yielded(clock.run(run(workflow)))
    assert (made["error_type"], made["failure_count"]) == ("CircuitBreakerOpen", 2)


def test_functions_of_both_kinds_are_guarded(builder, clock):
    """Synchronous ones run in a thread."""

    def plain(x):
        return {"x": x}

    async def other(x):
        return {"x": x}

    circuit_breaker(builder, "plain", plain)
    circuit_breaker(builder, "other", other)
    made = clock.run(AsyncLocalRuntime().execute_workflow_async(builder.build(), {"x": 3}))
    assert [made["results"][name]["x"] for name in ("plain", "other")] == [3, 3]


def test_it_may_be_given_a_breaker(builder, clock):
    """Then two nodes, and any other code, share one, with all that a breaker may be."""
    breaker = CircuitBreaker("venue", failure_threshold=2, window_calls=10, clock=clock)
    circuit_breaker(builder, "node", CODE, breaker=breaker)
    circuit_breaker(builder, "second", CODE, breaker=breaker)
    workflow = builder.build()
    with pytest.raises(ConnectionError):
        breaker.call(_down)
    result = clock.run(run(workflow, Call(OSError("down"))))
    assert breaker.is_open
    assert len(result["errors"]) + len(result["results"]) == 2
    assert not {"node", "second"} <= set(result["errors"])
    breaker.force_close()
    breaker.force_open()
    made = yielded(clock.run(run(workflow, Call())))
    assert made["circuit_state"] == "open"
    assert made["error"] == "Circuit breaker is OPEN"
    assert made["time_until_retry"] is None


def _down():
    raise ConnectionError("down")


def test_retries_and_handlers_go_around_it(builder, clock):
    """Each attempt counts; a refusal is a result, which is not tried again."""
    circuit_breaker(
        builder,
        "node",
        CODE,
        failure_threshold=3,
        retry_policy=RetryPolicy(max_retries=5, base_delay=1.0),
        error_handler=ErrorHandler("fallback", {"data": None}),
    )
    workflow, call = builder.build(), Call(OSError("down"))
    assert yielded(clock.run(run(workflow, call)))["circuit_state"] == "open"
    assert call.calls == 3
    assert yielded(clock.run(run(workflow, call)))["time_until_retry"] == 60
    assert call.calls == 3


def test_what_it_yields_may_be_connected(builder, clock):
    """Every documented field is a port, besides those of the code."""
    circuit_breaker(builder, "node", "result = {'data': 1}")
    builder.add_async_code("after", "result = [data, info['state']]")
    builder.add_connection("node", "data", "after", "data")
    builder.add_connection("node", "_circuit_breaker_info", "after", "info")
    assert clock.run(run(builder.build()))["results"]["after"] == [1, "closed"]

    other = AsyncWorkflowBuilder()
    circuit_breaker(other, "node", "raise OSError('x')", failure_threshold=1)
    other.add_async_code("after", "result = [state, error]")
    other.add_connection("node", "circuit_state", "after", "state")
    other.add_connection("node", "error", "after", "error")
    assert clock.run(run(other.build()))["results"]["after"] == ["open", "x"]


def test_its_state_is_that_of_what_the_builder_builds(builder, clock):
    """Two workflows of one builder share it; another builder has its own; it can be reset."""
    circuit_breaker(builder, "node", CODE, failure_threshold=1)
    one, two = builder.build("one"), builder.build("two")
    clock.run(run(one, Call(OSError("down"))))
    assert yielded(clock.run(run(two, Call())))["circuit_state"] == "open"
    one.nodes["node"].work.reset()
    assert yielded(clock.run(run(two, Call())))["data"] == 1

    other = AsyncWorkflowBuilder()
    circuit_breaker(other, "node", CODE, failure_threshold=1)
    assert yielded(clock.run(run(other.build(), Call())))["data"] == 1
    assert "CircuitBreaker 'node' closed" in repr(one.nodes["node"].work)


def test_it_goes_on_in_the_next_event_loop(builder):
    """Each run in a loop of its own."""
    circuit_breaker(builder, "node", CODE, failure_threshold=2)
    workflow, call = builder.build(), Call(OSError("down"))
    for _ in range(4):
        asyncio.run(run(workflow, call))
    assert call.calls == 2


def test_whoever_watches_sees_the_breaker_in_the_node(builder, clock):
    """As a step of kind policy with its facts."""
    circuit_breaker(builder, "node", "raise OSError('x')", failure_threshold=1)
    workflow, seen = builder.build(), []
    with observing(seen.append):
        clock.run(run(workflow))
        clock.run(run(workflow))
    facts = [step.facts for step in seen if step.kind == "policy"]
    assert [fact["flow.breaker.state"] for fact in facts] == ["closed", "open"]
    assert facts[0]["flow.breaker.became"] == "open"
    assert facts[1]["flow.breaker.refused"] is True


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"failure_threshold": 0}, ValueError, "node 'node': failure_threshold"),
        ({"failure_threshold": "5"}, TypeError, "node 'node': failure_threshold"),
        ({"reset_timeout": -1}, ValueError, "node 'node': reset_timeout"),
        ({"breaker": object()}, TypeError, "node 'node': breaker must be"),
        (
            {"breaker": CircuitBreaker(), "failure_threshold": 2},
            TypeError,
            "node 'node': failure_threshold and",
        ),
        ({"burst": 2}, TypeError, "burst"),
    ],
)
def test_an_option_that_cannot_be_is_refused(builder, options, error, text):
    """With the node's id, and nothing is added."""
    with pytest.raises(error, match=text):
        circuit_breaker(builder, "node", CODE, **options)
    assert builder.build().nodes == {}
