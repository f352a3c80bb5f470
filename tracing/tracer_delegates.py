"""The tracer's calls about lifecycles, compositions and errors: what answers them lives elsewhere.

Each part is made, and its module imported, when it is first asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracing.async_composition import AsyncFlowCompositionManager
    from tracing.async_error_handling import AsyncErrorEvent, AsyncErrorHandler
    from tracing.async_lifecycle import AsyncLifecycleManager

logger = logging.getLogger(__name__)


class Delegates:
    """The part of `LangfuseTracer` that others do."""

    lifecycle_manager: AsyncLifecycleManager | None
    composition_manager: AsyncFlowCompositionManager | None
    error_handler: AsyncErrorHandler | None

    def get_lifecycle_manager(self) -> AsyncLifecycleManager:
        """Return the lifecycles of this tracer."""
        if self.lifecycle_manager is None:
            from tracing.async_lifecycle import AsyncLifecycleManager  # noqa: PLC0415 (if used)

            self.lifecycle_manager = AsyncLifecycleManager(self)
        return self.lifecycle_manager

    if TYPE_CHECKING:  # the tracer has them

        def get_composition_manager(self) -> AsyncFlowCompositionManager: ...  # noqa: D102
        def start_node_span(  # noqa: D102
            self, node_name: str, node_id: str, phase: str
        ) -> str | None: ...

    def get_error_handler(self) -> AsyncErrorHandler:
        """Return the errors of this tracer."""
        if self.error_handler is None:
            from tracing.async_error_handling import AsyncErrorHandler  # noqa: PLC0415 (if used)

            self.error_handler = AsyncErrorHandler(self)
        return self.error_handler

    async def start_async_node_lifecycle(
        self,
        node_id: str,
        node_name: str,
        phase: str = "prep",
    ) -> str | None:
        """Begin a lifecycle and a node span.

        Returns:
            The span's id, for `end_node_span`; None outside of any trace.
        """
        self.get_lifecycle_manager().start_lifecycle(node_id, node_name, _phase(phase))
        return self.start_node_span(node_name, node_id, phase)

    async def transition_async_node_state(
        self,
        node_id: str,
        state: str,
        phase: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Change the state of a lifecycle; an unknown state is reported, and changes nothing."""
        if self.lifecycle_manager is None:
            return
        where = None if phase is None else _phase(phase)
        try:
            self.lifecycle_manager.transition_state(node_id, state, where, metadata)
        except ValueError as error:
            logger.warning("the state of %s is not changed: %s", node_id, error)

    async def suspend_async_node(self, node_id: str, reason: str = "await") -> None:
        """Say that a node waits for something."""
        if self.lifecycle_manager is not None:
            self.lifecycle_manager.suspend_node(node_id, reason)

    async def resume_async_node(self, node_id: str, reason: str = "await_complete") -> None:
        """Say that a node goes on."""
        if self.lifecycle_manager is not None:
            self.lifecycle_manager.resume_node(node_id, reason)

    async def start_async_flow_composition(
        self,
        flow_name: str,
        composition_type: str = "sequential",
        parent_execution_id: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Begin a composition and its span, current here until it is completed.

        Returns:
            Its execution id.
        """
        from tracing.async_composition import type_named  # noqa: PLC0415 (if used)

        execution = await self.get_composition_manager().start_flow_execution(
            flow_name, type_named(composition_type), parent_execution_id, metadata
        )
        return execution.execution_id

    async def complete_async_flow_composition(
        self,
        execution_id: str,
        status: str = "completed",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """End a composition; an unknown one changes nothing."""
        if self.composition_manager is not None:
            await self.composition_manager.complete_flow_execution(execution_id, status, metadata)

    async def execute_parallel_async_flows(
        self,
        flows: Sequence[Any],
        flow_names: Sequence[str],
        parent_execution_id: str | None = None,
    ) -> list[Any]:
        """Do what `AsyncFlowCompositionManager.execute_parallel_flows` does."""
        manager = self.get_composition_manager()
        return await manager.execute_parallel_flows(flows, flow_names, parent_execution_id)

    async def execute_nested_async_flow(
        self, flow: Any, flow_name: str, parent_execution_id: str | None = None
    ) -> Any:
        """Do what `AsyncFlowCompositionManager.execute_nested_flow` does."""
        manager = self.get_composition_manager()
        return await manager.execute_nested_flow(flow, flow_name, parent_execution_id)

    async def execute_batch_async_flows(
        self,
        flow_factory: Callable[[Any], Any],
        batch_data: Iterable[Any],
        flow_name: str,
        parallel: bool = False,
        parent_execution_id: str | None = None,
    ) -> list[Any]:
        """Do what `AsyncFlowCompositionManager.execute_batch_flows` does."""
        manager = self.get_composition_manager()
        return await manager.execute_batch_flows(
            flow_factory, batch_data, flow_name, parallel, parent_execution_id
        )

    async def handle_async_error(
        self,
        error: BaseException,
        node_id: str | None = None,
        flow_name: str | None = None,
        context_data: dict[str, Any] | None = None,
    ) -> AsyncErrorEvent:
        """Do what `AsyncErrorHandler.handle_async_error` does."""
        handler = self.get_error_handler()
        return await handler.handle_async_error(error, node_id, flow_name, context_data)

    async def with_timeout(
        self,
        coro: Any,
        timeout_seconds: float,
        node_id: str | None = None,
        flow_name: str | None = None,
    ) -> Any:
        """Do what `AsyncErrorHandler.with_timeout` does."""
        handler = self.get_error_handler()
        return await handler.with_timeout(coro, timeout_seconds, node_id, flow_name)

    async def with_cancellation_protection(
        self, coro: Any, node_id: str | None = None, flow_name: str | None = None
    ) -> Any:
        """Do what `AsyncErrorHandler.with_cancellation_protection` does."""
        handler = self.get_error_handler()
        return await handler.with_cancellation_protection(coro, node_id, flow_name)

    async def safe_async_execute(
        self,
        coro: Any,
        node_id: str | None = None,
        flow_name: str | None = None,
        timeout_seconds: float | None = None,
        retry_count: int = 0,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what `AsyncErrorHandler.safe_async_execute` does."""
        handler = self.get_error_handler()
        return await handler.safe_async_execute(
            coro, node_id, flow_name, timeout_seconds, retry_count, args=args, kwargs=kwargs
        )


def _phase(phase: str) -> str:
    """Return *phase* if lifecycles have it, else exec, as for a phase with a name of its own."""
    said = str(getattr(phase, "value", phase))
    return said if said in ("prep", "exec", "post", "cleanup") else "exec"
