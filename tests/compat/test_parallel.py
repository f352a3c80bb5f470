"""The parallel batches: all at once, results in order, and what failure and cancellation do."""

import asyncio
import contextvars

import pytest
from engine_under_test import (
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    Node,
)


def parallel(exec_async, items, *args, post=None):
    """A parallel batch node over *items* whose post gives the results."""

    class Made(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return items

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    Made.exec_async = exec_async
    return Made(*args)


def parallel_flow(node, items):
    """A parallel batch flow over *items* that starts at *node*."""

    class Made(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return items

    return Made(node)


@pytest.mark.parametrize("count", [1, 2, 50, 1000])
async def test_all_items_are_under_way_at_once(count):
    """Nothing limits how many run: every item waits for all the others."""
    barrier = asyncio.Barrier(count)

    async def exec_async(self, item):
        await barrier.wait()
        return item

    assert await parallel(exec_async, range(count)).run_async({}) == list(range(count))


async def test_results_come_in_the_order_of_the_items():
    """Who finishes first does not matter."""
    gates = [asyncio.Event() for _ in range(4)]
    finished = []

    async def exec_async(self, item):
        if item < 3:
            await gates[item + 1].wait()
        finished.append(item)
        gates[item].set()
        return item * 10

    assert await parallel(exec_async, range(4)).run_async({}) == [0, 10, 20, 30]
    assert finished == [3, 2, 1, 0]


async def test_items_start_in_order():
    """The first steps of the items run in the order of the batch, each up to its first wait."""
    events = []

    async def exec_async(self, item):
        events.append(f"start {item}")
        await asyncio.sleep(0)
        events.append(f"end {item}")

    await parallel(exec_async, "abc").run_async({})

    assert events == [*("start a", "start b", "start c"), *("end a", "end b", "end c")]


async def test_a_generator_is_drawn_whole_before_the_first_item_starts():
    """Without a limit the batch is known before it starts."""
    events = []

    def draw():
        for item in "ab":
            events.append(f"draw {item}")
            yield item

    async def exec_async(self, item):
        events.append(f"exec {item}")

    await parallel(exec_async, draw()).run_async({})

    assert events == ["draw a", "draw b", "exec a", "exec b"]


async def test_each_item_has_a_context_of_its_own():
    """A ContextVar set in one item is seen neither by its siblings nor afterwards."""
    var = contextvars.ContextVar("var", default="outside")

    async def exec_async(self, item):
        before = var.get()
        var.set(item)
        await asyncio.sleep(0)
        return before, var.get()

    result = await parallel(exec_async, "ab").run_async({})

    assert result == [("outside", "a"), ("outside", "b")]
    assert var.get() == "outside"


async def test_each_item_sees_the_context_of_the_run():
    """What the caller or prep set is seen in every item."""
    var = contextvars.ContextVar("var", default="unset")

    async def exec_async(self, item):
        return var.get()

    node = parallel(exec_async, "ab")
    inner = node.prep_async

    async def prep_async(shared):
        var.set("prep")
        return await inner(shared)

    node.prep_async = prep_async

    assert await node.run_async({}) == ["prep", "prep"]


async def test_items_see_each_others_changes_of_self():
    """There is one self: siblings share its attributes while they run."""
    ready = asyncio.Event()

    async def exec_async(self, item):
        if item == "writer":
            self.message = "hello"
            ready.set()
            return None
        await ready.wait()
        return self.message

    assert await parallel(exec_async, ["reader", "writer"]).run_async({}) == ["hello", None]


async def test_one_items_fallback_does_not_disturb_the_others():
    """Retries and fallbacks of one item leave its siblings alone."""

    async def exec_async(self, item):
        await asyncio.sleep(0)
        if item % 2:
            raise ValueError(item)
        return item

    node = parallel(exec_async, range(6), 3)

    async def fallback(item, exc):
        await asyncio.sleep(0)
        return f"fell {exc.args[0]}"

    node.exec_fallback_async = fallback

    assert await node.run_async({}) == [0, "fell 1", 2, "fell 3", 4, "fell 5"]


async def test_the_error_that_happens_first_is_the_one_raised():
    """Of several failures the first in time reaches the caller, unwrapped, as the object it is."""
    errors = {"slow": ValueError("slow"), "fast": KeyError("fast")}
    failed = asyncio.Event()

    async def exec_async(self, item):
        if item == "slow":
            await failed.wait()
        failed.set()
        raise errors[item]

    with pytest.raises(KeyError) as caught:
        await parallel(exec_async, ["slow", "fast"]).run_async({})

    assert caught.value is errors["fast"]


async def test_no_post_after_a_failed_item():
    """A failed parallel batch never reaches post, and the flow stops there."""
    ran = []

    async def exec_async(self, item):
        raise ValueError("no")

    async def post_async(shared, prep_res, exec_res):
        ran.append("post")

    node = parallel(exec_async, [1])
    node.post_async = post_async
    node >> AsyncNode()
    with pytest.raises(ValueError, match="no"):
        await AsyncFlow(node).run_async({})

    assert ran == []


async def cancelled_run(shape, ended):
    """Start three items that wait for ever, cancel the run once all do, and wait for its end."""
    started = asyncio.Barrier(4)

    async def wait(self, item):
        try:
            await started.wait()
            await asyncio.Event().wait()
        finally:
            for _ in range(5 * item):
                await asyncio.sleep(0)
            ended.append(item)

    class Branch(AsyncNode):
        async def exec_async(self, prep_res):
            await wait(self, self.params["i"])

    branches = [{"i": i} for i in range(3)]
    run = parallel(wait, range(3)) if shape == "node" else parallel_flow(Branch(), branches)
    task = asyncio.create_task(run.run_async({}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("shape", ["node", "flow"])
async def test_cancelling_the_run_cancels_every_item(shape):
    """When the caller is cancelled each item sees CancelledError and may clean up."""
    ended = []
    await cancelled_run(shape, ended)
    if running := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(running)

    assert sorted(ended) == [0, 1, 2]


@pytest.mark.fixed("A4.6: siblings run on detached")
@pytest.mark.parametrize("shape", ["node", "flow"])
async def test_a_cancelled_run_ends_after_all_its_items(shape):
    """When the cancelled run is over each item has ended: nothing runs on."""
    ended = []
    await cancelled_run(shape, ended)

    assert sorted(ended) == [0, 1, 2]


@pytest.mark.parametrize("shape", ["node", "flow"])
async def test_an_item_that_cancels_itself_cancels_the_run(shape):
    """CancelledError raised inside an item is not swallowed."""

    async def cancelled(self, item):
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    class Branch(AsyncNode):
        exec_async = cancelled

    node = parallel(cancelled, [1, 2]) if shape == "node" else parallel_flow(Branch(), [{"i": 1}])
    with pytest.raises(asyncio.CancelledError):
        await node.run_async({})


async def test_an_item_may_raise_a_base_exception():
    """A BaseException of the user's own reaches the caller as it is."""

    class Stop(BaseException):
        pass

    stop = Stop("now")

    async def exec_async(self, item):
        raise stop

    with pytest.raises(Stop) as caught:
        await parallel(exec_async, [1], 3).run_async({})

    assert caught.value is stop


async def test_branches_of_a_parallel_flow_run_at_once():
    """All branches are under way at the same time."""
    barrier = asyncio.Barrier(20)
    seen = []

    class Meet(AsyncNode):
        async def exec_async(self, prep_res):
            await barrier.wait()

        async def post_async(self, shared, prep_res, exec_res):
            seen.append(self.params["i"])

    await parallel_flow(Meet(), [{"i": i} for i in range(20)]).run_async({})

    assert sorted(seen) == list(range(20))


@pytest.mark.fixed("PocketFlow leaves coroutines behind that were never awaited", strict=False)
async def test_an_item_that_is_no_mapping_is_found_before_any_branch_starts():
    """The params of all branches are merged first: a wrong item fails the run with nothing done."""
    ran = []

    class Ran(Node):
        def prep(self, shared):
            ran.append(self.params)

    with pytest.raises(TypeError, match="'int' object is not a mapping"):
        await parallel_flow(Ran(), [{"i": 1}, 5]).run_async({})

    assert ran == []


async def test_params_are_merged_before_any_branch_starts():
    """A branch that changes the flow's own params changes no other branch's."""
    seen = []

    class Change(Node):
        def prep(self, shared):
            seen.append(dict(self.params))
            shared.params["late"] = True

    flow = parallel_flow(Change(), [{"i": 1}, {"i": 2}])
    flow.set_params({"k": 0})
    await flow.run_async(flow)

    assert seen == [{"k": 0, "i": 1}, {"k": 0, "i": 2}]


async def test_branches_have_node_copies_of_their_own():
    """What a branch keeps on self is its own, across waits."""
    seen = []

    class Keep(AsyncNode):
        async def prep_async(self, shared):
            self.mine = self.params["i"]
            await asyncio.sleep(0)

        async def exec_async(self, prep_res):
            await asyncio.sleep(0)
            seen.append(self.mine == self.params["i"])

    await parallel_flow(Keep(), [{"i": i} for i in range(10)]).run_async({})

    assert seen == [True] * 10


async def test_branches_have_params_of_their_own():
    """A branch that changes its params changes nobody else's, through all its nodes."""
    seen = []

    class Change(AsyncNode):
        async def prep_async(self, shared):
            self.params["double"] = self.params["i"] * 2
            await asyncio.sleep(0)

    class See(AsyncNode):
        async def prep_async(self, shared):
            await asyncio.sleep(0)
            seen.append(dict(self.params))

    start = Change()
    start >> See()
    flow = parallel_flow(start, [{"i": 1}, {"i": 2}])
    flow.set_params({"k": 0})
    await flow.run_async({})

    assert seen == [{"k": 0, "i": 1, "double": 2}, {"k": 0, "i": 2, "double": 4}]


async def test_each_branch_has_a_context_of_its_own():
    """ContextVars set in a branch stay in it, from its first node to its last."""
    var = contextvars.ContextVar("var", default="outside")
    seen = []

    class Set(AsyncNode):
        async def exec_async(self, prep_res):
            seen.append(var.get())
            var.set(self.params["i"])
            await asyncio.sleep(0)

    class See(AsyncNode):
        async def exec_async(self, prep_res):
            seen.append(var.get())

    start = Set()
    start >> See()
    await parallel_flow(start, [{"i": 1}, {"i": 2}]).run_async({})

    assert seen == ["outside", "outside", 1, 2]
    assert var.get() == "outside"


async def test_sync_nodes_in_a_parallel_flow_run_one_branch_after_the_other():
    """With sync nodes there is nothing to overlap: each branch runs whole."""
    events = []

    class First(Node):
        def exec(self, prep_res):
            events.append(f"first {self.params['i']}")

    class Second(Node):
        def exec(self, prep_res):
            events.append(f"second {self.params['i']}")

    start = First()
    start >> Second()
    await parallel_flow(start, [{"i": 1}, {"i": 2}]).run_async({})

    assert events == ["first 1", "second 1", "first 2", "second 2"]


async def test_a_parallel_node_inside_a_parallel_flow():
    """Parallel batches nest: all items of all branches are under way at once."""
    barrier = asyncio.Barrier(6)
    shared = {}

    class Items(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return range(3)

        async def exec_async(self, item):
            await barrier.wait()
            return item * self.params["factor"]

        async def post_async(self, shared, prep_res, exec_res):
            shared[self.params["factor"]] = exec_res

    await parallel_flow(Items(), [{"factor": 1}, {"factor": 10}]).run_async(shared)

    assert shared == {1: [0, 1, 2], 10: [0, 10, 20]}


async def test_a_parallel_flow_inside_a_parallel_flow():
    """Params merge down and everything is under way at once."""
    barrier, seen = asyncio.Barrier(4), []

    class Meet(AsyncNode):
        async def exec_async(self, prep_res):
            await barrier.wait()
            seen.append((self.params["a"], self.params["b"]))

    inner = parallel_flow(Meet(), [{"b": 1}, {"b": 2}])
    await parallel_flow(inner, [{"a": 1}, {"a": 2}]).run_async({})

    assert sorted(seen) == [(1, 1), (1, 2), (2, 1), (2, 2)]


async def test_thousands_of_items_keep_their_order():
    """A large batch gives a result per item, in place."""

    async def exec_async(self, item):
        if item % 7 == 0:
            await asyncio.sleep(0)
        return -item

    assert await parallel(exec_async, range(5000)).run_async({}) == [-i for i in range(5000)]
