"""What a flow may be told: max_steps, timeout, name, ends, strict, merge_params."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    BatchFlow,
    Flow,
    FlowError,
    FlowTimeoutError,
    InvalidFlowError,
    Node,
    NodeTimeoutError,
    StepLimitError,
    UnknownActionError,
    UseRunAsyncError,
)
from tests.engine.engine_kit import FLOWS, NODES, run, subclass, turns

both = pytest.mark.parametrize("colour", ["sync", "async"])
every_flow = pytest.mark.parametrize(
    "base", [Flow, BatchFlow, AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow]
)


def says(colour, name, action=None):
    """A node that returns *action*."""
    return subclass(NODES[colour], post=lambda self, s, p, e: action)(name=name)


def counting(colour, name="count"):
    """A node that counts its visits in shared."""

    def post(self, shared, prep_res, exec_res):
        shared["visits"] = shared.get("visits", 0) + 1

    return subclass(NODES[colour], post=post)(name=name)


# --- max_steps ------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_a_loop_is_ended_after_max_steps(colour, limit):
    """Exactly so many nodes are visited, then StepLimitError."""
    loop, shared = counting(colour), {}
    loop >> loop

    with pytest.raises(StepLimitError) as caught:
        run(FLOWS[colour](loop, max_steps=limit, name="spin"), shared)

    assert shared["visits"] == limit
    assert isinstance(caught.value, FlowError)
    assert isinstance(caught.value, RuntimeError)
    assert (caught.value.name, caught.value.limit) == ("spin", limit)


@both
def test_the_error_shows_the_last_steps(colour):
    """The path with its actions, and what to do."""
    a, b = says(colour, "ask", "more"), says(colour, "think", None)
    a - "more" >> b >> a

    with pytest.raises(StepLimitError) as caught:
        run(FLOWS[colour](a, max_steps=3, name="agent"))

    assert str(caught.value) == (
        "flow agent has taken its 3 steps and would go on. The last ones: "
        "ask -(more)-> think -(None)-> ask -(more)-> think. "
        "Look for a loop that never ends, or raise max_steps=."
    )


@both
def test_a_long_path_is_cut_in_the_error(colour):
    """The last eight steps are enough to see a loop."""
    loop = counting(colour)
    loop >> loop

    with pytest.raises(StepLimitError) as caught:
        run(FLOWS[colour](loop, max_steps=500), {})

    assert str(caught.value).count("count") == 9


@both
def test_a_path_of_exactly_max_steps_is_fine(colour):
    """The limit is how many may run, not how many may not."""
    a, shared = counting(colour), {}
    a >> counting(colour) >> counting(colour)

    run(FLOWS[colour](a, max_steps=3), shared)

    assert shared["visits"] == 3


@both
def test_nested_flows_count_as_one_step(colour):
    """Their own nodes are counted by their own limit."""
    inner, shared = counting(colour), {}
    inner >> counting(colour) >> counting(colour)
    start = counting(colour)
    start >> FLOWS[colour](inner)

    run(FLOWS[colour](start, max_steps=2), shared)

    assert shared["visits"] == 4


@both
def test_every_run_counts_from_the_beginning(colour):
    """The limit is per run, and nothing is kept on the flow."""
    flow = FLOWS[colour](counting(colour), max_steps=1)
    before = dict(vars(flow))
    for _ in range(3):
        run(flow, {})

    assert vars(flow) == before


# --- timeout --------------------------------------------------------------------------------------


async def test_a_flow_that_takes_too_long_is_cancelled():
    """The node at work is cancelled and cleaned up; FlowTimeoutError names the flow."""
    cleaned = []

    async def exec_(self, prep_res):
        try:
            await asyncio.Event().wait()
        finally:
            await turns(3)
            cleaned.append(1)

    node = subclass(AsyncNode, exec=exec_)(5, name="N")
    flow = AsyncFlow(node, timeout=0.02, name="slow")
    with pytest.raises(FlowTimeoutError) as caught:
        await flow.run_async({})

    assert cleaned == [1]
    assert caught.value.__notes__ == ["in flow slow, node N, exec, attempt 1 of 5"]
    assert str(caught.value) == "flow slow took longer than its timeout of 0.02 s"
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.name, caught.value.seconds) == ("slow", 0.02)
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("phase", ["prep", "post"])
async def test_the_timeout_covers_the_flows_own_prep_and_post(phase):
    """One run is prep, the nodes and post."""

    async def forever(self, *_):
        await asyncio.Event().wait()

    with pytest.raises(FlowTimeoutError):
        await subclass(AsyncFlow, **{phase: forever})(AsyncNode(), timeout=0.02).run_async({})


@pytest.mark.parametrize("base", [AsyncBatchFlow, AsyncParallelBatchFlow])
async def test_the_timeout_of_a_batch_flow_is_for_all_rounds(base):
    """One run of a batch flow is all its rounds, and none runs on."""
    done = []

    async def exec_(self, prep_res):
        try:
            await asyncio.Event().wait()
        finally:
            done.append(1)

    flow = subclass(base, prep=lambda self, shared: [{}, {}])(
        subclass(AsyncNode, exec=exec_)(), timeout=0.02
    )
    with pytest.raises(FlowTimeoutError):
        await flow.run_async({})

    assert len(done) == (1 if base is AsyncBatchFlow else 2)


async def test_the_inner_of_two_timeouts_strikes_first():
    """The error names the flow whose time was up, once."""

    async def exec_(self, prep_res):
        await asyncio.Event().wait()

    inner = AsyncFlow(subclass(AsyncNode, exec=exec_)(), timeout=0.02, name="inner")
    with pytest.raises(FlowTimeoutError, match="flow inner took longer"):
        await AsyncFlow(inner, timeout=60, name="outer").run_async({})


async def test_the_outer_of_two_timeouts_strikes_first():
    """The inner flow is cancelled like any node."""

    async def exec_(self, prep_res):
        await asyncio.Event().wait()

    inner = AsyncFlow(subclass(AsyncNode, exec=exec_)(timeout=60), timeout=60, name="inner")
    with pytest.raises(FlowTimeoutError, match="flow outer took longer"):
        await AsyncFlow(inner, timeout=0.02, name="outer").run_async({})


async def test_a_node_may_handle_the_timeout_of_a_flow_it_runs():
    """A flow timeout is an ordinary error to the code around it: retried, fallen back."""

    async def stuck(self, prep_res):
        await asyncio.Event().wait()

    inner = AsyncFlow(subclass(AsyncNode, exec=stuck)(), timeout=0.01)

    async def exec_(self, prep_res):
        await inner.run_async({})

    told = []
    node = subclass(
        AsyncNode,
        exec=exec_,
        exec_fallback=lambda self, p, e: told.append(type(e)) or "late",
        post=lambda self, s, p, e: e,
    )
    assert await node(2, retry_on=TimeoutError).run_async({}) == "late"
    assert told == [FlowTimeoutError]


async def test_a_nodes_timeout_inside_a_flows_timeout_stays_the_nodes():
    """Each limit makes its own error."""

    async def stuck(self, prep_res):
        await asyncio.Event().wait()

    with pytest.raises(NodeTimeoutError):
        await AsyncFlow(subclass(AsyncNode, exec=stuck)(timeout=0.01), timeout=60).run_async({})


async def test_a_users_timeout_error_is_not_taken_for_the_flows():
    """Only the flow's own limit makes FlowTimeoutError."""
    mine = TimeoutError("mine")

    def exec_(self, prep_res):
        raise mine

    with pytest.raises(TimeoutError) as caught:
        await AsyncFlow(subclass(AsyncNode, exec=exec_)(), timeout=60).run_async({})
    assert caught.value is mine


async def test_cancelling_a_flow_with_a_timeout_is_cancellation():
    """From outside it is CancelledError, not a timeout."""
    started = asyncio.Event()

    async def exec_(self, prep_res):
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        AsyncFlow(subclass(AsyncNode, exec=exec_)(), timeout=60).run_async({})
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_synchronous_flow_notices_between_nodes(fake_clock):
    """The node at work comes back, the next one does not begin."""
    done = []

    def exec_(self, prep_res):
        done.append(1)
        fake_clock.now += 4

    slow = subclass(Node, exec=exec_)
    start = slow()
    start >> slow() >> slow()
    with pytest.raises(FlowTimeoutError, match=r"flow slow .* timeout of 5 s"):
        Flow(start, timeout=5, name="slow").run({})

    assert done == [1, 1]


def test_a_synchronous_flow_in_time_is_fine(fake_clock):
    """Exactly at the limit is not over it, and each run has its own."""
    ran = []

    def exec_(self, prep_res):
        fake_clock.now += 5
        ran.append(fake_clock.now)

    flow = Flow(subclass(Node, exec=exec_)(), timeout=5)
    flow.run({})
    flow.run({})

    assert len(ran) == 2


def test_nested_synchronous_timeouts_name_the_flow_that_is_late(fake_clock):
    """The inner flow's limit is the inner flow's."""

    def exec_(self, prep_res):
        fake_clock.now += 4

    inner = Flow(subclass(Node, exec=exec_)(), timeout=3, name="inner")
    with pytest.raises(FlowTimeoutError, match="flow inner"):
        Flow(inner, timeout=100, name="outer").run({})
    inner = Flow(subclass(Node, exec=exec_)(), timeout=100, name="inner")
    with pytest.raises(FlowTimeoutError, match="flow outer"):
        Flow(inner, timeout=3, name="outer").run({})


def test_the_timeout_of_a_synchronous_batch_flow_is_for_all_rounds(fake_clock):
    """One run of a batch flow is all its rounds, as for AsyncBatchFlow."""

    def exec_(self, prep_res):
        fake_clock.now += 4

    flow = subclass(BatchFlow, prep=lambda self, shared: [{}, {}, {}])(
        subclass(Node, exec=exec_)(), timeout=5
    )
    with pytest.raises(FlowTimeoutError):
        flow.run({})


# --- name, ends, strict ---------------------------------------------------------------------------


@both
def test_an_action_in_ends_ends_the_flow_quietly(colour, said):
    """No warning; the flow returns the action."""
    node = says(colour, "decide", "done")
    node - "more" >> node

    assert run(FLOWS[colour](node, ends=("done",))) == "done"
    assert said() == []


@both
def test_ends_may_name_default(colour, said):
    """None means "default" here too."""
    node = says(colour, "decide")
    node - "more" >> node

    assert run(FLOWS[colour](node, ends={"default"})) is None
    assert said() == []


@both
def test_other_actions_still_warn(colour, said):
    """`ends` speaks only of what it names."""
    node = says(colour, "decide", "oops")
    node - "more" >> node
    run(FLOWS[colour](node, ends=["done"]))

    assert said() == ["Flow ends: 'oops' not found in ['more']"]


@both
def test_a_strict_flow_raises_for_an_action_that_leads_nowhere(colour, said):
    """Not a warning: an error that says what to connect."""
    node = subclass(NODES[colour], post=lambda self, s, p, e: s)(name="decide")
    node - "more" >> says(colour, "end")

    with pytest.raises(UnknownActionError) as caught:
        run(FLOWS[colour](node, strict=True), "oops")

    assert str(caught.value) == (
        "decide returned the action 'oops', but its successors are ['more']. "
        "Connect it (node - 'oops' >> other), or name it in the flow's ends=."
    )
    assert isinstance(caught.value, LookupError)
    assert (caught.value.node, caught.value.action) == ("decide", "oops")
    assert said() == []


@both
def test_a_strict_flow_may_end_where_it_says(colour):
    """`ends` and a node without successors are ends on purpose."""
    node = subclass(NODES[colour], post=lambda self, s, p, e: s)()
    node - "more" >> says(colour, "last", "whatever")
    flow = FLOWS[colour](node, strict=True, ends=("done",))

    assert run(flow, "done") == "done"
    assert run(flow, "more") == "whatever"


class Undecided(Node):
    def post(self, shared, prep_res, exec_res):
        return "left" if shared else "right"


@both
def test_a_strict_flow_with_problems_does_not_start(colour):
    """`validate()` is asked first; nothing runs."""
    ran, node = [], Undecided()
    node - "left" >> Node()
    start = subclass(NODES[colour], exec=lambda self, p: ran.append(1))()
    start >> node

    with pytest.raises(InvalidFlowError) as caught:
        run(FLOWS[colour](start, strict=True, name="shaky"), True)

    assert ran == []
    assert [problem.kind for problem in caught.value.problems] == ["unknown-action"]
    assert str(caught.value) == (
        "flow shaky cannot run as it is:\n"
        "- unknown-action: Undecided may return 'right', but its successors are ['left']: "
        "connect it, or name it in the flow's ends="
    )
    assert isinstance(caught.value, ValueError)


@both
def test_strict_is_off_by_default(colour):
    """The same flow runs, as it does in PocketFlow."""
    node = Undecided()
    node - "left" >> Node()

    assert run(FLOWS[colour](node), True) is None


# --- merge_params ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("merge", "expected"), [(False, {"a": 1, "b": 2}), (True, {"a": 1, "b": "own", "c": "own"})]
)
def test_params_of_the_nodes_own_may_be_kept(colour, merge, expected):
    """By default the flow's params replace the node's; merged, the node's lie on top."""
    seen = []
    node = subclass(NODES[colour], prep=lambda self, shared: seen.append(dict(self.params)))()
    node.set_params({"b": "own", "c": "own"})
    flow = FLOWS[colour](node, merge_params=merge)
    flow.set_params({"a": 1, "b": 2})
    run(flow)

    assert seen == [expected]
    assert node.params == {"b": "own", "c": "own"}
    assert flow.params == {"a": 1, "b": 2}


@pytest.mark.parametrize("base", [BatchFlow, AsyncBatchFlow, AsyncParallelBatchFlow])
def test_params_are_merged_in_every_round(base):
    """Flow's, then the round's, then the node's."""
    seen = []
    node = subclass(Node, prep=lambda self, shared: seen.append(dict(self.params)))()
    node.set_params({"node": 1, "x": "node"})
    flow = subclass(base, prep=lambda self, shared: [{"n": 0, "x": 0}, {"n": 1}])(
        node, merge_params=True
    )
    flow.set_params({"flow": 1})
    run(flow)

    assert seen == [
        {"flow": 1, "n": 0, "x": "node", "node": 1},
        {"flow": 1, "n": 1, "x": "node", "node": 1},
    ]


# --- bad options ----------------------------------------------------------------------------------


@every_flow
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("max_steps", 0, ValueError),
        ("max_steps", -1, ValueError),
        ("max_steps", 2.0, ValueError),
        ("max_steps", True, ValueError),
        ("timeout", 0, ValueError),
        ("timeout", -3, ValueError),
        ("timeout", "5", ValueError),
        ("name", "", ValueError),
        ("name", 5, ValueError),
        ("ends", "done", TypeError),
        ("ends", None, TypeError),
        ("ends", 5, TypeError),
        ("strict", "yes", TypeError),
        ("merge_params", 1, TypeError),
    ],
)
def test_a_bad_value_is_refused_when_the_flow_is_made(base, name, value, error):
    """The error names the option."""
    with pytest.raises(error, match=name):
        base(Node(), **{name: value})


@pytest.mark.parametrize("base", [Flow, BatchFlow, AsyncFlow, AsyncBatchFlow])
@pytest.mark.parametrize("option", ["concurrency", "on_error", "max_retries", "retries"])
def test_an_unknown_option_is_refused_with_the_list_of_known_ones(base, option):
    """Only parallel batch flows are bounded; flows do not retry."""
    with pytest.raises(TypeError) as caught:
        base(Node(), **{option: 1})

    assert str(caught.value) == (
        f"{base.__name__} has no option {option!r}; "
        "it takes ends, max_steps, merge_params, name, strict, timeout"
    )


def test_a_parallel_batch_flow_takes_two_more():
    """And says so."""
    with pytest.raises(TypeError, match=r"takes concurrency, ends, max_steps, .*on_error"):
        AsyncParallelBatchFlow(Node(), workers=3)


@every_flow
def test_options_survive_copies(base):
    """copy, deepcopy and pickle keep them."""
    flow = base(Node(), name="named", max_steps=3)
    for twin in (copy.copy(flow), copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        assert twin._pf_options == flow._pf_options


@pytest.mark.parametrize(
    "error",
    [
        NodeTimeoutError("Slow", 2),
        FlowTimeoutError("slow", 2),
        StepLimitError("spin", 1, [("a", None)], "a"),
        UnknownActionError("a", "x", ["y"]),
        InvalidFlowError("f", ["one problem"]),
        UseRunAsyncError("Fetch"),
        UseRunAsyncError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("dup", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_the_engines_errors_can_be_pickled(error, dup):
    """They cross to another process as they are: type, text and attributes."""
    twin = dup(error)

    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
