"""Executes JSON workflows: blocks one after another, in the order of their data."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pocketflow_async.infrastructure.emergency_states import EmergencyHalted
from pocketflow_async.infrastructure.events.stamp import uuid7
from pocketflow_async.workflow.block_values import MissingInputError, OutputError
from pocketflow_async.workflow.blocks_trading import BUILT_IN
from pocketflow_async.workflow.definition import (
    DEFAULT_TIMEOUT,
    Block,
    OnRestart,
    RiskEffect,
    WorkflowDefinitionError,
    check_name,
)
from pocketflow_async.workflow.dialects import NaturalPorts, define
from pocketflow_async.workflow.execution import ExecutionRun, logger
from pocketflow_async.workflow.execution_events import words
from pocketflow_async.workflow.node_handlers import (
    BlockContext,
    BlockWork,
    Handler,
    HandlerRegistry,
    handler,
    handlers,
    here,
    register_handler,
)
from pocketflow_async.workflow.recording import NOT_RECORDED, Event, Execution, Past, Recording

if TYPE_CHECKING:
    from pocketflow_async.resilience.retry import Retry

__all__ = [
    "BlockContext",
    "HandlerRegistry",
    "MissingInputError",
    "NoHandlerError",
    "OutputError",
    "WorkflowExecutor",
    "handler",
    "handlers",
    "register_handler",
]

LARGEST_OUTPUT: Final = 10_000_000


class NoHandlerError(WorkflowDefinitionError):
    """Raised when there is no handler for a type of blocks; names all of them."""


async def _nothing(*_: Any) -> None:
    """Stand for the work of a block that has none."""


def _new_id() -> str:
    # In the order of time: what is stored of executions lies side by side then, in few pages.
    return uuid7().replace("-", "")


_UNKNOWN: Final = BlockWork(_nothing, optional=None)
"""Stands for the handler where a method that executes a category was replaced."""


class WorkflowExecutor:
    """Executes one workflow, any number of times, also at once.

    Blocks run one after another, each after those that it has its inputs from, else in the order
    in which they stand. A block whose input is missing fails, and one that needs a block that
    failed is skipped: nothing is ever read as 0 or False. Independent blocks go on. An action whose
    input `signal` is false is skipped, too: its handler is not called. (The actions that are built
    in are, and say that they do nothing.)

    Args:
        workflow: A dict `{"blocks": […], "connections": […]}`, or JSON text.
        handlers: Handlers for this executor alone, asked before those that were registered: a
            registry, or functions by category or (category, type).
        max_output_bytes: How much JSON one block may yield.
        new_id: Returns a new hexadecimal id.
        clock: Returns seconds since the epoch.

    Attributes:
        workflow: What it was given.
        definition: The graph that it means.
        providers: The handlers of its providers, by id of the block; once it is initialized.
        execution_order: Ids of the blocks as they are executed; once it is initialized.
        node_outputs: What blocks have yielded in the execution that began last.
        execution_id: The id of that; None: there was none.
        start_time: When that began, in seconds since the epoch.

    Raises:
        WorkflowDefinitionError: It is no workflow; a ValueError that names all that is wrong.
    """

    has_events: ClassVar[bool] = False
    _record_waits: bool = False
    infra: Any = None
    workflow_id: str = "workflow"
    bot_id: str | None = None
    strategy_id: str | None = None

    def __init__(
        self,
        workflow: Mapping[str, Any] | str | bytes,
        *,
        handlers: HandlerRegistry | Mapping[Any, Handler] | None = None,
        max_output_bytes: int = LARGEST_OUTPUT,
        new_id: Callable[[], str] = _new_id,
        clock: Callable[[], float] = time.time,
    ) -> None:
        own = handlers if isinstance(handlers, HandlerRegistry) else HandlerRegistry(handlers)
        self.workflow = workflow
        self.max_output_bytes = max_output_bytes
        self.clock = clock
        self._new_id = new_id
        self._registries = (own, _shared)
        self.definition = define(workflow, self._ports_of)
        self.providers: dict[str, Handler] = {}
        self.execution_order: list[str] = []
        self.node_outputs: dict[str, Any] = {}
        self.execution_id: str | None = None
        self.start_time: float | None = None
        self._runs: list[ExecutionRun] = []
        self._initialized = False

    def __repr__(self) -> str:
        count = len(self.definition.blocks)
        return f"<{type(self).__name__} {self.workflow_id!r}: {count} blocks>"

    @property
    def is_running(self) -> bool:
        """Whether an execution is at work."""
        return bool(self._runs)

    async def initialize(self) -> None:
        """Look whether all blocks have handlers and inputs; `execute` does so if need be.

        Raises:
            NoHandlerError: There is no handler for a type.
            WorkflowDefinitionError: An input that must be there cannot be.
        """
        blocks = self.definition.blocks
        missing = [problem for block in blocks if (problem := self._no_handler(block))]
        if missing:
            raise NoHandlerError(*missing)
        problems = [problem for block in blocks for problem in self._no_input(block)]
        if problems:
            raise WorkflowDefinitionError(*problems)
        works = {block.id: self._work_of(block) for block in blocks}
        mocks = [name for name, work in works.items() if work.is_mock]
        if mocks and not self._initialized:
            logger.warning("these blocks are mocks, which do nothing: %s", ", ".join(mocks))
        self.providers = {
            block.id: works[block.id].run for block in blocks if block.category == "providers"
        }
        self.execution_order = [block.id for block in blocks]
        self._initialized = True

    async def execute(self) -> dict[str, Any]:
        """Execute the workflow; return the result.

        Its `status` is "failed" after an error of its own. A block that fails is no such error: it
        is in the result. When this is cancelled, the block at work is cancelled.

        Raises:
            WorkflowDefinitionError: It cannot be executed; see `initialize`.
            EmergencyHalted: A block or a gate has found that trading is halted.
            BaseException: What a gate (`hooks.guarding`) has refused it with.
        """
        run = await self._new_run()
        try:
            return await self._perform(run)
        except Exception as error:
            if isinstance(error, EmergencyHalted) or error is run.refusal:
                raise
            return {**run.result("failed"), "error": words(error), "error_type": _name_of(error)}

    async def go_on(self, execution: Execution, past: Past, recording: Recording) -> dict[str, Any]:
        """Execute what is left of an execution; return the result of all of it.

        Args:
            execution: Its ids.
            past: What it has done before.
            recording: Keeps its record; is told `resumed` first.

        Raises:
            BaseException: As `EnhancedWorkflowExecutor.execute`.
        """
        if not self._initialized:
            await self.initialize()
        return await self._perform(ExecutionRun(self, execution, recording, past))

    def stop(self) -> None:
        """Let the blocks at work finish, and skip all others; the status is "cancelled" then."""
        for run in self._runs:
            run.stopping = True

    def effect_of(self, block: Block) -> RiskEffect:
        """Return what a block does to the risk, as it says, or its handler, or its kind."""
        said = block.risk_effect or self._work_of(block).risk_effect
        if said is None:
            harmless = block.category != "actions" or block.type in ("cancel", "notify")
            return "none" if harmless else "increase"
        return said

    def restart_of(self, block: Block) -> OnRestart:
        """Return what becomes of a block in which the process died: it runs again, or is asked for.

        Actions are asked for, unless they or their handler say otherwise.
        """
        said = block.on_restart or self._work_of(block).on_restart
        return said or ("reconcile" if block.category == "actions" else "rerun")

    def on_restart(self, node_id: str) -> OnRestart:
        """Return `restart_of` the block of that id."""
        return next(self.restart_of(one) for one in self.definition.blocks if one.id == node_id)

    # --- what executes a block: each may be replaced in a subclass --------------------------------

    async def _execute_node(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return await getattr(self, _METHODS[node["category"]])(node, inputs)

    async def _execute_provider_node(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return await self._handled(node, inputs)

    async def _execute_trigger_node(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return await self._handled(node, inputs)

    async def _execute_condition_node(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return await self._handled(node, inputs)

    async def _execute_action_node(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return await self._handled(node, inputs)

    async def _execute_risk_node(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        return await self._handled(node, inputs)

    async def _handled(self, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
        work = self._find(node["category"], node["type"])
        if work is None:
            raise NoHandlerError(_no_handler_for(node["category"], node["type"]))
        context = here.get() or BlockContext("", self.workflow_id, node["id"], 1, node["id"])
        return await work.do(node, inputs, context)

    # --- what an executor with an infrastructure does differently ---------------------------------

    async def _may_begin(self, run: ExecutionRun) -> None:
        """Raise if the execution must not begin."""

    async def _admit(self, block: Block, run: ExecutionRun) -> str | None:
        """Return why the block is skipped; None: it runs. What this raises ends the execution."""
        return None

    async def _may_retry(self, block: Block, run: ExecutionRun) -> None:
        """Raise if the block must not run again; that ends the execution."""

    async def _may_end(self, run: ExecutionRun) -> None:
        """Raise if the execution, all of whose blocks have run, did not end well."""

    async def _publish(self, event: Event) -> None:
        """Tell of an event."""

    async def _guarded(self, block: Block, call: Callable[[], Awaitable[Any]]) -> Any:
        """Await the attempt of a block."""
        return await call()

    def _retry_of(self, block: Block) -> Retry | None:
        """Return how a block is tried again; None: it is not."""
        return None

    def _timeout_of(self, block: Block) -> float:
        """Return the seconds that an attempt of a block may take."""
        return block.timeout or DEFAULT_TIMEOUT

    async def _recording(self, execution: Execution) -> Recording:
        """Return what keeps the record of an execution."""
        return NOT_RECORDED

    # ----------------------------------------------------------------------------------------------

    async def _new_run(self) -> ExecutionRun:
        if not self._initialized:
            await self.initialize()
        execution = Execution(
            f"exec_{self.workflow_id}_{self._new_id()}",
            check_name("workflow_id", self.workflow_id),
            self.definition.hash,
            self.definition.text,
            self.bot_id,
            self.strategy_id,
        )
        return ExecutionRun(self, execution, await self._recording(execution))

    async def _perform(self, run: ExecutionRun) -> dict[str, Any]:
        self.execution_id, self.start_time = run.execution.execution_id, self.clock()
        self.node_outputs = run.outputs
        self._runs.append(run)
        try:
            return await run.go()
        finally:
            self._runs.remove(run)

    def _find(self, category: str, kind: str) -> BlockWork | None:
        built_in = BUILT_IN.find(category, kind)
        for registry in self._registries:
            if work := registry.find(category, kind):
                return work if built_in is None else work.in_place_of(built_in)
        return built_in

    def _ports_of(self, category: str, kind: str) -> NaturalPorts:
        work = self._find(category, kind)
        return NaturalPorts() if work is None else NaturalPorts(work.ports, work.outputs)

    def _work_of(self, block: Block) -> BlockWork:
        return self._find(block.category, block.type) or _UNKNOWN

    def _replaces(self, name: str) -> bool:
        return getattr(getattr(self, name), "__func__", None) is not _ORIGINALS[name]

    def _foreign_work_of(self, block: Block) -> BlockWork | None:
        """Return what does the work of a block; None: only what is built in does."""
        work = self._work_of(block)
        if self._replaces("_execute_node") or self._replaces(_METHODS[block.category]):
            return work
        return None if work is BUILT_IN.find(block.category, block.type) else work

    def _no_handler(self, block: Block) -> str | None:
        if self._replaces(_METHODS[block.category]):
            return None  # it was replaced: whoever did so knows what to do
        work = self._find(block.category, block.type)
        connects = block.category == "providers" and block.properties.get("profile_id")
        if work is None or (connects and work.is_mock):
            place = f"block {block.id!r:.80}, at {block.pointer}"
            return f"{place}: {_no_handler_for(block.category, block.type)}"
        return None

    def _no_input(self, block: Block) -> list[str]:
        """Return what is wrong with the inputs of a block, as far as that is known by now."""
        work = self._work_of(block)
        there = frozenset(
            name
            for name in work.inputs_of(block)
            if name in block.sources or block.constant(name) is not None
        )
        place = f"block {block.id!r:.80}, at {block.pointer}/inputs: "
        problems = [
            f"{place}the input {name!r} is missing: nothing is connected to it, and it is neither "
            "in properties nor in config"
            for name in sorted(work.needed_by(block) - there)
        ]
        if not problems and work.check is not None and (wrong := work.check(there)):
            problems.append(f"{place}a block of type {block.type!r} {wrong}")
        return problems


_shared: Final = handlers  # the parameter of the executor has the same name
_METHODS: Final = {
    "providers": "_execute_provider_node",
    "triggers": "_execute_trigger_node",
    "conditions": "_execute_condition_node",
    "actions": "_execute_action_node",
    "risk": "_execute_risk_node",
}
_ORIGINALS: Final = {
    name: getattr(WorkflowExecutor, name) for name in ("_execute_node", *_METHODS.values())
}


def _no_handler_for(category: str, kind: str) -> str:
    mark = f"@handler({category!r}, {kind!r:.80})"
    return f"there is no handler for {category} of type {kind!r:.80}: mark a function with {mark}"


def _name_of(error: BaseException) -> str:
    return type(error).__name__
