"""Questions that a run waits for an answer to, for as long as it takes: approvals."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pocketflow_async.errors import FlowError
from pocketflow_async.hooks import Step, active, suspended
from pocketflow_async.infrastructure.checkpoints.codec import decode, encode
from pocketflow_async.infrastructure.checkpoints.current import CurrentRun, current_run
from pocketflow_async.infrastructure.checkpoints.errors import AnswerError, RunNotFound
from pocketflow_async.infrastructure.checkpoints.opening import Stored, opened

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.store.model import Store

_POLL: Final = 0.25


@dataclass(frozen=True, slots=True)
class Question:
    """What a run waits for.

    Attributes:
        run_id: The run.
        question_id: Its id in the run.
        text: What is asked.
        node: Name of the node that asks.
        choices: The answers there are; None: any.
        payload: What else is to be known to answer it.
        asked_at: Seconds since the epoch.
        kind: "approval", or "reconcile": whether a node has taken effect.
    """

    run_id: str
    question_id: str
    text: str
    node: str
    choices: tuple[Any, ...] | None = None
    payload: Any = None
    asked_at: float = 0.0
    kind: Literal["approval", "reconcile"] = "approval"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is stored.

    Attributes:
        value: What was said.
        by: Who said it.
        at: When, as ISO 8601 with a Z.
    """

    value: Any
    by: str
    at: str


class Suspension(BaseException):
    """Leaves the nodes and flows of a run that waits; no retry and no fallback may catch it."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.text)
        self.question = question


def asked_key(run_id: str) -> str:
    """Return the key under which a run's open questions are stored."""
    return f"flow:{run_id}:asked"


def answer_key(run_id: str, question_id: str) -> str:
    """Return the key under which an answer is stored."""
    return f"flow:{run_id}:answer:{question_id}"


async def ask(
    question: str,
    *,
    choices: Sequence[Any] | None = None,
    payload: Any = None,
    key: str | None = None,
    wait: float = 0.0,
) -> Any:
    """Return the answer of a person; until there is one, the run is suspended.

    Without an answer the run ends here for now: `run_async` raises `RunSuspended`, and nothing of
    it is left but what is stored. It is answered by `pocketflow-async approve RUN --value JSON` or
    by `answer`; then `resume` runs the node again from its prep, and this returns the answer. So
    ask before you do what cannot be done twice. In the same visit of a node the same question is
    asked once, whatever its payload.

    Args:
        question: What is asked.
        choices: The answers that are taken; None: any.
        payload: What else is to be known to answer it.
        key: Tells apart questions of the same text in one visit, as in the items of a batch.
        wait: Seconds to wait in this process before the run ends, for an answer that comes soon.

    Raises:
        FlowError: It is not asked in a durable run.
        CheckpointError: The choices or the payload cannot be stored.
    """
    run = current_run()
    if run is None:
        raise FlowError(
            "ask() needs a durable run: await flow.run_async(shared, run_id=…, store=…)"
        )
    asked = _question(run, question, choices, payload, key)
    answer = await run.keeper.answer_to(asked)
    if answer is None and wait > 0:
        answer = await _waited(run, asked, wait)
    if answer is None:
        run.keeper.open(asked)
        _suspend(asked)
    assert answer is not None
    return answer.value


def _question(
    run: CurrentRun, text: str, choices: Sequence[Any] | None, payload: Any, key: str | None
) -> Question:
    visit = run.idempotency_key.removeprefix(f"{run.run_id}:")
    name = hashlib.sha256((key or text).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    encode((choices, payload), f"the choices and the payload of {text!r:.80}")
    chosen = None if choices is None else tuple(choices)
    return Question(run.run_id, f"{visit}:{name}", text, run.node, chosen, payload, time.time())


async def _waited(run: CurrentRun, question: Question, seconds: float) -> Answer | None:
    """Wait for an answer in this process; None: there was none in time."""
    until = time.monotonic() + seconds
    with suspended(question.text):
        await run.keeper.wait_for(question)
        while (answer := await run.keeper.answer_to(question)) is None:
            left = until - time.monotonic()
            if left <= 0:
                return None
            await asyncio.sleep(min(_POLL, left))
    await run.keeper.go_on(question)
    return answer


def _suspend(question: Question) -> None:
    with Step("suspended", question.text, None, question.payload, active()) as step:
        step.refusal = suspension = Suspension(question)  # so that it counts as halted
        raise suspension


# --- from outside ---------------------------------------------------------------------------------


async def questions(run_id: str, *, store: Stored) -> list[Question]:
    """Return what a run waits for, the oldest question first.

    Raises:
        RunNotFound: There is no such run.
    """
    async with opened(store) as kept:
        return [question for question, answer in await asked(run_id, kept) if answer is None]


async def answer(
    run_id: str,
    value: Any,
    *,
    store: Stored,
    by: str,
    question_id: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Question:
    """Answer the question of a run, once and for all; the run goes on when it is resumed.

    Args:
        run_id: The run.
        value: The answer.
        store: Where the run is.
        by: Who answers.
        question_id: Which question, where there are several.
        clock: Returns seconds since the epoch.

    Returns:
        The question that is answered.

    Raises:
        RunNotFound: There is no such run.
        AnswerError: It waits for none, for several, or not for this one.
        CheckpointError: The answer cannot be stored.
    """
    async with opened(store) as kept:
        found = [one for one, said in await asked(run_id, kept) if said is None]
        question = _chosen(run_id, found, question_id)
        _check(question, value)
        said = Answer(value, by, datetime.fromtimestamp(clock(), UTC).isoformat()[:-6] + "Z")
        stored = encode(asdict_of(said), "the answer")
        if not await kept.put_if_absent(answer_key(run_id, question.question_id), stored):
            raise AnswerError(f"run {run_id!r}: {question.text!r} has just been answered")
        return question


async def asked(run_id: str, store: Store) -> list[tuple[Question, Answer | None]]:
    """Return the questions that a run was left with, each with its answer.

    Raises:
        RunNotFound: There is no such run.
    """
    row = await store.run(run_id)
    if row is None or row.kind != "flow":
        raise RunNotFound(run_id, store.durable)
    stored = await store.get(asked_key(run_id))
    if stored is None or row.status not in ("suspended", "needs_reconciliation"):
        return []
    found = [Question(**one) for one in decode(stored, "the questions")]
    return [(one, await answer_of(one, store)) for one in found]


async def answer_of(question: Question, store: Store) -> Answer | None:
    """Return the answer to a question; None: nobody has given one yet."""
    stored = await store.get(answer_key(question.run_id, question.question_id))
    return None if stored is None else Answer(**decode(stored, "the answer"))


def asdict_of(what: Question | Answer) -> dict[str, Any]:
    """Return the fields as they are stored, whatever is in them left as it is."""
    return {name: getattr(what, name) for name in what.__dataclass_fields__}


def _chosen(run_id: str, found: list[Question], question_id: str | None) -> Question:
    if question_id is not None:
        found = [one for one in found if one.question_id == question_id]
    if not found:
        which = "an answer" if question_id is None else f"an answer to {question_id!r}"
        raise AnswerError(f"run {run_id!r} does not wait for {which}")
    if len(found) > 1:
        several = "; ".join(f"{one.question_id}: {one.text}" for one in found)
        raise AnswerError(f"run {run_id!r} waits for several answers, say which: {several}")
    return found[0]


def _check(question: Question, value: Any) -> None:
    if question.kind == "reconcile":
        if not (isinstance(value, dict) and isinstance(value.get("done"), bool)):
            raise AnswerError(
                'say {"done": false} to have the node run again, or {"done": true, "action": …, '
                '"shared": {…}} to go on without'
            )
    elif question.choices is not None and not any(
        type(one) is type(value) and one == value for one in question.choices
    ):
        raise AnswerError(f"{value!r:.80} is none of the choices {list(question.choices)}")
