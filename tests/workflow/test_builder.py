"""Builders: nodes of every kind, both forms of connect, and an error for whatever is wrong."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async import AsyncFlow, AsyncNode, Node
from pocketflow_async.nodes.code import AsyncPythonCodeNode, PythonCodeNode
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncWorkflowBuilder,
    ConnectionError,
    CyclicDependencyError,
    Edge,
    ErrorHandler,
    RetryPolicy,
    SafetyViolationError,
    WorkflowBuilder,
    WorkflowValidationError,
)
from pocketflow_async.workflow.builder import WorkflowBuilder as FromItsModule

BUILDERS = [WorkflowBuilder, AsyncWorkflowBuilder]


class Double(AsyncNode):
    def __init__(self, factor=2, **given):
        super().__init__(**given)
        self.factor = factor

    async def exec_async(self, prep_res):
        return self.factor


def code(builder, *ids):
    for node_id in ids:
        builder.add_node("PythonCodeNode", node_id, {"code": "result = {'data': 1}"})
    return builder


def edges(builder):
    return [(edge.source, edge.output, edge.target, edge.input) for edge in builder.connections]


def test_the_guides_import_it_from_both_places():
    """The package and its module give the same class."""
    assert FromItsModule is WorkflowBuilder


def test_a_code_node_yields_its_value_under_result():
    """`add_node` with the name of a type makes wrapped nodes and returns their ids."""
    builder = WorkflowBuilder()

    assert builder.add_node("PythonCodeNode", "a", {"code": "result = 1"}) == "a"
    builder.add_node("AsyncPythonCodeNode", "b", {"code": "await f()\nresult = 1", "timeout": 5})
    workflow = builder.build()

    assert workflow.nodes["a"].wrapped
    assert workflow.nodes["a"].timeout is None
    assert not workflow.nodes["a"].work.is_async
    assert workflow.nodes["b"].timeout == 5
    assert workflow.nodes["b"].max_concurrent_tasks == 10
    assert workflow.nodes["b"].work.is_async


@pytest.mark.parametrize(
    ("thing", "config", "kind", "wrapped"),
    [
        (PythonCodeNode, {"code": "result = 1"}, "PythonCodeNode", True),
        (AsyncPythonCodeNode, {"code": "result = 1"}, "AsyncPythonCodeNode", True),
        (PythonCodeNode("result = 1"), None, "PythonCodeNode", True),
        (AsyncPythonCodeNode.from_function(lambda: 1), None, "Function", True),
        ("PythonCodeNode", {"code": lambda x: x}, "Function", True),
        (lambda x: x, None, "Function", False),
        (Double, {"factor": 3}, "Node", False),
        (Double(), None, "Node", False),
        (AsyncFlow, {"start": Double()}, "Flow", False),
        (AsyncFlow(start=Double()), None, "Flow", False),
        (code(WorkflowBuilder(), "x"), None, "Workflow", False),
        (code(WorkflowBuilder(), "x").build(), None, "Workflow", False),
    ],
)
def test_a_node_can_be_made_of_many_things(thing, config, kind, wrapped):
    """Names, classes, and objects that are made already."""
    builder = WorkflowBuilder()
    builder.add_node(thing, "n", config, description="what for")

    spec = builder.build().nodes["n"]

    assert (spec.type, spec.wrapped, spec.description) == (kind, wrapped, "what for")
    assert spec.work is not None


def test_a_class_gets_its_config_as_arguments():
    """The config of a class is what its constructor is called with."""
    builder = WorkflowBuilder()
    builder.add_node(Double, "n", {"factor": 7, "max_retries": 3})

    node = builder.build().nodes["n"].work.node

    assert (node.factor, node.max_retries) == (7, 3)


def test_an_id_is_made_up_where_none_is_given():
    """Ids that are made up do not collide."""
    builder = WorkflowBuilder()
    first = builder.add_node("PythonCodeNode", config={"code": "result = 1"})
    second = builder.add_node("PythonCodeNode", config={"code": "result = 1"})

    assert first != second
    assert list(builder.nodes) == [first, second]


def test_options_go_into_the_spec():
    """What can be said about any node is said by keywords, or in the config of a named type."""
    builder = WorkflowBuilder()
    policy, handler = RetryPolicy(max_retries=2), ErrorHandler("ignore")
    builder.add_function(
        "f",
        lambda: 1,
        timeout=1.5,
        retry_policy=policy,
        error_handler=handler,
        required_resources=["db", "db"],
        condition=lambda inputs: True,
        max_concurrent_tasks=3,
    )
    spec = builder.nodes["f"]

    assert (spec.timeout, spec.max_concurrent_tasks) == (1.5, 3)
    assert spec.retry_policy is policy
    assert spec.error_handler is handler
    assert spec.required_resources == ("db",)


HOSTILE_IDS = [
    "",
    "   ",
    "a.b",
    "a\nb",
    "a\x00b",
    "a\u202eb",
    " a",
    "a ",
    "__class__",
    "x" * 10_000,
]


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("node_id", HOSTILE_IDS, ids=lambda text: repr(text[:12]))
def test_hostile_ids_are_refused(builder, node_id):
    """Ids that break ports, logs or lookups get an error that says why, of bounded length."""
    with pytest.raises(WorkflowValidationError, match="a node's id cannot be") as caught:
        builder().add_function(node_id, lambda: 1)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("node_id", [None, 5, b"a", ["a"], object()])
def test_ids_that_are_no_text_are_refused(node_id):
    """Any other type is a TypeError."""
    with pytest.raises(TypeError, match="a node's id must be a text"):
        WorkflowBuilder().add_function(node_id, lambda: 1)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_an_id_or_a_clear_error(node_id):
    """There is nothing in between, and no other kind of error."""
    builder = WorkflowBuilder()
    try:
        assert builder.add_function(node_id, lambda: 1) == node_id
    except WorkflowValidationError:
        assert not builder.nodes
    else:
        assert list(builder.build().nodes) == [node_id]


def test_an_id_is_there_once():
    """The second node of an id is refused with the words of the contract."""
    with pytest.raises(WorkflowValidationError, match="Node ID 'a' already exists in workflow"):
        code(WorkflowBuilder(), "a", "a")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda b: b.add_node("PythonCodNode", "a"), WorkflowValidationError, "did you mean"),
        (lambda b: b.add_node(5, "a"), TypeError, "a node is made of"),
        (lambda b: b.add_node(object, "a", {"x": 1}), TypeError, "config goes with"),
        (lambda b: b.add_node("PythonCodeNode", "a"), TypeError, "code must be a string"),
        (lambda b: b.add_node("PythonCodeNode", "a", "code"), TypeError, "config must be a dict"),
        (lambda b: b.add_node("PythonCodeNode", "a", {"code": 5}), TypeError, "not 5"),
        (lambda b: b.add_node("PythonCodeNode", "a", {"code": " \n"}), ValueError, "be empty"),
        (lambda b: b.add_node("PythonCodeNode", "a", {"cod": "x"}), TypeError, "mean 'code'"),
        (lambda b: b.add_node("PythonCodeNode", "a", {"code": "1+"}), ValueError, "'a', line 1"),
        (
            lambda b: b.add_node("PythonCodeNode", "a", {"code": "await f()"}),
            ValueError,
            "'a', line 1",
        ),
        (
            lambda b: b.add_node("PythonCodeNode", "a", {"code": "eval('1')"}),
            SafetyViolationError,
            "eval",
        ),
        (lambda b: b.add_function("a", 5), TypeError, "a function is needed"),
        (lambda b: b.add_function("a", len, timout=5), TypeError, "did you mean 'timeout'"),
        (lambda b: b.add_function("a", len, timeout="5"), TypeError, "'a': timeout must be"),
        (lambda b: b.add_function("a", len, timeout=0), ValueError, "above 0"),
        (lambda b: b.add_function("a", len, timeout=float("nan")), ValueError, "above 0"),
        (lambda b: b.add_function("a", len, timeout=True), TypeError, "number of seconds"),
        (lambda b: b.add_function("a", len, max_concurrent_tasks=0), ValueError, "at least 1"),
        (lambda b: b.add_function("a", len, retry_policy=3), TypeError, "RetryPolicy"),
        (lambda b: b.add_function("a", len, retry_policy=RetryPolicy), TypeError, "RetryPolicy"),
        (lambda b: b.add_function("a", len, error_handler="log"), TypeError, "ErrorHandler"),
        (lambda b: b.add_function("a", len, required_resources="db"), TypeError, "list of names"),
        (lambda b: b.add_function("a", len, required_resources=[1]), TypeError, "names"),
        (lambda b: b.add_function("a", len, condition="x > 1"), TypeError, "condition"),
        (lambda b: b.add_function("a", len, description=5), TypeError, "description"),
        (lambda b: b.add_flow("a", len), TypeError, "a flow or a node"),
        (lambda b: b.add_flow("a", Node(), outputs="x"), TypeError, "outputs"),
        (lambda b: b.add_workflow("a", "w"), TypeError, "a workflow or its builder"),
        (lambda b: b.update_node("q", {}), WorkflowValidationError, "there is no node 'q'"),
        (lambda b: b.build(""), TypeError, "workflow_id"),
        (lambda b: type(b)(5), TypeError, "name must be"),
        (lambda b: type(b)("x", description=5), TypeError, "description must be"),
    ],
)
@pytest.mark.parametrize("builder", BUILDERS)
def test_wrong_arguments_get_clear_errors(builder, call, error, text):
    """Each says what is wrong and names it; nothing is added."""
    made = builder()

    with pytest.raises(error) as caught:
        call(made)

    assert text in str(caught.value)
    assert not made.nodes


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(
    ("connect", "expected"),
    [
        (lambda b: b.connect("a", "result.data", mapping={"b": "x"}), [("result.data", "b", "x")]),
        (
            lambda b: b.connect("a", "result.data", mapping={"b": "x", "c": "y"}),
            [("result.data", "b", "x"), ("result.data", "c", "y")],
        ),
        (lambda b: b.connect("a", "result.data", {"b": "x"}), [("result.data", "b", "x")]),
        (
            lambda b: b.connect("a", "result", mapping={"b": ["x", "y"]}),
            [("result", "b", "x"), ("result", "b", "y")],
        ),
        (lambda b: b.connect("a", "b", mapping={"result": "x"}), [("result", "b", "x")]),
        (
            lambda b: b.connect("a", ["b", "c"], mapping={"result": "x"}),
            [("result", "b", "x"), ("result", "c", "x")],
        ),
        (
            lambda b: b.connect("a", "b", from_output="result", to_input="x"),
            [("result", "b", "x")],
        ),
        (lambda b: b.connect("a", "b", to_input="x"), [("result", "b", "x")]),
        (lambda b: b.connect("a", "b", from_output="result"), [("result", "b", "data")]),
        (lambda b: b.connect("a", "result", "b", "x"), [("result", "b", "x")]),
        (lambda b: b.connect("a", None, "b", "x"), [(None, "b", "x")]),
        (
            lambda b: b.connect("a", "result", ["b", "c"], "x"),
            [("result", "b", "x"), ("result", "c", "x")],
        ),
        (lambda b: b.connect("a", "b"), [("result", "b", "data")]),
        (lambda b: b.connect("a", "f"), [(None, "f", "only")]),
        (lambda b: b.connect("a", "f", from_output="result"), [("result", "f", "only")]),
        (lambda b: b.add_connection("a", "result.x", "b", "x"), [("result.x", "b", "x")]),
    ],
)
def test_every_form_of_connect(builder, connect, expected):
    """Both builders take every form, and return themselves."""
    made = code(builder(), "a", "b", "c")
    made.add_function("f", lambda only, other=1: only)

    assert connect(made) is made
    assert edges(made) == [("a", *rest) for rest in expected]


def test_a_node_wins_over_an_output_of_its_name():
    """If the second argument is the id of a node, it is that."""
    builder = code(WorkflowBuilder(), "a", "result")
    builder.connect("a", "result", mapping={"result": "x"})

    assert edges(builder) == [("a", "result", "result", "x")]


@pytest.mark.parametrize(
    ("connect", "error", "text"),
    [
        (lambda b: b.connect("a", "q"), ConnectionError, "Target node 'q' not found in workflow"),
        (lambda b: b.connect("q", "b"), ConnectionError, "Source node 'q' not found"),
        (lambda b: b.connect("a", "o", mapping={"q": "x"}), ConnectionError, "Target node 'q'"),
        (lambda b: b.connect("a", "a"), ConnectionError, "Cannot connect node 'a' to itself"),
        (lambda b: b.connect("a", "b").connect("a", "b"), ConnectionError, "Duplicate connection"),
        (
            lambda b: b.connect("a", "b").connect("c", "b").build(),
            WorkflowValidationError,
            "is fed by connection ('a', 'result')",
        ),
        (lambda b: b.connect("a", "b", mapping={}), TypeError, "mapping is empty"),
        (lambda b: b.connect("a", "b", mapping=["x"]), TypeError, "mapping must be a dict"),
        (lambda b: b.connect("a", "b", "c"), TypeError, "connect takes"),
        (lambda b: b.connect("a", "b", mapping={"x": "y"}, to_input="z"), TypeError, "go with"),
        (lambda b: b.connect("a", "o", "b", "i", mapping={"x": "y"}), TypeError, "a mapping goes"),
        (lambda b: b.connect("a", 5), TypeError, "a text or a list"),
        (lambda b: b.connect("a", []), TypeError, "a text or a list"),
        (lambda b: b.connect(5, "b"), TypeError, "from_node must be"),
        (lambda b: b.add_connection("a", "", "b", "x"), TypeError, "from_output"),
        (lambda b: b.add_connection("a", "x", "b", None), TypeError, "to_input"),
    ],
)
@pytest.mark.parametrize("builder", BUILDERS)
def test_wrong_connections_get_clear_errors(builder, connect, error, text):
    """Each names the node or argument; ConnectionError is a ValueError and the built-in one too."""
    with pytest.raises(error) as caught:
        connect(code(builder(), "a", "b", "c"))

    assert text in str(caught.value)
    assert not isinstance(caught.value, ConnectionError) or isinstance(caught.value, ValueError)


def test_a_circle_is_named():
    """Only a circle is wrong: its own error, with the path."""
    builder = code(WorkflowBuilder(), "a", "b", "c")
    builder.connect("a", "b").connect("b", "c").connect("c", "a")

    with pytest.raises(CyclicDependencyError) as caught:
        builder.build()

    assert set(caught.value.path) == {"a", "b", "c"}


def test_a_built_workflow_does_not_change():
    """The builder may go on; what it has built stays as it was, and so do its mappings."""
    builder = code(WorkflowBuilder("mine", "what for"), "a", "b")
    first = builder.build("id-1", owner="me")
    code(builder, "c").connect("a", "b")
    second = builder.set_metadata(team="x").build()

    assert (first.name, first.description, first.workflow_id) == ("mine", "what for", "id-1")
    assert (list(first.nodes), first.connections) == (["a", "b"], ())
    assert first.metadata == {"name": "mine", "description": "what for", "owner": "me"}
    assert len(second.nodes) == 3
    assert second.connections == (Edge("a", "result", "b", "data"),)
    assert second.metadata["team"] == "x"
    assert first.workflow_id != second.workflow_id
    with pytest.raises(TypeError):
        first.nodes["z"] = None


def test_names_and_ids_can_be_chosen():
    """Where ids come from is a parameter; names that are made up begin with what it is."""
    numbers = itertools.count()
    builder = WorkflowBuilder(new_id=lambda: f"number-{next(numbers)}")

    assert builder.name == "workflow_number-0"
    assert builder.build().workflow_id == "number-1"
    assert AsyncWorkflowBuilder().name.startswith("async_workflow_")


def test_a_node_can_be_changed_and_all_forgotten():
    """`update_node` keeps what is not named; `clear` keeps nothing."""
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "a", {"code": "result = 1", "description": "x"})
    builder.update_node("a", {"code": "result = 2", "timeout": 3})

    spec = builder.nodes["a"]
    assert (spec.config["code"], spec.timeout, spec.description) == ("result = 2", 3, "x")
    assert spec.wrapped
    assert not builder.clear().nodes


def test_a_builder_goes_on_from_a_workflow():
    """A built or saved workflow can be loaded into a builder and extended."""
    builder = code(WorkflowBuilder("w"), "a", "b").connect("a", "result", "b", "x")
    workflow = builder.build()

    more = code(AsyncWorkflowBuilder.from_workflow(workflow), "c").connect("b", "result", "c", "y")

    assert list(more.build().nodes) == ["a", "b", "c"]
    assert len(more.connections) == 2
    document = pytest.importorskip("pocketflow_async.workflow.documents")
    again = WorkflowBuilder.from_dict(document.to_dict(workflow))
    assert again.connections == builder.connections
    assert again.nodes["a"].config == {"code": "result = {'data': 1}"}


def test_building_is_linear():
    """Twenty thousand nodes and edges take no more than five times what four thousand do, each."""

    def seconds(count):
        began = time.process_time()
        builder = WorkflowBuilder()
        for number in range(count):
            builder.add_function(f"n{number}", len)
            if number:
                builder.add_connection(f"n{number - 1}", None, f"n{number}", "obj")
        builder.build()
        return time.process_time() - began

    assert seconds(20_000) / 20_000 < 5 * max(seconds(4_000) / 4_000, 20e-6)


def test_without_names_the_output_is_one_that_is_there():
    """`data` where there may be such a port, else all of the output."""
    builder = WorkflowBuilder()
    builder.add_function("f", lambda: {"data": 1})
    builder.add_flow("g", Double(), outputs=["x"])
    builder.add_flow("h", Double())
    builder.connect("f", "h").connect("g", "h", to_input="y")

    assert edges(builder) == [("f", "data", "h", "data"), ("g", None, "h", "y")]


def test_all_that_is_wrong_is_said_together():
    """Ports that are not there and inputs fed twice come up in build, each with its names."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code("node1", "result = {'data': 1}")
    builder.add_function("node2", lambda input: input)
    builder.add_connection("node1", "data", "node2", "input")
    builder.add_connection("node1", "output", "node2", "input")
    builder.add_connection("node1", "output", "node2", "outpt")

    with pytest.raises(WorkflowValidationError) as caught:
        builder.build()

    assert len(caught.value.problems) >= 2
    assert "fed by" in str(caught.value)
    assert "'outpt'" in str(caught.value)


async def test_a_work_of_ones_own_is_a_node():
    """An object or class with `is_async` and `run` is what the spec asks for; a subclass too."""

    class Adds:
        is_async = False

        def __init__(self, more=1):
            self.more = more

        def run(self, inputs, context):
            return inputs["x"] + self.more

    class Named(PythonCodeNode):
        """A kind of its own."""

    builder = WorkflowBuilder()
    builder.add_node(Adds(), "a")
    builder.add_node(Adds, "b", {"more": 5})
    builder.add_node(Named, "c", {"code": "result = x * 2"})
    async with AsyncLocalRuntime() as runtime:
        result = await runtime.execute_workflow_async(builder.build(), {"x": 1})

    assert result["results"] == {"a": 2, "b": 6, "c": {"result": 2}}
    with pytest.raises(TypeError, match="work has is_async and run"):
        builder.add_node("Work", "d", {"work": 5})
