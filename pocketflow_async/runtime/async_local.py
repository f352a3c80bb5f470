"""Runs workflows on the event loop of whoever asks: everything that can run, runs."""

from __future__ import annotations

import inspect
import logging
import uuid
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from pocketflow_async.arguments import text, yes_or_no
from pocketflow_async.runtime.context import Registry, here
from pocketflow_async.runtime.driver import Job, Run
from pocketflow_async.runtime.events import Event, RunFinished, RunStarted
from pocketflow_async.runtime.pool import Pool
from pocketflow_async.runtime.prepared import Prepared, prepare
from pocketflow_async.runtime.results import RunResult
from pocketflow_async.runtime.slots import Slots
from pocketflow_async.runtime.works import Closing, Works
from pocketflow_async.workflow.ports import did_you_mean
from pocketflow_async.workflow.spec import Workflow

if TYPE_CHECKING:
    from pocketflow_async.workflow.analysis import Analysis

logger = logging.getLogger("pocketflow_async.runtime")
details = logging.getLogger("pocketflow_async.workflow")  # at level DEBUG: what happens, in order


class AsyncLocalRuntime:
    """Runs workflows; each node starts as soon as its own inputs are there.

    One runtime may run any number of workflows at once, on any number of event loops, one after
    the other or in several threads: its limits hold for all of them together, and each run gets
    its turn. It can be used again after `cleanup`.

    A thread cannot be stopped: when a synchronous node is out of time, or its run is cancelled,
    that takes effect as soon as the thread has come back.

    Args:
        resource_registry: Where resources come from, before the registry of the workflow.
        max_concurrent_nodes: How many nodes may be at work at a time.
        enable_analysis: Whether each run begins with an analysis of what will run in parallel and
            why: in its first event, and in the log `pocketflow_async.runtime` at level INFO.
        enable_profiling: Whether results have `metrics`.
        thread_pool_size: How many synchronous nodes may be at work at a time, each in a thread.
        execution_timeout: Seconds that a run may take; None: any number.
        **ignored: Other options are ignored, with a warning.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        resource_registry: Any = None,
        max_concurrent_nodes: int = 10,
        enable_analysis: bool = True,
        enable_profiling: bool = True,
        thread_pool_size: int = 4,
        execution_timeout: float | None = None,
        **ignored: Any,
    ) -> None:
        for name in ignored:
            warnings.warn(unknown_option(type(self), name), stacklevel=2)
        if resource_registry is not None and not hasattr(resource_registry, "get_resource"):
            raise TypeError(f"resource_registry has no get_resource: {resource_registry!r:.80}")
        self.resource_registry = resource_registry
        self.max_concurrent_nodes = max_concurrent_nodes
        self.enable_analysis = yes_or_no("enable_analysis", enable_analysis)
        self.enable_profiling = yes_or_no("enable_profiling", enable_profiling)
        self.thread_pool_size = thread_pool_size
        self.execution_timeout = _seconds("execution_timeout", execution_timeout)
        self._slots = _slots("max_concurrent_nodes", Slots, max_concurrent_nodes)
        self._pool = _slots("thread_pool_size", Pool, thread_pool_size)
        self._works = Works()

    async def execute_workflow_async(
        self,
        workflow: Any,
        inputs: Mapping[str, Any] | None = None,
        *,
        on_error: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        run_id: str | None = None,
    ) -> RunResult:
        """Run a workflow to its end.

        When a node fails, those that depend on it are skipped, and all others go on.

        Args:
            workflow: A built workflow, or a builder.
            inputs: Inputs for all nodes by name; a dict under the id of a node has inputs for that
                one. But where that node itself takes an input of that very name, which no node is
                connected to, the dict is the value of it.
            on_error: "return": nodes that fail are in the result. "raise": the first one ends the
                run; the others are cancelled and awaited before.
            timeout: Seconds that the run may take; the runtime's `execution_timeout` when left out.
            run_id: Id of the run; a new one when left out.

        Raises:
            WorkflowValidationError: The workflow cannot run as it is, or not with these inputs.
            WorkflowExecutionError: A node failed, with `on_error="raise"`; its attribute `result`
                has what there was by then.
            WorkflowTimeoutError: The run took too long; all that was at work has been cancelled.
        """
        if on_error not in ("return", "raise"):
            raise ValueError(f"on_error is 'return' or 'raise', not {on_error!r:.80}")
        workflow, prepared = _built(workflow)
        registries = self._registries(workflow)
        given = given_to_run(inputs)
        prepared.check_names(workflow, given)
        return await self._run(
            workflow, prepared, given, registries, on_error, timeout, run_id, None
        )

    async def execute_within(
        self, workflow: Any, inputs: Mapping[str, Any], registries: tuple[Registry, ...]
    ) -> RunResult:
        """Run a workflow as part of a node of this runtime, with the resources of its run.

        Raises:
            WorkflowExecutionError: A node of it failed.
        """
        workflow, prepared = _built(workflow)
        known = (*self._registries(workflow), *registries)
        return await self._run(
            workflow, prepared, given_to_run(inputs), known, "raise", None, None, None
        )

    async def stream(
        self,
        workflow: Any,
        inputs: Mapping[str, Any] | None = None,
        *,
        on_error: Literal["return", "raise"] = "return",
        timeout: float | None = None,
        run_id: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run a workflow and yield what happens; the last event has the result.

        Closing the iterator early cancels the run and waits for its end; use it with
        `contextlib.aclosing` where you may leave the loop by `break`. What `execute_workflow_async`
        would raise comes after the last event.

        Args:
            workflow: See `execute_workflow_async`, as for all others.
            inputs: See there.
            on_error: See there.
            timeout: See there.
            run_id: See there.
        """
        from pocketflow_async.runtime.stream import events_of  # noqa: PLC0415 (few want them)

        workflow, prepared = _built(workflow)
        registries, given = self._registries(workflow), given_to_run(inputs)
        prepared.check_names(workflow, given)

        async def run(emit: Callable[[Event], None]) -> None:
            await self._run(workflow, prepared, given, registries, on_error, timeout, run_id, emit)

        async with events_of(run) as events:
            async for event in events:
                yield event

    def analyze(self, workflow: Any) -> Analysis:
        """Return what of a workflow can run in parallel, its critical path, and why."""
        return self._analysis(_built(workflow)[0])

    async def cleanup(self) -> None:
        """Let the threads go and clean up the runtime's own registry, however often it is called.

        Before that, nodes that hold something back, such as a batch that is not full, process it.
        Runs that are under way go on.

        Raises:
            NodeExecutionError: A node could not process what it has held back; it is kept, and all
                else is cleaned up.
        """
        try:
            await self._works.close()
        finally:
            self._pool.close()
            cleanup = getattr(self.resource_registry, "cleanup", None)
            if cleanup is not None:
                done = cleanup()
                if inspect.isawaitable(done):
                    await done

    close = cleanup

    def close_later(self, work: Closing) -> None:
        """Let `cleanup` close *work*, which is not kept alive for that."""
        self._works.add(work)

    async def __aenter__(self) -> AsyncLocalRuntime:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await self.cleanup()
        except Exception:
            if error is None:
                raise
            logger.exception("the cleanup failed; what the block raised is raised")

    def _registries(self, workflow: Workflow) -> tuple[Registry, ...]:
        found = (self.resource_registry, workflow.resource_registry)
        return tuple(registry for registry in found if registry is not None)

    async def _run(
        self,
        workflow: Workflow,
        prepared: Prepared,
        given: Mapping[str, Any],
        registries: tuple[Registry, ...],
        on_error: str,
        timeout: float | None,
        run_id: str | None,
        emit: Callable[[Event], None] | None,
    ) -> RunResult:
        if run_id is not None:
            text("run_id", run_id)
        prepared.check(workflow, _with_resources(given, registries))
        lent, pool = self._borrowed()
        if details.isEnabledFor(logging.DEBUG):
            emit = _logged(emit)
        job = Job(
            workflow,
            prepared,
            given,
            run_id or str(uuid.uuid4()),
            registries,
            self._slots,
            pool,
            self,
            emit,
            self.execution_timeout if timeout is None else _seconds("timeout", timeout),
            on_error == "raise",
            self.enable_profiling,
        )
        self._announce(job)
        try:
            async with lent:
                run = Run(job)
                result = await run.go()
        finally:
            if pool is not self._pool:
                pool.close()
        if on_error == "raise" and run.failure is not None:
            run.failure.result = result  # type: ignore[attr-defined]  # for who catches it
            raise run.failure
        if emit is not None:
            emit(RunFinished(result, run.elapsed()))
        return result

    def _borrowed(self) -> tuple[AbstractAsyncContextManager[None], Pool]:
        """Return what a run inside a node of this runtime takes over from it, and its threads."""
        around = here.get()
        if around is None or around.runtime is not self:
            return nullcontext(), self._pool
        # A thread that waits for other threads of the same pool could wait for ever.
        return around.lending(), self._pool if around.is_async else Pool(self.thread_pool_size)

    def _analysis(self, workflow: Workflow) -> Analysis:
        from pocketflow_async.workflow.analysis import analyze  # noqa: PLC0415 (few want it)

        return analyze(
            workflow,
            max_concurrent_nodes=self.max_concurrent_nodes,
            thread_pool_size=self.thread_pool_size,
        )

    def _announce(self, job: Job) -> None:
        """Say what will run in parallel, before it does."""
        analysis = None
        is_heard = logger.isEnabledFor(logging.INFO)
        if self.enable_analysis and (is_heard or job.emit is not None):
            analysis = self._analysis(job.workflow)
            logger.info("run %s of workflow %s\n%s", job.run_id, job.workflow.name, analysis)
        if job.emit is not None:
            job.emit(RunStarted(job.run_id, job.workflow, analysis))


def unknown_option(runtime: type, name: str) -> str:
    """Return the warning about an option that *runtime* does not have."""
    known = list(inspect.signature(runtime).parameters)
    return f"{runtime.__name__} has no option {name!r}: ignored{did_you_mean(name, known)}"


def _built(workflow: Any) -> tuple[Workflow, Prepared]:
    """Return *workflow*, built if it is a builder, and what runs need of it."""
    if not isinstance(workflow, Workflow):
        build = getattr(workflow, "build", None)
        made = build() if callable(build) and not isinstance(workflow, type) else None
        if not isinstance(made, Workflow):
            raise TypeError(f"this is no workflow and no builder of one: {workflow!r:.80}")
        workflow = made
    return workflow, prepare(workflow)


def given_to_run(inputs: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the inputs of a run, or none of them.

    Raises:
        TypeError: They are no values by name.
    """
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise TypeError(f"the inputs of a run are a dict of values by name, not {inputs!r:.100}")
    for name in inputs:
        if not isinstance(name, str):
            raise TypeError(f"the inputs of a run have names; {name!r:.100} is none")
    return inputs


def _with_resources(
    given: Mapping[str, Any], registries: tuple[Registry, ...]
) -> Mapping[str, Any]:
    """Return *given* and the names of the resources: a node may use either by name."""
    names: dict[str, Any] = {}
    for registry in registries:
        listed = getattr(registry, "list_resources", None)
        if listed is not None:
            names.update(dict.fromkeys(listed()))
    return {**names, **given} if names else given


def _logged(emit: Callable[[Event], None] | None) -> Callable[[Event], None]:
    def log(event: Event) -> None:  # no values: they may be secret, or long
        what = f"{type(event).__name__} {getattr(event, 'node_id', '')}".rstrip()
        details.debug("%s at %.6f s", what, event.at)
        if emit is not None:
            emit(event)

    return log


def _seconds(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds or None, not {value!r:.80}")
    if not value > 0:
        raise ValueError(f"{name} is more than 0 seconds, not {value!r}")
    return value


def _slots(name: str, make: Callable[[int], Any], value: int) -> Any:
    try:
        return make(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
