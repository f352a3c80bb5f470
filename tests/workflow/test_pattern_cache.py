"""AsyncPatterns.cache_aside: three nodes that look, fetch what is not there, and keep it."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import date
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncPatterns,
    AsyncWorkflowBuilder,
    ErrorHandler,
    RetryPolicy,
    WorkflowValidationError,
)
from tests.resilience.cache_kit import Backend, Broken, Hanging, PlainCache, SetexCache, TtlCache
from tests.workflow.runtime_kit import nothing_left
from tracing import span
from tracing.recorder import watching
from tracing.spans import recorder_here
from tracing.testing import FakeClock, capture

IDS = ("check", "fetch", "store")
CODE = "result = await backend(item_id)"


class Registry:
    """Has what it is given; an error is raised."""

    def __init__(self, **resources):
        self.resources = resources

    def has_factory(self, name):
        return name in self.resources

    def list_resources(self):
        return set(self.resources)

    async def get_resource(self, name):
        found = self.resources[name]
        if isinstance(found, Exception):
            raise found
        return found


def built(cache, code=CODE, **options):
    """Return a workflow of the pattern alone, with its cache."""
    builder = AsyncWorkflowBuilder(resource_registry=Registry(cache=cache))
    assert AsyncPatterns.cache_aside(builder, *IDS, code, **options) == "store"
    return builder.build()


async def run(workflow, inputs=None, runtime=None):
    return await (runtime or AsyncLocalRuntime()).execute_workflow_async(workflow, inputs)


async def results(workflow, **inputs):
    result = await run(workflow, inputs)
    assert result["errors"] == {}
    return result["results"]


async def test_the_nodes_yield_what_the_guides_read():
    """First a value that was fetched and kept, then one that was there."""
    cache, backend = SetexCache(), Backend({"a": 1})
    workflow = built(cache, ttl_seconds=60)

    assert await results(workflow, item_id=7, backend=backend) == {
        "check": {"found_in_cache": False, "cache_key": "key_7", "data": None},
        "fetch": {"needs_caching": True, "cache_key": "key_7", "data": {"a": 1}},
        "store": {"data": {"a": 1}, "cached": True, "cache_key": "key_7", "ttl": 60},
    }
    assert (cache.data, cache.times) == ({"key_7": b'{"a":1}'}, {"key_7": 60})
    assert await results(workflow, item_id=7, backend=backend) == {
        "check": {"found_in_cache": True, "cache_key": "key_7", "data": {"a": 1}},
        "fetch": {"needs_caching": False, "cache_key": "key_7", "data": {"a": 1}},
        "store": {"data": {"a": 1}, "cached": False, "cache_key": "key_7", "from_cache": True},
    }
    assert backend.calls == {7: 1}


@pytest.mark.parametrize("make", [dict, PlainCache, SetexCache, TtlCache])
@pytest.mark.parametrize("value", [None, 0, False, "", [], {}, "text", "5", [1, {"a": None}]])
async def test_any_value_is_found_again_in_any_cache(make, value):
    """What is falsy is no miss, also in a cache without setex."""
    workflow, backend = built(make()), Backend(value)
    first = await results(workflow, item_id=1, backend=backend)
    second = await results(workflow, item_id=1, backend=backend)

    assert first["store"]["cached"]
    assert second["check"]["found_in_cache"]
    assert [each["store"]["data"] for each in (first, second)] == [value, value]
    assert type(second["store"]["data"]) is type(value)
    assert backend.total == 1


@pytest.mark.parametrize(
    ("template", "inputs", "key"),
    [
        ("v2_item_{item_id}", {"item_id": 7}, "v2_item_7"),
        ("{user}:{page:03d}", {"user": "ann", "page": 2}, "ann:002"),
        ("{order.id}/{rows[0]}/{d[a]}", {"order": date, "rows": [4], "d": {"a": 1}}, None),
        ("{{x}}{item_id!r}", {"item_id": "ü"}, "{x}'ü'"),
        ("always", {}, "always"),
        (lambda user, page=1: f"{user}-{page}", {"user": "ann"}, "ann-1"),
        (lambda **inputs: "-".join(sorted(inputs)), {"item_id": 3}, "backend-item_id"),
    ],
)
async def test_any_template_makes_the_key(template, inputs, key):
    """With any fields, or as a function of inputs; the code gets them as they are."""
    if key is None:
        inputs["order"], key = type("Order", (), {"id": 9})(), "9/4/1"
    cache = PlainCache()
    workflow = built(cache, "result = await backend()", cache_key_template=template)
    made = await results(workflow, backend=Backend(), **inputs)

    assert made["check"]["cache_key"] == key
    assert list(cache.data) == [key]


async def test_the_code_gets_the_input_and_not_what_is_in_the_key():
    """`item_id` is what the run was given, and no digits out of the key."""
    workflow = built({}, "result = [item_id, item_id]", cache_key_template="v2_{item_id}")

    assert (await results(workflow, item_id="a7"))["store"]["data"] == ["a7", "a7"]
    assert (await results(workflow, item_id=5))["store"]["data"] == [5, 5]


async def test_inputs_of_the_check_go_on_to_the_fetch():
    """What is connected to the check need not be connected again, and comes before the run's."""
    builder = AsyncWorkflowBuilder(resource_registry=Registry(cache={}))
    builder.add_async_code("source", "result = {'item_id': 42, 'extra': 'x'}")
    AsyncPatterns.cache_aside(builder, *IDS, "result = [item_id, extra, other]")
    builder.add_connection("source", "item_id", "check", "item_id")
    builder.add_connection("source", "extra", "check", "extra")
    result = await run(builder.build(), {"item_id": 1, "other": 2})

    assert result["errors"] == {}
    assert result["results"]["fetch"]["data"] == [42, "x", 2]
    assert result["results"]["check"].keys() == {"found_in_cache", "cache_key", "data"}


async def test_inputs_for_single_nodes_are_theirs():
    """Those of the check go on; the fetch may have some of its own."""
    workflow = built({}, "result = [item_id, extra]")
    made = await results(workflow, check={"item_id": 3}, fetch={"extra": 4})
    assert made["store"]["data"] == [3, 4]

    builder = AsyncWorkflowBuilder(resource_registry=Registry(cache={}))
    builder.add_async_code("source", "result = 5")
    AsyncPatterns.cache_aside(builder, *IDS, "result = [item_id, extra]")
    builder.add_connection("source", "result", "fetch", "extra")
    assert (await run(builder.build(), {"item_id": 1}))["results"]["fetch"]["data"] == [1, 5]
    builder = AsyncWorkflowBuilder(resource_registry=Registry(cache={}))
    builder.add_async_code("source", "result = 5")
    AsyncPatterns.cache_aside(builder, *IDS, "result = item_id")
    builder.connect("source", "check", from_output="result")
    assert (await run(builder.build()))["results"]["fetch"]["data"] == 5


async def test_the_code_may_be_indented_and_a_function():
    """A synchronous one runs in a thread; `cache_result` is there for who takes it."""
    code = """
        # Fetch expensive data
        response = await backend(item_id)
        if response:
            result = {"value": response}
    """
    assert (await results(built({}, code), item_id=1, backend=Backend(7)))["store"]["data"] == {
        "value": 7
    }
    seen = []

    def fetch(item_id, cache_result):
        seen.append((threading.current_thread(), cache_result["cache_key"]))
        return item_id + 1

    assert (await results(built({}, fetch), item_id=1))["store"]["data"] == 2
    assert seen[0][0] is not threading.main_thread()
    assert seen[0][1] == "key_1"
    anything = built({}, lambda **inputs: sorted(inputs))
    assert (await results(anything, item_id=1, b=2))["store"]["data"] == ["b", "item_id"]


async def test_an_iterator_that_another_node_reads_stays_whole():
    """The pattern takes only what its key and its code name."""
    builder = AsyncWorkflowBuilder(resource_registry=Registry(cache={}))
    builder.add_async_code("reader", "result = list(stream)")
    AsyncPatterns.cache_aside(builder, *IDS, "result = item_id")
    result = await run(builder.build(), {"item_id": 1, "stream": iter([1, 2])})

    assert result["errors"] == {}
    assert result["results"]["reader"] == [1, 2]


@pytest.mark.parametrize(("limit", "count"), [(1, 500), (10, 2_000), (20_000, 10_000)])
async def test_ten_thousand_runs_fetch_once_per_key(limit, count):
    """Whether they run ten at a time or all at once; each has a value of its own."""
    cache, backend = SetexCache(), Backend({"list": []}, turns=20)
    workflow, runtime = built(cache), AsyncLocalRuntime(max_concurrent_nodes=limit)
    async with nothing_left(), asyncio.timeout(50):
        made = await asyncio.gather(
            *(
                run(workflow, {"item_id": number % 2, "backend": backend}, runtime)
                for number in range(count)
            )
        )
    stored = [result["results"]["store"]["data"] for result in made]

    assert backend.calls == {0: 1, 1: 1}
    assert cache.sets == 2
    assert stored == [{"list": []}] * count
    assert len({id(data) for data in stored}) == count
    counts = workflow.nodes["fetch"].work.statistics()
    assert counts.hits + counts.misses == count
    assert (counts.loads, counts.errors) == (2, 0)


async def test_runs_that_wait_take_up_no_slot():
    """A fetch that runs a workflow itself gets on, however many runs wait for it."""
    inner = AsyncWorkflowBuilder()
    inner.add_async_code("inner", "await asyncio.sleep(0)\nresult = 5")
    inner = inner.build()
    runtime = AsyncLocalRuntime(max_concurrent_nodes=2)

    async def fetch(item_id):
        return (await runtime.execute_workflow_async(inner))["results"]["inner"]

    workflow = built(SetexCache(), fetch)
    async with asyncio.timeout(10):
        made = await asyncio.gather(*(run(workflow, {"item_id": 1}, runtime) for _ in range(50)))
    assert {result["results"]["store"]["data"] for result in made} == {5}


async def waiting_runs(workflow, count):
    """Return tasks of runs that all wait for the same fetch, which waits for the gate."""
    gate, begun, calls = asyncio.Event(), asyncio.Event(), []

    async def backend(item_id):
        calls.append(item_id)
        begun.set()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            calls.append("cancelled")
            raise
        return item_id

    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(run(workflow, {"item_id": 1, "backend": backend})))
        await begun.wait()
    for _ in range(30):
        await asyncio.sleep(0)
    return tasks, gate, calls


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_cancelled_run_does_not_end_the_fetch_of_others(cancelled):
    """Whether it is the one that fetches or one that waits; the value is kept."""
    cache = SetexCache()
    async with nothing_left():
        tasks, gate, calls = await waiting_runs(built(cache), 3)
        tasks[cancelled].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[cancelled]
        gate.set()
        others = [await task for task in tasks if task is not tasks[cancelled]]
    assert [result["results"]["store"]["data"] for result in others] == [1, 1]
    assert calls == [1]
    assert cache.data == {"key_1": b"1"}


async def test_the_last_cancelled_run_ends_the_fetch():
    """Nothing goes on, and nothing is kept."""
    cache = SetexCache()
    async with nothing_left():
        tasks, _, calls = await waiting_runs(built(cache), 3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert calls == [1, "cancelled"]
    assert cache.data == {}


async def test_an_error_fails_all_runs_that_wait_and_is_not_kept():
    """Each has its own; the next run fetches again."""
    backend, workflow = Backend(KeyError("zip"), turns=20), built(SetexCache())
    made = await asyncio.gather(
        *(run(workflow, {"item_id": 1, "backend": backend}) for _ in range(10))
    )
    assert backend.total == 1
    assert all("KeyError: 'zip'" in result["errors"]["fetch"] for result in made)
    assert all(list(result["skipped"]) == ["store"] for result in made)
    assert len({id(result.exceptions["fetch"]) for result in made}) == 10
    backend.value = 5
    assert (await results(workflow, item_id=1, backend=backend))["store"]["data"] == 5


@pytest.mark.parametrize(
    "cache", [Broken(), Broken(OSError("full")), ConnectionError("cannot be opened")]
)
async def test_a_cache_that_fails_is_told_and_the_fetch_goes_on(cache):
    """Whatever fails, even its opening; runs still share a fetch."""
    workflow, backend = built(cache), Backend(turns=20)
    made = await asyncio.gather(
        *(run(workflow, {"item_id": 1, "backend": backend}) for _ in range(5))
    )
    assert backend.total == 1
    for result in made:
        assert result["errors"] == {}
        check, fetch, store = (result["results"][node_id] for node_id in IDS)
        words = str(getattr(cache, "error", cache))
        assert check.pop("cache_error").endswith(words)
        assert store.pop("cache_error").endswith(words)
        assert check == {"found_in_cache": False, "cache_key": "key_1", "data": None}
        assert fetch == {"needs_caching": True, "cache_key": "key_1", "data": "value"}
        assert store == {"data": "value", "cached": False, "cache_key": "key_1", "ttl": 3600}


def test_a_cache_that_hangs_costs_its_time_and_no_more():
    """Two looks, and no store after that; the timeout of the code is its own."""
    clock, workflow = FakeClock(), built(Hanging(), cache_timeout=2, timeout=1)
    made = clock.run(results(workflow, item_id=1, backend=Backend()))

    assert made["store"]["data"] == "value"
    assert made["store"]["cache_error"] == "CallTimeoutError: the cache took longer than 2 s"
    assert clock.monotonic() == pytest.approx(4)


async def test_what_is_no_json_is_passed_on():
    """With the reason why it was not kept."""
    made = await results(built({}), item_id=1, backend=Backend(date(2024, 1, 2)))

    assert made["store"]["data"] == date(2024, 1, 2)
    assert made["store"]["cached"] is False
    assert "not JSON serializable" in made["store"]["cache_error"]


async def test_what_is_damaged_in_the_cache_is_fetched_again():
    """It is told, and healed."""
    cache = {"key_1": "{damaged"}
    workflow = built(cache)
    first = await results(workflow, item_id=1, backend=Backend(5))
    assert "JSONDecodeError" in first["check"]["cache_error"]
    assert first["store"]["cached"]
    assert (await results(workflow, item_id=1))["store"] == {
        "data": 5,
        "cached": False,
        "cache_key": "key_1",
        "from_cache": True,
    }


async def test_a_resource_that_is_none_or_no_cache_is_an_error():
    """These are mistakes, and no failures to go on with."""
    builder = AsyncWorkflowBuilder(resource_registry=Registry(other={}))
    AsyncPatterns.cache_aside(builder, *IDS, CODE)
    result = await run(builder.build(), {"item_id": 1, "backend": Backend()})
    assert "there is no resource 'cache'" in result["errors"]["check"]

    result = await run(built(5), {"item_id": 1, "backend": Backend()})
    assert "a cache has get(key)" in result["errors"]["check"]


async def test_an_input_that_is_missing_is_named():
    """Before the run where it can be known, else in the run."""
    with pytest.raises(WorkflowValidationError, match="nobody gives input 'item_id'"):
        await run(built({}, "result = 1"))
    result = await run(built({}, "result = missing"), {"item_id": 1})
    assert "name 'missing' is not defined" in result["errors"]["fetch"]


def test_the_code_has_its_time_and_its_attempts():
    """A timeout is that of the code; a retry begins with a new fetch; a handler may answer."""
    clock = FakeClock()
    slow = built({}, "await asyncio.sleep(9)", timeout=2)
    result = clock.run(run(slow, {"item_id": 1}))
    assert "exceeded 2" in result["errors"]["fetch"]

    calls = []

    async def flaky(item_id):
        calls.append(item_id)
        if len(calls) < 3:
            raise OSError("down")
        return "up"

    policy = RetryPolicy(max_retries=3, base_delay=1)
    result = clock.run(run(built({}, flaky, retry_policy=policy), {"item_id": 1}))
    assert result["results"]["store"]["data"] == "up"
    assert clock.waits == [1.0, 2.0]

    handler = ErrorHandler("fallback", {"stand": "in"})
    handled = built({}, "raise OSError", error_handler=handler)
    assert clock.run(run(handled, {"item_id": 1}))["results"]["store"] == {
        "data": {"stand": "in"},
        "cached": False,
    }


async def test_what_comes_from_elsewhere_is_kept_by_the_store():
    """A fetch that was not run here, as after a resume, has a plain dict; so has a check."""
    cache = PlainCache()
    workflow = built(cache, ttl_seconds=None)
    context = type(
        "Elsewhere", (), {"node_id": "n", "get_resource": Registry(cache=cache).get_resource}
    )()
    checked = {"found_in_cache": False, "cache_key": "k", "data": None}
    inputs = {"cache_result": checked, "item_id": 2, "backend": Backend(5)}
    fetched = await workflow.nodes["fetch"].work.run(inputs, context)
    assert fetched == {"needs_caching": True, "cache_key": "k", "data": 5}
    cache.data.clear()
    assert await workflow.nodes["store"].work.run({"fetch_data": dict(fetched)}, context) == {
        "data": 5,
        "cached": True,
        "cache_key": "k",
        "ttl": None,
    }
    assert cache.data == {"k": "5"}


async def test_two_registries_with_one_workflow_do_not_share_a_fetch():
    """A cache of another runtime may hold other values: its runs fetch for themselves."""
    builder = AsyncWorkflowBuilder()
    AsyncPatterns.cache_aside(builder, *IDS, CODE)
    workflow, caches = builder.build(), [SetexCache(), SetexCache()]
    runtimes = [AsyncLocalRuntime(Registry(cache=cache)) for cache in caches]
    backends = [Backend("a", turns=20), Backend("b", turns=20)]
    made = await asyncio.gather(
        *(
            run(workflow, {"item_id": 1, "backend": backend}, runtime)
            for backend, runtime in zip(backends, runtimes, strict=True)
        )
    )
    assert [result["results"]["store"]["data"] for result in made] == ["a", "b"]
    assert [cache.data["key_1"] for cache in caches] == [b'"a"', b'"b"']


def test_event_loops_one_after_another_find_what_was_kept():
    """The workflow's state is bound to no loop."""
    workflow, backend = built(PlainCache()), Backend()
    for _ in range(3):
        asyncio.run(results(workflow, item_id=1, backend=backend))

    assert backend.total == 1


async def test_a_real_redis_keeps_the_values(redis_url, redis_prefix):
    """As JSON with their time, for other programs too; many runs use few connections."""
    backend = Backend({"n": [1, None]}, turns=50)
    async with redis.asyncio.from_url(redis_url) as client:
        template = f"{redis_prefix}{{item_id}}"
        workflow = built(client, cache_key_template=template, ttl_seconds=60)
        runtime = AsyncLocalRuntime(max_concurrent_nodes=20_000)
        made = await asyncio.gather(
            *(
                run(workflow, {"item_id": number % 3, "backend": backend}, runtime)
                for number in range(2_000)
            )
        )
        assert all(result["errors"] == {} for result in made)
        assert backend.calls == {0: 1, 1: 1, 2: 1}
        assert json.loads(await client.get(f"{redis_prefix}1")) == {"n": [1, None]}
        assert 0 < await client.ttl(f"{redis_prefix}1") <= 60
        assert len(client.connection_pool._available_connections) < 10


async def test_a_redis_that_goes_away_and_comes_back(own_redis):
    """Runs go on without it, tell so, and use it again."""
    backend = Backend()
    async with redis.asyncio.from_url(own_redis.url) as client:
        workflow = built(client)
        assert (await results(workflow, item_id=1, backend=backend))["store"]["cached"]
        own_redis.stop()
        away = await results(workflow, item_id=1, backend=backend)
        assert away["store"]["data"] == "value"
        assert "ConnectionError" in away["check"]["cache_error"]
        own_redis.start()
        back = await results(workflow, item_id=1, backend=backend)
        assert back["store"].get("from_cache")
    assert backend.total == 2


def test_ids_and_options_are_checked_before_anything_is_added():
    """No part of the pattern stays behind."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("taken", "result = 1")
    wrong = [
        (("a", "taken", "c"), {}, WorkflowValidationError, "'taken' already exists"),
        (("a", "a", "c"), {}, WorkflowValidationError, "'a' already exists"),
        (("a", "b.c", "c"), {}, WorkflowValidationError, "dots"),
        (("a", 5, "c"), {}, TypeError, "must be a text"),
        (IDS, {"cache_key_template": "{"}, ValueError, "node 'check': cache_key_template"),
        (IDS, {"cache_key_template": "{}"}, ValueError, "a name is needed"),
        (IDS, {"cache_key_template": 5}, TypeError, "a text or a function"),
        (IDS, {"ttl_seconds": 0}, ValueError, "ttl_seconds"),
        (IDS, {"cache_timeout": "1"}, TypeError, "cache_timeout"),
        (IDS, {"cache_resource": ""}, TypeError, "cache_resource"),
        (IDS, {"no_such": 1}, TypeError, "no_such"),
        (IDS, {"timeout": -1}, ValueError, "timeout"),
    ]
    for ids, options, error, words in wrong:
        with pytest.raises(error, match=words):
            AsyncPatterns.cache_aside(builder, *ids, CODE, **options)
    with pytest.raises(WorkflowValidationError, match="empty"):
        AsyncPatterns.cache_aside(builder, *IDS, "  ")
    with pytest.raises(TypeError, match="a workflow builder is needed first"):
        AsyncPatterns.cache_aside("check", "fetch", "store", CODE, "more")
    assert list(builder.nodes) == ["taken"]


def test_the_builder_knows_the_nodes_and_their_resource():
    """Ports are known before the run, and the resource is in the metadata."""
    builder = AsyncWorkflowBuilder(resource_registry=Registry(my_cache={}))
    AsyncPatterns.cache_aside(
        builder, *IDS, CODE, cache_resource="my_cache", description="for people"
    )
    workflow = builder.build()

    assert builder.get_node_metadata("check")["required_resources"] == ["my_cache"]
    assert workflow.nodes["fetch"].description == "for people"
    assert [(edge.source, edge.target, edge.input) for edge in workflow.connections] == [
        ("check", "fetch", "cache_result"),
        ("fetch", "store", "fetch_data"),
    ]
    builder.add_async_code("after", "result = data")
    builder.add_connection("store", "dota", "after", "data")
    with pytest.raises(WorkflowValidationError, match="did you mean 'data'"):
        builder.build()


@pytest.mark.parametrize("backend", ["memory", "redis"])
async def test_the_library_own_caches_are_shared_by_all_runs(backend, redis_prefix, redis_url):
    """Declared by `with_cache`, opened at the first use, and closed with the registry."""
    builder, loads = AsyncWorkflowBuilder(), Backend({"a": 1}, turns=50)
    port = {} if backend == "memory" else {"port": urlsplit(redis_url).port}
    builder.with_cache("cache", backend=backend, **port)
    template = f"{redis_prefix}{{item_id}}"
    AsyncPatterns.cache_aside(builder, *IDS, CODE, cache_key_template=template, ttl_seconds=60)
    workflow = builder.build()
    runtime = AsyncLocalRuntime(max_concurrent_nodes=500)
    async with builder.get_resource_registry():
        made = await asyncio.gather(
            *(run(workflow, {"item_id": n % 3, "backend": loads}, runtime) for n in range(1000))
        )
        again = await run(workflow, {"item_id": 1, "backend": loads}, runtime)
    assert all(result["errors"] == {} for result in made)
    assert loads.calls == {0: 1, 1: 1, 2: 1}
    assert again["results"]["store"]["from_cache"]


async def test_the_trace_of_a_run_whose_fetch_others_wait_for(caplog):
    """What the fetch does is in the trace of the run that began it, though that was cancelled."""
    gate, begun, workflow = asyncio.Event(), asyncio.Event(), built(SetexCache())

    async def backend(item_id):
        begun.set()
        await gate.wait()
        with span("asked"):
            return item_id

    async def traced():
        with watching(recorder_here()):
            return await run(workflow, {"item_id": 1, "backend": backend})

    with capture() as seen:
        first, second = (asyncio.create_task(traced()) for _ in range(2))
        await begun.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        gate.set()
        made = await second
    assert made["results"]["store"]["data"] == 1
    assert caplog.records == []
    one, other = seen.all()
    assert [(step.name, step.outcome) for step in one.roots[0].walk()] == [
        (workflow.name, "cancelled"),
        ("check", "completed"),
        ("fetch", "cancelled"),
        ("asked", "completed"),
    ]
    assert [(step.name, step.outcome) for step in other.roots[0].walk()] == [
        (workflow.name, "completed"),
        ("check", "completed"),
        ("fetch", "completed"),
        ("store", "completed"),
    ]
