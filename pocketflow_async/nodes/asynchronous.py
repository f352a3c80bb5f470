"""Asynchronous nodes: the same attempts, awaited."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from pocketflow_async._typing import Executed, Posted, Prepared
from pocketflow_async.attempts import has_own_attempts, own_attempts
from pocketflow_async.clock import clock
from pocketflow_async.defaults import PLAIN
from pocketflow_async.errors import NodeTimeoutError, UseRunAsyncError
from pocketflow_async.hooks import Hooks, Step, active, admit_async
from pocketflow_async.nodes.base import name_of
from pocketflow_async.nodes.sync import (
    Node,
    attempt_step,
    fallback_step,
    never_ran,
    plan_retry,
)
from pocketflow_async.trail import note

if TYPE_CHECKING:
    from typing import Unpack

    from pocketflow_async.options import AsyncNodeKeywords


async def visit_async(node: Any, shared: Any, hooks: Hooks | None) -> Any:
    """Run an asynchronous node or flow as one step."""
    if hooks is None:
        return await node._run_async(shared)
    with Step(node._pf_kind, name_of(node), node, shared, hooks) as step:
        await admit_async(step, hooks)
        step.result = result = await node._run_async(shared)
    return result


class AsyncNode(Node[Prepared, Executed, Posted]):
    """An asynchronous node: `prep_async`, `exec_async`, `post_async`, `exec_fallback_async`.

    Takes the arguments of `Node` but `in_thread`. A `timeout` cancels the attempt; cancellation
    from outside is never retried and never reaches the fallback.
    """

    _pf_keywords: ClassVar[str] = "AsyncNodeKeywords"

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
        error = UseRunAsyncError()  # its text is PocketFlow's; the note says more
        note(error, self, name_of(self), "which is asynchronous: use an AsyncFlow and run_async")
        raise error

    async def _run_async(self, shared: Any) -> Any:
        hooks = active()
        phase = "prep"
        try:
            if hooks is None:
                prepared = await self.prep_async(shared)
                phase = "exec"
                executed = await self._exec(prepared)
                phase = "post"
                action = await self.post_async(shared, prepared, executed)
            else:
                name = name_of(self)
                with Step("prep", name, self, shared, hooks) as step:
                    step.result = prepared = await self.prep_async(shared)
                phase = "exec"
                executed = await self._exec(prepared)
                phase = "post"
                with Step("post", name, self, executed, hooks) as step:
                    step.result = action = await self.post_async(shared, prepared, executed)
        except BaseException as error:
            note(error, self, name_of(self), phase)
            raise
        if self._pf_kept is not None:
            self._pf_kept.append(executed)
        return action

    async def _exec(self, prep_res: Any) -> Any:
        hooks = active()
        limit = self.max_retries
        if (
            hooks is not None
            or self._pf_options is not None
            or (limit != 1 and (limit < 1 or has_own_attempts(self)))
        ):
            return await self._pf_attempts_async(prep_res, hooks)
        # The plain path: the first attempt as directly as PocketFlow makes it.
        self.__dict__["cur_retry"] = 0
        try:
            return await self.exec_async(prep_res)
        except Exception as error:  # noqa: BLE001 (a retry or the fallback decides)
            step = attempt_step(self, name_of(self), prep_res, None, 0, False)
            wait = plan_retry(step, error, PLAIN, self.wait)
            if wait is None:
                return await self._pf_fall_back_async(step, error, prep_res, None)
            if wait > 0:
                await clock().asleep(wait)
        except BaseException as error:
            note(error, self, name_of(self), "exec", 1, limit)
            raise
        return await self._pf_attempts_async(prep_res, None, first=1)

    async def _pf_attempts_async(self, prep_res: Any, hooks: Hooks | None, first: int = 0) -> Any:
        """Try exec until it succeeds or gives up, with all options, watched or not."""
        chosen = self._pf_options or PLAIN
        name = name_of(self)
        own = has_own_attempts(self)
        wait: float | None = None
        for attempt in range(first, self.max_retries):
            step = attempt_step(self, name, prep_res, hooks, attempt, own)
            try:
                with step:
                    try:
                        if hooks is not None and hooks.gates:
                            await admit_async(step, hooks)
                        if chosen is PLAIN:
                            step.result = result = await self.exec_async(prep_res)
                        else:
                            step.result = result = await self._pf_attempt_async(prep_res, name)
                    except BaseException as error:
                        wait = plan_retry(step, error, chosen, self.wait)
                        raise
                return result
            except Exception as error:  # noqa: BLE001 (a retry or the fallback decides)
                if wait is None:
                    return await self._pf_fall_back_async(step, error, prep_res, hooks)
                if wait > 0:
                    await clock().asleep(wait)
        return never_ran(name)

    async def _pf_attempt_async(self, prep_res: Any, name: str) -> Any:
        """Make one attempt within its timeout, through the node's policies."""
        chosen = self._pf_options or PLAIN
        call = chosen.around(self.exec_async, "acall") if chosen.policies else self.exec_async
        seconds = chosen.timeout
        if seconds is None:
            return await call(prep_res)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await call(prep_res)
        except TimeoutError as error:
            if limit.expired():
                raise NodeTimeoutError(name, seconds) from error
            raise

    async def _pf_fall_back_async(
        self, step: Step, error: Exception, prep_res: Any, hooks: Hooks | None
    ) -> Any:
        """Let the fallback answer for the failed attempt *step*, unless a gate refused that."""
        own = self.exec_fallback_async
        if step.refusal is error or getattr(own, "__func__", None) is OWN_FALLBACK:
            note(error, self, step.name, "exec", step.attempt + 1, step.attempts)
            raise error
        step = fallback_step(step, hooks)
        try:
            with step:
                step.result = result = await own(prep_res, error)
            return result
        except BaseException as final:
            phase = "exec" if final is error else "exec_fallback"
            note(final, self, step.name, phase, step.attempt + 1, step.attempts)
            raise


OWN_FALLBACK = AsyncNode.exec_fallback_async
