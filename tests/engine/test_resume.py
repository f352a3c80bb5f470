"""Durable runs: after a crash they go on at the first node that is not stored as done."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    Flow,
    FlowTimeoutError,
    Node,
    Step,
    StepLimitError,
    guarding,
    observing,
    parallel,
)
from pocketflow_async.infrastructure.checkpoints import (
    CheckpointError,
    FlowChanged,
    RunBusy,
    RunNotFound,
    current_run,
)
from pocketflow_async.infrastructure.emergency_states import EmergencyHalted, EmergencyState
from pocketflow_async.infrastructure.store import (
    LeaseLost,
    MemoryStore,
    RunExists,
    RunRow,
    SqliteStore,
    StoreUnavailable,
)
from tests.engine.engine_kit import Recorder
from tests.engine.resume_kit import Crash, CutOff, Effects, chain

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def cut_off(build, effects, writes, *, shared=None):
    """Run what *build* makes until so many writes are stored, then to its end in a second life.

    Returns what the nodes shared, or None where nothing was cut off.
    """
    store, ended = CutOff(writes), {} if shared is None else shared
    try:
        await build().run_async(ended, run_id="r", store=store)
    except Crash:
        store.mend()
        ended = {}
        await build().resume("r", ended, store=store)
        assert (await store.run("r")).status == "completed"
        return ended
    return None


async def every_cut(build, effects):
    """Cut a run off after each of its writes; yield what was shared and done each time."""
    for writes in range(100):
        effects.done.clear()
        shared = await cut_off(build, effects, writes)
        if shared is None:
            return
        yield writes, shared, effects.counts
    raise AssertionError("it does not end")


# --- the way through the graph --------------------------------------------------------------------


async def test_a_durable_run_does_what_a_plain_one_does(effects, store):
    """Same result, same shared; and the run is stored as completed."""
    plain, durable = {}, {}
    flow = chain(effects.node("a"), effects.node("b", lambda shared: "sold"), ends=["sold"])

    assert await flow.run_async(plain) == "sold"
    assert await flow.run_async(durable, run_id="r", store=store) == "sold"

    row = await store.run("r")
    assert durable == plain
    assert (row.kind, row.workflow_id, row.status) == ("flow", "AsyncFlow", "completed")
    assert (row.owner, json.loads(row.result), json.loads(row.inputs)) == (None, "sold", {})


async def test_cut_off_anywhere_it_goes_on_behind_what_is_stored(effects):
    """A chain with flows inside flows: each node runs once, but for the one that was at work."""

    def build():
        inner = chain(effects.node("c"), effects.node("d"), name="inner")
        middle = chain(effects.node("b"), inner, effects.node("e"), name="middle")
        return chain(effects.node("a"), middle, effects.node("f"))

    seen = set()
    async for writes, shared, counts in every_cut(build, effects):
        assert shared == {"trail": list("abcdef")}
        assert set(counts) == set("abcdef")
        assert counts.total() <= 7
        seen.update(name for name, count in counts.items() if count == 2)
        assert writes < 9
    assert seen == set("abcdef")


async def test_loops_and_branches_go_on_by_their_actions(effects):
    """The next node is the one that the stored action leads to, however often it was visited."""

    def build():
        loop = effects.node("loop", lambda s: "again" if s["trail"].count("loop") < 3 else "out")
        loop - "again" >> loop
        loop - "out" >> effects.node("end")
        return AsyncFlow(loop)

    async for _, shared, counts in every_cut(build, effects):
        assert shared == {"trail": ["loop", "loop", "loop", "end"]}
        assert counts.total() <= 5


async def test_nodes_in_two_flows_are_in_two_places(effects):
    """The way to a node counts, not only the node."""

    def build():
        common = chain(effects.node("x"), effects.node("y")).start_node
        return chain(
            AsyncFlow(common, name="one"), effects.node("a"), AsyncFlow(common, name="two")
        )

    async for _, shared, counts in every_cut(build, effects):
        assert shared["trail"] == list("xyaxy")
        assert counts.total() <= 6


async def test_a_flow_may_hold_itself(effects):
    """A recursion is resumed at its depth."""

    def build():
        flow = AsyncFlow(name="self")
        first = effects.node("n", lambda s: "down" if s["trail"].count("n") < 3 else "up")
        first - "down" >> flow
        first - "up" >> effects.node("turn")
        flow.start(first)
        return AsyncFlow(flow)

    async for _, shared, counts in every_cut(build, effects):
        assert shared["trail"] == ["n", "n", "n", "turn"]
        assert counts.total() <= 5


async def test_prep_of_a_flow_is_not_done_again_and_its_result_is_kept(effects):
    """Post gets what prep returned before the crash, still the same object as in `shared`."""

    class Inner(AsyncFlow):
        async def prep_async(self, shared):
            effects.done.append("prep")
            shared["list"] = [Decimal("1.5")]
            return shared["list"]

        async def post_async(self, shared, prep_res, exec_res):
            effects.done.append("post")
            assert prep_res is shared["list"]
            shared["post"] = [*prep_res, exec_res]
            return "done"

    def build():
        inner = chain(effects.node("a"), effects.node("b", lambda s: "x"), cls=Inner, ends=["x"])
        inner - "done" >> effects.node("c")
        return AsyncFlow(inner)

    repeated = Counter()
    async for _, shared, counts in every_cut(build, effects):
        assert shared["post"] == [Decimal("1.5"), "x"]
        assert shared["trail"] == list("abc")
        repeated.update(counts - Counter(set(counts)))
    # prep belongs to the step of the first node, post comes after that of the last.
    assert repeated == {"prep": 1, "a": 1, "b": 1, "post": 1, "c": 1}


async def test_params_are_what_they_were(effects):
    """Those that nodes changed are restored, those of the flow come from the program."""

    class Tell(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            self.params["told"] = [1]

    class Read(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            seen.append(dict(self.params))
            if len(seen) == 1:
                raise Crash

    def build(client):
        flow = chain(Tell(), chain(effects.node("n"), Read(), name="inner"))
        flow.set_params({"client": client})
        return flow

    seen, cut, clients = [], CutOff(), [object(), object()]
    with pytest.raises(Crash):
        await build(clients[0]).run_async({}, run_id="r", store=cut)
    cut.mend()
    await build(clients[1]).resume("r", store=cut)

    assert seen == [{"client": client, "told": [1]} for client in clients]


async def test_branches_and_batches_are_one_step(effects):
    """They run again as a whole; what a fan-out has found reaches the join after a crash."""

    class Items(AsyncBatchNode):
        async def prep_async(self, shared):
            return [1, 2]

        async def exec_async(self, item):
            effects.done.append(f"item {item}")

    class Join(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            effects.done.append("join")
            shared["joined"] = self.params["branches"]

    class Rounds(AsyncBatchFlow):
        async def prep_async(self, shared):
            return [{"i": 1}, {"i": 2}]

    class Said(Node):
        def post(self, shared, prep_res, exec_res):
            effects.done.append("said")

    def build():
        both = parallel(effects.node("l", lambda s: "L"), chain(effects.node("r", lambda s: "R")))
        return chain(Items(), both, Join(), Rounds(effects.node("round")), Flow(Said()))

    steps = [{"item 1", "item 2"}, {"l", "r"}, {"join"}, {"round"}, {"said"}]
    async for _, shared, counts in every_cut(build, effects):
        assert shared["joined"] == {"l": "L", "AsyncFlow": "R"}
        twice = {name for name, count in counts.items() if count > 1 + (name == "round")}
        assert not twice or twice in steps


async def test_a_batch_flow_alone_is_one_step(effects, store):
    """It begins anew when it is resumed, and is not stored in between."""

    class Rounds(AsyncParallelBatchFlow):
        async def prep_async(self, shared):
            return [{"i": i} for i in range(3)]

    flow = Rounds(effects.node("n"))
    await flow.run_async({}, run_id="r", store=store)

    assert effects.counts == {"n": 3}
    assert [entry.phase for entry in await store.entries("r")] == ["completed"]


async def test_what_a_node_runs_itself_belongs_to_the_node(effects, store):
    """A flow inside exec is no part of the run, not even the run's own flow object."""
    inner = chain(effects.node("x"), effects.node("y"))

    class Runs(AsyncNode):
        async def exec_async(self, prep_res):
            await inner.run_async({})
            if not effects.counts["again"]:
                effects.done.append("again")
                await outer.run_async({})

    outer = AsyncFlow(Runs())
    await outer.run_async({}, run_id="r", store=store)

    assert [entry.node_id for entry in await store.entries("r")] == ["Runs", "AsyncFlow"]
    assert effects.counts == {"x": 2, "y": 2, "again": 1}


async def test_a_run_inside_a_run_is_one_of_its_own(effects, store):
    """Each has its id, and its own way."""

    class Starts(AsyncNode):
        async def exec_async(self, prep_res):
            before = current_run()
            await chain(effects.node("x")).run_async({}, run_id="inner", store=store)
            assert current_run() == before

    await chain(Starts(), effects.node("y")).run_async({}, run_id="outer", store=store)

    rows = {row.run_id: row.status for row in await store.runs()}
    assert rows == {"inner": "completed", "outer": "completed"}
    assert [entry.node_id for entry in await store.entries("inner")] == ["x", "AsyncFlow"]


async def test_a_flow_with_its_own_way_is_one_step(effects, store):
    """A flow that overrides `_orch_async` is not looked into."""

    class Own(AsyncFlow):
        async def _orch_async(self, shared, params=None):
            effects.done.append("own")
            return await super()._orch_async(shared, params)

    await chain(Own(effects.node("x")), effects.node("y")).run_async({}, run_id="r", store=store)

    assert effects.done == ["own", "x", "y"]
    assert [entry.node_id for entry in await store.entries("r")] == ["Own", "y", "AsyncFlow"]


async def test_many_runs_of_one_flow_at_once(effects):
    """Each keeps its own place."""
    store = MemoryStore()
    flow = chain(effects.node("a"), chain(effects.node("b"), name="in"), effects.node("c"))
    shares = [{"n": n} for n in range(20)]

    await asyncio.gather(
        *(flow.run_async(shared, run_id=f"r{shared['n']}", store=store) for shared in shares)
    )

    assert all(shared["trail"] == ["a", "b", "c"] for shared in shares)
    assert {row.status for row in await store.runs(limit=50)} == {"completed"}


# --- what a resumed run is ------------------------------------------------------------------------


async def test_a_completed_run_gives_its_result_again(effects, store):
    """Nothing runs; `shared` is what it was left as. Another flow is refused, as of any run."""
    flow = chain(effects.node("a", lambda shared: "sold"), ends=["sold"])
    await flow.run_async({}, run_id="r", store=store)
    shared = {"old": 1}

    with pytest.raises(FlowChanged, match=r"'a'.* and is 'other'"):
        await chain(effects.node("other")).resume("r", shared, store=store)
    assert shared == {"old": 1}
    assert await flow.resume("r", shared, store=store) == "sold"
    assert shared == {"trail": ["a"]}
    assert effects.counts == {"a": 1}


async def test_a_failed_run_goes_on_at_the_node_that_failed(effects, store):
    """With what the nodes before it left; the error is in the row."""
    fails = [True]

    def once(shared):
        if fails.pop():
            raise ValueError("no luck")

    def build():
        return chain(effects.node("a"), effects.node("b", once), effects.node("c"))

    with pytest.raises(ValueError, match="no luck"):
        await build().run_async({}, run_id="r", store=store)
    row = await store.run("r")
    assert (row.status, row.error, row.owner) == ("failed", "ValueError: no luck", None)

    fails.append(False)
    shared = {}
    await build().resume("r", shared, store=store)

    assert shared == {"trail": ["a", "b", "c"]}
    assert effects.counts == {"a": 1, "b": 2, "c": 1}
    assert not (await store.run("r")).error
    lines = [(entry.place, entry.node_id, entry.phase) for entry in await store.entries("r")]
    assert lines == [
        (1, "a", "completed"),
        (2, "b", "failed"),
        (3, "AsyncFlow", "started"),
        (4, "b", "completed"),
        (5, "c", "completed"),
        (6, "AsyncFlow", "completed"),
    ]


async def test_the_innermost_node_is_told_as_the_one_that_failed(effects, store):
    """Not the flow around it."""

    def fail(shared):
        raise ValueError

    with pytest.raises(ValueError):
        await chain(chain(effects.node("deep", fail), name="inner")).run_async(
            {}, run_id="r", store=store
        )

    assert [entry.node_id for entry in await store.entries("r")] == ["deep"]
    assert (await store.run("r")).error == "ValueError"


async def test_a_cancelled_run_is_given_back_at_once(effects, store):
    """Its status says so, and another process need not wait for the lease."""
    reached, never = asyncio.Event(), asyncio.Event()

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            reached.set()
            await never.wait()

    def build():
        return chain(effects.node("a"), Waits(), effects.node("b"))

    task = asyncio.create_task(build().run_async({}, run_id="r", store=store, lease=1000))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await store.run("r")).status == "cancelled"

    never.set()
    await build().resume("r", store=store)
    assert effects.counts == {"a": 1, "b": 1}


async def test_a_gate_of_the_emergency_control_halts_a_run(effects, store):
    """It is not failed, and goes on when it is resumed."""

    def gate(step: Step):
        if step.kind == "node" and step.name == "b":
            raise EmergencyHalted(EmergencyState.HALT, "storm")

    flow = chain(effects.node("a"), effects.node("b"))
    with guarding(gate), pytest.raises(EmergencyHalted):
        await flow.run_async({}, run_id="r", store=store)
    assert (await store.run("r")).status == "halted"

    await flow.resume("r", store=store)
    assert effects.counts == {"a": 1, "b": 1}


async def test_limits_of_the_flow_hold(effects, store):
    """A durable run has its timeout and its number of steps."""
    forever = effects.node("loop")
    forever >> forever

    with pytest.raises(StepLimitError):
        await AsyncFlow(forever, max_steps=3).run_async({}, run_id="s", store=store)
    assert effects.counts == {"loop": 3}

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.Event().wait()

    with pytest.raises(FlowTimeoutError):
        await AsyncFlow(Waits(), timeout=0.01).run_async({}, run_id="t", store=store)
    assert {row.status for row in await store.runs()} == {"failed"}


async def test_observers_see_a_durable_run_as_any_other(effects, store):
    """The same steps; what was done before the crash is not there."""
    flow = chain(effects.node("a"), chain(effects.node("b"), effects.node("c"), name="in"))
    plain, durable = Recorder(), Recorder()
    with observing(plain):
        await flow.run_async({})
    with observing(durable):
        await flow.run_async({}, run_id="r", store=store)
    assert durable.text() == plain.text()

    cut = CutOff(2)
    with suppress(Crash):
        await flow.run_async({}, run_id="r", store=cut)
    cut.mend()
    resumed = Recorder()
    with observing(resumed):
        await flow.resume("r", store=cut)
    assert [line.strip() for line in resumed.text() if "prep" not in line][:3] == [
        "flow AsyncFlow",
        "flow in",
        "node c",
    ]
    assert "  prep AsyncFlow" not in resumed.text()


# --- keys -----------------------------------------------------------------------------------------


async def test_the_idempotency_key_is_of_the_visit(store):
    """Attempts and restarts have the same one, the next visit another; outside there is none."""
    keys = []

    class Keyed(AsyncNode):
        async def prep_async(self, shared):
            self.left = shared.setdefault("left", 2)

        async def exec_async(self, prep_res):
            run = current_run()
            keys.append(run.idempotency_key)
            assert (run.run_id, run.node) == ("r", "Keyed")
            if len(keys) in (1, 2):
                raise ValueError
            if len(keys) == 3:
                raise Crash

        async def post_async(self, shared, prep_res, exec_res):
            shared["left"] -= 1
            return "again" if shared["left"] else None

    def build():
        node = Keyed(max_retries=5)
        node - "again" >> node
        return AsyncFlow(AsyncFlow(node, name="inner"), name="outer")

    cut = CutOff()
    with suppress(Crash), pytest.warns(UserWarning, match="Flow ends"):
        await build().run_async({}, run_id="r", store=cut)
    cut.mend()
    with pytest.warns(UserWarning, match="Flow ends"):
        await build().resume("r", store=cut)

    assert keys[:4] == [keys[0]] * 4
    assert len(set(keys)) == 2
    assert len(keys) == 5
    assert current_run() is None


async def test_post_of_a_flow_has_the_key_that_its_prep_had(store):
    """Also when the process has ended in between."""
    keys = []

    class Inner(AsyncFlow):
        async def prep_async(self, shared):
            keys.append(current_run().idempotency_key)

        async def post_async(self, shared, prep_res, exec_res):
            keys.append(current_run().idempotency_key)

    def build():
        return AsyncFlow(chain(AsyncNode(), AsyncNode(), cls=Inner))

    cut = CutOff(1)
    with suppress(Crash):
        await build().run_async({}, run_id="r", store=cut)
    cut.mend()
    await build().resume("r", store=cut)

    assert keys == [keys[0]] * 2


async def test_a_run_without_an_id_gets_one(effects, store):
    """A new one each time."""
    flow = chain(effects.node("a"))
    await flow.run_async({}, store=store)
    await flow.run_async({}, store=store)

    assert len({row.run_id for row in await store.runs()}) == 2


# --- what is refused ------------------------------------------------------------------------------


async def test_an_id_is_used_once(effects, store):
    """A second run of that id does nothing."""
    flow = chain(effects.node("a"))
    await flow.run_async({}, run_id="r", store=store)

    with pytest.raises(RunExists):
        await flow.run_async({}, run_id="r", store=store)
    assert effects.counts == {"a": 1}


async def test_what_is_no_run_of_a_flow_is_not_found(effects, store):
    """Nor a run of a workflow; the message says what memory forgets."""
    flow = chain(effects.node("a"))
    await store.create_run(RunRow("w", "workflow", "W", ""))

    for run_id in ("r", "w"):
        with pytest.raises(RunNotFound, match="memory forgets"):
            await flow.resume(run_id, store=store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: chain(e.node("a"), e.node("x"), e.node("c")), r"node 2 was 'b' .* is 'x'"),
        (lambda e: chain(e.node("a"), e.node("b")), r"'b' led by \['default'\]"),
        (lambda e: chain(e.node("a"), AsyncFlow(name="b"), e.node("c")), r"node 2 was 'b'"),
        (lambda e: chain(e.node("a"), e.node("b"), e.node("c"), e.node("d")), r"'c' led by \[\]"),
    ],
)
async def test_another_flow_is_refused(effects, change, said):
    """Other nodes, classes, actions: it says where they differ, and the run stays as it is."""
    cut = CutOff(1)
    with suppress(Crash):
        await chain(effects.node("a"), effects.node("b"), effects.node("c")).run_async(
            {}, run_id="r", store=cut
        )
    cut.mend()
    before = await cut.run("r")

    with pytest.raises(FlowChanged, match=said):
        await change(effects).resume("r", store=cut)
    assert await cut.run("r") == before


async def test_actions_in_another_order_are_the_same_flow(effects):
    """How a program connects its nodes is its own affair."""

    def build(*actions):
        first = effects.node("a", lambda shared: "x")
        others = {"x": effects.node("x"), "y": effects.node("y")}
        for action in actions:
            first - action >> others[action]
        return AsyncFlow(first)

    cut = CutOff(1)
    with suppress(Crash):
        await build("x", "y").run_async({}, run_id="r", store=cut)
    cut.mend()
    shared = {}
    await build("y", "x").resume("r", shared, store=cut)

    assert shared["trail"] == ["a", "x"]


async def test_a_graph_that_changes_on_the_way_is_refused(effects, store):
    """A node that was not connected when the run began has no place in it."""
    first = effects.node("a")

    def grow(shared):
        first >> effects.node("new")

    first = effects.node("a", grow)
    with pytest.raises(CheckpointError, match="not connected when the run began"):
        await AsyncFlow(first, name="grows").run_async({}, run_id="r", store=store)


async def test_what_cannot_be_stored_stops_the_run_at_that_node(effects, store):
    """The message names the way to it; the run can be resumed when the node is mended."""
    bad = [object()]

    def put(shared):
        shared["client"] = {"x": bad[0]}

    def build():
        return chain(effects.node("a"), effects.node("b", put), effects.node("c"))

    with pytest.raises(CheckpointError, match=r"^after b: shared\['client'\]\['x'\] is of the"):
        await build().run_async({}, run_id="r", store=store)
    assert (await store.run("r")).status == "failed"
    bad[0] = 7
    shared = {}
    await build().resume("r", shared, store=store)

    assert effects.counts == {"a": 1, "b": 2, "c": 1}
    assert shared["client"] == {"x": 7}


async def test_a_run_does_not_begin_with_what_cannot_be_stored(effects, store):
    """Nothing has run, and there is no run."""
    with pytest.raises(CheckpointError, match=r"^shared\[0\] is of the type object"):
        await chain(effects.node("a")).run_async([object()], run_id="r", store=store)

    assert await store.runs() == []
    assert effects.done == []


async def test_results_actions_and_preps_that_cannot_be_stored_are_named(store):
    """Each by what it is."""

    class Odd(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            return store

    class Result(AsyncFlow):
        async def post_async(self, shared, prep_res, exec_res):
            return store

    class Prepared(AsyncFlow):
        async def prep_async(self, shared):
            return store

    for number, (flow, said) in enumerate(
        {
            AsyncFlow(Odd()): "after Odd: the last action in AsyncFlow is of the type",
            Result(AsyncNode()): "what the flow returned is of the type",
            Prepared(AsyncNode()): "what prep of Prepared returned is of the type",
        }.items()
    ):
        with pytest.raises(CheckpointError, match=said):
            await flow.run_async({}, run_id=f"{number}", store=store)


async def test_what_run_async_refuses(effects, store):
    """An id without a store, what is no store, a lease of no time, an empty id."""
    flow = chain(effects.node("a"))
    with pytest.raises(TypeError, match="needs a store"):
        await flow.run_async({}, run_id="r")
    with pytest.raises(TypeError, match="takes a store"):
        await flow.run_async({}, run_id="r", store=7)
    with pytest.raises(ValueError, match="lease"):
        await flow.run_async({}, run_id="r", store=store, lease=0)
    with pytest.raises(ValueError, match="empty"):
        await flow.run_async({}, run_id="", store=store)
    with pytest.raises(TypeError, match="must be a dict, or be left out, not an int"):
        await flow.resume("r", 7, store=store)
    assert effects.done == []


@pytest.mark.parametrize(
    ("run_id", "error", "said"),
    [
        (7, TypeError, "run_id is a text, and 7 is an int"),
        (b"r", TypeError, "run_id is a text, and b'r' is a bytes"),
        (False, TypeError, "is a bool"),
        ("x" * 201, ValueError, "201 characters; 200 is the most"),
        ("a\nb", ValueError, "cannot be printed"),
        ("\x1b[31m", ValueError, "cannot be printed"),
        ("\ud800", ValueError, "cannot be printed"),
    ],
)
async def test_an_id_is_a_text_that_people_can_type(effects, store, run_id, error, said):
    """Any other is refused before anything runs or is stored."""
    flow = chain(effects.node("a"))

    with pytest.raises(error, match=said):
        await flow.run_async({}, run_id=run_id, store=store)

    assert await store.runs() == []
    assert effects.done == []
    if error is TypeError:
        with pytest.raises(TypeError, match=said):
            await flow.resume(run_id, store=store)
    await flow.run_async({}, run_id="Zürich 7/" + "x" * 191, store=store)


async def test_a_checkpoint_that_is_damaged_is_refused_and_the_run_given_back(effects):
    """Somebody may mend it."""
    cut = CutOff(1)
    flow = chain(effects.node("a"), effects.node("b"))
    with suppress(Crash):
        await flow.run_async({}, run_id="r", store=cut)
    cut.mend()
    await cut.put("flow:r:checkpoint", b'{"format":1,"step":2,"shared":{"$":"x","v":0}}')

    with pytest.raises(CheckpointError, match="shared cannot be read again"):
        await flow.resume("r", store=cut)
    assert (await cut.run("r")).owner is None


# --- leases ---------------------------------------------------------------------------------------


async def test_a_run_at_work_is_not_resumed(effects, store):
    """Not by another task either; the first goes on undisturbed."""
    reached, on = asyncio.Event(), asyncio.Event()

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            reached.set()
            await on.wait()

    flow = chain(Waits(), effects.node("b"))
    task = asyncio.create_task(flow.run_async({}, run_id="r", store=store))
    await reached.wait()

    with pytest.raises(RunBusy, match="at work in"):
        await flow.resume("r", store=store)
    on.set()
    await task
    assert effects.counts == {"b": 1}


async def test_the_lease_is_renewed_while_a_node_is_at_work(effects):
    """However long it takes."""
    renewed = asyncio.Event()

    class Watched(MemoryStore):
        renewals = 0

        async def renew(self, *args):
            await super().renew(*args)
            self.renewals += 1
            if self.renewals == 3:
                renewed.set()

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            await renewed.wait()

    store = Watched()
    await chain(Waits()).run_async({}, run_id="r", store=store, lease=0.03)

    assert store.renewals >= 3
    assert (await store.run("r")).status == "completed"


async def test_a_run_that_another_has_taken_over_ends_here(effects):
    """Its node is cancelled, it writes nothing more, and the error says so."""
    now = [1000.0]
    store = MemoryStore(clock=lambda: now[0])
    reached = asyncio.Event()

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            reached.set()
            await asyncio.Event().wait()

    flow = chain(Waits(), effects.node("b"))
    task = asyncio.create_task(flow.run_async({}, run_id="r", store=store, lease=0.03))
    await reached.wait()
    now[0] += 60
    taken = await store.claim("r", "other", 1000)

    with pytest.raises(LeaseLost):
        await task
    assert await store.run("r") == taken
    assert effects.done == []


async def test_a_node_that_ends_after_the_run_was_taken_is_not_stored(effects):
    """Even before the lease is renewed again: its write is refused, and nothing follows."""
    now = [1000.0]
    store = MemoryStore(clock=lambda: now[0])

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            now[0] += 5000
            await store.claim("r", "other", 1000)

    with pytest.raises(LeaseLost):
        await chain(Slow(), effects.node("b")).run_async({}, run_id="r", store=store, lease=1000)
    row = await store.run("r")
    assert (row.owner, row.places, effects.done) == ("other", 0, [])


async def test_a_store_out_of_reach_for_a_whole_lease_ends_the_run(effects):
    """Another may have it by then; an outage that is shorter is waited out."""

    class Away(MemoryStore):
        tries = 0
        lasting = False

        async def renew(self, *args):
            self.tries += 1
            if self.lasting or self.tries < 2:
                raise StoreUnavailable("far", "is away")
            await super().renew(*args)
            back.set()

    back, never = asyncio.Event(), asyncio.Event()

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            await (never if store.lasting else back).wait()

    store = Away()
    await chain(Waits()).run_async({}, run_id="short", store=store, lease=0.06)
    store.lasting = True
    with pytest.raises(StoreUnavailable):
        await chain(Waits()).run_async({}, run_id="long", store=store, lease=0.06)
    assert (await store.run("long")).status == "running"


async def test_a_cancellation_from_outside_stays_one_when_the_lease_is_lost_too(effects):
    """Who cancels sees the cancellation."""
    now = [1000.0]
    store = MemoryStore(clock=lambda: now[0])
    reached = asyncio.Event()

    class Stubborn(AsyncNode):
        async def exec_async(self, prep_res):
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(chain(Stubborn()).run_async({}, run_id="r", store=store, lease=0.03))
    await reached.wait()
    now[0] += 60
    await store.claim("r", "other", 1000)

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_run_left_by_its_loop_writes_nothing():
    """A coroutine that is closed cannot await; the lease runs out."""
    store = MemoryStore()

    class Waits(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    work = asyncio.ensure_future(AsyncFlow(Waits()).run_async({}, run_id="r", store=store))
    await asyncio.sleep(0)
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    gc.collect()
    assert (await store.run("r")).status in ("running", "cancelled")


# --- stores ---------------------------------------------------------------------------------------


async def test_a_store_in_a_file(effects, tmp_path):
    """By its address or by its path; it is opened for the run, and closed."""
    path = tmp_path / "runs.db"
    fails = [False, True]

    def once(shared):
        if fails.pop():
            raise ValueError

    def build():
        return chain(effects.node("a"), effects.node("b", once))

    with pytest.raises(ValueError):
        await build().run_async({"at": Decimal(7)}, run_id="r", store=f"sqlite:///{path}")
    shared = {}
    await build().resume("r", shared, store=path)

    assert shared == {"at": Decimal(7), "trail": ["a", "b"]}
    async with SqliteStore(path) as store:
        assert (await store.run("r")).status == "completed"


async def test_what_has_a_store(effects, store):
    """An Infrastructure, for one; its store stays open."""

    class Infra:
        def __init__(self):
            self.store = store

    await chain(effects.node("a")).run_async({}, run_id="r", store=Infra())

    assert (await store.run("r")).status == "completed"


async def test_runs_in_postgresql(effects, postgres_url, postgres_schema):
    """The same on a server."""
    from pocketflow_async.infrastructure.store import PostgresStore

    fails = [False, True]

    def once(shared):
        if fails.pop():
            raise ValueError

    async with PostgresStore(postgres_url, schema=postgres_schema) as store:
        flow = chain(effects.node("a"), effects.node("b", once), effects.node("c"))
        with pytest.raises(ValueError):
            await flow.run_async({"text": "\0\ud800"}, run_id="r", store=store)
        shared = {}
        await flow.resume("r", shared, store=store)

        assert shared == {"text": "\0\ud800", "trail": ["a", "b", "c"]}
        assert effects.counts == {"a": 1, "b": 2, "c": 1}
