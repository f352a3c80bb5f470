"""The recorder: what a run leaves in its trace."""

import asyncio
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
    guarding,
    parallel,
    suspended,
)
from tracing import TracingConfig, carry, current_span, trace_flow


class Load(AsyncNode):
    async def prep_async(self, shared):
        return shared["text"]

    async def exec_async(self, text):
        return text.split()

    async def post_async(self, shared, text, words):
        shared["words"] = words
        return "loaded"


class Count(Node):
    def prep(self, shared):
        return shared["words"]

    def exec(self, words):
        return len(words)

    def post(self, shared, words, count):
        shared["count"] = count


def chain():
    load = Load()
    load - "loaded" >> Count()
    return AsyncFlow(start=load, name="Words")


def trace(flow):
    return trace_flow(flow_name="Run")(flow)


async def test_a_run_is_a_flow_span_with_a_node_span_for_each_visit(traces, shape, phases, value):
    """Nodes are children of the flow, in order, with input, output, action and their phases."""
    await trace(chain()).run_async({"text": "to be or not"})

    root = traces.one()
    load, count = root.children
    assert shape(root) == (
        "flow",
        "Run",
        "completed",
        [("node", "Load", "completed"), ("node", "Count", "completed")],
    )
    assert value(load.input) == "to be or not"
    assert value(load.output) == ["to", "be", "or", "not"]
    assert load.attributes == {"action": "loaded"}
    assert value(count.output) == 4
    assert phases(load) == ["prep completed", "exec completed", "post completed"]
    assert value(root.input) == {"text": "to be or not"}
    assert value(root.output)["count"] == 4


def test_a_sync_flow_has_every_node_span_too(traces, shape):
    """`run` is recorded as `run_async` is."""
    first = Count()
    first >> Count()
    trace(Flow(start=first)).run({"words": ["a"]})

    assert [child.name for child in traces.one().children] == ["Count", "Count"]


async def test_children_lie_within_their_parents_time(traces):
    """Every span begins and ends inside the span above it, phases inside their span."""
    await trace(chain()).run_async({"text": "a"})

    def check(span):
        for child in (*span.children, *span.phases):
            assert span.start_ns <= child.start_ns <= child.end_ns <= span.end_ns
        for child in span.children:
            check(child)

    check(traces.one())


async def test_every_attempt_is_a_phase_with_its_wait(traces, phases):
    """Two failed attempts and a good one: three exec phases, errors and waits on the failed."""

    class Flaky(AsyncNode):
        async def exec_async(self, prep_res):
            if self.cur_retry < 2:
                raise ConnectionError(f"try {self.cur_retry}")
            return "up"

    await trace(AsyncFlow(Flaky(3, wait=0.001, backoff=2))).run_async({})

    (node,) = traces.one().children
    first, second, third = [phase for phase in node.phases if phase.kind == "exec"]
    assert node.outcome == "completed"
    assert (node.attempts, node.fell_back) == (3, False)
    assert (first.outcome, first.wait, first.attempt) == ("failed", 0.001, 0)
    assert (second.error.type, second.error.message, second.wait) == (
        "ConnectionError",
        "try 1",
        0.002,
    )
    assert (third.outcome, third.error, third.wait) == ("completed", None, None)


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_fallback_is_seen(traces, phases, value, sync):
    """The fallback is a phase of its own, and its answer is the node's output."""

    class Weak(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError("no")

        async def exec_fallback_async(self, prep_res, exc):
            return "plan b"

    class WeakSync(Node):
        def exec(self, prep_res):
            raise ValueError("no")

        def exec_fallback(self, prep_res, exc):
            return "plan b"

    if sync:
        trace(Flow(WeakSync())).run({})
    else:
        asyncio.run(trace(AsyncFlow(Weak())).run_async({}))

    (node,) = traces.one().children
    assert phases(node) == ["prep completed", "exec failed", "fallback completed", "post completed"]
    assert node.fell_back
    assert node.outcome == "completed"
    assert value(node.output) == "plan b"


class Upper(AsyncParallelBatchNode):
    async def prep_async(self, shared):
        return shared["items"]

    async def exec_async(self, item):
        await asyncio.sleep(0)
        if item == "bad" and self.cur_retry == 0:
            raise ValueError(item)
        return item.upper()


async def test_items_of_a_parallel_batch_are_spans_of_their_own(traces, value):
    """One span an item, with its index, input, output and attempts, under the node."""
    await trace(AsyncFlow(Upper(2, concurrency=2))).run_async({"items": ["a", "bad", "c"]})

    (node,) = traces.one().children
    assert [
        (i.kind, i.index, value(i.input), value(i.output), i.attempts) for i in node.children
    ] == [
        ("item", 0, "a", "A", 1),
        ("item", 1, "bad", "BAD", 2),
        ("item", 2, "c", "C", 1),
    ]
    assert value(node.output) == ["A", "BAD", "C"]


def test_items_of_a_sync_batch_are_spans_too(traces, value):
    """BatchNode: the same, one after the other."""

    class Double(BatchNode):
        def prep(self, shared):
            return (number for number in range(3))

        def exec(self, item):
            return item * 2

    trace(Flow(Double())).run({})

    (node,) = traces.one().children
    assert [value(item.output) for item in node.children] == [0, 2, 4]


async def test_a_generator_from_prep_is_not_consumed(traces, value):
    """The recorder names an iterator and leaves its items to the node."""

    class Lazy(Upper):
        async def prep_async(self, shared):
            return (letter for letter in "abc")

        async def post_async(self, shared, prep_res, exec_res):
            shared["got"] = exec_res

    shared = {}
    await trace(AsyncFlow(Lazy())).run_async(shared)

    assert shared["got"] == ["A", "B", "C"]
    assert "generator" in value(traces.one().children[0].input)


async def test_nested_flows_nest(traces, shape):
    """A flow inside a flow is a span with its own nodes under it."""
    inner = AsyncFlow(Load(), name="Inner")
    inner - "loaded" >> Count()
    await trace(AsyncFlow(inner, name="Outer")).run_async({"text": "x"})

    assert shape(traces.one())[3] == [
        ("flow", "Inner", "completed", [("node", "Load", "completed")]),
        ("node", "Count", "completed"),
    ]


@pytest.mark.parametrize("kind", [BatchFlow, AsyncBatchFlow, AsyncParallelBatchFlow])
def test_each_round_of_a_batch_flow_is_a_span(traces, value, kind):
    """Rounds carry their index and params; each has its own nodes."""

    class See(Node):
        def exec(self, prep_res):
            return self.params["n"]

    class Rounds(kind):
        def prep(self, shared):
            return [{"n": 1}, {"n": 2}]

        async def prep_async(self, shared):
            return [{"n": 1}, {"n": 2}]

    flow = trace(Rounds(See()))
    if kind is BatchFlow:
        flow.run({})
    else:
        asyncio.run(flow.run_async({}))

    rounds = traces.one().children
    assert [(r.kind, r.index, value(r.input)) for r in rounds] == [
        ("item", 0, {"n": 1}),
        ("item", 1, {"n": 2}),
    ]
    assert [value(r.children[0].output) for r in rounds] == [1, 2]


async def test_branches_of_parallel_are_children_of_it(traces, shape):
    """`parallel(...)` is a node whose branches hang under it, the join beside it."""
    start = Load()
    start - "loaded" >> parallel(Count(), Count(name="Again")) >> Count(name="Join")
    await trace(AsyncFlow(start)).run_async({"text": "a b"})

    assert shape(traces.one())[3] == [
        ("node", "Load", "completed"),
        (
            "node",
            "Parallel",
            "completed",
            [("node", "Count", "completed"), ("node", "Again", "completed")],
        ),
        ("node", "Join", "completed"),
    ]


class Boom(AsyncNode):
    async def exec_async(self, prep_res):
        raise LookupError("nothing there")


async def test_a_failure_is_on_the_phase_the_node_and_the_flow(traces, phases):
    """All three failed, with type and message, and the lines are the user's, not the engine's."""
    with pytest.raises(LookupError):
        await trace(AsyncFlow(Boom(2))).run_async({})

    root = traces.one()
    (node,) = root.children
    assert phases(node) == ["prep completed", "exec failed", "exec failed"]
    for span in (root, node, node.phases[-1]):
        assert span.outcome == "failed"
        assert (span.error.type, span.error.message) == ("LookupError", "nothing there")
    assert [(frame[0], frame[2]) for frame in node.phases[-1].error.frames] == [
        (__file__, "Boom.exec_async")
    ]


async def test_cancellation_is_an_outcome(traces):
    """A cancelled run says cancelled: phase, node and flow, and never completed."""
    there = asyncio.Event()

    class Wait(AsyncNode):
        async def exec_async(self, prep_res):
            there.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(trace(AsyncFlow(Wait())).run_async({}))
    await there.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    root = traces.one()
    assert root.outcome == root.children[0].outcome == "cancelled"
    assert root.children[0].phases[-1].outcome == "cancelled"


async def test_timeouts_are_an_outcome(traces):
    """A node and a flow out of time say timed_out; what was cancelled for it says cancelled."""

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await trace(AsyncFlow(Slow(timeout=0.01))).run_async({})
    with pytest.raises(TimeoutError):
        await trace(AsyncFlow(Slow(), timeout=0.01)).run_async({})

    by_node, by_flow = [tree.roots[0] for tree in traces.all()]
    assert by_node.outcome == by_node.children[0].outcome == "timed_out"
    assert (by_flow.outcome, by_flow.children[0].outcome) == ("timed_out", "cancelled")


async def test_a_gates_refusal_is_halted(traces):
    """What a gate stops is halted, not failed, up to the root."""

    class Halt(Exception):
        pass

    def gate(step):
        if step.name == "Count":
            raise Halt("emergency")

    with guarding(gate), pytest.raises(Halt):
        await trace(chain()).run_async({"text": "a"})

    root = traces.one()
    assert (root.outcome, [child.outcome for child in root.children]) == (
        "halted",
        ["completed", "halted"],
    )


async def test_a_suspension_has_its_reason_and_length(traces):
    """`suspended` is a phase of its own; nothing else ever is suspended."""

    class Ask(AsyncNode):
        async def exec_async(self, prep_res):
            async with suspended("waiting for approval"):
                await asyncio.sleep(0.01)

    await trace(AsyncFlow(Ask())).run_async({})

    (node,) = traces.one().children
    (pause,) = [phase for phase in node.phases if phase.kind == "suspended"]
    assert pause.note == "waiting for approval"
    assert pause.end_ns - pause.start_ns >= 9_000_000


async def test_current_span_is_the_phase_at_work(traces):
    """What the user opens in a phase has it as its parent, in child tasks and threads too."""
    seen = {}

    class Look(AsyncNode):
        async def prep_async(self, shared):
            seen["prep"] = current_span()

        async def exec_async(self, prep_res):
            seen["exec"] = current_span()

            async def child():
                await asyncio.sleep(0)
                return current_span()

            seen["gather"] = await asyncio.gather(child(), child())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(child())
            seen["group"] = task.result()
            seen["thread"] = await asyncio.to_thread(current_span)
            with ThreadPoolExecutor() as pool:
                seen["carried"] = await asyncio.wrap_future(pool.submit(carry(current_span)))
                seen["alone"] = await asyncio.wrap_future(pool.submit(current_span))

        async def post_async(self, shared, prep_res, exec_res):
            seen["post"] = current_span()

    assert current_span() is None
    await trace(AsyncFlow(Look())).run_async({})
    assert current_span() is None

    root = traces.one()
    (node,) = root.children
    by_kind = {phase.kind: phase.span_id for phase in node.phases}
    assert {kind: seen[kind].span_id for kind in ("prep", "exec", "post")} == by_kind
    assert {seen[kind].trace_id for kind in ("prep", "exec", "post")} == {root.trace_id}
    here = seen["exec"]
    assert seen["gather"] == [here, here]
    assert seen["group"] == seen["thread"] == seen["carried"] == here
    assert seen["alone"] is None


async def test_context_comes_back_after_failure_and_cancellation(traces):
    """However a nested flow ends, the code after it is in the span it was in before."""
    seen = []

    class Nest(AsyncNode):
        async def exec_async(self, prep_res):
            seen.append(current_span())
            for inner in (AsyncFlow(Boom()), AsyncFlow(Boom(), timeout=5)):
                with pytest.raises(LookupError):
                    await inner.run_async({})
                seen.append(current_span())
            task = asyncio.create_task(AsyncFlow(Boom()).run_async({}))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            seen.append(current_span())

    await trace(AsyncFlow(Nest())).run_async({})

    assert len(set(seen)) == 1
    assert [child.name for child in traces.one().children[0].children] == ["AsyncFlow", "AsyncFlow"]


async def test_a_thousand_runs_of_one_flow_at_once_are_a_thousand_trees(traces):
    """Concurrent runs of one decorated object never mix: each tree is complete and its own."""

    class Take(AsyncNode):
        async def prep_async(self, shared):
            return shared["n"]

        async def exec_async(self, n):
            for _ in range(n % 4):
                await asyncio.sleep(0)
            return n

        async def post_async(self, shared, n, result):
            return "more"

    first = Take()
    first - "more" >> Take() - "more" >> Upper()
    flow = trace(AsyncFlow(first))
    await asyncio.gather(*(flow.run_async({"n": n, "items": [str(n)]}) for n in range(1000)))

    trees = traces.all(2000)
    assert len(trees) == 1000
    numbers = set()
    for tree in trees:
        (root,) = tree.roots
        one, two, batch = root.children
        assert one.output == two.output == one.input
        assert batch.children[0].output == b'"%s"' % one.output
        assert {span.trace_id for span in (root, one, two, batch)} == {tree.summary.trace_id}
        assert root.outcome == "completed"
        numbers.add(int(one.output))
    assert numbers == set(range(1000))


def test_runs_in_many_threads_keep_apart(traces):
    """One flow object run in eight threads: each run has its own trace."""
    flow = trace(Flow(Count()))
    threads = [
        threading.Thread(target=lambda n=n: flow.run({"words": ["w"] * n})) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(int(tree.roots[0].children[0].output) for tree in traces.all()) == list(range(8))


async def test_contents_are_as_they_were_at_the_time(traces, value):
    """A later change of a recorded object does not show."""

    class Change(AsyncNode):
        async def prep_async(self, shared):
            return shared["list"]

        async def exec_async(self, items):
            items.append(2)
            return items

        async def post_async(self, shared, items, result):
            items.clear()

    await trace(AsyncFlow(Change())).run_async({"list": [1]})

    (node,) = traces.one().children
    assert (value(node.input), value(node.output)) == ([1], [1, 2])


async def test_secrets_are_not_written(traces, store_path):
    """Values under secret-looking keys are nowhere in the file."""
    await trace(chain()).run_async(
        {"text": "a", "api_key": "sk-123456", "db": {"password": "hunter2"}}
    )

    assert (
        traces.one().input == b'{"text":"a","api_key":"[redacted]","db":{"password":"[redacted]"}}'
    )
    for file in store_path.parent.glob(store_path.name + "*"):
        data = file.read_bytes()
        assert b"sk-123456" not in data
        assert b"hunter2" not in data


async def test_contents_can_be_left_out(traces):
    """trace_inputs and trace_outputs off: spans without contents."""
    config = TracingConfig(trace_inputs=False, trace_outputs=False)
    await trace_flow(config)(chain()).run_async({"text": "a"})

    root = traces.one()
    assert {span.input for span in (root, *root.children)} == {None}
    assert {span.output for span in (root, *root.children)} == {None}


async def test_the_recorder_keeps_nothing_of_the_run_alive(traces):
    """Once a run is over and stored, its objects are freed."""

    class Thing:
        pass

    class Make(AsyncNode):
        async def exec_async(self, prep_res):
            thing = Thing()
            made.append(weakref.ref(thing))
            return thing

        async def post_async(self, shared, prep_res, exec_res):
            if shared.get("fail"):
                raise ValueError(exec_res)

    made = []
    flow = trace(AsyncFlow(Make()))
    await flow.run_async({})
    with pytest.raises(ValueError, match="Thing"):
        await flow.run_async({"fail": True})
    traces.all()
    gc.collect()

    assert [ref() for ref in made] == [None, None]


async def test_hostile_contents_do_no_harm(traces):
    """Objects that raise when looked at, cycles and huge values: the run does not notice."""

    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError(name)

        def __repr__(self):
            raise SystemExit

    class Odd(AsyncNode):
        async def prep_async(self, shared):
            cycle = []
            cycle.append(cycle)
            return cycle

        async def exec_async(self, prep_res):
            return {
                "hostile": Hostile(),
                "huge": "x" * 5_000_000,
                "big": 1 << 200,
                1: {2: "\ud800"},
            }

    await trace(AsyncFlow(Odd())).run_async({"shared": Hostile()})

    (node,) = traces.one().children
    assert node.outcome == "completed"
    assert len(node.output) <= 32_768


async def test_a_running_flow_can_be_watched(traces, store_path):
    """An open trace shows in the store, running, with the node it is in."""
    go = asyncio.Event()

    class Wait(AsyncNode):
        async def exec_async(self, prep_res):
            await go.wait()

    task = asyncio.create_task(trace(AsyncFlow(Wait())).run_async({}))
    deadline = time.monotonic() + 10
    root = None
    while root is None or not root.children:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)  # the store writes open spans by the real clock
        if store_path.exists() and (trees := traces.all()):
            (root,) = trees[0].roots
    assert (root.outcome, root.end_ns) == ("running", None)
    assert [p.kind for p in root.children[0].phases] == ["prep", "exec"]
    assert root.children[0].phases[-1].outcome == "running"
    go.set()
    await task

    assert traces.one().outcome == "completed"


async def test_an_overridden_run_is_one_span(traces, shape):
    """A class that overrides run_async and calls super() has one flow span, not two."""

    @trace_flow()
    class Main(AsyncFlow):
        async def run_async(self, shared):
            result = await super().run_async(shared)
            await AsyncFlow(Load(), name="After").run_async(shared)
            return result

    await Main(Load()).run_async({"text": "a"})

    assert shape(traces.one()) == (
        "flow",
        "Main",
        "completed",
        [
            ("node", "Load", "completed"),
            ("flow", "After", "completed", [("node", "Load", "completed")]),
        ],
    )
