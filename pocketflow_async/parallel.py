"""Different nodes side by side: `fetch >> parallel(news, prices, weather) >> join`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pocketflow_async.copying import fresh
from pocketflow_async.defaults import PLAIN, choose
from pocketflow_async.flows import AsyncFlow
from pocketflow_async.hooks import Hooks, Step, active, admit_async
from pocketflow_async.nodes import AsyncNode, BaseNode, fan_out, kind_of, name_of
from pocketflow_async.scatter import scatter
from pocketflow_async.threads import run_sync
from pocketflow_async.trail import note, passing


class Parallel(AsyncNode[None, dict[str, Any]]):
    """A node that runs its branches at once; made by `parallel` or by `a >> [b, c]`.

    Attributes:
        branches: The branches by name, in order. Equal names are told apart: "News", "News #2".
        into: Key of `shared` under which the results are stored too, or None.
    """

    _pf_keywords: ClassVar[str] = "BranchKeywords"
    _pf_holds: ClassVar[bool] = True

    def __init__(
        self,
        branches: Sequence[BaseNode[Any, Any, Any]],
        *,
        into: str | None = None,
        **given: Any,
    ) -> None:
        super().__init__()
        self.branches = _named(branches)
        self.into = into
        if given:
            self._pf_options = choose(self, "NodeOptions", given)

    async def post_async(self, shared: Any, prep_res: None, exec_res: dict[str, Any]) -> Any:
        """Hand the results on; override it to choose an action by them."""
        if self.into is not None:
            shared[self.into] = exec_res

    async def _run_async(self, shared: Any) -> Any:
        hooks = active()
        chosen = self._pf_options or PLAIN
        name = name_of(self)
        branches = list(self.branches.values())

        async def one(_: int, branch: BaseNode[Any, Any, Any]) -> Any:
            return await _branch(branch, shared, {**self.params}, hooks)

        phase = "branches"
        try:
            values = await scatter(one, branches, chosen.concurrency, chosen.on_error, "branch")
            results = dict(zip(self.branches, values, strict=True))
            self.params["branches"] = results
            phase = "post"
            with Step("post", name, self, results, hooks) as step:
                step.result = action = await self.post_async(shared, None, results)
        except BaseException as error:
            if phase == "post":
                note(error, self, name, phase)
            passing(error, name)
            raise
        if self._pf_kept is not None:
            self._pf_kept.append(results)
        return action


def parallel(
    *branches: BaseNode[Any, Any, Any],
    concurrency: int | None = None,
    on_error: Literal["raise", "collect"] = "raise",
    name: str | None = None,
    into: str | None = None,
) -> Parallel:
    """Make one node of several that run side by side, each in a task and a context of its own.

    A branch is any node or flow; a node with successors starts a chain that is followed to its end.
    What each branch returned is a dict by the branches' names (the classes' names, or `name=`). The
    node after it, the join, finds it in `self.params["branches"]`. A node "returns" what its post
    returns or, if that is None, its exec result; a chain what its last node returns; a flow what
    its post returns, by default the last action.

    Args:
        *branches: One or more nodes or flows.
        concurrency: How many branches may run at once; None: all.
        on_error: "raise" cancels and awaits the other branches at the first error, then raises it;
            "collect" puts the exception in the branch's place.
        name: Name of the node in traces, errors and diagrams.
        into: Also store the results in `shared` under this key.

    Raises:
        TypeError: No branch, or one that is not a node.
        ValueError: An option is out of range.
    """
    given: dict[str, Any] = {"concurrency": concurrency, "on_error": on_error, "name": name}
    defaults = {"concurrency": None, "on_error": "raise", "name": None}
    return Parallel(branches, into=into, **({} if given == defaults else given))


def _named(branches: Sequence[BaseNode[Any, Any, Any]]) -> dict[str, BaseNode[Any, Any, Any]]:
    if not branches:
        raise TypeError("parallel() needs at least one node: parallel(news, prices)")
    named: dict[str, BaseNode[Any, Any, Any]] = {}
    for branch in branches:
        if not isinstance(branch, BaseNode):
            raise TypeError(f"a branch must be a node or a flow, not {branch!r}")
        base = name = name_of(branch)
        count = 1
        while name in named:
            count += 1
            name = f"{base} #{count}"
        named[name] = branch
    return named


async def _branch(
    branch: BaseNode[Any, Any, Any], shared: Any, params: dict[str, Any], hooks: Hooks | None
) -> Any:
    """Run one branch on copies of its own; return what it returned."""
    if not branch.successors:
        return await _visit(fresh(branch), shared, params, hooks)
    name = name_of(branch)
    chain: AsyncFlow[Any, Any] = AsyncFlow(branch, name=name)
    with Step("flow", name, chain, shared, hooks) as step:
        try:
            step.result = value = await _follow(chain, shared, params, hooks)
        except BaseException as error:
            passing(error, name)
            raise
    return value


async def _follow(
    chain: AsyncFlow[Any, Any], shared: Any, params: dict[str, Any], hooks: Hooks | None
) -> Any:
    """Go from the first node of *chain* to its last; return what that one returned."""
    following = chain.start_node
    while following is not None:
        node = fresh(following)
        value = await _visit(node, shared, params, hooks)
        following = chain.get_next_node(node, node._pf_action)
    return value


async def _visit(node: Any, shared: Any, params: dict[str, Any], hooks: Hooks | None) -> Any:
    """Run one node; return what its post returned, or else its exec."""
    node.set_params(params)
    kept = node._pf_kept = list[Any]()  # the copy is this branch's own
    with Step(kind_of(node), name_of(node), node, shared, hooks) as step:
        await admit_async(step, hooks)
        if isinstance(node, AsyncNode):
            step.result = action = await node._run_async(shared)
        else:
            step.result = action = await run_sync(node, shared)
    node._pf_action = action
    return kept[0] if action is None and kept else action


fan_out.append(Parallel)
