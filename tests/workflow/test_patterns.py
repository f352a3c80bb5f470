"""AsyncPatterns: nodes that are tried again, and nodes that run no more often than they may."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.runtime import AsyncLocalRuntime, NodeRetried
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    Context,
    ErrorHandler,
    PortError,
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


async def run(workflow, inputs=None, **options):
    return await AsyncLocalRuntime(**options).execute_workflow_async(workflow, inputs)


class Failing:
    """Fails with these errors, then gives *value*."""

    def __init__(self, *errors, value=None):
        self.errors = list(errors)
        self.value = value

    async def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        return self.value


def test_it_has_all_seven_patterns():
    """Under the names of the guides; each says what it takes and what goes wrong."""
    public = {name: one for name, one in vars(AsyncPatterns).items() if not name.startswith("_")}

    assert sorted(public) == [
        "batch_processor",
        "cache_aside",
        "circuit_breaker",
        "parallel_fetch",
        "rate_limited",
        "retry_with_backoff",
        "timeout_with_fallback",
    ]
    for name in public:
        text = getattr(AsyncPatterns, name).__doc__
        assert "Args:" in text
        assert "Raises:" in text


# retry_with_backoff


def test_each_attempt_is_told(builder, clock):
    """What it came to, how long it took, which error it was; of the last one that it was good."""
    code = """
    await asyncio.sleep(0.5)
    result = {"value": await call()}
    """
    assert AsyncPatterns.retry_with_backoff(builder, "node", code) == "node"
    call = Failing(KeyError("zip"), OSError("down"), value=3)
    result = clock.run(run(builder, {"call": call}))

    assert result["errors"] == {}
    assert result["results"]["node"] == {
        "value": 3,
        "success": True,
        "attempts": [
            {
                "attempt": 1,
                "success": False,
                "duration": 0.5,
                "error": "'zip'",
                "error_type": "KeyError",
            },
            {
                "attempt": 2,
                "success": False,
                "duration": 0.5,
                "error": "down",
                "error_type": "OSError",
            },
            {"attempt": 3, "success": True, "duration": 0.5},
        ],
        "total_attempts": 3,
    }
    assert clock.waits == [1.0, 2.0]
    assert result["metrics"].retry_count == 2


@pytest.mark.parametrize(
    ("code", "own"),
    [
        ("result = [1, 2]", {"value": [1, 2]}),
        ("result = 0", {"value": 0}),
        ("result = None", {}),
        ("pass", {}),
        ("result = {}", {}),
        ("return 'text'", {"value": "text"}),
        ("result = {'success': False, 'attempts': 9}", {"success": False, "attempts": 9}),
    ],
)
async def test_what_it_yields_is_a_dict(builder, code, own):
    """Anything but a dict is under `value`, None is nothing, and keys of the user's own stay."""
    AsyncPatterns.retry_with_backoff(builder, "node", code)
    made = (await run(builder))["results"]["node"]

    attempts = made.get("attempts")
    if "attempts" not in own:
        assert [entry["success"] for entry in attempts] == [True]
    assert made == {"success": True, "attempts": attempts, "total_attempts": 1, **own}


def test_after_the_last_attempt_the_node_has_failed(builder, clock):
    """The error says how many attempts there were, and has the last one's as its cause."""
    AsyncPatterns.retry_with_backoff(builder, "node", "raise OSError(f'down {n}')", max_retries=4)
    builder.add_async_code("after", "result = data")
    builder.add_connection("node", "value", "after", "data")
    result = clock.run(run(builder, {"n": 7}))

    said = "RuntimeError: Operation failed after 4 attempts: down 7"
    assert result["errors"]["node"].startswith(said)
    assert list(result["skipped"]) == ["after"]
    assert clock.waits == [1.0, 2.0, 4.0]


def test_backoff_grows_up_to_its_limit(builder, clock):
    """By its factor, never above `max_backoff`; nothing is added to a backoff of nothing."""
    options = {"initial_backoff": 0.01, "backoff_factor": 10, "max_backoff": 5, "max_retries": 6}
    AsyncPatterns.retry_with_backoff(builder, "node", "raise OSError", **options)
    clock.run(run(builder))

    assert clock.waits == pytest.approx([0.01, 0.1, 1.0, 5, 5])


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_jitter_is_at_most_the_initial_backoff(builder, luck):
    """Its chance is that of the clock; a small backoff stays small."""
    clock = FakeClock(luck)
    options = {"initial_backoff": 0.01, "max_retries": 4, "max_backoff": 0.045}
    AsyncPatterns.retry_with_backoff(builder, "node", "raise OSError", **options)
    clock.run(run(builder))

    more = 0.01 * luck
    assert clock.waits == pytest.approx([0.01 + more, 0.02 + more, min(0.04 + more, 0.045)])


class ApiError(Exception):
    """An error of the user's own."""


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts"),
    [
        (["ConnectionError", "TimeoutError"], ConnectionResetError("x"), 3),
        (["ConnectionError", "TimeoutError"], TimeoutError("x"), 3),
        (["ConnectionError", "TimeoutError"], ValueError("x"), 1),
        ([ConnectionError, ApiError], ApiError("x"), 3),
        ([ConnectionError], ApiError("x"), 1),
        (ApiError, ApiError("x"), 3),
        ("ApiError", ApiError("x"), 3),
        ([f"{__name__}.ApiError"], ApiError("x"), 3),
        ([], ApiError("x"), 1),
        (None, ApiError("x"), 3),
    ],
)
def test_only_some_errors_are_tried_again(builder, clock, retry_on, error, attempts):
    """Classes or names; an error that is not named comes as it is."""
    AsyncPatterns.retry_with_backoff(builder, "node", "await call()", retry_on=retry_on)
    result = clock.run(run(builder, {"call": Failing(*[error] * 9)}))

    assert len(clock.waits) == attempts - 1
    name = type(error).__name__ if attempts == 1 else "RuntimeError"
    assert result["errors"]["node"].startswith(f"{name}: ")


def test_each_attempt_has_its_own_time(builder, clock):
    """30 s are for one attempt, and delays do not count; a late one is a TimeoutError."""
    code = "await asyncio.sleep(times.pop(0))\nresult = 1"
    AsyncPatterns.retry_with_backoff(builder, "node", code, retry_on=["TimeoutError"])
    result = clock.run(run(builder, {"times": [40, 29, 0]}))

    made = result["results"]["node"]
    assert [entry["duration"] for entry in made["attempts"]] == [30, 29]
    assert made["attempts"][0]["error"] == "Async code execution exceeded 30s timeout"

    result = clock.run(run(builder, {"times": [40, 40, 40]}))
    said = "Operation failed after 3 attempts: Async code execution exceeded 30s timeout"
    assert said in result["errors"]["node"]


def test_a_timeout_of_the_users_own_is_the_users(builder, clock):
    """`asyncio.timeout` in the code is an error like any other; no limit is one of its own."""
    code = "async with asyncio.timeout(2):\n    await asyncio.sleep(100)"
    AsyncPatterns.retry_with_backoff(builder, "node", code, max_retries=1, timeout=None)
    AsyncPatterns.retry_with_backoff(builder, "other", code, max_retries=1)
    result = clock.run(run(builder))

    for node_id in ("node", "other"):
        assert "Operation failed after 1 attempts: " in result["errors"][node_id]
        assert "exceeded" not in result["errors"][node_id]


def test_cancellation_is_no_failure(builder, clock):
    """The run ends with it, and the node is not tried again."""
    AsyncPatterns.retry_with_backoff(builder, "node", "await asyncio.sleep(10)")

    async def main():
        task = asyncio.create_task(run(builder))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    clock.run(main())
    assert clock.waits == []


def test_runs_at_once_keep_their_attempts_apart(builder, clock):
    """Fifty runs of one workflow: each tells its own attempts."""
    AsyncPatterns.retry_with_backoff(builder, "node", "await call()\nresult = {'n': n}")
    workflow = builder.build()

    async def main():
        runtime = AsyncLocalRuntime()
        inputs = [{"n": n, "call": Failing(*[OSError(f"run {n}")] * (n % 3))} for n in range(50)]
        runs = (runtime.execute_workflow_async(workflow, given) for given in inputs)
        return await asyncio.gather(*runs)

    for n, result in enumerate(clock.run(main())):
        made = result["results"]["node"]
        errors = [entry.get("error") for entry in made["attempts"]]
        assert errors == [f"run {n}"] * (n % 3) + [None]
        assert (made["n"], made["total_attempts"]) == (n, n % 3 + 1)


def test_attempts_are_steps_and_events(builder, clock):
    """Whoever watches sees each attempt as of any other node, with the wait after it."""
    AsyncPatterns.retry_with_backoff(builder, "node", "await call()")
    steps = []

    async def main():
        inputs = {"call": Failing(OSError("down"))}
        with observing(steps.append):
            return [event async for event in AsyncLocalRuntime().stream(builder.build(), inputs)]

    events = clock.run(main())
    waits = [(step.attempt, step.wait) for step in steps if step.kind == "exec"]
    assert waits == [(0, 1.0), (1, None)]
    assert [event.wait for event in events if isinstance(event, NodeRetried)] == [1.0]


async def test_functions_are_tried_too(builder):
    """Asynchronous or not, with their inputs by name; a synchronous one is in a thread."""
    threads = []

    def plain(n: int, context: Context):
        threads.append(threading.current_thread())
        return {"doubled": 2 * n, "node": context.node_id}

    async def other(n: int):
        return n + 1

    AsyncPatterns.retry_with_backoff(builder, "plain", plain)
    AsyncPatterns.retry_with_backoff(builder, "other", other)
    results = (await run(builder, {"n": 4}))["results"]

    assert results["plain"]["doubled"] == 8
    assert results["plain"]["node"] == "plain"
    assert results["other"]["value"] == 5
    assert threads[0] is not threading.main_thread()


async def test_its_ports_are_those_of_the_code_and_its_own(builder):
    """What the code yields for certain, and the facts; a wrong port is found before the run."""
    AsyncPatterns.retry_with_backoff(builder, "node", "result = {'rows': [1, 2]}")
    builder.add_async_code("count", "result = {'rows': rows, 'tries': tries, 'all': all_of_it}")
    builder.add_connection("node", "rows", "count", "rows")
    builder.add_connection("node", "total_attempts", "count", "tries")
    builder.add_connection("node", "result", "count", "all_of_it")
    made = (await run(builder))["results"]["count"]

    assert (made["rows"], made["tries"], made["all"]["rows"]) == ([1, 2], 1, [1, 2])
    builder.add_async_code("wrong", "result = x")
    builder.add_connection("node", "row", "wrong", "x")
    with pytest.raises((WorkflowValidationError, PortError), match="'row'"):
        builder.build()


async def test_inputs_that_nobody_gives_are_found(builder):
    """As with any code node: before the run, by name."""
    AsyncPatterns.retry_with_backoff(builder, "node", "result = missing")

    with pytest.raises(WorkflowValidationError, match="nobody gives input 'missing'"):
        await run(builder)


def test_an_error_handler_answers_after_the_last_attempt(builder, clock):
    """It gets the RuntimeError, once."""
    handler = ErrorHandler("fallback", fallback_value={"stale": True})
    AsyncPatterns.retry_with_backoff(
        builder, "node", "raise OSError", error_handler=handler, description="Asks"
    )
    result = clock.run(run(builder))

    assert result["results"] == {"node": {"stale": True}}
    assert isinstance(result.handled["node"], RuntimeError)
    assert builder.get_node_metadata("node")["description"] == "Asks"


# rate_limited


def test_the_limit_holds_over_runs(builder, clock):
    """Two a second and one at once: four runs take 1.5 s; `reset` gives the burst back."""
    AsyncPatterns.rate_limited(
        builder, "node", "result = {'n': 1}", requests_per_second=2, burst_size=1
    )
    workflow = builder.build()

    async def main():
        for _ in range(4):
            made = (await run(workflow))["results"]["node"]
        return made

    made = clock.run(main())
    assert clock.monotonic() == pytest.approx(1.5)
    assert made == {
        "n": 1,
        "_rate_limit_info": {
            "tokens_remaining": 0,
            "requests_in_window": 2,
            "operation_duration": 0,
            "waited": pytest.approx(0.5),
        },
    }
    workflow.nodes["node"].work.reset()
    clock.run(run(workflow))
    assert clock.monotonic() == pytest.approx(1.5)


def test_the_limit_holds_over_concurrent_runs_and_runtimes(builder, clock):
    """Runs on two runtimes at once share it, in the order in which they came."""
    AsyncPatterns.rate_limited(
        builder, "node", "result = note(n)", requests_per_second=10, burst_size=3
    )
    workflow, noted = builder.build(), []

    async def main():
        note = lambda n: noted.append((n, clock.monotonic()))  # noqa: E731 (an input)
        runtimes = [AsyncLocalRuntime(), AsyncLocalRuntime()]
        runs = (
            runtimes[n % 2].execute_workflow_async(workflow, {"n": n, "note": note})
            for n in range(12)
        )
        await asyncio.gather(*runs)

    clock.run(main())
    assert sorted(noted) == noted
    times = [moment for _, moment in noted]
    assert times == pytest.approx([0, 0, 0, *(n / 10 for n in range(1, 10))], abs=1e-5)


def test_the_limit_holds_in_real_time_on_loops_in_threads(builder):
    """Three threads, each with a loop and a runtime, share the state of one workflow."""
    AsyncPatterns.rate_limited(builder, "node", "pass", requests_per_second=100, burst_size=1)
    workflow = builder.build()

    async def five():
        await asyncio.gather(*(run(workflow) for _ in range(5)))

    began = time.monotonic()
    threads = [threading.Thread(target=asyncio.run, args=(five(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert 0.14 <= time.monotonic() - began < 10


def test_waiting_is_not_the_nodes_time(builder, clock):
    """The timeout is that of the code; a rate below one in two seconds still has a burst of 1."""
    code = "await asyncio.sleep(n)\nresult = {}"
    AsyncPatterns.rate_limited(builder, "node", code, requests_per_second=0.01)
    workflow = builder.build()

    async def main():
        first = await run(workflow, {"n": 2})
        return first, await run(workflow, {"n": 0}), await run(workflow, {"n": 31})

    first, second, third = clock.run(main())
    assert first["results"]["node"]["_rate_limit_info"]["operation_duration"] == 2
    assert second["results"]["node"]["_rate_limit_info"]["waited"] == pytest.approx(98)
    assert "Async code execution exceeded 30s timeout" in third["errors"]["node"]
    assert clock.monotonic() == pytest.approx(230)


@pytest.mark.parametrize(
    ("code", "own"), [("result = [1]", [1]), ("result = None", None), ("return 5", 5)]
)
async def test_what_is_no_dict_stays_as_it_is(builder, code, own):
    """Only a dict gets the figures."""
    AsyncPatterns.rate_limited(builder, "node", code)

    assert (await run(builder))["results"]["node"] == own


async def test_the_users_own_figures_stay(builder):
    """A key of the user's own is not overwritten."""
    AsyncPatterns.rate_limited(builder, "node", "result = {'_rate_limit_info': 'mine'}")

    assert (await run(builder))["results"]["node"] == {"_rate_limit_info": "mine"}


def test_a_run_that_is_cancelled_gives_its_place_back(builder, clock):
    """The next run goes in its place, and nothing is left behind."""
    AsyncPatterns.rate_limited(builder, "node", "pass", requests_per_second=1, burst_size=1)
    workflow = builder.build()

    async def main():
        await run(workflow)
        first, second = (asyncio.create_task(run(workflow)) for _ in range(2))
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.wait([first, second])
        assert clock.monotonic() == pytest.approx(1.0)
        assert workflow.nodes["node"].work.limiter.waiting == 0
        assert len(asyncio.all_tasks()) == 1

    clock.run(main())


def test_each_attempt_of_a_limited_node_is_limited(builder, clock):
    """With a policy of its own, each attempt takes a token."""
    from pocketflow_async.workflow import RetryPolicy

    AsyncPatterns.rate_limited(
        builder,
        "node",
        "await call()",
        requests_per_second=1,
        burst_size=1,
        retry_policy=RetryPolicy(max_retries=3, base_delay=0),
    )
    result = clock.run(run(builder, {"call": Failing(OSError("a"), OSError("b"))}))

    assert result["errors"] == {}
    assert clock.monotonic() == pytest.approx(2.0)


async def test_functions_are_limited_too(builder):
    """A synchronous function runs in a thread."""

    def plain(n: int):
        return {"thread": threading.current_thread(), "n": n}

    AsyncPatterns.rate_limited(builder, "node", plain)
    made = (await run(builder, {"n": 3}))["results"]["node"]

    assert made["n"] == 3
    assert made["thread"] is not threading.main_thread()
    assert made["_rate_limit_info"]["tokens_remaining"] == 19


# both

PATTERNS = [AsyncPatterns.retry_with_backoff, AsyncPatterns.rate_limited]


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_any_builder_will_do(pattern):
    """What the node yields is not wrapped."""
    builder = WorkflowBuilder()
    pattern(builder, "node", "result = {'n': 1}")

    assert (await run(builder))["results"]["node"]["n"] == 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_resources_used_by_name_are_required(pattern, builder):
    """A declared resource that the code uses by its name alone is among the node's."""
    builder.with_cache("store")
    pattern(builder, "node", "result = await store.get('key')", required_resources=["queue"])

    assert builder.build().nodes["node"].required_resources == ("queue", "store")


@pytest.mark.parametrize(
    ("pattern", "options", "error", "text"),
    [
        (0, {"max_retries": 0}, ValueError, "node 'n': max_retries"),
        (0, {"max_retries": "3"}, TypeError, "max_retries must be a whole number"),
        (0, {"initial_backoff": -1}, ValueError, "initial_backoff must be a finite number"),
        (0, {"backoff_factor": 0}, ValueError, "backoff_factor"),
        (0, {"max_backoff": float("inf")}, ValueError, "max_backoff"),
        (0, {"retry_on": [3]}, TypeError, "retry_on takes error classes and their names"),
        (0, {"retry_on": ["not a name"]}, ValueError, "retry_on: 'not a name'"),
        (0, {"retry_on": [KeyboardInterrupt]}, ValueError, "KeyboardInterrupt"),
        (0, {"retry_policy": None}, TypeError, "takes no retry_policy"),
        (0, {"max_retry": 3}, TypeError, "max_retry"),
        (1, {"requests_per_second": 0}, ValueError, "node 'n': requests_per_second must be above"),
        (1, {"requests_per_second": "5"}, TypeError, "requests_per_second must be a number"),
        (1, {"burst_size": 0}, ValueError, "burst_size must be at least 1"),
        (1, {"burst_size": 2.5}, TypeError, "burst_size must be a whole number"),
        (1, {"timeout": -1}, ValueError, "timeout"),
    ],
)
def test_wrong_options_are_named(builder, pattern, options, error, text):
    """With the node, in the caller's own words; nothing is added."""
    with pytest.raises(error, match=text):
        PATTERNS[pattern](builder, "n", "pass", **options)
    assert builder.nodes == {}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_makes_no_node_is_refused(pattern, builder):
    """Code that is none, ids that cannot be, ids that are taken, and what is no builder."""
    with pytest.raises(WorkflowValidationError, match="node 'n', line 2"):
        pattern(builder, "n", "x = 1\nresult = = 2")
    with pytest.raises(WorkflowValidationError, match="Code cannot be empty"):
        pattern(builder, "n", "  ")
    with pytest.raises(TypeError, match="code must be a string or a function"):
        pattern(builder, "n", 5)
    with pytest.raises(WorkflowValidationError, match="dots"):
        pattern(builder, "a.b", "pass")
    with pytest.raises(TypeError, match="a workflow builder is needed first"):
        pattern("builder", "n", "pass")
    pattern(builder, "n", "pass")
    with pytest.raises(WorkflowValidationError, match="already exists"):
        pattern(builder, "n", "pass")


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_an_error_shows_the_users_line(pattern, builder):
    """The message has the line of the code, as for any code node."""
    options = {"max_retries": 1} if pattern is PATTERNS[0] else {}
    pattern(builder, "node", "x = 1\nresult = x / 0", **options)

    assert "line 2" in (await run(builder))["errors"]["node"]
