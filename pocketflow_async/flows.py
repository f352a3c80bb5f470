"""Flows: go from node to node by the actions that they return."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, ClassVar

from pocketflow_async._typing import Generic, Posted, Prepared
from pocketflow_async.batch import entries
from pocketflow_async.copying import fresh
from pocketflow_async.defaults import PLAIN, Defaults, choose
from pocketflow_async.errors import (
    InvalidFlowError,
    UnknownActionError,
    UseRunAsyncError,
)
from pocketflow_async.hooks import Kind, Step, active, admit, admit_async
from pocketflow_async.kept import follow, place_of
from pocketflow_async.limits import Limits, limit_of, limits_of
from pocketflow_async.nodes import AsyncNode, BaseNode, kind_of, name_of
from pocketflow_async.scatter import scatter
from pocketflow_async.threads import run_sync
from pocketflow_async.trail import note, passing

if TYPE_CHECKING:
    from typing import Unpack

    from pocketflow_async.check import Problem
    from pocketflow_async.durable import Stored
    from pocketflow_async.options import FlowKeywords, ParallelFlowKeywords


def _copy(node: Any) -> Any:
    """Return the copy a visit runs on, or None where the flow ends.

    PocketFlow ends at anything falsy; a node stays a node whatever its own `__bool__` says.
    """
    if node is None or (not isinstance(node, BaseNode) and not node):
        return None
    return fresh(node)


class Flow(BaseNode[Prepared, Any, Posted], Generic[Prepared, Posted]):
    """A flow of synchronous nodes. It is a node itself, so flows nest.

    Args:
        start: The first node. Without one, running does nothing.
        name: Name in traces, errors and diagrams; the class's name when left out.
        max_steps: How many nodes one run may visit, nested flows' own nodes not counted.
        timeout: Seconds one run may take. An AsyncFlow is cancelled at that moment; a Flow notices
            when the node at work has come back.
        ends: Actions that end the flow on purpose, so that no warning is given for them.
        strict: Validate before each run, and raise for an action that leads nowhere.
        merge_params: Nodes keep params of their own under those of the flow: `{**flow, **node}`.
    """

    start_node: Any
    _pf_kind: ClassVar[Kind] = "flow"
    _pf_keywords: ClassVar[str] = "FlowKeywords"
    _pf_batched: ClassVar[bool] = False
    _pf_holds: ClassVar[bool] = True

    def __init__(self, start: Any = None, **given: Unpack[FlowKeywords]) -> None:
        super().__init__()
        self.start_node = start
        if given:
            self._pf_options = choose(self, "FlowOptions", given)

    def start(self, start: Any) -> Any:
        """Set the first node; return it."""
        self.start_node = start
        return start

    def get_next_node(self, curr: Any, action: Any) -> Any:
        """Return the successor of *curr* for *action*, or None where the flow ends."""
        successors = curr.successors
        following = successors.get(action or "default")
        if following is None or not (isinstance(following, BaseNode) or following):
            if successors:
                self._pf_ended(curr, action)
            return None
        return following

    def _pf_ended(self, curr: Any, action: Any) -> None:
        chosen = self._pf_options
        if chosen is not None:
            if (action or "default") in chosen.ends:
                return
            if chosen.strict:
                raise UnknownActionError(name_of(curr), action, list(curr.successors))
        warnings.warn(f"Flow ends: '{action}' not found in {list(curr.successors)}")  # noqa: B028

    def post(self, shared: Any, prep_res: Prepared, exec_res: Any) -> Posted:
        """Return what the run of the flow gives; by default the last node's action."""
        return exec_res  # type: ignore[no-any-return]

    def validate(self) -> list[Problem]:
        """List what looks wrong with the graph: dead ends, unreachable nodes, unknown successors.

        What a node may return is read from its source where there is some; nothing is run.
        """
        from pocketflow_async.check import problems  # noqa: PLC0415 (a run needs none of it)

        return problems(self)

    def to_mermaid(self) -> str:
        """Return the graph as the text of a Mermaid flowchart, nested flows as subgraphs."""
        from pocketflow_async.graph import mermaid  # noqa: PLC0415 (a run needs none of it)

        return mermaid(self)

    def _pf_checked(self) -> Defaults | None:
        """Return the options, if any; a strict flow is validated first."""
        chosen: Defaults | None = self._pf_options
        if chosen is not None and chosen.strict and (found := self.validate()):
            raise InvalidFlowError(name_of(self), found)
        return chosen

    # One level of nesting costs two frames, `_run` and `_orch`, as in PocketFlow, watched or not;
    # so the deepest nesting that runs there runs here too.

    def _run(self, shared: Any) -> Any:
        hooks = active()
        phase = "prep"
        try:
            if self._pf_options is not None:
                self._pf_checked()
            name = "" if hooks is None else name_of(self)
            with Step("prep", name, self, shared, hooks) as step:
                step.result = prepared = self.prep(shared)
            phase = "nodes"
            if self._pf_batched:
                prepared, result = self._pf_rounds(shared, prepared)
            else:
                result = self._orch(shared)
            phase = "post"
            with Step("post", name, self, result, hooks) as step:
                step.result = result = self.post(shared, prepared, result)
            return result
        except BaseException as error:
            _left(error, self, name_of(self), phase)
            raise

    def _orch(self, shared: Any, params: dict[str, Any] | None = None) -> Any:
        node, action = _copy(self.start_node), None
        shares = params or {**self.params}
        hooks = active()
        if hooks is None and self._pf_options is None:
            while node is not None:
                node.set_params(shares)
                action = node._run(shared)
                node = _copy(self.get_next_node(node, action))
            return action
        limits = limits_of(name_of(self), self._pf_options, timed=True)
        while node is not None:
            limits.before(node, shares)
            with Step(kind_of(node), name_of(node), node, shared, hooks) as step:
                admit(step, hooks)
                step.result = action = node._run(shared)
            limits.done(node, action, shares)
            node = _copy(self.get_next_node(node, action))
        return action

    def _pf_rounds(self, shared: Any, prepared: Any) -> tuple[Any, Any]:
        """Run the graph once for each dict of params; only batch flows do."""
        rounds = entries(prepared)
        hooks = active()
        limits = Limits(name_of(self), self._pf_options or PLAIN, timed=True)
        for index, params in enumerate(rounds):
            limits.in_time()  # of all rounds together; each round watches its own
            merged = {**self.params, **params}
            step = Step("item", name_of(self), self, merged, hooks)
            step.index = index
            with step:
                step.result = self._orch(shared, merged)
        limits.in_time()
        return _given(rounds), None


def _given(rounds: Any) -> Any:
    """Return what post of a batch flow gets for *rounds*: PocketFlow makes nothing a list."""
    return [] if isinstance(rounds, tuple) and not rounds else rounds


def _left(error: BaseException, flow: object, name: str, phase: str) -> None:
    """Say on *error* that it leaves *flow*: from a node of it, or from its own prep or post."""
    if phase != "nodes":
        note(error, flow, name, phase)
    passing(error, name)


class BatchFlow(Flow[Prepared, Posted], Generic[Prepared, Posted]):
    """A flow that runs once for each dict of params that prep returns, one after the other."""

    _pf_batched: ClassVar[bool] = True


class AsyncFlow(
    Flow[Prepared, Posted], AsyncNode[Prepared, Any, Posted], Generic[Prepared, Posted]
):
    """A flow of asynchronous and synchronous nodes.

    Takes the arguments of `Flow`. Synchronous nodes run on the event loop's own thread, unless
    they were made with `in_thread=True`. Between a node's post and the next node's prep nothing
    suspends. Any number of runs of one flow object may go on at once.
    """

    if TYPE_CHECKING:

        def __init__(self, start: Any = None, **given: Unpack[FlowKeywords]) -> None: ...

    async def run_async(
        self,
        shared: Any,
        *,
        run_id: str | None = None,
        store: Stored | None = None,
        lease: float = 30.0,
    ) -> Any:
        """Run the flow and return what post returned.

        With a store each step is stored, and `resume` goes on after a crash; see
        `infrastructure.checkpoints` for what that takes and what it may raise.

        Args:
            shared: What the nodes share.
            run_id: Id by which the run is found again; None: a new one.
            store: Where it is kept: a store, its address, or an `Infrastructure`.
            lease: Seconds of silence after which another process may have the run.
        """
        if store is None and run_id is None:
            return await super().run_async(shared)
        from pocketflow_async.durable import run  # noqa: PLC0415 (few runs are durable)

        return await run(self, shared, run_id, store, lease)

    async def resume(
        self, run_id: str, shared: Any = None, *, store: Stored, lease: float = 30.0
    ) -> Any:
        """Go on with a stored run at the first node that is not done; return what it comes to.

        Args:
            run_id: The run; of one that is completed the result is returned again.
            shared: A dict that gets what the nodes shared, and in which they go on.
            store: As for `run_async`.
            lease: As for `run_async`.
        """
        from pocketflow_async.durable import resume  # noqa: PLC0415 (few runs are durable)

        return await resume(self, run_id, shared, store, lease)

    async def post_async(self, shared: Any, prep_res: Prepared, exec_res: Any) -> Posted:
        """Return what the run of the flow gives; by default the last node's action."""
        return exec_res  # type: ignore[no-any-return]

    def run(self, shared: Any) -> Any:
        """Refuse: the work is asynchronous.

        Raises:
            UseRunAsyncError: Always.
        """
        raise UseRunAsyncError(name_of(self))

    def _run(self, shared: Any) -> Any:
        raise UseRunAsyncError(name_of(self))

    def _orch(self, shared: Any, params: dict[str, Any] | None = None) -> Any:
        raise UseRunAsyncError(name_of(self))

    async def _run_async(self, shared: Any) -> Any:
        hooks = active()
        phase = "prep"
        try:
            if hooks is None and self._pf_options is None:
                prepared = await self.prep_async(shared)
                phase = "nodes"
                if self._pf_batched:
                    prepared, result = await self._pf_rounds_async(shared, prepared)
                else:
                    result = await self._orch_async(shared)
                phase = "post"
                return await self.post_async(shared, prepared, result)
            name = name_of(self)
            place = place_of(self, hooks, AsyncFlow._orch_async)
            async with limit_of(name, self._pf_checked()):
                if place is not None and place.resumed:
                    prepared = place.prepared
                else:
                    with Step("prep", name, self, shared, hooks) as step:
                        step.result = prepared = await self.prep_async(shared)
                phase = "nodes"
                if self._pf_batched:
                    prepared, result = await self._pf_rounds_async(shared, prepared)
                elif place is not None:
                    result = await follow(self, place, shared, prepared)
                else:
                    result = await self._orch_async(shared)
                phase = "post"
                with Step("post", name, self, result, hooks) as step:
                    step.result = result = await self.post_async(shared, prepared, result)
                return result
        except BaseException as error:
            _left(error, self, name_of(self), phase)
            raise

    async def _orch_async(self, shared: Any, params: dict[str, Any] | None = None) -> Any:
        node, action = _copy(self.start_node), None
        shares = params or {**self.params}
        hooks = active()
        if hooks is None and self._pf_options is None:
            while node is not None:
                node.set_params(shares)
                if isinstance(node, AsyncNode):
                    action = await node._run_async(shared)
                else:
                    action = await run_sync(node, shared)
                node = _copy(self.get_next_node(node, action))
            return action
        limits = limits_of(name_of(self), self._pf_options)
        while node is not None:
            limits.before(node, shares)
            with Step(kind_of(node), name_of(node), node, shared, hooks) as step:
                if hooks is not None and hooks.gates:
                    await admit_async(step, hooks)
                if isinstance(node, AsyncNode):
                    step.result = action = await node._run_async(shared)
                else:
                    step.result = action = await run_sync(node, shared)
            limits.done(node, action, shares)
            node = _copy(self.get_next_node(node, action))
        return action

    async def _pf_rounds_async(self, shared: Any, prepared: Any) -> tuple[Any, Any]:
        """Run the graph once for each dict of params; only batch flows do."""
        rounds = entries(prepared)
        for index, params in enumerate(rounds):
            await self._pf_round(shared, index, {**self.params, **params})
        return _given(rounds), None

    async def _pf_round(self, shared: Any, index: int, params: dict[str, Any]) -> Any:
        step = Step("item", name_of(self), self, params, active())
        step.index = index
        with step:
            step.result = action = await self._orch_async(shared, params)
        return action


class AsyncBatchFlow(
    AsyncFlow[Prepared, Posted], BatchFlow[Prepared, Posted], Generic[Prepared, Posted]
):
    """An AsyncFlow that runs once for each dict of params, one after the other."""


class AsyncParallelBatchFlow(
    AsyncFlow[Prepared, Posted], BatchFlow[Prepared, Posted], Generic[Prepared, Posted]
):
    """An AsyncFlow that runs once for each dict of params, all at once.

    When a round fails, the others are cancelled and awaited before its error is raised.

    Args:
        start: The first node.
        concurrency: How many rounds may run at once; None: all. Then `prep_async` may return an
            iterator or async iterator, which is read only as far as there is room.
        on_error: "raise", or "collect": go on, and give post a list of the rounds' last actions
            with the exception in place of a failed one (else post gets None, as in PocketFlow).
        **given: The other options of `Flow`.
    """

    _pf_keywords: ClassVar[str] = "ParallelFlowKeywords"

    async def post_async(self, shared: Any, prep_res: Prepared, exec_res: Any) -> Posted:
        """Return None, whatever the rounds returned: a list is no action."""
        return None  # type: ignore[return-value]

    if TYPE_CHECKING:

        def __init__(self, start: Any = None, **given: Unpack[ParallelFlowKeywords]) -> None: ...

    async def _pf_rounds_async(self, shared: Any, prepared: Any) -> tuple[Any, Any]:
        rounds = entries(prepared)
        chosen = self._pf_options or PLAIN

        if chosen.concurrency is None and not isinstance(rounds, AsyncIterable):
            # As in PocketFlow, all params are what they were before any round began.
            items = [{**self.params, **params} for params in rounds]
            own: dict[str, Any] = {}
        else:
            items, own = rounds, self.params

        async def one(index: int, params: Any) -> Any:
            return await self._pf_round(shared, index, {**own, **params})

        actions = await scatter(one, items, chosen.concurrency, chosen.on_error, "round")
        return _given(rounds), actions if chosen.on_error == "collect" else None
