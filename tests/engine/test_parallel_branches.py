"""Different nodes side by side: `parallel(a, b)`, `>> [a, b]`, and what reaches the join."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchNode,
    BaseNode,
    BatchNode,
    Flow,
    Node,
    Parallel,
    UseRunAsyncError,
    parallel,
)
from tests.engine.engine_kit import subclass, turns

pytestmark = pytest.mark.usefixtures("tidy")


class Say(AsyncNode):
    """Returns its word as exec result, and no action."""

    def __init__(self, word, **options):
        super().__init__(**options)
        self.word = word

    async def exec_async(self, prep_res):
        await asyncio.sleep(0)
        return self.word


class SaySync(Node):
    def __init__(self, word, **options):
        super().__init__(**options)
        self.word = word

    def exec(self, prep_res):
        return self.word


class Act(Node):
    """Returns an action."""

    def post(self, shared, prep_res, exec_res):
        return "acted"


class Join(AsyncNode):
    async def post_async(self, shared, prep_res, exec_res):
        shared["joined"] = self.params["branches"]


async def joined(fan, **options):
    """Run the fan-out and a join in a flow; return what the join got."""
    fan >> Join()
    shared = {}
    await AsyncFlow(fan, **options).run_async(shared)
    return shared["joined"]


# --- three ways to write it -----------------------------------------------------------------------


async def test_the_join_gets_what_each_branch_returned():
    """`parallel(...) >> join`: params["branches"] is a dict by name, in the order given."""
    news, prices, weather = Say("n", name="news"), Say("p", name="prices"), Say("w", name="weather")

    got = await joined(parallel(news, prices, weather))

    assert list(got.items()) == [("news", "n"), ("prices", "p"), ("weather", "w")]


@pytest.mark.parametrize("make", [list, tuple])
async def test_a_list_after_the_operator_is_a_fan_out(make):
    """`fetch >> [a, b] >> join`."""
    fetch, shared = Say("f"), {}
    fetch >> make([Say(1, name="a"), Say(2, name="b")]) >> Join()
    await AsyncFlow(fetch).run_async(shared)

    assert shared["joined"] == {"a": 1, "b": 2}


async def test_a_list_after_an_action_is_a_fan_out():
    """`choose - "both" >> [a, b] >> join`."""

    class Choose(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            return shared["way"]

    choose, join = Choose(), Join()
    fan = choose - "both" >> [Say(1, name="a"), Say(2, name="b")]
    fan >> join
    choose - "one" >> Act()

    shared = {"way": "both"}
    await AsyncFlow(choose).run_async(shared)
    assert shared["joined"] == {"a": 1, "b": 2}

    shared = {"way": "one"}
    assert await AsyncFlow(choose).run_async(shared) == "acted"
    assert shared == {"way": "one"}


def test_next_takes_a_list_too():
    """`node.next([a, b], "x")` returns the fan-out, as `next` returns its node."""
    a, b, node = Say(1), Say(2), Node()

    fan = node.next([a, b], "x")

    assert isinstance(fan, Parallel)
    assert node.successors == {"x": fan}
    assert list(fan.branches.values()) == [a, b]


async def test_branches_run_at_once():
    """Each waits for the other."""
    together = asyncio.Barrier(3)

    async def exec_(self, prep_res):
        async with asyncio.timeout(10):
            await together.wait()

    nodes = [subclass(AsyncNode, exec=exec_)() for _ in range(3)]
    await AsyncFlow(parallel(*nodes)).run_async({})


# --- what a branch returns ------------------------------------------------------------------------


async def test_every_kind_of_branch_returns_something():
    """A node: its action, else its exec result; a chain: its last node; a flow: its action."""
    chain = SaySync("first")
    chain >> Act()
    quiet = SaySync("first")
    quiet >> SaySync("second")
    batch = subclass(BatchNode, prep=lambda s, x: [1, 2], exec=lambda s, i: i * 10)
    abatch = subclass(AsyncBatchNode, prep=lambda s, x: [1, 2], exec=lambda s, i: i * 10)
    pbatch = subclass(AsyncParallelBatchNode, prep=lambda s, x: [1, 2], exec=lambda s, i: i * 10)

    got = await joined(
        parallel(
            Say(1, name="async"),
            SaySync(2, name="sync"),
            SaySync(3, in_thread=True, name="thread"),
            Act(name="action"),
            batch(name="batch"),
            abatch(name="async batch"),
            pbatch(name="parallel batch"),
            Flow(Act(), name="flow"),
            AsyncFlow(Act(), name="async flow"),
            Flow(SaySync(4), name="quiet flow"),
            AsyncFlow(name="empty flow"),
            BaseNode(),
            chain,
            quiet,
            parallel(Say(5, name="x"), Say(6, name="y"), name="inner"),
        )
    )

    assert got == {
        "async": 1,
        "sync": 2,
        "thread": 3,
        "action": "acted",
        "batch": [10, 20],
        "async batch": [10, 20],
        "parallel batch": [10, 20],
        "flow": "acted",
        "async flow": "acted",
        "quiet flow": None,
        "empty flow": None,
        "BaseNode": None,
        "SaySync": "acted",
        "SaySync #2": "second",
        "inner": {"x": 5, "y": 6},
    }


@pytest.mark.parametrize("falsy", [0, "", [], False])
async def test_a_falsy_result_is_a_result(falsy):
    """Only None means that post returned nothing."""
    got = await joined(parallel(Say(falsy, name="a")))

    assert got == {"a": falsy}


async def test_equal_names_are_told_apart():
    """The second and third of a name get a number; one that is taken is passed over."""
    got = await joined(parallel(Say(1), Say(2), Say(3, name="Say #2"), Say(4)))

    assert got == {"Say": 1, "Say #2": 2, "Say #2 #2": 3, "Say #3": 4}


async def test_one_node_may_be_several_branches():
    """Each branch works on a copy of its own."""

    class Mine(AsyncNode):
        async def exec_async(self, prep_res):
            self.seen = getattr(self, "seen", 0) + 1
            await turns(2)
            return self.seen

    node = Mine()

    assert await joined(parallel(node, node)) == {"Mine": 1, "Mine #2": 1}
    assert not hasattr(node, "seen")


async def test_results_are_stored_in_shared_on_request():
    """`into=` names the key; without it shared is left alone."""
    shared = {}
    await AsyncFlow(parallel(Say(1, name="a"), into="found")).run_async(shared)
    assert shared == {"found": {"a": 1}}

    shared = {}
    await parallel(Say(1, name="a")).run_async(shared)
    assert shared == {}


async def test_a_fan_out_alone_gives_its_results_through_into():
    """It runs by itself, without a flow."""
    fan, shared = parallel(Say(1, name="a"), into="found"), {}

    assert await fan.run_async(shared) is None
    assert shared["found"] == {"a": 1}


# --- params and context ---------------------------------------------------------------------------


async def test_branches_get_the_flows_params_each_its_own_dict():
    """What one branch does to its params, no other sees; nor does the join."""
    seen = {}

    class Change(AsyncNode):
        async def prep_async(self, shared):
            self.params[self.params["k"] + str(len(seen))] = True
            await turns(2)

        async def post_async(self, shared, prep_res, exec_res):
            seen[len(seen)] = set(self.params)

    fan, join_params = parallel(Change(), Change()), []

    class Look(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            join_params.append(dict(self.params))

    fan >> Look()
    flow = AsyncFlow(fan)
    flow.set_params({"k": "v"})
    await flow.run_async({})

    assert seen == {0: {"k", "v0"}, 1: {"k", "v0"}}
    assert join_params == [{"k": "v", "branches": {"Change": None, "Change #2": None}}]
    assert flow.params == {"k": "v"}


async def test_every_branch_has_a_context_of_its_own():
    """A ContextVar set in a branch is seen by that branch alone."""
    var = contextvars.ContextVar("var", default="outside")

    class Set(AsyncNode):
        async def exec_async(self, prep_res):
            before = var.get()
            var.set(self.params)
            await turns(2)
            return before

    assert await joined(parallel(Set(), Set())) == {"Set": "outside", "Set #2": "outside"}
    assert var.get() == "outside"


async def test_the_join_gets_the_results_under_merge_params_too():
    """Params of the fan-out's own do not cut the join off."""
    fan = parallel(Say(1, name="a"))
    fan.set_params({"own": 1})

    assert await joined(fan, merge_params=True) == {"a": 1}


async def test_a_join_with_params_of_its_own_gets_both_under_merge_params():
    """`merge_params=True`: the join's params and the results."""
    seen = []

    class Look(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            seen.append(dict(self.params))

    fan, look = parallel(Say(1, name="a")), Look()
    look.set_params({"own": 1})
    fan >> look
    await AsyncFlow(fan, merge_params=True).run_async({})

    assert seen == [{"branches": {"a": 1}, "own": 1}]


async def test_concurrent_runs_of_one_fan_out_do_not_mix():
    """Results and params belong to the run."""

    class Echo(AsyncNode):
        async def prep_async(self, shared):
            return shared["id"]

        async def exec_async(self, prep_res):
            await turns(prep_res)
            return prep_res

    fan = parallel(Echo(name="a"), Echo(name="b"))
    fan >> Join()
    flow = AsyncFlow(fan)
    shareds = [{"id": i} for i in range(5)]
    await asyncio.gather(*(flow.run_async(shared) for shared in shareds))

    assert [s["joined"] for s in shareds] == [{"a": i, "b": i} for i in range(5)]


# --- bounds, errors, cancellation -----------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_concurrency_bounds_the_branches(limit):
    """Never more than N branches at once."""
    now = most = 0

    async def exec_(self, prep_res):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await turns(3)
        now -= 1

    nodes = [subclass(AsyncNode, exec=exec_)() for _ in range(7)]
    await AsyncFlow(parallel(*nodes, concurrency=limit)).run_async({})

    assert most == limit


@pytest.mark.parametrize("limit", [None, 3])
async def test_a_failing_branch_stops_the_others(limit):
    """They are cancelled and awaited; the error is the branch's own, with its path in the note."""
    cleaned = []

    class Wait(AsyncNode):
        async def exec_async(self, prep_res):
            try:
                await asyncio.Event().wait()
            finally:
                await turns(4)
                cleaned.append(self.params["k"])

    error = KeyError("prices")

    class Fail(AsyncNode):
        async def exec_async(self, prep_res):
            await turns(2)
            raise error

    fan = parallel(Wait(), Flow(SaySync(1)), Fail(2), Wait(), name="sources", concurrency=limit)
    flow = AsyncFlow(fan, name="daily")
    flow.set_params({"k": 1})
    with pytest.raises(KeyError) as caught:
        await flow.run_async({})

    assert caught.value is error
    assert error.__notes__ == ["in flow daily > sources, node Fail, exec, attempt 2 of 2"]
    assert cleaned == [1, 1]


async def test_errors_can_be_collected():
    """`on_error="collect"`: the exception is what the branch returned; the join decides."""

    class Fail(Node):
        def exec(self, prep_res):
            raise KeyError("no")

    got = await joined(parallel(Say(1, name="a"), Fail(name="b"), on_error="collect"))

    assert got["a"] == 1
    assert isinstance(got["b"], KeyError)


async def test_cancelling_stops_every_branch():
    """Nothing is left behind, in nested fan-outs neither."""
    begun, cleaned = [], []

    class Wait(AsyncNode):
        async def exec_async(self, prep_res):
            begun.append(1)
            try:
                await asyncio.Event().wait()
            finally:
                await turns(3)
                cleaned.append(1)

    chain = Say(1)
    chain >> Wait()
    flow = AsyncFlow(parallel(Wait(), parallel(Wait(), AsyncFlow(Wait())), chain))
    task = asyncio.create_task(flow.run_async({}))
    await turns(12)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(begun) == len(cleaned) == 4


# --- subclasses, nesting, other flows -------------------------------------------------------------


async def test_a_subclass_may_route_by_the_results():
    """Overriding `post_async` makes the fan-out a decision."""

    class Vote(Parallel):
        async def post_async(self, shared, prep_res, exec_res):
            await super().post_async(shared, prep_res, exec_res)
            return max(exec_res.values())

    vote = Vote([Say("no", name="a"), Say("yes", name="b")], into="votes", name="vote")
    vote - "yes" >> Act()
    vote - "no" >> Say("never")
    shared = {}

    assert await AsyncFlow(vote).run_async(shared) == "acted"
    assert shared["votes"] == {"a": "no", "b": "yes"}


async def test_a_fan_out_in_a_batch_flow_runs_once_per_round():
    """Each round has its own params and its own results."""

    class Square(Node):
        def exec(self, prep_res):
            return self.params["n"] ** 2

    class Keep(Node):
        def post(self, shared, prep_res, exec_res):
            shared.append((self.params["n"], self.params["branches"]))

    class Rounds(AsyncBatchFlow):
        async def prep_async(self, shared):
            return [{"n": n} for n in range(3)]

    fan = parallel(Square(name="a"), Square(name="b"))
    fan >> Keep()
    shared = []
    await Rounds(fan).run_async(shared)

    assert shared == [(n, {"a": n * n, "b": n * n}) for n in range(3)]


async def test_fan_outs_follow_each_other():
    """`[a, b] >> [c, d] >> join`: each sees the results of the one before."""

    class See(Node):
        def exec(self, prep_res):
            return list(self.params["branches"].values())

    start = Say(0)
    start >> [Say(1, name="a"), Say(2, name="b")] >> [See(name="c"), See(name="d")] >> Join()
    shared = {}
    await AsyncFlow(start).run_async(shared)

    assert shared["joined"] == {"c": [1, 2], "d": [1, 2]}


async def test_a_fan_out_in_a_loop_starts_afresh():
    """A second visit has new results; the branches' copies keep nothing."""
    rounds = []

    class Again(Node):
        def post(self, shared, prep_res, exec_res):
            rounds.append(self.params["branches"])
            return "again" if len(rounds) < 3 else None

    class Count(Node):
        def exec(self, prep_res):
            return len(rounds)

    fan, again = parallel(Count()), Again()
    fan >> again
    again - "again" >> fan
    again >> Say("end")
    await AsyncFlow(fan).run_async({})

    assert rounds == [{"Count": 0}, {"Count": 1}, {"Count": 2}]


async def test_a_synchronous_flow_cannot_hold_one():
    """A clear error, in place of skipped work."""
    with pytest.raises(UseRunAsyncError):
        Flow(parallel(Node())).run({})
    with pytest.raises(UseRunAsyncError):
        parallel(Node()).run({})


# --- wrong use, copies ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: parallel(), lambda: Node() >> [], lambda: Parallel(())])
def test_no_branch_is_an_error(make):
    """Nothing to run side by side."""
    with pytest.raises(TypeError, match=r"needs at least one node: parallel\(news, prices\)"):
        make()


@pytest.mark.parametrize("branch", [None, "news", Node, [Node()], lambda: None])
def test_a_branch_that_is_no_node_is_an_error(branch):
    """The message shows what was given."""
    with pytest.raises(TypeError, match="a branch must be a node or a flow, not"):
        parallel(Node(), branch)
    with pytest.raises(TypeError, match="a branch must be a node or a flow, not"):
        Node() >> [branch]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"on_error": "skip"}, ValueError, "on_error"),
        ({"name": ""}, ValueError, "name"),
        ({"max_retries": 3}, TypeError, "max_retries"),
    ],
)
def test_wrong_options_are_refused(options, error, text):
    """When it is made, not when it runs."""
    with pytest.raises(error, match=text):
        parallel(Node(), **options)
    with pytest.raises(error, match=text):
        Parallel([Node()], **options)


async def test_an_option_is_refused_or_has_an_effect():
    """A timeout that is taken must not be without meaning."""

    async def exec_(self, prep_res):
        await turns(2)
        async with asyncio.timeout(0.2):
            await asyncio.Event().wait()

    stuck = subclass(AsyncNode, exec=exec_)
    try:
        fan = Parallel([stuck()], timeout=0.01)
    except TypeError:
        return
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        await fan.run_async({})


@pytest.mark.parametrize("dup", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
async def test_a_fan_out_can_be_copied_and_pickled(dup):
    """With its branches, names, options and successors."""
    fan = parallel(Say(1, name="a"), SaySync(2), concurrency=1, into="found", name="fan")
    fan >> Join()
    twin = dup(fan)
    shared = {}
    await AsyncFlow(twin).run_async(shared)

    assert shared["found"] == shared["joined"] == {"a": 1, "SaySync": 2}
    assert dup(AsyncFlow(fan)).to_mermaid() == AsyncFlow(fan).to_mermaid()


def test_the_picture_has_the_branches_inside():
    """`to_mermaid()`: the fan-out is a subgraph, its branches are in it."""
    fetch = Say(0, name="fetch")
    fetch >> parallel(Say(1, name="a"), Say(2, name="b"), name="both") >> Say(3, name="join")

    assert AsyncFlow(fetch).to_mermaid() == (
        "flowchart TD\n"
        '    n1(["fetch"])\n'
        '    subgraph n2["both"]\n'
        '        n3["a"]\n'
        '        n4["b"]\n'
        "    end\n"
        '    n5["join"]\n'
        "    n1 --> n2\n"
        "    n2 --> n5\n"
    )
