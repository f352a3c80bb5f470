"""Calls that have a task of their own: nothing they raise is lost, and they end when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

T = TypeVar("T")


class Exit:
    """A SystemExit on its way: raised in a task it would end the event loop, past all who wait."""

    __slots__ = ("error",)

    def __init__(self, error: SystemExit) -> None:
        self.error = error


async def contained(call: Callable[[], Awaitable[T]]) -> T | Exit:
    """Await what *call* returns, for a task; a SystemExit is returned."""
    try:
        return await call()
    except SystemExit as error:
        return Exit(error)


def outcome(task: asyncio.Task[T | Exit]) -> T:
    """Return what a task of `contained` has come to.

    Raises:
        BaseException: What its call raised.
    """
    value = task.result()
    if isinstance(value, Exit):
        raise value.error
    return value


async def stopped(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* and wait for them, however often we are told to hurry; drop what they raise.

    Raises:
        asyncio.CancelledError: We were told to; all of them have ended.
    """
    for task in tasks:
        task.cancel()
    told: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            told = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not report it as forgotten
    if told is not None:
        raise told
