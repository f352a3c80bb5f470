"""Class relations, constructors, attributes and exports that tools and users rely on."""

import asyncio
import copy
import inspect
import sys
import time
import warnings

import engine_under_test as pf
import pytest

LINES = {
    "BaseNode": "BaseNode",
    "Node": "Node BaseNode",
    "BatchNode": "BatchNode Node BaseNode",
    "Flow": "Flow BaseNode",
    "BatchFlow": "BatchFlow Flow BaseNode",
    "AsyncNode": "AsyncNode Node BaseNode",
    "AsyncBatchNode": "AsyncBatchNode AsyncNode BatchNode Node BaseNode",
    "AsyncParallelBatchNode": "AsyncParallelBatchNode AsyncNode BatchNode Node BaseNode",
    "AsyncFlow": "AsyncFlow Flow AsyncNode Node BaseNode",
    "AsyncBatchFlow": "AsyncBatchFlow AsyncFlow BatchFlow Flow AsyncNode Node BaseNode",
    "AsyncParallelBatchFlow": (
        "AsyncParallelBatchFlow AsyncFlow BatchFlow Flow AsyncNode Node BaseNode"
    ),
}
NAMES = list(LINES)


@pytest.mark.parametrize("name", NAMES)
def test_the_mro_of_every_class(name):
    """Restricted to the documented classes, each MRO is PocketFlow's."""
    documented = {getattr(pf, n) for n in NAMES}

    line = [cls.__name__ for cls in getattr(pf, name).__mro__ if cls in documented]

    assert " ".join(line) == LINES[name]


@pytest.mark.parametrize("base", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_isinstance_of_every_pair(name, base):
    """An instance of each class is an instance of exactly the classes in its line."""
    assert isinstance(getattr(pf, name)(), getattr(pf, base)) == (base in LINES[name].split())


BASE = {"params": {}, "successors": {}}
NODE = {**BASE, "max_retries": 1, "wait": 0}
VARS = {
    "BaseNode": BASE,
    "Node": NODE,
    "BatchNode": NODE,
    "AsyncNode": NODE,
    "AsyncBatchNode": NODE,
    "AsyncParallelBatchNode": NODE,
    "Flow": {**BASE, "start_node": None},
    "BatchFlow": {**BASE, "start_node": None},
    "AsyncFlow": {**NODE, "start_node": None},
    "AsyncBatchFlow": {**NODE, "start_node": None},
    "AsyncParallelBatchFlow": {**NODE, "start_node": None},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_new_object_has_exactly_the_documented_attributes(name):
    """`vars()` after the constructor is PocketFlow's, nothing more."""
    assert vars(getattr(pf, name)()) == VARS[name]


@pytest.mark.parametrize("name", ["Node", "BatchNode", "AsyncNode", "AsyncBatchNode"])
def test_node_options_are_attributes(name):
    """`max_retries` and `wait` are kept as given."""
    assert vars(getattr(pf, name)(4, 0.5)) == {**NODE, "max_retries": 4, "wait": 0.5}


def test_a_run_adds_nothing_but_cur_retry_to_a_node():
    """After a run by itself a node has `cur_retry` and no other new attribute."""
    node = pf.Node()
    node.run({})

    assert vars(node) == {**NODE, "cur_retry": 0}


async def test_a_run_adds_nothing_but_cur_retry_to_an_async_node():
    """The same for the async nodes (where PyPI 0.0.3 adds nothing at all)."""
    for cls in (pf.AsyncNode, pf.AsyncBatchNode, pf.AsyncParallelBatchNode):
        node = cls()
        if cls is not pf.AsyncNode:
            node.prep_async = _two
        before = set(vars(node))
        await node.run_async({})
        assert set(vars(node)) - before <= {"cur_retry"}


async def _two(shared):
    return [1, 2]


@pytest.mark.parametrize("name", ["Flow", "BatchFlow", "AsyncFlow", "AsyncBatchFlow"])
def test_a_run_adds_nothing_to_a_flow(name):
    """A flow has after a run the attributes it had before."""
    flow = getattr(pf, name)(pf.Node())
    before = dict(vars(flow))
    if isinstance(flow, pf.AsyncNode):
        asyncio.run(flow.run_async({}))
    else:
        flow.run({})

    assert vars(flow) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_classes_need_no_metaclass(name):
    """The type of every class is `type`, so that users may bring a metaclass."""
    assert type(getattr(pf, name)) is type


PARAMETERS = [
    ("BaseNode", "prep", "shared"),
    ("BaseNode", "exec", "prep_res"),
    ("BaseNode", "post", "shared prep_res exec_res"),
    ("BaseNode", "set_params", "params"),
    ("BaseNode", "next", "node action"),
    ("BaseNode", "run", "shared"),
    ("BaseNode", "_run", "shared"),
    ("Node", "exec_fallback", "prep_res exc"),
    ("Flow", "start", "start"),
    ("Flow", "get_next_node", "curr action"),
    ("Flow", "_orch", "shared params"),
    ("Flow", "post", "shared prep_res exec_res"),
    ("AsyncNode", "prep_async", "shared"),
    ("AsyncNode", "exec_async", "prep_res"),
    ("AsyncNode", "exec_fallback_async", "prep_res exc"),
    ("AsyncNode", "post_async", "shared prep_res exec_res"),
    ("AsyncNode", "run_async", "shared"),
    ("AsyncNode", "_run_async", "shared"),
    ("AsyncFlow", "_orch_async", "shared params"),
    ("AsyncFlow", "post_async", "shared prep_res exec_res"),
]


@pytest.mark.parametrize(("owner", "name", "expected"), PARAMETERS)
def test_parameters_keep_their_names_and_order(owner, name, expected):
    """Every method takes by position and by name what PocketFlow's takes."""
    method = getattr(getattr(pf, owner), name)
    taken = [
        p.name
        for p in inspect.signature(method).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]

    assert taken == ["self", *expected.split()]


@pytest.mark.parametrize("module", [asyncio, copy, time, warnings])
def test_a_star_import_brings_the_four_modules_along(module):
    """`from pocketflow import *` has always given `asyncio`, `copy`, `time` and `warnings`."""
    names = {}
    exec(f"from {pf.__name__} import *", names)

    assert names[module.__name__] is module


def test_a_star_import_brings_every_class():
    """All eleven classes come with a star import."""
    names = {}
    exec(f"from {pf.__name__} import *", names)

    assert {name: names.get(name) for name in NAMES} == {n: getattr(pf, n) for n in NAMES}


@pytest.mark.parametrize("name", [*NAMES, "_ConditionalTransition"])
def test_every_class_can_be_imported_by_name(name):
    """Each class is found in the package under its own name."""
    cls = getattr(pf, name)

    assert inspect.isclass(cls)
    assert cls.__name__ == cls.__qualname__ == name


def test_a_graph_can_be_walked_from_outside():
    """Visualizers read `.start_node`, `.successors.items()` and ask `isinstance(x, Flow)`."""
    a, b, c = pf.Node(), pf.BatchNode(), pf.AsyncNode()
    inner = pf.AsyncFlow(c)
    a - "x" >> b
    a >> inner
    edges = []

    def walk(node):
        if isinstance(node, pf.Flow):
            walk(node.start_node)
        for action, after in node.successors.items():
            edges.append((type(node).__name__, action, type(after).__name__))
            walk(after)

    walk(pf.Flow(a))

    assert edges == [("Node", "x", "BatchNode"), ("Node", "default", "AsyncFlow")]


def call_stack():
    """Names of the nodes and flows in whose methods we are, innermost first."""
    names, seen, frame = [], set(), sys._getframe(1)
    while frame:
        owner = frame.f_locals.get("self")
        if isinstance(owner, pf.BaseNode) and id(owner) not in seen:
            seen.add(id(owner))
            names.append(type(owner).__name__)
        frame = frame.f_back
    return names


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_the_call_stack_shows_who_is_running(kind, phase):
    """Every phase is called, directly or not, from a frame of its flow with a local `self`."""
    stacks = []
    node = kind.cls("Node", "Leaf", **{phase: lambda self, *args: stacks.append(call_stack())})
    inner = kind.cls("Flow", "Inner")(node())
    outer = kind.cls("Flow", "Outer")(inner)

    kind.run(outer, {})

    assert stacks == [["Leaf", "Inner", "Outer"]]


def test_the_call_stack_shows_the_batch_flow_and_node(pure):
    """The same through batch flows and batch nodes."""
    stacks = []
    node = pure.cls(
        "BatchNode",
        "Leaf",
        prep=lambda self, s: [1],
        exec=lambda self, item: stacks.append(call_stack()),
    )
    flow = pure.cls("BatchFlow", "Many", prep=lambda self, s: [{}])

    pure.run(flow(node()), {})

    assert stacks == [["Leaf", "Many"]]
