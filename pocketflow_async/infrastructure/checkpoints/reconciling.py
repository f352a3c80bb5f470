"""Nodes that must not be done twice: what was meant to be done is stored first.

Such a node has `on_restart = "reconcile"`. When the run goes on and the node was at work, its
`reconcile_async(shared, idempotency_key)` is asked whether it has taken effect. It returns the
node's action, having written to `shared` what post would have; or `RUN_AGAIN`; or `UNKNOWN`, and
then, as without that method, a person has to say.
"""

from __future__ import annotations

import json
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pocketflow_async.infrastructure.checkpoints.current import CurrentRun
from pocketflow_async.infrastructure.checkpoints.errors import NeedsReconciliation
from pocketflow_async.infrastructure.checkpoints.questions import Question
from pocketflow_async.infrastructure.store.model import Entry

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.checkpoints.keeper import Keeper


class Verdict(Enum):
    """What `reconcile_async` may return besides an action."""

    RUN_AGAIN = "run again"
    UNKNOWN = "unknown"


RUN_AGAIN: Final = Verdict.RUN_AGAIN
"""It has not taken effect: the node runs again."""
UNKNOWN: Final = Verdict.UNKNOWN
"""Nobody can tell: a person has to say."""


class Intent(NamedTuple):
    """That a node is about to be done."""

    key: str
    """Its idempotency key."""
    attempt: int

    @classmethod
    def loaded(cls, stored: bytes) -> Intent:
        """Return it as it was stored."""
        return cls(*json.loads(stored))


def intent_key(run_id: str) -> str:
    """Return the key under which it is stored what a run is about to do."""
    return f"flow:{run_id}:intent"


async def reconciled(keeper: Keeper, node: Any, run: CurrentRun) -> tuple[bool, Any]:
    """Return whether a node is done already, and its action; else store that it will be.

    Raises:
        NeedsReconciliation: Nobody knows.
    """
    attempt = 1
    intent = keeper.intent
    if intent is not None and intent.key == run.idempotency_key:
        verdict = await _verdict(keeper, node, run, intent.attempt)
        if verdict is not RUN_AGAIN:
            return True, verdict
        attempt = intent.attempt + 1
    intent = Intent(run.idempotency_key, attempt)
    entry = Entry(run.run_id, 0, run.node, "started", attempt, run.idempotency_key)
    await keeper.append([entry], state={intent_key(run.run_id): json.dumps(intent).encode()})
    return False, None


async def _verdict(keeper: Keeper, node: Any, run: CurrentRun, attempt: int) -> Any:
    """Return the action of a node that is done, or `RUN_AGAIN`."""
    visit = run.idempotency_key.removeprefix(f"{run.run_id}:")
    question = Question(
        run.run_id,
        f"{visit}:reconcile:{attempt}",
        f"Has {run.node} taken effect? Its idempotency key is {run.idempotency_key}",
        run.node,
        asked_at=time.time(),
        kind="reconcile",
    )
    answer = await keeper.answer_to(question)
    if answer is not None:
        if not answer.value["done"]:
            return RUN_AGAIN
        keeper.share(answer.value.get("shared", {}))
        return answer.value.get("action")
    ask = getattr(node, "reconcile_async", None)
    verdict = UNKNOWN if ask is None else await ask(keeper.shared, run.idempotency_key)
    if verdict is UNKNOWN:
        keeper.open(question)
        raise NeedsReconciliation(run.run_id, run.node, run.idempotency_key, keeper.store)
    return verdict
