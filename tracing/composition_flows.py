"""What a composition is made of: whatever stands for a flow, and the flows under way in it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from tracing.async_composition import AsyncFlowExecution

T = TypeVar("T")

_SHOWN: Final = 10  # names in a message


async def run_flow(flow: Any, *given: Any) -> Any:
    """Run what stands for a flow, and return what came of it.

    Args:
        flow: An awaitable; a flow object, which gets *given* (or else an empty dict) as `shared`;
            or a callable, which is called with *given* and returns any of these, or a value.
        given: At most one value.

    Raises:
        TypeError: It is none of them.
    """
    if not inspect.isawaitable(flow) and not is_flow(flow):
        if not callable(flow):
            raise TypeError(
                f"{flow!r} cannot be run: give a coroutine, a function that makes one, or a flow"
            )
        flow = flow(*given)
    if inspect.isawaitable(flow):
        flow = await flow
        if not inspect.isawaitable(flow):
            return flow
    return await _run_object(flow, *given) if is_flow(flow) else flow


async def run_item(factory: Any, item: Any) -> Any:
    """Run the flow that *factory* makes of *item*; a flow object gets it as `shared`."""
    if is_flow(factory) or not callable(factory):
        return await run_flow(factory, item)
    made = factory(item)
    if is_flow(made):
        return await run_flow(made, item)
    return await run_flow(made) if inspect.isawaitable(made) or callable(made) else made


async def run_stage(stage: Any, value: Any) -> Any:
    """Run one stage of a pipeline; a flow object works on *value* itself, which then goes on."""
    result = await run_flow(stage, value)
    return value if is_flow(stage) else result


def is_flow(value: Any) -> bool:
    """Return whether *value* is an object with `run` or `run_async`."""
    if isinstance(value, type) or inspect.isawaitable(value):
        return False
    return any(callable(getattr(value, name, None)) for name in ("run_async", "run"))


async def _run_object(flow: Any, shared: Any = None) -> Any:
    shared = {} if shared is None else shared
    if callable(getattr(flow, "run_async", None)):
        return await flow.run_async(shared)
    return await asyncio.to_thread(flow.run, shared)  # it would stop the event loop


def discard(flow: Any) -> None:
    """Close *flow* if it is a coroutine that will not be awaited any more."""
    if inspect.iscoroutine(flow) and inspect.getcoroutinestate(flow) == inspect.CORO_CREATED:
        with suppress(Exception):
            flow.close()


async def apart(flow: Coroutine[Any, Any, T]) -> T:
    """Run *flow* in a task, and so in a context, of its own; cancelling this cancels it."""
    return await asyncio.create_task(flow)


def is_outcome(error: BaseException) -> bool:
    """Return whether *error* is how a flow ended, and not the cancellation of the present task."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or not task.cancelling()
    return isinstance(error, Exception)


class Children:
    """The flows of one composition.

    Args:
        flows: What the caller gave.
    """

    def __init__(self, flows: Iterable[Any]) -> None:
        self.flows = list(flows)
        self.executions: list[AsyncFlowExecution] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._made: list[Coroutine[Any, Any, Any]] = []
        self._home = asyncio.current_task()

    def made(self, child: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Note *child*, which a handler is to await."""
        self._made.append(child)
        return child

    def began(self, execution: AsyncFlowExecution) -> None:
        """Note that a child runs, in the present task."""
        self.executions.append(execution)
        task = asyncio.current_task()
        if task is not None and task is not self._home:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Cancel and await what still runs, should a handler have left it behind."""
        running = {task for task in self._tasks if not task.done()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def close(self) -> None:
        """Close what was never begun."""
        for coroutine in (*self._made, *self.flows):
            discard(coroutine)

    def together(self) -> tuple[str, dict[str, Any], BaseException | None]:
        """Return how they ended: the status, facts about it, and what stands for it as an error."""
        for status, error in (("failed", Exception), ("cancelled", asyncio.CancelledError)):
            names = [child.flow_name for child in self.executions if child.status == status]
            if names:
                words = f"{len(names)} of {len(self.executions)} flows {status}"
                return status, {status: names}, error(f"{words}: {', '.join(names[:_SHOWN])}")
        return "completed", {}, None
