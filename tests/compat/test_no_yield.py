"""The engine itself never gives up the loop between a node's post and the next node's prep."""

import asyncio

import pytest
from engine_under_test import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    BatchNode,
    Flow,
    Node,
)


class Ticker:
    """Counts the turns of the loop since `wind`: any suspension in between lets it tick."""

    def __init__(self):
        self.ticks = 0

    def wind(self):
        self.ticks = 0
        asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self):
        self.ticks += 1


class SyncNode(Node):
    """Winds the ticker in post, reads it in prep."""

    def prep(self, shared):
        shared["ticks"].append(shared["ticker"].ticks)

    def post(self, shared, prep_res, exec_res):
        shared["ticker"].wind()


class AwaitingNode(AsyncNode):
    """The same for an async node, which really waits in exec."""

    async def prep_async(self, shared):
        shared["ticks"].append(shared["ticker"].ticks)

    async def exec_async(self, prep_res):
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def post_async(self, shared, prep_res, exec_res):
        await asyncio.sleep(0)
        shared["ticker"].wind()


def in_sync_flow():
    return Flow(SyncNode())


def in_async_flow():
    return AsyncFlow(AwaitingNode())


def in_two_flows():
    return AsyncFlow(AsyncFlow(AwaitingNode()))


MAKERS = [SyncNode, AwaitingNode, in_sync_flow, in_async_flow, in_two_flows]


@pytest.mark.parametrize("second", MAKERS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("first", MAKERS, ids=lambda m: m.__name__)
async def test_no_turn_of_the_loop_between_post_and_prep(first, second):
    """Whatever follows whatever, nested or not, the next prep runs before anything else may."""
    shared = {"ticker": Ticker(), "ticks": []}
    start = first()
    start >> second()

    await AsyncFlow(start).run_async(shared)

    assert shared["ticks"] == [0, 0]


@pytest.mark.parametrize("flow_class", [AsyncBatchFlow, AsyncFlow])
@pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)
async def test_no_turn_of_the_loop_between_rounds(flow_class, maker):
    """Nor between two rounds of a loop, nor between two items of a sequential batch flow."""
    shared = {"ticker": Ticker(), "ticks": []}
    if flow_class is AsyncBatchFlow:
        flow = AsyncBatchFlow(maker())

        async def prep_async(shared):
            return [{}] * 3

        flow.prep_async = prep_async
    else:
        start = maker()
        start >> maker() >> maker()
        flow = AsyncFlow(start)

    await flow.run_async(shared)

    assert shared["ticks"] == [0, 0, 0]


class Write(AsyncNode):
    """Writes its branch's number into the one shared place."""

    async def exec_async(self, prep_res):
        for _ in range(self.params["i"] % 3 + 1):
            await asyncio.sleep(0)

    async def post_async(self, shared, prep_res, exec_res):
        shared["current"] = self.params["i"]


class Read(AsyncNode):
    """Reads the one shared place first thing."""

    async def prep_async(self, shared):
        shared["right"].append(shared["current"] == self.params["i"])


class ReadSync(Node):
    """The same for a sync node."""

    def prep(self, shared):
        shared["right"].append(shared["current"] == self.params["i"])


@pytest.mark.parametrize(
    "reader",
    [Read, ReadSync, lambda: AsyncFlow(Read()), lambda: Flow(ReadSync())],
    ids=["async", "sync", "in AsyncFlow", "in Flow"],
)
async def test_parallel_branches_may_hand_over_in_shared(reader):
    """Branches that all use one key of shared from post to prep never see each other's value."""

    class Branches(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{"i": i} for i in range(25)]

    start = Write()
    start >> reader()
    shared = {"current": None, "right": []}

    await Branches(start).run_async(shared)

    assert shared["right"] == [True] * 25


async def test_concurrent_runs_may_hand_over_in_shared():
    """The same for concurrent runs of one flow over one shared."""

    class Numbered(AsyncFlow):
        async def prep_async(self, shared):
            shared["next"] += 1
            self.set_params({"i": shared["next"]})

    start = Write()
    start >> Read()
    shared = {"current": None, "right": [], "next": 0}
    flows = [Numbered(start) for _ in range(10)]

    await asyncio.gather(*(flow.run_async(shared) for flow in flows))

    assert shared["right"] == [True] * 10


class Plain(AsyncNode):
    """Async phases that wait for nothing."""

    async def prep_async(self, shared):
        return [1, 2]

    async def post_async(self, shared, prep_res, exec_res):
        shared.append(exec_res)


class PlainBatch(AsyncBatchNode):
    """The same in a batch."""

    async def prep_async(self, shared):
        return [1, 2]

    async def exec_async(self, item):
        if self.max_retries > 1 and not shared_failures:
            shared_failures.append(item)
            raise ValueError(item)
        return item

    async def post_async(self, shared, prep_res, exec_res):
        shared.append(exec_res)


shared_failures: list[int] = []


class PlainSyncBatch(BatchNode):
    """A sync batch for an AsyncFlow."""

    def post(self, shared, prep_res, exec_res):
        shared.append(exec_res)


class PlainBatchFlow(AsyncBatchFlow):
    """Two items."""

    async def prep_async(self, shared):
        return [{}, {}]


@pytest.mark.parametrize(
    ("make", "results"),
    [
        (Plain, [None]),
        (PlainBatch, [[1, 2]]),
        (lambda: PlainBatch(2), [[1, 2]]),
        (lambda: AsyncFlow(Plain()), [None]),
        (lambda: AsyncFlow(PlainSyncBatch()), [[]]),
        (lambda: AsyncFlow(AsyncFlow(Plain())), [None]),
        (lambda: PlainBatchFlow(Plain()), [None, None]),
        (lambda: PlainBatchFlow(AsyncFlow(PlainBatch())), [[1, 2], [1, 2]]),
    ],
    ids=["node", "batch", "retry", "flow", "sync node", "nested", "batch flow", "nested batch"],
)
async def test_a_run_whose_phases_never_wait_never_suspends(make, results):
    """Driven by hand, such a run is over at its first step: the engine has no wait of its own."""
    shared_failures.clear()
    shared = []
    with pytest.raises(StopIteration):
        make().run_async(shared).send(None)

    assert shared == results
