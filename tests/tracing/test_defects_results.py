"""Defects of pocketflow_tracing 0.1.5 that changed programs or left parts of them out."""

import asyncio
import importlib

import pytest

import tracing
from pocketflow_async import AsyncFlow, AsyncNode
from tracing import TracingConfig, trace_flow
from tracing.expansion import expand
from tracing.store import TraceReader
from tracing.testing import capture, expect


@pytest.fixture(params=["pocketflow_async", "pocketflow"])
def engine(request):
    """Our engine and the original one: what is promised holds for flows of both."""
    return importlib.import_module(request.param)


@pytest.fixture
def seen():
    with capture() as traces:
        yield traces


def run(flow, shared):
    """Run a synchronous or an asynchronous flow."""
    if hasattr(flow, "run_async"):
        return asyncio.run(flow.run_async(shared))
    return flow.run(shared)


@pytest.mark.parametrize("kind", ["BatchFlow", "AsyncBatchFlow", "AsyncParallelBatchFlow"])
def test_defect_01_params_reach_the_nodes_of_a_traced_batch_flow(engine, seen, kind):
    """Every round sees its own params, as untraced."""
    base = getattr(engine, kind)
    found = []

    class Sync(engine.Node):
        def exec(self, prep_res):
            found.append(dict(self.params))

    class Awaiting(engine.AsyncNode):
        async def exec_async(self, prep_res):
            found.append(dict(self.params))

    @trace_flow()
    class Rounds(base):
        def prep(self, shared):
            return [{"i": 1}, {"i": 2}]

        async def prep_async(self, shared):
            return [{"i": 1}, {"i": 2}]

    run(Rounds(start=Sync() if kind == "BatchFlow" else Awaiting()), {})

    assert found == [{"i": 1}, {"i": 2}]
    assert len(seen.one("Rounds").find_all("Sync" if kind == "BatchFlow" else "Awaiting")) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_defect_02_cur_retry_is_there_in_a_traced_node(engine, seen, is_async):
    """Exec reads `self.cur_retry`: 0, 1, 2."""
    found = []
    has_it = not is_async or engine.__name__ != "pocketflow"

    def attempt(node):
        # PocketFlow 0.0.3 has it in synchronous nodes only, traced or not.
        found.append(node.cur_retry if has_it else len(found))
        if len(found) < 3:
            raise ValueError

    class Sync(engine.Node):
        def exec(self, prep_res):
            attempt(self)

    class Awaiting(engine.AsyncNode):
        async def exec_async(self, prep_res):
            attempt(self)

    if is_async:
        run(trace_flow()(engine.AsyncFlow(start=Awaiting(max_retries=3))), {})
    else:
        run(trace_flow()(engine.Flow(start=Sync(max_retries=3))), {})

    assert found == [0, 1, 2]
    expect(seen.one().root.children[0]).attempts(3).outcome("completed")


def test_defect_03_rounds_at_once_keep_their_own_state(engine, seen):
    """What a node keeps in `self` between its phases is its own in every parallel round."""
    kept = []

    class Keeper(engine.AsyncNode):
        async def prep_async(self, shared):
            self.x = self.params["i"]
            await asyncio.sleep(0)

        async def post_async(self, shared, prep_res, exec_res):
            kept.append(self.x == self.params["i"])

    @trace_flow()
    class Rounds(engine.AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{"i": i} for i in range(3)]

    run(Rounds(start=Keeper()), {})

    assert kept == [True, True, True]
    assert len(seen.one().find_all("Keeper")) == 3


def test_defect_04_synchronous_flows_have_node_spans(engine, seen):
    """A plain Flow of two nodes: the flow's span, and one for each node, with its phases."""

    class A(engine.Node):
        pass

    class B(engine.Node):
        pass

    a = A()
    a >> B()

    @trace_flow(flow_name="Sync")
    class Sync(engine.Flow):
        pass

    Sync(start=a).run({})

    assert str(seen) == "flow Sync: completed\n  node A: completed\n  node B: completed\n"
    expect(seen.find("A")).phases(["prep", "exec", "post"])


def test_defect_10_contents_are_json_copies_without_secrets(seen):
    """Inputs are data, as they were at the time, and keys are not among them."""
    shared = {"k": "v", "api_key": "sk-123", "list": [1]}

    @trace_flow()
    def work(shared):
        shared["list"].append(2)

    work(shared)

    found = seen.one().root.input
    assert (found["k"], found["list"]) == ("v", [1])
    assert "sk-123" not in seen.tree(contents=True)
    assert shared["api_key"] == "sk-123"


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_defect_19_phases_are_switched_off_by_the_config(phase, store_path):
    """`trace_prep`, `trace_exec` and `trace_post` off: that phase is no span where spans go."""
    asyncio.run(trace_flow()(AsyncFlow(AsyncNode(), name="Flow")).run_async({}))
    tracing.flush()
    reader = TraceReader(store_path)
    tree = reader.trace(reader.traces()[0].trace_id)

    def names(config):
        return {span.name for span in expand(tree, config)}

    without = TracingConfig(**{f"trace_{phase}": False})
    assert f"AsyncNode.{phase}" in names(TracingConfig()) - names(without)


def test_defect_20_the_span_of_an_async_function_lasts_as_long_as_its_body(seen):
    """While the body runs its span is open; it has the body's result and ends after it."""

    @trace_flow()
    async def work(shared):
        await asyncio.sleep(0)
        shared["during"] = seen.one().outcome
        return "result"

    shared = {}
    assert asyncio.run(work(shared)) == "result"

    assert shared == {"during": "running"}
    expect(seen.one()).outcome("completed").output("result")


@pytest.mark.parametrize("is_async", [False, True])
def test_defect_22_run_takes_what_the_class_takes(engine, seen, is_async):
    """Further arguments of an overridden run pass, by place and by name."""
    if is_async:

        @trace_flow()
        class Mine(engine.AsyncFlow):
            async def run_async(self, shared, extra, *, timeout=None):
                return extra, timeout, await super().run_async(shared)

        flow = Mine(start=engine.AsyncNode())
        assert asyncio.run(flow.run_async({}, 1, timeout=2))[:2] == (1, 2)
    else:

        @trace_flow()
        class Plain(engine.Flow):
            def run(self, shared, extra, *, timeout=None):
                return extra, timeout, super().run(shared)

        assert Plain(start=engine.Node()).run({}, 1, timeout=2)[:2] == (1, 2)

    expect(seen.one()).outcome("completed")


def test_defect_23_a_node_is_not_changed_by_a_traced_flow(engine, seen):
    """A node shared by two traced flows is in both traces, and alone it is untraced as ever."""

    class Shared(engine.Node):
        pass

    node = Shared()
    before = dict(vars(node))
    for name in "AB":
        trace_flow(flow_name=name)(engine.Flow(start=node)).run({})
    assert vars(node).keys() == before.keys()
    node.run({})

    assert not hasattr(node, "_pocketflow_traced")
    for name in "AB":
        expect(seen.one(name)).children(["Shared"])
    assert len(seen) == 2


def test_defect_24_nodes_connected_later_are_traced(engine, seen):
    """A second run shows the node that was connected after the first."""

    class First(engine.AsyncNode):
        pass

    class Later(engine.AsyncNode):
        pass

    @trace_flow()
    class Growing(engine.AsyncFlow):
        pass

    first = First()
    flow = Growing(start=first)
    run(flow, {})
    first >> Later()
    run(flow, {})

    assert [[child.name for child in trace.root.children] for trace in seen.all()] == [
        ["First"],
        ["First", "Later"],
    ]


def test_defect_24_a_traced_subclass_of_a_traced_class_is_one_closed_trace(engine, seen):
    """Both decorators at work: one trace, everything in it ended."""

    @trace_flow(flow_name="A")
    class Base(engine.AsyncFlow):
        pass

    @trace_flow(flow_name="B")
    class Derived(Base):
        pass

    run(Derived(start=engine.AsyncNode()), {})

    trace = seen.one("B")
    assert {span.outcome for span in trace.walk()} == {"completed"}
    assert len(trace.find_all("AsyncNode")) == 1
