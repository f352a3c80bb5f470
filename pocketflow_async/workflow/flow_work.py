"""Nodes and flows of the engine, and whole workflows, as nodes of a workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pocketflow_async.copying import fresh
from pocketflow_async.flows import Flow
from pocketflow_async.hooks import active
from pocketflow_async.nodes import AsyncNode, BaseNode, name_of, visit, visit_async
from pocketflow_async.workflow.errors import PortError, WorkflowError
from pocketflow_async.workflow.spec import Context, Port, Ports, Workflow


class NodeWork:
    """A node or flow of the engine as the work of a node.

    It runs on a fresh copy, with the inputs as a `shared` of its own. What it yields is that
    `shared` as the run has left it, so a port is a key of it. A node without a `post` of its own
    writes nothing there: it yields what its exec returned.

    Args:
        node: The node or flow; its own retries and fallbacks stay in force.
        outputs: Names of the keys of `shared` to yield; None: all.

    Raises:
        TypeError: It is no node, or one with successors, which nobody would run.
    """

    def __init__(self, node: BaseNode[Any, Any, Any], outputs: Sequence[str] | None = None) -> None:
        if not isinstance(node, BaseNode):
            raise TypeError(f"a node or a flow is needed, not {node!r}")
        if node.successors:
            raise TypeError(
                f"{name_of(node)} has successors, and a node of a workflow runs alone: "
                "add the flow that starts at it, AsyncFlow(start=…)"
            )
        self.node = node
        self._outputs = None if outputs is None else tuple(outputs)
        self._keeps_exec = outputs is None and not isinstance(node, Flow) and not _writes(node)

    def __repr__(self) -> str:
        return f"<NodeWork {name_of(self.node)}>"

    @property
    def is_async(self) -> bool:
        """Whether the node is asynchronous."""
        return isinstance(self.node, AsyncNode)

    @property
    def outputs(self) -> Ports:
        """The keys that it yields, if they were named."""
        if self._outputs is None:
            return Ports()
        return Ports({name: Port(name) for name in self._outputs}, open=False)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Run the node with *inputs* as its `shared`; return, or await, what it yields.

        Raises:
            PortError: It was said to yield a key that it has not written.
        """
        shared = dict(inputs)
        node = fresh(self.node)
        node.params = dict(node.params)
        kept = node._pf_kept = list[Any]()  # the copy is this run's own
        if self.is_async:
            return self._run_async(node, shared, kept, context)
        visit(node, shared, active())
        return self._yielded(shared, kept, context)

    async def _run_async(
        self, node: Any, shared: dict[str, Any], kept: list[Any], context: Context
    ) -> Any:
        await visit_async(node, shared, active())
        return self._yielded(shared, kept, context)

    def _yielded(self, shared: dict[str, Any], kept: list[Any], context: Context) -> Any:
        if self._keeps_exec and kept:
            return kept[0]
        if self._outputs is None:
            return shared
        missing = [name for name in self._outputs if name not in shared]
        if missing:
            raise PortError(
                f"node {context.node_id!r}: {name_of(self.node)} has not written "
                f"{', '.join(map(repr, missing))} to shared; there is: "
                f"{', '.join(map(repr, shared)) or 'nothing'}"
            )
        return {name: shared[name] for name in self._outputs}


def _writes(node: BaseNode[Any, Any, Any]) -> bool:
    """Return whether the class of *node* has phases of its own that may write to `shared`."""
    cls = type(node)
    if cls._run is not BaseNode._run and cls._run is not AsyncNode._run:
        return True  # it does everything its own way
    if isinstance(node, AsyncNode):
        own: Any = cls
        return (own.post_async, own._run_async) != (AsyncNode.post_async, AsyncNode._run_async)
    return cls.post is not BaseNode.post


class WorkflowWork:
    """A built workflow as the work of a node; it yields the results of its nodes by their ids.

    Args:
        workflow: The workflow; a run of it is part of the run around it.
    """

    is_async = True

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow

    def __repr__(self) -> str:
        return f"<WorkflowWork {self.workflow.name}>"

    @property
    def outputs(self) -> Ports:
        """The ids of its nodes, and their other names."""
        names = [*self.workflow.nodes, *self.workflow.aliases]
        return Ports({name: Port(name) for name in names}, open=False)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Run the workflow with *inputs*; return the results by node.

        Raises:
            WorkflowExecutionError: A node of it failed.
        """
        result = await self._execute(inputs, context)
        results: Mapping[str, Any] = result["results"]
        named = {
            alias: results[node_id]
            for alias, node_id in self.workflow.aliases.items()
            if node_id in results
        }
        return {**named, **results}

    async def _execute(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        # A runtime that can run a workflow within a run says so; it knows its own limits.
        within = getattr(context, "execute_workflow", None)
        if within is not None:
            found: Mapping[str, Any] = await within(self.workflow, inputs)
            return found
        try:
            from pocketflow_async.runtime import (  # noqa: PLC0415 (loaded when it is used)
                AsyncLocalRuntime,
            )
        except ImportError as error:
            raise WorkflowError("there is no runtime to run a workflow with") from error
        async with AsyncLocalRuntime(resource_registry=_Borrowed(context)) as runtime:
            return await runtime.execute_workflow_async(self.workflow, inputs, on_error="raise")


class _Borrowed:
    """The resources of the run around it, which owns and closes them."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def has_factory(self, name: str) -> bool:
        """Return whether the run around it knows *name*."""
        known = getattr(self._context, "has_resource", None)
        return bool(known(name)) if known is not None else False

    has_resource = has_factory

    async def get_resource(self, name: str) -> Any:
        """Return a resource of the run around it."""
        return await self._context.get_resource(name)

    async def cleanup(self) -> None:
        """Leave everything to its owner."""
