"""AsyncPatterns.timeout_with_fallback: a node that stands in where another is late or fails."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.resilience.timeout import Timeout
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    ErrorHandler,
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


def add(builder, primary, fallback, **options):
    return AsyncPatterns.timeout_with_fallback(
        builder, "primary", "fallback", primary, fallback, **options
    )


async def run(workflow, inputs=None, **options):
    return await AsyncLocalRuntime(**options).execute_workflow_async(workflow, inputs)


LATE = {"_timeout": True, "_source": "timeout", "_timeout_seconds": 5.0}


def test_a_primary_in_time_is_passed_through(builder, clock):
    """The fallback's code does not run; both nodes yield what the primary has made."""
    code = """
    await asyncio.sleep(4)
    result = {"users": [1, 2]}
    """
    assert add(builder, code, "ran.append(1)\nresult = {}") == "fallback"
    ran = []
    result = clock.run(run(builder, {"ran": ran}))

    assert result["errors"] == {}
    assert result["results"] == {
        "primary": {"users": [1, 2], "_source": "primary"},
        "fallback": {"users": [1, 2], "_source": "primary"},
    }
    assert ran == []
    assert clock.monotonic() == 4


def test_the_fallback_runs_when_the_primary_is_late(builder, clock):
    """At the very moment: the outcome is the fallback's, and not a mark that says timeout."""
    code = """
    try:
        await asyncio.sleep(100)
    finally:
        ended.append("cancelled")
    """
    add(builder, code, "result = {'users': [], 'seen': primary_result}")
    ended = []
    result = clock.run(run(builder, {"ended": ended}))

    assert result["results"]["primary"] == LATE
    assert result["results"]["fallback"] == {
        "users": [],
        "seen": LATE,
        "_source": "fallback",
        "_primary_timeout": True,
        "_primary_error": None,
    }
    assert result["status"] == "success"
    assert ended == ["cancelled"]
    assert clock.monotonic() == 5


@pytest.mark.parametrize(
    ("raised", "name", "text"),
    [
        ("ConnectionError('no route')", "ConnectionError", "no route"),
        ("KeyError('zip')", "KeyError", "'zip'"),
        ("TimeoutError('mine')", "TimeoutError", "mine"),
        ("OSError()", "OSError", "OSError"),
        ("asyncio.CancelledError('other')", "CancelledError", "other"),
        ("SystemExit(3)", "NodeExecutionError", "its code raised SystemExit(3)"),
    ],
)
def test_the_fallback_runs_when_the_primary_fails(builder, clock, caplog, raised, name, text):
    """Whatever it raises: it says what that was, in the outcome and in the log."""
    add(builder, f"raise {raised}", "result = 7")
    result = clock.run(run(builder))

    primary = result["results"]["primary"]
    assert text in primary["_error_message"]
    assert primary == {
        "_error": True,
        "_source": "error",
        "_error_message": primary["_error_message"],
        "_error_type": name,
    }
    assert result["results"]["fallback"] == {
        "value": 7,
        "_source": "fallback",
        "_primary_timeout": False,
        "_primary_error": primary["_error_message"],
    }
    assert clock.monotonic() == 0
    (record,) = caplog.records
    assert record.getMessage() == f"node 'primary' failed: {name}"
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("async with asyncio.timeout(2):", "TimeoutError"),
        ("async with limit:", "CallTimeoutError"),
    ],
)
def test_a_timeout_of_the_codes_own_is_an_error(builder, clock, code, name):
    """It is not taken for the pattern's, though it is of the same class."""
    add(builder, f"{code}\n    await asyncio.sleep(100)", "result = 1")
    results = clock.run(run(builder, {"limit": Timeout(2)}))["results"]

    assert results["primary"]["_source"] == "error"
    assert results["primary"]["_error_type"] == name
    assert results["fallback"]["_primary_timeout"] is False


VALUES = [
    ("None", {"value": None}),
    ("0", {"value": 0}),
    ("False", {"value": False}),
    ("''", {"value": ""}),
    ("[]", {"value": []}),
    ("[1]", {"value": [1]}),
    ("{}", {}),
    ("{'value': None}", {"value": None}),
    ("{'_timeout': True}", {"_timeout": True}),
    ("{'_error': 'none'}", {"_error": "none"}),
]


@pytest.mark.parametrize(("value", "own"), VALUES)
def test_any_value_of_the_primary_is_one(builder, clock, value, own):
    """None and what counts as false as well, and a dict that has keys like ours."""
    add(builder, f"result = {value}", "result = 'fallback'")
    results = clock.run(run(builder))["results"]

    assert results["primary"] == results["fallback"] == {**own, "_source": "primary"}


@pytest.mark.parametrize(("value", "own"), VALUES)
def test_any_value_of_the_fallback_is_one(builder, clock, value, own):
    """In the same manner."""
    add(builder, "raise OSError('down')", f"result = {value}")
    results = clock.run(run(builder))["results"]

    facts = {"_source": "fallback", "_primary_timeout": False, "_primary_error": "down"}
    assert results["fallback"] == {**own, **facts}


def test_keys_of_the_users_own_stay(builder, clock):
    """Those of a dict that the code makes are not overwritten, and do not mislead the fallback."""
    add(builder, "result = {'_source': 'cdn', 'x': 1}", "result = 2")
    other = AsyncWorkflowBuilder()
    add(other, "raise OSError", "result = {'_source': 'file', '_primary_error': 'mine'}")

    assert clock.run(run(builder))["results"]["fallback"] == {"_source": "cdn", "x": 1}
    assert clock.run(run(other))["results"]["fallback"] == {
        "_source": "file",
        "_primary_error": "mine",
        "_primary_timeout": False,
    }


def test_the_two_are_connected_and_others_can_be(builder, clock):
    """Into the primary, into the fallback, and on from it, by ports of the value."""
    builder.add_async_code("ask", "result = {'url': 'https://x'}")
    add(builder, "result = {'from': url}\nraise OSError(url)", "result = {'page': url}")
    builder.add_connection("ask", "url", "primary", "url")
    builder.add_connection("ask", "url", "fallback", "url")
    builder.add_async_code("show", "result = page.upper() + ' ' + where")
    builder.add_connection("fallback", "page", "show", "page")
    builder.add_connection("fallback", "_source", "show", "where")
    workflow = builder.build()

    edges = [(e.source, e.output, e.target, e.input) for e in workflow.connections]
    assert ("primary", "result", "fallback", "primary_result") in edges
    assert clock.run(run(workflow))["results"]["show"] == "HTTPS://X fallback"


def test_functions_do_as_well_as_code(builder, clock):
    """They get the inputs that they take; `primary_result` is one of the fallback's."""

    async def primary(url, seconds=0):
        await asyncio.sleep(seconds)
        return {"page": url}

    def fallback(url, primary_result):
        return {"cached": url, "why": primary_result["_source"]}

    add(builder, primary, fallback)
    workflow = builder.build()

    assert clock.run(run(workflow, {"url": "x"}))["results"]["fallback"]["page"] == "x"
    late = clock.run(run(workflow, {"url": "x", "seconds": 9}))["results"]["fallback"]
    assert (late["cached"], late["why"], late["_primary_timeout"]) == ("x", "timeout", True)


async def test_a_plain_function_that_is_late_is_waited_for(builder):
    """A thread cannot be stopped; what it makes late is dropped."""
    may_go = threading.Event()

    def primary():
        return may_go.wait(20)

    def fallback():
        return "other"

    add(builder, primary, fallback, timeout_seconds=0.01)
    running = asyncio.create_task(run(builder))
    await asyncio.sleep(0.05)
    assert not running.done()
    may_go.set()
    results = (await running)["results"]
    assert results["primary"]["_timeout"] is True
    assert results["fallback"]["value"] == "other"


def test_when_both_fail_the_node_has_failed(builder, clock):
    """Its error is the fallback's, and a note says what became of the primary."""
    add(builder, "await asyncio.sleep(100)", "raise LookupError('nothing cached')")
    builder.add_async_code("after", "result = data")
    builder.add_connection("fallback", "data", "after", "data")
    result = clock.run(run(builder))

    assert result["errors"]["fallback"].startswith("LookupError: nothing cached")
    assert result.exceptions["fallback"].__notes__ == [
        "it stood in: the primary took longer than 5.0 s"
    ]
    assert list(result["skipped"]) == ["after"]
    other = AsyncWorkflowBuilder()
    add(other, "raise OSError('down')", "raise LookupError('nothing cached')")
    result = clock.run(run(other))
    assert result.exceptions["fallback"].__notes__ == [
        "it stood in: the primary failed, OSError: down"
    ]


def test_the_fallback_has_its_own_time_and_tries(builder, clock):
    """`timeout`, `retry_policy` and `error_handler` are for it; the primary is tried once."""
    add(
        builder,
        "calls.append('primary')\nraise OSError",
        "calls.append('fallback')\nawait asyncio.sleep(100)",
        timeout=2,
        retry_policy=RetryPolicy(max_attempts=3, initial_delay=1, backoff_factor=1),
        error_handler=ErrorHandler("fallback", {"users": "none"}),
    )
    calls = []
    result = clock.run(run(builder, {"calls": calls}))

    assert calls == ["primary", "fallback", "fallback", "fallback"]
    assert result["results"]["fallback"] == {"users": "none"}
    assert clock.monotonic() == 2 + 1 + 2 + 1 + 2


def test_the_primarys_time_is_its_own(clock):
    """Longer than the 30 s of a code node, or much shorter; nothing is added to it."""
    for seconds in (0.25, 100):
        builder = AsyncWorkflowBuilder()
        add(builder, "await asyncio.sleep(1000)", "result = 1", timeout_seconds=seconds)
        began = clock.monotonic()
        results = clock.run(run(builder))["results"]
        assert results["primary"]["_timeout_seconds"] == seconds
        assert clock.monotonic() - began == seconds


def test_a_condition_is_for_both(builder, clock):
    """Without a primary there is no fallback."""
    add(builder, "result = 1", "result = 2", condition=lambda wanted: wanted)
    workflow = builder.build()

    assert clock.run(run(workflow, {"wanted": True}))["results"]["fallback"]["value"] == 1
    result = clock.run(run(workflow, {"wanted": False}))
    assert result["results"] == {}
    assert set(result["skipped"]) == {"primary", "fallback"}


def test_concurrent_runs_do_not_mix(builder, clock):
    """Each has its own primary, its own time and its own fallback."""
    add(builder, "await asyncio.sleep(n)\nresult = {'n': n}", "result = {'n': -n}")
    workflow = builder.build()

    async def main():
        runtime = AsyncLocalRuntime(max_concurrent_nodes=1000)
        runs = (runtime.execute_workflow_async(workflow, {"n": n}) for n in range(1, 11))
        return await asyncio.gather(*runs)

    got = [result["results"]["fallback"]["n"] for result in clock.run(main())]
    assert got[:4] == [1, 2, 3, 4]
    assert got[5:] == [-6, -7, -8, -9, -10]


def test_cancelling_the_run_is_no_failure(builder, clock):
    """No fallback runs."""
    add(builder, "await asyncio.sleep(4)", "ran.append(1)")
    ran = []

    async def main():
        task = asyncio.create_task(run(builder, {"ran": ran}))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(100)

    clock.run(main())
    assert ran == []


def test_who_watches_sees_the_limit(builder, clock):
    """As a step inside the primary's node."""
    seen = []
    add(builder, "await asyncio.sleep(100)", "result = 1")
    with observing(lambda step: seen.append((step.kind, step.name, step))):
        clock.run(run(builder))

    (step,) = (step for kind, name, step in seen if kind == "policy")
    assert step.name == "primary"
    assert step.facts["flow.timeout.expired"] is True


def test_descriptions_and_resources_are_for_both(builder):
    """They are in what the builder tells of the nodes."""
    add(builder, "result = 1", "result = 2", description="d", required_resources=["db"])
    for node_id in ("primary", "fallback"):
        said = builder.get_node_metadata(node_id)
        assert said == {"description": "d", "required_resources": ["db"]}
    assert "PrimaryWork" in repr(builder.build().nodes["primary"].work)
    assert "FallbackWork" in repr(builder.build().nodes["fallback"].work)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"fallback_id": "primary"}, WorkflowValidationError, "'primary' already exists"),
        ({"fallback_id": "taken"}, WorkflowValidationError, "'taken' already exists"),
        ({"primary_id": "taken"}, WorkflowValidationError, "'taken' already exists"),
        ({"fallback_id": "a.b"}, WorkflowValidationError, "dots"),
        ({"fallback_code": "x ="}, WorkflowValidationError, "'fallback'"),
        ({"fallback_code": "eval('1')"}, SafetyViolationError, "eval"),
        ({"primary_code": ""}, WorkflowValidationError, "node 'primary': Code cannot be empty"),
        ({"fallback_code": 3}, TypeError, "node 'fallback': code must be a string or a function"),
        ({"timeout_seconds": 0}, ValueError, "'primary': timeout_seconds must be above 0"),
        ({"timeout_seconds": "5"}, TypeError, "'primary': timeout_seconds must be a number"),
        ({"timeout_secs": 5}, TypeError, "timeout_secs"),
    ],
)
def test_what_cannot_be_is_refused_and_adds_nothing(builder, change, error, said):
    """Not even the node that could have been."""
    builder.add_async_code("taken", "result = 1")
    given = {
        "primary_id": "primary",
        "fallback_id": "fallback",
        "primary_code": "result = 1",
        "fallback_code": "result = 2",
    }
    with pytest.raises(error) as caught:
        AsyncPatterns.timeout_with_fallback(builder, **{**given, **change})
    assert said in str(caught.value)
    assert list(builder.nodes) == ["taken"]


def test_a_builder_is_needed():
    """The plain one will do."""
    builder = WorkflowBuilder()
    assert add(builder, "result = 1", "result = 2") == "fallback"
    with pytest.raises(TypeError, match="a workflow builder is needed first, not 'primary'"):
        AsyncPatterns.timeout_with_fallback("primary", "fallback", "a", "b", "c")
