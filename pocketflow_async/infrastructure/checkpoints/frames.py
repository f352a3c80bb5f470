"""Where a run is in each of the flows that it is in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from pocketflow_async.infrastructure.checkpoints.current import CurrentRun, current
from pocketflow_async.infrastructure.checkpoints.reconciling import reconciled
from pocketflow_async.infrastructure.checkpoints.saved import SavedFrame

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.checkpoints.keeper import Keeper


class Frame:
    """Where the run is in one of its flows.

    Attributes:
        resumed: Whether the run goes on in this flow, whose prep was done before.
        prepared: What that prep returned.
    """

    def __init__(self, keeper: Keeper, depth: int, saved: SavedFrame | None) -> None:
        self.resumed = saved is not None
        self.prepared = None if saved is None else saved.prepared
        self.saved = saved or SavedFrame()
        self.name = ""
        self._keeper = keeper
        self._depth = depth
        self._own: dict[str, Any] = {}
        self._shares: dict[str, Any] = {}

    def begin(self, flow: Any, shares: dict[str, Any], prepared: Any) -> tuple[Any, Any]:
        """Return the node to begin at, None: all are done; and the action of the last one."""
        saved = self.saved
        self._own, self._shares = dict(flow.params), shares
        self.prepared = prepared
        self.name = self._keeper.graph.name(saved.flow)
        if not self.resumed:
            return flow.start_node, None
        shares.update(saved.params)
        node = None if saved.node is None else self._keeper.graph.node(saved.node)
        return node, saved.action

    async def visit(self, node: Any, original: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        """Let `call()` run *node*, the copy of *original*, and return its action.

        Raises:
            NeedsReconciliation: It is not known whether the node has taken effect before.
        """
        keeper, saved = self._keeper, self.saved
        goes_deeper = keeper.goes_deeper
        if not goes_deeper:
            saved.visit = keeper.step
        saved.node = number = keeper.number_of(original, self.name)
        key = f"{keeper.run_id}:{saved.visit}.{number}"
        run = CurrentRun(keeper.run_id, keeper.graph.name(number), key, keeper)
        token = current.set(run)
        try:
            if getattr(node, "on_restart", None) == "reconcile" and not goes_deeper:
                done, action = await reconciled(keeper, node, run)
                if done:
                    keeper.done = run
                    return action
            keeper.expect(node, number)
            action = await call()
        except BaseException:
            keeper.left_at = keeper.left_at or run  # the innermost one comes first
            raise
        finally:
            current.reset(token)
        keeper.done = run
        return action

    async def moved(self, following: Any, action: Any) -> None:
        """Store that a node is done, and which comes next; None: none does.

        Raises:
            CheckpointError: Something that is to be kept cannot be stored.
            LeaseLost: Another process has the run by now.
        """
        keeper, saved = self._keeper, self.saved
        saved.node = None if following is None else keeper.number_of(following, self.name)
        saved.action = action
        await keeper.checkpoint(self._depth, action)

    def to_save(self) -> SavedFrame:
        """Return what is stored of it."""
        saved, own = self.saved, self._own
        saved.prepared = self.prepared
        saved.params = {
            name: value
            for name, value in self._shares.items()
            if name not in own or own[name] is not value
        }
        return saved
