"""`>>`, `- "action" >>`, `next` and what they leave in `successors`."""

import pytest
from engine_under_test import (
    AsyncFlow,
    AsyncNode,
    BaseNode,
    BatchNode,
    Flow,
    Node,
    _ConditionalTransition,
)

ANY = [BaseNode, Node, BatchNode, AsyncNode, Flow, AsyncFlow]


@pytest.mark.parametrize("target", ANY)
@pytest.mark.parametrize("source", ANY)
def test_rshift_joins_any_two_and_gives_the_right_one(source, target):
    """`a >> b` gives b and makes it a's "default" successor, whatever kinds they are."""
    a, b = source(), target()

    assert (a >> b) is b
    assert a.successors == {"default": b}
    assert b.successors == {}


@pytest.mark.parametrize("source", ANY)
def test_minus_action_rshift_gives_the_right_one(source):
    """`a - "x" >> b` gives b and files it under "x"."""
    a, b = source(), Node()

    assert (a - "x" >> b) is b
    assert a.successors == {"x": b}


def test_chains_read_left_to_right():
    """`(a >> b) - "x" >> c >> d` joins a to b, b to c under "x", c to d."""
    a, b, c, d = Node(), Node(), Node(), Node()

    assert ((a >> b) - "x" >> c >> d) is d
    assert (a.successors, b.successors, c.successors) == ({"default": b}, {"x": c}, {"default": d})


@pytest.mark.parametrize("action", [5, None, 1.5, b"x", ["x"], Node], ids=repr)
def test_an_action_after_minus_must_be_a_string(action):
    """`a - 5` is a TypeError that says so."""
    with pytest.raises(TypeError, match=r"^Action must be a string$"):
        Node() - action


def test_two_actions_in_a_row_are_a_type_error():
    """`a - "x" - "y"` has no meaning."""
    with pytest.raises(TypeError):
        Node() - "x" - "y"


def test_minus_makes_a_conditional_transition():
    """`a - "x"` is a `_ConditionalTransition` (`src`, `action`) and joins nothing by itself."""
    a = Node()
    half = a - "x"

    assert type(half) is _ConditionalTransition
    assert vars(half) == {"src": a, "action": "x"}
    assert a.successors == {}


def test_a_conditional_transition_can_be_made_and_used_by_hand():
    """`_ConditionalTransition(src, action) >> target` is `src.next(target, action)`."""
    a, b, c = Node(), Node(), Node()
    half = _ConditionalTransition(a, "x")

    assert (half >> b) is b
    half.action = "y"
    half >> c

    assert a.successors == {"x": b, "y": c}


def test_a_string_subclass_is_a_string():
    """An action may be of a subclass of str."""

    class Action(str):
        __slots__ = ()

    a, b = Node(), Node()
    a - Action("x") >> b

    assert a.successors["x"] is b


@pytest.mark.parametrize("action", ["x", 5, ("a", 1), None, Node], ids=repr)
def test_next_takes_any_hashable_action(action):
    """`next(node, action)` gives the node back and checks nothing."""
    a, b = Node(), Node()

    assert a.next(b, action) is b
    assert a.successors == {action: b}


def test_next_takes_names_and_has_a_default():
    """`next(node=b, action="x")` and `next(b)` are what they look like."""
    a, b = Node(), Node()
    a.next(node=b, action="x")
    a.next(b)

    assert a.successors == {"x": b, "default": b}


def test_successors_keep_the_order_they_were_given_in():
    """Tools that draw a graph read `successors.items()` in order."""
    a = Node()
    for action in ("z", "a", "m"):
        a - action >> Node()

    assert list(a.successors) == ["z", "a", "m"]


def test_an_empty_action_is_a_key_that_no_action_reaches(said):
    """`a - "" >> b` is filed under "", while "" from post means "default"."""
    a, b = Node(), Node()
    a - "" >> b
    a.post = lambda *_: ""

    assert a.successors == {"": b}
    Flow(a).run({})
    assert said() == ["Flow ends: '' not found in ['']"]


def test_joining_checks_no_type():
    """`a >> anything` is accepted and gives that thing."""
    thing = object()
    a = Node()

    assert (a >> thing) is thing
    assert a.successors == {"default": thing}


def test_rshift_and_conditions_go_through_next():
    """A subclass that overrides `next` hears of every edge."""
    heard = []

    class Listening(Node):
        def next(self, node, action="default"):
            heard.append((node, action))
            return super().next(node, action)

    a, b, c = Listening(), Node(), Node()
    a >> b
    a - "x" >> c

    assert heard == [(b, "default"), (c, "x")]
    assert a.successors == {"default": b, "x": c}


def test_what_next_returns_is_what_the_operators_give():
    """An overridden `next` decides the value of `a >> b`."""

    class Quiet(Node):
        def next(self, node, action="default"):
            return (node, action)

    b = Node()

    assert (Quiet() >> b) == (b, "default")
    assert (Quiet() - "x" >> b) == (b, "x")


def test_each_node_has_successors_and_params_of_its_own():
    """Two nodes never share the dicts of their constructor."""
    a, b = Node(), Node()

    assert a.successors is not b.successors
    assert a.params is not b.params


def test_a_node_may_follow_itself():
    """`a - "again" >> a` is an edge from a to a."""
    a = Node()

    assert (a - "again" >> a) is a
    assert a.successors == {"again": a}
