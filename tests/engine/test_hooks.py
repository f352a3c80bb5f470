"""The seam: which steps observers see, that they never decide, and that gates do."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager, nullcontext

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
    Step,
    UnknownActionError,
    guarding,
    observing,
    parallel,
    suspended,
)
from pocketflow_async.hooks import active
from tests.engine.engine_kit import FLOWS, NODES, Flaky, Recorder, run, subclass, turns

both = pytest.mark.parametrize("colour", ["sync", "async"])


def seen_by(runnable, shared=None) -> list[str]:
    record = Recorder()
    with observing(record):
        run(runnable, shared)
    return record.text()


# --- which steps ----------------------------------------------------------------------------------


@both
def test_a_node_alone(colour):
    """`node` holds prep, exec, post, in this order."""
    assert seen_by(NODES[colour](name="N")) == ["node N", "  prep N", "  exec N", "  post N"]


@both
def test_a_flow_of_nodes(colour):
    """`flow` holds its prep, its nodes, its post; the class's name is the default name."""
    start = NODES[colour](name="a")
    start >> NODES[colour](name="b")

    assert seen_by(subclass(FLOWS[colour], "Daily")(start)) == [
        "flow Daily",
        "  prep Daily",
        "  node a",
        "    prep a",
        "    exec a",
        "    post a",
        "  node b",
        "    prep b",
        "    exec b",
        "    post b",
        "  post Daily",
    ]


@both
def test_flows_nest(colour):
    """A nested flow is a `flow` step among the nodes."""
    inner = FLOWS[colour](NODES[colour](name="n"), name="inner")

    assert seen_by(FLOWS[colour](inner, name="outer")) == [
        "flow outer",
        "  prep outer",
        "  flow inner",
        "    prep inner",
        "    node n",
        "      prep n",
        "      exec n",
        "      post n",
        "    post inner",
        "  post outer",
    ]


@both
def test_attempts_and_the_fallback(colour, fake_clock):
    """One `exec` per attempt, each with its wait; then the `fallback`."""
    node = subclass(NODES[colour], exec=Flaky(9).phase, exec_fallback=lambda self, p, e: "x")

    assert seen_by(node(3, 1, backoff=4, name="N")) == [
        "node N",
        "  prep N",
        "  exec N 1/3 !ValueError wait=1",
        "  exec N 2/3 !ValueError wait=4",
        "  exec N 3/3 !ValueError",
        "  fallback N 3/3",
        "  post N",
    ]


@both
def test_a_fallback_nobody_wrote_is_no_step(colour):
    """The default fallback only raises; the error passes every step around it."""
    record = Recorder()
    flow = FLOWS[colour](subclass(NODES[colour], exec=Flaky(9).phase)(name="N"), name="F")
    with observing(record), pytest.raises(ValueError, match="try 1") as caught:
        run(flow)

    assert record.text() == [
        "flow F !ValueError",
        "  prep F",
        "  node N !ValueError",
        "    prep N",
        "    exec N !ValueError",
    ]
    assert all(seen.error in (None, caught.value) for seen in record.all)


@both
@pytest.mark.parametrize("kind", ["batch", "parallel"])
def test_batch_items(colour, kind):
    """Each item is an `item` step with its index, and holds its attempts."""
    base = {"sync": BatchNode, "async": AsyncBatchNode}[colour]
    if kind == "parallel":
        base = AsyncParallelBatchNode
    flaky = Flaky(1)
    node = subclass(base, prep=lambda self, shared: ["x", "y"], exec=flaky.phase)(2, name="B")

    assert seen_by(node) == [
        "node B",
        "  prep B",
        "  item B[0]",
        "    exec B 1/2 !ValueError wait=0",
        "    exec B 2/2",
        "  item B[1]",
        "    exec B 1/2",
        "  post B",
    ]


@pytest.mark.parametrize("base", [BatchFlow, AsyncBatchFlow, AsyncParallelBatchFlow])
def test_batch_flow_rounds(base):
    """Each round is an `item` step of the flow, and holds the nodes."""
    flow = subclass(base, prep=lambda self, shared: [{"n": 0}, {"n": 1}])(Node(name="n"), name="F")
    record = Recorder()
    with observing(record):
        run(flow)

    nodes = ["    node n", "      prep n", "      exec n", "      post n"]
    assert record.text() == [
        "flow F",
        "  prep F",
        "  item F[0]",
        *nodes,
        "  item F[1]",
        *nodes,
        "  post F",
    ]
    assert [step.input for step in record.steps("item")] == [{"n": 0}, {"n": 1}]


def test_branches():
    """A fan-out is a node that holds a step per branch; a chain is a flow of the branch's name."""
    chain = Node(name="first")
    chain >> Node(name="second")
    fan = parallel(AsyncNode(name="a"), Flow(Node(name="n"), name="f"), chain, name="fan")

    assert seen_by(AsyncFlow(fan, name="F")) == [
        "flow F",
        "  prep F",
        "  node fan",
        "    node a",
        "      prep a",
        "      exec a",
        "      post a",
        "    flow f",
        "      prep f",
        "      node n",
        "        prep n",
        "        exec n",
        "        post n",
        "      post f",
        "    flow first",
        "      node first",
        "        prep first",
        "        exec first",
        "        post first",
        "      node second",
        "        prep second",
        "        exec second",
        "        post second",
        "    post fan",
        "  post F",
    ]


def test_synchronous_parts_of_an_async_flow():
    """A sync node and a sync flow inside an AsyncFlow are steps like any other."""
    node = Node(name="n")
    node >> Flow(Node(name="m"), name="inner")

    assert [line.strip() for line in seen_by(AsyncFlow(node, name="F"))] == [
        "flow F",
        "prep F",
        "node n",
        "prep n",
        "exec n",
        "post n",
        "flow inner",
        "prep inner",
        "node m",
        "prep m",
        "exec m",
        "post m",
        "post inner",
        "post F",
    ]


def test_by_hand_nested_runs():
    """A flow that a node runs by hand is inside that node's exec."""
    inner = Flow(Node(name="n"), name="inner")
    outer = subclass(Node, exec=lambda self, p: inner.run({}))(name="outer")

    assert [line for line in seen_by(outer) if "inner" in line] == [
        "    flow inner",
        "      prep inner",
        "      post inner",
    ]


@both
def test_the_fields_of_the_steps(colour):
    """What each kind of step was given and gave, and whose it is."""
    phases = {
        "prep": lambda self, shared: ("prepared", shared),
        "exec": lambda self, prep_res: ("executed", prep_res),
        "post": lambda self, shared, prep_res, exec_res: "action",
    }
    node = subclass(NODES[colour], **phases)(name="N")
    flow = FLOWS[colour](node, name="F")
    record = Recorder()
    with observing(record):
        run(flow, "shared")

    by = {(s.step.kind, s.step.name): s.step for s in record.all}
    prepared, executed = ("prepared", "shared"), ("executed", ("prepared", "shared"))
    assert {key: (step.input, step.result) for key, step in by.items()} == {
        ("flow", "F"): ("shared", "action"),
        ("prep", "F"): ("shared", None),
        ("node", "N"): ("shared", "action"),
        ("prep", "N"): ("shared", prepared),
        ("exec", "N"): (prepared, executed),
        ("post", "N"): (executed, "action"),
        ("post", "F"): ("action", "action"),
    }
    assert by["flow", "F"].source is flow
    copies = {by[kind, "N"].source for kind in ("node", "prep", "exec", "post")}
    assert len(copies) == 1
    assert copies != {node}
    assert all(type(source) is type(node) for source in copies)


@both
def test_the_result_is_there_when_the_observer_leaves(colour):
    """`result` is set before `__exit__`, and stays None when something was raised."""
    left = {}

    @contextmanager
    def observer(step):
        assert step.result is None
        try:
            yield
        finally:
            left[step.kind] = step.result

    node = subclass(NODES[colour], prep=lambda self, s: 1, exec=lambda self, p: p / s_or_zero())

    def s_or_zero():
        return 0

    with observing(observer), pytest.raises(ZeroDivisionError):
        run(node())

    assert left == {"prep": 1, "exec": None, "node": None}


def test_a_step_names_itself_without_its_contents():
    """`repr` is for logs: no input, no result."""
    step = Step("item", "N", None, "secret")
    step.index = 3
    step.result = "secret"

    assert repr(step) == "<Step item N[3] attempt 0>"


@both
def test_cur_retry_is_right_while_observed(colour):
    """`cur_retry` counts as it does on the plain path, in post too."""
    numbers, flaky = [], Flaky(2)

    def exec_(self, prep_res):
        numbers.append(self.cur_retry)
        flaky(None)

    def post(self, shared, prep_res, exec_res):
        numbers.append(self.cur_retry)

    with observing(lambda step: None):
        run(FLOWS[colour](subclass(NODES[colour], exec=exec_, post=post)(5)))

    assert numbers == [0, 1, 2, 2]


async def test_what_an_observer_sets_in_a_context_var_is_seen_inside():
    """It is entered in the step's own task, so a span of the user's finds its parent."""
    from contextvars import ContextVar

    var, seen = ContextVar("var", default="outside"), []

    @contextmanager
    def observer(step):
        token = var.set(f"{step.kind} {step.index}")
        try:
            yield
        finally:
            var.reset(token)

    async def exec_(self, item):
        await turns(2)
        seen.append(var.get())

    node = subclass(
        AsyncParallelBatchNode,
        prep=lambda self, s: seen.append(var.get()) or [1, 2],
        exec=exec_,
        post=lambda self, s, p, e: seen.append(var.get()),
    )
    with observing(observer):
        await AsyncFlow(node()).run_async({})

    assert seen == ["prep None", "exec None", "exec None", "post None"]
    assert var.get() == "outside"


# --- observers never decide -----------------------------------------------------------------------


class Manager:
    """A context manager that fails as told."""

    def __init__(self, enter=None, leave=None, swallow=None):
        self.enter, self.leave, self.swallow = enter, leave, swallow

    def __enter__(self):
        if self.enter is not None:
            raise self.enter

    def __exit__(self, *error):
        if self.leave is not None:
            raise self.leave
        return self.swallow


def raises_in_call(step):
    raise RuntimeError("call")


BAD = {
    "call": raises_in_call,
    "call cancelled": lambda step: (_ for _ in ()).throw(asyncio.CancelledError),
    "call exit": lambda step: (_ for _ in ()).throw(SystemExit(1)),
    "call stop": lambda step: next(iter(())),
    "enter": lambda step: Manager(enter=RuntimeError("enter")),
    "enter base": lambda step: Manager(enter=BaseException("enter")),
    "leave": lambda step: Manager(leave=RuntimeError("leave")),
    "leave cancelled": lambda step: Manager(leave=asyncio.CancelledError()),
    "garbage": lambda step: 5,
    "text": lambda step: "not a manager",
    "a type": lambda step: nullcontext,
    "generator": lambda step: (x for x in ()),
    "half": lambda step: type("Half", (), {"__enter__": lambda self: None})(),
    "no arguments": lambda: None,
}


@both
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("company", ["alone", "first", "last"])
def test_an_observer_that_fails_is_logged_and_dropped(colour, bad, company, caplog):
    """The run goes on, its result is the same, and the other observers see everything."""
    flaky = Flaky(1)
    node = subclass(NODES[colour], exec=flaky.phase, post=lambda self, s, p, e: "action")(2)
    record, plain = Recorder(), Recorder()
    with observing(plain):
        run(FLOWS[colour](subclass(NODES[colour], exec=Flaky(1).phase)(2)))

    with observing(bad if company != "last" else record):
        if company == "alone":
            assert run(FLOWS[colour](node)) == "action"
        else:
            with observing(record if company == "first" else bad):
                assert run(FLOWS[colour](node)) == "action"
            assert record.text() == plain.text()

    assert flaky.calls == 2
    assert {entry.name for entry in caplog.records} == {"pocketflow_async.hooks"}
    assert "the run goes on without it" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].levelno == logging.ERROR


@both
def test_an_observer_cannot_swallow_an_error(colour):
    """What its `__exit__` returns means nothing."""
    with observing(lambda step: Manager(swallow=True)), pytest.raises(ValueError, match="try 1"):
        run(FLOWS[colour](subclass(NODES[colour], exec=Flaky(9).phase)()))


@both
def test_an_observer_cannot_change_a_step(colour):
    """The step is what it is told, not what the engine works with."""

    @contextmanager
    def observer(step):
        step.input = step.name = "changed"
        step.attempt, step.attempts, step.index = 7, 9, 5
        try:
            yield
        finally:
            step.result, step.wait = "changed", 100.0

    def post(self, shared, prep_res, exec_res):
        shared["seen"] = (prep_res, exec_res, self.cur_retry)
        return "action"

    flaky, shared = Flaky(1), {}
    node = subclass(NODES[colour], prep=lambda self, s: "in", exec=flaky.phase, post=post)(2)
    with observing(observer):
        assert run(FLOWS[colour](node), shared) == "action"

    assert shared["seen"] == ("in", "in", 1)


@both
def test_an_observer_may_decline(colour):
    """None means: not interested in this step."""
    kinds = []

    def observer(step):
        kinds.append(step.kind)

    with observing(observer):
        run(NODES[colour]())

    assert kinds == ["node", "prep", "exec", "post"]


def test_control_c_in_an_observer_is_not_dropped():
    """KeyboardInterrupt is the user's, wherever it strikes."""

    def observer(step):
        raise KeyboardInterrupt

    with observing(observer), pytest.raises(KeyboardInterrupt):
        Node().run({})
    with observing(lambda step: None), observing(observer), pytest.raises(KeyboardInterrupt):
        Node().run({})


def test_several_observers_are_entered_in_order_and_left_in_reverse():
    """They nest."""
    log = []

    def named(name):
        @contextmanager
        def observer(step):
            if step.kind == "exec":
                log.append(f"{name} in")
            yield
            if step.kind == "exec":
                log.append(f"{name} out")

        return observer

    with observing(named("a")), observing(named("b")), observing(named("c")):
        Node().run({})

    assert log == ["a in", "b in", "c in", "c out", "b out", "a out"]


def test_the_same_observer_is_not_added_twice():
    """Nested flows that ask for the same one are seen once."""
    record = Recorder()
    with observing(record), observing(record):
        Node(name="N").run({})
        assert len(active().observers) == 1

    assert record.text() == ["node N", "  prep N", "  exec N", "  post N"]


def test_observing_ends_with_its_block():
    """Also when the block raises; then the plain path is back."""
    record = Recorder()
    assert active() is None
    with pytest.raises(ValueError), observing(record):
        raise ValueError
    assert active() is None
    with observing(lambda step: None):
        with observing(record):
            pass
        assert len(active().observers) == 1
    Node().run({})

    assert record.all == []


async def test_tasks_and_threads_inherit_the_observers():
    """What is started inside the block is seen, even if it runs after it; what is not, is not."""
    record, other = Recorder(), []

    async def later():
        await turns(3)
        await AsyncNode(name="task").run_async({})

    with observing(record):
        task = asyncio.create_task(later())
        await asyncio.to_thread(Node(name="thread").run, {})
        thread = threading.Thread(target=Node(name="bare thread").run, args=({},))
        thread.start()
        thread.join()
    await task
    await AsyncNode(name="outside").run_async(other)

    assert [seen.step.name for seen in record.roots] == ["thread", "task"]


async def test_concurrent_runs_with_observers_of_their_own_do_not_mix():
    """Each sees its own run."""

    async def one(name):
        record = Recorder()
        with observing(record):
            await AsyncFlow(subclass(AsyncNode, exec=slow)(name=name), name=name).run_async({})
        return {seen.step.name for seen in record.all}

    async def slow(self, prep_res):
        await turns(3)

    assert await asyncio.gather(one("a"), one("b"), one("c")) == [{"a"}, {"b"}, {"c"}]


# --- gates ----------------------------------------------------------------------------------------


class Refused(Exception):
    """What a gate raises."""


def refuses(kind, error=None):
    def gate(step):
        if step.kind == kind:
            raise error or Refused(step.name)

    return gate


def async_gate(gate):
    async def asks(step):
        await asyncio.sleep(0)
        gate(step)

    return asks


@both
def test_a_gate_is_asked_about_flows_nodes_and_attempts(colour):
    """Before each of them, in order, and about nothing else."""
    asked = []

    def gate(step):
        asked.append((step.kind, step.name, step.attempt))

    node = subclass(NODES[colour], exec=Flaky(1).phase)(2, name="N")
    inner = FLOWS[colour](node, name="inner")
    with guarding(gate):
        run(FLOWS[colour](inner, name="outer"))

    assert asked == [
        ("flow", "outer", 0),
        ("flow", "inner", 0),
        ("node", "N", 0),
        ("exec", "N", 0),
        ("exec", "N", 1),
    ]


@both
@pytest.mark.parametrize("wait", ["sync gate", "async gate"])
@pytest.mark.parametrize("kind", ["flow", "node", "exec"])
def test_a_refusal_leaves_the_run_as_it_is(colour, wait, kind):
    """Not retried, no fallback, the type and object unchanged; nothing of the step has run."""
    if wait == "async gate" and colour == "sync":
        gate = refuses(kind)  # a sync run takes plain gates only; see below
    else:
        gate = refuses(kind) if wait == "sync gate" else async_gate(refuses(kind))
    ran = []
    node = subclass(
        NODES[colour],
        exec=lambda self, p: ran.append("exec"),
        exec_fallback=lambda self, p, e: ran.append("fallback"),
        post=lambda self, s, p, e: ran.append("post"),
    )(5, 1, name="N")
    with guarding(gate), pytest.raises(Refused) as caught:
        run(FLOWS[colour](node, name="F"))

    assert caught.value.args == ("F" if kind == "flow" else "N",)
    assert ran == []


@both
def test_a_refusal_of_a_later_attempt_ends_the_node(colour):
    """The first attempt failed, the second is refused: the refusal leaves, once."""
    error, flaky, asked = Refused("no more"), Flaky(9), []

    def gate(step):
        asked.append(step.kind)
        if step.kind == "exec" and step.attempt == 1:
            raise error

    with guarding(gate), pytest.raises(Refused) as caught:
        run(subclass(NODES[colour], exec=flaky.phase, exec_fallback=lambda s, p, e: 0)(5, name="N"))

    assert caught.value is error
    assert flaky.calls == 1
    assert asked == ["node", "exec", "exec"]
    assert error.__notes__ == ["in node N, exec, attempt 2 of 5"]


@both
@pytest.mark.parametrize("error", [KeyError("own"), asyncio.CancelledError("own")])
def test_a_gate_may_raise_what_it_likes(colour, error):
    """Its error is the run's error, cancellation too."""

    async def main():
        with guarding(refuses("exec", error)):
            flow = FLOWS[colour](NODES[colour](3))
            return await flow.run_async({}) if colour == "async" else flow.run({})

    with pytest.raises(type(error)) as caught:
        asyncio.run(main())
    assert caught.value is error or colour == "async"


def test_observers_see_the_refusal():
    """On the step, and as its error."""
    record = Recorder()
    with observing(record), guarding(refuses("exec")), pytest.raises(Refused) as caught:
        Node(2, name="N").run({})

    (step,) = record.steps("exec")
    assert step.refusal is caught.value
    assert step.wait is None
    assert record.text() == ["node N !Refused", "  prep N", "  exec N 1/2 !Refused"]


def test_an_async_gate_under_run_is_an_error():
    """It cannot be awaited there: TypeError, and nothing runs."""
    ran = []

    async def gate(step):
        raise AssertionError("never awaited")

    with guarding(gate), pytest.raises(TypeError, match="asynchronous: use run_async"):
        Flow(subclass(Node, exec=lambda self, p: ran.append(1))(3)).run({})
    assert ran == []


@pytest.mark.parametrize("in_thread", [False, True])
async def test_an_async_gate_guards_synchronous_nodes_of_an_async_flow(in_thread):
    """Under `run_async` a gate may be async; of a sync node it is asked about the visit."""
    node = Node(in_thread=in_thread, name="N")
    asked = []

    async def gate(step):
        await asyncio.sleep(0)
        asked.append(step.kind)

    with guarding(gate):
        await AsyncFlow(node).run_async({})
        with pytest.raises(TypeError, match="asynchronous: use run_async"):
            await AsyncFlow(Flow(node)).run_async({})  # a plain Flow can await nothing

    assert asked == ["flow", "node", "flow", "flow"]


@both
@pytest.mark.parametrize("answer", [True, False, 0, "no"])
def test_a_gate_that_returns_something_is_an_error(colour, answer):
    """A gate that means to decide by its answer is told that it has to raise."""
    ran = []
    node = subclass(NODES[colour], exec=lambda self, p: ran.append(1))
    with guarding(lambda step: answer), pytest.raises(TypeError, match="stops a step by raising"):
        run(FLOWS[colour](node()))

    assert ran == []


def test_every_gate_is_asked_until_one_refuses():
    """In order; those after it are not asked."""
    asked = []
    with (
        guarding(lambda step: asked.append("a")),
        guarding(refuses("node")),
        guarding(lambda step: asked.append("b")),
        pytest.raises(Refused),
    ):
        Node().run({})

    assert asked == ["a"]


def test_guarding_ends_with_its_block():
    """Then nobody is asked any more."""
    with guarding(refuses("node")):
        pass

    assert active() is None
    Node().run({})


async def test_gates_guard_items_and_branches():
    """Batch items are guarded by their attempts, branches as the nodes they are."""
    items, seen = [], []

    def gate(step):
        seen.append((step.kind, step.name))
        if step.kind == "exec" and step.input == 2:
            raise Refused

    node = subclass(
        AsyncParallelBatchNode, prep=lambda s, x: [1, 2, 3], exec=lambda s, i: items.append(i)
    )(3, name="B")
    with guarding(gate), pytest.raises(Refused):
        await AsyncFlow(parallel(node, AsyncNode(name="n"), name="fan"), name="F").run_async({})

    assert 2 not in items
    assert seen[:2] == [("flow", "F"), ("node", "fan")]
    assert {("node", "B"), ("node", "n"), ("exec", "B")} <= set(seen)


# --- suspended ------------------------------------------------------------------------------------


async def test_suspended_is_a_step_as_long_as_its_block():
    """Of kind `suspended`, named by its reason, inside the exec that waits; they nest."""
    approved, record, waiting = asyncio.Event(), Recorder(), asyncio.Event()

    async def exec_(self, prep_res):
        async with suspended("approval"):
            with suspended("second opinion"):
                waiting.set()
                await approved.wait()
        return "ok"

    async def approve():
        await waiting.wait()
        approved.set()

    with observing(record):
        node = subclass(AsyncNode, exec=exec_)(name="N")
        await asyncio.gather(node.run_async({}), approve())

    assert record.text() == [
        "node N",
        "  prep N",
        "  exec N",
        "    suspended approval",
        "      suspended second opinion",
        "  post N",
    ]
    assert record.steps("suspended")[0].input == "approval"


def test_suspended_works_in_synchronous_nodes():
    """With a plain `with`."""
    record = Recorder()

    def exec_(self, prep_res):
        with suspended("input"):
            return 1

    with observing(record):
        subclass(Node, exec=exec_)(name="N").run({})

    assert "    suspended input" in record.text()


async def test_suspended_passes_errors_and_cancellation():
    """It is only a sign; and the observer sees how it ended."""
    record = Recorder()
    with observing(record):
        with pytest.raises(ValueError):
            async with suspended("a"):
                raise ValueError
        with pytest.raises(asyncio.CancelledError), suspended("b"):
            raise asyncio.CancelledError

    assert record.text() == ["suspended a !ValueError", "suspended b !CancelledError"]


async def test_one_suspended_may_be_entered_again():
    """Even inside itself; without observers it costs nothing and does nothing."""
    wait, record = suspended("w"), Recorder()
    async with wait:
        pass
    with observing(record):
        async with wait:
            with wait:
                pass
        with wait:
            pass

    assert record.text() == ["suspended w", "  suspended w", "suspended w"]


async def test_suspended_survives_a_broken_observer(caplog):
    """Logged, dropped."""
    with observing(raises_in_call):
        async with suspended("w"):
            done = True

    assert done
    assert "suspended w" in caplog.text


async def test_an_error_of_strict_is_seen_by_the_flow_step():
    """What the flow itself raises is the flow's error."""
    record = Recorder()
    node = subclass(AsyncNode, post=lambda self, s, p, e: s)(name="N")
    node - "x" >> AsyncNode()
    with observing(record), pytest.raises(UnknownActionError):
        await AsyncFlow(node, strict=True, name="F").run_async("y")

    assert record.text()[0] == "flow F !UnknownActionError"
    assert record.text()[2] == "  node N"
