"""A property: no result depends on being watched, whatever the flow."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from contextlib import contextmanager, nullcontext
from typing import Any

from hypothesis import example, given, settings
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
    guarding,
    observing,
    parallel,
    suspended,
)
from tests.engine.engine_kit import Recorder, turns

ACTIONS = [None, "default", "a", "b", "nowhere"]
ERRORS = [ValueError, KeyError, ZeroDivisionError]


class Plan:
    """What one node does: how often it fails, how, and what it returns. Shared by its copies."""

    def __init__(self, name, fails, error, fallback, action, rest, phase):
        self.name, self.fails, self.error, self.fallback = name, fails, error, fallback
        self.action, self.rest, self.phase = action, rest, phase
        self.calls = itertools.count()

    def fail(self, phase):
        if phase == self.phase and next(self.calls) % 7 < self.fails:
            raise self.error(self.name, phase)


class Planned:
    """The phases of a sync node by plan."""

    plan: Plan

    def prep(self, shared):
        shared.append((self.plan.name, "prep", sorted(self.params)))
        self.plan.fail("prep")
        self.mark = len(shared)
        return [1, 2, 3]

    def exec(self, item):
        self.plan.fail("exec")
        return (item, self.cur_retry)

    def exec_fallback(self, item, exc):
        if not self.plan.fallback:
            raise exc
        return ("fallback", str(exc), self.cur_retry)

    def post(self, shared, prep_res, exec_res):
        self.plan.fail("post")
        shared.append((self.plan.name, "post", exec_res, hasattr(self, "mark")))
        return self.plan.action


class PlannedAsync:
    """The same, suspending in every phase."""

    async def prep_async(self, shared):
        await turns(self.plan.rest)
        return Planned.prep(self, shared)

    async def exec_async(self, item):
        async with suspended("rest"):
            await turns(self.plan.rest)
        return Planned.exec(self, item)

    async def exec_fallback_async(self, item, exc):
        await turns(self.plan.rest)
        return Planned.exec_fallback(self, item, exc)

    async def post_async(self, shared, prep_res, exec_res):
        await turns(self.plan.rest)
        return Planned.post(self, shared, prep_res, exec_res)


def build(base: type, plan: Plan, **options: Any) -> Any:
    face = PlannedAsync if issubclass(base, AsyncNode) else Planned
    # Named by its class: an option would take it off the plain path.
    return type(plan.name, (face, base), {"plan": plan})(**options)


class Rounds:
    def prep(self, shared):
        return [{"n": 0}, {"n": 1}]

    async def prep_async(self, shared):
        return [{"n": 0}, {"n": 1}]


names = itertools.count()
plans = st.fixed_dictionaries(
    {
        "fails": st.sampled_from([0, 0, 0, 1, 2, 7]),
        "error": st.sampled_from(ERRORS),
        "fallback": st.booleans(),
        "action": st.sampled_from(ACTIONS),
        "rest": st.integers(0, 2),
        "phase": st.sampled_from(["exec", "exec", "exec", "prep", "post"]),
    }
)
SYNC = {"nodes": [Node, BatchNode], "flows": [Flow, BatchFlow]}
ASYNC = {
    "nodes": [Node, BatchNode, AsyncNode, AsyncBatchNode, AsyncParallelBatchNode],
    "flows": [Flow, BatchFlow, AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow],
}


@st.composite
def recipes(draw, kinds, depth=2):
    """Describe a graph as data, so that it can be built twice."""
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        what = draw(st.sampled_from(["node", "node", "node", "flow", "parallel"]))
        if what == "flow" and depth:
            flow = draw(st.sampled_from(kinds["flows"]))
            inside = SYNC if not issubclass(flow, AsyncNode) else kinds
            parts.append(("flow", flow, draw(recipes(inside, depth - 1))))
        elif what == "parallel" and depth and kinds is ASYNC:
            branches = draw(st.lists(recipes(kinds, 0), min_size=1, max_size=3))
            parts.append(
                ("parallel", branches, draw(st.sampled_from([None, 1, 2])), draw(st.booleans()))
            )
        else:
            options = {"max_retries": draw(st.sampled_from([1, 1, 2, 3]))}
            if draw(st.booleans()):
                options["retry_on"] = draw(st.sampled_from([ValueError, (KeyError, ValueError)]))
            base = draw(st.sampled_from(kinds["nodes"]))
            if base is AsyncParallelBatchNode and draw(st.booleans()):
                options["on_error"] = "collect"
            parts.append(("node", base, draw(plans), options))
    count = len(parts)
    edges = draw(
        st.lists(
            st.tuples(
                st.integers(0, count - 1),
                st.sampled_from(["default", "a", "b"]),
                st.integers(0, count - 1),
            ),
            max_size=6,
        )
    )
    return parts, edges


def construct(recipe: Any, flow: type | None, names: Any) -> Any:
    """Build the graph; return its start or the flow around it."""
    parts, edges = recipe
    nodes = []
    for kind, *rest in parts:
        if kind == "node":
            base, plan, options = rest
            nodes.append(build(base, Plan(f"n{next(names)}", **plan), **options))
        elif kind == "flow":
            nodes.append(construct(rest[1], rest[0], names))
        else:
            branches, limit, collect = rest
            made = [construct(branch, None, names) for branch in branches]
            nodes.append(
                parallel(*made, concurrency=limit, on_error="collect" if collect else "raise")
            )
    for source, action, target in edges:
        if flow is not None or target > source:  # a branch has no max_steps to end a loop
            nodes[source].successors[action] = nodes[target]
    if flow is None:
        return nodes[0]
    bases = (Rounds, flow) if issubclass(flow, BatchFlow) else (flow,)
    return type("Outer", bases, {})(nodes[0], max_steps=12)


def outcome(recipe: Any, flow: type, cancel_after: int | None, watching: Any) -> Any:
    """Run the flow; return all that a caller can tell of it."""
    shared: list[Any] = []
    runnable = construct(recipe, flow, itertools.count())

    async def main() -> Any:
        task = asyncio.ensure_future(runnable.run_async(shared))
        if cancel_after is not None:
            await turns(cancel_after)
            task.cancel()
        try:
            return await task
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with warnings.catch_warnings(record=True) as caught, watching:
        warnings.simplefilter("always")
        try:
            if issubclass(flow, AsyncNode):
                how: Any = ("returned", asyncio.run(main()))
            else:
                how = ("returned", runnable.run(shared))
        except (Exception, asyncio.CancelledError) as error:
            others = [told(other) for other in getattr(error, "others", ())]
            how = ("raised", told(error), others)
    # Results of `collect` hold exceptions, which compare by identity: by their words instead.
    return how, repr(shared), sorted(str(warning.message) for warning in caught)


def told(error: BaseException) -> Any:
    return type(error), str(error), getattr(error, "__notes__", [])


def broken(step):
    raise RuntimeError("observer")


@contextmanager
def late(step):
    yield
    raise RuntimeError("observer")


def watches() -> list[Any]:
    """Return the ways to be watched; none of them may matter."""
    return [
        observing(Recorder()),
        observing(lambda step: None),
        observing(broken),
        observing(late),
        guarding(lambda step: None),
        both(Recorder(), broken),
    ]


@contextmanager
def both(one, other):
    with observing(one), observing(other):
        yield


@settings(max_examples=100, deadline=None)
@given(recipes(SYNC), st.sampled_from(SYNC["flows"]), st.integers(0, 5))
def test_a_synchronous_flow_does_the_same_watched_or_not(recipe, flow, way):
    """Result, error with its notes, shared and warnings are equal."""
    plain = outcome(recipe, flow, None, nullcontext())

    assert outcome(recipe, flow, None, watches()[way]) == plain


@settings(max_examples=150, deadline=None)
@given(
    recipes(ASYNC),
    st.sampled_from([AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow]),
    st.integers(0, 5),
)
def test_an_async_flow_does_the_same_watched_or_not(recipe, flow, way):
    """Sequences, branches, loops, batches, fan-outs, nests, failures: all as unwatched."""
    plain = outcome(recipe, flow, None, nullcontext())

    assert outcome(recipe, flow, None, watches()[way]) == plain


STUCK = {
    "fails": 0,
    "error": ValueError,
    "fallback": False,
    "action": None,
    "rest": 2,
    "phase": "exec",
}


@example(([("node", AsyncNode, STUCK, {"max_retries": 1})], []), AsyncFlow, 3, 0)
@settings(max_examples=100, deadline=None)
@given(
    recipes(ASYNC),
    st.sampled_from([AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow]),
    st.integers(0, 12),
    st.integers(0, 5),
)
def test_a_cancelled_flow_does_the_same_watched_or_not(recipe, flow, after, way):
    """Cancelled after so many loop turns it has come as far and leaves as little behind."""
    plain = outcome(recipe, flow, after, nullcontext())

    assert outcome(recipe, flow, after, watches()[way]) == plain
