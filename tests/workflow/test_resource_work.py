"""Resource nodes: a method is called with the params as they are."""

from __future__ import annotations

import pytest

from pocketflow_async.workflow import AsyncWorkflowBuilder
from pocketflow_async.workflow.resource_work import ResourceWork


class Database:
    """Records how it was called."""

    def __init__(self):
        self.nested = self

    async def fetch(self, *args, **kwargs):
        return args, kwargs

    def plain(self, query):
        return query

    _hidden = fetch
    size = 3


class Here:
    run_id = "r"
    node_id = "n"

    async def get_resource(self, name):
        return {"db": Database()}[name]


async def call(params=None, operation="fetch", inputs=None, **options):
    work = ResourceWork("db", operation, params, **options)
    return await work.run(inputs or {}, Here())


HOSTILE = ['SELECT "a"', '" + str(1+1) + "', "a'b\\", "$", "${", "${}", "${1x}", "{x}", "\n", "%s"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_params_are_never_code(text):
    """Quotes and expressions arrive as they were written."""
    assert (await call({"query": text}))["result"] == ((), {"query": text})


async def test_params_in_order_or_by_name():
    """A list is for positions, a dict for names, nothing for none."""
    assert (await call([1, "x"]))["result"] == ((1, "x"), {})
    assert (await call({"a": None}))["result"] == ((), {"a": None})
    assert await call(output_field="rows") == {
        "rows": ((), {}),
        "resource": "db",
        "operation": "fetch",
    }


async def test_variables_stand_for_inputs():
    """A whole text is the value itself; within a text it is filled in; also deep inside."""
    inputs = {"id": 5, "name": "n"}
    params = ["${id}", "id=${id} ${name}", {"k": ["${id}"]}, ("${name}",), 7]

    assert (await call(params, inputs=inputs))["result"][0] == (
        5,
        "id=5 n",
        {"k": [5]},
        ("n",),
        7,
    )
    assert list(ResourceWork("db", "fetch", params).inputs.known) == ["id", "name"]
    assert not ResourceWork("db", "fetch", params).inputs.open


async def test_inputs_never_replace_params():
    """An input of a run that has the name of a param does not change the call."""
    out = await call({"query": "SELECT 1"}, inputs={"query": "DROP TABLE users"})

    assert out["result"] == ((), {"query": "SELECT 1"})


async def test_a_variable_that_is_no_input_is_named():
    """The error has the variable and the inputs."""
    with pytest.raises(ValueError, match=r"params use \$\{id\}, but the inputs are 'x'"):
        await call(["${id}"], inputs={"x": 1})


async def test_synchronous_and_nested_operations():
    """A method that is not asynchronous is called too; dots go into attributes."""
    assert (await call(["q"], "plain"))["result"] == "q"
    assert (await call(["q"], "nested.plain"))["result"] == "q"


@pytest.mark.parametrize(
    ("operation", "error", "text"),
    [("fech", AttributeError, "did you mean 'fetch'"), ("size", TypeError, "is no method")],
)
async def test_an_operation_that_is_not_there(operation, error, text):
    """The error names the resource and what it has."""
    with pytest.raises(error, match=text):
        await call(operation=operation)


async def test_a_resource_that_is_not_there():
    """Whatever the registry raises comes through."""
    with pytest.raises(LookupError):
        await ResourceWork("gone", "fetch").run({}, Here())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("db", "_hidden"), ValueError),
        (("db", "__class__"), ValueError),
        (("db", "a.__class__"), ValueError),
        (("db", "a b"), ValueError),
        (("db", "a."), ValueError),
        (("db", ""), TypeError),
        (("db", None), TypeError),
        (("", "fetch"), TypeError),
        ((5, "fetch"), TypeError),
        (("db", "fetch", "SELECT 1"), TypeError),
        (("db", "fetch", 5), TypeError),
        (("db", "fetch", {1: 2}), TypeError),
        (("db", "fetch", None, ""), TypeError),
        (("db", "fetch", None, "resource"), ValueError),
    ],
)
def test_wrong_arguments_are_refused_when_the_node_is_added(arguments, error):
    """Also by the builder, which names the node and adds nothing."""
    with pytest.raises(error):
        ResourceWork(*arguments)
    builder = AsyncWorkflowBuilder()
    *rest, field = (*arguments, None, "result")[:4] if len(arguments) < 4 else arguments
    with pytest.raises(error, match="node 'n'"):
        builder.add_resource_node("n", *rest, output_field=field)
    assert not builder.nodes


def test_a_resource_node_requires_its_resource():
    """It is among the required resources of the workflow."""
    builder = AsyncWorkflowBuilder()
    builder.add_resource_node("n", "db", "fetch", required_resources=["other"])

    assert builder.list_required_resources() == ["db", "other"]


async def test_a_variable_may_lead_into_an_input():
    """Keys and places are joined by dots; what is not there is an error that names what is."""
    params = ["${user.id}", "${rows.1.name}", "no $${user.id}"]
    inputs = {"user": {"id": 7}, "rows": [{"name": "a"}, {"name": "b"}]}

    value, _ = (await call(params, inputs=inputs))["result"]

    assert value == (7, "b", "no ${user.id}")
    with pytest.raises(LookupError, match="id"):
        await call(["${user.name}"], inputs=inputs)
