"""Runs that wait for a person: approvals, and nodes that nobody knows the effect of."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from shlex import quote
from urllib.parse import unquote

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, FlowError, observing, parallel
from pocketflow_async.infrastructure.checkpoints import (
    RUN_AGAIN,
    UNKNOWN,
    AnswerError,
    CheckpointError,
    NeedsReconciliation,
    Question,
    RunNotFound,
    RunSuspended,
    answer,
    ask,
    current_run,
    questions,
)
from pocketflow_async.infrastructure.store import MemoryStore, SqliteStore
from pocketflow_async.infrastructure.store_place import default_url
from tests.engine.engine_kit import Recorder
from tests.engine.resume_kit import Crash, CutOff, Effects, chain

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture
def effects() -> Effects:
    return Effects()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Asks(AsyncNode):
    """Asks what its class says, and shares the answer."""

    question: dict = {"choices": ["yes", "no"], "payload": {"amount": Decimal("3.5")}}

    async def exec_async(self, prep_res):
        return await ask("sell?", **self.question)

    async def post_async(self, shared, prep_res, exec_res):
        shared["answer"] = exec_res


async def test_a_question_ends_the_process_but_not_the_run(effects, store):
    """The nodes before it are stored; answered, the run goes on with the answer."""
    flow = chain(effects.node("a"), Asks(max_retries=3), effects.node("b"))

    with pytest.raises(RunSuspended, match="Give it by `answer") as caught:
        await flow.run_async({}, run_id="r", store=store)
    row = await store.run("r")
    assert (row.status, row.error, row.owner) == ("suspended", "sell?", None)
    assert (caught.value.run_id, caught.value.question.text) == ("r", "sell?")
    (asked,) = await questions("r", store=store)
    assert (asked.text, asked.node, asked.choices) == ("sell?", "Asks", ("yes", "no"))
    assert asked.payload == {"amount": Decimal("3.5")}

    await answer("r", "yes", store=store, by="ann", clock=lambda: 0.0)
    shared = {}
    await flow.resume("r", shared, store=store)

    assert shared == {"trail": ["a", "b"], "answer": "yes"}
    assert effects.counts == {"a": 1, "b": 1}
    said = [entry for entry in await store.entries("r") if entry.phase == "answered"]
    assert [entry.output for entry in said] == [
        b'{"question":"sell?","value":"yes","by":"ann","at":"1970-01-01T00:00:00Z"}'
    ]
    assert await questions("r", store=store) == []


@pytest.mark.parametrize(
    ("run_id", "folder", "said"),
    [
        ("r", "plain", "`pocketflow-async approve r --value JSON --store {path}`"),
        ("my run; $x", "it's", "approve 'my run; $x' --value JSON --store {path}`"),
        ("-r", "plain", "approve --value JSON --store {path} -- -r`"),
    ],
)
async def test_the_error_has_the_whole_command(tmp_path, run_id, folder, said):
    """It can be put into a shell as it is, but for the answer, from whatever folder."""
    path = tmp_path / folder / "s.db"
    path.parent.mkdir()

    for work in (
        lambda flow: flow.run_async({}, run_id=run_id, store=path),
        lambda flow: flow.resume(run_id, store=path),
    ):
        with pytest.raises(RunSuspended) as caught:
            await work(AsyncFlow(Asks()))

        assert said.format(path=quote(str(path))) in str(caught.value)


async def test_the_command_names_a_question_only_where_there_are_several(tmp_path):
    """And no store, where it is the one that commands take by themselves."""
    async with SqliteStore(tmp_path / "s.db") as store:
        one = Question("r", "1.1:a", "sell?", "Asks")

        assert "--question 1.1:a --store" in str(RunSuspended(one, store, several=True))
        store.path = Path(unquote(default_url().removeprefix("sqlite:///")))
        assert "`pocketflow-async approve r --value JSON`" in str(RunSuspended(one, store))
        again = """`pocketflow-async approve r --value '{"done": false}'`"""
        assert again in str(NeedsReconciliation("r", "Sell", "r:1.1", store))


async def test_a_run_without_an_answer_is_not_run_again(effects, store):
    """Resuming it too early says what it waits for, and does nothing."""
    flow = chain(effects.node("a"), chain(effects.node("b", None), Asks(), name="in"))
    with suppress(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)
    before = await store.run("r")

    with pytest.raises(RunSuspended, match="sell"):
        await flow.resume("r", store=store)
    assert await store.run("r") == before


async def test_neither_retries_nor_fallbacks_nor_handlers_answer_a_question(store):
    """It leaves the node past all of them; only `except BaseException` would see it."""
    seen = []

    class Careful(Asks):
        async def exec_async(self, prep_res):
            seen.append("exec")
            try:
                return await super().exec_async(prep_res)
            except Exception as error:
                seen.append(error)

        async def exec_fallback_async(self, prep_res, exc):
            seen.append(exc)

    with pytest.raises(RunSuspended):
        await AsyncFlow(Careful(max_retries=3)).run_async({}, run_id="r", store=store)
    assert seen == ["exec"]


async def test_the_same_question_is_asked_once_a_visit(store):
    """A failed attempt does not ask again; the next visit does."""

    class Twice(AsyncNode):
        async def exec_async(self, prep_res):
            first = await ask("go?", payload=self.cur_retry)
            if self.cur_retry == 0:
                raise ValueError
            return first

        async def post_async(self, shared, prep_res, exec_res):
            shared.setdefault("answers", []).append(exec_res)
            return "again" if len(shared["answers"]) < 2 else None

    node = Twice(max_retries=2)
    node - "again" >> node
    flow = AsyncFlow(node)
    for value in (1, 2):
        with pytest.raises(RunSuspended):
            await (
                flow.resume("r", store=store)
                if value > 1
                else flow.run_async({}, run_id="r", store=store)
            )
        await answer("r", value, store=store, by="ann")
    shared = {}
    with pytest.warns(UserWarning, match="Flow ends"):
        await flow.resume("r", shared, store=store)

    assert shared == {"answers": [1, 2]}


async def test_branches_that_ask_are_answered_one_by_one(store):
    """The fan-out is one step: answered branches get their answers again."""

    class One(AsyncNode):
        async def exec_async(self, prep_res):
            return await ask("ok?", key=self.params["who"] + type(self).__name__)

        async def post_async(self, shared, prep_res, exec_res):
            shared[type(self).__name__] = exec_res

    class Two(One):
        pass

    flow = AsyncFlow(parallel(One(), Two()))
    flow.set_params({"who": "x"})
    shared, rounds = {}, 0
    with pytest.raises(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)
    for rounds in range(1, 9):
        for question in await questions("r", store=store):
            await answer(
                "r",
                question.node + str(rounds),
                store=store,
                by="a",
                question_id=question.question_id,
            )
        try:
            await flow.resume("r", shared, store=store)
            break
        except RunSuspended:
            continue

    assert set(shared) == {"One", "Two"}
    assert rounds <= 2


async def test_a_group_of_errors_with_a_question_in_it_suspends(store):
    """As a TaskGroup in a node makes it."""

    class Group(AsyncNode):
        async def exec_async(self, prep_res):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(ask("in a group?"))
            return task.result()

    flow = AsyncFlow(Group())
    with pytest.raises(RunSuspended, match="in a group"):
        await flow.run_async({}, run_id="r", store=store)
    await answer("r", None, store=store, by="a")

    await flow.resume("r", store=store)
    assert (await store.run("r")).status == "completed"


async def test_a_process_may_wait_for_the_answer(effects):
    """The run says that it is suspended, keeps its lease, and goes on in place."""

    class Noticing(MemoryStore):
        waits = asyncio.Event()

        async def append(self, *args, **given):
            await super().append(*args, **given)
            if given["status"] == "suspended":
                self.waits.set()

    store = Noticing()

    class Waits(Asks):
        question = {"wait": 30.0}

    record = Recorder()
    with observing(record):
        task = asyncio.create_task(
            chain(Waits(), effects.node("b")).run_async(shared := {}, run_id="r", store=store)
        )
        await store.waits.wait()
    row = await store.run("r")
    assert (row.status, row.error) == ("suspended", "sell?")
    assert row.owner is not None

    await answer("r", [1], store=store, by="ann")
    await task

    assert shared == {"answer": [1], "trail": ["b"]}
    assert [entry.phase for entry in await store.entries("r")] == [
        "suspended",
        "answered",
        "completed",
        "completed",
        "completed",
    ]
    assert [step.name for step in record.steps("suspended")] == ["sell?"]


async def test_a_process_that_has_waited_long_enough_ends(store):
    """Then it is as without waiting."""

    class Waits(Asks):
        question = {"wait": 0.001}

    with pytest.raises(RunSuspended):
        await AsyncFlow(Waits()).run_async({}, run_id="r", store=store)
    row = await store.run("r")
    assert (row.status, row.owner) == ("suspended", None)
    assert len(await questions("r", store=store)) == 1


async def test_what_answers_are_refused(store):
    """None of the choices, no question, another id, a second answer, what cannot be stored."""
    flow = AsyncFlow(Asks())
    with pytest.raises(RunNotFound):
        await answer("r", 1, store=store, by="a")
    with suppress(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)

    for value in ("maybe", True, ["yes"]):
        with pytest.raises(AnswerError, match="none of the choices"):
            await answer("r", value, store=store, by="a")
    with pytest.raises(AnswerError, match="does not wait for an answer to 'x'"):
        await answer("r", "yes", store=store, by="a", question_id="x")
    await answer("r", "yes", store=store, by="a")
    with pytest.raises(AnswerError, match="does not wait"):
        await answer("r", "no", store=store, by="b")
    shared = {}
    await flow.resume("r", shared, store=store)
    assert shared == {"answer": "yes"}

    class Any(Asks):
        question = {}

    with suppress(RunSuspended):
        await AsyncFlow(Any()).run_async({}, run_id="s", store=store)
    with pytest.raises(CheckpointError, match="value"):
        await answer("s", object(), store=store, by="a")


async def test_of_two_answers_at_once_one_counts(store):
    """The other is told."""
    with suppress(RunSuspended):
        await AsyncFlow(Asks()).run_async({}, run_id="r", store=store)

    results = await asyncio.gather(
        *(answer("r", value, store=store, by="x") for value in ("yes", "no")),
        return_exceptions=True,
    )
    assert sorted(isinstance(result, AnswerError) for result in results) == [False, True]


async def test_what_asking_refuses(store):
    """A run that is not durable; a payload that cannot be stored."""
    with pytest.raises(FlowError, match="needs a durable run"):
        await AsyncFlow(Asks()).run_async({})

    class Odd(Asks):
        question = {"payload": object()}

    with pytest.raises(CheckpointError, match="payload of 'sell"):
        await AsyncFlow(Odd()).run_async({}, run_id="r", store=store)


async def test_a_flows_own_prep_may_ask(effects, store):
    """Before anything has run."""

    class Asking(AsyncFlow):
        async def prep_async(self, shared):
            shared["prep"] = await ask("begin?")

    flow = Asking(effects.node("a"))
    with suppress(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)
    await answer("r", True, store=store, by="a")
    shared = {}
    await flow.resume("r", shared, store=store)

    assert shared == {"prep": True, "trail": ["a"]}


async def test_a_suspended_run_is_shown_as_halted_not_as_failed(store):
    """Those who watch see a step `suspended`, and that it was refused."""
    record = Recorder()
    with observing(record), suppress(RunSuspended):
        await AsyncFlow(Asks()).run_async({}, run_id="r", store=store)

    (step,) = record.steps("suspended")
    assert step.name == "sell?"
    assert step.refusal is not None


# --- effects that must not be had twice -----------------------------------------------------------


def selling(effects, tell=None, name="sell"):
    """Return a flow with a node that must not sell twice, and crashes after it once."""

    class Sell(AsyncNode):
        on_restart = "reconcile"

        async def exec_async(self, prep_res):
            effects.done.append(name)
            effects.keys = [*getattr(effects, "keys", []), current_run().idempotency_key]
            if effects.counts[name] <= effects.crashes:
                raise Crash

        async def post_async(self, shared, prep_res, exec_res):
            shared["sold"] = "by post"
            return "sold"

    if tell is not None:

        async def reconcile_async(self, shared, idempotency_key):
            effects.asked = idempotency_key
            return tell(shared)

        Sell.reconcile_async = reconcile_async
    sell = Sell(max_retries=5)
    flow = chain(effects.node("a"), sell)
    sell - "sold" >> effects.node("b")
    return flow


async def crashed(effects, flow, crashes=1):
    effects.crashes = crashes
    store = CutOff()
    with suppress(Crash):
        await flow.run_async({}, run_id="r", store=store)
    store.mend()
    return store


async def test_a_node_that_has_taken_effect_is_not_run_again(effects):
    """What it says is its action; it has written to `shared` what post would have."""

    def tell(shared):
        shared["sold"] = "before"
        return "sold"

    flow = selling(effects, tell)
    store = await crashed(effects, flow)
    shared = {}
    await flow.resume("r", shared, store=store)

    assert effects.counts == {"a": 1, "sell": 1, "b": 1}
    assert effects.asked == effects.keys[0]
    assert shared == {"trail": ["a", "b"], "sold": "before"}


async def test_a_node_that_has_taken_no_effect_runs_again(effects):
    """With the same key; and is asked again when it crashes again."""
    flow = selling(effects, lambda shared: RUN_AGAIN)
    store = await crashed(effects, flow, crashes=2)
    with suppress(Crash):
        await flow.resume("r", store=store)
    store.mend()
    shared = {}
    await flow.resume("r", shared, store=store)

    assert effects.counts == {"a": 1, "sell": 3, "b": 1}
    assert len(set(effects.keys)) == 1
    attempts = [e.attempt for e in await store.entries("r") if e.phase == "started" and e.key]
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("tell", [None, lambda shared: UNKNOWN])
async def test_where_nobody_knows_a_person_has_to_say(effects, tell):
    """The run needs reconciliation; nothing runs until somebody has looked."""
    flow = selling(effects, tell)
    store = await crashed(effects, flow)
    for _ in range(2):
        with pytest.raises(NeedsReconciliation, match=r"idempotency key 'r:2\.2'"):
            await flow.resume("r", store=store)
        assert (await store.run("r")).status == "needs_reconciliation"
    (question,) = await questions("r", store=store)
    assert (question.kind, question.node) == ("reconcile", "Sell")
    for value in (True, {"done": 1}, {}):
        with pytest.raises(AnswerError, match='"done": false'):
            await answer("r", value, store=store, by="ann")

    said = {"done": True, "action": "sold", "shared": {"sold": "by hand"}}
    await answer("r", said, store=store, by="ann")
    shared = {}
    await flow.resume("r", shared, store=store)

    assert effects.counts == {"a": 1, "sell": 1, "b": 1}
    assert shared == {"trail": ["a", "b"], "sold": "by hand"}


async def test_what_was_said_once_holds_for_one_crash(effects):
    """A person who lets it run again is asked again when it crashes again."""
    flow = selling(effects)
    store = await crashed(effects, flow, crashes=2)
    with suppress(NeedsReconciliation):
        await flow.resume("r", store=store)
    await answer("r", {"done": False}, store=store, by="ann")
    with suppress(Crash):
        await flow.resume("r", store=store)
    store.mend()
    assert effects.counts["sell"] == 2

    with pytest.raises(NeedsReconciliation):
        await flow.resume("r", store=store)
    await answer("r", {"done": False}, store=store, by="ann")
    await flow.resume("r", store=store)
    assert effects.counts == {"a": 1, "sell": 3, "b": 1}


async def test_the_intent_is_stored_before_the_effect(effects):
    """A run that is cut off while storing it has had no effect, and is not asked about one."""
    flow = selling(effects)
    effects.crashes = 0
    store = CutOff(1)
    with suppress(Crash):
        await flow.run_async({}, run_id="r", store=store)
    assert effects.counts == {"a": 1}
    store.mend()
    await flow.resume("r", store=store)

    assert effects.counts == {"a": 1, "sell": 1, "b": 1}
