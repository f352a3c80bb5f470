"""The way of a flow whose run is kept: as any other, but each step of it is stored.

The engine's side of durable runs. What keeps a run stands above: see `durable`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pocketflow_async.copying import fresh
from pocketflow_async.hooks import Hooks, Step, active, admit_async
from pocketflow_async.limits import limits_of
from pocketflow_async.nodes import AsyncNode, BaseNode, kind_of, name_of
from pocketflow_async.threads import run_sync


class Place(Protocol):
    """Where a kept run is in one of its flows."""

    resumed: bool
    """Whether the run goes on in this flow, whose prep was done before."""
    prepared: Any
    """What that prep returned."""

    def begin(self, flow: Any, shares: dict[str, Any], prepared: Any) -> tuple[Any, Any]:
        """Return the node to begin at, None: all are done; and the action of the last one.

        *shares*, the params for the nodes, are made what they were.
        """

    async def visit(self, node: Any, original: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        """Let `call()` run *node*, the copy of *original*, and return its action."""

    async def moved(self, following: Any, action: Any) -> None:
        """Store that a node is done, and which comes next; None: none does."""


class Keeper(Protocol):
    """Keeps one run of a flow, and of the flows inside it."""

    def enter(self, flow: Any) -> Place | None:
        """Return where the run is in *flow*; None: *flow* is no part of it that is kept."""


def place_of(flow: Any, hooks: Hooks | None, own: Any) -> Place | None:
    """Return where a kept run is in *flow*; None: it is not kept, or as a whole.

    A batch flow, and one that does not go its way by the method *own*, is one step.
    """
    if hooks is None or hooks.keeper is None or flow._pf_batched:
        return None
    if getattr(flow._orch_async, "__func__", None) is not own:
        return None
    return hooks.keeper.enter(flow)


async def follow(flow: Any, place: Place, shared: Any, prepared: Any) -> Any:
    """Go from node to node as `AsyncFlow._orch_async` does; store each step."""
    shares = {**flow.params}
    hooks = active()
    limits = limits_of(name_of(flow), flow._pf_options)
    original, action = place.begin(flow, shares, prepared)
    while original is not None and (isinstance(original, BaseNode) or original):
        node = fresh(original)
        limits.before(node, shares)
        with Step(kind_of(node), name_of(node), node, shared, hooks) as step:
            await admit_async(step, hooks)
            step.result = action = await place.visit(node, original, _call(node, shared))
        limits.done(node, action, shares)
        original = flow.get_next_node(node, action)
        await place.moved(original, action)
    return action


def _call(node: Any, shared: Any) -> Callable[[], Awaitable[Any]]:
    def call() -> Awaitable[Any]:
        if isinstance(node, AsyncNode):
            return node._run_async(shared)
        return run_sync(node, shared)

    return call
