"""Lifecycles of node runs: those of traced flows, and those that are told by hand."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from tracing.context import position
from tracing.lifecycle_derived import events_of, id_of, lifecycle_of, state_of, suspensions
from tracing.lifecycle_ring import KINDS, LifecycleRing, ring_of
from tracing.lifecycle_states import (
    FINAL,
    LEGAL,
    AsyncLifecycleEvent,
    AsyncNodeLifecycle,
    AsyncNodeState,
    AsyncPhase,
    phase_named,
    state_named,
    task_here,
    utcnow,
)
from tracing.record import Record

logger = logging.getLogger(__name__)

__all__ = [
    "AsyncLifecycleEvent",
    "AsyncLifecycleManager",
    "AsyncNodeLifecycle",
    "AsyncNodeState",
    "AsyncPhase",
    "LEGAL",
    "LifecycleRing",
]

Handler = Callable[[AsyncLifecycleEvent], object]
_KEPT: Final = 1_000  # lifecycles told by hand that have ended

_S = AsyncNodeState


class _Told:
    """A lifecycle told by hand in this context, and the one around it."""

    __slots__ = ("around", "lifecycle", "manager")

    def __init__(
        self, manager: AsyncLifecycleManager, lifecycle: AsyncNodeLifecycle, around: _Told | None
    ) -> None:
        self.manager = manager
        self.lifecycle = lifecycle
        self.around = around


_told: ContextVar[_Told | None] = ContextVar("pocketflow_lifecycle_told", default=None)


def _still_active(told: _Told | None) -> _Told | None:
    while told is not None and not told.lifecycle.is_active:
        told = told.around
    return told


class AsyncLifecycleManager:
    """What state every node run is in, and was in.

    Two sources, one picture. The engine: every visit of a node in a flow that *tracer* records has
    its lifecycle, and so has every item of a batch (named `Node[3]`); nobody calls anything for it,
    and its `node_id` is the id of its span. A nested flow has none itself; its nodes have. By hand:
    `start_lifecycle` and what follows it, under ids of the caller's own.

    Everything is bounded: the last 1,000 runs that ended are kept of either source, and statistics
    are about those and what is under way.

    Args:
        tracer: What records; its `ring` (or that of its settings' recorder) is read. Without one,
            only what is told by hand is known.

    Attributes:
        tracer: What records.
        event_handlers: What `add_event_handler` was given.
    """

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.event_handlers: list[Handler] = []
        self._active: dict[str, AsyncNodeLifecycle] = {}
        self._completed: deque[AsyncNodeLifecycle] = deque(maxlen=_KEPT)
        self._heard: LifecycleRing | None = None

    @property
    def active_lifecycles(self) -> dict[str, AsyncNodeLifecycle]:
        """What is under way, by node id; a new dict each time."""
        return {**{id_of(record): lifecycle_of(record) for record in self._live()}, **self._active}

    @property
    def completed_lifecycles(self) -> list[AsyncNodeLifecycle]:
        """What has ended, of the engine first; a new list each time."""
        return [*map(lifecycle_of, self._finished()), *self._completed]

    def start_lifecycle(
        self, node_id: str, node_name: str, phase: AsyncPhase | str = AsyncPhase.PREP
    ) -> AsyncNodeLifecycle:
        """Begin a lifecycle, in the state STARTING; one under way with the same id is replaced.

        Raises:
            ValueError: There is no such phase.
        """
        where = phase_named(phase)
        lifecycle = AsyncNodeLifecycle(node_id, node_name, current_phase=where)
        event = AsyncLifecycleEvent(
            node_id=node_id,
            node_name=node_name,
            phase=where,
            state=_S.STARTING,
            task_id=task_here(),
        )
        lifecycle.add_event(event)
        self._active[node_id] = lifecycle
        _told.set(_Told(self, lifecycle, _still_active(_told.get())))
        self._notify(event)
        return lifecycle

    def transition_state(
        self,
        node_id: str,
        new_state: AsyncNodeState | str,
        phase: AsyncPhase | str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Change the state of a lifecycle told by hand; of an unknown one nothing.

        A transition that `LEGAL` does not have is made as well, since that is what the program
        says; it is logged as a warning, and its event has `metadata["illegal"]`.

        Raises:
            ValueError: There is no such state or phase.
        """
        self._change(node_id, new_state, phase, dict(metadata or {}))

    def suspend_node(self, node_id: str, reason: str = "await") -> None:
        """Say that a node waits for something."""
        self._change(node_id, _S.SUSPENDED, None, {"suspend_reason": reason})

    def resume_node(self, node_id: str, reason: str = "await_complete") -> None:
        """Say that a node goes on: RESUMING, then RUNNING."""
        self._change(node_id, _S.RESUMING, None, {"resume_reason": reason})
        self._change(node_id, _S.RUNNING, None, {})

    def fail_node(self, node_id: str, error: BaseException) -> None:
        """End a lifecycle as FAILED, with its cause."""
        cause = {"error_type": type(error).__name__, "error_message": str(error)}
        self._change(node_id, _S.FAILED, None, cause)

    def cancel_node(self, node_id: str, reason: str = "task_cancelled") -> None:
        """End a lifecycle as CANCELLED, with its cause."""
        self._change(node_id, _S.CANCELLED, None, {"cancel_reason": reason})

    def get_lifecycle(self, node_id: str) -> AsyncNodeLifecycle | None:
        """Return the lifecycle of that id if it is under way."""
        if node_id in self._active:
            return self._active[node_id]
        for record in self._live():
            if id_of(record) == node_id:
                return lifecycle_of(record)
        return None

    def get_current_lifecycle(self) -> AsyncNodeLifecycle | None:
        """Return the lifecycle that the caller is in: told by hand here, or of the node at work."""
        told = _still_active(_told.get())
        while told is not None and told.manager is not self:
            told = _still_active(told.around)
        if told is not None:
            return told.lifecycle
        now = position.get()
        return lifecycle_of(now[0]) if now is not None and now[0].kind in KINDS else None

    def add_event_handler(self, handler: Handler) -> None:
        """Call *handler* with every event from now on.

        Events told by hand come at once. Those of the engine come in two portions: CREATED and
        STARTING as a node run begins, all others as it ends, with the times they happened at.
        It is called on the thread of the flow and must be quick; what it raises is logged.
        """
        self.event_handlers.append(handler)
        self._listen()

    def remove_event_handler(self, handler: Handler) -> None:
        """Call *handler* no more; one that is not registered is passed over."""
        if handler in self.event_handlers:
            self.event_handlers.remove(handler)
        if not self.event_handlers and self._heard is not None:
            self._heard.ignore(self)
            self._heard = None

    def cleanup(self) -> None:
        """End what was told to this manager by hand and is under way, as CANCELLED.

        Runs of the engine are its own affair: none is touched.
        """
        for node_id in list(self._active):
            lifecycle = self._active.pop(node_id, None)
            if lifecycle is not None:
                lifecycle.complete(_S.CANCELLED)
                self._completed.append(lifecycle)

    def get_statistics(self) -> dict[str, Any]:
        """Return counts and averages over what is under way and the last that ended.

        Durations are in milliseconds; averages, suspensions and states are of what has ended.
        """
        finished, told = self._finished(), list(self._completed)
        active = len(self._live()) + len(self._active)
        ended = len(finished) + len(told)
        if not active + ended:
            return {"total_lifecycles": 0}
        waits = [suspensions(record) for record in finished]
        states = [state_of(record) for record in finished]
        states += [lifecycle.current_state for lifecycle in told]
        spent = sum(((record.end or record.start) - record.start) / 1e6 for record in finished)
        spent += sum(lifecycle.duration_ms or 0.0 for lifecycle in told)
        return {
            "total_lifecycles": active + ended,
            "active_lifecycles": active,
            "completed_lifecycles": ended,
            "average_duration_ms": spent / ended if ended else 0,
            "total_suspends": sum(n for n, _ in waits)
            + sum(lifecycle.suspend_count for lifecycle in told),
            "total_resumes": sum(n for _, n in waits)
            + sum(lifecycle.resume_count for lifecycle in told),
            "state_distribution": _counted(states),
        }

    # What the ring tells.

    def opened(self, record: Record) -> None:
        """Pass on the first events of a node run; for the ring."""
        if record.kind in KINDS:
            self._hand_on(events_of(record)[:2])

    def closed(self, record: Record) -> None:
        """Pass on the other events of a node run; for the ring."""
        if record.kind in KINDS:
            self._hand_on(events_of(record)[2:])

    def _live(self) -> list[Record]:
        ring = self._listen()
        return [] if ring is None else [record for record in ring.live if record.kind in KINDS]

    def _finished(self) -> list[Record]:
        ring = self._listen()
        return [] if ring is None else ring.finished()

    def _listen(self) -> LifecycleRing | None:
        """Return the ring, which is another one when the settings have made a new recorder."""
        ring = ring_of(self.tracer)
        if ring is not self._heard:
            if self._heard is not None:
                self._heard.ignore(self)
            self._heard = ring if self.event_handlers else None
            if self._heard is not None:
                self._heard.listen(self)
        return ring

    def _change(
        self,
        node_id: str,
        new_state: AsyncNodeState | str,
        phase: AsyncPhase | str | None,
        metadata: dict[str, Any],
    ) -> None:
        state = state_named(new_state)
        where = None if phase is None else phase_named(phase)
        lifecycle = self._active.get(node_id)
        if lifecycle is None:
            return
        before = lifecycle.current_state
        if state not in LEGAL[before]:
            metadata["illegal"] = True
            logger.warning(
                "node %s (%s) went from %s to %s, which is not a legal transition",
                lifecycle.node_name,
                node_id,
                before.value,
                state.value,
            )
        event = AsyncLifecycleEvent(
            node_id=node_id,
            node_name=lifecycle.node_name,
            phase=where or lifecycle.current_phase,
            state=state,
            task_id=task_here(),
            metadata=metadata,
        )
        if before is _S.RUNNING and lifecycle.events:
            ran = event.timestamp - lifecycle.events[-1].timestamp
            event.duration_ms = ran.total_seconds() * 1000
        lifecycle.add_event(event)
        if state in FINAL:
            lifecycle.end_time = utcnow()
            del self._active[node_id]
            self._completed.append(lifecycle)
        self._notify(event)

    def _hand_on(self, events: list[AsyncLifecycleEvent]) -> None:
        for event in events:
            self._notify(event)

    def _notify(self, event: AsyncLifecycleEvent) -> None:
        for handler in list(self.event_handlers):
            try:
                handler(event)
            except Exception:
                logger.exception("the handler %r failed at %s", handler, event.state.value)


def _counted(states: list[AsyncNodeState]) -> dict[str, int]:
    return {
        state.value: count for state in AsyncNodeState if (count := sum(s is state for s in states))
    }
