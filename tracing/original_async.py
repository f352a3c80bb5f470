"""The asynchronous methods of the original, watched: no await more and no task more than in it.

As in the original, what `gather` runs goes on by itself when one of it fails.
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any, Final

from tracing.original_steps import (
    Table,
    as_named,
    attempt,
    is_own,
    item,
    pause,
    phase,
    used,
    visit,
    visit_unless_open,
)
from tracing.recorder import Hooks, active


def _node_exec(module: Any, original: Any) -> Any:
    default = module.AsyncNode.exec_fallback_async
    kept = "cur_retry" in original.__code__.co_names  # git HEAD; 0.0.3 counts for itself

    async def _exec(self: Any, prep_res: Any) -> Any:
        hooks = active()
        attempts = self.max_retries
        for number in range(attempts):
            if kept:
                self.cur_retry = number
            step = attempt(self, prep_res, hooks, number, attempts)
            try:
                with step:
                    try:
                        step.result = await self.exec_async(prep_res)
                    except Exception:
                        step.wait = pause(self, self.cur_retry if kept else number)
                        raise
                return step.result
            except Exception as error:  # noqa: BLE001 (the original's own)
                if (self.cur_retry if kept else number) == self.max_retries - 1:
                    return await _fall_back(self, prep_res, error, hooks, default)
                if self.wait > 0:
                    await module.asyncio.sleep(self.wait)
        return None

    return as_named(original, _exec)


async def _fall_back(
    node: Any, given: Any, error: Exception, hooks: Hooks | None, default: Any
) -> Any:
    own = node.exec_fallback_async
    if not is_own(own, default):
        return await own(given, error)
    with phase("fallback", node, given, hooks) as step:
        step.attempts = node.max_retries
        step.result = await own(given, error)
    return step.result


def _node_run(module: Any, original: Any) -> Any:
    async def _run_async(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = prepared = await self.prep_async(shared)
            executed = await self._exec(prepared)
            with phase("post", self, executed, hooks) as step:
                step.result = whole.result = await self.post_async(shared, prepared, executed)
        return whole.result

    return as_named(original, _run_async)


def _batch_exec(module: Any, original: Any) -> Any:
    async def _exec(self: Any, items: Any) -> Any:
        hooks = active()
        results = []
        for index, given in enumerate(items):
            with item(self, given, hooks, index) as step:
                step.result = await super(module.AsyncBatchNode, self)._exec(given)
            results.append(step.result)
        return results

    return as_named(original, _exec)


def _parallel_exec(module: Any, original: Any) -> Any:
    async def one(node: Any, call: Any, given: Any, hooks: Hooks | None, index: int) -> Any:
        with item(node, given, hooks, index) as step:
            step.result = await call(given)
        return step.result

    one = as_named(module.AsyncNode._exec, one)

    async def _exec(self: Any, items: Any) -> Any:
        hooks = active()
        call = super(module.AsyncParallelBatchNode, self)._exec
        return await module.asyncio.gather(
            *(one(self, call, given, hooks, index) for index, given in enumerate(items))
        )

    return as_named(original, _exec)


def _orch(module: Any, original: Any) -> Any:
    async def _orch_async(self: Any, shared: Any, params: Any = None) -> Any:
        hooks = active()
        copied = module.copy.copy
        curr, shares, last_action = copied(self.start_node), (params or {**self.params}), None
        while curr:
            curr.set_params(shares)
            with visit(module, curr, shared, hooks) as step:
                if isinstance(curr, module.AsyncNode):
                    step.result = last_action = await curr._run_async(shared)
                else:
                    step.result = last_action = curr._run(shared)
            curr = copied(self.get_next_node(curr, last_action))
        return last_action

    return as_named(original, _orch_async)


def _flow_run(module: Any, original: Any) -> Any:
    async def _run_async(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = prepared = await self.prep_async(shared)
            result = await self._orch_async(shared)
            with phase("post", self, result, hooks) as step:
                step.result = whole.result = await self.post_async(shared, prepared, result)
        return whole.result

    return as_named(original, _run_async)


def _batch_run(module: Any, original: Any) -> Any:
    async def _run_async(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = await self.prep_async(shared)
            rounds = step.result or []
            for index, given in enumerate(rounds):
                params = {**self.params, **given}
                with item(self, params, hooks, index) as step:
                    step.result = await self._orch_async(shared, params)
            with phase("post", self, None, hooks) as step:
                step.result = whole.result = await self.post_async(shared, rounds, None)
        return whole.result

    return as_named(original, _run_async)


def _parallel_run(module: Any, original: Any) -> Any:
    async def later(flow: Any, shared: Any, params: Any, hooks: Hooks | None, index: int) -> Any:
        with item(flow, params, hooks, index) as step:
            step.result = await flow._orch_async(shared, params)
        return step.result

    async def begun(flow: Any, work: Any, params: Any, hooks: Hooks | None, index: int) -> Any:
        with item(flow, params, hooks, index) as step:
            step.result = await work
        return step.result

    later = as_named(module.AsyncFlow._orch_async, later)

    def one(flow: Any, shared: Any, params: Any, hooks: Hooks | None, index: int) -> Any:
        if iscoroutinefunction(flow._orch_async):
            return later(flow, shared, params, hooks, index)
        return begun(flow, flow._orch_async(shared, params), params, hooks, index)

    async def _run_async(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = await self.prep_async(shared)
            rounds = step.result or []
            await module.asyncio.gather(
                *(
                    one(self, shared, {**self.params, **given}, hooks, index)
                    for index, given in enumerate(rounds)
                )
            )
            with phase("post", self, None, hooks) as step:
                step.result = whole.result = await self.post_async(shared, rounds, None)
        return whole.result

    return as_named(original, _run_async)


WATCHED_ASYNC: Final[Table] = {
    ("AsyncNode", "_exec"): (
        used("Exception asyncio exec_async exec_fallback_async max_retries range sleep wait"),
        _node_exec,
    ),
    ("AsyncNode", "_run_async"): (used("_exec post_async prep_async"), _node_run),
    ("AsyncBatchNode", "_exec"): (used("AsyncBatchNode _exec"), _batch_exec),
    ("AsyncParallelBatchNode", "_exec"): (
        used("AsyncParallelBatchNode _exec asyncio gather"),
        _parallel_exec,
    ),
    ("AsyncFlow", "_orch_async"): (
        used(
            "AsyncNode _run _run_async copy get_next_node isinstance params set_params start_node"
        ),
        _orch,
    ),
    ("AsyncFlow", "_run_async"): (used("_orch_async post_async prep_async"), _flow_run),
    ("AsyncBatchFlow", "_run_async"): (
        used("_orch_async params post_async prep_async"),
        _batch_run,
    ),
    ("AsyncParallelBatchFlow", "_run_async"): (
        used("_orch_async asyncio gather params post_async prep_async"),
        _parallel_run,
    ),
}
