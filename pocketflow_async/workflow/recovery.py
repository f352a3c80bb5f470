"""Executions of processes that have ended go on, after a restart or in another process.

    infra = await Infrastructure.create("production")
    for recovered in await recover(infra, reconcile=ask_the_venue): ...

What was committed is not done again. What was in flight is done again, or, where doing it twice
does harm (actions, unless they say otherwise), asked for. Many processes may recover at once: each
execution is taken by one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pocketflow_async.infrastructure.emergency_states import EmergencyHalted
from pocketflow_async.infrastructure.journal import LEASE
from pocketflow_async.infrastructure.owners import is_gone
from pocketflow_async.infrastructure.store.errors import StoreError
from pocketflow_async.infrastructure.store.model import RUNNING, RunRow
from pocketflow_async.workflow.continuing import continued
from pocketflow_async.workflow.execution_journal import UNTOLD, ExecutionJournal
from pocketflow_async.workflow.execution_past import InDoubt
from pocketflow_async.workflow.recording import Resumable
from pocketflow_async.workflow.recovery_errors import (
    ExecutionNotFound,
    NeedsReconciliation,
    NotResumable,
    TooManyRecoveries,
    WorkflowDefinitionChanged,
)
from pocketflow_async.workflow.taking_up import NOT_DONE, Reconcile, Taken, tell_last

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.factory import Infrastructure

__all__ = [
    "NOT_DONE",
    "ExecutionNotFound",
    "InDoubt",
    "NeedsReconciliation",
    "NotResumable",
    "Recovered",
    "TooManyRecoveries",
    "WorkflowDefinitionChanged",
    "recover",
    "resume_execution",
]

logger = logging.getLogger(__name__)

HALTED: Final = "halted"
_OVER: Final = frozenset({"completed", "completed_with_errors"})


MakeExecutor: TypeAlias = Callable[[RunRow], Resumable]
"""Makes the executor of an execution of the definition in its row."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What has become of one execution.

    Attributes:
        execution_id: The execution.
        workflow_id: Its workflow.
        status: Its status now; running: nothing was done with it, *error* says why.
        result: What it has come to; None: it has not.
        error: What went wrong, or has it wait.
    """

    execution_id: str
    workflow_id: str
    status: str
    result: dict[str, Any] | None = None
    error: Exception | None = None


async def recover(
    infra: Infrastructure,
    *,
    workflows: Mapping[str, Any] | None = None,
    handlers: Any = None,
    executor: MakeExecutor | None = None,
    reconcile: Reconcile | None = None,
    max_input_age: float | None = None,
    lease: float = LEASE,
    concurrency: int = 8,
    limit: int = 1000,
) -> list[Recovered]:
    """Let all executions go on whose processes have ended; return what has become of them.

    To be called at the start, and now and then: a process on another machine counts as ended only
    when its lease is over. Under a halt nothing goes on; what would have is "halted", and goes on
    by the first call after the halt. An execution that was halted while its caller waited for it
    does so only by `resume_execution`. Executions that another process has, or is quicker to take,
    are left out.

    Args:
        infra: The infrastructure; its halt is obeyed.
        workflows: The present definitions by workflow; an execution that was begun with another
            one is refused. Others go on with the definition that they were begun with.
        handlers: As for `EnhancedWorkflowExecutor`.
        executor: Makes the executors, in place of *handlers* and *max_input_age*.
        reconcile: Tells whether a node in doubt has taken effect; a function, asynchronous or not.
            None: nobody knows.
        max_input_age: Seconds after which what a provider has yielded is fetched again before an
            action; None: never.
        lease: Seconds for which an execution is ours without renewal.
        concurrency: How many go on at the same time.
        limit: How many at most.

    Raises:
        EmergencyHalted: It is shut down.
        StoreError: The store cannot be used.

    When it is cancelled, so are the executions that go on just then.
    """
    make = executor or _maker(infra, workflows or {}, handlers, max_input_age)
    recovery = _Recovery(infra, make, reconcile, lease)
    await recovery.emergency()
    if not infra.store.durable:
        logger.info("the store forgets executions when its process ends: use one that is durable")
    await recovery.tell_untold(limit)
    rows = await _waiting(infra, limit)
    most = asyncio.Semaphore(concurrency)

    async def one(row: RunRow) -> Recovered | None:
        async with most:
            return await recovery.go_on(row)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(row)) for row in rows]
    return [found for task in tasks if (found := task.result()) is not None]


async def resume_execution(
    infra: Infrastructure,
    execution_id: str,
    *,
    workflow: Any = None,
    handlers: Any = None,
    executor: MakeExecutor | None = None,
    reconcile: Reconcile | None = None,
    max_input_age: float | None = None,
    lease: float = LEASE,
) -> dict[str, Any]:
    """Let one execution go on that waits, was halted or cancelled, or failed; return its result.

    Args:
        infra: The infrastructure.
        execution_id: The execution.
        workflow: Its present definition; None: the one that it was begun with.
        handlers: As for `recover`, and so the others.
        executor: Makes the executor.
        reconcile: Tells whether a node in doubt has taken effect.
        max_input_age: Seconds after which a provider's value is too old.
        lease: Seconds for which it is ours without renewal.

    Raises:
        ExecutionNotFound: There is none; a store in memory has forgotten those of other processes.
        NotResumable: It is completed, or another process has it.
        WorkflowDefinitionChanged: It was begun with another definition.
        NeedsReconciliation: Nobody knows whether a node has taken effect.
        BaseException: What `EnhancedWorkflowExecutor.execute` raises.
    """
    row = await infra.store.run(execution_id)
    if row is None or row.kind != "workflow":
        raise ExecutionNotFound(execution_id, infra.store.durable)
    if row.status in _OVER:
        raise NotResumable(execution_id, f"is {row.status}")
    given = {} if workflow is None else {row.workflow_id: workflow}
    make = executor or _maker(infra, given, handlers, max_input_age)
    recovery = _Recovery(infra, make, reconcile, lease)
    await recovery.emergency()
    result = await recovery.resumed(row, any_status=True)
    if result is None:
        raise NotResumable(execution_id, "is at work in another process")
    return result


class _Recovery:
    """What all executions that are recovered together have in common."""

    MOST: Final = 20
    """How often one execution goes on by itself."""

    def __init__(
        self, infra: Infrastructure, make: MakeExecutor, reconcile: Reconcile | None, lease: float
    ) -> None:
        self._infra = infra
        self._make = make
        self._reconcile = reconcile
        self._lease = lease

    async def emergency(self) -> None:
        """Know what holds for all processes."""
        await self._infra.emergency.refresh()
        await self._infra.emergency.assert_can_operate()

    async def go_on(self, row: RunRow) -> Recovered | None:
        """Return what has become of an execution; None: somebody else has it."""
        status, result, failure = RUNNING, None, None
        try:
            result = await self.resumed(row)
            if result is None:
                return None
            status = str(result["status"])
        except Exception as error:  # noqa: BLE001 (it is of this execution, and the others go on)
            logger.warning("execution %s is not recovered: %s", row.run_id, error)
            failure = error
            status = await self._status_of(row)
        return Recovered(row.run_id, row.workflow_id, status, result, failure)

    async def resumed(self, row: RunRow, *, any_status: bool = False) -> dict[str, Any] | None:
        """Let an execution go on; return its result, or None if somebody else has it.

        Raises:
            Exception: It cannot go on, or what it has ended with.
        """
        executor = self._make(row)
        await executor.initialize()
        if executor.definition.hash != row.definition_hash:
            raise WorkflowDefinitionChanged(row.run_id, row.workflow_id)
        try:
            await executor._may_begin(None)
        except EmergencyHalted as halt:
            if row.status == RUNNING:
                await self._halted(row, halt)
            raise
        journal = ExecutionJournal.on(self._infra, self._lease)
        taken = await journal.take(row.run_id)
        if taken is None:
            return None
        with_journal = Taken(self._infra, executor, journal, taken, self._reconcile)
        try:
            if taken.status in _OVER or not (any_status or _is_waiting(taken)):
                await journal.give_back()
                await journal.close()
                return None
            if not any_status and (times := await with_journal.times_resumed()) >= self.MOST:
                raise TooManyRecoveries(row.run_id, times)
            run = await with_journal.prepared()
        except BaseException as error:
            await _given_back(journal, error)
            raise
        return await continued(taken.trace, lambda: executor.go_on(*run))

    async def tell_untold(self, limit: int) -> None:
        """Publish the ends that perhaps nobody was told of, since the process died just then."""
        store = self._infra.store
        for key in (await store.keys(UNTOLD))[:limit]:
            await tell_last(self._infra, await store.run(key.removeprefix(UNTOLD)))
            await store.delete(key)

    async def _halted(self, row: RunRow, halt: EmergencyHalted) -> None:
        """Note that an execution waits for the end of a halt."""
        journal = ExecutionJournal.on(self._infra, self._lease)
        taken = await journal.take(row.run_id)
        if taken is None:
            return
        try:
            if taken.status == RUNNING:
                await journal.wait(HALTED, str(halt))
            else:
                await journal.give_back()
        finally:
            await journal.close()

    async def _status_of(self, row: RunRow) -> str:
        try:
            now = await self._infra.store.run(row.run_id)
        except StoreError:
            now = None
        return row.status if now is None else now.status


async def _waiting(infra: Infrastructure, limit: int) -> list[RunRow]:
    """Return the executions that can go on: nobody has them, and nobody waits for them."""
    found = await infra.store.abandoned(limit)
    ended = [row for row in await infra.store.runs(status=RUNNING, limit=limit) if _is_left(row)]
    halted = await infra.store.runs(status=HALTED, kind="workflow", limit=limit)
    rows = {row.run_id: row for row in [*found, *ended, *halted]}
    return [row for row in rows.values() if row.kind == "workflow" and _is_waiting(row)][:limit]


async def _given_back(journal: ExecutionJournal, error: BaseException) -> None:
    """Let others have an execution that did not go on; else they would wait for the lease."""
    try:
        if isinstance(error, Exception) and not journal.is_released:
            await journal.give_back()
    except StoreError as failure:
        logger.warning("%r is not given back: %s", journal, failure)
    finally:
        await journal.close()


def _is_left(row: RunRow) -> bool:
    return row.owner is not None and is_gone(row.owner)


def _is_waiting(row: RunRow) -> bool:
    # The first claim is that of whoever has begun it, and is told of a halt by an error.
    return row.status == RUNNING or (row.status == HALTED and row.fence > 1)


def _maker(
    infra: Infrastructure,
    workflows: Mapping[str, Any],
    handlers: Any,
    max_input_age: float | None,
) -> MakeExecutor:
    def make(row: RunRow) -> Resumable:
        from pocketflow_async.workflow.enhanced_executor import (  # noqa: PLC0415 (it knows journals)
            EnhancedWorkflowExecutor,
        )

        definition = workflows.get(row.workflow_id, row.definition)
        return EnhancedWorkflowExecutor(
            definition,
            infra,
            row.workflow_id,
            row.bot_id,
            row.strategy_id,
            handlers=handlers,
            max_input_age=max_input_age,
        )

    return make
