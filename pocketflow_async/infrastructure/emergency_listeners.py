"""Those who are told of an emergency: each in a task of its own, with a limit of time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from inspect import isawaitable
from typing import Any, TypeAlias

from pocketflow_async.infrastructure.emergency_states import EmergencyEvent

logger = logging.getLogger(__name__)

Listener: TypeAlias = Callable[[EmergencyEvent], Awaitable[object] | None]
"""Gets each change; usually asynchronous. A plain function must not block."""


class Done:
    """What a plain method returns that may be awaited, but need not be."""

    def __await__(self) -> Generator[None, None, None]:
        """Go on at once."""
        yield from ()


class Listeners:
    """Calls listeners; whatever they do, nobody waits for them.

    Args:
        seconds: How long each may take for one event.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._contexts: dict[Listener, Context] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._contexts)

    def add(self, listener: Listener) -> None:
        """Tell *listener* from now on, in the context of who adds it; again changes nothing.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(listener):
            raise TypeError(f"{listener!r} cannot be called: give an async function of one event")
        self._contexts.setdefault(listener, copy_context())

    def remove(self, listener: Listener) -> None:
        """Tell *listener* no more; it need not be there."""
        self._contexts.pop(listener, None)

    def tell(self, event: EmergencyEvent) -> None:
        """Call each of them for *event*, at once, even if it is still at work on an earlier one."""
        for listener, context in self._contexts.items():
            self.spawn(self._call(listener, event), context.copy())

    def spawn(self, work: Coroutine[Any, Any, None], context: Context | None = None) -> None:
        """Let *work* be done beside, until it ends or this is closed."""
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def limited(self, what: object, work: Callable[[], Awaitable[object] | None]) -> None:
        """Do *work* within the time; what goes wrong in it is logged."""
        try:
            async with asyncio.timeout(self._seconds):
                answer = work()
                if isawaitable(answer):
                    await answer
        except Exception:
            logger.exception("%r, who was told of an emergency, failed", what)

    async def _call(self, listener: Listener, event: EmergencyEvent) -> None:
        await self.limited(listener, lambda: listener(event))

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until all have been told; return whether they have, in *timeout* seconds."""
        own = asyncio.current_task()
        while waiting := {task for task in self._tasks if task is not own}:
            done, _ = await asyncio.wait(waiting, timeout=timeout)
            if not done:
                return False
        return True

    async def close(self) -> None:
        """Cancel those that are at work, and wait for them a little."""
        self._contexts.clear()
        own = asyncio.current_task()
        left = {task for task in self._tasks if task is not own}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=self._seconds)
