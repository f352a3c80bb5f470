"""What can go wrong with a run that is kept.

FlowError
├── CheckpointError (ValueError)     something cannot be stored, or not be read again
│   └── FlowChanged                  the run was begun by a flow with other nodes or actions
├── RunNotFound (LookupError)        there is no such run
├── RunBusy                          another process has the run
├── RunSuspended                     the run waits for an answer
├── NeedsReconciliation              nobody knows whether a node has taken effect
└── AnswerError (ValueError)         an answer that nobody waits for, or that is none of the choices
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocketflow_async.errors import FlowError
from pocketflow_async.infrastructure.checkpoints.commands import approving

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.checkpoints.questions import Question
    from pocketflow_async.infrastructure.store.model import Store


class CheckpointError(FlowError, ValueError):
    """Raised when something cannot be stored with a run, or not be read again."""


class FlowChanged(CheckpointError):
    """Raised when a run was begun by a flow with other nodes or actions."""

    def __init__(self, run_id: str, name: str, change: str) -> None:
        super().__init__(
            f"run {run_id!r} was begun by another version of the flow {name}: {change}. "
            "Resume it with the program that began it, or begin a new run"
        )
        self.run_id = run_id


class RunNotFound(FlowError, LookupError):
    """Raised when there is no such run in the store."""

    def __init__(self, run_id: str, durable: bool) -> None:
        lost = "" if durable else "; a store in memory forgets its runs when the process ends"
        super().__init__(f"there is no run {run_id!r} of a flow in this store{lost}")
        self.run_id = run_id


class RunBusy(FlowError):
    """Raised when another process has the run, or this one has it already."""

    def __init__(self, run_id: str, owner: str | None) -> None:
        super().__init__(
            f"run {run_id!r} is at work in {owner or 'another process'}; it can be resumed when "
            "that one has ended, and its lease is over"
        )
        self.run_id = run_id
        self.owner = owner


class RunSuspended(FlowError):
    """Raised when a run waits for an answer, and the process need wait no longer."""

    def __init__(self, question: Question, store: Store, *, several: bool = False) -> None:
        which = question.question_id if several else None
        way = f"`{approving(question.run_id, store, question_id=which)}`"
        if not store.shared:  # no command can see it
            way = f"`answer({question.run_id!r}, …, store=…, by=…)` in this process"
        super().__init__(
            f"run {question.run_id!r} waits for an answer to {question.text!r}. Give it by {way}, "
            "then resume the run"
        )
        self.run_id = question.run_id
        self.question = question


class NeedsReconciliation(FlowError):
    """Raised when nobody knows whether a node has taken effect before the process ended."""

    def __init__(self, run_id: str, node: str, key: str, store: Store) -> None:
        again, done = approving(run_id, store, '{"done": false}'), '{"done": true, "action": …}'
        super().__init__(
            f"run {run_id!r}: the process ended while {node} was at work, and nobody knows whether "
            f"that took effect. Look for the idempotency key {key!r} where it did its work, then "
            f"say `{again}` to have it run again, or '{done}' to go on without"
        )
        self.run_id = run_id
        self.node = node
        self.idempotency_key = key


class AnswerError(FlowError, ValueError):
    """Raised when an answer is given that nobody waits for, or that is none of the choices."""
