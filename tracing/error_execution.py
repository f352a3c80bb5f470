"""Running asynchronous work with a limit, protection and retries; nothing here reports errors."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

logger = logging.getLogger(__name__)

Target: TypeAlias = Callable[..., Any] | Awaitable[Any]
"""A function that makes an awaitable, or one awaitable, which can be awaited only once."""


async def called(
    target: Target, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Return what *target* comes to: what it is awaited or called for, then awaited.

    Raises:
        TypeError: It can be neither called nor awaited, or was given arguments although it is no
            function.
    """
    if inspect.isawaitable(target):
        if args or kwargs:
            raise TypeError("arguments need a function: this awaitable was made with its own")
        return await target
    if not callable(target):
        raise TypeError(f"a coroutine or a function that makes one is needed, not {target!r}")
    made = target(*args, **dict(kwargs or {}))
    return await made if inspect.isawaitable(made) else made


async def limited(
    seconds: float | None,
    target: Target,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Return what *target* comes to within so many seconds; None: as long as it takes.

    Raises:
        TimeoutError: It took longer; it was cancelled and has ended.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await called(target, args, kwargs)
    except TimeoutError as error:
        if limit.expired() and not error.args and seconds is not None:
            error.args = (f"not done after {seconds:g} s",)
        raise


async def protected(work: Awaitable[Any]) -> Any:
    """Await *work* to its end, whoever cancels the caller meanwhile.

    The work is a task of its own. If the caller is cancelled, the work goes on, and only when it
    has ended is the caller's CancelledError raised; the result is lost then, and an error of the
    work is logged and becomes the cause. Cancelling the work's own task, as the end of
    `asyncio.run` does, is not prevented.
    """
    task = asyncio.ensure_future(work)
    told: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            told = told or error
    if told is None:
        return task.result()
    failure = None if task.cancelled() else task.exception()
    if failure is None:
        raise told
    logger.warning("protected work failed after its caller was cancelled", exc_info=failure)
    raise told from failure


def run_here(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* to its end in a loop of its own, in a thread that has none.

    Not by `asyncio.run`, which takes the signal SIGINT over for that time.
    """
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
