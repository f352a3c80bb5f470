"""AsyncFlow: sync and async nodes, flows in flows, and its own phases."""

import asyncio
import itertools
import threading

import pytest
from engine_under_test import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
)


class Sync(Node):
    """Appends its name and gives its action."""

    def __init__(self, name, action=None):
        super().__init__()
        self.label, self.action = name, action

    def post(self, shared, prep_res, exec_res):
        shared.append(self.label)
        return self.action


class Async(AsyncNode):
    """Appends its name after a turn of the loop and gives its action."""

    def __init__(self, name, action=None):
        super().__init__()
        self.label, self.action = name, action

    async def post_async(self, shared, prep_res, exec_res):
        await asyncio.sleep(0)
        shared.append(self.label)
        return self.action


@pytest.mark.parametrize("order", ["AS", "SA", "ASA", "SAS", "SSAA", "AASS", "SASASA"])
async def test_sync_and_async_nodes_mix_in_any_order(order):
    """An AsyncFlow awaits async nodes and calls sync ones, in the order of the graph."""
    nodes = [(Async if c == "A" else Sync)(f"{c}{i}") for i, c in enumerate(order)]
    for left, right in itertools.pairwise(nodes):
        left >> right
    shared = []

    await AsyncFlow(nodes[0]).run_async(shared)

    assert shared == [f"{c}{i}" for i, c in enumerate(order)]


@pytest.mark.parametrize("node", [Sync, Async])
async def test_branches_of_both_kinds_route_by_action(node):
    """Actions of sync and async nodes route alike."""
    shared = []
    start = node("start", "go")
    start - "go" >> Async("async")
    start - "stop" >> Sync("sync")

    await AsyncFlow(start).run_async(shared)

    assert shared == ["start", "async"]


@pytest.mark.parametrize(
    ("inner", "name"),
    [(Flow, "sync"), (AsyncFlow, "async")],
    ids=["Flow in AsyncFlow", "AsyncFlow in AsyncFlow"],
)
async def test_flows_of_either_kind_nest_in_an_async_flow(inner, name):
    """A nested Flow is called, a nested AsyncFlow awaited; both route by their last action."""
    shared = []
    nested = inner(Sync("in", "found"))
    nested - "found" >> Async("out")

    await AsyncFlow(nested).run_async(shared)

    assert shared == ["in", "out"]


@pytest.mark.parametrize("batch_flow", [BatchFlow, AsyncBatchFlow, AsyncParallelBatchFlow])
async def test_batch_flows_of_every_kind_nest_in_an_async_flow(batch_flow):
    """Batch flows are nodes of an AsyncFlow like any other."""
    seen = []

    class Note(Node):
        def prep(self, shared):
            seen.append(self.params["i"])

    items = [{"i": 1}, {"i": 2}]
    inner = batch_flow(Note())
    inner.prep = lambda shared: items

    async def prep_async(shared):
        return items

    inner.prep_async = prep_async
    inner >> Sync("after")
    shared = []
    await AsyncFlow(inner).run_async(shared)

    assert (seen, shared) == ([1, 2], ["after"])


@pytest.mark.parametrize("node", [BatchNode, AsyncBatchNode])
async def test_batch_nodes_run_in_an_async_flow(node):
    """Sync and async batch nodes are nodes of an AsyncFlow."""

    class SyncDouble(BatchNode):
        def prep(self, shared):
            return shared["items"]

        def exec(self, item):
            return item * 2

        def post(self, shared, prep_res, exec_res):
            shared["out"] = exec_res

    class AsyncDouble(AsyncBatchNode):
        async def prep_async(self, shared):
            return shared["items"]

        async def exec_async(self, item):
            return item * 2

        async def post_async(self, shared, prep_res, exec_res):
            shared["out"] = exec_res

    shared = {"items": [1, 2]}
    await AsyncFlow(SyncDouble() if node is BatchNode else AsyncDouble()).run_async(shared)

    assert shared["out"] == [2, 4]


async def test_sync_phases_of_an_async_flow_are_ignored_by_run_async():
    """`run_async` uses prep_async and post_async; prep and post on an AsyncFlow never run."""
    ran = []

    class Both(AsyncFlow):
        def prep(self, shared):
            ran.append("prep")

        def post(self, shared, prep_res, exec_res):
            ran.append("post")

        async def prep_async(self, shared):
            ran.append("prep_async")
            return "prepared"

        async def post_async(self, shared, prep_res, exec_res):
            ran.append("post_async")
            return (prep_res, exec_res)

    assert await Both(Sync("n", "last")).run_async([]) == ("prepared", "last")
    assert ran == ["prep_async", "post_async"]


async def test_a_sync_node_blocks_the_loop_by_default():
    """A sync node runs in the loop's own thread: no other task moves meanwhile."""
    events = []

    class Blocking(Node):
        def exec(self, prep_res):
            asyncio.get_running_loop().call_soon(events.append, "other")
            events.append(threading.get_ident())

        def post(self, shared, prep_res, exec_res):
            events.append("post")

    await AsyncFlow(Blocking()).run_async({})
    assert events == [threading.get_ident(), "post"]
    await asyncio.sleep(0)
    assert events[2:] == ["other"]


async def test_a_sync_node_s_wait_blocks_too(monkeypatch):
    """A sync node's `wait` is `time.sleep`, also in an AsyncFlow."""
    import time

    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)

    class Flaky(Node):
        def exec(self, prep_res):
            if self.cur_retry < 2:
                raise ValueError("no")

    await AsyncFlow(Flaky(3, 0.5)).run_async({})

    assert slept == [0.5, 0.5]


async def test_an_async_node_s_wait_lets_others_run():
    """An async node's `wait` is awaited: the loop goes on meanwhile."""
    moved = asyncio.Event()
    tries = []

    class Flaky(AsyncNode):
        async def exec_async(self, prep_res):
            tries.append(moved.is_set())
            if len(tries) == 1:
                asyncio.get_running_loop().call_soon(moved.set)
                raise ValueError("no")

    await AsyncFlow(Flaky(2, 0.001)).run_async({})

    assert tries == [False, True]


async def test_a_node_picked_by_isinstance_of_async_node_is_awaited():
    """A class that is both (AsyncNode first) is awaited: `isinstance(x, AsyncNode)` decides."""

    class Two(AsyncNode):
        def _run(self, shared):
            shared.append("_run")

        async def _run_async(self, shared):
            shared.append("_run_async")

    shared = []
    await AsyncFlow(Two()).run_async(shared)

    assert shared == ["_run_async"]


async def test_an_error_in_an_async_flows_own_phase_leaves_as_it_is():
    """Errors in prep_async and post_async of a flow reach the caller unchanged."""
    error = ValueError("phase")

    async def fail(*args):
        raise error

    for phase in ("prep_async", "post_async"):
        flow = AsyncFlow(Sync("n"))
        setattr(flow, phase, fail)
        with pytest.raises(ValueError, match="phase") as caught:
            await flow.run_async([])
        assert caught.value is error


async def test_cancelling_a_flow_stops_it_at_once():
    """A cancelled flow runs no further node and no post."""
    started, shared = asyncio.Event(), []

    class Wait(AsyncNode):
        async def exec_async(self, prep_res):
            started.set()
            await asyncio.Event().wait()

    start = Async("first")
    start >> Wait() >> Async("never")
    task = asyncio.create_task(AsyncFlow(AsyncFlow(start)).run_async(shared))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert shared == ["first"]


async def test_one_sub_flow_at_several_places_and_depths():
    """One AsyncFlow object may stand in several places at once."""
    shared = []
    sub = AsyncFlow(Async("sub"))
    left, right = AsyncFlow(sub), AsyncFlow(AsyncFlow(sub))
    left >> Sync("mid") >> right

    await AsyncFlow(left).run_async(shared)

    assert shared == ["sub", "mid", "sub"]


def test_an_async_flow_takes_a_start_and_nothing_else_by_position():
    """`AsyncFlow(n, 3)` is a TypeError: flows have no retries."""
    for cls in (AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow, Flow, BatchFlow):
        with pytest.raises(TypeError):
            cls(Sync("n"), 3)
