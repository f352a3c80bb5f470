"""What a store keeps, as plain frozen data, and what every store can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

NORMAL: Final = "normal"
RUNNING: Final = "running"


@dataclass(frozen=True, slots=True)
class EmergencyRow:
    """The emergency state of one controller.

    Attributes:
        state: "normal", "alert", "reducing", "halt" or "shutdown".
        reason: Why it is not normal; None: it is.
        at: When it became so, as ISO 8601 with a Z; None: it has always been so.
        version: Grows by one with each change.
        reducing: Whether only what reduces a risk may be done.
        metadata: Facts given with the last change; plain JSON.
        limits: What is known of each risk limit, by its name; plain JSON.
    """

    state: str = NORMAL
    reason: str | None = None
    at: str | None = None
    version: int = 0
    reducing: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)


EmergencyChange: TypeAlias = Callable[[EmergencyRow], EmergencyRow | None]
"""Returns what is to be instead, or None: nothing changes. Pure: it may be called again."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a workflow or flow.

    Attributes:
        run_id: Its id.
        kind: "workflow" or "flow".
        workflow_id: What it is a run of.
        definition_hash: Digest of that; it must be the same when the run goes on.
        definition: The definition as JSON text; None: only its digest is kept.
        inputs: What the run was given, as JSON text.
        status: running, completed, completed_with_errors, failed, halted, cancelled, interrupted,
            suspended or needs_reconciliation.
        owner: The process at work on it; None: nobody is.
        fence: Grows with each claim; who holds an older one can write no more.
        lease_until: Seconds since the epoch, on the store's clock, until which the owner has it.
        created_at: Seconds since the epoch.
        updated_at: Seconds since the epoch.
        bot_id: For grouping.
        strategy_id: For grouping.
        trace: W3C `traceparent` of the trace that it began in.
        result: What it has come to, as JSON text.
        error: Why it failed or waits.
        seq: Number of its last event; 0: it has none.
        places: Number of its last entry; 0: it has none.
    """

    run_id: str
    kind: str
    workflow_id: str
    definition_hash: str
    definition: str | None = None
    inputs: str | None = None
    status: str = RUNNING
    owner: str | None = None
    fence: int = 0
    lease_until: float = 0.0
    created_at: float = 0.0
    updated_at: float = 0.0
    bot_id: str | None = None
    strategy_id: str | None = None
    trace: str | None = None
    result: str | None = None
    error: str | None = None
    seq: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a run's journal.

    Attributes:
        run_id: The run.
        place: Its number in the run, from 1, without gaps.
        node_id: The node.
        phase: started, completed, failed, skipped, checkpoint, suspended, answered.
        attempt: Number of the attempt, from 1.
        key: The node's idempotency key.
        output: What it yielded, or another content, as JSON bytes.
        error: What went wrong.
        at: Seconds since the epoch.
    """

    run_id: str
    place: int
    node_id: str
    phase: str
    attempt: int = 1
    key: str | None = None
    output: bytes | None = None
    error: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of a run, stored with what it tells of.

    Attributes:
        run_id: The run.
        seq: Its number in the run, from 1, without gaps.
        type: Its type.
        data: All of it, as JSON text.
        at: Seconds since the epoch.
    """

    run_id: str
    seq: int
    type: str
    data: str
    at: float = 0.0


class Store(Protocol):
    """One place for state, emergencies, runs and journals.

    What a method has returned from is stored. One that is cancelled has done all or nothing; which
    of the two is not known. Every method may raise `StoreError`.
    """

    durable: bool
    """Whether it outlives the process."""
    shared: bool
    """Whether other processes see it."""

    async def __aenter__(self) -> Store:
        """Open it."""

    async def __aexit__(self, *_: object) -> None:
        """Close it."""

    async def close(self) -> None:
        """Close it; again is fine."""

    async def health(self) -> Mapping[str, Any]:
        """Return `{"status": "healthy" | "unhealthy", …}`, with what can be said about it."""

    # values by key

    async def get(self, key: str) -> bytes | None:
        """Return a value; None: there is none, or its time is over."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those values that there are."""

    async def put(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Keep a value for *ttl* seconds; None: for ever."""

    async def put_many(self, values: Mapping[str, bytes], ttl: float | None = None) -> None:
        """Keep all of them, or none."""

    async def put_if_absent(self, key: str, value: bytes, ttl: float | None = None) -> bool:
        """Keep a value where there is none; return whether it was kept."""

    async def add(self, key: str, amount: int) -> int:
        """Add to a whole number (0 where there is none), its time kept; return the sum.

        Raises:
            NotANumberError: The value is something else.
        """

    async def take(self, key: str) -> bytes | None:
        """Return a value and delete it, at once."""

    async def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so, in order."""

    # emergencies

    async def emergency(self, controller_id: str) -> EmergencyRow:
        """Return the state of a controller as all processes see it."""

    async def change_emergency(
        self, controller_id: str, change: EmergencyChange
    ) -> tuple[EmergencyRow, EmergencyRow]:
        """Change the state in one transaction; return what it was and what it is now."""

    # runs

    async def create_run(
        self,
        run: RunRow,
        *,
        lease: float = 0.0,
        entries: Sequence[Entry] = (),
        events: Sequence[EventRow] = (),
        state: Mapping[str, bytes] | None = None,
    ) -> RunRow:
        """Keep a new run, its owner having it for *lease* seconds; return it as it is kept.

        Raises:
            RunExists: There is a run of that id.
            OutOfOrderError: A place or number does not follow the last one.
        """

    async def run(self, run_id: str) -> RunRow | None:
        """Return a run."""

    async def runs(
        self,
        *,
        status: str | None = None,
        workflow_id: str | None = None,
        kind: str | None = None,
        limit: int = 100,
    ) -> list[RunRow]:
        """Return runs, the newest first."""

    async def abandoned(self, limit: int = 100) -> list[RunRow]:
        """Return runs that are running and that nobody has any more, the oldest first."""

    async def claim(self, run_id: str, owner: str, lease: float) -> RunRow | None:
        """Take a run that nobody has (its lease is over or given back); None: somebody has it."""

    async def renew(self, run_id: str, owner: str, fence: int, lease: float) -> None:
        """Have the run for another *lease* seconds.

        Raises:
            LeaseLost: Another has claimed it.
        """

    async def append(
        self,
        run_id: str,
        owner: str,
        fence: int,
        *,
        entries: Sequence[Entry] = (),
        events: Sequence[EventRow] = (),
        state: Mapping[str, bytes] | None = None,
        status: str | None = None,
        result: str | None = None,
        error: str | None = None,
        release: bool = False,
    ) -> None:
        """Add to a run in one transaction: all of it, or nothing.

        Args:
            run_id: The run.
            owner: Who has it.
            fence: Of the claim.
            entries: Lines of its journal; their places follow the last one.
            events: Events; their numbers follow the last one.
            state: Values by key.
            status: Its new status.
            result: What it has come to.
            error: Why it failed or waits; empty: it does so no longer.
            release: Whether it is given back.

        Raises:
            LeaseLost: Another has claimed it, or the lease was given back.
            OutOfOrderError: A place or number does not follow the last one.
        """

    async def entries(self, run_id: str) -> list[Entry]:
        """Return the journal of a run, in order."""

    async def events(self, run_id: str, after: int = 0) -> list[EventRow]:
        """Return the events of a run with numbers above *after*, in order."""
