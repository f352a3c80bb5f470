"""`flow.validate()`: what is wrong with a graph is found, what may be right is not blamed."""

from __future__ import annotations

import contextlib
import enum
import functools

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncFlow,
    AsyncNode,
    BaseNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
    Parallel,
    Problem,
    parallel,
)


def kinds(flow) -> list[tuple[str, str]]:
    return [(problem.kind, problem.node) for problem in flow.validate()]


def only(flow) -> Problem:
    (problem,) = flow.validate()
    return problem


class Plain(Node):
    """Has no post: always "default"."""


class LeftRight(Node):
    def post(self, shared, prep_res, exec_res):
        if shared["left"]:
            return "left"
        return "right"


# --- every kind of problem ------------------------------------------------------------------------


@pytest.mark.parametrize("base", [Flow, BatchFlow, AsyncFlow, AsyncBatchFlow])
def test_no_start(base):
    """A flow without a start node does nothing."""
    assert only(base(name="empty")) == Problem(
        "no-start", "empty", "flow empty has no start node: give it start="
    )


def test_no_start_of_a_nested_flow():
    """Flows inside are looked at too."""
    assert kinds(Flow(Flow(Flow(name="deep")))) == [("no-start", "deep")]


def test_dead_end():
    """Post returns None, but only a named action goes on."""
    start = Plain()
    start - "go" >> Plain()

    assert ("dead-end", "Plain") in kinds(Flow(start))
    (dead, _) = Flow(start).validate()
    assert dead.message == (
        "Plain may return None or \"default\", but its successors are ['go']: "
        "the flow would end there"
    )


def test_dead_end_of_one_path():
    """One branch of post forgets to return."""

    class Forgets(Node):
        def post(self, shared, prep_res, exec_res):
            if shared:
                return "go"

    start = Forgets()
    start - "go" >> Plain()

    assert kinds(Flow(start)) == [("dead-end", "Forgets")]
    assert kinds(Flow(start, ends=("default",))) == []


def test_unknown_action():
    """Post may return an action that leads nowhere."""
    start = LeftRight()
    start - "left" >> Plain()

    assert only(Flow(start)) == Problem(
        "unknown-action",
        "LeftRight",
        "LeftRight may return 'right', but its successors are ['left']: "
        "connect it, or name it in the flow's ends=",
    )
    assert kinds(Flow(start, ends=["right"])) == []


@pytest.mark.parametrize("target", [None, "next", Plain, 5])
def test_unknown_successor(target):
    """A successor that is no node: `>>` on a class, a name, None."""
    start = Plain()
    start >> target

    problem = only(Flow(start))
    assert (problem.kind, problem.node) == ("unknown-successor", "Plain")
    assert repr(target) in problem.message


def test_unreachable_by_actions():
    """Connected by an action that the node never returns."""
    start = Plain()
    start >> Plain()
    start - "never" >> Node(name="lost")

    assert only(Flow(start)) == Problem(
        "unreachable", "lost", "lost is connected by actions that no node returns"
    )


def test_what_lies_behind_the_unreachable_is_unreachable():
    """Each of them is named."""
    start, lost = Plain(), Node(name="lost")
    start >> Plain()
    start - "never" >> lost >> Node(name="behind")

    assert kinds(Flow(start)) == [("unreachable", "lost"), ("unreachable", "behind")]


def test_unreachable_by_attribute():
    """A node that the flow keeps but never connected."""

    class Mine(Flow):
        def __init__(self):
            self.first, self.second = Plain(), Plain(name="second")
            super().__init__(self.first)

    assert only(Mine()) == Problem(
        "unreachable", "second", "second (self.second) is not connected to the start node"
    )


@pytest.mark.parametrize("inner", [AsyncNode(name="inner"), AsyncFlow(AsyncNode(), name="inner")])
def test_async_in_sync(inner):
    """An async node or flow in a plain Flow would raise; also deep inside an AsyncFlow."""
    flow = Flow(inner, name="plain")

    assert only(flow) == Problem(
        "async-in-sync", "inner", "inner is asynchronous, but plain is a plain flow: use AsyncFlow"
    )
    assert kinds(AsyncFlow(flow)) == [("async-in-sync", "inner")]


def test_a_fan_out_is_asynchronous():
    """`parallel` in a plain Flow is found too."""
    assert kinds(Flow(parallel(Plain(), name="fan"))) == [("async-in-sync", "fan")]


@pytest.mark.parametrize("base", [Node, BatchNode, AsyncNode])
@pytest.mark.parametrize("retries", [0, -1])
def test_never_runs(base, retries):
    """`max_retries=0` means no attempt at all."""
    assert only(AsyncFlow(base(retries, name="n"))) == Problem(
        "never-runs",
        "n",
        f"n has max_retries={retries}, so its exec never runs; 1 means one attempt",
    )


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_ignored_method(phase):
    """A phase written in the other colour: never called, or never awaited."""

    async def coroutine(self, *_):
        pass

    quiet = type("Quiet", (AsyncNode,), {phase: lambda self, *_: None})()
    lost = type("Lost", (Node,), {phase: coroutine})()

    assert only(AsyncFlow(quiet)) == Problem(
        "ignored-method",
        "Quiet",
        f"Quiet is an AsyncNode, so its {phase} is never called: name it {phase}_async",
    )
    assert only(Flow(lost)) == Problem(
        "ignored-method", "Lost", f"Lost.{phase} is a coroutine function, but Lost is no AsyncNode"
    )


def test_joined_twice():
    """The join written behind a branch would run in every branch."""
    a, b, join = Plain(name="a"), Plain(name="b"), Plain(name="join")
    a >> join
    b >> join

    assert only(AsyncFlow(parallel(a, b, name="fan"))) == Problem(
        "joined-twice",
        "join",
        "join follows in 2 branches of fan and would run 2 times: "
        "put it behind them, parallel(...) >> join",
    )


def test_every_problem_is_listed_once():
    """A node met on many paths, or a flow used twice, is one problem."""
    bad = Plain(0, name="bad")
    bad >> bad
    inner = Flow(bad)
    start = Flow(bad)
    start >> inner >> Flow(inner)

    assert kinds(Flow(start)) == [("never-runs", "bad")]


def test_a_problem_reads_as_one_line():
    """`str` is what a log shows; problems compare and hash by value."""
    problem = only(Flow())

    assert str(problem) == "no-start: flow Flow has no start node: give it start="
    assert len({problem, only(Flow())}) == 1


# --- what is right --------------------------------------------------------------------------------


class Colour(enum.StrEnum):
    RED = "red"


def made(post):
    return type("Made", (Node,), {"post": post})()


def by_variable(self, shared, prep_res, exec_res):
    action = shared["action"]
    return action


def by_exec(self, shared, prep_res, exec_res):
    return exec_res["next"]


def by_fstring(self, shared, prep_res, exec_res):
    return f"go-{shared}"


def by_enum(self, shared, prep_res, exec_res):
    return Colour.RED


def by_call(self, shared, prep_res, exec_res):
    return shared.get("next", "a")


def by_or(self, shared, prep_res, exec_res):
    return shared.get("next") or "a"


def by_super(self, shared, prep_res, exec_res):
    return super(type(self), self).post(shared, prep_res, exec_res)


def by_match(self, shared, prep_res, exec_res):
    match shared:
        case 1:
            return "a"
        case _:
            return "b"


def by_try(self, shared, prep_res, exec_res):
    try:
        shared["x"]
    except KeyError:
        return "a"
    else:
        return "b"
    finally:
        shared["y"] = 1


def by_with(self, shared, prep_res, exec_res):
    with contextlib.nullcontext():
        return "a" if shared else "b"


def by_raise(self, shared, prep_res, exec_res):
    if shared:
        return "a"
    elif prep_res:
        return "b"
    else:
        raise ValueError


def by_while(self, shared, prep_res, exec_res):
    while True:
        if shared:
            return "a"
        return "b"


def by_inner_function(self, shared, prep_res, exec_res):
    def helper():
        return "nowhere"

    shared.sort(key=lambda x: "nowhere")
    return "a" if helper() else "b"


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) or "a"

    return wrapper


@decorated
def by_decorator(self, shared, prep_res, exec_res):
    return None


@pytest.mark.parametrize(
    "post",
    [
        by_variable,
        by_exec,
        by_fstring,
        by_enum,
        by_call,
        by_or,
        by_super,
        by_match,
        by_try,
        by_with,
        by_raise,
        by_while,
        by_inner_function,
        by_decorator,
        lambda self, shared, prep_res, exec_res: "a",
        str,
    ],
    ids=lambda post: getattr(post, "__name__", repr(type(post))),
)
def test_a_branching_node_is_not_blamed(post):
    """Whatever post does to choose between the connected actions, it is right."""
    node = made(post)
    node - "a" >> Plain()
    node - "b" >> Plain()

    assert kinds(Flow(node)) == []


def while_one(self, shared, prep_res, exec_res):
    while 1:
        if shared:
            return "a"


def for_ever(self, shared, prep_res, exec_res):
    return (shared and "a") or "b"


def falsy_or(self, shared, prep_res, exec_res):
    return None or "a"  # noqa: SIM222 (this very idiom)


@pytest.mark.parametrize(
    "post",
    [
        while_one,
        for_ever,
        pytest.param(
            falsy_or,
        ),
    ],
)
def test_rarer_ways_to_choose_are_not_blamed_either(post):
    """Old idioms for the same."""
    node = made(post)
    node - "a" >> Plain()
    node - "b" >> Plain()

    assert "dead-end" not in [kind for kind, _ in kinds(Flow(node))]


def test_a_post_that_was_wrapped_later_is_not_blamed():
    """A class patched with a `functools.wraps` wrapper may return anything."""

    class Patched(Node):
        def post(self, shared, prep_res, exec_res):
            shared["done"] = True

    Patched.post = decorated(Patched.post)
    node = Patched()
    node - "a" >> Plain()

    assert kinds(Flow(node)) == []


def test_a_post_put_on_the_instance_is_not_blamed():
    """A lambda or function set on the node makes no claim either way."""
    node = Plain()
    node.post = lambda shared, prep_res, exec_res: "a"
    node - "a" >> Plain()
    node - "b" >> Plain()

    assert kinds(Flow(node)) == []


def test_the_last_node_may_return_what_it_likes():
    """A node without successors ends the flow on purpose."""
    assert kinds(Flow(LeftRight())) == []


def test_async_nodes_are_read_by_their_post_async():
    """Their synchronous `post` says nothing."""

    class Choose(AsyncNode):
        def post(self, shared, prep_res, exec_res):
            return "nowhere"

        async def post_async(self, shared, prep_res, exec_res):
            return "a"

    node = Choose()
    node - "a" >> AsyncNode()

    assert kinds(AsyncFlow(node)) == []


def test_a_nested_flow_may_return_any_action():
    """It returns what its last node returned."""
    inner = Flow(LeftRight())
    inner - "left" >> Plain()
    inner - "other" >> Plain()

    assert kinds(Flow(inner)) == []


def test_a_nested_flow_with_a_post_of_its_own_is_read():
    """Then its literal actions count."""

    class Inner(Flow):
        def post(self, shared, prep_res, exec_res):
            return "done"

    inner = Inner(Plain(), name="inner")
    inner - "ready" >> Plain(name="next")

    assert kinds(Flow(inner)) == [("unknown-action", "inner"), ("unreachable", "next")]


def test_fan_outs_go_on_by_default():
    """A Parallel returns None, unless a subclass routes."""

    class Vote(Parallel):
        async def post_async(self, shared, prep_res, exec_res):
            return "yes"

    fan, vote = parallel(AsyncNode()), Vote([AsyncNode()])
    fan >> vote
    vote - "yes" >> AsyncNode()

    assert kinds(AsyncFlow(fan)) == []


@pytest.mark.parametrize("loop", ["self", "two", "flow"])
def test_loops_are_walked_once(loop):
    """Self loops, loops of two, and a flow inside itself end."""
    a, b = Plain(name="a"), Plain(name="b")
    flow = Flow(a)
    if loop == "self":
        a >> a
    elif loop == "two":
        a >> b >> a
    else:
        a >> flow

    assert kinds(flow) == []


def test_nothing_is_run():
    """Neither the nodes nor properties of theirs."""

    class Trap(Node):
        def prep(self, shared):
            raise AssertionError("run")

        exec = post = prep

    assert kinds(Flow(Trap())) == []


def test_nodes_of_ones_own_making_will_do():
    """BaseNode subclasses that are no Node."""

    class Mine(BaseNode):
        def post(self, shared, prep_res, exec_res):
            return "x"

    mine = Mine()
    mine - "x" >> Mine()

    assert kinds(Flow(mine)) == []


@pytest.mark.parametrize("attribute", ["branches", "start_node"])
def test_a_users_own_attribute_does_not_make_a_node_a_flow(attribute):
    """The engine's private names begin with `_pf_`; `self.branches = {}` is the user's."""
    node = Plain()
    setattr(node, attribute, {} if attribute == "branches" else None)

    assert kinds(Flow(node)) == []


def test_a_flow_may_keep_nodes_of_its_inner_flows():
    """`self.fetch` that works inside `self.inner` is connected."""

    class Mine(Flow):
        def __init__(self):
            self.fetch = Plain(name="fetch")
            self.inner = Flow(self.fetch)
            super().__init__(self.inner)

    assert kinds(Mine()) == []
