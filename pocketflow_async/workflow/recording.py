"""What an execution of a JSON workflow tells whoever keeps a record of it, and in which order.

`started` or `resumed`; for each node `intent` (once for each attempt, before its effect) and then
`completed` or `failed`, or else `skipped`; at last `finished`, and in any case `close`.

When `resumed`, `intent`, `finished` or `flush` has returned, all is kept that was said by then, in
one transaction: only then does a node have its effect, and only then are the events published. The
others may leave it to the next one of these, which comes before anything that takes long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from pocketflow_async.workflow.definition import Block, Definition, OnRestart

Event: TypeAlias = dict[str, Any]
"""Plain JSON, with its number (`seq`) and all ids; whoever is told must not change it."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a workflow.

    Attributes:
        execution_id: Its id, and the correlation id of all that belongs to it.
        workflow_id: The workflow.
        definition_hash: Digest of what is executed.
        definition: That itself, as JSON text.
        bot_id: For grouping.
        strategy_id: For grouping.
        trace: W3C `traceparent` of the trace that it began in; None: nobody watches.
    """

    execution_id: str
    workflow_id: str
    definition_hash: str
    definition: str = field(repr=False)
    bot_id: str | None = None
    strategy_id: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What an execution that goes on has done before. Nodes that are named here do not run again.

    Attributes:
        outputs: What nodes yielded, by id, in the order in which they did; plain JSON.
        durations: How long they took, in milliseconds, by id; where it is known.
        errors: What became of nodes that failed: `{"nodeId", "error", "error_type"}`, by id.
        skipped: Why nodes were skipped, by id.
        attempts: How many attempts have been begun of nodes that are not named above, by id.
        seq: Number of the last event.
    """

    outputs: Mapping[str, Any] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    seq: int = 0


class Recording(Protocol):
    """Keeps the record of one execution. What any method but `close` raises ends the execution.

    After `LeaseLost` none of them is called any more but `close`: the execution is another's.
    """

    async def started(self, execution: Execution, events: Sequence[Event]) -> None:
        """Keep that an execution begins; nothing was done yet."""

    async def resumed(self, execution: Execution, events: Sequence[Event]) -> None:
        """Keep that an execution goes on."""

    async def intent(self, node_id: str, attempt: int, key: str, events: Sequence[Event]) -> None:
        """Keep that attempt number *attempt* (from 1) of a node is about to have its effect."""

    async def still_ours(self) -> None:
        """Raise unless the execution is still this process's; asked last before an effect."""

    async def completed(
        self, node_id: str, attempt: int, key: str, output: bytes, events: Sequence[Event]
    ) -> None:
        """Keep what a node yielded, as JSON."""

    async def failed(
        self,
        node_id: str,
        attempt: int,
        key: str,
        error: Mapping[str, str],
        events: Sequence[Event],
    ) -> None:
        """Keep that a node failed, with `{"nodeId", "error", "error_type"}`; *attempt* may be 0."""

    async def skipped(self, node_id: str, reason: str, events: Sequence[Event]) -> None:
        """Keep that a node will not run."""

    async def flush(self) -> None:
        """Keep all that was said."""

    async def finished(
        self, status: str, result: bytes, error: str | None, events: Sequence[Event]
    ) -> None:
        """Keep how the execution ended; *result* is JSON."""

    async def close(self) -> None:
        """End what works in the background. Called once, last, whatever has happened."""


class Resumable(Protocol):
    """What recovery needs of an executor; `EnhancedWorkflowExecutor` is one.

    Its `execute` records with an `ExecutionJournal` (see `execution_journal`); recovery gives
    `go_on` a journal that has the execution already.
    """

    definition: Definition
    max_input_age: float | None
    """Seconds after which what a provider has yielded is too old for an action; None: never."""

    async def initialize(self) -> None:
        """Look whether it can be executed; called before the methods below."""

    def restart_of(self, block: Block) -> OnRestart:
        """Return what becomes of a block in which the process died."""

    async def _may_begin(self, run: Any) -> None:
        """Raise `EmergencyHalted` if nothing of it must be executed now."""

    async def go_on(self, execution: Execution, past: Past, recording: Recording) -> dict[str, Any]:
        """Execute what *past* does not name; return the result, or raise, as `execute` does.

        It begins with `recording.resumed`, with the event `execution_resumed`.
        """


class NoRecording:
    """Keeps nothing."""

    async def _nothing(self, *_: Any) -> None:
        pass

    started = resumed = intent = still_ours = completed = failed = skipped = _nothing
    flush = finished = close = _nothing


NOT_RECORDED = NoRecording()


def status_key(workflow_id: str, execution_id: str) -> str:
    """Return the state key under which the status of an execution is, as JSON text."""
    return f"workflow:{workflow_id}:execution:{execution_id}:status"


def result_key(workflow_id: str, execution_id: str) -> str:
    """Return the state key under which the result of an execution is, as JSON object."""
    return f"workflow:{workflow_id}:execution:{execution_id}:result"


def latest_key(workflow_id: str) -> str:
    """Return the state key under which the id of the last execution that began is."""
    return f"workflow:{workflow_id}:latest_execution"
