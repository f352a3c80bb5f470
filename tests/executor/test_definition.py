"""What is wrong with a workflow is said at once, with the block and the place in the JSON."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.workflow.definition import (
    Source,
    WorkflowCycleError,
    WorkflowDefinitionError,
    check_name,
)
from pocketflow_async.workflow.dialects import NaturalPorts, define
from pocketflow_async.workflow.executor import NoHandlerError, WorkflowExecutor
from tests.executor.executor_kit import block, buy, connected, provider, threshold, trade


def problems(workflow):
    with pytest.raises(WorkflowDefinitionError) as caught:
        define(workflow)
    return list(caught.value.problems)


def one(**changes):
    """A workflow of one block with these changes."""
    return {"blocks": [{"id": "p", "category": "providers", "type": "test", **changes}]}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("riskeffect", "risk_effect"),
        ("riskEffect", "risk_effect"),
        ("on_restrat", "on_restart"),
        ("time_out", "timeout"),
        ("propertes", "properties"),
        ("input", "inputs"),
    ],
)
def test_a_misspelt_key_of_a_block_is_refused(key, meant):
    """Else it would be left out, and nobody would see it."""
    (problem,) = problems(one(**{key: "reduce"}))

    assert problem.startswith("block 'p', at /blocks/0: ")
    assert f"{key!r}; did you mean {meant!r}?" in problem


@pytest.mark.parametrize(
    "key",
    [
        *("icon", "x", "position", "style", "label", "title", "ports", "data", "description"),
        *("_inputs", "inputPorts", "outputPorts", "displayName", "collapsed", "color", ""),
    ],
)
def test_what_an_editor_keeps_in_a_block_is_allowed(key):
    """Keys that are not nearly one of ours mean nothing here."""
    assert define(one(**{key: 1})).hash == define(one()).hash


def connection(source, target, start=0, end=0):
    return {
        "from": {"blockId": source, "index": start},
        "to": {"blockId": target, "index": end},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"blocks": [', "the workflow is no JSON: Expecting value: line 1 column 13"),
        (b"\xff\xfe\x00", "the workflow is no JSON"),
        ("[" * 100_000, "the workflow is no JSON"),
        ("[]", "a workflow is a JSON object with blocks, not a list"),
        (None, "a workflow is a JSON object with blocks, not a NoneType"),
        ("{}", "at /blocks: field required"),
        ({"blocks": None}, "at /blocks: input should be a valid list"),
        ({"blocks": [3]}, "block number 0, at /blocks/0: "),
        ({"blocks": [], "connections": {}}, "at /connections: input should be a valid list"),
        ({"blocks": [], "x": float("nan")}, "at /x: nan is no number that JSON has"),
        ({"blocks": [], "x": {1: 2}}, "at /x: the key 1 is an int; JSON has only text for keys"),
        ({"blocks": [], "x": [{"y": object()}]}, "at /x/0/y: an object is no plain JSON"),
        ({"blocks": [], "x": 10**5000}, "at /x: the number has too many digits"),
    ],
)
def test_what_is_no_workflow(text, said):
    """Each has one line, which says what it is and where."""
    (problem,) = problems(text)

    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": None}, "block number 0, at /blocks/0/id: input should be a valid string"),
        ({"id": ""}, "block number 0, at /blocks/0/id: string should have at least 1 character"),
        ({"id": "a\nb"}, r"block 'a\nb', at /blocks/0/id: has characters in it that cannot"),
        ({"id": "\ud800"}, r"block '\ud800', at /blocks/0/id: input should be a valid string"),
        ({"id": "x" * 201}, "at /blocks/0/id: string should have at most 200 characters"),
        ({"category": "magic"}, "block 'p', at /blocks/0/category: input should be 'providers'"),
        ({"type": 7}, "block 'p', at /blocks/0/type: input should be a valid string"),
        ({"properties": []}, "block 'p', at /blocks/0/properties: input should be a valid dict"),
        ({"timeout": 0}, "block 'p', at /blocks/0/timeout: input should be greater than 0"),
        ({"timeout": "30"}, "block 'p', at /blocks/0/timeout: input should be a valid number"),
        ({"timeout": True}, "block 'p', at /blocks/0/timeout: input should be a valid number"),
        ({"inputs": {"v": 3}}, "block 'p', at /blocks/0/inputs/v: input should be a valid string"),
        ({"inputs": [{"type": "x"}]}, "block 'p', at /blocks/0/inputs/0/name: field required"),
        ({"inputs": 3}, "block 'p', at /blocks/0/inputs: input should be a valid list"),
        ({"outputs": ["a", 3]}, "block 'p', at /blocks/0/outputs/1: "),
        ({"outputs": ["a", "b", "a"]}, "block 'p', at /blocks/0/outputs: there are two outputs"),
        ({"risk_effect": "big"}, "block 'p', at /blocks/0/risk_effect: input should be 'none'"),
        ({"on_restart": "no"}, "block 'p', at /blocks/0/on_restart: input should be 'rerun'"),
    ],
)
def test_what_is_wrong_with_a_block(changes, said):
    """The line names the block and points at the field."""
    (problem,) = problems(one(**changes))

    assert said in problem


def test_all_problems_are_told_at_once():
    """Fields of several blocks, all in one error, each on a line of its own."""
    workflow = {"blocks": [{"id": "a"}, {"id": "b", "category": "x", "type": "t", "timeout": -1}]}

    found = problems(workflow)

    assert [line.partition(":")[0] for line in found] == [
        "block 'a', at /blocks/0/category",
        "block 'a', at /blocks/0/type",
        "block 'b', at /blocks/1/category",
        "block 'b', at /blocks/1/timeout",
    ]


def test_errors_do_not_show_values():
    """What stands in a wrong field may be a secret."""
    (problem,) = problems(one(properties="hunter2-secret"))

    assert "hunter2" not in problem


def test_pointers_are_escaped():
    """A slash or tilde in a name is escaped in the JSON pointer (RFC 6901)."""
    (problem,) = problems(one(inputs={"a/b~c": "nobody"}))

    assert problem.startswith("block 'p', at /blocks/0/inputs/a~1b~0c: 'nobody' refers to no block")


def test_missing_parts_have_defaults():
    """Defect 23: properties, config, inputs, outputs and connections may be absent."""
    nulls = dict.fromkeys(
        ("name", "properties", "config", "inputs", "outputs", "timeout", "risk_effect")
    )

    for workflow in (one(), one(**nulls), {**one(), "connections": None}):
        (found,) = define(workflow).blocks
        assert (found.name, found.properties, found.inputs, found.outputs) == ("p", {}, (), ())
        assert found.timeout is None
        assert found.node()["properties"] == found.node()["config"] == {}


def test_a_block_id_may_be_there_once():
    """Defect 23: a second block of the same id is no silent replacement."""
    found = problems({"blocks": [provider("a"), provider("b"), provider("a")]})

    assert found == ["block 'a', at /blocks/2/id: /blocks/0 has this id, too"]


def test_a_connection_to_nowhere_is_no_cycle():
    """Defect 23: it is told as what it is, with what may have been meant."""
    workflow = {**connected(trade()), "connections": [connection("prise", "cheap")]}

    (problem,) = problems(workflow)

    assert problem == (
        "at /connections/0/from/blockId: there is no block 'prise'; did you mean 'price'?"
    )


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0, 1), "block 'cheap', at /connections/0/to/index: there is no input 1: it has 1,"),
        ((1, 0), "block 'price', at /connections/0/from/index: there is no output 1: it has 1,"),
    ],
)
def test_ports_are_counted_from_0(ends, said):
    """A place beyond the declared ports is wrong, with how many there are."""
    workflow = {**connected(trade()), "connections": [connection("price", "cheap", *ends)]}

    (problem,) = problems(workflow)

    assert problem.startswith(said)


@pytest.mark.parametrize("index", [-1, "0", 1.5, True])
def test_an_index_is_a_whole_number(index):
    """What is no index is told with its pointer."""
    workflow = {**connected(trade()), "connections": [connection("price", "cheap", index)]}

    (problem,) = problems(workflow)

    assert problem.startswith("at /connections/0/from/index: ")


def test_an_input_is_connected_once():
    """Two sources for one input would be a guess."""
    workflow = connected(trade())
    workflow["connections"].append(connection("price", "order"))

    (problem,) = problems(workflow)

    assert problem == (
        "block 'order', at /connections/2/to: the input 'signal' is connected twice, "
        "to cheap.pass and to price.price"
    )


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("prices.price", "'prices.price' refers to no block; did you mean 'price'?"),
        ("price.prise", "block 'price' has no output 'prise'; did you mean 'price'?"),
        ("price.", "'price.' refers to no block; did you mean 'price'?"),
        ("", "'' refers to no block"),
        ("0.5", "'0.5' refers to no block. Constants go into properties"),
    ],
)
def test_references_lead_somewhere(reference, said):
    """A name that means nothing is wrong, not a text that is passed on."""
    workflow = {"blocks": [provider(), threshold("t", reference, max=1)]}

    (problem,) = problems(workflow)

    assert problem.startswith(f"block 't', at /blocks/1/inputs/value: {said}")


def test_ids_may_have_dots():
    """The block is found by its whole id; where it is not clear which, that is said."""
    blocks = [provider("eu.price"), threshold("t", "eu.price.price", max=1)]
    assert define({"blocks": blocks}).blocks[1].sources == {"value": Source("eu.price", "price")}

    unclear = [provider("eu", ["price.price"]), *blocks]
    (problem,) = problems({"blocks": unclear})
    assert "'eu.price.price' may be an output of several blocks" in problem


def test_a_bare_name_is_the_whole_output():
    """`"price"` stands for all that the block yields."""
    workflow = {"blocks": [provider(), block("n", "actions", "notify", {"message": "price"})]}

    assert define(workflow).blocks[1].sources == {"message": Source("price", None)}


def test_ports_that_nobody_declares():
    """Defect 12: a connection joins blocks that declare names, natural ports, or nothing at all."""
    natural = {"threshold": NaturalPorts(("value", "min", "max"), ("pass",))}
    plain = [{"id": name, "category": "providers", "type": "test"} for name in "ab"]
    check = {"id": "c", "category": "conditions", "type": "threshold"}

    def sources(*connections):
        workflow = {"blocks": [*plain, check], "connections": [connection(*c) for c in connections]}
        found = define(workflow, lambda _, type: natural.get(type, NaturalPorts()))
        return {one.id: one.sources for one in found.blocks if one.sources}

    assert sources(("a", "b")) == {"b": {"a": Source("a", None)}}
    assert sources(("a", "c"), ("b", "c", 0, 2)) == {
        "c": {"value": Source("a", None), "max": Source("b", None)}
    }
    assert sources(("c", "a")) == {"a": {"pass": Source("c", "pass")}}


def test_seed_outputs_with_connections():
    """Defect 12: `outputs: ["result"]` and a connection is no TypeError."""
    workflow = {
        "blocks": [provider("a", ["result"]), {**provider("b"), "inputs": {}}],
        "connections": [connection("a", "b")],
    }

    assert define(workflow).blocks[1].sources == {"result": Source("a", "result")}


def test_cycles_are_named_in_the_order_of_the_data():
    """The message is the one that is known, with the circle."""
    workflow = {
        "blocks": [
            provider("free"),
            *(block(name, "conditions", "and", inputs, ["o"]) for name, inputs in CIRCLE.items()),
        ]
    }

    with pytest.raises(
        WorkflowCycleError, match=r"^Workflow contains cycles - cannot execute: "
    ) as caught:
        define(workflow)

    path = caught.value.path
    assert path[0] == path[-1]
    assert "->".join(path) in ("a->b->c->a", "b->c->a->b", "c->a->b->c")


CIRCLE = {"a": {"x": "c.o"}, "b": {"x": "a.o"}, "c": {"x": "b.o"}, "after": {"x": "c.o"}}


def test_a_block_that_needs_itself_is_a_cycle():
    """Both are ValueErrors, as all that is wrong with a workflow."""
    with pytest.raises(ValueError, match="a -> a"):
        define({"blocks": [block("a", "conditions", "and", {"x": "a.o"}, ["o"])]})


def test_order_is_that_of_the_data_and_else_of_the_blocks():
    """Defect 3: the order comes from the references, and ties from the definition."""
    order = [one.id for one in define({"blocks": list(reversed(trade()["blocks"]))}).blocks]
    free = [one.id for one in define({"blocks": [provider(name) for name in "zyxabc"]}).blocks]

    assert order == ["price", "cheap", "order"]
    assert free == list("zyxabc")


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 12))
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    edges = draw(st.sets(pairs.filter(lambda pair: pair[0] < pair[1]), max_size=30))
    places = draw(st.permutations(range(size)))
    return size, edges, places


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_any_graph_has_one_order(graph):
    """Each block after its needs; of those that could be next, the first one in the JSON."""
    size, edges, places = graph
    needs = {n: [a for a, b in edges if b == n] for n in range(size)}
    blocks = [
        block(f"n{n}", "conditions", "and", {f"i{a}": f"n{a}.o" for a in needs[n]}, ["o"])
        for n in places
    ]

    order = [int(one.id[1:]) for one in define({"blocks": blocks}).blocks]
    again = [int(one.id[1:]) for one in define(connected({"blocks": blocks})).blocks]

    expected, left = [], list(places)
    while left:
        following = next(n for n in left if not set(needs[n]) & set(left))
        left.remove(following)
        expected.append(following)
    assert order == again == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_workflow_or_has_a_clear_error(value):
    """Whatever comes in, nothing but a definition error comes out, with a pointer on each line."""
    lines = []
    for workflow in (value, {"blocks": value}, {"blocks": [value], "connections": value}):
        try:
            define(workflow)
        except WorkflowDefinitionError as error:
            lines.extend(error.problems)

    known = ("a workflow is", "the workflow is no JSON")
    assert [line for line in lines if "at /" not in line and not line.startswith(known)] == []


def test_the_hash_is_of_what_is_executed():
    """Pictures and places do not matter; ids, settings and edges do; keys may be in any order."""
    plain = define(trade()).hash
    pictured = {**trade(), "blocks": [{**one, "x": 3, "icon": "y"} for one in trade()["blocks"]]}
    shuffled = json.loads(json.dumps(trade()))
    for one_block in shuffled["blocks"]:
        items = list(one_block.items())
        random.Random(3).shuffle(items)
        one_block.clear()
        one_block.update(items)

    assert define(pictured).hash == define(shuffled).hash == plain
    for change in ({"max": 0.98}, {"min": 0.1}):
        other = trade()
        other["blocks"][1]["properties"].update(change)
        assert define(other).hash != plain
    other = trade()
    other["blocks"][2]["timeout"] = 3
    assert define(other).hash != plain


def test_hostile_names_stay_in_their_place():
    """Markup, quotes, format strings and very long inputs are names like others."""
    names = [
        "'; DROP TABLE runs; --",
        "{0.__class__}",
        "%s%n",
        "../../etc/passwd",
        "<b>",
        "💥",
        "a:b",
    ]
    workflow = {"blocks": [provider(name) for name in names]}

    assert [one.id for one in define(workflow).blocks] == names


def test_large_workflows_are_read_in_reasonable_time():
    """A chain of 5,000 blocks, written backwards, has its order."""
    blocks = [
        block(f"n{n}", "conditions", "and", {"x": f"n{n - 1}.o"} if n else {}, ["o"])
        for n in range(5000)
    ]

    order = [one.id for one in define({"blocks": blocks[::-1]}).blocks]

    assert order == [one["id"] for one in blocks]


# --- what needs the handlers is looked at by initialize -------------------------------------------


async def test_types_without_a_handler_are_refused():
    """Unknown types, and venues with a profile that nothing connects to, are named all at once."""
    blocks = [
        {**provider("a"), "type": "nasdaq"},
        provider("b", profile_id="main", enabled_endpoints=["price_feed"]),
        provider("c"),
        block("d", "actions", "short"),
    ]

    with pytest.raises(NoHandlerError) as caught:
        await WorkflowExecutor({"blocks": blocks}).initialize()

    assert [line.partition(":")[0] for line in caught.value.problems] == [
        "block 'a', at /blocks/0",
        "block 'b', at /blocks/1",
        "block 'd', at /blocks/3",
    ]
    assert "@handler('actions', 'short')" in caught.value.problems[2]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (block("t", "conditions", "threshold", properties={"max": 1}), "input 'value' is missing"),
        (threshold("t", "price.price"), "of type 'threshold' needs a bound: give min, max or both"),
        (threshold("t", "price.price", min=None), "needs a bound"),
        (block("t", "conditions", "compare", {"value1": "price.price"}), "input 'operator' is"),
        (block("t", "conditions", "and", {"input1": "price.price"}), "needs two inputs or more"),
        (block("t", "actions", "buy", {"signal": "price.price"}), "input 'amount' is missing"),
        (block("t", "actions", "buy", properties={"amount": 1}), "input 'signal' is missing"),
        (block("t", "conditions", "math", {"a": "price.price"}), "input 'operation' is missing"),
    ],
)
async def test_inputs_that_cannot_be_there_are_refused(changed, said):
    """Nothing is connected and nothing is set: it is said before anything runs."""
    with pytest.raises(WorkflowDefinitionError, match=re.escape(said)) as caught:
        await WorkflowExecutor({"blocks": [provider(), changed]}).execute()

    assert str(caught.value).startswith("block 't', at /blocks/1/inputs: ")


async def test_declared_inputs_must_be_there():
    """A port of a handler of one's own needs a value, unless the block says that it does not."""
    inputs = [{"name": "a"}, {"name": "b", "required": False}]
    workflow = {"blocks": [{**block("x", "actions", "own"), "inputs": inputs}]}
    handlers = {("actions", "own"): lambda node, inputs, context: inputs}

    with pytest.raises(WorkflowDefinitionError, match="the input 'a' is missing"):
        await WorkflowExecutor(workflow, handlers=handlers).initialize()

    workflow["blocks"][0]["config"] = {"a": 3}
    result = await WorkflowExecutor(workflow, handlers=handlers).execute()
    assert result["outputs"] == {"x": {"a": 3}}


@pytest.mark.parametrize("value", ["", "x" * 201, "a\0b", "\ud800", "a\nb"])
def test_ids_that_cannot_be_stored_are_refused(value):
    """An id of a workflow stands in keys and logs."""
    with pytest.raises(ValueError, match="workflow_id"):
        check_name("workflow_id", value)
    with pytest.raises(TypeError, match="workflow_id must be a text, not int"):
        check_name("workflow_id", 3)


async def test_the_order_of_execution_is_known_after_initialize():
    """`execution_order` and `providers` are empty before."""
    executor = WorkflowExecutor(trade())
    assert (executor.execution_order, executor.providers) == ([], {})

    await executor.initialize()

    assert executor.execution_order == ["price", "cheap", "order"]
    assert list(executor.providers) == ["price"]


def test_risk_and_restart_by_kind():
    """Actions increase the risk and are not simply done again; two are harmless."""
    blocks = [
        provider("p"),
        buy("b", "p.price"),
        buy("exit", "p.price", type="sell", risk_effect="reduce", on_restart="rerun"),
        block("c", "actions", "cancel", {"signal": "p.price"}),
        block("n", "actions", "notify", {"signal": "p.price"}),
    ]
    executor = WorkflowExecutor({"blocks": blocks})

    assert {one.id: executor.effect_of(one) for one in executor.definition.blocks} == {
        **dict.fromkeys(("p", "c", "n"), "none"),
        "b": "increase",
        "exit": "reduce",
    }
    assert {one.id: executor.on_restart(one.id) for one in executor.definition.blocks} == {
        **dict.fromkeys(("p", "exit"), "rerun"),
        **dict.fromkeys(("b", "c", "n"), "reconcile"),
    }
