"""The states of a node's run, and which may follow which. Plain data and one table."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, TypeVar

_MOST_EVENTS: Final = 1_000  # of one lifecycle; the oldest go first


class AsyncNodeState(Enum):
    """What a node's run is doing."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    RESUMING = "resuming"
    RETRYING = "retrying"
    """Waiting for the next attempt after a failed one. The original has no such state."""
    COMPLETING = "completing"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class AsyncPhase(Enum):
    """Which part of a node is at work."""

    PREP = "prep"
    EXEC = "exec"
    POST = "post"
    CLEANUP = "cleanup"


_S = AsyncNodeState
FINAL: Final = frozenset((_S.COMPLETED, _S.CANCELLED, _S.FAILED))
"""The states that nothing follows."""
_ENDS: Final = frozenset((_S.CANCELLED, _S.FAILED))

LEGAL: Final[dict[AsyncNodeState, frozenset[AsyncNodeState]]] = {
    _S.CREATED: _ENDS | {_S.STARTING},
    _S.STARTING: _ENDS | {_S.RUNNING, _S.COMPLETING},
    _S.RUNNING: _ENDS | {_S.RUNNING, _S.SUSPENDED, _S.RETRYING, _S.COMPLETING, _S.COMPLETED},
    _S.SUSPENDED: _ENDS | {_S.RESUMING},
    _S.RESUMING: _ENDS | {_S.RUNNING},
    _S.RETRYING: _ENDS | {_S.RUNNING},
    _S.COMPLETING: FINAL,
    _S.COMPLETED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.FAILED: frozenset(),
}
"""Which states may follow which. RUNNING follows itself when the next phase begins."""

E = TypeVar("E", bound=Enum)


def state_named(value: AsyncNodeState | str) -> AsyncNodeState:
    """Return the state that *value* is or names.

    Raises:
        ValueError: There is no such state.
    """
    return member(AsyncNodeState, value, "state")


def phase_named(value: AsyncPhase | str) -> AsyncPhase:
    """Return the phase that *value* is or names.

    Raises:
        ValueError: There is no such phase.
    """
    return member(AsyncPhase, value, "phase")


def member(enum: type[E], value: E | str, noun: str) -> E:
    """Return the member of *enum* that *value* is, or whose value or name it is.

    Raises:
        ValueError: There is none; the message names the choices.
    """
    if isinstance(value, enum):
        return value
    if isinstance(value, str):
        try:
            return enum(value.lower())
        except ValueError:
            pass
    choices = ", ".join(choice.value for choice in enum)
    raise ValueError(f"no such {noun}: {value!r}; choose one of {choices}")


def utcnow() -> datetime:
    """Return the time now, in UTC and saying so."""
    return datetime.now(UTC)


def task_here() -> int | None:
    """Return the id of the asyncio task at work; None outside of one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else id(task)


@dataclass
class AsyncLifecycleEvent:
    """A change of state of a node's run.

    Attributes:
        event_id: Id of its own.
        node_id: Which run of a node.
        node_name: Name of the node.
        phase: Phase at work.
        state: The new state.
        timestamp: When, in UTC.
        task_id: `id()` of the asyncio task, if it is known.
        context_data: Facts that the caller adds.
        duration_ms: How long the node had been in the state before, in milliseconds, where that
            was RUNNING.
        error: The exception, where the caller gave one.
        metadata: Reason, attempt, cause of a failure; `illegal=True` for a transition that
            `LEGAL` does not have.
    """

    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    node_id: str = ""
    node_name: str = ""
    phase: AsyncPhase = AsyncPhase.EXEC
    state: AsyncNodeState = AsyncNodeState.CREATED
    timestamp: datetime = field(default_factory=utcnow)
    task_id: int | None = None
    context_data: dict[str, Any] = field(default_factory=dict)
    duration_ms: float | None = None
    error: BaseException | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class AsyncNodeLifecycle:
    """The states that one run of a node has been in; the last 1,000 events of it.

    Attributes:
        node_id: Which run of a node.
        node_name: Name of the node.
        start_time: When it began, in UTC.
        end_time: When it ended, in UTC; None: not yet.
        current_state: The state now.
        current_phase: The phase now.
        events: What happened, the oldest first.
        suspend_count: How often it was suspended.
        resume_count: How often it was resumed.
        task_switches: How often an event came from another asyncio task than the one before it.
        context_data: Facts about it.
    """

    node_id: str
    node_name: str
    start_time: datetime = field(default_factory=utcnow)
    end_time: datetime | None = None
    current_state: AsyncNodeState = AsyncNodeState.CREATED
    current_phase: AsyncPhase = AsyncPhase.PREP
    events: list[AsyncLifecycleEvent] = field(default_factory=list)
    suspend_count: int = 0
    resume_count: int = 0
    task_switches: int = 0
    context_data: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_ms(self) -> float | None:
        """How long it took, in milliseconds; None until it has ended."""
        if self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds() * 1000

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.current_state not in FINAL

    def add_event(self, event: AsyncLifecycleEvent) -> None:
        """Take *event* in: its state and phase are the current ones from now on."""
        before = self.events[-1].task_id if self.events else None
        if before is not None and event.task_id is not None and event.task_id != before:
            self.task_switches += 1
        self.events.append(event)
        del self.events[:-_MOST_EVENTS]
        self.current_state = event.state
        self.current_phase = event.phase
        if event.state is AsyncNodeState.SUSPENDED:
            self.suspend_count += 1
        elif event.state is AsyncNodeState.RESUMING:
            self.resume_count += 1

    def complete(self, state: AsyncNodeState | str = AsyncNodeState.COMPLETED) -> None:
        """End it now, in *state*.

        Raises:
            ValueError: There is no such state.
        """
        self.current_state = state_named(state)
        self.end_time = utcnow()
