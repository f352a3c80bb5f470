"""The threads in which synchronous nodes run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from pocketflow_async.offloading import called, returned
from pocketflow_async.runtime.slots import Slots


class Pool:
    """Threads, made when the first one is needed. It can be used again after `close`.

    A node takes one of its `slots` before it comes here, so that nothing waits in the executor and
    all waiting is seen.

    Args:
        size: How many threads there may be.

    Raises:
        TypeError: It is no whole number.
        ValueError: There would be none.
    """

    __slots__ = ("_executor", "_lock", "slots")

    def __init__(self, size: int) -> None:
        self.slots = Slots(size)
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run *function* in a thread, in a copy of the context.

        A thread cannot be stopped. When the awaiting task is cancelled, the cancellation is passed
        on once the thread has come back, so nothing outlives its run.
        """
        loop = asyncio.get_running_loop()
        with self._lock:  # so that nobody closes it before it has the work
            if self._executor is None:
                self._executor = ThreadPoolExecutor(
                    self.slots.limit, thread_name_prefix="workflow-node"
                )
            future = loop.run_in_executor(
                self._executor, copy_context().run, called, function, args
            )
        return await returned(future)

    def close(self) -> None:
        """Let the threads end as soon as they have nothing to do."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
