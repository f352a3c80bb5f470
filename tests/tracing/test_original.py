"""Flows of the original `pocketflow`: what the trace of them shows."""

import asyncio
import copy
import pickle

import pytest

import pocketflow_async
from tests.tracing.original_kit import ORIGINALS, copy_of
from tracing import TracingConfig, trace_flow
from tracing.original import Gate


@pytest.fixture(params=ORIGINALS)
def pf(request):
    return ORIGINALS[request.param]


def flaky(pf, failures, **methods):
    """Make a sync node class that fails that often."""

    def execute(self, given):
        if self.cur_retry < failures:
            raise ValueError(f"try {self.cur_retry}")
        return "done"

    return type("Flaky", (pf.Node,), {"exec": execute, **methods})


def test_a_sync_flow_shows_its_nodes_and_their_phases(pf, traces, shape, phases):
    """Every node is a span that holds prep, exec and post (defects 4 and 8)."""

    class First(pf.Node):
        def prep(self, shared):
            return shared["text"]

        def exec(self, text):
            return text.upper()

        def post(self, shared, text, result):
            shared["text"] = result

    class Second(pf.Node):
        pass

    @trace_flow()
    class Mine(pf.Flow):
        pass

    first = First()
    first >> Second()
    assert Mine(first).run({"text": "a"}) is None

    root = traces.one()
    assert shape(root) == (
        "flow",
        "Mine",
        "completed",
        [("node", "First", "completed"), ("node", "Second", "completed")],
    )
    assert phases(root.children[0]) == ["prep completed", "exec completed", "post completed"]
    assert phases(root) == ["prep completed", "post completed"]


def test_inputs_outputs_and_actions_are_noted(pf, traces, value):
    """A node's span has what prep read, what exec gave and where post went."""

    class Upper(pf.Node):
        def prep(self, shared):
            return shared["text"]

        def exec(self, text):
            return text.upper()

        def post(self, shared, text, result):
            return "end"

    trace_flow(pf.Flow(Upper())).run({"text": "a"})

    (node,) = traces.one().children
    assert (value(node.input), value(node.output)) == ("a", "A")
    assert node.attributes == {"action": "end"}


def test_attempts_and_the_fallback_are_phases(pf, traces, phases):
    """One exec phase for each attempt with its wait, then the fallback (defects 2 and 27)."""
    node = flaky(pf, 9, exec_fallback=lambda self, given, exc: "instead")(2, 0.001)
    trace_flow(pf.Flow(node)).run({})

    (seen,) = traces.one().children
    assert phases(seen) == [
        "prep completed",
        "exec failed",
        "exec failed",
        "fallback completed",
        "post completed",
    ]
    assert [(phase.attempt, phase.wait) for phase in seen.phases[1:3]] == [(0, 0.001), (1, None)]


async def test_attempts_of_async_nodes_are_phases(pf, traces, phases):
    """The same of asynchronous nodes, whose own count HEAD shows and 0.0.3 does not."""

    class Flaky(pf.AsyncNode):
        async def exec_async(self, given):
            tries.append(getattr(self, "cur_retry", None))
            if len(tries) < 3:
                raise ValueError("again")

    tries = []
    await trace_flow(pf.AsyncFlow(Flaky(3))).run_async({})

    (seen,) = traces.one().children
    assert phases(seen)[1:4] == ["exec failed", "exec failed", "exec completed"]
    assert [phase.attempt for phase in seen.phases[1:4]] == [0, 1, 2]
    assert tries == ([0, 1, 2] if pf.__name__ == "pocketflow_head" else [None] * 3)


def test_the_default_fallback_is_no_phase(pf, traces, phases):
    """A node without a fallback of its own fails with its last attempt."""
    with pytest.raises(ValueError, match="try 0"):
        trace_flow(pf.Flow(flaky(pf, 9)())).run({})

    root = traces.one()
    assert root.outcome == "failed"
    assert phases(root.children[0]) == ["prep completed", "exec failed"]


@pytest.mark.parametrize("kind", ["BatchNode", "AsyncBatchNode", "AsyncParallelBatchNode"])
async def test_items_of_a_batch_are_spans(pf, kind, traces):
    """Each item has a span of its own with its attempts, all ended (defect 7)."""

    class Items(getattr(pf, kind)):
        def prep(self, shared):
            return [1, 2, 3, 4]

        async def prep_async(self, shared):
            return [1, 2, 3, 4]

        def exec(self, item):
            return item * 2

        async def exec_async(self, item):
            await asyncio.sleep(0)
            return item * 2

    await trace_flow(pf.AsyncFlow(Items())).run_async({})

    (node,) = traces.one().children
    assert [(item.kind, item.index, item.outcome) for item in node.children] == [
        ("item", place, "completed") for place in range(4)
    ]
    assert len({item.span_id for item in node.children}) == 4
    assert all([phase.kind for phase in item.phases] == ["exec"] for item in node.children)


@pytest.mark.parametrize("kind", ["BatchFlow", "AsyncBatchFlow", "AsyncParallelBatchFlow"])
async def test_rounds_of_a_batch_flow_are_spans(pf, kind, traces, shape, value):
    """Each round is a span with its params, and holds its nodes (defect 1)."""
    seen = []

    class Sees(pf.Node):
        def prep(self, shared):
            seen.append(self.params)

    class Rounds(getattr(pf, kind)):
        def prep(self, shared):
            return [{"i": 1}, {"i": 2}]

        async def prep_async(self, shared):
            return [{"i": 1}, {"i": 2}]

    flow = trace_flow(Rounds(Sees()))
    await flow.run_async({}) if hasattr(flow, "run_async") else flow.run({})

    assert seen == [{"i": 1}, {"i": 2}]
    rounds = traces.one().children
    assert [shape(one) for one in rounds] == [
        ("item", "Rounds", "completed", [("node", "Sees", "completed")])
    ] * 2
    assert [value(one.input) for one in rounds] == [{"i": 1}, {"i": 2}]


def test_nested_flows_are_spans(pf, traces, shape, phases):
    """A flow in a flow is a span with its own prep and post, and its nodes inside (defect 8)."""

    class Inner(pf.Flow):
        pass

    class Leaf(pf.Node):
        pass

    trace_flow(pf.Flow(Inner(Leaf()))).run({})

    (inner,) = traces.one().children
    assert shape(inner) == ("flow", "Inner", "completed", [("node", "Leaf", "completed")])
    assert phases(inner) == ["prep completed", "post completed"]


def test_a_decorated_flow_inside_is_one_span(pf, traces, shape):
    """A traced class nested in another adds no second span and no second trace (defect 8)."""

    @trace_flow()
    class Inner(pf.Flow):
        pass

    trace_flow(pf.Flow(Inner(pf.Node()))).run({})

    assert shape(traces.one()) == (
        "flow",
        "Flow",
        "completed",
        [("flow", "Inner", "completed", [("node", "Node", "completed")])],
    )


async def test_one_flow_object_running_several_times_at_once(pf, traces):
    """Each run has a trace of its own with its own nodes (defects 5 and 6)."""

    class Waits(pf.AsyncNode):
        async def exec_async(self, given):
            await asyncio.sleep(0)

    first = Waits()
    first >> Waits() >> Waits()
    flow = trace_flow(pf.AsyncFlow(first))
    await asyncio.gather(*(flow.run_async({}) for _ in range(4)))

    assert [
        [(node.name, node.outcome) for node in tree.roots[0].children] for tree in traces.all()
    ] == [[("Waits", "completed")] * 3] * 4


async def test_a_coroutine_function_is_open_until_its_body_has_run(pf, traces, shape):
    """`@trace_flow` on `async def` holds the flow that its body runs (defect 20)."""

    @trace_flow()
    async def work():
        return await pf.AsyncFlow(pf.AsyncNode()).run_async({})

    await work()

    assert shape(traces.one()) == (
        "function",
        "work",
        "completed",
        [("flow", "AsyncFlow", "completed", [("node", "AsyncNode", "completed")])],
    )


async def test_further_arguments_of_an_overridden_run(pf, traces):
    """`run_async` may take more than `shared`, and run other flows too (defect 22)."""

    class Other(pf.AsyncFlow):
        pass

    @trace_flow()
    class Main(pf.AsyncFlow):
        async def run_async(self, shared, *, timeout):
            await super().run_async(shared)
            await Other(pf.AsyncNode()).run_async(shared)
            return timeout

    assert await Main(pf.AsyncNode()).run_async({}, timeout=3) == 3
    assert [child.name for child in traces.one().children] == ["AsyncNode", "Other"]


def test_nothing_is_left_on_nodes(pf, traces):
    """A node keeps its attributes; outside of traced flows it leaves no span (defect 23)."""
    node = pf.Node()
    trace_flow(pf.Flow(node)).run({})
    assert set(vars(node)) == {"params", "successors", "max_retries", "wait"}
    node.run({})
    pf.Flow(node).run({})

    assert len(traces.all()) == 1


def test_a_node_in_two_traced_flows_is_in_both_traces(pf, traces):
    """Sharing a node takes nothing from either flow (defect 23)."""
    node = pf.Node()
    for name in ("A", "B"):
        trace_flow(flow_name=name)(pf.Flow(node)).run({})

    assert [
        (tree.roots[0].name, [child.name for child in tree.roots[0].children])
        for tree in traces.all()
    ] == [("A", ["Node"]), ("B", ["Node"])]


def test_a_node_added_later_is_seen(pf, traces):
    """What is connected after the first run is in the trace of the second (defect 24)."""
    node = pf.Node()
    flow = trace_flow(pf.Flow(node))
    flow.run({})
    node >> pf.Node()
    flow.run({})

    assert [len(tree.roots[0].children) for tree in traces.all()] == [1, 2]


def test_a_subclass_decorated_again_is_one_ended_trace(pf, traces):
    """A decorated subclass of a decorated class has one span, ended, for one run (defect 24)."""

    @trace_flow()
    class Base(pf.Flow):
        pass

    @trace_flow()
    class Derived(Base):
        pass

    Derived(pf.Node()).run({})

    root = traces.one()
    assert (root.name, root.outcome) == ("Derived", "completed")
    assert [child.name for child in root.children] == ["Node"]


async def test_cancellation_is_one_attempt_and_says_so(pf, traces):
    """A cancelled node is not tried again; its spans are cancelled."""
    started = asyncio.Event()

    class Hangs(pf.AsyncNode):
        async def exec_async(self, given):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(trace_flow(pf.AsyncFlow(Hangs(3))).run_async({}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    root = traces.one()
    (node,) = root.children
    assert (root.outcome, node.outcome) == ("cancelled", "cancelled")
    assert [(phase.kind, phase.outcome) for phase in node.phases] == [
        ("prep", "completed"),
        ("exec", "cancelled"),
    ]


def test_nodes_that_override_private_methods_keep_their_spans(pf, traces, phases):
    """Phases under `super()._exec()`, `super()._run()` and an own `_orch` are seen."""

    class OwnExec(pf.Node):
        def _exec(self, given):
            return super()._exec(given)

    class OwnRun(pf.Node):
        def _run(self, shared):
            return super()._run(shared)

    class OwnOrch(pf.Flow):
        def _orch(self, shared, params=None):
            for node in self.made:
                copy.copy(node)._run(shared)

    first = OwnExec()
    first >> OwnRun() >> (own := OwnOrch())
    own.made = [pf.Node(), pf.Node()]
    trace_flow(pf.Flow(first)).run({})

    children = traces.one().children
    assert [child.name for child in children] == ["OwnExec", "OwnRun", "OwnOrch"]
    assert all(
        phases(child) == ["prep completed", "exec completed", "post completed"]
        for child in (*children[:2], *children[2].children)
    )
    assert len(children[2].children) == 2


def test_half_migrated_programs(pf, traces, phases):
    """Original nodes in a flow of this engine, and the other way round, show their phases."""
    trace_flow(pf.Flow(pocketflow_async.Node())).run({})
    trace_flow(pocketflow_async.Flow(pf.Node())).run({})

    for tree in traces.all():
        (node,) = tree.roots[0].children
        assert (node.kind, node.name) == ("node", "Node")
        assert phases(node) == ["prep completed", "exec completed", "post completed"]


def test_a_trace_that_is_left_out_runs_the_original(pf, traces):
    """With a sample rate of 0 nothing is recorded, and the original functions are called."""
    kept = []

    class Sees(pf.Node):
        def prep(self, shared):
            kept.append(self._exec.__func__)

    trace_flow(TracingConfig(sample_rate=0.0))(pf.Flow(Sees())).run({})
    trace_flow(TracingConfig())(pf.Flow(Sees())).run({})

    assert [found.__code__.co_filename.endswith("original_sync.py") for found in kept] == [
        False,
        True,
    ]
    assert len(traces.all()) == 1


class Picklable(ORIGINALS["0.0.3"].Flow):
    pass


def test_traced_flows_and_nodes_pickle_and_copy(traces):
    """Twins of a traced flow of the original run, traced; visits' copies pickle too."""
    pf = ORIGINALS["0.0.3"]
    flow = trace_flow(Picklable(pf.Node()))
    flow.run({})
    for twin in (pickle.loads(pickle.dumps(flow)), copy.deepcopy(flow)):
        twin.run({})

    assert [len(tree.roots[0].children) for tree in traces.all()] == [1, 1, 1]
    assert pickle.loads(pickle.dumps(Gate(len, max))) is len


def test_a_copy_of_the_file_is_an_original_too(traces):
    """PocketFlow is often copied into a project; its flows are seen there as well."""
    pf = copy_of("our_flow")
    trace_flow(pf.Flow(pf.Node())).run({})

    assert [child.name for child in traces.one().children] == ["Node"]


def test_a_method_that_is_not_known_is_left_alone(traces, phases):
    """A changed `_exec` runs as it is: its node has a span, without attempts."""
    pf = copy_of(
        "changed_flow", ("try: return self.exec(prep_res)", "try: return self.go(prep_res)")
    )
    before = vars(pf.Node)["_exec"]

    class Goes(pf.Node):
        def go(self, given):
            return "went"

        def post(self, shared, given, result):
            return result

    assert trace_flow(pf.Flow(Goes())).run({}) == "went"
    assert vars(pf.Node)["_exec"] is before
    assert phases(traces.one().children[0]) == ["prep completed", "post completed"]


def test_version_0_0_1_is_left_alone(traces):
    """Its flows go on in another way, so they run as they are: the run alone is seen."""
    pf = copy_of("flow_0_0_1", ("def next(self", "def add_successor(self"))
    trace_flow(pf.Flow(pf.Node())).run({})

    assert traces.one().children == ()
    assert not [found for found in vars(pf.Flow).values() if isinstance(found, Gate)]
