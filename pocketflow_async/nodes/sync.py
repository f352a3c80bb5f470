"""Synchronous nodes: retries, waits and the fallback around exec."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from pocketflow_async._typing import Executed, Posted, Prepared
from pocketflow_async.attempts import CurrentRetry, has_own_attempts, own_attempts
from pocketflow_async.clock import clock
from pocketflow_async.defaults import PLAIN, Defaults, choose
from pocketflow_async.errors import NodeTimeoutError
from pocketflow_async.hooks import Hooks, Step, active, admit
from pocketflow_async.nodes.base import BaseNode, name_of
from pocketflow_async.trail import note

if TYPE_CHECKING:
    from typing import Unpack

    from pocketflow_async.options import NodeKeywords

logger = logging.getLogger(__name__)


class Node(BaseNode[Prepared, Executed, Posted]):
    """A synchronous node with retries and a fallback.

    Args:
        max_retries: Total number of attempts at exec, the first included.
        wait: Seconds between a failed attempt and the next.
        timeout: Seconds one attempt may take. Synchronous code cannot be interrupted: the attempt
            counts as failed when it comes back too late.
        retry_on: Exception types, or a predicate, for errors worth another attempt; others go to
            the fallback at once. Default: every `Exception`.
        backoff: Factor by which the wait grows with each failed attempt; 1 keeps it constant.
        max_wait: Upper bound of any wait, in seconds.
        jitter: Share of each wait that is random, from 0 (none) to 1 (all of it).
        name: Name in traces, errors and diagrams; the class's name when left out.
        policies: What goes around each attempt, within its timeout, the first one outermost: one or
            several of `pocketflow_async.resilience`. All visits of the node share them.
        in_thread: Run exec, with its retries and waits, in a worker thread with a copy of the
            context when the node is part of an AsyncFlow; prep and post stay on the event loop,
            so `shared` is only touched there. Cancelling waits for the thread to come back.
            In a plain Flow it has no effect.
    """

    max_retries: int
    wait: float
    cur_retry: int = CurrentRetry()  # type: ignore[assignment]
    _pf_keywords: ClassVar[str] = "NodeKeywords"

    def __init__(
        self, max_retries: int = 1, wait: float = 0, **given: Unpack[NodeKeywords]
    ) -> None:
        super().__init__()
        self.max_retries = max_retries
        self.wait = wait
        if given:
            self._pf_options = choose(self, "NodeOptions", given)

    def exec_fallback(self, prep_res: Prepared, exc: Exception) -> Executed:
        """Answer in place of exec after its last attempt failed; by default raise *exc* again."""
        raise exc

    def run(self, shared: Any) -> Any:
        """Run this node alone and return what post returned.

        Raises:
            UseRunAsyncError: The node is asynchronous.
        """
        if self.max_retries == 1:
            return super().run(shared)
        with own_attempts(self):  # other threads may be running this very object
            return super().run(shared)

    def _exec(self, prep_res: Any) -> Any:
        hooks = active()
        limit = self.max_retries
        if (
            hooks is not None
            or self._pf_options is not None
            or (limit != 1 and (limit < 1 or has_own_attempts(self)))
        ):
            return self._pf_attempts(prep_res, hooks)
        # The plain path: the first attempt as directly as PocketFlow makes it.
        self.__dict__["cur_retry"] = 0
        try:
            return self.exec(prep_res)
        except Exception as error:  # noqa: BLE001 (a retry or the fallback decides)
            step = attempt_step(self, name_of(self), prep_res, None, 0, False)
            wait = plan_retry(step, error, PLAIN, self.wait)
            if wait is None:
                return self._pf_fall_back(step, error, prep_res, None)
            if wait > 0:
                clock().sleep(wait)
        except BaseException as error:
            note(error, self, name_of(self), "exec", 1, limit)
            raise
        return self._pf_attempts(prep_res, None, first=1)

    def _pf_attempts(self, prep_res: Any, hooks: Hooks | None, first: int = 0) -> Any:
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
                        admit(step, hooks)
                        step.result = result = self._pf_attempt(prep_res, name)
                    except BaseException as error:
                        wait = plan_retry(step, error, chosen, self.wait)
                        raise
                return result
            except Exception as error:  # noqa: BLE001 (a retry or the fallback decides)
                if wait is None:
                    return self._pf_fall_back(step, error, prep_res, hooks)
                if wait > 0:
                    clock().sleep(wait)
        return never_ran(name)

    def _pf_attempt(self, prep_res: Any, name: str) -> Any:
        chosen = self._pf_options or PLAIN
        call = chosen.around(self.exec, "call") if chosen.policies else self.exec
        seconds = chosen.timeout
        if seconds is None:
            return call(prep_res)
        started = clock().monotonic()
        result = call(prep_res)
        if clock().monotonic() - started > seconds:
            raise NodeTimeoutError(name, seconds)
        return result

    def _pf_fall_back(
        self, step: Step, error: Exception, prep_res: Any, hooks: Hooks | None
    ) -> Any:
        """Let the fallback answer for the failed attempt *step*, unless a gate refused that."""
        own = self.exec_fallback
        if step.refusal is error or getattr(own, "__func__", None) is OWN_FALLBACK:
            note(error, self, step.name, "exec", step.attempt + 1, step.attempts)
            raise error
        step = fallback_step(step, hooks)
        try:
            with step:
                step.result = result = own(prep_res, error)
            return result
        except BaseException as final:
            phase = "exec" if final is error else "exec_fallback"
            note(final, self, step.name, phase, step.attempt + 1, step.attempts)
            raise


OWN_FALLBACK = Node.exec_fallback


def attempt_step(
    node: Node[Any, Any, Any],
    name: str,
    prep_res: Any,
    hooks: Hooks | None,
    attempt: int,
    own: bool,
) -> Step:
    """Return the step of attempt number *attempt* (0-based), the node's `cur_retry` set to it."""
    if own:
        node.cur_retry = attempt
    else:
        node.__dict__["cur_retry"] = attempt
    step = Step("exec", name, node, prep_res, hooks)
    if node.max_retries != 1:
        step.attempt = attempt
        step.attempts = node.max_retries
    return step


def fallback_step(failed: Step, hooks: Hooks | None) -> Step:
    """Return the step of the fallback that follows the failed attempt."""
    step = Step("fallback", failed.name, failed.source, failed.input, hooks)
    step.attempt = failed.attempt
    step.attempts = failed.attempts
    return step


def plan_retry(step: Step, error: BaseException, chosen: Defaults, wait: float) -> float | None:
    """Return the seconds to wait after the failed attempt *step*, or None to give up.

    The step says so too, for those who watch it.
    """
    if not isinstance(error, Exception):
        note(error, step.source, step.name, "exec", step.attempt + 1, step.attempts)
    elif (
        error is not step.refusal
        and step.attempt + 1 < step.attempts
        and chosen.worth_retrying(error)
    ):
        step.wait = chosen.delay(wait, step.attempt, clock())
    return step.wait


def never_ran(name: str) -> None:
    """Say that a node with `max_retries=0` did nothing; PocketFlow is silent about it."""
    logger.warning("%s has max_retries=0, so its exec never runs; 1 means one attempt", name)
