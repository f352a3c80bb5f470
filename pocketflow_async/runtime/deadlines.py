"""One timer for all the timeouts of a run.

`asyncio.timeout` sets a timer for each node, which costs more than a small node itself. Here a
timer is set for the nearest deadline only, and a node that is done in time just takes its own off
the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from pocketflow_async.workflow.errors import NodeExecutionError, WorkflowExecutionError

if TYPE_CHECKING:
    from pocketflow_async.runtime.results import RunResult

T = TypeVar("T")


class ExecutionTimeoutError(NodeExecutionError, TimeoutError):
    """Raised when one attempt of a node took longer than its `timeout`.

    Args:
        seconds: The timeout.
        what: The node and its type; empty: code.
    """

    def __init__(self, seconds: float, what: str = "") -> None:
        text = f"{what} exceeded {seconds:g} s"
        super().__init__(text if what else f"Async code execution exceeded {seconds}s timeout")
        self.seconds = seconds


class WorkflowTimeoutError(WorkflowExecutionError, TimeoutError):
    """Raised when a run took longer than it may.

    Args:
        name: Name of the workflow.
        seconds: The limit.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"workflow {name} took longer than its timeout of {seconds}s")
        self.name = name
        self.seconds = seconds
        self.result: RunResult | None = None
        """What there was by then."""


class Deadlines:
    """The deadlines of tasks that are at work; all on one event loop."""

    __slots__ = ("_armed", "_due", "_late", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0

    async def within(self, seconds: float, work: Awaitable[T], what: str = "") -> T:
        """Await *work* in the current task, cancelling it after *seconds*; *what* is for the error.

        Raises:
            ExecutionTimeoutError: It took longer.
        """
        task: asyncio.Task[object] = asyncio.current_task()  # type: ignore[assignment]  # we are one
        before = task.cancelling()
        self._due[task] = due = self._loop.time() + seconds
        if self._timer is None or due < self._armed:
            self._arm(due)
        try:
            value = await work
        except BaseException as error:
            late = self._is_late(task) and task.uncancel() <= before
            if late and isinstance(error, asyncio.CancelledError):
                raise ExecutionTimeoutError(seconds, what) from error
            raise
        if self._is_late(task):
            task.uncancel()
        return value

    def close(self) -> None:
        """Cancel the timer; nothing is late any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self, task: asyncio.Task[object]) -> bool:
        """Take *task* off the list; return whether it had been cancelled for being late."""
        if self._due.pop(task, None) is not None:
            return False
        self._late.discard(task)
        return True

    def _arm(self, due: float) -> None:
        self.close()
        self._armed = due
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        """Cancel the tasks whose time is up."""
        self._timer = None
        now = max(self._loop.time(), self._armed)  # a loop may be early by its clock's resolution
        for task in [task for task, due in self._due.items() if due <= now]:
            del self._due[task]
            self._late.add(task)
            task.cancel()
        if self._due:
            self._arm(min(self._due.values()))
