"""Calls that go to a thread, in a copy of the context, and never outlive who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


async def offload(call: Callable[..., Any], *args: Any) -> Any:
    """Run *call* in the loop's default executor, in a copy of the context.

    A thread cannot be stopped. When the awaiting task is cancelled, the cancellation is passed on
    once the thread has come back, so nothing outlives its scope.
    """
    loop = asyncio.get_running_loop()
    return await returned(loop.run_in_executor(None, copy_context().run, called, call, args))


async def returned(future: asyncio.Future[T]) -> T:
    """Return what a thread comes back with; when cancelled, pass that on once it has come back."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:  # told again; the first one is on its way already
                continue
        if not future.cancelled():
            future.exception()  # looked at, so the loop does not report it as forgotten
        raise


def called(call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call it in a thread, for a future to take what comes back.

    Raises:
        RuntimeError: It raised StopIteration.
    """
    try:
        return call(*args)
    except StopIteration as error:  # a future cannot hold it, and would wait for ever
        raise RuntimeError(f"{call!r} raised StopIteration") from error
