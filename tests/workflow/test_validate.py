"""What is wrong with a workflow, said at once, with where and what to do."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.errors import (
    ConnectionError,
    CyclicDependencyError,
    WorkflowValidationError,
)
from pocketflow_async.workflow.spec import Edge, NodeSpec, Port, Ports
from pocketflow_async.workflow.validate import check, check_edge, problems, validate

MANY = 200_000


def nodes_of(*specs):
    return {spec.id: spec for spec in specs}


def node(node_id, inputs=None, outputs=None, **rest):
    """Make a node; *inputs* by name: (type, whether it is required); closed if given."""
    takes = {} if inputs is None else inputs
    known = {name: Port(name, kind, required) for name, (kind, required) in takes.items()}
    gives = {name: Port(name, kind) for name, kind in (outputs or {}).items()}
    return NodeSpec(
        node_id,
        rest.pop("type", "Function"),
        inputs=Ports(known, open=inputs is None),
        outputs=Ports(gives, open=outputs is None),
        **rest,
    )


A, B = node("fetch"), node("total")
AB = nodes_of(A, B)


def test_nothing_wrong_is_an_empty_list():
    """A sound workflow has no problems, and check says nothing."""
    edges = [Edge("fetch", "rows", "total", "rows")]

    assert validate(AB, edges, {}) == []
    assert check(AB, edges, {}) is None


def test_everything_is_said_at_once():
    """One look finds all mistakes, each in a line of its own."""
    nodes = nodes_of(
        node("fetch", outputs={"rows": list[int]}),
        node("total", inputs={"rows": (list[str], True), "rate": (float, True)}),
        node("slow", timeout=-1, max_concurrent_tasks=0),
        node("wrong-name"),
    ) | {"named": node("misnamed")}
    edges = [
        Edge("fetch", "rows", "total", "rows"),
        Edge("fetch", "rwos", "total", "rate"),
        Edge("fetch", None, "total", "rats"),
        Edge("ftch", None, "total", "x"),
        Edge("slow", None, "slow", "x"),
        Edge("fetch", "rows", "named", "x"),
        Edge("fetch", "rows", "named", "x"),
        Edge("slow", "rows", "named", "x"),
    ]
    aliases = {"slow": "fetch", "other": "fetcj"}

    found = validate(nodes, edges, aliases, {"total": {"rat": 1}})

    expected = [
        "alias 'slow' is the id of a node too",
        "alias 'other' stands for node 'fetcj', which is not there; did you mean 'fetch'?",
        "timeout is a number of seconds above 0, not -1",
        "max_concurrent_tasks is a whole number from 1, not 0",
        "node 'named' calls itself 'misnamed'",
        "it carries list[int], but the input wants list[str]",
        "no output 'rwos': its outputs are 'rows', 'result'; did you mean 'rows'?",
        "has no input 'rats': its inputs are 'rows', 'rate'; did you mean 'rate'?",
        "there is no node 'ftch'; did you mean 'fetch'?",
    ]
    for text in expected:
        assert len([line for line in found if text in line]) == 1, text
    with pytest.raises(WorkflowValidationError) as caught:
        check(nodes, edges, aliases, {})
    assert len(caught.value.problems) > len(expected)
    assert not isinstance(caught.value, CyclicDependencyError)


def test_an_input_has_one_source():
    """Two edges into one input are a mistake, the same edge twice another."""
    edge, other = Edge("fetch", "a", "total", "x"), Edge("fetch", "b", "total", "x")

    assert "is there twice" in validate(AB, [edge, edge], {})[0]
    assert "is fed by connection ('fetch', 'a')" in validate(AB, [edge, other], {})[0]


def test_aliases_are_as_good_as_ids():
    """An edge may use either name, and the same edge under both names is still the same."""
    one, other = Edge("fetch", "a", "total", "x"), Edge("get", "a", "total", "x")

    assert validate(AB, [other], {"get": "fetch"}) == []
    assert "is there twice" in validate(AB, [one, other], {"get": "fetch"})[0]


@pytest.mark.parametrize("name", ["my-rows", "class", "1st", "a.b", ""])
def test_code_can_only_use_inputs_that_are_names(name):
    """An input that no code could write is refused for code, and only there."""
    nodes = nodes_of(A, node("code", type="AsyncPythonCodeNode"), B)

    assert (
        "no name that code could use" in validate(nodes, [Edge("fetch", "a", "code", name)], {})[0]
    )
    assert validate(nodes, [Edge("fetch", "a", "total", name)], {}) == []


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (None, 0),
        ({}, 2),
        ({"rate": 1}, 1),
        ({"rate": 1, "rows": []}, 0),
        ({"total": {"rate": 1, "rows": []}}, 0),
        ({"sum": {"rate": 1, "rows": []}}, 0),
        ({"other": {"rate": 1, "rows": []}}, 2),
        ({"total": 5}, 2),
    ],
)
def test_inputs_that_nobody_gives_are_named(given, missing):
    """Known only with the inputs of the run; one addressed to a node is not for the others."""
    inputs = {"rate": (float, True), "rows": (list, True), "note": (str, False)}
    nodes = nodes_of(node("total", inputs), node("other"))

    found = validate(nodes, [], {"sum": "total"}, given)

    assert len(found) == missing
    assert all("nobody gives input" in line and "'total'" in line for line in found)


def test_edges_and_resources_give_inputs_too():
    """What is connected, or is a declared resource, need not come from the run."""
    inputs = {"rows": (list, True), "db": (None, True)}
    nodes = nodes_of(A, node("total", inputs, required_resources=("db",)))

    assert validate(nodes, [Edge("fetch", "rows", "total", "rows")], {}, {}) == []


def test_an_input_for_a_node_that_it_has_not_is_named():
    """A slip in the inputs of one node is found, with what was meant."""
    nodes = nodes_of(node("total", {"rows": (list, True)}))

    found = validate(nodes, [], {}, {"total": {"rows": [], "row": 1}, "for_all": 1})

    assert found == ["inputs for node 'total': it has no input 'row'; did you mean 'rows'?"]


def test_circles_alone_have_an_error_of_their_own():
    """The path is true; further circles are notes."""
    nodes = nodes_of(*map(node, "abcde"))
    circle = [Edge("a", None, "b", "x"), Edge("b", None, "a", "x")]
    more = [Edge("c", None, "d", "x"), Edge("d", None, "c", "x")]

    with pytest.raises(CyclicDependencyError, match="a -> b -> a") as caught:
        check(nodes, [*circle, *more], {})

    assert caught.value.path == ("a", "b", "a")
    assert any("c -> d -> c" in note for note in caught.value.__notes__)
    with pytest.raises(WorkflowValidationError) as other:
        check(nodes, [*circle, Edge("a", None, "nobody", "x")], {})
    assert len(other.value.problems) == 2


@pytest.mark.parametrize(
    ("edge", "text"),
    [
        (Edge("fetch", "x", "fetch", "y"), "Cannot connect node 'fetch' to itself"),
        (Edge("fetch", "rows", "total", "rows"), "Duplicate connection detected"),
        (Edge("get", "rows", "total", "rows"), "Duplicate connection detected"),
        (Edge("fetch", "x", "totl", "y"), "Target node 'totl' not found in workflow"),
        (Edge("nobody", "x", "total", "y"), "Source node 'nobody' not found in workflow"),
    ],
)
def test_an_edge_that_cannot_be_is_refused_when_it_is_added(edge, text):
    """The words of the original, and classes that all its callers catch."""
    edges = {Edge("fetch", "rows", "total", "rows")}

    with pytest.raises(ConnectionError) as caught:
        check_edge(AB, edges, edge, {"get": "fetch"})

    assert text in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, WorkflowValidationError)


def test_an_unknown_node_names_those_that_are_there():
    """The message helps, and stays short with very many nodes."""
    with pytest.raises(ConnectionError, match="did you mean 'total'"):
        check_edge(AB, [], Edge("fetch", "x", "totl", "y"))
    many = nodes_of(*(node(f"n{number}") for number in range(500)))
    with pytest.raises(ConnectionError, match="and 480 more") as caught:
        check_edge(many, [], Edge("n1", "x", "?", "y"))
    assert len(str(caught.value)) < 500
    with pytest.raises(ConnectionError, match="none yet"):
        check_edge({}, [], Edge("n1", "x", "?", "y"))


@pytest.mark.parametrize("hostile", ["a\nb", "'; drop", "💥", "__class__", "x" * 10_000, "\x00"])
def test_hostile_names_break_no_message(hostile):
    """Whatever a node is called, its problems are lines."""
    nodes = nodes_of(node(hostile, timeout=0))

    found = validate(nodes, [Edge(hostile, None, "nobody", hostile)], {})

    assert len(found) == 2
    assert not any("\n" in line or "\x00" in line for line in found)


@given(
    st.lists(st.tuples(*[st.sampled_from(["a", "b", "c", "", None, "é"])] * 4), max_size=8),
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from("abcx"), max_size=3),
)
def test_any_edges_are_judged_without_a_crash(pairs, aliases):
    """Nonsense gives problems, and each says which edge or node it is about."""
    nodes = nodes_of(node("a"), node("b", {"a": (int, True)}), node("c", outputs={}))
    edges = [Edge(*pair) for pair in pairs]

    for problem in problems(nodes, edges, aliases, {}):
        assert problem.text
        assert problem.edge is None or 0 <= problem.edge < len(edges)


def test_ids_that_are_no_text_are_refused():
    """An id is a text that is not empty."""
    found = validate({7: node(7), "": node("")}, [], {})

    assert all("a node's id is a text" in line for line in found)
    assert len(found) == 2


def test_very_many_mistakes_are_listed_up_to_a_number():
    """An error can be read, however wrong things are."""
    edges = [Edge(f"x{number}", None, "total", f"y{number}") for number in range(5000)]
    started = time.process_time()

    with pytest.raises(WorkflowValidationError) as caught:
        check(AB, edges, {})

    assert time.process_time() - started < 5
    assert len(caught.value.problems) == 101
    assert caught.value.problems[-1] == "and 4900 more"
    assert len(validate(AB, edges, {})) == 5000


def test_very_many_nodes_are_validated_in_seconds():
    """A chain, a fan-out and a circle of very many nodes: no recursion, nothing quadratic."""
    ids = [str(number) for number in range(MANY)]
    nodes = dict.fromkeys(ids, node("0"))
    chain = [Edge(a, None, b, "x") for a, b in pairwise(ids)]
    fan = [Edge("0", None, other, "x") for other in ids[1:]]
    started = time.process_time()

    assert not [p for p in problems(nodes, chain, {}) if p.node is None]
    assert not [p for p in problems(nodes, fan, {}) if p.node is None]
    found = problems(nodes, [*chain, Edge(ids[-1], None, "0", "y")], {})

    assert time.process_time() - started < 20
    assert [len(p.circle) for p in found if p.circle] == [MANY + 1]
