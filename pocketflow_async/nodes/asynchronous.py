"""Asynchronous nodes: the same attempts, awaited."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from pocketflow_async._typing import Executed, Posted, Prepared
from pocketflow_async.attempts import has_own_attempts, own_attempts
from pocketflow_async.clock import clock
from pocketflow_async.errors import NodeTimeoutError, UseRunAsyncError
from pocketflow_async.hooks import Hooks, Step, active, admit_async, watched
from pocketflow_async.nodes.base import name_of
from pocketflow_async.nodes.sync import PLAIN, Node, never_ran, plan_retry
from pocketflow_async.options import AsyncNodeKeywords, NodeOptions
from pocketflow_async.trail import note


async def visit_async(node: Any, shared: Any, hooks: Hooks | None) -> Any:
    """Run an asynchronous node or flow as one step."""
    if hooks is None:
        return await node._run_async(shared)
    step = Step(node._kind, name_of(node), node, shared)
    with watched(step, hooks):
        await admit_async(step, hooks)
        step.result = await node._run_async(shared)
    return step.result


class AsyncNode(Node[Prepared, Executed, Posted]):
    """An asynchronous node: `prep_async`, `exec_async`, `post_async`, `exec_fallback_async`.

    Takes the arguments of `Node` but `in_thread`. A `timeout` cancels the attempt; cancellation
    from outside is never retried and never reaches the fallback.
    """

    _keywords: ClassVar[type[Any]] = AsyncNodeKeywords

    if TYPE_CHECKING:

        def __init__(
            self, max_retries: int = 1, wait: float = 0, **given: Unpack[AsyncNodeKeywords]
        ) -> None: ...

    async def prep_async(self, shared: Any) -> Prepared:
        """Read from *shared* what exec needs, and return it."""
        return None  # type: ignore[return-value]

    async def exec_async(self, prep_res: Prepared) -> Executed:
        """Do the work on what prep returned; touch nothing shared, since it may run again."""
        return None  # type: ignore[return-value]

    async def exec_fallback_async(self, prep_res: Prepared, exc: Exception) -> Executed:
        """Answer in place of exec after its last attempt failed; by default raise *exc* again."""
        raise exc

    async def post_async(self, shared: Any, prep_res: Prepared, exec_res: Executed) -> Posted:
        """Write results to *shared* and return the next action; None means "default"."""
        return None  # type: ignore[return-value]

    async def run_async(self, shared: Any) -> Any:
        """Run this node alone and return what post returned."""
        if self.successors:
            warnings.warn("Node won't run successors. Use AsyncFlow.")  # noqa: B028 (as PocketFlow)
        if self.max_retries == 1:
            return await visit_async(self, shared, active())
        with own_attempts(self):  # other tasks may be running this very object
            return await visit_async(self, shared, active())

    def _run(self, shared: Any) -> Any:
        raise UseRunAsyncError

    async def _run_async(self, shared: Any) -> Any:
        hooks = active()
        if hooks is not None:
            return (await self._phases_async(shared, hooks))[0]
        phase = "prep"
        try:
            prepared = await self.prep_async(shared)
            phase = "exec"
            executed = await self._exec(prepared)
            phase = "post"
            return await self.post_async(shared, prepared, executed)
        except BaseException as error:
            note(error, self, name_of(self), phase)
            raise

    async def _phases_async(self, shared: Any, hooks: Hooks | None) -> tuple[Any, Any]:
        """Run prep, exec and post; return what post and exec returned."""
        name = name_of(self)
        phase = "prep"
        try:
            step = Step("prep", name, self, shared)
            with watched(step, hooks):
                step.result = prepared = await self.prep_async(shared)
            phase = "exec"
            executed = await self._exec(prepared)
            phase = "post"
            step = Step("post", name, self, executed)
            with watched(step, hooks):
                step.result = await self.post_async(shared, prepared, executed)
        except BaseException as error:
            note(error, self, name, phase)
            raise
        return step.result, executed

    async def _exec(self, prep_res: Any) -> Any:
        hooks = active()
        limit = self.max_retries
        if (
            hooks is not None
            or self._options is not None
            or (limit != 1 and (limit < 1 or has_own_attempts(self)))
        ):
            return await self._attempts_async(prep_res, hooks)
        # The plain path: the first attempt as directly as PocketFlow makes it.
        self.__dict__["cur_retry"] = 0
        try:
            return await self.exec_async(prep_res)
        except Exception as error:  # noqa: BLE001 (a retry or the fallback decides)
            step = Step("exec", name_of(self), self, prep_res, 0, limit)
            plan_retry(step, error, PLAIN, self.wait)
            if step.wait is None:
                return await self._fall_back_async(step, error, None)
            if step.wait > 0:
                await clock().asleep(step.wait)
        return await self._attempts_async(prep_res, None, first=1)

    async def _attempts_async(self, prep_res: Any, hooks: Hooks | None, first: int = 0) -> Any:
        """Try exec until it succeeds or gives up, watched, with all options."""
        chosen = self._options or PLAIN
        name = name_of(self)
        for attempt in range(first, self.max_retries):
            self.cur_retry = attempt
            step = Step("exec", name, self, prep_res, attempt, self.max_retries)
            try:
                if hooks is None:
                    await self._attempt_async(step, chosen)
                else:
                    with watched(step, hooks):
                        await self._attempt_async(step, chosen, hooks)
                return step.result
            except Exception as error:
                if step.refusal is error:
                    raise
                if step.wait is None:
                    return await self._fall_back_async(step, error, hooks)
                if step.wait > 0:
                    await clock().asleep(step.wait)
        return never_ran(name)

    async def _attempt_async(
        self, step: Step, chosen: NodeOptions, hooks: Hooks | None = None
    ) -> None:
        try:
            if hooks is not None:
                await admit_async(step, hooks)
            if chosen.timeout is None:
                step.result = await self.exec_async(step.input)
            else:
                step.result = await self._in_time(step, chosen.timeout)
        except BaseException as error:
            plan_retry(step, error, chosen, self.wait)
            raise

    async def _in_time(self, step: Step, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self.exec_async(step.input)
        except TimeoutError as error:
            if limit.expired():
                raise NodeTimeoutError(step.name, seconds) from error
            raise

    async def _fall_back_async(self, step: Step, error: Exception, hooks: Hooks | None) -> Any:
        """Let the fallback answer for the failed attempt *step*."""
        own = self.exec_fallback_async
        if getattr(own, "__func__", None) is OWN_FALLBACK:
            note(error, self, step.name, "exec", step.attempt + 1, step.attempts)
            raise error
        step = Step("fallback", step.name, self, step.input, step.attempt, step.attempts)
        try:
            with watched(step, hooks):
                step.result = await own(step.input, error)
            return step.result
        except BaseException as final:
            phase = "exec" if final is error else "exec_fallback"
            note(final, self, step.name, phase, step.attempt + 1, step.attempts)
            raise


OWN_FALLBACK = AsyncNode.exec_fallback_async
OWN_RUN_ASYNC = AsyncNode._run_async
