"""Random flows for the property test: drawn as plain data, built into nodes that count their work.

All time is virtual. Lengths are chosen so that no two different kinds of event fall on one moment:
work takes whole seconds, waits tenths, timeouts and cancellations odd fractions.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pocketflow_async import (
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
    parallel,
)
from pocketflow_async.clock import clock


class Trouble(Exception):
    """What a node raises on purpose."""


class Leaf(NamedTuple):
    """One node: what it is, and how it behaves."""

    kind: str
    fails: int = 0
    """How many first attempts fail."""
    tries: int = 1
    falls: bool = False
    """Whether its fallback answers, or raises the error again."""
    takes: int = 0
    """Seconds of work."""
    wait: float = 0
    timeout: float | None = None
    breaks: str | None = None
    """The phase besides exec that raises, if any."""


class Tree(NamedTuple):
    """Several nodes in one."""

    kind: str
    parts: tuple[Any, ...]
    limit: int | None = None
    """How many run at once, where that can be said."""
    timeout: float | None = None
    collect: bool = False


SYNC = {"sync": Node, "batch": BatchNode}
ASYNC = {
    "async": AsyncNode,
    "async batch": AsyncBatchNode,
    "parallel batch": AsyncParallelBatchNode,
    "parallel batch of two": AsyncParallelBatchNode,
}
SIDE_BY_SIDE = ("side by side", "parallel rounds")


def leaf_of(kinds: list[str]) -> st.SearchStrategy[Leaf]:
    return st.builds(
        Leaf,
        st.sampled_from(kinds),
        fails=st.integers(0, 3),
        tries=st.integers(1, 3),
        falls=st.booleans(),
        takes=st.integers(0, 2),
        wait=st.sampled_from([0, 0.1, 0.7]),
        timeout=st.sampled_from([None, None, 1.0503]),
        breaks=st.sampled_from([None] * 8 + ["prep", "post"]),
    )


def sync_tree(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    return st.builds(
        Tree,
        st.sampled_from(["sync flow", "sync rounds", "sync loop"]),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        timeout=st.sampled_from([None, None, 2.0307]),
    )


sync_parts = st.recursive(leaf_of(list(SYNC)), sync_tree, max_leaves=4)
programs = st.recursive(
    leaf_of([*SYNC, *ASYNC, "thread"]) | sync_tree(leaf_of(list(SYNC))),
    lambda inner: st.builds(
        Tree,
        st.sampled_from(["flow", "loop", "branch", "rounds", *SIDE_BY_SIDE]),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        limit=st.sampled_from([None, None, 1, 2]),
        timeout=st.sampled_from([None, None, 2.0307]),
        collect=st.booleans(),
    ),
    max_leaves=7,
)


def races(spec: Any, beside: bool = False) -> bool:
    """Return whether real threads run side by side with others, so that two runs may differ."""
    if isinstance(spec, Leaf):
        return beside and spec.kind == "thread"
    inside = beside or spec.kind in SIDE_BY_SIDE
    return any(races(part, inside) for part in spec.parts)


class Work:
    """What the nodes of one leaf do, counted."""

    def __init__(self, spec: Leaf, name: str, counts: Counter[tuple[str, str]]) -> None:
        self.spec = spec
        self.name = name
        self.counts = counts

    def begin(self, phase: str) -> None:
        self.counts[self.name, phase] += 1
        if self.spec.breaks == phase:
            raise Trouble(f"{self.name} {phase}")

    def end(self, attempt: int, item: Any) -> Any:
        """Finish an attempt. In a batch only item 1 fails."""
        if attempt < self.spec.fails and item in (1, None):
            raise Trouble(f"{self.name} exec")
        return [self.name, item]

    def fall_back(self, error: Exception) -> str:
        self.counts[self.name, "fallback"] += 1
        if not self.spec.falls:
            raise error
        return "fell back"


def sync_leaf(base: Any, work: Work, is_batch: bool) -> type:
    class Sync(base):
        def prep(self, shared):
            work.begin("prep")
            return range(3) if is_batch else None

        def exec(self, item):
            work.begin("exec")
            clock().sleep(work.spec.takes)
            return work.end(self.cur_retry, item)

        def exec_fallback(self, item, exc):
            return work.fall_back(exc)

        def post(self, shared, prep_res, results):
            work.begin("post")
            shared[work.name] = repr(results)

    return Sync


def async_leaf(base: Any, work: Work, is_batch: bool) -> type:
    class Awaiting(base):
        async def prep_async(self, shared):
            work.begin("prep")
            return range(3) if is_batch else None

        async def exec_async(self, item):
            work.begin("exec")
            await asyncio.sleep(work.spec.takes)
            return work.end(self.cur_retry, item)

        async def exec_fallback_async(self, item, exc):
            return work.fall_back(exc)

        async def post_async(self, shared, prep_res, results):
            work.begin("post")
            shared[work.name] = repr(results)

    return Awaiting


def make_leaf(spec: Leaf, counts: Counter[tuple[str, str]], name: str) -> Any:
    work = Work(spec, name, counts)
    given: dict[str, Any] = {"name": name, "timeout": spec.timeout}
    if spec.kind in ASYNC:
        if spec.kind == "parallel batch of two":
            given["concurrency"] = 2
        cls = async_leaf(ASYNC[spec.kind], work, "batch" in spec.kind)
    else:
        if spec.kind == "thread":
            given["in_thread"] = True
        cls = sync_leaf(SYNC.get(spec.kind, Node), work, spec.kind == "batch")
    return cls(spec.tries, spec.wait, **given)


def chain(nodes: list[Any]) -> Any:
    for one, other in itertools.pairwise(nodes):
        one >> other
    return nodes[0]


def turning(nodes: list[Any], name: str) -> Any:
    """Connect *nodes* to a loop that is gone through twice."""

    class Turn(Node):
        def post(self, shared, prep_res, exec_res):
            shared[name] = shared.get(name, 0) + 1
            return "again" if shared[name] % 2 else "out"

    turn = Turn(name=f"{name} turn")
    first = chain([*nodes, turn])
    turn - "again" >> first
    return first


def branching(nodes: list[Any], name: str) -> Any:
    """Connect *nodes* so that the first of them is followed by one of the others."""

    class Choose(Node):
        def post(self, shared, prep_res, exec_res):
            return str(len(nodes) - 1)

    choose = Choose(name=f"{name} choose")
    for number, node in enumerate(nodes):
        choose - str(number) >> node
    return choose


def rounds(base: Any) -> type:
    class Rounds(base):
        def prep(self, shared):
            return [{"round": 0}, {"round": 1}]

        async def prep_async(self, shared):
            return [{"round": 0}, {"round": 1}]

    return Rounds


FLOWS = {
    "flow": AsyncFlow,
    "loop": AsyncFlow,
    "branch": AsyncFlow,
    "sync flow": Flow,
    "sync loop": Flow,
    "rounds": rounds(AsyncBatchFlow),
    "parallel rounds": rounds(AsyncParallelBatchFlow),
    "sync rounds": rounds(BatchFlow),
}


def build(spec: Any, counts: Counter[tuple[str, str]], name: str = "n") -> Any:
    """Build the node that *spec* describes; the nodes count what they do by their names."""
    if isinstance(spec, Leaf):
        return make_leaf(spec, counts, name)
    parts = [build(part, counts, f"{name}{place}") for place, part in enumerate(spec.parts)]
    on_error = "collect" if spec.collect else "raise"
    if spec.kind == "side by side":
        return parallel(*parts, concurrency=spec.limit, on_error=on_error, name=name)
    given: dict[str, Any] = {"name": name, "timeout": spec.timeout}
    if spec.kind == "parallel rounds":
        given["concurrency"] = spec.limit
    if "loop" in spec.kind:
        return FLOWS[spec.kind](turning(parts, name), ends=["out"], **given)
    if spec.kind == "branch":
        return FLOWS[spec.kind](branching(parts, name), **given)
    return FLOWS[spec.kind](chain(parts), **given)
