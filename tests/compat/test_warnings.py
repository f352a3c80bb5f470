"""The warnings: their exact texts, and exactly how many."""

import asyncio
import warnings

import pytest
from engine_under_test import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BaseNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
)

SYNC = [BaseNode, Node, BatchNode, Flow, BatchFlow]
ASYNC = [
    AsyncNode,
    AsyncBatchNode,
    AsyncParallelBatchNode,
    AsyncFlow,
    AsyncBatchFlow,
    AsyncParallelBatchFlow,
]


@pytest.mark.parametrize("cls", [*SYNC, *ASYNC])
@pytest.mark.parametrize("action", ["default", "x", "two words", 5])
def test_overwriting_a_successor_warns_and_overwrites(said, cls, action):
    """A second successor for an action replaces the first, with one warning."""
    a, b, c = cls(), Node(), Node()
    a.next(b, action)
    a.next(c, action)

    assert said() == [f"Overwriting successor for action '{action}'"]
    assert a.successors == {action: c}


def test_the_same_successor_twice_warns_too(said):
    """Joining the same two again is an overwriting as well."""
    a, b = Node(), Node()
    a >> b
    a >> b
    a - "x" >> b
    a - "x" >> b

    assert said() == [
        "Overwriting successor for action 'default'",
        "Overwriting successor for action 'x'",
    ]


@pytest.mark.parametrize("cls", SYNC)
def test_run_with_successors_says_use_flow(said, cls):
    """`run` on anything with successors warns once and runs it without them."""
    ran = []
    a = cls()
    a.prep = lambda shared: ran.append("a") or []
    follower = Node()
    follower.prep = lambda shared: ran.append("b")
    a >> follower

    a.run({})

    assert said() == ["Node won't run successors. Use Flow."]
    assert ran == ["a"]


@pytest.mark.parametrize("cls", ASYNC)
def test_run_async_with_successors_says_use_async_flow(said, cls):
    """`run_async` on anything with successors warns once and runs it without them."""
    ran = []

    async def prep_async(shared):
        ran.append("a")
        return []

    a = cls()
    a.prep_async = prep_async
    follower = Node()
    follower.prep = lambda shared: ran.append("b")
    a >> follower

    asyncio.run(a.run_async({}))

    assert said() == ["Node won't run successors. Use AsyncFlow."]
    assert ran == ["a"]


def test_without_successors_nothing_is_said(said, pure):
    """A node or flow that stands alone runs silently."""
    pure.run(pure.node(), {})
    pure.run(pure.flow(pure.node()), {})
    pure.run(pure.batch_flow(pure.node()), {})

    assert said() == []


@pytest.mark.parametrize(
    ("action", "shown"),
    [
        ("end", "end"),
        ("done", "done"),
        (None, "None"),
        ("", ""),
        (0, "0"),
        (False, "False"),
        ([], "[]"),
        ("default", "default"),
        (7, "7"),
        (("a", 1), "('a', 1)"),
        ("it's", "it's"),
    ],
    ids=repr,
)
def test_an_action_without_a_successor_ends_the_flow_with_a_warning(said, kind, action, shown):
    """If a node has successors and none for its action, that is said once, with the raw action."""
    a = kind.node(post=lambda self, s, p, e: action)
    a - "x" >> kind.node()
    a - "y" >> kind.node()

    assert kind.run(kind.flow(a), {}) == action
    assert said() == [f"Flow ends: '{shown}' not found in ['x', 'y']"]


def test_a_terminal_node_ends_the_flow_silently(said, kind):
    """Where nothing follows, any action ends the flow without a word."""
    kind.run(kind.flow(kind.node(post=lambda self, s, p, e: "end")), {})

    assert said() == []


def test_the_keys_are_listed_as_python_shows_them(said, kind):
    """The list in the text is the list of keys, numbers and all."""
    a = kind.node(post=lambda self, s, p, e: "no")
    a.next(kind.node(), 1)
    a.next(kind.node(), "two")

    kind.run(kind.flow(a), {})

    assert said() == ["Flow ends: 'no' not found in [1, 'two']"]


def test_none_as_a_successor_ends_the_flow_with_the_warning(said, kind):
    """`a >> None` means: end here. It is said, as for a missing action."""
    a = kind.node()
    a >> None

    assert kind.run(kind.flow(a), {}) is None
    assert said() == ["Flow ends: 'None' not found in ['default']"]


def test_a_loop_that_ends_by_action_warns_once(said, kind):
    """A loop left by an unknown action warns at its end, not in every round."""

    def post(self, shared, p, e):
        shared["n"] += 1
        return "again" if shared["n"] < 10 else "done"

    a = kind.node(post=post)
    a - "again" >> a
    kind.run(kind.flow(a), {"n": 0})

    assert said() == ["Flow ends: 'done' not found in ['again']"]


def test_every_run_of_a_batch_flow_warns_for_itself(said, batch):
    """Three items that end by an unknown action are three warnings."""
    a = batch.node(post=lambda self, s, p, e: "done")
    a >> batch.node()
    batch.run(batch.batch_flow(a, prep=lambda self, s: [{}] * 3), {})

    assert said() == ["Flow ends: 'done' not found in ['default']"] * 3


def test_nested_flows_warn_level_by_level(said, kind):
    """An action unknown inside and outside is said twice: the inner flow's result is an action."""
    a = kind.node(post=lambda self, s, p, e: "done")
    a - "x" >> kind.node()
    inner = kind.flow(a)
    inner - "y" >> kind.node()
    kind.run(kind.flow(inner), {})

    assert said() == [
        "Flow ends: 'done' not found in ['x']",
        "Flow ends: 'done' not found in ['y']",
    ]


def test_nested_flows_with_successors_do_not_say_use_flow(said, kind):
    """Only the top call warns of successors: inside a flow they are what is wanted."""
    seen = []
    inner = kind.flow(kind.node())
    inner >> kind.node(post=lambda self, s, p, e: seen.append("after"))
    kind.run(kind.flow(inner), {})

    assert said() == []
    assert seen == ["after"]


def test_get_next_node_by_hand_warns_too(said):
    """The warning belongs to `get_next_node`, which may be called directly."""
    a, b = Node(), Node()
    a - "x" >> b

    assert Flow().get_next_node(a, "x") is b
    assert Flow().get_next_node(b, "x") is None
    assert said() == []
    assert Flow().get_next_node(a, None) is None
    assert said() == ["Flow ends: 'None' not found in ['x']"]


def test_a_warning_turned_into_an_error_stops_the_flow(kind):
    """Under `error` filters the warning is raised out of the run."""
    a = kind.node(post=lambda self, s, p, e: "done")
    a >> kind.node()

    with pytest.raises(UserWarning, match="Flow ends: 'done' not found"):
        kind.run(kind.flow(a), {})


def test_an_overwriting_turned_into_an_error_leaves_the_graph_alone():
    """The warning comes before the change."""
    a, b = Node(), Node()
    a >> b
    with pytest.raises(UserWarning, match="Overwriting"):
        a >> Node()

    assert a.successors == {"default": b}


def test_warnings_are_plain_user_warnings_of_the_engines_own_modules(said):
    """A filter on the module "pocketflow" silences them: they name the engine's own file."""
    a = Node()
    a >> Node()
    a.post = lambda *_: "end"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pocketflow")
        a.run({})
        Flow(a).run({})
        a >> Node()

    assert said() == []


def test_categories_are_exactly_user_warning():
    """The category is UserWarning itself."""
    a = Node()
    with pytest.warns(UserWarning, match="Overwriting") as caught:
        a >> a >> a

    assert [warning.category for warning in caught] == [UserWarning]
