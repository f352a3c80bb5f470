"""What a node may ask for while it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from pocketflow_async.clock import clock
from pocketflow_async.resources.current import enter
from pocketflow_async.resources.uses import meter

if TYPE_CHECKING:
    from pocketflow_async.resources.leases import Lease
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
    resources: Resources
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

    __slots__ = ("_guests", "_leases", "holds", "is_async", "is_over", "node_id", "run")

    def __init__(self, run: Around, node_id: str, is_async: bool) -> None:
        self.run = run
        self.node_id = node_id
        self.is_async = is_async
        self.holds = True
        """Whether it has its slot; it lends that to runs inside it."""
        self.is_over = False
        """Whether the node has ended; a task that it has left behind may still have this."""
        self._guests = 0
        self._leases: list[Lease] | None = None

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
        return self.run.resources.has_factory(name)

    async def get_resource(self, name: str) -> Any:
        """Return a shared resource; from the runtime's registry, or else the workflow's.

        It stays open until the node has ended, even if it is replaced meanwhile.

        Raises:
            LookupError: There is none of that name.
        """
        resources = self.run.resources
        registry = resources.registry_of(name)
        if registry is None:
            raise LookupError(
                f"node {self.node_id!r}: there is no resource {name!r}; register it in the "
                "ResourceRegistry of the workflow or of the runtime"
            )
        now = clock().monotonic
        began = now()
        try:
            return await self._lent(registry, name)
        finally:
            resources.accessed(name, now() - began)

    async def _lent(self, registry: Any, name: str) -> Any:
        lease_of = getattr(registry, "lease", None)
        if lease_of is None or self.is_over:  # what the node has left behind gives nothing back
            return await registry.get_resource(name)
        lease: Lease = lease_of(name)
        resource = await lease.take()
        self._keep(lease, resource)
        return resource

    def _keep(self, lease: Lease, resource: Any) -> None:
        """Have *lease* given back when the node ends."""
        leases = self._leases
        if self.is_over or (leases and any(other.is_of(resource) for other in leases)):
            lease.release()
        elif leases is None:
            self._leases = [lease]
        else:
            leases.append(lease)

    def end(self) -> None:
        """Note that the node has ended; it gives back what it has used."""
        self.is_over = True
        leases = self._leases
        if leases is not None:
            self._leases = None
            for lease in leases:
                lease.release()

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


class Resources:
    """The resources of a run, and how they were used.

    Args:
        registries: Where they come from, the first that knows one.

    Attributes:
        accesses: How often each was asked for.
        waits: Seconds that nodes have waited for each, and for parts of it.
    """

    def __init__(self, registries: tuple[Registry, ...]) -> None:
        self._registries = registries
        self.accesses: dict[str, int] = {}
        self.waits: dict[str, float] = {}

    def offer(self) -> None:
        """Let all code in this context find them, and add up its waits for them."""
        enter(self)
        meter(self.waited)

    def registry_of(self, name: str) -> Registry | None:
        """Return where the resource *name* comes from."""
        for registry in self._registries:
            if registry.has_factory(name):
                return registry
        return None

    def has_factory(self, name: str) -> bool:
        """Return whether there is a resource *name*."""
        return self.registry_of(name) is not None

    def list_resources(self) -> set[str]:
        """Return the names of the resources that are known."""
        listed = (getattr(registry, "list_resources", set) for registry in self._registries)
        return {name for names in listed for name in names()}

    async def get_resource(self, name: str) -> Any:
        """Return a resource, as the node at work gets it if it is one of this run.

        Raises:
            LookupError: There is none of that name.
        """
        node = here.get()
        if node is not None and node.run.resources is self:
            return await node.get_resource(name)
        registry = self.registry_of(name)
        if registry is None:
            raise LookupError(f"there is no resource {name!r}")
        return await registry.get_resource(name)

    def accessed(self, name: str, seconds: float) -> None:
        """Note that a resource was asked for, and came after *seconds*."""
        self.accesses[name] = self.accesses.get(name, 0) + 1
        self.waited(name, seconds)

    def waited(self, name: str, seconds: float) -> None:
        """Note that a node had to wait for a resource, or for a part of it."""
        self.waits[name] = self.waits.get(name, 0.0) + seconds


here: ContextVar[NodeContext | None] = ContextVar("workflow_node", default=None)
"""The node at work in this context."""
