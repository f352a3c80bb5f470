"""The fifteen known defects of PocketFlow, each with what happens here instead.

Numbers are those of contracts/engine.md, part A4. Run against PocketFlow itself, the tests marked
`fixed` fail. Numbers 8 and 13 are kept as they are, because programs rely on them.
"""

import asyncio
import collections
import contextvars
import itertools
import logging
import pickle
import threading

import pytest
from engine_under_test import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
)

# 1. cur_retry is one number for all concurrent items


class Failing(AsyncParallelBatchNode):
    """Every item always fails, after a number of turns of the loop of its own."""

    def __init__(self, count, max_retries=3, wait=0):
        super().__init__(max_retries, wait)
        self.count = count
        self.tries, self.fell = collections.Counter(), collections.Counter()

    async def prep_async(self, shared):
        return range(self.count)

    async def exec_async(self, item):
        self.tries[item] += 1
        for _ in range(item * 7 % 5):
            await asyncio.sleep(0)
        raise ValueError(item)

    async def exec_fallback_async(self, item, exc):
        await asyncio.sleep(0)
        self.fell[item] += 1
        return ("fell", item, exc.args[0])

    async def post_async(self, shared, prep_res, exec_res):
        return tuple(exec_res)


@pytest.mark.parametrize("wait", [0, 0.001])
@pytest.mark.parametrize("max_retries", [1, 2, 3, 5])
async def test_1_every_failing_item_is_tried_its_full_number(max_retries, wait):
    """Fifty failing items: each is tried `max_retries` times and falls back exactly once."""
    node = Failing(50, max_retries, wait)

    results = await node.run_async({})

    assert collections.Counter(node.tries.values()) == {max_retries: 50}
    assert node.fell == dict.fromkeys(range(50), 1)
    assert results == tuple(("fell", i, i) for i in range(50))


@pytest.mark.parametrize("wait", [0, 0.001])
async def test_1_no_error_is_swallowed(wait):
    """Without a fallback the error reaches the caller; it never turns into None."""

    class Raises(Failing):
        exec_fallback_async = AsyncNode.exec_fallback_async

    with pytest.raises(ValueError, match=r"\d"):
        await Raises(50, 3, wait).run_async({})


@pytest.mark.parametrize("wait", [0, 0.001])
async def test_1_concurrent_runs_of_one_node_make_all_their_tries(wait):
    """Twenty concurrent `run_async` of one node instance with three tries each are sixty tries."""
    tries = []

    class One(AsyncNode):
        async def exec_async(self, prep_res):
            tries.append(1)
            await asyncio.sleep(0)
            raise ValueError("no")

        async def exec_fallback_async(self, prep_res, exc):
            return "fell"

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    node = One(3, wait)

    assert await asyncio.gather(*(node.run_async({}) for _ in range(20))) == ["fell"] * 20
    assert len(tries) == 60


_NO_COUNT = "A4.1: cur_retry is shared by concurrent items (HEAD) or missing (0.0.3)"


@pytest.mark.fixed(_NO_COUNT)
@pytest.mark.parametrize("in_flow", [False, True], ids=["alone", "in a flow"])
@pytest.mark.parametrize("wait", [0, 0.001])
async def test_1_each_item_reads_its_own_cur_retry(wait, in_flow):
    """Before and after every wait an item sees its own try's number, and so does its fallback."""
    seen = collections.defaultdict(list)

    class Reads(Failing):
        async def exec_async(self, item):
            before = self.cur_retry
            for _ in range(item * 7 % 5):
                await asyncio.sleep(0)
            seen[item].append((before, self.cur_retry))
            raise ValueError(item)

        async def exec_fallback_async(self, item, exc):
            await asyncio.sleep(0)
            seen[item].append(self.cur_retry)

        async def post_async(self, shared, prep_res, exec_res):
            pass

    node = Reads(20, 3, wait)
    await (AsyncFlow(node) if in_flow else node).run_async({})

    assert seen == {item: [(0, 0), (1, 1), (2, 2), 2] for item in range(20)}


@pytest.mark.fixed(_NO_COUNT)
async def test_1_each_concurrent_run_of_one_node_reads_its_own_cur_retry():
    """Concurrent `run_async` of one instance: each sees its own count in exec and post."""
    seen = collections.defaultdict(list)

    class One(AsyncNode):
        async def prep_async(self, shared):
            return shared

        async def exec_async(self, prep_res):
            for _ in range(prep_res):
                await asyncio.sleep(0)
            seen[prep_res].append(self.cur_retry)
            if self.cur_retry < prep_res % 3:
                raise ValueError("again")

        async def post_async(self, shared, prep_res, exec_res):
            await asyncio.sleep(0)
            seen[prep_res].append(f"post {self.cur_retry}")

    node = One(3)
    await asyncio.gather(*(node.run_async(i) for i in range(9)))

    assert seen == {i: [*range(i % 3 + 1), f"post {i % 3}"] for i in range(9)}


@pytest.mark.fixed(_NO_COUNT)
async def test_1_a_task_started_in_exec_reads_its_items_cur_retry():
    """Tasks, task groups and `asyncio.to_thread` inside exec see the try they were started in."""
    seen = collections.defaultdict(list)

    class Nested(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return "ab"

        async def exec_async(self, item):
            async def look():
                await asyncio.sleep(0)
                return self.cur_retry

            async with asyncio.TaskGroup() as group:
                task = group.create_task(look())
            seen[item].append((task.result(), await asyncio.to_thread(lambda: self.cur_retry)))
            raise ValueError(item)

        async def exec_fallback_async(self, item, exc):
            return item

    await Nested(2).run_async({})

    assert seen == {"a": [(0, 0), (1, 1)], "b": [(0, 0), (1, 1)]}


@pytest.mark.fixed(_NO_COUNT)
async def test_1_one_node_object_run_inside_itself_keeps_both_counts():
    """A node that runs itself again inside exec still has its own count afterwards."""
    seen = []

    class Again(AsyncNode):
        async def prep_async(self, shared):
            return shared

        async def exec_async(self, prep_res):
            if prep_res == "outer" and self.cur_retry < 2:
                raise ValueError("again")
            if prep_res == "outer":
                await self.run_async("inner")
            seen.append((prep_res, self.cur_retry))

        async def post_async(self, shared, prep_res, exec_res):
            seen.append((prep_res, "post", self.cur_retry))

    await Again(3).run_async("outer")

    assert seen == [("inner", 0), ("inner", "post", 0), ("outer", 2), ("outer", "post", 2)]


@pytest.mark.fixed("A4.1: one number for all threads")
def test_1_one_sync_node_in_several_threads_reads_its_own_cur_retry():
    """One sync node run in two threads at once: each run reads its own count."""
    inside, over, seen = threading.Event(), threading.Event(), collections.defaultdict(list)

    class Both(Node):
        def prep(self, shared):
            return shared

        def exec(self, prep_res):
            seen[prep_res].append(self.cur_retry)
            if prep_res == "late":
                return
            if self.cur_retry == 0:
                raise ValueError("again")
            inside.set()
            over.wait(10)
            seen[prep_res].append(self.cur_retry)

    node = Both(2)
    thread = threading.Thread(target=node.run, args=["early"])
    thread.start()
    inside.wait(10)
    node.run("late")
    over.set()
    thread.join()

    assert seen == {"early": [0, 1, 1], "late": [0]}


# 2, 3, 4. The sync calls on async flows skip work in silence


class Marks(Node):
    """Says that it ran."""

    def prep(self, shared):
        shared.append("node")


ASYNC_FLOWS = [AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow]


def marking_flow(base, shared):
    """An async flow of *base* that says which of its phases ran."""

    def mark(name):
        def phase(self, *args):
            shared.append(name)
            return [{}]

        return phase

    def mark_async(name):
        async def phase(self, *args):
            shared.append(name)
            return [{}]

        return phase

    phases = {name: mark(name) for name in ("prep", "post")}
    phases |= {f"{name}_async": mark_async(f"{name}_async") for name in ("prep", "post")}
    return type("Marking", (base,), phases)(Marks())


@pytest.mark.fixed("A4.2, A4.3: AsyncFlow.run() skips its async phases or does nothing at all")
@pytest.mark.parametrize("call", ["run", "_run", "_orch"])
@pytest.mark.parametrize("base", ASYNC_FLOWS)
def test_2_3_a_sync_call_on_an_async_flow_says_use_run_async(base, call):
    """`run()` on an async flow is a RuntimeError that says what to do, and nothing has run."""
    shared = []

    with pytest.raises(RuntimeError, match=r"^Use run_async\."):
        getattr(marking_flow(base, shared), call)(shared)

    assert shared == []


@pytest.mark.fixed("A4.4: an AsyncFlow in a Flow skips its async phases")
@pytest.mark.parametrize("outer", [Flow, BatchFlow])
@pytest.mark.parametrize("base", ASYNC_FLOWS)
def test_4_an_async_flow_in_a_sync_flow_says_use_run_async(base, outer):
    """A Flow that meets an async flow raises that error; only nodes before it have run."""
    shared, before = [], Node()
    before.post = lambda *args: shared.append("before")
    before >> marking_flow(base, shared)
    flow = outer(before)
    flow.prep = lambda shared: [{}]

    with pytest.raises(RuntimeError, match=r"^Use run_async\."):
        flow.run(shared)

    assert shared == ["before"]


@pytest.mark.fixed("A4.2, A4.3")
@pytest.mark.parametrize("base", ASYNC_FLOWS)
def test_2_3_an_async_flow_without_a_start_says_so_too(base):
    """Even with nothing to run the sync call is an error."""
    with pytest.raises(RuntimeError, match=r"^Use run_async\."):
        base().run({})


# 5. Async batches crash where a BatchNode takes None


@pytest.mark.fixed("A4.5: async batch nodes crash on None")
@pytest.mark.parametrize("nothing", [None, 0, False], ids=repr)
@pytest.mark.parametrize("base", [AsyncBatchNode, AsyncParallelBatchNode])
async def test_5_a_falsy_prep_is_an_empty_async_batch(base, nothing):
    """None and anything falsy mean no items, as in BatchNode; post gets the original prep_res."""

    class Idle(base):
        async def prep_async(self, shared):
            return nothing

        async def exec_async(self, item):
            pytest.fail("there is no item")

        async def post_async(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

    assert await Idle().run_async({}) == (nothing, [])


@pytest.mark.fixed("A4.5: async batch nodes crash on None")
@pytest.mark.parametrize("base", [AsyncBatchNode, AsyncParallelBatchNode])
async def test_5_an_async_batch_without_prep_is_empty(base):
    """A bare async batch node runs and gives None."""
    assert await base().run_async({}) is None
    assert await AsyncFlow(base()).run_async({}) is None


# 6. Siblings of a failed item run on


class Work:
    """Items of a parallel batch: "bad" fails when all others are under way; they never end."""

    def __init__(self, count, cleanup=None):
        self.ready = asyncio.Barrier(count)
        self.error = ValueError("bad")
        self.cleanup = cleanup
        self.cancelled, self.ended = [], []

    async def __call__(self, item):
        try:
            await self.ready.wait()
            if item == "bad":
                raise self.error
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            for _ in range(5):
                await asyncio.sleep(0)
            if self.cleanup:
                self.cleanup(item)
            raise
        finally:
            if item != "bad":
                self.ended.append(item)


def parallel(shape, work, items):
    """A parallel batch node, or flow, that does *work* on each item."""

    class Items(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return items

        async def exec_async(self, item):
            return await work(item)

    class One(AsyncNode):
        async def exec_async(self, prep_res):
            return await work(self.params["item"])

    class Branches(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{"item": item} for item in items]

    return Items() if shape == "node" else Branches(One())


shapes = pytest.mark.parametrize("shape", ["node", "flow"])


@pytest.mark.fixed("A4.6: siblings of a failed item run on, detached")
@shapes
@pytest.mark.parametrize("items", [["bad", 1, 2], [1, "bad", 2], [1, 2, "bad"]], ids=repr)
async def test_6_siblings_are_cancelled_and_awaited(shape, items):
    """When the error reaches the caller, its siblings have been cancelled and have ended."""
    work = Work(len(items))

    with pytest.raises(ValueError, match="bad") as caught:
        await parallel(shape, work, items).run_async({})

    assert caught.value is work.error
    assert sorted(work.cancelled) == sorted(work.ended) == [1, 2]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@shapes
async def test_6_the_error_is_no_exception_group(shape):
    """Type, arguments and identity of the first error are the user's."""
    work = Work(2)

    with pytest.raises(ValueError, match="bad") as caught:
        await parallel(shape, work, ["bad", 1]).run_async({})

    assert type(caught.value) is ValueError
    assert caught.value.args == ("bad",)
    assert caught.value is work.error


@pytest.mark.fixed("A4.6: errors of siblings are lost")
@shapes
async def test_6_errors_of_siblings_are_noted_on_the_first(shape):
    """What else went wrong is in a note of the error that is raised."""

    def cleanup(item):
        raise OSError(f"cleanup of {item}")

    work = Work(3, cleanup)

    with pytest.raises(ValueError, match="bad") as caught:
        await parallel(shape, work, ["bad", 1, 2]).run_async({})

    notes = "\n".join(caught.value.__notes__)
    assert "OSError" in notes
    assert "cleanup of 1" in notes
    assert "cleanup of 2" in notes


@pytest.mark.fixed("A4.6: siblings run on")
@shapes
async def test_6_a_sibling_that_ignores_its_cancellation_is_waited_for(shape):
    """An item that finishes in spite of being cancelled has finished when the error arrives."""
    done, ready = [], asyncio.Barrier(2)

    async def work(item):
        await ready.wait()
        if item == "bad":
            raise ValueError("bad")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(10):
                await asyncio.sleep(0)
            done.append(item)

    with pytest.raises(ValueError, match="bad"):
        await parallel(shape, work, ["bad", "stubborn"]).run_async({})

    assert done == ["stubborn"]


@shapes
async def test_6_a_failed_batch_leaves_its_task_uncancelled(shape):
    """After the error is caught the caller's task is as before: it may wait again."""
    with pytest.raises(ValueError, match="bad"):
        await parallel(shape, Work(2), ["bad", 1]).run_async({})

    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await asyncio.sleep(0)


@shapes
async def test_6_a_timeout_around_a_parallel_batch_is_a_timeout(shape):
    """`asyncio.timeout` around the run ends it as TimeoutError, not as a stray cancellation."""

    async def work(item):
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await parallel(shape, work, [1, 2]).run_async({})

    assert asyncio.current_task().cancelling() == 0


@pytest.mark.fixed("A4.6: the inner siblings run on")
async def test_6_nothing_runs_on_in_nested_parallel_flows():
    """A failure two levels down leaves no task behind at either level."""
    work = Work(4)
    inner = parallel("flow", work, ["bad", 1])
    outer_items = [{"outer": 1}, {"outer": 2}]

    class Outer(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return outer_items

    with pytest.raises(ValueError, match="bad"):
        await Outer(inner).run_async({})

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert work.ended == [1, 1]


@pytest.mark.fixed("A4.6: siblings run on")
async def test_6_a_branch_that_waits_for_its_next_try_is_cancelled_too():
    """A sibling between two tries, asleep for 30 seconds, is cancelled there and tries no more."""
    failed, tries = asyncio.Event(), []

    class Fork(Node):
        def post(self, shared, prep_res, exec_res):
            return self.params["to"]

    class Retries(AsyncNode):
        async def exec_async(self, prep_res):
            tries.append(1)
            failed.set()
            raise OSError("again")

    class Bad(AsyncNode):
        async def exec_async(self, prep_res):
            await failed.wait()
            raise ValueError("bad")

    class Branches(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{"to": "retries"}, {"to": "bad"}]

    fork = Fork()
    fork - "retries" >> Retries(2, wait=30)
    fork - "bad" >> Bad()
    with pytest.raises(ValueError, match="bad"):
        async with asyncio.timeout(20):
            await Branches(fork).run_async({})

    assert len(tries) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


# 7. No limits: there are some now, off unless asked for


@pytest.mark.fixed("A4.7: no concurrency limit")
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_7_a_parallel_batch_may_be_bounded(limit):
    """`concurrency=n`: never more than n items at once, results in order."""
    running, most = 0, 0

    class Bounded(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return range(20)

        async def exec_async(self, item):
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
            return item

        async def post_async(self, shared, prep_res, exec_res):
            return tuple(exec_res)

    assert await Bounded(concurrency=limit).run_async({}) == tuple(range(20))
    assert most == limit


@pytest.mark.fixed("A4.7: no timeout")
async def test_7_an_attempt_may_have_a_timeout():
    """`timeout=` ends an attempt with a TimeoutError, which is retried like any error."""
    tries = []

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            tries.append(1)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await Slow(2, timeout=0.001).run_async({})

    assert len(tries) == 2


@pytest.mark.fixed("A4.7: no step limit")
@pytest.mark.parametrize("base", [Flow, AsyncFlow])
async def test_7_a_flow_may_have_a_step_limit(base):
    """`max_steps=` ends an endless loop with an error."""
    visits = []
    node = Node()
    node.post = lambda *args: visits.append(1)
    node >> node
    flow = base(node, max_steps=10)

    with pytest.raises(RuntimeError, match="10"):
        if base is Flow:
            flow.run({})
        else:
            await flow.run_async({})

    assert len(visits) == 10


# 8. Misleading warnings: kept, programs and their tests count them


def test_8_a_flow_with_successors_still_says_use_flow(said):
    """The text is the one PocketFlow has, and comes once."""
    flow = Flow(Node())
    flow >> Node()
    flow.run({})

    assert said() == ["Node won't run successors. Use Flow."]


def test_8_a_deliberate_end_still_warns_once(said):
    """An action that leads nowhere is said once, meant or not."""
    node = Node()
    node - "go" >> Node()
    node.post = lambda *args: "end"
    Flow(node).run({})

    assert said() == ["Flow ends: 'end' not found in ['go']"]


# 9. max_retries=0 skips exec in silence


@pytest.mark.fixed("A4.9: silent")
@pytest.mark.parametrize("base", [Node, AsyncNode])
async def test_9_max_retries_0_is_logged_once(base, caplog):
    """Exec is skipped as ever, and one WARNING of the engine's logger says so."""

    class NeverTried(base):
        def exec(self, prep_res):
            pytest.fail("never")

        async def exec_async(self, prep_res):
            pytest.fail("never")

    with caplog.at_level(logging.WARNING):
        node = NeverTried(0)
        if base is AsyncNode:
            await node.run_async({})
        else:
            node.run({})

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name.split(".")[0] == "pocketflow_async"
    assert "NeverTried" in record.getMessage()
    assert "max_retries" in record.getMessage()


def test_9_max_retries_1_logs_nothing(pure, caplog):
    """Ordinary nodes log nothing at all."""
    with caplog.at_level(logging.DEBUG, logger="pocketflow_async"):
        pure.run(pure.node(), {})

    assert caplog.records == []


# 10. A node whose truth value is false ends the flow


class Empty:
    """False, because it is empty."""

    def __len__(self):
        return 0


class No:
    """False, because it says so."""

    def __bool__(self):
        return False


class Unsure:
    """Has no truth value."""

    def __bool__(self):
        raise ValueError("do not ask")


@pytest.mark.fixed("A4.10: a falsy node ends the flow")
@pytest.mark.parametrize("falsy", [Empty, No, Unsure])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_10_falsy_nodes_run(kind, falsy, place):
    """A node's truth value does not matter to the flow, wherever it stands; nothing is warned."""
    log = []

    def node(name, base=None):
        cls = kind.cls("Node", post=lambda self, s, p, e: log.append(name))
        return type("Odd", (base, cls), {})() if base else cls()

    nodes = [node(name, falsy if name == place else None) for name in ("start", "middle", "end")]
    nodes[0] >> nodes[1] >> nodes[2]

    kind.run(kind.flow(nodes[0]), {})

    assert log == ["start", "middle", "end"]


@pytest.mark.fixed("A4.10: a falsy node ends the flow")
def test_10_falsy_flows_run(kind):
    """The same for a nested flow."""
    log = []
    cls = kind.cls("Flow")
    inner = type("Odd", (Empty, cls), {})(kind.node(post=lambda self, s, p, e: log.append("in")))
    inner >> kind.node(post=lambda self, s, p, e: log.append("after"))

    kind.run(kind.flow(inner), {})

    assert log == ["in", "after"]


# 11. Arrays have no truth value


class Array:
    """Iterates like a numpy array and refuses `bool()` like one."""

    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)

    def __bool__(self):
        raise ValueError("The truth value of an array with more than one element is ambiguous.")


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(BatchNode, marks=pytest.mark.fixed("A4.11: `items or []`")),
        AsyncBatchNode,
        AsyncParallelBatchNode,
    ],
)
@pytest.mark.parametrize("values", [(), (0,), (1, 2, 3)], ids=repr)
def test_11_an_array_is_a_batch(base, values):
    """A prep_res whose truth value cannot be asked is iterated, and reaches post as it is."""
    array = Array(*values)

    class Doubles(base):
        def prep(self, shared):
            return array

        def exec(self, item):
            return item * 2

        def post(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

        async def prep_async(self, shared):
            return array

        async def exec_async(self, item):
            return item * 2

        async def post_async(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

    prep_res, exec_res = (
        Doubles().run({}) if base is BatchNode else asyncio.run(Doubles().run_async({}))
    )

    assert prep_res is array
    assert exec_res == [value * 2 for value in values]


@pytest.mark.fixed("A4.11: `prep(shared) or []`")
def test_11_an_array_of_params_is_a_batch_flows_batch(batch):
    """The same for the batch flows."""
    array, seen = Array({"i": 1}, {"i": 2}), []
    flow = batch.batch_flow(
        batch.node(prep=lambda self, s: seen.append(self.params["i"])),
        prep=lambda self, s: array,
        post=lambda self, s, p, e: seen.append(p is array),
    )

    batch.run(flow, {})

    assert seen == [1, 2, True]


# 12. Errors do not say where they come from


def raising(phase, error):
    """A phase function that raises *error*, under the name of *phase*."""

    def fail(self, *args):
        raise error

    return {phase: fail}


@pytest.mark.fixed("A4.12: errors carry no note")
@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_12_an_error_says_which_node_and_phase_it_left(kind, phase):
    """One note names the flows on the way, the node and the phase; the error is unchanged."""
    error = LookupError("key", 7)
    node = kind.cls("Node", "Fetch", **raising(phase, error))()
    inner = kind.cls("Flow", "Inner")(node)
    outer = kind.cls("Flow", "Outer")(inner)

    with pytest.raises(LookupError) as caught:
        kind.run(outer, {})

    (note,) = caught.value.__notes__
    assert caught.value is error
    assert error.args == ("key", 7)
    assert note.index("Outer") < note.index("Inner") < note.index("Fetch")
    assert phase in note


@pytest.mark.fixed("A4.12: errors carry no note")
@pytest.mark.parametrize("tries", [1, 3])
def test_12_an_error_of_exec_says_which_attempt(pure, tries):
    """For exec the note has the attempt and of how many."""
    node = pure.cls("Node", "Fetch", **raising("exec", ValueError("no")))(tries)

    with pytest.raises(ValueError, match="no") as caught:
        pure.run(node, {})

    (note,) = caught.value.__notes__
    assert "Fetch" in note
    assert f"attempt {tries} of {tries}" in note


@pytest.mark.fixed("A4.12: errors carry no note")
def test_12_an_error_of_the_fallback_has_a_note_of_its_own(pure):
    """What the fallback raises says so; the error it was called for is still its context."""

    def fallback(self, prep_res, exc):
        raise KeyError("fallback")

    cls = pure.cls("Node", "Fetch", exec_fallback=fallback, **raising("exec", ValueError("no")))
    with pytest.raises(KeyError) as caught:
        pure.run(cls(2), {})

    (note,) = caught.value.__notes__
    assert "Fetch" in note
    assert "fallback" in note


@pytest.mark.fixed("A4.12: errors carry no note")
def test_12_batch_items_have_notes_too(batch):
    """An error of an item has one note with node and attempt."""
    cls = batch.cls(
        "BatchNode", "Fetch", prep=lambda self, s: [1], **raising("exec", ValueError("no"))
    )
    with pytest.raises(ValueError, match="no") as caught:
        batch.run(cls(2), {})

    (note,) = caught.value.__notes__
    assert "Fetch" in note
    assert "attempt 2 of 2" in note


@pytest.mark.fixed("A4.12: errors carry no note")
def test_12_batch_flows_are_part_of_the_path(batch):
    """An error inside a batch flow names that flow, once."""
    node = batch.cls("Node", "Fetch", **raising("exec", ValueError("no")))()
    flow = batch.cls("BatchFlow", "Many", prep=lambda self, s: [{}])(node)

    with pytest.raises(ValueError, match="no") as caught:
        batch.run(flow, {})

    (note,) = caught.value.__notes__
    assert note.count("Many") == 1
    assert note.index("Many") < note.index("Fetch")


@pytest.mark.fixed("A4.12: errors carry no note")
def test_12_the_flows_own_phases_are_named(kind):
    """An error in a flow's own prep or post names the flow and the phase."""
    for phase in ("prep", "post"):
        flow = kind.cls("Flow", "Pipeline", **raising(phase, ValueError("no")))(kind.node())
        with pytest.raises(ValueError, match="no") as caught:
            kind.run(flow, {})
        (note,) = caught.value.__notes__
        assert "Pipeline" in note
        assert phase in note


def test_12_an_error_that_stays_inside_leaves_no_trace(kind):
    """Errors that a retry or a fallback took care of reach nobody."""
    calls = itertools.count()

    def exec_(self, prep_res):
        if next(calls) < 2:
            raise ValueError("no")
        return "worked"

    assert (
        kind.run(kind.flow(kind.node(3, exec=exec_, post=lambda self, s, p, e: e)), {}) == "worked"
    )


@pytest.mark.fixed("A4.12: errors carry no note")
def test_12_the_same_error_object_on_every_try_gets_one_note(pure):
    """An exception object that is raised three times in one visit has one note."""
    error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        pure.run(pure.cls("Node", "Fetch", **raising("exec", error))(3), {})

    (note,) = error.__notes__
    assert "attempt 3 of 3" in note


def test_12_an_error_with_notes_can_be_pickled(pure):
    """What the engine adds to an error does not keep it from another process."""
    with pytest.raises(ValueError, match="no") as caught:
        pure.run(pure.flow(pure.node(**raising("exec", ValueError("no")))), {})

    twin = pickle.loads(pickle.dumps(caught.value))

    assert (type(twin), twin.args) == (ValueError, ("no",))


def test_12_an_error_the_user_has_noted_keeps_those_notes(pure):
    """Notes of the user's own stay, and stay first."""
    error = ValueError("no")
    error.add_note("mine")
    with pytest.raises(ValueError, match="no"):
        pure.run(pure.node(**raising("exec", error)), {})

    assert error.__notes__[0] == "mine"


def test_12_frozen_exceptions_pass(pure):
    """An exception that takes no attributes leaves as it is."""

    class Frozen(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    with pytest.raises(Frozen, match="no"):
        pure.run(pure.flow(pure.node(**raising("exec", Frozen("no")))), {})


# 13. Params of nested flows are overwritten, not merged: kept


def test_13_params_of_a_nested_flow_are_still_overwritten(kind):
    """The documentation says merged; programs were written for what is."""
    seen = []
    inner = kind.flow(kind.node(prep=lambda self, s: seen.append(dict(self.params))))
    inner.set_params({"inner": 1})
    outer = kind.flow(inner)
    outer.set_params({"outer": 2})
    kind.run(outer, {})

    assert seen == [{"outer": 2}]


# 14. Sync nodes block the loop: still so, unless asked


async def test_14_a_sync_node_runs_in_the_loops_thread_by_default():
    """Without being asked the engine moves nothing to another thread."""
    threads = []
    node = Node()
    node.prep = node.exec = lambda arg: threads.append(threading.get_ident())
    await AsyncFlow(node).run_async({})

    assert threads == [threading.get_ident()] * 2


@pytest.mark.fixed("A4.14: sync nodes always block the loop")
async def test_14_a_sync_node_may_run_in_a_thread():
    """`in_thread=True`: exec runs elsewhere, with the context of the run, and the loop goes on."""
    var = contextvars.ContextVar("var")
    var.set("seen")
    loop, moved, seen = asyncio.get_running_loop(), threading.Event(), []

    class Blocking(Node):
        def exec(self, prep_res):
            loop.call_soon_threadsafe(moved.set)
            seen.append((moved.wait(10), var.get(), threading.get_ident() != main))

    main = threading.get_ident()
    await AsyncFlow(Blocking(in_thread=True)).run_async({})

    assert seen == [(True, "seen", True)]


# 15. A list as successor crashes late


@pytest.mark.fixed("A4.15: AttributeError: 'list' object has no attribute 'set_params'")
async def test_15_a_list_of_nodes_is_a_fan_out():
    """`a >> [b, c]` runs both."""
    ran = []

    class Branch(AsyncNode):
        async def exec_async(self, prep_res):
            ran.append(type(self).__name__)

    class Other(Branch):
        pass

    start = Node()
    start >> [Branch(), Other()]
    await AsyncFlow(start).run_async({})

    assert sorted(ran) == ["Branch", "Other"]
