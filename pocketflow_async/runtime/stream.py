"""What a run tells, as an async iterator; the run lives in a task inside it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from pocketflow_async.runtime.events import Event


@asynccontextmanager
async def events_of(
    run: Callable[[Callable[[Event], None]], Awaitable[None]],
) -> AsyncGenerator[AsyncGenerator[Event, None], None]:
    """Start *run* and give what it tells; on the way out, cancel it and wait for its end.

    Args:
        run: Called with what it is to tell each event.
    """
    waiting: deque[Event] = deque()
    news = asyncio.Event()

    def emit(event: Event) -> None:
        waiting.append(event)
        news.set()

    async def work() -> None:
        try:
            await run(emit)
        finally:
            news.set()

    async def events() -> AsyncGenerator[Event, None]:
        while True:
            while waiting:
                yield waiting.popleft()
            if task.done():
                await task  # raises what the run has raised
                return
            news.clear()
            await news.wait()

    task = asyncio.get_running_loop().create_task(work(), name="workflow-stream")
    task.add_done_callback(lambda _: news.set())
    try:
        yield events()
    finally:
        await _end(task)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel *task* and wait for it, however often we are told to hurry."""
    told: asyncio.CancelledError | None = None
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            told = error
    with suppress(asyncio.CancelledError):
        task.exception()  # looked at, so that the loop does not report it as forgotten
    if told is not None:
        raise told
