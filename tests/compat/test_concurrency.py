"""Several runs of one flow, or of one node, at the same time."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_under_test import (
    AsyncBatchFlow,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    Flow,
    Node,
)


class Keep(AsyncNode):
    """Keeps on self what it was given and checks it after every wait."""

    async def prep_async(self, shared):
        self.mine = shared["id"]
        await asyncio.sleep(0)
        return shared["id"]

    async def exec_async(self, prep_res):
        for _ in range(prep_res % 4):
            await asyncio.sleep(0)
        return self.mine

    async def post_async(self, shared, prep_res, exec_res):
        shared.setdefault("seen", []).append((prep_res, exec_res, self.mine))


@pytest.mark.parametrize("runs", [2, 3, 50])
async def test_concurrent_runs_of_one_flow_keep_their_attributes_apart(runs):
    """Each run visits copies of its own: nobody sees another run's attributes."""
    start = Keep()
    start >> Keep() >> AsyncFlow(Keep())
    flow, shareds = AsyncFlow(start), [{"id": i} for i in range(runs)]

    await asyncio.gather(*(flow.run_async(shared) for shared in shareds))

    assert [shared["seen"] for shared in shareds] == [[(i, i, i)] * 3 for i in range(runs)]


async def test_concurrent_runs_of_one_node_share_the_node():
    """A node run by itself is not copied: runs at the same time share its attributes."""
    node, seen = Keep(), []
    shareds = [{"id": i} for i in range(3)]
    await asyncio.gather(*(node.run_async(shared) for shared in shareds))
    for shared in shareds:
        ((prep_res, _, mine),) = shared["seen"]
        seen.append((prep_res, mine))

    assert seen == [(0, 2), (1, 2), (2, 2)]


async def test_concurrent_runs_have_params_dicts_of_their_own():
    """A run that changes its params changes no other run's."""
    seen = []

    class Change(AsyncNode):
        async def prep_async(self, shared):
            self.params["id"] = shared
            await asyncio.sleep(0)

        async def post_async(self, shared, prep_res, exec_res):
            seen.append((shared, self.params["id"]))

    flow = AsyncFlow(Change())
    flow.set_params({"k": 1})
    await asyncio.gather(*(flow.run_async(i) for i in range(5)))

    assert seen == [(i, i) for i in range(5)]
    assert flow.params == {"k": 1}


async def test_one_failing_run_leaves_the_others_alone():
    """An error in one run is that run's only."""

    class Odd(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(0)

        async def post_async(self, shared, prep_res, exec_res):
            if shared % 2:
                raise ValueError(shared)
            return str(shared)

    flow = AsyncFlow(Odd())
    results = await asyncio.gather(*(flow.run_async(i) for i in range(6)), return_exceptions=True)

    assert [r if isinstance(r, str) else r.args[0] for r in results] == ["0", 1, "2", 3, "4", 5]


async def test_cancelling_one_run_leaves_the_others_alone():
    """Cancelling one of two runs of a flow ends that one."""
    gate, waiting = asyncio.Event(), asyncio.Barrier(3)

    class Wait(AsyncNode):
        async def exec_async(self, prep_res):
            await waiting.wait()
            await gate.wait()

        async def post_async(self, shared, prep_res, exec_res):
            return "done"

    flow = AsyncFlow(Wait())
    first, second = (asyncio.create_task(flow.run_async({})) for _ in range(2))
    await waiting.wait()
    first.cancel()
    gate.set()

    assert await second == "done"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_retries_of_concurrent_runs_of_one_flow_do_not_mix():
    """Every run makes its own number of tries."""

    class Failing(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(0)
            self.params["tries"].append(1)
            raise ValueError("no")

        async def exec_fallback_async(self, prep_res, exc):
            return len(self.params["tries"])

        async def post_async(self, shared, prep_res, exec_res):
            return str(exec_res)

    class Fresh(AsyncFlow):
        async def _orch_async(self, shared, params=None):
            return await super()._orch_async(shared, {"tries": []})

    flow = Fresh(Failing(3))

    assert await asyncio.gather(*(flow.run_async({}) for _ in range(20))) == ["3"] * 20


@pytest.mark.parametrize("base", [AsyncBatchFlow, AsyncParallelBatchFlow])
async def test_concurrent_runs_of_one_batch_flow(base):
    """Batch flows can run concurrently as well."""

    class Items(base):
        async def prep_async(self, shared):
            return [{"i": i} for i in range(3)]

    class Add(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            await asyncio.sleep(0)
            shared.append(self.params["i"])

    flow, shareds = Items(Add()), [[], [], []]
    await asyncio.gather(*(flow.run_async(shared) for shared in shareds))

    assert shareds == [[0, 1, 2]] * 3


async def test_a_flow_may_run_another_flow_from_inside_a_node():
    """A node may call a flow's `run` or `run_async` itself."""

    class Inner(Node):
        def post(self, shared, prep_res, exec_res):
            shared.append(dict(self.params))
            return "inner"

    class Caller(AsyncNode):
        async def exec_async(self, prep_res):
            flow = AsyncFlow(Inner())
            flow.set_params({"own": 1})
            return [await flow.run_async(self.params["log"]), Flow(Inner()).run(self.params["log"])]

        async def post_async(self, shared, prep_res, exec_res):
            return tuple(exec_res)

    outer, log = AsyncFlow(Caller()), []
    outer.set_params({"log": log})

    assert await outer.run_async({}) == ("inner", "inner")
    assert log == [{"own": 1}, {}]


def test_one_flow_may_run_in_several_threads():
    """A sync flow can run in many threads at once, each with copies of its own."""
    barrier = threading.Barrier(8)

    class KeepSync(Node):
        def prep(self, shared):
            self.mine = shared
            barrier.wait()

        def post(self, shared, prep_res, exec_res):
            return self.mine == shared

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(Flow(KeepSync()).run, range(1, 9)))

    assert results == [True] * 8


def test_one_async_flow_may_run_in_several_loops_at_once():
    """An async flow holds nothing of a loop: threads may each run it in a loop of their own."""
    flow = AsyncFlow(Keep())

    def run(i):
        shared = {"id": i}
        asyncio.run(flow.run_async(shared))
        return shared["seen"]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(16)))

    assert results == [[(i, i, i)] for i in range(16)]


def test_one_async_flow_may_run_in_one_loop_after_another():
    """A flow object outlives the loops it ran in."""
    flow = AsyncFlow(Keep())

    for i in range(3):
        shared = {"id": i}
        asyncio.run(flow.run_async(shared))
        assert shared["seen"] == [(i, i, i)]
