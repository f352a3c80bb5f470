"""Looking at stored runs, and answering what they wait for, from outside of their programs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pocketflow_async.commands.emergency import CommandError, operator
from pocketflow_async.infrastructure.checkpoints.errors import (
    AnswerError,
    CheckpointError,
    RunNotFound,
)
from pocketflow_async.infrastructure.checkpoints.questions import Question, answer, asked
from pocketflow_async.infrastructure.store.errors import StoreError
from pocketflow_async.infrastructure.store.model import RunRow, Store
from pocketflow_async.infrastructure.store.opening import open_store
from pocketflow_async.infrastructure.store_place import shown, store_url


@dataclass(frozen=True, slots=True)
class Line:
    """One run of a list.

    Attributes:
        run: The run.
        waits_for: Questions that nobody has answered yet.
        answered: Whether it has an answer, and only waits to be resumed.
    """

    run: RunRow
    waits_for: tuple[Question, ...] = ()
    answered: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON, without what the run has been given and has come to."""
        run = self.run
        return {
            "run_id": run.run_id,
            "kind": run.kind,
            "name": run.workflow_id,
            "status": run.status,
            "owner": run.owner,
            "created_at": run.created_at,
            "updated_at": run.updated_at,
            "steps": run.places,
            "error": run.error or None,
            "answered": self.answered,
            "waits_for": [
                {
                    "question_id": one.question_id,
                    "question": one.text,
                    "node": one.node,
                    "kind": one.kind,
                    "choices": None if one.choices is None else [*map(_plain, one.choices)],
                    "payload": _plain(one.payload),
                }
                for one in self.waits_for
            ],
        }


async def listed(url: str | None, status: str | None = None, limit: int = 100) -> list[Line]:
    """Return the runs of a store, the newest first.

    Args:
        url: The store; None: the usual one.
        status: Only those of this status; None: all.
        limit: At most so many.

    Raises:
        CommandError: The store is not there or cannot be used.
    """
    async with _opened(url) as store:
        found = await store.runs(status=status, limit=limit)
        return [await _line(run, store) for run in found]


async def approve(
    url: str | None,
    run_id: str,
    value: str,
    by: str | None = None,
    question_id: str | None = None,
) -> Question:
    """Answer what a run waits for; return the question.

    Args:
        url: The store; None: the usual one.
        run_id: The run.
        value: The answer as JSON.
        by: Who answers; None: who is at the keyboard.
        question_id: Which question, where there are several.

    Raises:
        CommandError: It is no JSON, the run is not there or does not wait for it, or the store
            cannot be used.
    """
    try:
        said = json.loads(value)
    except ValueError as error:
        hint = f"text is written '{json.dumps(value)}'"
        raise CommandError(f"--value takes JSON, and {value!r:.80} is none: {hint}") from error
    async with _opened(url) as store:
        row = await store.run(run_id)
        if row is not None and row.kind == "workflow":
            raise CommandError(_of_workflow(row))
        return await answer(run_id, said, store=store, by=by or operator(), question_id=question_id)


def _of_workflow(row: RunRow) -> str:
    """Return what is to be done about an execution, which takes no answers."""
    what = f"{row.run_id!r} is an execution of the workflow {row.workflow_id!r}"
    if row.status != "needs_reconciliation":
        return f"{what}, and {row.status}: it waits for no answer"
    return (
        f"{what}, and not known is whether a node has taken effect. That is said by the program: "
        f"`await resume_execution(infra, {row.run_id!r}, reconcile=…)`, where reconcile(key, "
        "doubt) returns the node's outputs, or NOT_DONE to have it run again"
        + (f". {row.error}" if row.error else "")
    )


async def _line(run: RunRow, store: Store) -> Line:
    if run.kind != "flow":
        return Line(run)
    found = await asked(run.run_id, store)
    waits = tuple(question for question, said in found if said is None)
    return Line(run, waits, bool(found) and len(waits) < len(found))


def _plain(value: Any) -> Any:
    """Return *value* if it is JSON, else as text."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return value


@asynccontextmanager
async def _opened(url: str | None) -> AsyncIterator[Store]:
    where = store_url() if url is None else url
    try:
        store = open_store(where)
        if not store.shared:
            raise CommandError(f"{shown(where)} is within one process: nothing outside can see it")
        path = getattr(store, "path", None)
        if path is not None and not path.exists():
            raise CommandError(
                f"there is no store at {path}. Name that of your programs with --store or STATE_URL"
            )
        async with store:
            yield store
    except (RunNotFound, AnswerError, CheckpointError) as error:
        raise CommandError(str(error)) from error
    except (StoreError, ValueError, ImportError, OSError) as error:
        raise CommandError(f"{shown(where)}: {str(error) or type(error).__name__}") from error
