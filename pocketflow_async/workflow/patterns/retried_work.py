"""Work that is tried again, and that tells of its attempts in what it yields."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from pocketflow_async.clock import clock
from pocketflow_async.offloading import offload
from pocketflow_async.workflow.retrying import RetryPolicy
from pocketflow_async.workflow.spec import Context, Port, Ports, Work

FACTS: Final = ("success", "attempts", "total_attempts")
"""What is added to what the work yields."""


class JitteredPolicy(RetryPolicy):
    """A RetryPolicy that adds chance to its delays, so that not all callers come back at once.

    Each delay gets up to another `initial_delay` on top, but at most itself, and never is above
    `max_delay`. The chance is that of the current clock (`Clock.uniform`).
    """

    __slots__ = ()

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number *attempt*; the first one is 1."""
        plain = super().delay(attempt)
        jitter = clock().uniform(0.0, min(plain, self.initial_delay))
        return min(self.max_delay, plain + jitter)

    calculate_delay = delay


_attempts: ContextVar[tuple[Context, list[dict[str, Any]]] | None] = ContextVar(
    "workflow_attempts", default=None
)
"""The attempts so far of the node at work in this task, which makes them one after another."""


class RetriedWork:
    """Does what *work* does, and adds what its attempts came to.

    The runtime makes the attempts, by the policy of the node's spec; here they are written down.
    Nothing of a run is kept.

    Args:
        work: What is tried.
        policy: When it is tried again; the spec has to have the same.
        timeout: Seconds that one attempt may take; None: no limit.
    """

    is_async: Final = True

    def __init__(self, work: Work, policy: RetryPolicy, timeout: float | None = None) -> None:
        self.work = work
        self.policy = policy
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<RetriedWork {self.work!r}>"

    @property
    def inputs(self) -> Ports:
        """The inputs of what is tried."""
        return inputs_of(self.work)

    @property
    def outputs(self) -> Ports:
        """The outputs of what is tried, if it yields a dict, and what is added."""
        return outputs_of(self.work, FACTS)

    async def run(self, inputs: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Make one attempt.

        Returns:
            The dict that it has yielded, or `{"value": …}` of anything else but None, with
            `success`, `attempts` and `total_attempts`; its own keys of those names stay.

        Raises:
            RuntimeError: It was the last attempt; its cause is what that raised.
            Exception: It failed, and may be tried again, or is not worth it.
        """
        so_far = _attempts.get()
        if so_far is None or so_far[0] is not context:
            so_far = (context, [])
            _attempts.set(so_far)  # in the node's own task: there is nothing to reset
        attempts = so_far[1]
        began = clock().monotonic()
        entry: dict[str, Any] = {"attempt": len(attempts) + 1, "success": False, "duration": 0.0}
        attempts.append(entry)
        try:
            value = await run_work(self.work, inputs, context, self.timeout)
        except BaseException as error:
            entry["duration"] = clock().monotonic() - began
            entry |= {"error": str(error), "error_type": type(error).__name__}
            if self._is_last(error, attempts):
                count = len(attempts)
                failed = RuntimeError(f"Operation failed after {count} attempts: {error}")
                # With the traceback, so that the run's errors name the line of the user's code.
                raise failed.with_traceback(error.__traceback__) from error
            raise
        entry |= {"success": True, "duration": clock().monotonic() - began}
        return with_facts(
            value, {"success": True, "attempts": attempts, "total_attempts": len(attempts)}
        )

    def _is_last(self, error: BaseException, attempts: list[dict[str, Any]]) -> bool:
        return len(attempts) >= self.policy.max_attempts and self.policy.is_retried(error)


async def run_work(
    work: Work, inputs: Mapping[str, Any], context: Context, timeout: float | None
) -> Any:
    """Return what *work* yields; where it is synchronous, from a thread.

    Args:
        work: What to do.
        inputs: Its inputs.
        context: Its context.
        timeout: Seconds that it may take; None: no limit.

    Raises:
        ExecutionTimeoutError: It took longer.
    """
    try:
        async with asyncio.timeout(timeout) as limit:
            if work.is_async:
                return await work.run(inputs, context)
            return await offload(work.run, inputs, context)
    except TimeoutError as error:
        if timeout is None or not limit.expired():
            raise
        from pocketflow_async.runtime.deadlines import (  # noqa: PLC0415 (it is above us)
            ExecutionTimeoutError,
        )

        raise ExecutionTimeoutError(timeout) from error


def with_facts(value: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was yielded as a dict that has *facts* too, where it has no such keys itself."""
    if value is None:
        return dict(facts)
    own = dict(value) if isinstance(value, Mapping) else {"value": value}
    return {**own, **{name: fact for name, fact in facts.items() if name not in own}}


def inputs_of(work: Work) -> Ports:
    """Return the inputs of *work*, if it tells them."""
    ports = getattr(work, "inputs", None)
    return ports if isinstance(ports, Ports) else Ports()


def outputs_of(work: Work, facts: tuple[str, ...]) -> Ports:
    """Return the outputs of *work* with *facts* added; their types are no longer known."""
    ports = getattr(work, "outputs", None)
    if not isinstance(ports, Ports):
        ports = Ports()
    known = {name: Port(name) for name in (*ports.known, *facts)}
    return Ports(known, open=ports.open)
