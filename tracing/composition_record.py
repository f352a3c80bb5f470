"""The executions of a tracer: what is under way, what has ended, and the span of each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from tracing.composition_execution import (
    AsyncFlowExecution,
    FlowCompositionType,
    Totals,
    pop,
    push,
    running,
    type_named,
)
from tracing.recorder import add
from tracing.run import ABSENT
from tracing.tracer_runs import error_for
from tracing.tracer_spans import ByHand, snapshot

if TYPE_CHECKING:
    from tracing.core import LangfuseTracer

logger = logging.getLogger(__name__)

_KEPT: Final = 1_000


class Executions:
    """Begins and ends executions; which of them a context is in belongs to the context.

    Args:
        tracer: Where the spans go.
    """

    def __init__(self, tracer: LangfuseTracer) -> None:
        self.tracer = tracer
        self.active_executions: dict[str, AsyncFlowExecution] = {}
        self.completed_executions: list[AsyncFlowExecution] = []
        self._spans: dict[str, ByHand] = {}
        self._totals = Totals()

    async def start_flow_execution(
        self,
        flow_name: str,
        composition_type: FlowCompositionType | str = FlowCompositionType.SEQUENTIAL,
        parent_execution_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> AsyncFlowExecution:
        """Begin an execution and its span, current in this context until it is completed.

        Args:
            flow_name: Its name.
            composition_type: What kind it is.
            parent_execution_id: Which execution it is part of.
            metadata: Facts about it, by name.
        """
        execution = AsyncFlowExecution(
            flow_name=flow_name,
            parent_execution_id=parent_execution_id,
            composition_type=type_named(composition_type),
            metadata=dict(metadata or {}),
        )
        parent = self.active_executions.get(parent_execution_id or "")
        if parent is not None:
            parent.child_executions.append(execution.execution_id)
        self.active_executions[execution.execution_id] = execution
        span = self._open(execution, parent)
        if span is not None:
            span.hold()
            self._spans[execution.execution_id] = span
        push(execution)
        return execution

    async def complete_flow_execution(
        self,
        execution_id: str,
        status: str = "completed",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """End an execution; an unknown one changes nothing.

        Args:
            execution_id: Which.
            status: completed, failed or cancelled.
            metadata: More facts about it.
        """
        error = error_for(status)
        if type(error) is Exception and metadata and "error" in metadata:
            error = Exception(str(metadata["error"]))
        self._complete(execution_id, status, metadata, error)

    def get_current_execution(self) -> AsyncFlowExecution | None:
        """Return the execution that this context is in."""
        stack = running()
        return stack[-1] if stack else None

    def get_execution_stack(self) -> list[str]:
        """Return the ids of the executions that this context is in, the outermost first."""
        return [execution.execution_id for execution in running()]

    def get_execution_statistics(self) -> dict[str, Any]:
        """Return numbers about all executions so far, and the kinds and ends of those over."""
        active = len(self.active_executions)
        if not active and not self._totals.count:
            return {"total_executions": 0}
        return {
            "total_executions": active + self._totals.count,
            "active_executions": active,
            **self._totals.report(),
        }

    def cleanup(self) -> None:
        """End all that is under way, as cancelled. Nothing calls this but you."""
        for execution_id in list(self.active_executions):
            self._complete(execution_id, "cancelled", None, error_for("cancelled"))

    def _open(
        self, execution: AsyncFlowExecution, parent: AsyncFlowExecution | None
    ) -> ByHand | None:
        around = None
        if parent is not None and parent not in running():  # else the present place says more
            around = self._spans.get(parent.execution_id)
        facts = {
            **snapshot(execution.metadata),
            "flow.composition": execution.composition_type.value,
            "flow.execution_id": execution.execution_id,
        }
        return self.tracer._open("span", execution.flow_name, facts, root=True, within=around)

    def _complete(
        self,
        execution_id: str,
        status: str = "completed",
        metadata: dict[str, Any] | None = None,
        error: BaseException | None = None,
        value: Any = ABSENT,
    ) -> None:
        execution = self.active_executions.pop(execution_id, None)
        if execution is None:
            logger.debug("there is no execution %s to end", execution_id)
            return
        execution.metadata.update(metadata or {})
        execution.end(status)
        span = self._spans.pop(execution_id, None)
        if span is not None:
            add(span.record, {**snapshot(execution.metadata), "flow.status": status})
            span.end(error, value)
        pop()
        self._totals.add(execution)
        self.completed_executions.append(execution)
        del self.completed_executions[:-_KEPT]
