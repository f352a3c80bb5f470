"""A workflow as a node of a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from pocketflow_async.nodes import AsyncNode
from pocketflow_async.workflow.spec import Workflow

Inputs: TypeAlias = Sequence[str] | Mapping[str, str] | Callable[[Any], Mapping[str, Any]]


class WorkflowNode(AsyncNode[dict[str, Any], Any, Any]):
    """A node of a flow that runs a workflow and puts the results of its nodes into `shared`.

    A node of the workflow that fails makes this node's exec fail, so its retries run the workflow
    again, and its fallback answers for it. Override `post_async` to choose an action by the result.

    Args:
        workflow: A built workflow or its builder, which is then built now.
        inputs: What the workflow gets of `shared`: names of keys; keys by name of the input; or a
            function of `shared`. None: all keys that are texts.
        into: Key of `shared` that gets the results by node; None: none does.
        runtime: What runs it, an `AsyncLocalRuntime`; None: one of its own for each run, which is
            closed after it.
        max_retries: Total number of attempts.
        wait: Seconds between them.
        **given: The other options of `AsyncNode`.

    Raises:
        TypeError: Something is of a wrong type.
        WorkflowValidationError: The builder's workflow is wrong.
    """

    def __init__(
        self,
        workflow: Any,
        *,
        inputs: Inputs | None = None,
        into: str | None = "results",
        runtime: Any = None,
        max_retries: int = 1,
        wait: float = 0,
        **given: Any,
    ) -> None:
        super().__init__(max_retries, wait, **given)
        if not isinstance(workflow, Workflow) and callable(getattr(workflow, "build", None)):
            workflow = workflow.build()
        if not isinstance(workflow, Workflow):
            raise TypeError(f"a workflow or its builder is needed, not {workflow!r:.80}")
        if runtime is not None and not hasattr(runtime, "execute_workflow_async"):
            raise TypeError(f"runtime has no execute_workflow_async: {runtime!r:.80}")
        if isinstance(inputs, str) or not (
            inputs is None or callable(inputs) or isinstance(inputs, Mapping | Sequence)
        ):
            raise TypeError(f"inputs must be names, a dict or a function, not {inputs!r:.80}")
        self.workflow = workflow
        self.inputs = inputs
        self.into = into
        self.runtime = runtime

    async def prep_async(self, shared: Any) -> dict[str, Any]:
        """Return the inputs of the workflow.

        Raises:
            KeyError: `shared` lacks one of the named keys.
            TypeError: `shared` is no dict, and nothing says how to read it.
        """
        inputs = self.inputs
        if inputs is not None and callable(inputs):
            return dict(inputs(shared))
        if not isinstance(shared, Mapping):
            raise TypeError(
                f"shared is {type(shared).__name__} and no dict: say with inputs=, a function of "
                "it, what the workflow gets"
            )
        if inputs is None:
            return {key: value for key, value in shared.items() if isinstance(key, str)}
        keys = inputs if isinstance(inputs, Mapping) else {name: name for name in inputs}
        return {name: shared[key] for name, key in keys.items()}

    async def exec_async(self, prep_res: dict[str, Any]) -> Any:
        """Run the workflow; return the `RunResult`.

        Raises:
            WorkflowExecutionError: A node of it failed.
        """
        if self.runtime is not None:
            return await self.runtime.execute_workflow_async(
                self.workflow, prep_res, on_error="raise"
            )
        from pocketflow_async.runtime import (  # noqa: PLC0415 (loaded when it is used)
            AsyncLocalRuntime,
        )

        async with AsyncLocalRuntime() as runtime:
            return await runtime.execute_workflow_async(self.workflow, prep_res, on_error="raise")

    async def post_async(self, shared: Any, prep_res: dict[str, Any], exec_res: Any) -> Any:
        """Put the results into `shared`; go on with the default action."""
        if self.into is not None:
            shared[self.into] = exec_res["results"]
