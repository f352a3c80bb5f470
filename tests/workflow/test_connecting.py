"""`connect` where the input is not said: the one that is left."""

from __future__ import annotations

import pytest

from pocketflow_async.workflow import WorkflowBuilder
from pocketflow_async.workflow.errors import ConnectionError, CyclicDependencyError


def builder(**functions):
    made = WorkflowBuilder("w")
    for node_id, function in functions.items():
        made.add_function(node_id, function)
    return made


def edges(made):
    return [(edge.source, edge.output, edge.target, edge.input) for edge in made.connections]


def test_the_only_input_is_chosen_though_it_is_optional():
    """An input with a default is an input."""
    made = builder(a=lambda: 1, h=lambda x=2: x).connect("a", "h")

    assert edges(made) == [("a", None, "h", "x")]
    made.build()


def test_the_only_input_left_is_chosen():
    """What is fed already is not meant, whether needed or not."""
    made = builder(a=lambda: 1, b=lambda: 2, h=lambda x, y=0: (x, y))

    made.connect("a", "h").connect("b", "h")

    assert edges(made) == [("a", None, "h", "x"), ("b", None, "h", "y")]


def test_several_inputs_left_are_listed():
    """Nobody guesses: the error names them, and how to say which."""
    made = builder(a=lambda: 1, h=lambda x, y: (x, y))

    with pytest.raises(ConnectionError) as caught:
        made.connect("a", "h")

    assert "'x', 'y'" in str(caught.value)
    assert "to_input='x'" in str(caught.value)
    assert "data" not in str(caught.value)


def test_a_node_without_inputs_takes_none():
    """The name `data`, which nobody wrote, is not in the error."""
    made = builder(a=lambda: 1, b=lambda: 2)

    with pytest.raises(ConnectionError, match="node 'b' takes no input") as caught:
        made.connect("a", "b")

    assert "data" not in str(caught.value)


def test_a_circle_is_a_circle_first():
    """That the input is not clear does not hide that there can be no such edge at all."""
    made = builder(a=lambda: 1, b=lambda x: x).connect("a", "b")

    with pytest.raises(CyclicDependencyError, match="a -> b -> a"):
        made.connect("b", "a")


def test_an_input_fed_twice_is_found_by_build():
    """With one input there is no choice; `build` says what feeds it."""
    made = builder(a=lambda: 1, b=lambda: 2, h=lambda x: x).connect("a", "h").connect("b", "h")

    with pytest.raises(ValueError, match="is fed by"):
        made.build()
