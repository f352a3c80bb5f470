"""The journal of an execution: what it does is in the store before anybody is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.infrastructure.journal import LEASE, Line, RunJournal, event_rows
from pocketflow_async.infrastructure.store.model import RUNNING, EventRow, RunRow, Store
from pocketflow_async.resources.outgoing import with_headers, with_trace
from pocketflow_async.workflow.recording import (
    Event,
    Execution,
    latest_key,
    result_key,
    status_key,
)

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.factory import Infrastructure

UNTOLD: Final = "pocketflow:untold:"
"""What the keys begin with under which the ends are that perhaps nobody was told of yet."""


class ExecutionJournal:
    """Keeps the record of one execution; see `recording.Recording`.

    One transaction for each `resumed`, `intent`, `flush` and `finished`: the lines of the journal
    and the events since the last one, and where they change the run's status, its result and its
    keys in the state. So a result is kept together with the intent of what follows, or with the
    end, unless it is flushed.

    Args:
        store: Where it is kept.
        owner: Who executes it; None: this process.
        lease: Seconds after which others may take it up when this process stands still.
        bus: Where its events are published, if other processes hear them there: its end is then
            noted as untold until it was published.
    """

    def __init__(
        self, store: Store, owner: str | None = None, lease: float = LEASE, *, bus: object = None
    ) -> None:
        self._journal = RunJournal(store, owner=owner, lease=lease)
        self._bus = bus
        self._run_id = ""
        self._workflow_id = ""
        self._ended = False
        self._new: RunRow | None = None  # it is not kept yet
        self._lines: list[Line] = []  # nor are these
        self._events: list[EventRow] = []

    def __repr__(self) -> str:
        return f"<ExecutionJournal {self._journal!r}>"

    @classmethod
    def on(cls, infra: Infrastructure, lease: float = LEASE) -> ExecutionJournal:
        """Return a journal in the store of *infra*."""
        from pocketflow_async.infrastructure.events.memory import MemoryBus  # noqa: PLC0415

        bus = infra.events
        return cls(infra.store, lease=lease, bus=None if isinstance(bus, MemoryBus) else bus)

    @property
    def is_released(self) -> bool:
        """Whether the execution is not ours."""
        return self._journal.is_released

    async def take(self, run_id: str) -> RunRow | None:
        """Take up an execution that nobody has; None: somebody has it.

        Raises:
            StoreError: The store cannot be used.
        """
        row = await self._journal.take(run_id)
        if row is not None:
            self._run_id, self._workflow_id = row.run_id, row.workflow_id
        return row

    async def started(self, execution: Execution, events: Sequence[Event]) -> None:
        """Have kept that an execution begins; what keeps it may raise RunExists."""
        self._run_id, self._workflow_id = execution.execution_id, execution.workflow_id
        self._new = RunRow(
            execution.execution_id,
            "workflow",
            execution.workflow_id,
            execution.definition_hash,
            execution.definition,
            owner=self._journal.owner,
            bot_id=execution.bot_id,
            strategy_id=execution.strategy_id,
            trace=execution.trace or with_headers(with_trace, {}).get("traceparent"),
        )
        self._later((), events)

    async def resumed(self, execution: Execution, events: Sequence[Event]) -> None:
        """Keep that an execution goes on, which `take` has taken up."""
        # What it has waited for, or failed with, holds no longer.
        state = self._status(RUNNING)
        await self._write((), events, status=RUNNING, error="", state=state)

    async def intent(self, node_id: str, attempt: int, key: str, events: Sequence[Event]) -> None:
        """Keep that an attempt is about to have its effect.

        Raises:
            LeaseLost: The execution is another's: the effect must not be.
        """
        await self._write([Line(node_id, "started", attempt, key)], events)

    async def still_ours(self) -> None:
        """Make sure that the execution is ours.

        Raises:
            LeaseLost: It is another's.
            StoreError: The store cannot be used.
        """
        await self._journal.still_ours()

    async def completed(
        self, node_id: str, attempt: int, key: str, output: bytes, events: Sequence[Event]
    ) -> None:
        """Have kept what a node yielded, as JSON."""
        self._later([Line(node_id, "completed", attempt, key, output)], events)

    async def failed(
        self,
        node_id: str,
        attempt: int,
        key: str,
        error: Mapping[str, str],
        events: Sequence[Event],
    ) -> None:
        """Have kept that a node failed."""
        line = Line(node_id, "failed", attempt, key, error=json.dumps(dict(error)))
        self._later([line], events)

    async def skipped(self, node_id: str, reason: str, events: Sequence[Event]) -> None:
        """Have kept that a node will not run."""
        self._later([Line(node_id, "skipped", error=reason)], events)

    async def flush(self) -> None:
        """Keep what is not kept yet.

        Raises:
            RunExists: There is an execution of that id.
            LeaseLost: It is another's.
            StoreError: It could not be kept, or that is not known.
        """
        if self._new is not None or self._lines or self._events:
            await self._write((), ())

    async def finished(
        self, status: str, result: bytes, error: str | None, events: Sequence[Event]
    ) -> None:
        """Keep how the execution ended, and give it back."""
        state = {**self._status(status), result_key(self._workflow_id, self._run_id): result}
        if self._bus is not None:
            state[UNTOLD + self._run_id] = b"1"
        await self._write(
            (),
            events,
            status=status,
            result=result.decode(),
            error=error,
            state=state,
            release=True,
        )
        self._ended = True

    async def wait(self, status: str, error: str) -> None:
        """Give the execution back with a status that has it wait, and tell why."""
        await self._write(
            (), (), status=status, error=error, state=self._status(status), release=True
        )

    async def give_back(self) -> None:
        """Give the execution back as it was."""
        await self._write((), (), release=True)

    async def close(self) -> None:
        """Renew the lease no more. By then the events must have been published.

        Raises:
            StoreError: That the end was told of could not be kept; it will be told again.
        """
        await self._journal.close()
        if self._ended and self._bus is not None and not getattr(self._bus, "unsent", 0):
            self._ended = False
            await self._journal.store.delete(UNTOLD + self._run_id)

    def _later(self, lines: Sequence[Line], events: Sequence[Event]) -> None:
        self._lines += lines
        self._events += self._rows(events)

    async def _write(self, lines: Sequence[Line], events: Sequence[Event], **more: Any) -> None:
        if self._new is None:
            self._later(lines, events)
            await self._journal.write(*self._taken(), **more)
        elif more:  # it ends before anything was kept
            await self.flush()
            await self._journal.write(lines, self._rows(events), **more)
        else:
            self._later(lines, events)
            await self._create(self._new)

    async def _create(self, new: RunRow) -> None:
        self._new = None
        lines, events = self._taken()
        latest = {latest_key(new.workflow_id): _json(new.run_id)}
        state = {**self._status(RUNNING), **latest}
        await self._journal.create(new, lines, events=events, state=state)

    def _taken(self) -> tuple[list[Line], list[EventRow]]:
        lines, events = self._lines, self._events
        self._lines, self._events = [], []
        return lines, events

    def _rows(self, events: Sequence[Event]) -> list[EventRow]:
        return event_rows(self._run_id, events, _text)

    def _status(self, status: str) -> dict[str, bytes]:
        return {status_key(self._workflow_id, self._run_id): _json(status)}


_text: Final = json.JSONEncoder(separators=(",", ":")).encode


def _json(value: Any) -> bytes:
    return _text(value).encode()
