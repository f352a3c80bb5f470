"""What a node may ask for while it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pocketflow_async.runtime.results import RunResult
    from pocketflow_async.runtime.slots import Share
    from pocketflow_async.workflow.spec import Workflow


class Registry(Protocol):
    """Where shared resources come from."""

    async def get_resource(self, name: str) -> Any:
        """Return the resource *name*, made now if need be."""

    def has_factory(self, name: str) -> bool:
        """Return whether there is a resource *name*."""


class Around(Protocol):
    """The run that a node is part of, as far as its context needs it."""

    run_id: str
    registries: tuple[Registry, ...]
    accesses: dict[str, int]
    share: Share

    @property
    def runtime(self) -> object:
        """The runtime that it is a run of."""

    async def execute_within(self, workflow: Workflow, inputs: Mapping[str, Any]) -> RunResult:
        """Run *workflow* on the same runtime."""


class NodeContext:
    """What a node may ask for while it runs.

    Attributes:
        run: The run.
        node_id: Id of the node.
        is_async: Whether the node is at work on the event loop, and not in a thread.
    """

    __slots__ = ("_guests", "holds", "is_async", "is_over", "node_id", "run")

    def __init__(self, run: Around, node_id: str, is_async: bool) -> None:
        self.run = run
        self.node_id = node_id
        self.is_async = is_async
        self.holds = True
        """Whether it has its slot; it lends that to runs inside it."""
        self.is_over = False
        """Whether the node has ended; a task that it has left behind may still have this."""
        self._guests = 0

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.run.run_id

    @property
    def runtime(self) -> object:
        """The runtime at work."""
        return self.run.runtime

    def has_resource(self, name: str) -> bool:
        """Return whether `get_resource` knows *name*."""
        return any(registry.has_factory(name) for registry in self.run.registries)

    async def get_resource(self, name: str) -> Any:
        """Return a shared resource; from the runtime's registry, or else the workflow's.

        Raises:
            LookupError: There is none of that name.
        """
        for registry in self.run.registries:
            if registry.has_factory(name):
                accesses = self.run.accesses
                accesses[name] = accesses.get(name, 0) + 1
                return await registry.get_resource(name)
        raise LookupError(
            f"node {self.node_id!r}: there is no resource {name!r}; register it in the "
            "ResourceRegistry of the workflow or of the runtime"
        )

    async def execute_workflow(self, workflow: Workflow, inputs: Mapping[str, Any]) -> RunResult:
        """Run *workflow* as part of this node, within the same limits.

        Raises:
            WorkflowExecutionError: A node of it failed.
        """
        return await self.run.execute_within(workflow, inputs)

    @asynccontextmanager
    async def lending(self) -> AsyncGenerator[None, None]:
        """Lend the node's slot to a run inside it, which could wait for it for ever otherwise."""
        share = self.run.share
        self._guests += 1
        if self.holds and not self.is_over:
            self.holds = False
            share.release()
        try:
            yield
        finally:
            self._guests -= 1
            if not self._guests and not self.is_over:
                self.holds = await share.take()
                self._settle()

    def _settle(self) -> None:
        """Give back what has come when the node had ended."""
        if self.holds and self.is_over:
            self.holds = False
            self.run.share.release()


here: ContextVar[NodeContext | None] = ContextVar("workflow_node", default=None)
"""The node at work in this context."""
