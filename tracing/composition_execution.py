"""One execution of a flow in a composition, and which executions a context is in."""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from time import perf_counter
from typing import Any
from uuid import uuid4


class FlowCompositionType(Enum):
    """How flows are put together."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    NESTED = "nested"
    CONDITIONAL = "conditional"
    BATCH = "batch"
    PIPELINE = "pipeline"


def type_named(name: FlowCompositionType | str) -> FlowCompositionType:
    """Return the member or the one of that name; SEQUENTIAL for an unknown name."""
    try:
        return FlowCompositionType(name)
    except ValueError:
        return FlowCompositionType.SEQUENTIAL


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(eq=False)
class AsyncFlowExecution:
    """One run of a flow, or of flows together.

    Attributes:
        execution_id: Its id.
        flow_name: Its name.
        parent_execution_id: The execution it is part of.
        composition_type: What kind it is.
        start_time: When it began, in UTC.
        end_time: When it ended; None while it runs.
        status: running, completed, failed or cancelled.
        context_data: For your own use.
        child_executions: Ids of its parts, in the order they began.
        concurrent_executions: Ids of those parts that run at the same time.
        metadata: Facts about it; of a failure `error` and `error_type`, or in a composition the
            names of the flows that `failed` or were `cancelled`.
    """

    execution_id: str = field(default_factory=lambda: str(uuid4()))
    flow_name: str = ""
    parent_execution_id: str | None = None
    composition_type: FlowCompositionType = FlowCompositionType.SEQUENTIAL
    start_time: datetime = field(default_factory=_now)
    end_time: datetime | None = None
    status: str = "running"
    context_data: dict[str, Any] = field(default_factory=dict)
    child_executions: list[str] = field(default_factory=list)
    concurrent_executions: set[str] = field(default_factory=set)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = perf_counter()

    @property
    def duration_ms(self) -> float | None:
        """How long it took, in milliseconds; None while it runs."""
        if self.end_time is None:
            return None
        return (self.end_time - self.start_time).total_seconds() * 1000

    @property
    def is_completed(self) -> bool:
        """Whether it is over, however it ended."""
        return self.status in {"completed", "failed", "cancelled"}

    def end(self, status: str) -> None:
        """Note that it is over."""
        # By the monotonic clock: the wall clock may have been set meanwhile.
        self.end_time = self.start_time + timedelta(seconds=perf_counter() - self._began)
        self.status = status


class Totals:
    """Numbers about executions that are over, so that they need not all be kept."""

    def __init__(self) -> None:
        self.count = 0
        self._milliseconds = 0.0
        self._types: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()

    def add(self, execution: AsyncFlowExecution) -> None:
        """Count *execution*, which is over."""
        self.count += 1
        self._milliseconds += execution.duration_ms or 0.0
        self._types[execution.composition_type.value] += 1
        self._statuses[execution.status] += 1

    def report(self) -> dict[str, Any]:
        """Return them under the names that statistics have."""
        return {
            "completed_executions": self.count,
            "average_duration_ms": self._milliseconds / self.count if self.count else 0,
            "composition_type_distribution": dict(self._types),
            "status_distribution": dict(self._statuses),
        }


_stack: ContextVar[tuple[AsyncFlowExecution, ...]] = ContextVar("pocketflow_executions", default=())


def running() -> tuple[AsyncFlowExecution, ...]:
    """Return the executions that this context is in, the outermost first."""
    return tuple(execution for execution in _stack.get() if execution.end_time is None)


def push(execution: AsyncFlowExecution) -> None:
    """Be in *execution* from now on."""
    _stack.set((*running(), execution))


def pop() -> None:
    """Forget what is over."""
    _stack.set(running())
