"""An execution that was taken up: what it has done, and what is to become of nodes in doubt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pocketflow_async.infrastructure.events.bus import WORKFLOW_EVENTS
from pocketflow_async.infrastructure.store.model import Entry, RunRow
from pocketflow_async.workflow.block_values import OutputError
from pocketflow_async.workflow.definition import Block
from pocketflow_async.workflow.execution_events import ExecutionEvents, shown
from pocketflow_async.workflow.execution_journal import ExecutionJournal
from pocketflow_async.workflow.execution_past import InDoubt, Retraced, retrace
from pocketflow_async.workflow.plain_json import encode
from pocketflow_async.workflow.recording import Event, Execution, Past, Resumable
from pocketflow_async.workflow.recovery_errors import NeedsReconciliation

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.factory import Infrastructure

logger = logging.getLogger("pocketflow_async.workflow.recovery")

NEEDS_RECONCILIATION: Final = "needs_reconciliation"


class _NotDone:
    def __repr__(self) -> str:
        return "NOT_DONE"


NOT_DONE: Final = _NotDone()
"""What `reconcile` returns about an effect that has surely not taken place, and will not."""

Reconcile: TypeAlias = Callable[[str, InDoubt], Any]
"""Gets the idempotency key and the node in doubt; returns its outputs by name if it has taken
effect, `NOT_DONE` if it surely has not (it runs then, with the same key), or None: nobody knows."""


class Taken:
    """An execution that this process has taken up."""

    def __init__(
        self,
        infra: Infrastructure,
        executor: Resumable,
        journal: ExecutionJournal,
        row: RunRow,
        reconcile: Reconcile | None,
    ) -> None:
        self._infra = infra
        self._executor = executor
        self._journal = journal
        self._row = row
        self._reconcile = reconcile
        self._execution = Execution(
            row.run_id,
            row.workflow_id,
            row.definition_hash,
            row.definition or "",
            row.bot_id,
            row.strategy_id,
            row.trace,
        )
        self._events = ExecutionEvents(self._execution, row.seq)

    async def times_resumed(self) -> int:
        """Return how often it has gone on already."""
        events = await self._infra.store.events(self._row.run_id)
        return sum(event.type == "execution_resumed" for event in events)

    async def prepared(self) -> tuple[Execution, Past, ExecutionJournal]:
        """Return what the executor needs, once no node is in doubt any more.

        Raises:
            NeedsReconciliation: Nobody knows of one; that is stored, and the execution given back.
        """
        await tell_last(self._infra, self._row)
        entries = await self._infra.store.entries(self._row.run_id)
        found = self._retraced(entries)
        for entry in found.doubts:
            entries += await self._settled(entry)
        return (
            self._execution,
            replace(self._retraced(entries).past, seq=self._events.seq),
            self._journal,
        )

    def _retraced(self, entries: list[Entry]) -> Retraced:
        executor = self._executor
        age = executor.max_input_age
        # The row was just written: that is the store's time, as is that of the entries.
        too_old = None if age is None else self._row.updated_at - age
        return retrace(executor.definition, entries, self._row.seq, executor.restart_of, too_old)

    async def _settled(self, entry: Entry) -> list[Entry]:
        """Return the line that ends the doubt; none if the node runs again."""
        block = next(one for one in self._executor.definition.blocks if one.id == entry.node_id)
        doubt = InDoubt(
            self._row.run_id,
            self._row.workflow_id,
            block.id,
            block.type,
            block.node(),
            entry.key or f"{self._row.run_id}:{block.id}",
            entry.attempt,
            entry.at,
        )
        answer = None if self._reconcile is None else self._reconcile(doubt.idempotency_key, doubt)
        if isawaitable(answer):
            answer = await answer
        if answer is NOT_DONE:
            return []
        if answer is None:
            await self._in_doubt(doubt)
            raise NeedsReconciliation(doubt)
        if not isinstance(answer, Mapping):
            raise TypeError(
                f"reconcile returned {answer!r:.80}: it returns the outputs of the block by name, "
                "NOT_DONE, or None when nobody knows"
            )
        self._look_for_outputs(block, answer)
        text, output = encode(dict(answer))
        said = {"status": "success", "reconciled": True, "outputs": shown(output, len(text))}
        taken = round((self._row.updated_at - entry.at) * 1000, 3)
        event = self._events.of_block("node_completed", block, duration_ms=taken, **said)
        content = text.encode()
        await self._journal.completed(
            block.id, entry.attempt, doubt.idempotency_key, content, [event]
        )
        await self._journal.flush()
        await _publish(self._infra, event)
        return [replace(entry, phase="completed", output=content, at=self._row.updated_at)]

    def _look_for_outputs(self, block: Block, answer: Mapping[Any, Any]) -> None:
        """Raise OutputError if an output is not there that is declared, or used."""
        used = (
            source.output
            for one in self._executor.definition.blocks
            for source in one.sources.values()
            if source.node_id == block.id and source.output is not None
        )
        missing = [name for name in dict.fromkeys((*block.outputs, *used)) if name not in answer]
        if missing:
            raise OutputError(
                f"reconcile returned no {', '.join(map(repr, missing)):.500} for block "
                f"{block.id!r}, but {', '.join(map(repr, answer)) or 'nothing':.500}: it returns "
                "all outputs of the block, NOT_DONE, or None when nobody knows. Nothing was stored"
            )

    async def _in_doubt(self, doubt: InDoubt) -> None:
        """Store that the execution waits for somebody who knows."""
        error = NeedsReconciliation(doubt)
        key = doubt.idempotency_key
        event = self._events.make(
            "execution_needs_reconciliation",
            status=NEEDS_RECONCILIATION,
            node_id=doubt.node_id,
            idempotency_key=key,
        )
        result = {
            "status": NEEDS_RECONCILIATION,
            "execution_id": doubt.execution_id,
            "workflow_id": doubt.workflow_id,
            "in_doubt": [
                {"nodeId": doubt.node_id, "idempotency_key": key, "attempt": doubt.attempt}
            ],
        }
        content = json.dumps(result, separators=(",", ":")).encode()
        await self._journal.finished(NEEDS_RECONCILIATION, content, str(error), [event])
        await _publish(self._infra, event)


_LAST: Final = frozenset({"node_started", "node_retrying", "execution_resumed"})
"""Events after which nothing more is in their transaction."""


async def tell_last(infra: Infrastructure, row: RunRow | None) -> None:
    """Publish the last events of an execution again: its process may have ended before it did.

    They are the same events, with the same ids: at least those of its last transaction. What was
    stored before that was published before, too.
    """
    events = [] if row is None else await infra.store.events(row.run_id)
    ends = [place for place, event in enumerate(events[:-1], 1) if event.type in _LAST]
    for event in events[ends[-1] if ends else 0 :]:
        await _publish(infra, json.loads(event.data))


async def _publish(infra: Infrastructure, event: Event) -> None:
    try:
        await infra.events.publish(WORKFLOW_EVENTS, event)
    except Exception:
        logger.exception("event %s was not published", event.get("event_id"))
