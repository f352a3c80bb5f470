"""The synchronous methods of the original, watched: the same work, a step around each unit of it.

Each variant makes the calls of the original, on the same objects and in the same order, so that
whatever a class or an object has made its own is still what is called.
"""

from __future__ import annotations

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


def _base_exec(module: Any, original: Any) -> Any:
    def _exec(self: Any, prep_res: Any) -> Any:
        with phase("exec", self, prep_res, active()) as step:
            step.result = self.exec(prep_res)
        return step.result

    return as_named(original, _exec)


def _base_run(module: Any, original: Any) -> Any:
    def _run(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = prepared = self.prep(shared)
            executed = self._exec(prepared)
            with phase("post", self, executed, hooks) as step:
                step.result = whole.result = self.post(shared, prepared, executed)
        return whole.result

    return as_named(original, _run)


def _node_exec(module: Any, original: Any) -> Any:
    default = module.Node.exec_fallback

    def _exec(self: Any, prep_res: Any) -> Any:
        hooks = active()
        attempts = self.max_retries
        for number in range(attempts):
            self.cur_retry = number
            step = attempt(self, prep_res, hooks, number, attempts)
            try:
                with step:
                    try:
                        step.result = self.exec(prep_res)
                    except Exception:
                        step.wait = pause(self, self.cur_retry)
                        raise
                return step.result
            except Exception as error:  # noqa: BLE001 (the original's own)
                if self.cur_retry == self.max_retries - 1:
                    return _fall_back(self, prep_res, error, hooks, default)
                if self.wait > 0:
                    module.time.sleep(self.wait)
        return None

    return as_named(original, _exec)


def _fall_back(node: Any, given: Any, error: Exception, hooks: Hooks | None, default: Any) -> Any:
    own = node.exec_fallback
    if not is_own(own, default):
        return own(given, error)
    with phase("fallback", node, given, hooks) as step:
        step.attempts = node.max_retries
        step.result = own(given, error)
    return step.result


def _batch_exec(module: Any, original: Any) -> Any:
    def _exec(self: Any, items: Any) -> Any:
        hooks = active()
        results = []
        for index, given in enumerate(items or []):
            with item(self, given, hooks, index) as step:
                step.result = super(module.BatchNode, self)._exec(given)
            results.append(step.result)
        return results

    return as_named(original, _exec)


# A level of nesting costs two frames, `_run` and `_orch`, as in the original.


def _orch(module: Any, original: Any) -> Any:
    def _orch(self: Any, shared: Any, params: Any = None) -> Any:
        hooks = active()
        copied = module.copy.copy
        curr, shares, last_action = copied(self.start_node), (params or {**self.params}), None
        while curr:
            curr.set_params(shares)
            with visit(module, curr, shared, hooks) as step:
                step.result = last_action = curr._run(shared)
            curr = copied(self.get_next_node(curr, last_action))
        return last_action

    return as_named(original, _orch)


def _flow_run(module: Any, original: Any) -> Any:
    def _run(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = prepared = self.prep(shared)
            result = self._orch(shared)
            with phase("post", self, result, hooks) as step:
                step.result = whole.result = self.post(shared, prepared, result)
        return whole.result

    return as_named(original, _run)


def _batch_run(module: Any, original: Any) -> Any:
    def _run(self: Any, shared: Any) -> Any:
        hooks = active()
        with visit_unless_open(module, self, shared, hooks) as whole:
            with phase("prep", self, shared, hooks) as step:
                step.result = self.prep(shared)
            rounds = step.result or []
            for index, given in enumerate(rounds):
                params = {**self.params, **given}
                with item(self, params, hooks, index) as step:
                    step.result = self._orch(shared, params)
            with phase("post", self, None, hooks) as step:
                step.result = whole.result = self.post(shared, rounds, None)
        return whole.result

    return as_named(original, _run)


WATCHED: Final[Table] = {
    ("BaseNode", "_exec"): (used("exec"), _base_exec),
    ("BaseNode", "_run"): (used("_exec post prep"), _base_run),
    ("Node", "_exec"): (
        used("Exception cur_retry exec exec_fallback max_retries range sleep time wait"),
        _node_exec,
    ),
    ("BatchNode", "_exec"): (used("BatchNode _exec"), _batch_exec),
    ("Flow", "_orch"): (
        used("_run copy get_next_node params set_params start_node"),
        _orch,
    ),
    ("Flow", "_run"): (used("_orch post prep"), _flow_run),
    ("BatchFlow", "_run"): (used("_orch params post prep"), _batch_run),
}
