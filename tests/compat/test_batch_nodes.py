"""Batch nodes: one exec per item, in order, each with its own retries and its own fallback."""

import asyncio
from collections import deque

import pytest
from engine_under_test import AsyncBatchNode, AsyncParallelBatchNode, BatchNode


def collect(kind, prep_res, exec_=lambda self, item: item):
    """Run a batch node of *kind* over *prep_res*; give what post got."""
    node = kind.batch_node(
        prep=lambda self, s: prep_res, exec=exec_, post=lambda self, s, p, e: (p, e)
    )
    return kind.run(node, {})


ITERABLES = {
    "list": [3, 1, 2],
    "tuple": (3, 1, 2),
    "range": range(3),
    "str": "abc",
    "dict": {"x": 1, "y": 2},
    "keys": {"x": 1, "y": 2}.items(),
    "deque": deque([1, 2]),
    "bytes": b"ab",
    "one": [None],
}


@pytest.mark.parametrize("items", ITERABLES.values(), ids=ITERABLES.keys())
def test_any_iterable_is_a_batch(batch, items):
    """Exec runs once per item in order; post gets prep's own object and a list of results."""
    prep_res, exec_res = collect(batch, items)

    assert prep_res is items
    assert type(exec_res) is list
    assert exec_res == list(items)


def test_falsy_items_are_items(batch):
    """0, None, "" and [] in a batch are executed like any other."""
    assert collect(batch, [0, None, "", []])[1] == [0, None, "", []]


def test_an_item_may_give_none(batch):
    """A result of None keeps its place."""
    assert collect(batch, [1, 2], lambda self, item: None)[1] == [None, None]


@pytest.mark.parametrize("items", [[], (), "", {}, range(0)], ids=repr)
def test_an_empty_batch_gives_an_empty_list(batch, items):
    """Nothing to do: exec never runs, post gets [] and the original prep_res."""
    called = []
    prep_res, exec_res = collect(batch, items, lambda self, item: called.append(item))

    assert (exec_res, called) == ([], [])
    assert prep_res is items


@pytest.mark.parametrize("nothing", [None, 0, False], ids=repr)
def test_a_sync_batch_takes_any_falsy_prep_res_as_empty(nothing):
    """In a BatchNode None, 0 and False mean an empty batch; post still gets the original."""

    class Idle(BatchNode):
        def prep(self, shared):
            return nothing

        def post(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

    assert Idle().run({}) == (nothing, [])


def test_something_that_cannot_be_iterated_is_a_type_error(batch):
    """A number as prep_res is a TypeError in Python's own words."""
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        collect(batch, 5)


def test_a_generator_reaches_post_exhausted(batch):
    """A generator from prep is consumed, and post gets that same generator."""
    items = (n * n for n in range(3))
    prep_res, exec_res = collect(batch, items)

    assert prep_res is items
    assert list(prep_res) == []
    assert exec_res == [0, 1, 4]


def test_a_generator_is_drawn_item_by_item(pure):
    """In the sequential batches an item is drawn only after the one before has been executed."""
    events = []

    def draw():
        for n in range(3):
            events.append(f"draw {n}")
            yield n

    collect(pure, draw(), lambda self, item: events.append(f"exec {item}"))

    assert events == ["draw 0", "exec 0", "draw 1", "exec 1", "draw 2", "exec 2"]


def broken_source():
    """Give one item, then fail."""
    yield 1
    raise OSError("source")


def test_an_error_in_the_generator_leaves_the_node(pure):
    """An error while drawing items is the node's error."""
    with pytest.raises(OSError, match="source"):
        collect(pure, broken_source())


@pytest.mark.fixed("PocketFlow leaves coroutines behind that were never awaited", strict=False)
async def test_an_error_in_the_generator_leaves_no_item_behind():
    """In a parallel batch too, and no item drawn before is left unawaited (a warning)."""

    class Broken(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return broken_source()

        async def exec_async(self, item):
            return item

    with pytest.raises(OSError, match="source"):
        await Broken().run_async({})


@pytest.mark.parametrize("max_retries", [1, 2, 4])
def test_each_item_has_retries_of_its_own(batch, max_retries):
    """Every failing item is tried `max_retries` times, whatever its neighbours did."""
    tries = dict.fromkeys("abc", 0)

    def exec_(self, item):
        tries[item] += 1
        if item != "b":
            raise ValueError(item)
        return item

    node = batch.batch_node(
        max_retries,
        prep=lambda self, s: list("abc"),
        exec=exec_,
        exec_fallback=lambda self, item, exc: f"{item} fell: {exc}",
        post=lambda self, s, p, e: e,
    )

    assert batch.run(node, {}) == ["a fell: a", "b", "c fell: c"]
    assert tries == {"a": max_retries, "b": 1, "c": max_retries}


def test_the_fallback_gets_the_item_not_the_batch(batch):
    """A fallback is called with its own item and that item's last error."""
    seen = []

    def exec_(self, item):
        raise LookupError(item)

    def fallback(self, item, exc):
        seen.append((item, exc.args))
        return -item

    node = batch.batch_node(
        2,
        prep=lambda self, s: [1, 2],
        exec=exec_,
        exec_fallback=fallback,
        post=lambda self, s, p, e: e,
    )

    assert batch.run(node, {}) == [-1, -2]
    assert sorted(seen) == [(1, (1,)), (2, (2,))]


def test_the_first_error_stops_a_sequential_batch(pure):
    """Without a fallback the batch ends at the failing item: later items and post never run."""
    done = []

    def exec_(self, item):
        if item == 2:
            raise ValueError("item 2")
        done.append(item)

    node = pure.batch_node(
        prep=lambda self, s: [1, 2, 3], exec=exec_, post=lambda self, s, p, e: done.append("post")
    )
    with pytest.raises(ValueError, match="item 2"):
        pure.run(node, {})

    assert done == [1]


def test_a_failing_batch_never_reaches_post(batch):
    """The error of an item with no fallback leaves the node as the object it is."""
    error, posts = ValueError("item"), []

    def exec_(self, item):
        raise error

    node = batch.batch_node(
        prep=lambda self, s: [1], exec=exec_, post=lambda self, s, p, e: posts.append(1)
    )
    with pytest.raises(ValueError, match="item") as caught:
        batch.run(node, {})

    assert caught.value is error
    assert posts == []


def test_waits_are_per_item(batch, naps):
    """Each item waits between its own tries."""

    def exec_(self, item):
        raise ValueError("no")

    node = batch.batch_node(
        3, 0.5, prep=lambda self, s: "ab", exec=exec_, exec_fallback=lambda self, i, e: None
    )
    batch.run(node, {})

    assert naps == [0.5] * 4


def test_all_items_share_one_self(batch):
    """There is one node per batch: what an item does to self, the next items and post can see."""

    def prep(self, shared):
        self.total = 0
        return [1, 2, 3]

    def exec_(self, item):
        self.total += item

    node = batch.batch_node(prep=prep, exec=exec_, post=lambda self, s, p, e: self.total)

    assert batch.run(node, {}) == 6
    assert node.total == 6


def test_no_tries_at_all_give_a_none_per_item(batch):
    """With `max_retries=0` every item gives None."""
    node = batch.batch_node(
        0, prep=lambda self, s: "ab", exec=lambda self, i: i, post=lambda self, s, p, e: e
    )

    assert batch.run(node, {}) == [None, None]


def test_cur_retry_is_per_item_in_a_sync_batch():
    """`cur_retry` starts at 0 for every item."""
    seen = []

    class Two(BatchNode):
        def prep(self, shared):
            return "ab"

        def exec(self, item):
            seen.append((item, self.cur_retry))
            raise ValueError(item)

        def exec_fallback(self, item, exc):
            seen.append((item, "fallback", self.cur_retry))

    Two(2).run({})

    assert seen == [
        *[("a", 0), ("a", 1), ("a", "fallback", 1)],
        *[("b", 0), ("b", 1), ("b", "fallback", 1)],
    ]


@pytest.mark.fixed("PyPI 0.0.3 has no cur_retry on async nodes (git HEAD has)")
@pytest.mark.parametrize("base", [AsyncBatchNode, AsyncParallelBatchNode])
async def test_cur_retry_is_per_item_in_an_async_batch(base):
    """`cur_retry` is each item's own, also when items take turns."""
    seen = {"a": [], "b": []}

    class Two(base):
        async def prep_async(self, shared):
            return "ab"

        async def exec_async(self, item):
            for _ in range(2 if item == "a" else 5):
                await asyncio.sleep(0)
            seen[item].append(self.cur_retry)
            raise ValueError(item)

        async def exec_fallback_async(self, item, exc):
            seen[item].append(f"fallback {self.cur_retry}")

    await Two(3).run_async({})

    assert seen == {item: [0, 1, 2, "fallback 2"] for item in "ab"}


def test_batch_nodes_in_a_flow_run_on_a_copy(batch):
    """In a flow a batch node is copied like any node, and its action routes."""

    def prep(self, shared):
        self.items = [1, 2]
        return self.items

    def post(self, shared, prep_res, exec_res):
        shared["sum"] = sum(exec_res)
        return "done"

    first = batch.batch_node(prep=prep, exec=lambda self, i: i * 10, post=post)
    first - "done" >> batch.node(post=lambda self, s, p, e: f"sum {s['sum']}")

    assert batch.run(batch.flow(first), {}) == "sum 30"
    assert not hasattr(first, "items")


def test_a_batch_node_chained_to_a_plain_node_map_reduces(batch):
    """Map in a batch node, reduce in the next: the usual program."""
    words = ["to be", "or not", "to be"]
    shared = {}
    mapper = batch.batch_node(
        prep=lambda self, s: words,
        exec=lambda self, text: len(text.split()),
        post=lambda self, s, p, e: s.update(counts=e),
    )
    mapper >> batch.node(
        prep=lambda self, s: s["counts"],
        exec=lambda self, counts: sum(counts),
        post=lambda self, s, p, e: s.update(total=e),
    )

    batch.run(batch.flow(mapper), shared)

    assert shared == {"counts": [2, 2, 2], "total": 6}


async def test_sequential_async_items_never_overlap():
    """AsyncBatchNode starts an item only when the one before is done."""
    running, most = 0, 0

    class Meter(AsyncBatchNode):
        async def prep_async(self, shared):
            return range(5)

        async def exec_async(self, item):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await Meter().run_async({})

    assert most == 1


@pytest.mark.parametrize("base", [AsyncBatchNode, AsyncParallelBatchNode])
async def test_a_plain_object_is_no_async_batch(base):
    """A truthy prep_res that cannot be iterated is a TypeError, not an empty batch."""

    class Odd(base):
        async def prep_async(self, shared):
            return object()

    with pytest.raises(TypeError, match="'object' object is not iterable"):
        await Odd().run_async({})
