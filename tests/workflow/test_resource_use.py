"""Resources in runs of workflows: found, kept open, counted, waited for, and seen in traces."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.hooks import observing
from pocketflow_async.resources import ResourceFactory, ResourceRegistry, get_resource
from pocketflow_async.resources.uses import using, waited
from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.workflow import AsyncPatterns, AsyncWorkflowBuilder
from tests.resources.registry_kit import Making, until
from tracing.recorder import watching
from tracing.spans import recorder_here
from tracing.testing import FakeClock, capture


async def run(workflow, inputs=None, **options):
    """Run *workflow*; fail if one of its nodes does."""
    result = await AsyncLocalRuntime(**options).execute_workflow_async(workflow, inputs)
    assert result["errors"] == {}
    return result


def builder_of(making, *codes, **options):
    builder = AsyncWorkflowBuilder()
    builder.require_resource("x", making, **options)
    for number, code in enumerate(codes):
        builder.add_async_code(f"n{number}", code)
    return builder


# Finding.


async def test_code_finds_resources_by_each_way():
    """`get_resource` of the node, the name alone, and `get_resource` of the package anywhere."""

    async def by_function(x):
        assert x is await deep()
        return 1

    async def deep():
        return await get_resource("x")

    making = Making("x")
    builder = builder_of(making, "result = (await get_resource('x')).name", "result = x.name")
    builder.add_async_code("n2", by_function, required_resources=["x"])
    builder.add_async_code("n3", deep)
    result = await run(builder)

    assert result["results"]["n0"] == result["results"]["n1"] == "x"
    assert result["results"]["n3"] is making.made[0]
    assert making.begun == 1
    assert result["metrics"].resource_access_count == {"x": 5}


async def test_a_run_inside_a_node_has_the_resources_around_it():
    """Code of the inner workflow finds them as well, and both are one open resource."""
    making = Making("x")
    inner = AsyncWorkflowBuilder()
    inner.add_async_code("deep", "result = (await get_resource('x')).name")
    builder = builder_of(making, "result = (await get_resource('x')).name")
    builder.add_node("Workflow", "sub", {"workflow": inner.build()})
    result = await run(builder)

    assert result["results"]["sub"]["deep"] == result["results"]["n0"] == "x"
    assert making.begun == 1


async def test_the_runtimes_registry_goes_first():
    """Then that of the workflow."""
    runtimes, workflows = Making("of the runtime"), Making("of the workflow")
    registry = ResourceRegistry()
    registry.register_factory("x", runtimes)
    builder = builder_of(workflows, "result = (await get_resource('x')).name")

    assert (await run(builder, resource_registry=registry))["results"]["n0"] == "of the runtime"
    assert (await run(builder))["results"]["n0"] == "of the workflow"
    await registry.cleanup()


async def test_resources_live_on_between_runs():
    """On one event loop all runs share them, also at the same time; `cleanup` closes them."""
    making = Making("x", seconds=0.001)
    builder = builder_of(making, "result = (await get_resource('x')).name")
    workflow = builder.build()
    await asyncio.gather(*(run(workflow) for _ in range(20)))
    await run(workflow)

    assert making.begun == 1
    assert making.open
    async with AsyncLocalRuntime(builder.get_resource_registry()) as runtime:
        await runtime.execute_workflow_async(workflow)
    assert not making.open


def test_the_synchronous_door_opens_and_closes_per_run():
    """Each run has a loop of its own, and with it its resources; none is left open."""
    making = Making("x")
    builder = builder_of(making, "result = (await get_resource('x')).name")
    with LocalRuntime() as runtime:
        names = [runtime.execute(builder.build())[0]["n0"] for _ in range(2)]

    assert names == ["x", "x2"]
    assert not making.open


# Leases.


async def test_a_resource_stays_open_until_the_node_has_ended():
    """It is replaced while the node is at work, and closed after it."""
    old, new = Making("old"), Making("new")
    builder = builder_of(old)
    registry = builder.get_resource_registry()

    async def use(x):
        registry.register_factory("x", new)
        other = await get_resource("x")
        await asyncio.sleep(0.001)
        return x.is_open, x.name, other.name, registry.get_metrics()["resources"]["x"]["leases"]

    builder.add_async_code("use", use, required_resources=["x"])
    result = await run(builder)

    assert result["results"]["use"] == (True, "old", "new", 2)
    await until(lambda: not old.open)
    assert len(new.open) == 1
    assert registry.get_metrics()["resources"]["x"]["leases"] == 0
    await registry.cleanup()


@pytest.mark.parametrize("ending", ["raise ValueError('no')", "await asyncio.sleep(60)"])
async def test_a_node_that_fails_or_is_cancelled_gives_back(ending):
    """Nothing stays in use."""
    builder = builder_of(Making("x"), f"await get_resource('x')\n{ending}")
    registry = builder.get_resource_registry()
    runtime = AsyncLocalRuntime()
    try:
        async with asyncio.timeout(0.05):
            await runtime.execute_workflow_async(builder)
    except TimeoutError:
        assert "sleep" in ending

    assert registry.get_metrics()["resources"]["x"]["leases"] == 0
    assert registry.get_metrics()["resources"]["x"]["accessed"] == 1
    await registry.cleanup()


async def test_asking_often_is_one_lease():
    """Though every access is counted."""
    builder = builder_of(Making("x"))
    registry = builder.get_resource_registry()

    async def use():
        for _ in range(10):
            await get_resource("x")
        return registry.get_metrics()["resources"]["x"]["leases"]

    builder.add_async_code("use", use)
    result = await run(builder)

    assert result["results"]["use"] == 1
    assert result["metrics"]["resource_access_count"] == {"x": 10}
    await registry.cleanup()


async def test_what_a_node_leaves_behind_takes_no_lease():
    """A task that goes on after the node gets the resource, and keeps nothing open."""
    builder = builder_of(Making("x"))
    registry = builder.get_resource_registry()
    go_on, tasks = asyncio.Event(), []

    async def later():
        await go_on.wait()
        return await get_resource("x")

    async def leave():
        tasks.append(asyncio.create_task(later()))

    builder.add_async_code("leave", leave)
    await run(builder)
    go_on.set()

    assert (await tasks[0]).is_open
    assert registry.get_metrics()["resources"]["x"]["leases"] == 0
    await registry.cleanup()


async def test_each_attempt_gets_what_is_well_by_then():
    """A node that tries again after its resource has broken gets the new one."""
    making = Making("x")
    builder = AsyncWorkflowBuilder(resource_registry=ResourceRegistry(health_interval=0))
    builder.require_resource("x", making, health_check=lambda thing: thing.is_open)

    async def flaky():
        thing = await get_resource("x")
        if thing is making.made[0]:
            thing.is_open = False
            raise ConnectionError("cut")
        return thing.name

    AsyncPatterns.retry_with_backoff(builder, "flaky", flaky, initial_backoff=0.001)
    result = await run(builder)

    assert result["results"]["flaky"]["value"] == "x2"
    await builder.get_resource_registry().cleanup()


# Figures.


def test_waits_for_resources_are_in_the_metrics():
    """Until it was made, and what the resource says of waits for its parts; by name."""
    clock = FakeClock()

    async def use():
        await get_resource("x")
        waited("x", 0.5)
        return 1

    async def main():
        builder = builder_of(Making("x", seconds=2))
        builder.add_async_code("a", use)
        builder.add_async_code("b", use)
        return (await run(builder))["metrics"]

    metrics = clock.run(main())

    assert metrics.resource_wait_seconds == {"x": pytest.approx(2 * 2.5)}
    assert metrics.resource_access_count == {"x": 2}


def test_waits_outside_of_runs_go_nowhere():
    """There is nobody to tell."""
    waited("x", 1.0)


# What is seen.


class Plain:
    """A resource of the user's own, which tells nobody what it does."""

    async def fetch(self, query):
        return [query]

    def broken(self):
        raise OSError("gone")


def steps():
    """Note the uses of resources as they end: name, input, facts."""
    seen = []

    class Note:
        def __init__(self, step):
            self.step = step

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append((self.step.name, self.step.input, dict(self.step.facts)))

    return seen, observing(lambda step: Note(step) if step.kind == "resource" else None)


async def test_a_resource_node_is_a_step():
    """With the params as its input; and so is making the resource, which belongs to nobody."""
    builder = AsyncWorkflowBuilder()
    builder.require_resource("x", Plain)
    builder.add_resource_node("n", "x", "fetch", {"query": "${q}"})
    seen, watching_steps = steps()
    with watching_steps:
        await run(builder, {"q": "SELECT 1"})

    assert seen == [
        ("x.create", None, {"flow.resource": "x"}),
        ("x.fetch", {"query": "SELECT 1"}, {"flow.resource": "x"}),
    ]


async def test_a_resource_that_tells_itself_is_told_once():
    """One of ours makes its own steps; the node adds none."""
    builder = AsyncWorkflowBuilder()
    builder.with_database("db", backend="sqlite", database=":memory:", min_size=1, max_size=2)
    builder.with_cache("cache", backend="memory")
    builder.add_resource_node("n", "db", "fetchval", {"query": "SELECT 1"})
    builder.add_resource_node("c", "cache", "get", ["k"])
    seen, watching_steps = steps()
    with watching_steps:
        result = await run(builder)
        await builder.get_resource_registry().cleanup()

    names = [name for name, _, _ in seen]
    assert names.count("db.fetchval") == 1
    assert names.count("cache.get") == 1
    assert result["results"]["n"]["result"] == 1


async def test_uses_are_in_the_trace_under_their_node():
    """Also those of a resource that is used by name, and one that fails."""

    class Own(ResourceFactory):
        async def create(self):
            return Telling()

    class Telling:
        async def ask(self):
            with using("x", "ask", {"statement": "SELECT 1"}) as facts:
                if facts is not None:
                    facts["db.response.returned_rows"] = 3

    builder = builder_of(Own(), "x = await get_resource('x')\nresult = await x.ask()")
    builder.require_resource("y", Plain)
    builder.add_resource_node("n1", "y", "broken")
    with capture() as traces, watching(recorder_here()):
        result = await AsyncLocalRuntime().execute_workflow_async(builder, {})

    assert list(result["errors"]) == ["n1"]
    spans = {span.name: span for span in traces.one(builder.name).roots[0].walk()}
    assert spans["x.ask"].attributes["db.response.returned_rows"] == 3
    assert spans["x.ask"].input == {"statement": "SELECT 1"}
    assert spans["y.broken"].outcome == "failed"
    await builder.get_resource_registry().cleanup()
