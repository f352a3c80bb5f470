"""The tasks that a code node starts: limited in number, and ended with it.

A node's code gets a module of ours in place of `asyncio`, whether it imports it or just uses it.
All but the functions that start tasks is asyncio's own. Nothing of asyncio is replaced, so other
nodes and the rest of the program never notice; nor are tasks limited that a library starts by
itself, or that the code starts on the loop (`loop.create_task`).

A limited task counts from its first step to its end. Tasks that it starts in turn do not count, or
a task that waits for its own ones would wait for ever once all places are taken.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final, TypeVar

_T = TypeVar("_T")


class _OwnTasks:
    """What one run of a node's code has started."""

    __slots__ = ("_alive", "_places")

    def __init__(self, limit: int | None, alive: set[asyncio.Task[Any]] | None = None) -> None:
        self._places = None if limit is None else asyncio.Semaphore(limit)
        self._alive: set[asyncio.Task[Any]] = set() if alive is None else alive

    def start(self, coroutine: Coroutine[Any, Any, _T], **keywords: Any) -> asyncio.Task[_T]:
        task = asyncio.create_task(self.limited(coroutine), **keywords)
        self.watch(task, coroutine)
        return task

    def watch(self, task: asyncio.Task[Any], coroutine: Coroutine[Any, Any, Any]) -> None:
        """Remember *task*; when it is cancelled before it began, *coroutine* is closed."""
        self._alive.add(task)
        task.add_done_callback(self._alive.discard)
        task.add_done_callback(lambda _: coroutine.close())

    async def limited(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self._places is None:
            return await coroutine
        async with self._places:
            _own.set(_OwnTasks(None, self._alive))  # the task's own context: nothing to reset
            return await coroutine

    async def end(self) -> None:
        while self._alive:
            for task in self._alive:
                task.cancel()
            await asyncio.wait([*self._alive])


_own: ContextVar[_OwnTasks | None] = ContextVar("pocketflow_own_tasks", default=None)


async def with_own_tasks(coroutine: Awaitable[_T], limit: int | None) -> _T:
    """Await *coroutine*, whose tasks are its own.

    Args:
        coroutine: The work.
        limit: Most of its tasks that are at work at a time; None: as many as there are.

    Returns:
        What it returns. Tasks that it leaves behind are cancelled and awaited.
    """
    mine = _OwnTasks(limit)
    token = _own.set(mine)
    try:
        return await coroutine
    finally:
        _own.reset(token)
        await mine.end()


def _create_task(coro: Any, **keywords: Any) -> asyncio.Task[Any]:
    mine = _own.get()
    if mine is None or not asyncio.iscoroutine(coro):
        return asyncio.create_task(coro, **keywords)
    return mine.start(coro, **keywords)


def _ensure_future(coro_or_future: Any, *, loop: Any = None) -> asyncio.Future[Any]:
    if asyncio.iscoroutine(coro_or_future) and loop is None:
        return _create_task(coro_or_future)
    future: asyncio.Future[Any] = asyncio.ensure_future(coro_or_future, loop=loop)
    return future


def _started(awaitables: Iterable[Any]) -> list[Any]:
    seen: dict[int, Any] = {}  # the same coroutine twice is one task, as in asyncio
    futures = []
    for one in awaitables:
        if asyncio.iscoroutine(one):
            if id(one) not in seen:
                seen[id(one)] = _create_task(one)
            one = seen[id(one)]
        futures.append(one)
    return futures


def _gather(*awaitables: Any, return_exceptions: bool = False) -> asyncio.Future[Any]:
    return asyncio.gather(*_started(awaitables), return_exceptions=return_exceptions)


def _as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Iterator[Any]:
    return asyncio.as_completed(_started(fs), timeout=timeout)


class _TaskGroup(asyncio.TaskGroup):
    def create_task(self, coro: Any, **keywords: Any) -> asyncio.Task[Any]:
        mine = _own.get()
        if mine is None or not asyncio.iscoroutine(coro):
            return super().create_task(coro, **keywords)
        task = super().create_task(mine.limited(coro), **keywords)
        mine.watch(task, coro)
        return task


class _Asyncio(ModuleType):
    """asyncio, but for what starts tasks."""

    create_task = staticmethod(_create_task)
    ensure_future = staticmethod(_ensure_future)
    gather = staticmethod(_gather)
    as_completed = staticmethod(_as_completed)
    TaskGroup = _TaskGroup

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def __dir__(self) -> list[str]:
        return dir(asyncio)


ASYNCIO: Final = _Asyncio("asyncio", asyncio.__doc__)
"""What code nodes get for `asyncio`."""


def _import(name: str, *rest: Any, **keywords: Any) -> Any:
    module = builtins.__import__(name, *rest, **keywords)
    return ASYNCIO if module is asyncio else module


BUILTINS: Final = {**vars(builtins), "__import__": _import}
"""Builtins for code that imports asyncio: the statement finds `ASYNCIO`."""
