"""Data that must not get lost in silence, and errors that say what to do."""

from __future__ import annotations

import asyncio
import sys
import traceback

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.workflow import AsyncWorkflowBuilder, RetryPolicy, WorkflowBuilder
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.parallel_map import ItemsFailedError


def of(**functions):
    made = WorkflowBuilder("w")
    for node_id, function in functions.items():
        made.add_function(node_id, function)
    return made


async def run(flow, inputs=None):
    return await AsyncLocalRuntime().execute_workflow_async(flow, inputs)


async def single(function, inputs=None, **options):
    made = WorkflowBuilder("w")
    made.add_function("n", function, **options)
    return await run(made, inputs)


def numbers():
    yield from range(3)


async def later():
    for number in range(3):
        yield number


@pytest.mark.parametrize("items", [numbers, later, lambda: iter([0, 1, 2])])
async def test_what_can_be_read_once_is_not_tried_again(items):
    """A second attempt would see the rest only: the first error stands, and says why."""
    calls = []

    async def work(items):
        calls.append(items)
        raise ValueError("no")

    result = await single(work, {"items": items()}, retry_policy=RetryPolicy(3))

    assert len(calls) == 1
    error = result.exceptions["n"]
    assert isinstance(error, ValueError)
    assert "not tried again: its input 'items' is a" in error.__notes__[0]
    assert error.__notes__[0].endswith("which can be read once; give a list")


async def test_a_list_is_tried_again():
    """What can be read again is."""
    calls = []

    def work(items):
        calls.append(list(items))
        if len(calls) < 2:
            raise ValueError("no")
        return 1

    result = await single(work, {"items": [1, 2]}, retry_policy=RetryPolicy(2, initial_delay=0.001))

    assert result["results"] == {"n": 1}
    assert calls == [[1, 2]] * 2


async def test_one_generator_goes_into_one_node_by_edges():
    """The second reader fails, instead of getting nothing."""
    made = of(a=numbers, b=lambda items: list(items), c=lambda items: list(items))
    made.connect("a", ["b", "c"])

    result = await run(made)

    assert result["results"]["b"] == [0, 1, 2]
    text = result["errors"]["c"]
    for part in ("'items'", "all of node 'a'", "a generator", "node 'b' reads it", "give a list"):
        assert part in text


async def test_one_generator_goes_into_one_node_as_input_of_the_run():
    """The same for an input of the run; code that does not name it does not read it."""
    made = of(b=lambda items: list(items), c=lambda items: list(items))
    made.add_node("PythonCodeNode", "code", {"code": "result = 1"})

    result = await run(made, {"items": numbers()})

    assert result["results"] == {"b": [0, 1, 2], "code": {"result": 1}}
    assert "input 'items' of the run" in result["errors"]["c"]


async def test_a_dict_under_the_id_of_a_node_that_takes_that_name_is_its_value():
    """A node called as its own input gets the dict; another node of that id gets its parts."""
    taken = await run(of(user=lambda user: user["name"]), {"user": {"name": "x"}})
    parted = await run(of(user=lambda name: name), {"user": {"name": "x"}})
    fed = of(a=lambda: "b", user=lambda user, name: user + name).connect(
        "a", "user", to_input="user"
    )

    assert taken["results"] == parted["results"] == {"user": "x"}
    assert (await run(fed, {"user": {"name": "x"}}))["results"]["user"] == "bx"


def test_the_error_about_items_shows_the_first():
    """Types by type, and one item with its message, both short."""
    entries = [
        {"index": i, "error_type": "ValueError", "error": f"no {i}", "item": "x" * 999}
        for i in (4, 7)
    ]

    text = str(ItemsFailedError(entries))

    assert "{'ValueError': 2}" in text
    assert "the first at index 4, item 'xxx" in text
    assert text.endswith("ValueError: no 4")
    assert len(text) < 300


async def test_timeouts_name_the_node_unless_it_is_code():
    """A function is no code."""

    async def slow():
        await asyncio.Event().wait()

    result = await single(slow, timeout=0.01)

    assert result["errors"]["n"].endswith("node 'n' (function) exceeded 0.01 s")


async def test_errors_of_functions_name_file_and_line():
    """As those of code do."""

    def work():
        raise ValueError("no")

    line = work.__code__.co_firstlineno + 1

    assert (await single(work))["errors"]["n"] == f"ValueError: no ({__file__}, line {line})"


async def _above(x):
    return x > 1


async def _above_of(inputs):
    return inputs["x"] > 1


@pytest.mark.parametrize(
    "condition",
    [
        _above,
        _above_of,
        lambda x: x > 1,
        lambda x: _above(x),
        lambda inputs: inputs["x"] > 1,
        lambda d: d["x"] > 1,
        lambda x, y=0: x > 1 + y,
        lambda **named: named["x"] > 1,
    ],
)
async def test_conditions_get_inputs_by_name_or_all_of_them(condition):
    """Asynchronous ones are awaited, whichever way they answer."""
    yes = await single(lambda x: x, {"x": 2}, condition=condition)
    no = await single(lambda x: x, {"x": 1}, condition=condition)

    assert yes["results"] == {"n": 2}
    assert no["skipped"] == {"n": "its condition is false"}


async def test_an_error_in_a_condition_says_that_it_was_that():
    """It is not the node's own."""
    result = await single(lambda x: x, {"x": 2}, condition=lambda d: d["y"])

    assert "the condition of node 'n' raised KeyError: 'y'" in result["errors"]["n"]
    assert isinstance(result.exceptions["n"].__cause__, KeyError)


async def test_a_condition_on_an_input_that_is_not_there_does_not_get_the_dict():
    """A dict would be true."""
    result = await single(lambda x=0: x, condition=lambda x: x)

    assert "needs the input 'x'" in result["errors"]["n"]


async def test_star_imports_hide_what_names_there_are():
    """The error about the name says so."""
    made = WorkflowBuilder("w")
    made.add_node("PythonCodeNode", "c", {"code": "from math import *\nresult = sqrt(4)"})

    with pytest.raises(WorkflowValidationError, match=r"`from math import \*`: that hides"):
        await run(made)


@pytest.mark.parametrize("function", [max, int, type])
def test_functions_without_a_signature_are_refused_when_added(function):
    """Nobody would know what they take."""
    with pytest.raises(TypeError, match=r"node 'a': .* does not tell which inputs it takes"):
        WorkflowBuilder("w").add_function("a", function)


@pytest.mark.parametrize(
    ("runtime", "option"),
    [(AsyncLocalRuntime, "max_concurent_nodes"), (LocalRuntime, "max_concurency")],
)
def test_unknown_options_are_guessed(runtime, option):
    """A typing error should not cost a limit."""
    with pytest.warns(UserWarning, match=f"{option!r}: ignored; did you mean 'max_concurr"):
        runtime(**{option: 3})


@pytest.mark.parametrize(
    ("inputs", "meant"),
    [({"limt": 3}, "limit"), ({"fetchh": {"limit": 3}}, "fetch")],
)
async def test_inputs_that_nobody_takes_are_guessed(inputs, meant):
    """A default in place of what was given would be a wrong result."""
    with pytest.raises(WorkflowValidationError, match=f"did you mean {meant!r}"):
        await run(of(fetch=lambda limit=1: limit), inputs)


async def test_other_inputs_that_nobody_takes_are_let_pass():
    """What is like nothing that is missing may be for another workflow."""
    result = await run(of(fetch=lambda limit=1: limit), {"limit": 2, "limits": 3, "other": 4})

    assert result["results"] == {"fetch": 2}


def _exit():
    sys.exit(3)


async def _exit_async():
    sys.exit(3)


async def test_to_end_the_process_is_an_error_of_the_node():
    """In functions as in code, also for an item of a map."""
    made = AsyncWorkflowBuilder("w")
    made.add_function("a", _exit)
    made.add_function("b", _exit_async)
    made.add_node("PythonCodeNode", "c", {"code": "import sys\nsys.exit(3)"})
    made.add_node("AsyncPythonCodeNode", "d", {"code": "import sys\nsys.exit(3)"})
    made.add_parallel_map("m", lambda item: sys.exit(item))

    errors = (await run(made, {"items": [3]}))["errors"]

    for node_id in "abcd":
        assert f"node {node_id!r}: its code raised SystemExit(3)" in errors[node_id]
    assert "SystemExit" in errors["m"]


def _interrupt():
    raise KeyboardInterrupt


async def _interrupt_async():
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", [_interrupt, _interrupt_async])
def test_ctrl_c_ends_the_run(function):
    """No retry, no error of a node, and nothing in the traceback about event loops."""
    made = WorkflowBuilder("w")
    made.add_function("n", function, retry_policy=RetryPolicy(3))

    with pytest.raises(KeyboardInterrupt) as caught:
        LocalRuntime().execute(made)

    text = "".join(traceback.format_exception(caught.value))
    assert "no running event loop" not in text


async def test_workflows_and_events_are_short():
    """However much they hold."""
    built = of(n=lambda: list(range(10_000))).build("w1")

    assert repr(built) == "<Workflow 'w' (w1): 1 node>"
    async for event in AsyncLocalRuntime().stream(built):
        assert len(repr(event)) < 500
