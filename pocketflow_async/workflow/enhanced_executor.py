"""Executes JSON workflows within an infrastructure: observed, guarded, recorded, and halted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from pocketflow_async.infrastructure.emergency_states import EmergencyHalted, EmergencyState
from pocketflow_async.infrastructure.events.bus import WORKFLOW_EVENTS
from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.workflow.definition import Block, check_name
from pocketflow_async.workflow.execution import ExecutionRun, logger
from pocketflow_async.workflow.execution_events import words
from pocketflow_async.workflow.execution_journal import ExecutionJournal
from pocketflow_async.workflow.executor import (
    LARGEST_OUTPUT,
    HandlerRegistry,
    MissingInputError,
    NoHandlerError,
    OutputError,
    WorkflowExecutor,
)
from pocketflow_async.workflow.node_handlers import Handler
from pocketflow_async.workflow.recording import Event, Execution, Recording

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.factory import Infrastructure
    from pocketflow_async.infrastructure.resilience import CircuitBreaker
    from pocketflow_async.resilience.retry import Retry

__all__ = [
    "EmergencyHalted",
    "EnhancedWorkflowExecutor",
    "MissingInputError",
    "NoHandlerError",
    "OutputError",
]

_GENERAL: Final = frozenset({"api_call", "market_data", "price_feed", "test"})
"""Types of providers that say nothing about who is called."""


class EnhancedWorkflowExecutor(WorkflowExecutor):
    """Executes one workflow, with all that an infrastructure gives.

    What happens is recorded in the store first, and then published on the channel
    `workflow_events`; subscribers have handled it, or had *flush_timeout* seconds to, when
    `execute` returns. Before each block the emergency control is asked. Providers are tried again
    after errors that may pass, but not once trading is halted; each dependency that they call has
    one circuit breaker for all executors of the infrastructure.

    A halt ends an execution before its next block that has an effect on the risk, and in any case
    at its end. Under a halt an execution only begins if it takes risk away: it cancels, and
    increases nothing. While the state is "reducing", blocks that increase the risk are skipped, and
    so is what needs them; the others run.

    Args:
        workflow: A dict `{"blocks": […], "connections": […]}`, or JSON text.
        infra: The infrastructure.
        workflow_id: Id of the workflow; `...` stands for one that has none: it is "workflow".
        bot_id: For grouping.
        strategy_id: For grouping.
        handlers: Handlers for this executor alone; see `WorkflowExecutor`.
        max_input_age: Seconds for which what a provider yielded may be used after a crash; older
            values are fetched again before any action. None: for any time.
        max_output_bytes: How much JSON one block may yield.
        flush_timeout: Seconds for which subscribers are waited for at the end.
        **options: Others of `WorkflowExecutor`.

    Raises:
        WorkflowDefinitionError: It is no workflow; a ValueError that names all that is wrong.
        TypeError: An id is no text.
        ValueError: An id cannot be one.
    """

    has_events: ClassVar[bool] = True

    def __init__(
        self,
        workflow: Mapping[str, Any] | str | bytes,
        infra: Infrastructure,
        workflow_id: str | EllipsisType,
        bot_id: str | None = None,
        strategy_id: str | None = None,
        *,
        handlers: HandlerRegistry | Mapping[Any, Handler] | None = None,
        max_input_age: float | None = None,
        max_output_bytes: int = LARGEST_OUTPUT,
        flush_timeout: float = 1.0,
        **options: Any,
    ) -> None:
        if workflow_id is not ...:
            self.workflow_id = check_name("workflow_id", workflow_id)
        self.bot_id = None if bot_id is None else check_name("bot_id", bot_id)
        self.strategy_id = None if strategy_id is None else check_name("strategy_id", strategy_id)
        super().__init__(workflow, handlers=handlers, max_output_bytes=max_output_bytes, **options)
        if max_input_age is not None and not max_input_age > 0:
            raise ValueError(f"max_input_age must be above 0 seconds, not {max_input_age!r:.40}")
        self.infra = infra
        self.max_input_age = max_input_age
        self._flush_timeout = flush_timeout
        self._retry = infra.retry.policy()
        # What never waits cannot be cancelled in the middle, and needs no task for that.
        self._record_waits = type(infra.store) is not MemoryStore

    @property
    def api_breaker(self) -> CircuitBreaker:
        """The breaker of the first provider; "api" where there is none. See `breakers`."""
        return next(iter(self.breakers.values()), None) or self.infra.breaker("api")

    @property
    def breakers(self) -> dict[str, CircuitBreaker]:
        """The breakers of its providers, by dependency; others may have the same ones."""
        names = dict.fromkeys(
            dependency_of(block)
            for block in self.definition.blocks
            if block.category == "providers"
        )
        return {name: self.infra.breaker(name) for name in names}

    async def initialize(self) -> None:
        """Look whether it can be executed; `execute` does so if need be.

        Raises:
            EmergencyHalted: The emergency control is shut down.
            WorkflowDefinitionError: A handler or an input is missing.
            StoreError: The emergency state cannot be read.
        """
        await self.infra.emergency.assert_can_operate()
        await super().initialize()

    async def execute(self) -> dict[str, Any]:
        """Execute the workflow; return the result.

        A block that fails is in the result, and the status is "completed_with_errors".

        Raises:
            EmergencyHalted: Trading is halted.
            RiskLimitExceeded: A risk limit was exceeded in a block, or before one.
            WorkflowDefinitionError: It cannot be executed; see `initialize`.
            StoreError: It could not be recorded.
            BaseException: What a gate (`hooks.guarding`) has refused it with.

        When this is cancelled, the block at work is cancelled, and the status is "cancelled".
        """
        return await self._perform(await self._new_run())

    async def get_execution_history(self, limit: int = 10) -> list[dict[str, Any]]:
        """Return the last executions of the workflow, the newest first.

        Args:
            limit: How many at most.

        Raises:
            StoreError: They cannot be read.
        """
        rows = await self.infra.store.runs(
            workflow_id=self.workflow_id, kind="workflow", limit=limit
        )
        return [{"execution_id": row.run_id, "status": row.status} for row in rows]

    async def _perform(self, run: ExecutionRun) -> dict[str, Any]:
        try:
            return await super()._perform(run)
        finally:
            await self._flush()

    async def _flush(self) -> None:
        try:
            await self.infra.events.flush(self._flush_timeout)
        except Exception as error:  # noqa: BLE001 (see `_publish`)
            logger.warning("events may not have been handled yet: %s", error)

    async def _recording(self, execution: Execution) -> Recording:
        return ExecutionJournal.on(self.infra)

    async def _may_begin(self, run: ExecutionRun) -> None:
        if self._takes_risk_away():
            await self.infra.emergency.assert_can_operate()
        else:
            await self.infra.emergency.assert_can_run()

    async def _admit(self, block: Block, run: ExecutionRun) -> str | None:
        effect = self.effect_of(block)
        if effect == "none" and run.may_begin:  # it would read the same once more
            return None
        try:
            await self.infra.emergency.admit(effect)
        except EmergencyHalted as error:
            if error.state is not EmergencyState.REDUCING:
                raise
            return words(error)  # an exit may follow
        return None

    async def _may_retry(self, block: Block, run: ExecutionRun) -> None:
        await self._may_begin(run)

    async def _may_end(self, run: ExecutionRun) -> None:
        await self._may_begin(run)

    async def _publish(self, event: Event) -> None:
        try:
            await self.infra.events.publish(WORKFLOW_EVENTS, event)
        except Exception as error:  # noqa: BLE001 (what is recorded stays so, whoever is not told)
            logger.warning("event %d was not published: %s", event["seq"], error)

    async def _guarded(self, block: Block, call: Callable[[], Awaitable[Any]]) -> Any:
        if block.category != "providers":
            return await call()
        return await self.infra.breaker(dependency_of(block)).call(call)

    def _retry_of(self, block: Block) -> Retry | None:
        return self._retry if block.category == "providers" else None

    def _timeout_of(self, block: Block) -> float:
        return block.timeout or float(self.infra.config.resilience.node_timeout)

    def _takes_risk_away(self) -> bool:
        """Return whether it may begin under a halt, block by block as each is let through."""
        blocks = self.definition.blocks
        effects = [self.effect_of(block) for block in blocks]
        cancels = any(block.category == "actions" and block.type == "cancel" for block in blocks)
        return "increase" not in effects and (cancels or "reduce" in effects)


def dependency_of(block: Block) -> str:
    """Return the name of what a provider calls: all that call it share one breaker.

    `properties.dependency` says it; else it is the type, such as a venue, and the profile. A type
    that names no venue is told apart by the host of its `url` or `endpoint`, or by the block.
    """
    facts = {name: one for name, one in block.properties.items() if one and isinstance(one, str)}
    if "dependency" in facts:
        return facts["dependency"]
    if "profile_id" in facts:
        return f"{block.type}:{facts['profile_id']}"
    if block.type not in _GENERAL:
        return block.type
    host = urlsplit(facts.get("url") or facts.get("endpoint") or "").hostname
    return f"{block.type}:{host or block.id}"
