"""Depth and length: nesting to 300, loops of 20,000 steps, long chains, big batches."""

import asyncio
import itertools

import pytest
from engine_under_test import AsyncBatchFlow, AsyncFlow, AsyncNode, BatchFlow, Flow, Node


class Step(Node):
    """Counts down in shared and loops."""

    def post(self, shared, prep_res, exec_res):
        shared["left"] -= 1
        return "again" if shared["left"] else "end"


class AsyncStep(AsyncNode):
    """The same, awaited."""

    async def post_async(self, shared, prep_res, exec_res):
        shared["left"] -= 1
        return "again" if shared["left"] else "end"


def run(runnable, shared):
    if isinstance(runnable, AsyncNode):
        return asyncio.run(runnable.run_async(shared))
    return runnable.run(shared)


@pytest.mark.parametrize("node", [Step, AsyncStep])
@pytest.mark.parametrize("depth", [10, 100, 300])
def test_flows_nest_deep(node, depth):
    """Three hundred flows inside one another run within Python's own recursion limit."""
    flow = node()
    for _ in range(depth):
        flow = (AsyncFlow if node is AsyncStep else Flow)(flow)
    shared = {"left": 1}

    assert run(flow, shared) == "end"
    assert shared["left"] == 0


@pytest.mark.parametrize("depth", [300])
def test_async_flows_nest_deep_around_a_sync_node(depth):
    """The same with a sync node inside."""
    flow = Step()
    for _ in range(depth):
        flow = AsyncFlow(flow)

    assert run(flow, {"left": 1}) == "end"


@pytest.mark.parametrize(("flow_class", "depth"), [(BatchFlow, 200), (AsyncBatchFlow, 200)])
def test_batch_flows_nest_deep(flow_class, depth):
    """Batch flows inside one another merge their params all the way down."""
    seen = []

    class See(Node):
        def prep(self, shared):
            seen.append(len(self.params))

    flow = See()
    for level in range(depth):
        flow = flow_class(flow)
        flow.prep = lambda shared, level=level: [{level: level}]
        flow.prep_async = _giving([{level: level}])

    run(flow, {})

    assert seen == [depth]


def _giving(value):
    async def prep_async(shared):
        return value

    return prep_async


@pytest.mark.parametrize(
    ("node", "flow_class"), [(Step, Flow), (Step, AsyncFlow), (AsyncStep, AsyncFlow)]
)
def test_loops_run_long(node, flow_class):
    """A loop of 20,000 steps ends like any other: there is no limit and no recursion."""
    start = node()
    start - "again" >> start
    start - "end" >> Node()
    shared = {"left": 20_000}

    run(flow_class(start), shared)

    assert shared["left"] == 0


@pytest.mark.parametrize("flow_class", [Flow, AsyncFlow])
def test_chains_run_long(flow_class):
    """A chain of 5,000 different nodes runs through."""
    seen = []

    class Link(Node):
        def exec(self, prep_res):
            seen.append(self.index)

    nodes = [Link() for _ in range(5000)]
    for index, node in enumerate(nodes):
        node.index = index
    for left, right in itertools.pairwise(nodes):
        left >> right

    run(flow_class(nodes[0]), {})

    assert seen == list(range(5000))


@pytest.mark.parametrize("flow_class", [BatchFlow, AsyncBatchFlow])
def test_batches_run_long(flow_class):
    """A batch of 5,000 items runs through."""
    flow, shared = flow_class(Step()), {"left": 5000}
    items = [{}] * 5000
    flow.prep = lambda shared: items
    flow.prep_async = _giving(items)

    run(flow, shared)

    assert shared["left"] == 0


@pytest.mark.parametrize("flow_class", [Flow, AsyncFlow])
def test_many_tries_are_no_recursion(flow_class):
    """5,000 tries of one exec need no stack."""
    calls = []

    class Stubborn(Node):
        def exec(self, prep_res):
            calls.append(1)
            if len(calls) < 5000:
                raise ValueError("no")

    run(flow_class(Stubborn(5000)), {})

    assert len(calls) == 5000
