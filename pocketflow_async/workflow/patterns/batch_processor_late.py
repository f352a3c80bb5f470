"""What a batch needs that is processed when no run is there any more."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from contextvars import Context as Variables
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

from pocketflow_async.workflow.spec import Context


class LateBatch(NamedTuple):
    """What a batch came to that no run was there for."""

    processed_count: int
    results: list[Any]
    flush_reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """What is left of a run that has added items.

    Attributes:
        inputs: Its inputs, but for the items.
        run_id: Its id.
        node_id: Id of the node.
        resources: Its resources; None: it has none.
        variables: The context variables of its node.
    """

    inputs: Mapping[str, Any]
    run_id: str
    node_id: str
    resources: Any
    variables: Variables

    @classmethod
    def of(cls, inputs: Mapping[str, Any], context: Context) -> Late:
        """Return what is to be kept of the run that *context* is of, here; not the run itself."""
        from pocketflow_async.runtime.context import here  # noqa: PLC0415 (it is above us)

        variables = copy_context()
        variables.run(here.set, None)  # the node, which has all of its run
        resources = getattr(getattr(context, "run", None), "resources", None)
        return cls(inputs, context.run_id, context.node_id, resources, variables)


class LateContext:
    """The context of a node whose run is over; its resources are leased while it is entered.

    Args:
        late: What is left of the run.
    """

    def __init__(self, late: Late) -> None:
        self.run_id = late.run_id
        self.node_id = late.node_id
        self._resources = late.resources
        self._leases = AsyncExitStack()

    async def __aenter__(self) -> LateContext:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leases.aclose()

    def has_resource(self, name: str) -> bool:
        """Return whether `get_resource` knows *name*."""
        return self._resources is not None and bool(self._resources.has_factory(name))

    async def get_resource(self, name: str) -> Any:
        """Return a shared resource.

        Raises:
            LookupError: There is none of that name.
        """
        if not self.has_resource(name):
            raise LookupError(f"node {self.node_id!r}: there is no resource {name!r}")
        registry = self._resources.registry_of(name)
        lease = getattr(registry, "lease", None)
        if lease is None:
            return await registry.get_resource(name)
        return await self._leases.enter_async_context(lease(name))
