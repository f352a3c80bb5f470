"""One node of a run: its condition, its attempts, what becomes of its error; watched or not."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.clock import clock
from pocketflow_async.hooks import Step, admit_async
from pocketflow_async.runtime.events import NodeRetried
from pocketflow_async.runtime.once import spent
from pocketflow_async.trail import note
from pocketflow_async.workflow.errors import NodeExecutionError

if TYPE_CHECKING:
    from pocketflow_async.runtime.context import NodeContext
    from pocketflow_async.runtime.driver import Run
    from pocketflow_async.runtime.prepared import Planned

SKIPPED: Final = object()
"""Stands for the value of a node that did not run."""
NOT_MET: Final = "its condition is false"
WAITED: Final = "flow.waited_seconds"


async def attempt(run: Run, node: Planned, inputs: dict[str, Any], context: NodeContext) -> Any:
    """Do the work of a node once, within its timeout; return what it yields.

    Raises:
        ExecutionTimeoutError: It took too long.
        NodeExecutionError: It tried to end the process.
        TypeError: It yielded a coroutine.
    """
    try:
        if not node.is_async:
            work = run.job.pool.call(node.run, inputs, context)
        else:
            work = node.run(inputs, context)
        if node.timeout is None:
            value = await work
        else:
            value = await run.deadlines.within(node.timeout, work, node.shown)
    except SystemExit as error:  # it would end the event loop of whoever runs the workflow
        raise NodeExecutionError(f"node {node.id!r}: its code raised {error!r}") from error
    if type(value) is CoroutineType:
        value.close()
        raise TypeError(
            f"node {node.id!r} yielded a coroutine that nobody awaits: await it, or make the "
            "function `async def`"
        )
    return value


async def visit(run: Run, node: Planned, context: NodeContext, waited: float) -> Any:
    """Run a node with all that belongs to it; return what it yields, or `SKIPPED`."""
    hooks, spec = run.hooks, node.spec
    step = Step("node", node.id, spec, run.job.inputs, hooks)
    if hooks is not None:
        _place(run, node, step)
        if waited:
            step.facts = {WAITED: round(waited, 6)}
    with step:
        await admit_async(step, hooks)
        with Step("prep", node.id, spec, run.job.inputs, hooks) as prep:
            prep.result = inputs = run.inputs_of(node)
        if node.condition is not None and not await node.condition.holds(inputs, context):
            step.skipped = NOT_MET
            return SKIPPED
        run.readers.claim(node, inputs)
        step.result = value = await _attempts(run, node, inputs, context)
    return value


def show_skipped(run: Run, node_id: str, reason: str) -> None:
    """Tell those who watch that a node will not run."""
    node = run.job.prepared.nodes[node_id]
    step = Step("node", node_id, node.spec, None, run.hooks)
    step.skipped = reason
    _place(run, node, step)
    with step:
        pass


def _place(run: Run, node: Planned, step: Step) -> None:
    """Say after which others *step* comes."""
    steps = run.steps
    step.after = tuple(steps[source] for source in node.needs if source in steps)
    steps[node.id] = step


async def _attempts(run: Run, node: Planned, inputs: dict[str, Any], context: NodeContext) -> Any:
    policy = node.spec.retry_policy
    limit = 1 if policy is None else policy.max_attempts
    number = 0
    while True:
        step = Step("exec", node.id, node.spec, inputs, run.hooks)
        step.attempts = limit
        if number:
            step.attempt = number
        try:
            with step:
                try:
                    await admit_async(step, run.hooks)
                    step.result = value = await attempt(run, node, dict(inputs), context)
                except Exception as error:
                    step.wait = _wait_after(error, policy, step, node)
                    raise
            return value
        except Exception as error:  # noqa: BLE001 (a retry or the handler decides)
            number += 1
            if step.wait is None:
                note(error, node.spec, node.id, "exec", number, limit)
                return await _handled(run, node, error, step, context)
            run.retries += 1
            if run.emit is not None:
                run.emit(NodeRetried(node.id, number, error, step.wait, run.elapsed()))
            if step.wait > 0:
                await clock().asleep(step.wait)


def _wait_after(error: Exception, policy: Any, step: Step, node: Planned) -> float | None:
    """Return the seconds until the next attempt; None: there is none."""
    if policy is None or step.refusal is error or step.attempt + 1 >= step.attempts:
        return None
    if not policy.is_retried(error):
        return None
    if why := spent(node, step.input):
        error.add_note(why)
        return None
    return float(policy.delay(step.attempt + 1))


async def _handled(
    run: Run, node: Planned, error: Exception, failed: Step, context: NodeContext
) -> Any:
    """Let the error handler answer for the node, unless a gate has refused it.

    Raises:
        Exception: *error* itself, where there is no handler.
    """
    handler = node.spec.error_handler
    if handler is None or failed.refusal is error:
        raise error
    with Step("fallback", node.id, node.spec, failed.input, run.hooks) as step:
        step.attempt, step.attempts = failed.attempt, failed.attempts
        value = await handler.handle(error, node_id=node.id, inputs=failed.input, context=context)
        if node.spec.wrapped and not (isinstance(value, dict) and "result" in value):
            value = {"result": value}
        step.result = value
    run.handled[node.id] = error
    return value
