"""Work that many wait for and that is done once, and tasks that belong to no run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, ContextVar
from types import TracebackType
from typing import Any, Generic, TypeVar

from pocketflow_async.clock import Clock, using_clock
from pocketflow_async.resources.errors import ResourceCreationError
from pocketflow_async.resources.uses import using

T = TypeVar("T")

_inside: ContextVar[Flight[Any] | None] = ContextVar("resource_flight", default=None)


class Flight(Generic[T]):
    """One piece of work in a task of its own, for as many as come; it belongs to an event loop.

    The task has a context of its own: what it makes belongs to no run. Who is cancelled while
    waiting does not end it for the others; the last one does, and waits until it has ended.

    Args:
        name: The resource that it is about.
        operation: What is done.
        clock: The time of the work.
        work: Does it.
        ended: Called when nobody new is to wait for it: when the last one has left and it is
            about to be cancelled, and when it has ended.

    Attributes:
        is_left: Whether all who waited have left before it ended.
    """

    def __init__(
        self,
        name: str,
        operation: str,
        clock: Clock,
        work: Callable[[Flight[T]], Coroutine[Any, Any, T]],
        ended: Callable[[Flight[T]], None],
    ) -> None:
        self.name = name
        self.is_left = False
        self._operation = operation
        self._ended = ended
        self._waiting = 0
        self._needs: list[Flight[Any]] = []
        self._trace: TracebackType | None = None
        self.task = spawn(lambda: work(self), f"{name}.{operation}", clock, self)
        self.task.add_done_callback(lambda _: ended(self))

    async def join(self) -> T:
        """Wait for it and return what has come of it.

        Raises:
            ResourceCreationError: It waits for the caller, or was cancelled by others.
            Exception: What the work raised.
        """
        caller = inside()
        if caller is not None:
            self._refuse_circle(caller)
            caller._needs.append(self)
        operation = "wait" if self._waiting else self._operation
        self._waiting += 1
        try:
            with using(self.name, operation):
                return await self._landed()
        finally:
            self._waiting -= 1
            if caller is not None:
                caller._needs.remove(self)

    async def _landed(self) -> T:
        task = self.task
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            if self._waiting == 1 and not task.done():
                await self._cancel()
            raise
        if task.cancelled():
            raise ResourceCreationError(
                self.name, "it was cancelled: the registry was cleaned up, or its loop has ended"
            )
        error = task.exception()
        if error is not None:
            self._trace = self._trace or error.__traceback__
            raise error.with_traceback(self._trace)  # as it came: not longer with each who waits
        return task.result()

    async def _cancel(self) -> None:
        self.is_left = True
        self._ended(self)
        self.task.cancel()
        await outlast((self.task,))
        if not self.task.cancelled():
            self.task.exception()  # looked at: nobody else will

    def _refuse_circle(self, caller: Flight[Any]) -> None:
        path = self._path_to(caller)
        if path is not None:
            names = " -> ".join([caller.name, *path])
            raise ResourceCreationError(self.name, f"resources need each other: {names}")

    def _path_to(self, other: Flight[Any]) -> list[str] | None:
        if self is other:
            return [self.name]
        for needed in self._needs:
            path = needed._path_to(other)
            if path is not None:
                return [self.name, *path]
        return None


def inside() -> Flight[Any] | None:
    """Return the flight that the caller is part of; None once that has ended."""
    flight = _inside.get()
    return None if flight is None or flight.task.done() else flight


def spawn(
    work: Callable[[], Coroutine[Any, Any, T]],
    name: str,
    clock: Clock,
    flight: Flight[Any] | None = None,
) -> asyncio.Task[T]:
    """Do *work* in a task with a new context, in which only the *clock* is as it was."""

    async def run() -> T:
        _inside.set(flight)
        with using_clock(clock):
            return await work()  # made in here: a task that is cancelled at once never begins it

    # Not by the loop's task factory: an eager one would begin before the task is known to anybody.
    loop = asyncio.get_running_loop()
    return asyncio.Task(run(), loop=loop, name=name, context=Context())


async def outlast(
    tasks: Iterable[asyncio.Future[Any]], seconds: float | None = None
) -> asyncio.CancelledError | None:
    """Wait for the end of *tasks*, however often the caller is cancelled meanwhile.

    Args:
        tasks: What to wait for; nothing is done to them.
        seconds: How long at most; None: for ever.

    Returns:
        The last cancellation, to be raised by the caller in the end.
    """
    told: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    while pending := [task for task in tasks if not task.done()]:
        left = None if end is None else end - loop.time()
        if left is not None and left <= 0:
            break
        try:
            await asyncio.wait(pending, timeout=left)
        except asyncio.CancelledError as error:
            told = error
    return told
