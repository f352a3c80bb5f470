"""Names to which this engine gives a meaning stay free for PocketFlow programs."""

import asyncio
import itertools

import engine_under_test as pf
import pytest
from engine_under_test import AsyncFlow, AsyncNode, Flow, Node

OPTIONS = [
    "timeout",
    "retry_on",
    "backoff",
    "max_wait",
    "jitter",
    "name",
    "in_thread",
    "concurrency",
    "on_error",
    "max_steps",
    "options",
]
METHODS = ["validate", "to_mermaid", "resume"]


# What PocketFlow's own classes have: these names have always been taken.
TAKEN = {
    "set_params",
    "next",
    "prep",
    "exec",
    "post",
    "_exec",
    "_run",
    "run",
    "exec_fallback",
    "start",
    "get_next_node",
    "_orch",
    "prep_async",
    "exec_async",
    "exec_fallback_async",
    "post_async",
    "run_async",
    "_run_async",
    "_orch_async",
    "cur_retry",
}
CLASSES = [
    cls for cls in vars(pf).values() if isinstance(cls, type) and issubclass(cls, pf.BaseNode)
]
NEW_NAMES = sorted(
    {name for cls in CLASSES for name in vars(cls) if not name.startswith(("__", "_pf_"))} - TAKEN
)


class Thing:
    """A value that no option could make sense of."""

    def __bool__(self):
        raise ValueError("nobody may ask")


def flaky(kind, where, name, value, seen):
    """A node that fails once and has *value* under *name*, set in the given place."""
    tries = itertools.count()

    def exec_(self, prep_res):
        if next(tries) == 0:
            raise ValueError("once")
        return "worked"

    def post(self, shared, prep_res, exec_res):
        seen.append((exec_res, getattr(self, name)))

    cls = kind.cls("Node", exec=exec_, post=post)

    def init(self, *args):
        setattr(self, name, value)
        super(cls, self).__init__(*args)

    on_class = {
        "class": {name: value},
        "property": {name: property(lambda self: value)},
        "before": {"__init__": init},
        "instance": {},
    }
    for attribute, given in on_class[where].items():
        setattr(cls, attribute, given)
    node = cls(2)
    if where == "instance":
        setattr(node, name, value)
    return node


@pytest.mark.parametrize("where", ["instance", "before", "class", "property"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_users_attribute_of_that_name_is_the_users(kind, where, name):
    """A node with its own `self.timeout` keeps it, and runs as if it had another name."""
    value, seen = Thing(), []
    node = flaky(kind, where, name, value, seen)

    kind.run(kind.flow(node), {})

    assert seen == [("worked", value)]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_users_method_of_that_name_is_the_users(kind, name):
    """A node may have a method called `timeout`."""
    value, seen = lambda self: "mine", []
    node = flaky(kind, "class", name, value, seen)

    kind.run(kind.flow(node), {})

    assert [result for result, _ in seen] == ["worked"]
    assert getattr(node, name)() == "mine"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_users_attribute_on_a_flow_is_the_users(kind, name):
    """The same for flows: `flow.timeout = x` changes nothing."""
    value, seen = Thing(), []
    flow = kind.flow(kind.node(post=lambda self, s, p, e: seen.append("ran")))
    setattr(flow, name, value)

    kind.run(flow, {})
    kind.run(kind.flow(flow), {})

    assert seen == ["ran", "ran"]
    assert getattr(flow, name) is value


@pytest.mark.parametrize(
    "name", ["timeout", "concurrency", "on_error", "max_steps", "name", "jitter"]
)
def test_a_users_attribute_on_a_batch_is_the_users(batch, name):
    """The same for batch nodes and batch flows."""
    value, seen = Thing(), []
    node = batch.batch_node(
        prep=lambda self, s: [1, 2],
        exec=lambda self, i: i,
        post=lambda self, s, p, e: seen.append(e),
    )
    flow = batch.batch_flow(node, prep=lambda self, s: [{}, {}])
    setattr(node, name, value)
    setattr(flow, name, value)

    batch.run(flow, {})

    assert seen == [[1, 2], [1, 2]]


@pytest.mark.parametrize("base", [Node, AsyncNode])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_users_constructor_may_take_that_name(base, name):
    """`class Mine(Node): def __init__(self, timeout): …` works as it always did."""

    def init(self, value):
        base.__init__(self, max_retries=2)
        setattr(self, name, value)

    node = type("Mine", (base,), {"__init__": init})("mine")
    flow = (AsyncFlow if base is AsyncNode else Flow)(node)
    if base is AsyncNode:
        asyncio.run(flow.run_async({}))
    else:
        flow.run({})

    assert getattr(node, name) == "mine"


@pytest.mark.parametrize("name", METHODS)
def test_a_users_flow_may_have_a_method_of_that_name(kind, name):
    """`validate` on a user's flow is never called by a run."""
    cls, called = kind.cls("Flow"), []
    setattr(cls, name, lambda self: called.append(name))

    kind.run(cls(kind.node()), {})

    assert called == []


@pytest.mark.parametrize("name", ["hooks", "observers", "path", "trail", "step", "steps", "index"])
def test_shared_belongs_to_the_user(kind, name):
    """The engine puts nothing into shared and takes nothing out."""
    shared = {name: 1}
    kind.run(kind.flow(kind.flow(kind.node())), shared)

    assert shared == {name: 1}


@pytest.mark.parametrize("name", NEW_NAMES)
def test_no_further_name_is_taken_from_nodes(kind, name):
    """Whatever else the engine's classes define, a user's node may use that name."""
    value, seen = Thing(), []
    node = flaky(kind, "instance", name, value, seen)

    kind.run(kind.flow(node), {})

    assert seen == [("worked", value)]


@pytest.mark.parametrize("name", NEW_NAMES)
def test_no_further_name_is_taken_from_flows(kind, name):
    """The same for a user's flow, run alone and nested."""
    value, seen = Thing(), []
    flow = kind.flow(kind.node(post=lambda self, s, p, e: seen.append("ran")))
    setattr(flow, name, value)

    kind.run(flow, {})
    kind.run(kind.flow(flow), {})

    assert seen == ["ran", "ran"]


@pytest.mark.parametrize("name", NEW_NAMES)
def test_no_further_name_is_taken_from_batches(batch, name):
    """The same for batch nodes and batch flows."""
    value, seen = Thing(), []
    node = batch.batch_node(
        prep=lambda self, s: [1], exec=lambda self, i: i, post=lambda self, s, p, e: seen.append(e)
    )
    flow = batch.batch_flow(node, prep=lambda self, s: [{}])
    setattr(node, name, value)
    setattr(flow, name, value)

    batch.run(flow, {})

    assert seen == [[1]]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_private_names_of_the_engine_begin_alike(cls):
    """Every private name but PocketFlow's own begins with `_pf_`, which no program uses."""
    private = {name for name in vars(cls) if name.startswith("_") and not name.startswith("__")}

    assert {name for name in private - TAKEN if not name.startswith("_pf_")} == set()
