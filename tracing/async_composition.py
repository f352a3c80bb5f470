"""Flows made of flows: parallel, nested, batch, sequential, conditional and pipeline.

Every composition is a span, and so is every flow in it, in a task and context of its own. Wherever
a flow is asked for, it may be a coroutine, a function without arguments that makes one, or a flow
object, which then runs on an empty `shared`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tracing.composition_execution import AsyncFlowExecution, FlowCompositionType, type_named
from tracing.composition_flows import Children, apart, is_outcome, run_flow, run_item, run_stage
from tracing.composition_record import Executions
from tracing.failure import outcome_of
from tracing.record import CANCELLED
from tracing.run import ABSENT

if TYPE_CHECKING:
    from tracing.core import LangfuseTracer

__all__ = ["AsyncFlowCompositionManager", "AsyncFlowExecution", "FlowCompositionType", "type_named"]

_Type = FlowCompositionType
Flow = Coroutine[Any, Any, Any]
Body = Callable[[AsyncFlowExecution], Awaitable[Any]]


class AsyncFlowCompositionManager(Executions):
    """Runs flows together, and knows which are under way.

    When the caller is cancelled, so are all flows of its composition, and awaited. A composition
    with a failed flow counts as failed, one with a cancelled flow as cancelled.

    Args:
        tracer: Where the spans go.

    Attributes:
        active_executions: What is under way, by id.
        completed_executions: The last 1,000 that ended.
        composition_handlers: How the flows of each type are awaited; yours to replace. A handler
            gets a list of coroutines (NESTED and CONDITIONAL: one coroutine; PIPELINE: functions
            of one value, and the first value) and returns the results.
    """

    def __init__(self, tracer: LangfuseTracer) -> None:
        super().__init__(tracer)
        self.composition_handlers: dict[FlowCompositionType, Callable[..., Awaitable[Any]]] = {
            _Type.SEQUENTIAL: _one_by_one,
            _Type.PARALLEL: _all_at_once,
            _Type.NESTED: apart,
            _Type.BATCH: _one_by_one,
            _Type.CONDITIONAL: apart,
            _Type.PIPELINE: _one_after_the_other,
        }

    async def execute_parallel_flows(
        self,
        flows: Sequence[Any],
        flow_names: Sequence[str],
        parent_execution_id: str | None = None,
    ) -> list[Any]:
        """Run flows at the same time.

        Returns:
            What each returned, in order; what one raised stands in its place.

        Raises:
            ValueError: There are more or fewer names than flows.
        """
        return await self._parallel(flows, flow_names, parent_execution_id)

    async def execute_sequential_flows(
        self,
        flows: Sequence[Any],
        flow_names: Sequence[str],
        parent_execution_id: str | None = None,
    ) -> list[Any]:
        """Run flows one after the other, and return what each returned.

        Raises:
            ValueError: There are more or fewer names than flows.
            BaseException: What a flow raises; those after it are not run.
        """
        children = _matching(flows, flow_names)
        facts = {"flow_count": len(children.flows), "flow_names": list(flow_names)}

        async def body(whole: AsyncFlowExecution) -> Any:
            made = self._made(children, flow_names, whole)
            return await self.composition_handlers[_Type.SEQUENTIAL](made)

        name = "SequentialFlowComposition"
        plan = _Plan(name, _Type.SEQUENTIAL, parent_execution_id, facts)
        return list(await self._execute(plan, children, body))

    async def execute_nested_flow(
        self, flow: Any, flow_name: str, parent_execution_id: str | None = None
    ) -> Any:
        """Run one flow as part of what runs here, and return what it returned.

        Raises:
            BaseException: What the flow raises.
        """
        children = Children([flow])

        async def body(whole: AsyncFlowExecution) -> Any:
            return await self.composition_handlers[_Type.NESTED](children.made(run_flow(flow)))

        plan = _Plan(flow_name, _Type.NESTED, parent_execution_id, {})
        return await self._execute(plan, children, body)

    async def execute_batch_flows(
        self,
        flow_factory: Callable[[Any], Any],
        batch_data: Iterable[Any],
        flow_name: str,
        parallel: bool = False,
        parent_execution_id: str | None = None,
    ) -> list[Any]:
        """Run a flow for each item.

        Args:
            flow_factory: Makes the flow of an item; or a flow object, which gets it as `shared`.
            batch_data: The items.
            flow_name: Name of the flow; item 0 is `{flow_name}_batch_0`.
            parallel: Whether they run at the same time; then what one raises is returned, as in
                `execute_parallel_flows`.
            parent_execution_id: Which execution it is part of.

        Raises:
            BaseException: What a flow raises, unless *parallel*; those after it are not run.
        """
        items = list(batch_data)
        children = Children([partial(run_item, flow_factory, item) for item in items])
        names = [f"{flow_name}_batch_{place}" for place in range(len(items))]

        async def body(whole: AsyncFlowExecution) -> Any:
            if parallel:
                return await self._parallel(children.flows, names, whole.execution_id, children)
            made = self._made(children, names, whole, _Type.NESTED)
            return await self.composition_handlers[_Type.BATCH](made)

        facts = {"batch_size": len(items), "parallel": parallel}
        plan = _Plan(f"BatchFlow_{flow_name}", _Type.BATCH, parent_execution_id, facts)
        return list(await self._execute(plan, children, body))

    async def execute_conditional_flow(
        self,
        condition: Any,
        then: Any,
        otherwise: Any = None,
        flow_name: str = "ConditionalFlow",
        parent_execution_id: str | None = None,
    ) -> Any:
        """Run one flow or the other.

        Args:
            condition: A value, or what returns it: a function or a coroutine.
            then: The flow if it is true.
            otherwise: The flow if not; None: none.
            flow_name: Name of the composition; the flow is `{flow_name}_then` or `…_otherwise`.
            parent_execution_id: Which execution it is part of.

        Returns:
            What the flow returned; None if there was none to run.

        Raises:
            BaseException: What the condition or the flow raises.
        """
        children = Children([condition, then, otherwise])

        async def body(whole: AsyncFlowExecution) -> Any:
            answer = condition
            if callable(condition) or inspect.isawaitable(condition):
                answer = await run_flow(condition)
            branch, flow = ("then", then) if answer else ("otherwise", otherwise)
            whole.metadata["branch"] = None if flow is None else branch
            if flow is None:
                return None
            child = self._child(flow, f"{flow_name}_{branch}", _Type.NESTED, whole, children)
            return await self.composition_handlers[_Type.CONDITIONAL](children.made(child))

        plan = _Plan(flow_name, _Type.CONDITIONAL, parent_execution_id, {})
        return await self._execute(plan, children, body)

    async def execute_pipeline(
        self,
        stages: Sequence[Any],
        value: Any = None,
        flow_name: str = "Pipeline",
        parent_execution_id: str | None = None,
    ) -> Any:
        """Give each stage what the one before returned, the first *value*; return what is last.

        Args:
            stages: Functions of one value, sync or async; or flow objects, which get it as
                `shared` and pass it on.
            value: What the first stage gets.
            flow_name: Name of the pipeline; its first stage is `{flow_name}_stage_0`.
            parent_execution_id: Which execution it is part of.

        Raises:
            BaseException: What a stage raises; those after it are not run.
        """
        children = Children(stages)

        async def body(whole: AsyncFlowExecution) -> Any:
            def call(place: int, given: Any) -> Flow:
                flow = partial(run_stage, children.flows[place], given)
                name = f"{flow_name}_stage_{place}"
                return children.made(self._child(flow, name, _Type.SEQUENTIAL, whole, children))

            made = [partial(call, place) for place in range(len(children.flows))]
            return await self.composition_handlers[_Type.PIPELINE](made, value)

        plan = _Plan(
            flow_name, _Type.PIPELINE, parent_execution_id, {"stage_count": len(children.flows)}
        )
        return await self._execute(plan, children, body)

    async def _parallel(
        self,
        flows: Sequence[Any],
        flow_names: Sequence[str],
        parent_execution_id: str | None,
        within: Children | None = None,
    ) -> list[Any]:
        children = _matching(flows, flow_names)
        facts = {"flow_count": len(children.flows), "flow_names": list(flow_names)}

        async def body(whole: AsyncFlowExecution) -> Any:
            if within is not None:
                within.executions.append(whole)
            made = self._made(children, flow_names, whole, returned=True)
            return await self.composition_handlers[_Type.PARALLEL](made)

        plan = _Plan("ParallelFlowComposition", _Type.PARALLEL, parent_execution_id, facts)
        return list(await self._execute(plan, children, body))

    def _made(
        self,
        children: Children,
        names: Sequence[str],
        whole: AsyncFlowExecution,
        kind: FlowCompositionType = _Type.SEQUENTIAL,
        returned: bool = False,
    ) -> list[Flow]:
        return [
            children.made(self._child(flow, name, kind, whole, children, returned))
            for flow, name in zip(children.flows, names, strict=True)
        ]

    async def _child(
        self,
        flow: Any,
        name: str,
        kind: FlowCompositionType,
        whole: AsyncFlowExecution,
        children: Children,
        returned: bool = False,
    ) -> Any:
        """Run one flow of a composition.

        Args:
            flow: What stands for it.
            name: Its name.
            kind: What kind of execution it is.
            whole: The composition.
            children: All flows of it.
            returned: Whether what it raises is returned.
        """
        execution = await self.start_flow_execution(name, kind, whole.execution_id)
        children.began(execution)
        if returned:
            whole.concurrent_executions.add(execution.execution_id)
        try:
            result = await run_flow(flow)
        except BaseException as error:
            self._complete(execution.execution_id, *_end(error))
            if returned and is_outcome(error):
                return error
            raise
        self._complete(execution.execution_id, value=result)
        return result

    async def _execute(self, plan: _Plan, children: Children, body: Body) -> Any:
        """Run a composition, and end it as its flows have ended."""
        try:
            whole = await self.start_flow_execution(*plan)
            try:
                result = await body(whole)
            except BaseException as error:
                await children.stop()
                self._complete(whole.execution_id, *_end(error))
                raise
            await children.stop()
            status, facts, problem = children.together()
            self._complete(whole.execution_id, status, facts, problem, plan.output(result))
            return result
        finally:
            children.close()


class _Plan(NamedTuple):
    """What a composition begins with."""

    name: str
    kind: FlowCompositionType
    parent_execution_id: str | None
    facts: dict[str, Any]

    def output(self, result: Any) -> Any:
        """Return what of *result* is noted here, and not in the flows already."""
        single = self.kind in (_Type.NESTED, _Type.CONDITIONAL, _Type.PIPELINE)
        return result if single else ABSENT


def _matching(flows: Sequence[Any], names: Sequence[str]) -> Children:
    children = Children(flows)
    if len(children.flows) != len(names):
        children.close()
        raise ValueError("Number of flows must match number of flow names")
    return children


def _end(error: BaseException) -> tuple[str, dict[str, Any], BaseException]:
    status = "cancelled" if outcome_of(error) == CANCELLED else "failed"
    return status, {"error": str(error), "error_type": type(error).__name__}, error


async def _one_by_one(flows: Sequence[Flow]) -> list[Any]:
    return [await apart(flow) for flow in flows]


async def _all_at_once(flows: Sequence[Flow]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flow) for flow in flows]
    return [asyncio.CancelledError() if task.cancelled() else task.result() for task in tasks]


async def _one_after_the_other(stages: Sequence[Callable[[Any], Flow]], value: Any) -> Any:
    for stage in stages:
        value = await apart(stage(value))
    return value
