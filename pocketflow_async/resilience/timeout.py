"""A call that may take only so long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, TypeVar

from pocketflow_async.arguments import seconds as checked
from pocketflow_async.clock import Clock
from pocketflow_async.resilience.errors import CallTimeoutError
from pocketflow_async.resilience.policy import Facts, Policy

T = TypeVar("T")

_SECONDS: Final = "flow.timeout.seconds"
_EXPIRED: Final = "flow.timeout.expired"


class Timeout(Policy):
    """Cancels a call that takes too long, and raises `CallTimeoutError` in its place.

        @Timeout(2)
        async def fetch(url): ...

        async with Timeout(2):
            ...

    A TimeoutError of the call's own comes as it is. The call has to come to an end once it is
    cancelled: one that will not stop is waited for, and what it then returns counts.

    Synchronous code cannot be interrupted. `call`, and so a decorated `def`, measures it: what
    came back too late is dropped, and the same error raised; an error of its own comes as it is.

    It may be entered any number of times at once, by tasks of any event loops.

    Args:
        seconds: What a call has.
        name: What the call is called in the error and in traces.
        clock: What synchronous calls are measured with; that of the context if left out.
            Asynchronous ones go by the event loop's time.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: The seconds are not above 0, or not finite.
    """

    kind = "timeout"

    def __init__(
        self, seconds: float, *, name: str | None = None, clock: Clock | None = None
    ) -> None:
        super().__init__(name, clock=clock)
        self.seconds = checked("seconds", seconds)
        self._operation = name or "the call"
        self._open: dict[asyncio.Task[Any], list[asyncio.Timeout]] = {}

    def __repr__(self) -> str:
        return f"Timeout({self.seconds:g})"

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        if facts is not None:
            facts[_SECONDS] = self.seconds
        own: TimeoutError | None = None
        try:
            async with asyncio.timeout(self.seconds):
                try:
                    return await call()
                except TimeoutError as error:
                    own = error
                    raise
        except TimeoutError as error:
            if error is own:
                raise
            if facts is not None:
                facts[_EXPIRED] = True
            raise self._late() from error
        finally:
            own = None  # its traceback holds this frame: no cycle

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        if facts is not None:
            facts[_SECONDS] = self.seconds
        now = self._time().monotonic
        began = now()
        value = call()
        if now() - began > self.seconds:
            if facts is not None:
                facts[_EXPIRED] = True
            raise self._late()
        return value

    def _late(self) -> CallTimeoutError:
        return CallTimeoutError(self.seconds, self._operation)

    async def __aenter__(self) -> Timeout:
        limit = asyncio.timeout(self.seconds)
        await limit.__aenter__()
        task = asyncio.current_task()
        assert task is not None  # the limit has made sure
        self._open.setdefault(task, []).append(limit)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # only a task can have entered
        limits = self._open[task]  # several, if it is entered again inside; the last is ours
        limit = limits.pop()
        if not limits:
            del self._open[task]
        try:
            await limit.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise self._late() from late
