"""The synchronous door: runs a workflow from code that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from typing import Any, TypeVar

from pocketflow_async.runtime.async_local import AsyncLocalRuntime, given_to_run, unknown_option
from pocketflow_async.runtime.results import RunResult, in_words
from pocketflow_async.workflow.errors import WorkflowError

T = TypeVar("T")


class LocalRuntime:
    """Runs workflows from synchronous code, each on an event loop of its own.

    It may be used from several threads at once. Where an event loop runs in this thread already, as
    in a notebook, the workflow runs in another thread, and that loop stands still meanwhile: in
    asynchronous code, use `AsyncLocalRuntime`.

    Args:
        resource_registry: Where resources come from.
        max_concurrency: How many nodes may be at work at a time.
        debug: Accepted, and without effect; metrics are always there.
        enable_cycles: Accepted, and without effect: workflows have no circles.
        thread_pool_size: How many synchronous nodes may be at work at a time.
        execution_timeout: Seconds that a run may take; None: any number.
        **ignored: Other options are ignored, with a warning.
    """

    def __init__(
        self,
        resource_registry: Any = None,
        max_concurrency: int = 10,
        debug: bool = False,
        enable_cycles: bool = False,
        thread_pool_size: int = 4,
        execution_timeout: float | None = None,
        **ignored: Any,
    ) -> None:
        for name in ignored:
            warnings.warn(unknown_option(type(self), name), stacklevel=2)
        self.debug = debug
        self._runtime = AsyncLocalRuntime(
            resource_registry,
            max_concurrency,
            thread_pool_size=thread_pool_size,
            execution_timeout=execution_timeout,
        )

    def execute(
        self,
        workflow: Any,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any], str]:
        """Run a workflow; return what its nodes have yielded, by id, and the id of the run.

        Args:
            workflow: A built workflow, or a builder.
            parameters: Inputs of the run: for all nodes, or for single ones by their ids.
            inputs: The same; it goes first where both have a name.

        Raises:
            WorkflowValidationError: The workflow cannot run as it is.
            WorkflowExecutionError: A node failed.
        """
        given = _merged(parameters, inputs)
        result = _run(lambda: self._execute(workflow, given, "raise"))
        return result["results"], result.run_id

    def execute_workflow(
        self,
        workflow: Any,
        inputs: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run a workflow; return `{"status": …, "results": …, "error": …}`, also when it fails.

        `status` is "success" or "failed"; `error` says in words what went wrong first, or is None.

        Args:
            workflow: A built workflow, or a builder.
            inputs: Inputs of the run: for all nodes, or for single ones by their ids.
            parameters: The same; what is in `inputs` goes first.
        """
        given = _merged(parameters, inputs)
        try:
            result = _run(lambda: self._execute(workflow, given, "return"))
        except (WorkflowError, TypeError, ValueError) as error:
            return {"status": "failed", "results": {}, "error": in_words(error)}
        first = next(iter(result["errors"].items()), None)
        error_text = None if first is None else f"node {first[0]!r} failed: {first[1]}"
        return {"status": result["status"], "results": result["results"], "error": error_text}

    def close(self) -> None:
        """Let the threads go and clean up the registry; it can be used again."""
        _run(self._runtime.cleanup)

    cleanup = close

    def __enter__(self) -> LocalRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _execute(self, workflow: Any, given: Mapping[str, Any], on_error: Any) -> RunResult:
        return await self._runtime.execute_workflow_async(workflow, given, on_error=on_error)


def _merged(
    parameters: Mapping[str, Any] | None, inputs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return both, and of what both have for one node the parts of both."""
    merged = dict(given_to_run(parameters))
    for name, value in given_to_run(inputs).items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = {**before, **value}
        merged[name] = value
    return merged


def _run(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that *make* makes on a new loop, in another thread if need be."""
    if not _is_loop_running():  # not within `except`: what is raised would tell of that too
        return asyncio.run(make())
    found: list[T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(make()))
        except BaseException as error:  # noqa: BLE001 (raised again where it was asked for)
            raised.append(error)

    thread = threading.Thread(target=copy_context().run, args=(work,), name="workflow-run")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
