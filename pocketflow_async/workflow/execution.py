"""One execution of a JSON workflow: block after block, each recorded before its events are told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pocketflow_async.clock import clock
from pocketflow_async.hooks import Step, active, admit_async
from pocketflow_async.infrastructure.emergency_states import EmergencyHalted
from pocketflow_async.infrastructure.logging_context import bound_context
from pocketflow_async.infrastructure.risk import RiskLimitExceeded
from pocketflow_async.infrastructure.store.errors import LeaseLost, StoreError
from pocketflow_async.resilience.retry_after import wait_asked_for
from pocketflow_async.trail import note
from pocketflow_async.workflow.block_values import inputs_of, kept
from pocketflow_async.workflow.definition import Block
from pocketflow_async.workflow.errors import NodeExecutionError, WorkflowExecutionError
from pocketflow_async.workflow.execution_events import ExecutionEvents, about, shown, words
from pocketflow_async.workflow.execution_record import ExecutionRecord
from pocketflow_async.workflow.execution_result import result_of
from pocketflow_async.workflow.node_handlers import BlockContext, here, within
from pocketflow_async.workflow.plain_json import to_json
from pocketflow_async.workflow.recording import NOT_RECORDED, Event, Execution, Past, Recording
from pocketflow_async.workflow.skipping import hindrance

if TYPE_CHECKING:
    from pocketflow_async.resilience.retry import Retry
    from pocketflow_async.workflow.executor import WorkflowExecutor

logger = logging.getLogger("pocketflow_async.workflow.executor")

T = TypeVar("T")

STOPPED: Final = "the execution was stopped"
_ENDING: Final = (EmergencyHalted, RiskLimitExceeded)
"""What ends the execution, whichever block raises it."""


class ExecutionRun:
    """The state of one execution.

    Args:
        executor: What executes it, with all that base and enhanced executor do differently.
        execution: Its ids.
        recording: Keeps its record.
        past: What it has done before; None: it begins.
    """

    def __init__(
        self,
        executor: WorkflowExecutor,
        execution: Execution,
        recording: Recording = NOT_RECORDED,
        past: Past | None = None,
    ) -> None:
        before = past or Past()
        self.execution = execution
        self.is_new = past is None
        self.outputs: dict[str, Any] = dict(before.outputs)
        self.errors: dict[str, dict[str, str]] = {
            name: dict(error) for name, error in before.errors.items()
        }
        self.skipped: dict[str, str] = dict(before.skipped)
        self.stopping = False
        self.may_begin = False
        """Whether it was asked just now if this may begin, and nothing was awaited since."""
        self.refusal: BaseException | None = None
        """What a gate, the emergency control or the record has ended it with."""
        self._executor = executor
        self._recording = recording
        self._durations: dict[str, float] = dict(before.durations)
        self._attempts = dict(before.attempts)
        self._events = ExecutionEvents(execution, before.seq, executor.clock)
        self._record = ExecutionRecord(recording, executor._publish, waits=executor._record_waits)
        self._hooks = active()
        self._steps: dict[str, Step] = {}
        self._now = clock().monotonic
        self._began = self._now()

    async def go(self) -> dict[str, Any]:
        """Execute to the end; return the result.

        When it is cancelled, what is being recorded is recorded first, and then that it ends so.

        Raises:
            EmergencyHalted: The emergency control has halted it.
            RiskLimitExceeded: A risk limit was exceeded in it.
            StoreError: It could not be recorded; what had not been recorded was not done.
            BaseException: A gate has refused it.
        """
        definition = self._executor.definition
        run, name = self.execution, definition.name or self.execution.workflow_id
        ids = {"correlation_id": run.execution_id, "execution_id": run.execution_id}
        step = Step("workflow", name, definition, None, self._hooks)
        step.after, step.facts = (), self._facts()
        failed: WorkflowExecutionError | None = None
        try:
            with bound_context(**ids, workflow_id=run.workflow_id), step:
                result = await self._recorded(step)
                step.result = self.outputs
                if self.errors:  # said to who watches; the caller gets a result
                    failed = WorkflowExecutionError(
                        f"these blocks failed: {', '.join(self.errors)}"
                    )
                    raise failed
        except WorkflowExecutionError as error:
            if error is not failed:
                raise
        finally:
            failed = None
        return result

    def result(self, status: str) -> dict[str, Any]:
        """Return what there is by now, as the result of an execution that ended with *status*."""
        blocks = self._executor.definition.blocks
        return result_of(self, status, self._since(self._began), self._durations, blocks)

    # --- the execution ----------------------------------------------------------------------------

    async def _recorded(self, step: Step) -> dict[str, Any]:
        try:
            await self._begin()
            try:
                await self._blocks(step)
            except asyncio.CancelledError:
                await self._give_up("cancelled", {"reason": "its task was cancelled"})
                raise
            except LeaseLost:  # another process has it, and tells of it
                raise
            except EmergencyHalted as error:
                await self._give_up("halted", {"reason": error.reason}, words(error))
                raise
            except Exception as error:
                await self._give_up("failed", about(error), words(error))
                raise
            if self.stopping:
                return await self._end("cancelled", {"reason": STOPPED}, STOPPED)
            status = "completed_with_errors" if self.errors else "completed"
            duration = self._since(self._began)
            return await self._end(status, {"status": status, "duration_ms": duration})
        finally:
            await self._close()

    async def _begin(self) -> None:
        count = len(self._executor.definition.blocks)
        kind = "execution_started" if self.is_new else "execution_resumed"
        events = self._made(kind, node_count=count)
        if self.is_new:
            await self._record.note(self._recording.started(self.execution, events), events)
        else:
            await self._keep(self._recording.resumed(self.execution, events), events)
        logger.info("execution %s: %d blocks", self.execution.execution_id, count)

    async def _blocks(self, step: Step) -> None:
        await self._gates(step)
        await self._ask(step, self._executor._may_begin(self))
        self.may_begin = True
        for block in self._executor.definition.blocks:
            if block.id in self.outputs or block.id in self.errors or block.id in self.skipped:
                continue  # it did so before
            foreign = self._executor._foreign_work_of(block)
            hindered = hindrance(block, foreign, self.outputs, self.errors, self.skipped)
            reason = STOPPED if self.stopping else hindered
            if reason is None:
                await self._visit(block)
            else:
                await self._skip(block, reason)
        await self._ask(step, self._executor._may_end(self))

    async def _give_up(self, status: str, said: Mapping[str, Any], error: str = "") -> None:
        """Record and tell that it ends early; if that fails too, the first error counts."""
        if self._record.is_broken:  # it is to be taken up by whoever can
            logger.error("the end of execution %s is not recorded", self.execution.execution_id)
            return
        try:
            await self._end(status, said, error or str(said.get("reason")))
        except Exception:
            logger.exception("the end of execution %s is not recorded", self.execution.execution_id)

    async def _close(self) -> None:
        try:
            await self._recording.close()
        except StoreError as error:  # how it has ended is recorded already, or an error told
            logger.warning("execution %s: %s", self.execution.execution_id, error)

    async def _end(
        self, status: str, said: Mapping[str, Any], error: str | None = None
    ) -> dict[str, Any]:
        kind = status.removesuffix("_with_errors")
        events = self._made(f"execution_{kind}", **said)
        result = self.result(status)
        content = to_json(result).encode()
        await self._keep(self._recording.finished(status, content, error, events), events)
        level = logging.INFO if status == "completed" else logging.WARNING
        what = "execution %s: %s after %.1f ms"
        logger.log(level, what, self.execution.execution_id, status, result["duration"])
        return result

    # --- a block ----------------------------------------------------------------------------------

    async def _visit(self, block: Block) -> None:
        step, began = self._step(block), self._now()
        try:
            with bound_context(node_id=block.id), step:
                step.skipped = await self._admitted(block, step)
                if step.skipped is None:
                    value = await self._yielded(block)
                    text, step.result = kept(block, value, self._executor.max_output_bytes)
        except Exception as error:
            if error is self.refusal or isinstance(error, EmergencyHalted):
                raise
            await self._failed(block, error)
            if isinstance(error, _ENDING):
                raise
            return
        if step.skipped is None:
            await self._completed(block, text, step.result, self._since(began))
        else:
            await self._not_run(block, step.skipped)

    async def _admitted(self, block: Block, step: Step) -> str | None:
        """Return why a block must not run, though others may; None: it may run."""
        await self._gates(step)
        if self._attempts and self._executor.effect_of(block) != "none":
            await self._ask(None, self._record.flush())
            await asyncio.sleep(0)  # whoever is told of it may halt
        reason = await self._ask(step, self._executor._admit(block, self))
        begun = self._attempts.get(block.id) if reason else None
        return f"{reason}. Attempt {begun} had begun before" if begun else reason

    async def _yielded(self, block: Block) -> Any:
        number = self._attempts.get(block.id, 0) + 1
        await self._intend(block, number, self._told("node_started", block))
        with Step("prep", block.id, block, None, self._hooks) as prep:
            prep.result = inputs = inputs_of(block, self._executor._work_of(block), self.outputs)
        return await self._tried(block, inputs, number)

    async def _completed(self, block: Block, text: str, output: Any, duration: float) -> None:
        more = {"duration_ms": duration, "status": "success", "outputs": shown(output, len(text))}
        events = self._told("node_completed", block, **more)
        attempt, key = self._attempts[block.id], self.key_of(block)
        note = self._recording.completed(block.id, attempt, key, text.encode(), events)
        self.outputs[block.id] = output
        self._durations[block.id] = duration
        await self._record.note(note, events)

    async def _failed(self, block: Block, error: Exception) -> None:
        logger.warning("block %r failed: %s: %s", block.id, type(error).__name__, words(error))
        events = self._told("node_failed", block, **about(error))
        row = {"nodeId": block.id, **about(error)}
        attempt, key = self._attempts.get(block.id, 0), self.key_of(block)
        self.errors[block.id] = row
        await self._record.note(self._recording.failed(block.id, attempt, key, row, events), events)

    async def _skip(self, block: Block, reason: str) -> None:
        step = self._step(block)
        step.skipped = reason
        with step:
            pass
        await self._not_run(block, reason)

    async def _not_run(self, block: Block, reason: str) -> None:
        events = self._told("node_skipped", block, reason=reason)
        self.skipped[block.id] = reason
        await self._record.note(self._recording.skipped(block.id, reason, events), events)

    async def _tried(self, block: Block, inputs: dict[str, Any], number: int) -> Any:
        """Make attempts until one succeeds, or none is to follow; return what it yields."""
        retry = self._executor._retry_of(block)
        made = 0
        while True:
            step = Step("exec", block.id, block, inputs, self._hooks)
            step.attempt = made
            step.attempts = 1 if retry is None else retry.attempts or 0
            try:
                with step:
                    try:
                        await self._gates(step)
                        step.result = value = await self._attempt(block, inputs, number)
                    except Exception as error:
                        step.wait = self._wait_after(error, retry, made + 1)
                        raise
                return value
            except Exception as error:
                if step.wait is None:
                    note(error, block, block.id, "exec", made + 1, step.attempts)
                    raise
                said = about(error)
            made, number = made + 1, number + 1
            said.update(attempt=number - 1, wait=step.wait)
            await self._again(block, number, step.wait, said)

    async def _again(self, block: Block, number: int, wait: float, said: dict[str, Any]) -> None:
        """Wait for the next attempt, unless there must not be one any more."""
        await self._ask(None, self._executor._may_retry(block, self))
        await self._intend(block, number, self._told("node_retrying", block, **said))
        if wait > 0:
            await clock().asleep(wait)
            await self._ask(None, self._executor._may_retry(block, self))
            await self._ask(None, self._recording.still_ours())

    def _wait_after(self, error: Exception, retry: Retry | None, made: int) -> float | None:
        """Return the seconds until the next attempt; None: there is none."""
        if retry is None or error is self.refusal or isinstance(error, _ENDING):
            return None
        if made >= (retry.attempts or 0) or not retry.is_retried(error):
            return None
        asked = wait_asked_for(error) or 0.0
        return None if asked > retry.patience else max(retry.delay(made), asked)

    async def _attempt(self, block: Block, inputs: dict[str, Any], number: int) -> Any:
        run, executor = self.execution, self._executor
        context = BlockContext(
            run.execution_id,
            run.workflow_id,
            block.id,
            number,
            self.key_of(block),
            run.bot_id,
            run.strategy_id,
            executor.infra,
        )
        token = here.set(context)
        try:
            call = partial(executor._execute_node, block.node(), deepcopy(inputs))
            limited = partial(within, executor._timeout_of(block), block.id, call)
            return await executor._guarded(block, limited)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            what = f"block {block.id!r}: something that it awaits was cancelled"
            raise NodeExecutionError(what) from error  # it alone, and not the execution
        except SystemExit as error:  # it would end the event loop of whoever executes it
            raise NodeExecutionError(f"block {block.id!r}: its code raised {error!r}") from error
        finally:
            here.reset(token)

    def key_of(self, block: Block) -> str:
        """Return the idempotency key of a block: the same for all its attempts."""
        return f"{self.execution.execution_id}:{block.id}"

    # --- who is asked and told --------------------------------------------------------------------

    def _facts(self) -> dict[str, str]:
        """Return what a trace is to know of the execution."""
        names = ("execution_id", "workflow_id", "bot_id", "strategy_id")
        ids = {name: getattr(self.execution, name) for name in names}
        return {f"flow.{name}": one for name, one in ids.items() if one is not None}

    def _step(self, block: Block) -> Step:
        step = Step("node", block.id, block, None, self._hooks)
        if self._hooks is not None:
            steps = self._steps
            step.after = tuple(steps[need] for need in block.needs if need in steps)
            steps[block.id] = step
        return step

    async def _gates(self, step: Step) -> None:
        """Await the gates, which may take their time."""
        if self._hooks is not None and self._hooks.gates:
            await self._ask(None, self._record.flush())
            self.may_begin = False
            await self._ask(step, admit_async(step, self._hooks))

    async def _ask(self, step: Step | None, question: Awaitable[T]) -> T:
        """Await somebody's leave; what they raise ends the execution."""
        try:
            return await question
        except Exception as error:
            self.refusal = error
            if step is not None:
                step.refusal = error
            raise

    async def _intend(self, block: Block, number: int, events: Sequence[Event]) -> None:
        self.may_begin = False
        keep = self._recording.intent(block.id, number, self.key_of(block), events)
        await self._keep(keep, events)
        await self._ask(None, self._recording.still_ours())  # to tell of it may have taken long
        self._attempts[block.id] = number
        logger.debug("block %r: attempt %d, key %s", block.id, number, self.key_of(block))

    def _made(self, kind: str, **more: Any) -> list[Event]:
        return [self._events.make(kind, **more)] if self._executor.has_events else []

    def _told(self, kind: str, block: Block, **more: Any) -> list[Event]:
        return [self._events.of_block(kind, block, **more)] if self._executor.has_events else []

    async def _keep(self, writing: Coroutine[Any, Any, None], events: Sequence[Event]) -> None:
        await self._ask(None, self._record.keep(writing, events))

    def _since(self, began: float) -> float:
        return round((self._now() - began) * 1000, 3)
