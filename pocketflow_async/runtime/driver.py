"""One run of a workflow: starts what the scheduler hands out, and cleans up after itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pocketflow_async.clock import clock
from pocketflow_async.hooks import Step, active, admit_async
from pocketflow_async.runtime import visits
from pocketflow_async.runtime.context import NodeContext, Registry, Resources, here
from pocketflow_async.runtime.deadlines import Deadlines, WorkflowTimeoutError
from pocketflow_async.runtime.events import (
    Event,
    NodeFailed,
    NodeFinished,
    NodeReady,
    NodeSkipped,
    NodeStarted,
)
from pocketflow_async.runtime.once import Readers
from pocketflow_async.runtime.pool import Pool
from pocketflow_async.runtime.prepared import Planned, Prepared
from pocketflow_async.runtime.results import ExecutionMetrics, RunResult, in_words
from pocketflow_async.runtime.slots import Slots
from pocketflow_async.workflow.errors import WorkflowExecutionError
from pocketflow_async.workflow.ports import take
from pocketflow_async.workflow.run_inputs import is_for_one
from pocketflow_async.workflow.scheduler import Scheduler
from pocketflow_async.workflow.spec import Workflow

if TYPE_CHECKING:
    from pocketflow_async.runtime.async_local import AsyncLocalRuntime


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What is to be run, and within what.

    Attributes:
        workflow: The workflow.
        prepared: What was found out about it.
        inputs: Inputs of the run.
        run_id: Its id.
        registries: Where its resources come from, the first that knows one.
        slots: How many nodes may be at work.
        pool: Threads for its synchronous nodes.
        runtime: Runs workflows that its nodes start.
        emit: Told what happens; None: nobody is.
        timeout: Seconds that it may take; None: any number.
        fail_fast: Whether the first node that fails ends it.
        with_metrics: Whether the result says how it went.
    """

    workflow: Workflow
    prepared: Prepared
    inputs: Mapping[str, Any]
    run_id: str
    registries: tuple[Registry, ...]
    slots: Slots
    pool: Pool
    runtime: AsyncLocalRuntime
    emit: Callable[[Event], None] | None = None
    timeout: float | None = None
    fail_fast: bool = False
    with_metrics: bool = True


class Run:
    """The state of one run; made on the event loop that it runs on.

    Args:
        job: What is to be run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.run_id = job.run_id
        self.registries = job.registries
        self.emit = job.emit
        self.hooks = active()
        self.now = clock().monotonic
        self.scheduler = Scheduler(job.prepared.plan)
        self.loop = asyncio.get_running_loop()
        self.share = job.slots.share(self._start)
        self.threads = job.pool.slots.share(self._got_thread)
        self.deadlines = Deadlines(self.loop)
        self.common, self.own = _split(job.inputs, job.workflow, job.prepared)
        self.values: dict[str, Any] = {}
        self.errors: dict[str, BaseException] = {}
        self.handled: dict[str, BaseException] = {}
        self.skipped: dict[str, str] = {}
        self.durations: dict[str, float] = {}
        self.waits: dict[str, float] = {}
        self.resources = Resources(job.registries)
        self.steps: dict[str, Step] = {}
        self.failure: WorkflowExecutionError | None = None
        self.readers = Readers()
        self.retries = 0
        self._since: dict[str, float] = {}  # when what waits for a slot was ready
        self._tasks: dict[asyncio.Task[None], Planned] = {}
        self._active = 0  # nodes that were handed out and have not ended
        self._peak = 0
        self._fatal: BaseException | None = None
        self._done: asyncio.Future[None] = self.loop.create_future()
        self._context: Context = copy_context()
        self.is_stopping = False
        self._began = self.now()

    async def go(self) -> RunResult:
        """Run to the end; return what has come of it, also where nodes have failed.

        Raises:
            WorkflowTimeoutError: It took too long; what was at work was cancelled.
            BaseException: A gate has refused the run.
        """
        workflow = self.job.workflow
        step = Step("workflow", workflow.name, workflow, self.job.inputs, self.hooks)
        try:
            with step:
                await admit_async(step, self.hooks)
                self._context = copy_context()
                if self.registries:
                    self._context.run(self.resources.offer)
                await self._all_nodes()
                step.result = self.values
                if self.errors:  # said to who watches; whether the caller gets it is decided there
                    self.failure = failed(self.errors)
                    raise self.failure from next(iter(self.errors.values()))
        except WorkflowExecutionError as error:
            if error is not self.failure:
                raise
        return self._result()

    async def _all_nodes(self) -> None:
        limit = self.job.timeout
        try:
            async with asyncio.timeout(limit) as timeout:
                try:
                    self._ready(self.scheduler.start())
                    if self._active:
                        await self._done
                finally:
                    await self._stop()
        except TimeoutError as error:
            if limit is None or not timeout.expired():
                raise
            late = WorkflowTimeoutError(self.job.workflow.name, limit)
            late.result = self._result()
            raise late from error
        if self._fatal is not None:
            raise self._fatal

    # A node: handed out, it waits for a slot (in a thread: for the thread first), then has a task.

    def _ready(self, ids: Iterable[str]) -> None:
        nodes, emit = self.job.prepared.nodes, self.emit
        for node_id in ids:
            node = nodes[node_id]
            self._active += 1
            if emit is not None:
                emit(NodeReady(node_id, self.elapsed()))
            if node.is_async:
                if self.share.ask(node):
                    self._start(node)
                    continue
            elif self.threads.ask(node):
                self._got_thread(node)
                continue
            self._since[node_id] = self.now()

    def _got_thread(self, node: Planned) -> None:
        if self.is_stopping:
            return
        if self.share.ask(node):
            self._start(node)
        else:
            self._since.setdefault(node.id, self.now())

    def _start(self, node: Planned) -> None:
        if self.is_stopping:
            return
        task = self.loop.create_task(self._work(node), name=node.id, context=self._context.copy())
        self._tasks[task] = node
        task.add_done_callback(self._gone)
        if self.share.held > self._peak:
            self._peak = self.share.held

    async def _work(self, node: Planned) -> None:
        """Run a node in its own task, from its slot to its end."""
        context = NodeContext(self, node.id, node.is_async)
        here.set(context)  # the context is the task's own: nothing to reset
        began = self.now()
        since = self._since.pop(node.id, None) if self._since else None
        waited = 0.0 if since is None else began - since
        self.waits[node.id] = waited
        if self.emit is not None:
            self.emit(NodeStarted(node.id, waited, self.elapsed()))
        value: Any = None
        error: BaseException | None = None
        try:
            if self.hooks is None and node.is_plain:
                value = await visits.attempt(
                    self, node, self.readers.claim(node, self.inputs_of(node)), context
                )
            else:
                value = await visits.visit(self, node, context, waited)
        except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 (the node's result)
            error = raised
        context.end()
        if self.is_stopping:
            return
        self.durations[node.id] = seconds = self.now() - began
        if context.holds:  # before its dependants ask for one
            self._release(node)
        if error is None:
            self._finished(node, value, seconds)
        else:
            self._failed(node, error, seconds)

    def _gone(self, task: asyncio.Task[None]) -> None:
        """Note the end of a task; the last one ends the run."""
        node = self._tasks.pop(task)
        if task.cancelled():
            if not self.is_stopping:  # somebody has cancelled it before it began
                self._release(node)
                self._failed(node, asyncio.CancelledError(), 0.0)
        elif (error := task.exception()) is not None:
            error.add_note(f"raised by node {node.id!r} of workflow {self.job.workflow.name!r}")
            self._fatal = self._fatal or error
            self._wake()
        if not self._active and not self._tasks:
            self._wake()

    def _release(self, node: Planned) -> None:
        self.share.release()
        if not node.is_async:
            self.threads.release()

    def inputs_of(self, node: Planned) -> dict[str, Any]:
        """Return the inputs of *node*: the run's, its own ones of the run, what its edges bring."""
        names = node.names
        if names is None:
            inputs = self.common.copy()
        else:
            inputs = {name: value for name, value in self.common.items() if name in names}
        if self.own and node.id in self.own:
            inputs.update(self.own[node.id])
        values = self.values
        for source, output, wrapped, is_key, name in node.edges:
            if source in values:  # else it was skipped, and the node can do without
                value = values[source]
                if is_key and type(value) is dict and output in value:
                    value = value[output]  # what `take` would find, without the call
                elif output is not None:
                    value = take(value, output, wrapped=wrapped, node_id=source)
                inputs[name] = value
        return inputs

    def _finished(self, node: Planned, value: Any, seconds: float) -> None:
        node_id = node.id
        self._active -= 1
        if value is visits.SKIPPED:
            follows = self.scheduler.skip(node_id)
            self._skip(node_id, visits.NOT_MET)
            for skipped in self._after_needs(follows.skipped):
                self._skip_dependant(skipped, "was skipped")
            self._ready(follows.ready)
            return
        self.values[node_id] = value
        if self.emit is not None:
            self.emit(NodeFinished(node_id, value, seconds, self.elapsed()))
        ready = self.scheduler.finish(node_id)
        if ready:
            self._ready(ready)

    def _failed(self, node: Planned, error: BaseException, seconds: float) -> None:
        self.errors[node.id] = error
        self._active -= 1
        if self.emit is not None:
            self.emit(NodeFailed(node.id, error, seconds, self.elapsed()))
        for skipped in self._after_needs(self.scheduler.fail(node.id)):
            self._skip_dependant(skipped, "failed")
        if self.job.fail_fast:
            self._wake()

    def _after_needs(self, ids: tuple[str, ...]) -> Iterable[str]:
        """Return *ids* so that each has something to link to, if somebody watches."""
        ranks = self.scheduler.plan.ranks
        return ids if self.hooks is None else sorted(ids, key=ranks.__getitem__)

    def _skip_dependant(self, node_id: str, why: str) -> None:
        reason = f"it needs {self.scheduler.because[node_id]!r}, which {why}"
        if self.hooks is not None:
            self._context.run(visits.show_skipped, self, node_id, reason)
        self._skip(node_id, reason)

    def _skip(self, node_id: str, reason: str) -> None:
        self.skipped[node_id] = reason
        if self.emit is not None:
            self.emit(NodeSkipped(node_id, reason, self.elapsed()))

    def _wake(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    async def _stop(self) -> None:
        """Cancel what is still at work and wait for it, however often we are told to hurry.

        Each task is cancelled once: what it does to clean up is not to be interrupted.
        """
        self.is_stopping = True
        self.share.drop()
        self.threads.drop()
        told: asyncio.CancelledError | None = None
        try:
            for task in self._tasks:
                task.cancel()
            while pending := [task for task in self._tasks if not task.done()]:
                try:
                    await asyncio.wait(pending)
                except asyncio.CancelledError as error:
                    told = error
        finally:
            self.share.leave()
            self.threads.leave()
            self.deadlines.close()
        if told is not None:
            raise told

    async def execute_within(self, workflow: Workflow, inputs: Mapping[str, Any]) -> RunResult:
        """Run *workflow* on the same runtime, with the same resources."""
        return await self.job.runtime.execute_within(workflow, inputs, self.registries)

    @property
    def runtime(self) -> AsyncLocalRuntime:
        """The runtime that it is a run of."""
        return self.job.runtime

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return self.now() - self._began

    def _result(self) -> RunResult:
        values, aliases = self.values, self.job.workflow.aliases
        places = self.scheduler.plan.places  # whoever ended first: in the order added
        results = {node_id: values[node_id] for node_id in places if node_id in values}
        results.update({alias: values[real] for alias, real in aliases.items() if real in values})
        result = RunResult(
            results=results,
            errors={
                node_id: in_words(error, with_file=True) for node_id, error in self.errors.items()
            },
            skipped=self.skipped,
            status="failed" if self.errors else "success",
            total_duration=self.elapsed(),
            workflow_id=self.run_id,
            execution_times=self.durations,
            exceptions=self.errors,
            handled=self.handled,
        )
        if self.job.with_metrics:
            result["metrics"] = ExecutionMetrics(
                total_duration=result["total_duration"],
                node_durations=self.durations,
                waiting_times=self.waits,
                concurrent_executions=self._peak,
                resource_access_count=self.resources.accesses,
                resource_wait_seconds=self.resources.waits,
                error_count=len(self.errors),
                retry_count=self.retries,
            )
        return result


def failed(errors: Mapping[str, BaseException]) -> WorkflowExecutionError:
    """Return the error about a run in which these nodes have failed."""
    node_id, error = next(iter(errors.items()))
    more = f" (and {len(errors) - 1} more failed)" if len(errors) > 1 else ""
    return WorkflowExecutionError(f"node {node_id!r} failed: {in_words(error)}{more}")


def _split(
    inputs: Mapping[str, Any], workflow: Workflow, prepared: Prepared
) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """Return the inputs for all nodes, and those for single ones by id."""
    common: dict[str, Any] = {}
    own: dict[str, Mapping[str, Any]] = {}
    for name, value in inputs.items():
        node_id = workflow.aliases.get(name, name)
        if (node := prepared.nodes.get(node_id)) is not None and is_for_one(
            value, name, node.spec, (edge[-1] for edge in node.edges)
        ):
            own[node_id] = value
        else:
            common[name] = value
    return common, own
