"""Flows: routing, a fresh copy per visit, params, shared, results."""

import asyncio
import enum

import pytest
from engine_under_test import AsyncFlow, BaseNode, Flow, Node


def path(kind, *, log, name, action=None):
    """A node that appends *name* to *log* and gives *action*."""
    return kind.node(post=lambda self, s, p, e: (log.append(name), action)[1])


def test_a_chain_runs_left_to_right(kind):
    """`a >> b >> c` runs a, b, c once each."""
    log = []
    a, b, c = (path(kind, log=log, name=n) for n in "abc")
    a >> b >> c

    kind.run(kind.flow(a), {})

    assert log == ["a", "b", "c"]


@pytest.mark.parametrize("action", ["left", "right"])
def test_an_action_picks_the_successor(kind, action):
    """The action that post gives chooses the branch; the other never runs."""
    log = []
    fork = path(kind, log=log, name="fork", action=action)
    fork - "left" >> path(kind, log=log, name="left")
    fork - "right" >> path(kind, log=log, name="right")

    kind.run(kind.flow(fork), {})

    assert log == ["fork", action]


@pytest.mark.parametrize("action", [None, "", 0, False, [], {}, (), 0.0, "default"], ids=repr)
def test_falsy_actions_mean_default(kind, action):
    """None, "", 0, False, [] and their like all route to "default"."""
    log = []
    a = path(kind, log=log, name="a", action=action)
    a >> path(kind, log=log, name="b")

    kind.run(kind.flow(a), {})

    assert log == ["a", "b"]


class Step(enum.Enum):
    GO = enum.auto()


class Word(str, enum.Enum):  # noqa: UP042
    GO = "go"


@pytest.mark.parametrize(
    ("key", "action"),
    [
        (1, 1),
        (1, True),
        (("a", 1), ("a", 1)),
        (Step.GO, Step.GO),
        ("go", Word.GO),
        (Word.GO, "go"),
        (frozenset("ab"), frozenset("ba")),
        (2.0, 2),
    ],
    ids=lambda one: "frozenset" if isinstance(one, frozenset) else repr(one),
)
def test_any_hashable_action_routes_by_equality(kind, key, action):
    """Actions given to `next` may be any hashable; they are found the way a dict finds keys."""
    log = []
    a = path(kind, log=log, name="a", action=action)
    a.next(path(kind, log=log, name="b"), key)

    kind.run(kind.flow(a), {})

    assert log == ["a", "b"]


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "with successors"])
@pytest.mark.parametrize(("action", "name"), [({"a": 1}, "dict"), ([1], "list"), ({1}, "set")])
def test_an_unhashable_action_is_a_type_error(kind, terminal, action, name):
    """A truthy unhashable action fails with Python's own words, even where nothing follows."""
    a = path(kind, log=[], name="a", action=action)
    if not terminal:
        a >> kind.node()

    with pytest.raises(TypeError, match=f"unhashable type: '{name}'"):
        kind.run(kind.flow(a), {})


@pytest.mark.parametrize("action", ["end", 7, ("x",), None, "default", 0, ""], ids=repr)
def test_the_last_action_is_the_result(kind, action):
    """A terminal node may give any hashable; unchanged and unwarned it is the flow's result."""
    a = kind.node()
    a >> path(kind, log=[], name="b", action=action)

    assert kind.run(kind.flow(a), {}) == action


def test_the_result_comes_from_the_last_node_only(kind):
    """Earlier actions do not show in the result."""
    a = path(kind, log=[], name="a", action="go")
    a - "go" >> kind.node()

    assert kind.run(kind.flow(a), {}) is None


def test_flow_phases_run_around_the_nodes(kind):
    """A flow's post gets prep's result and the last action, and has the last word."""
    log = []

    def prep(self, shared):
        log.append("prep")
        return "prepared"

    def post(self, shared, prep_res, exec_res):
        log.append(("post", prep_res, exec_res))
        return "word"

    flow = kind.flow(path(kind, log=log, name="node", action="last"), prep=prep, post=post)

    assert kind.run(flow, {}) == "word"
    assert log == ["prep", "node", ("post", "prepared", "last")]


def test_a_flows_exec_is_never_called(kind):
    """A Flow has no exec phase of its own, nor a fallback."""
    called = []
    flow = kind.flow(
        kind.node(),
        exec=lambda self, p: called.append("exec"),
        exec_fallback=lambda self, p, e: called.append("fallback"),
    )

    kind.run(flow, {})

    assert called == []


def test_a_flow_without_start_runs_only_its_phases(kind):
    """A flow with no start node gives None, and its post gets None."""
    seen = []
    flow = kind.flow(prep=lambda self, s: "p", post=lambda self, s, p, e: seen.append((p, e)))

    assert kind.run(kind.flow(), {}) is None
    assert kind.run(flow, {}) is None
    assert seen == [("p", None)]


def test_start_can_be_set_later(kind):
    """`flow.start(n)` gives n back for chaining, and `flow.start_node = n` works as well."""
    log = []
    a, b = path(kind, log=log, name="a"), path(kind, log=log, name="b")
    flow = kind.flow()

    assert flow.start(a) is a
    assert flow.start_node is a
    flow.start(a) >> b
    kind.run(flow, {})
    flow.start_node = b
    kind.run(flow, {})

    assert log == ["a", "b", "b"]


def test_start_is_a_keyword_too(kind):
    """`Flow(start=n)` is `Flow(n)`."""
    node = kind.node()

    assert kind.base("Flow")(start=node).start_node is node


def test_a_loop_runs_until_its_action_changes(kind):
    """A node may point back at itself or at an earlier node."""
    shared = {"n": 0}

    def post(self, shared, p, e):
        shared["n"] += 1
        return "again" if shared["n"] < 5 else "stop"

    head, body, end = kind.node(), kind.node(post=post), kind.node()
    head >> body
    body - "again" >> head
    body - "stop" >> end

    kind.run(kind.flow(head), shared)

    assert shared["n"] == 5


def looping(kind, visits, **phases):
    """A node that loops on itself *visits* times, then goes to a plain end node."""
    inner = phases.pop("post", lambda self, s, p, e: None)

    def post(self, shared, p, e):
        inner(self, shared, p, e)
        shared["visits"] = shared.get("visits", 0) + 1
        return "again" if shared["visits"] < visits else "stop"

    node = kind.node(post=post, **phases)
    node - "again" >> node
    node - "stop" >> kind.node()
    return node


def test_rebound_attributes_are_lost_after_a_visit(kind):
    """Every visit starts from the original: `self.n += 1` gives 1, 1, 1."""
    seen = []

    def prep(self, shared):
        self.n += 1
        seen.append(self.n)

    node = looping(kind, 3, prep=prep)
    node.n = 0
    kind.run(kind.flow(node), {})

    assert seen == [1, 1, 1]
    assert node.n == 0


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_new_attributes_are_lost_after_a_visit(kind, phase):
    """An attribute first set during a visit does not exist in the next one, nor on the original."""
    seen = []

    def note(self, *args):
        seen.append(hasattr(self, "mark"))
        self.mark = True

    node = looping(kind, 3, **{phase: note})
    kind.run(kind.flow(node), {})

    assert seen == [False, False, False]
    assert not hasattr(node, "mark")


def test_changes_inside_mutable_attributes_persist(kind):
    """The copy is shallow: a list on the node is one list for all visits."""
    node = looping(kind, 3, prep=lambda self, s: self.seen.append(len(self.seen)))
    node.seen = []
    kind.run(kind.flow(node), {})

    assert node.seen == [0, 1, 2]


def test_one_visit_is_one_copy(kind):
    """The phases of a visit share one self, neither the original nor another visit's."""
    visits = []

    def prep(self, shared):
        visits.append([self])

    def note(self, *args):
        visits[-1].append(self)

    node = looping(kind, 3, prep=prep, exec=note, post=note)
    kind.run(kind.flow(node), {})

    assert [len({id(s) for s in selves}) for selves in visits] == [1, 1, 1]
    assert [len(selves) for selves in visits] == [3, 3, 3]
    assert len({id(s) for selves in visits for s in selves} | {id(node)}) == 4


def test_what_prep_leaves_on_self_is_there_in_exec_and_post(kind):
    """Within one visit self carries data from phase to phase."""

    def prep(self, shared):
        self.language = shared["language"]

    node = kind.node(
        prep=prep,
        exec=lambda self, p: self.language.upper(),
        post=lambda self, s, p, e: f"{self.language}-{e}",
    )

    assert kind.run(kind.flow(node), {"language": "fr"}) == "fr-FR"


def test_a_flow_can_run_again(kind):
    """Runs leave nothing behind: the second is like the first."""
    log = []
    a = path(kind, log=log, name="a", action="go")
    a - "go" >> path(kind, log=log, name="b")
    flow = kind.flow(a)

    kind.run(flow, {})
    kind.run(flow, {})

    assert log == ["a", "b", "a", "b"]


def test_the_flow_that_is_run_is_not_copied(kind):
    """What a flow's own prep rebinds stays on the flow that was run."""

    def prep(self, shared):
        self.runs += 1

    flow = kind.flow(kind.node(), prep=prep)
    flow.runs = 0
    kind.run(flow, {})
    kind.run(flow, {})

    assert flow.runs == 2


def test_a_nested_flow_is_copied_like_a_node(kind):
    """What a nested flow's prep rebinds is lost after the visit."""
    seen = []

    def prep(self, shared):
        self.n += 1
        seen.append(self.n)

    inner = kind.flow(kind.node(), prep=prep)
    inner.n = 0
    flow = kind.flow(inner)
    kind.run(flow, {})
    kind.run(flow, {})

    assert seen == [1, 1]
    assert inner.n == 0


def test_successors_added_during_a_run_count(kind):
    """Routing reads successors after post: a node may extend the graph while it runs."""
    log = []
    late = path(kind, log=log, name="late")

    def post(self, shared, p, e):
        self.next(late, "late")
        return "late"

    a = kind.node(post=post)
    kind.run(kind.flow(a), {})

    assert log == ["late"]
    assert a.successors == {"late": late}


def test_an_error_in_a_node_ends_the_flow(kind):
    """The error leaves the flow unchanged; later nodes and the flow's post never run."""
    log, error = [], ValueError("mid")

    def fail(self, *args):
        raise error

    a, b, c = path(kind, log=log, name="a"), kind.node(exec=fail), path(kind, log=log, name="c")
    a >> b >> c
    flow = kind.flow(a, post=lambda self, s, p, e: log.append("post"))

    with pytest.raises(ValueError, match="mid") as caught:
        kind.run(flow, {})

    assert caught.value is error
    assert log == ["a"]


def test_shared_is_one_object_for_all(kind):
    """Flow, nested flow and nodes all get the very same shared object."""
    seen = []

    def note(self, shared, *args):
        seen.append(shared)

    inner = kind.flow(kind.node(prep=note, post=note), prep=note)
    shared = object()
    kind.run(kind.flow(inner, prep=note), shared)

    assert len(seen) == 4
    assert all(s is shared for s in seen)


@pytest.mark.parametrize("shared", [None, 5, [], ""], ids=repr)
def test_a_flow_takes_any_shared(kind, shared):
    """A flow does not look at shared: None and falsy values reach the nodes."""
    seen = []
    kind.run(kind.flow(kind.node(prep=lambda self, s: seen.append(s))), shared)

    assert seen == [shared]


# Params


def test_nodes_see_the_flows_params(kind):
    """`flow.set_params` reaches every node of the flow."""
    seen = []
    a, b = (kind.node(prep=lambda self, s: seen.append(dict(self.params))) for _ in range(2))
    a >> b
    flow = kind.flow(a)
    flow.set_params({"k": 1})

    kind.run(flow, {})

    assert seen == [{"k": 1}, {"k": 1}]


@pytest.mark.parametrize("flow_params", [None, {}, {"flow": 2}], ids=repr)
def test_a_nodes_own_params_are_overwritten_by_its_flow(kind, flow_params):
    """A node in a flow sees the flow's params only, even when they are empty."""
    seen = []
    node = kind.node(prep=lambda self, s: seen.append(dict(self.params)))
    node.set_params({"own": 1})
    flow = kind.flow(node)
    if flow_params is not None:
        flow.set_params(flow_params)

    kind.run(flow, {})

    assert seen == [flow_params or {}]
    assert node.params == {"own": 1}


def test_one_params_dict_per_run_shared_by_its_nodes(kind):
    """A node that changes `self.params` changes it for the nodes after it, not for the flow."""
    seen = []

    def first(self, shared):
        self.params["added"] = True

    a, b = (
        kind.node(prep=first),
        kind.node(prep=lambda self, s: seen.append(dict(self.params))),
    )
    a >> b
    flow = kind.flow(a)
    params = {"k": 1}
    flow.set_params(params)
    kind.run(flow, {})
    kind.run(flow, {})

    assert seen == [{"k": 1, "added": True}] * 2
    assert params == {"k": 1}
    assert flow.params is params


def test_all_nodes_of_a_run_hold_the_same_params_object(kind):
    """It is one dict object, not equal ones; the next run has another."""
    seen = []
    a, b = (kind.node(prep=lambda self, s: seen.append(self.params)) for _ in range(2))
    a >> b
    flow = kind.flow(a)
    kind.run(flow, {})
    kind.run(flow, {})

    assert seen[0] is seen[1]
    assert seen[2] is seen[3]
    assert seen[0] is not seen[2]


def test_params_never_stick_to_the_original_node(kind):
    """After a run the original node still has the params it had."""
    node = kind.node()
    own = node.params
    flow = kind.flow(node)
    flow.set_params({"k": 1})
    kind.run(flow, {})

    assert node.params is own
    assert own == {}


def test_params_set_in_the_flows_prep_reach_the_nodes(kind):
    """A flow may choose its params in its own prep."""
    seen = []

    def prep(self, shared):
        self.set_params({"from": "prep"})

    kind.run(kind.flow(kind.node(prep=lambda self, s: seen.append(self.params)), prep=prep), {})

    assert seen == [{"from": "prep"}]


def test_a_nested_flows_own_params_are_overwritten_not_merged(kind):
    """outer{outer: 2} over inner{inner: 1}: the node sees {outer: 2} alone."""
    seen = []
    inner = kind.flow(kind.node(prep=lambda self, s: seen.append(dict(self.params))))
    inner.set_params({"inner": 1})
    outer = kind.flow(inner)
    outer.set_params({"outer": 2})

    kind.run(outer, {})

    assert seen == [{"outer": 2}]
    assert inner.params == {"inner": 1}


def test_a_nested_flows_nodes_have_a_params_dict_of_their_own(kind):
    """A change of params inside a nested flow is not seen by the outer flow's later nodes."""
    seen = []

    def change(self, shared):
        self.params["inside"] = True

    inner = kind.flow(kind.node(prep=change))
    inner >> kind.node(prep=lambda self, s: seen.append(dict(self.params)))
    outer = kind.flow(inner)
    outer.set_params({"k": 1})

    kind.run(outer, {})

    assert seen == [{"k": 1}]


# Nested flows


def test_a_nested_flow_routes_by_its_last_action(kind):
    """What the inner flow gives back chooses the outer branch."""
    log = []
    inner = kind.flow(path(kind, log=log, name="inner", action="found"))
    inner - "found" >> path(kind, log=log, name="found")
    inner - "lost" >> path(kind, log=log, name="lost")

    kind.run(kind.flow(inner), {})

    assert log == ["inner", "found"]


def test_a_nested_flows_post_may_rename_the_action(kind):
    """The inner flow's post decides the action the outer flow sees."""
    log = []
    inner = kind.flow(
        path(kind, log=log, name="inner", action="raw"),
        post=lambda self, s, p, e: f"cooked {e}",
    )
    inner - "cooked raw" >> path(kind, log=log, name="after")

    kind.run(kind.flow(inner), {})

    assert log == ["inner", "after"]


def test_a_sub_flow_may_stand_at_several_places(kind):
    """One flow object may be used twice in a graph, as start and further on."""
    log = []
    sub = kind.flow(path(kind, log=log, name="sub"))
    first, second = kind.flow(sub), kind.flow(sub)
    first >> path(kind, log=log, name="between") >> second

    kind.run(kind.flow(first), {})

    assert log == ["sub", "between", "sub"]


def test_a_node_may_belong_to_two_flows(kind):
    """Flows that share a node do not disturb each other."""
    seen = []
    node = kind.node(prep=lambda self, s: seen.append(self.params["flow"]))
    one, two = kind.flow(node), kind.flow(node)
    one.set_params({"flow": 1})
    two.set_params({"flow": 2})

    kind.run(one, {})
    kind.run(two, {})
    kind.run(one, {})

    assert seen == [1, 2, 1]


def test_a_sub_flow_may_loop_back_to_itself(kind):
    """A nested flow can be the body of a loop."""
    shared = {"n": 0}

    def count(self, shared, p, e):
        shared["n"] += 1
        return "more" if shared["n"] < 4 else "stop"

    sub = kind.flow(kind.node(post=count))
    sub - "more" >> sub
    sub - "stop" >> kind.node()

    kind.run(kind.flow(sub), shared)

    assert shared["n"] == 4


def test_phases_of_nested_flows_run_inside_out(kind):
    """Outer prep, inner prep, node, inner post, outer post."""
    log = []

    def flow(name, start):
        return kind.flow(
            start,
            prep=lambda self, s: log.append(f"{name} prep"),
            post=lambda self, s, p, e: log.append(f"{name} post"),
        )

    kind.run(flow("outer", flow("inner", path(kind, log=log, name="node"))), {})

    assert log == ["outer prep", "inner prep", "node", "inner post", "outer post"]


@pytest.mark.parametrize("flow_class", [Flow, AsyncFlow])
def test_a_bare_base_node_is_a_node(flow_class):
    """A subclass of BaseNode takes part in either flow."""
    log = []

    class Plain(BaseNode):
        def post(self, shared, prep_res, exec_res):
            log.append(dict(self.params))
            return "next"

    class Last(Node):
        def post(self, shared, prep_res, exec_res):
            log.append("last")

    plain = Plain()
    plain - "next" >> Last()
    flow = flow_class(plain)
    flow.set_params({"a": 1})
    if flow_class is Flow:
        flow.run({})
    else:
        asyncio.run(flow.run_async({}))

    assert log == [{"a": 1}, "last"]


def test_anything_with_the_three_members_a_flow_uses_is_a_node():
    """Flows do not check types: `set_params`, `_run` and `successors` are enough."""
    seen = []

    class Duck:
        def __init__(self):
            self.successors, self.params = {}, {}

        def set_params(self, params):
            self.params = params

        def _run(self, shared):
            seen.append((shared, self.params))
            return "quack"

    class After(Node):
        def post(self, shared, prep_res, exec_res):
            return "after"

    duck = Duck()
    duck.successors["quack"] = After()
    flow = Flow(duck)
    flow.set_params({"p": 1})

    assert flow.run("pond") == "after"
    assert seen == [("pond", {"p": 1})]
