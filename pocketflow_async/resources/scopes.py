"""The open resources of a registry, by event loop; in any number of threads."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterable

from pocketflow_async.resources.entry import Figures
from pocketflow_async.resources.flights import outlast
from pocketflow_async.resources.loop_scope import LoopScope
from pocketflow_async.resources.rules import Rules

Loop = asyncio.AbstractEventLoop


class Scopes:
    """Has one scope for each event loop on which resources were asked for.

    Args:
        rules: What holds for them.

    Attributes:
        by_loop: The scopes; those of loops that are gone stay until the next one comes.
    """

    def __init__(self, rules: Rules) -> None:
        self.by_loop: dict[Loop, LoopScope] = {}
        self._rules = rules
        self._past: defaultdict[str, Figures] = defaultdict(Figures)  # of scopes that are gone
        self._lock = threading.Lock()

    async def here(self) -> LoopScope:
        """Return the scope of this event loop, made now if need be."""
        loop = asyncio.get_running_loop()
        with self._lock:
            scope = self.by_loop.get(loop)
            if scope is not None and (not scope.is_over or scope.is_loop_ending):
                return scope
            gone = [self.by_loop.pop(other) for other in list(self.by_loop) if other.is_closed()]
            scope = self.by_loop[loop] = LoopScope(self._rules)
        for other in gone:
            other.abandon()
        self._count(gone)
        await scope.open()
        return scope

    def all(self) -> list[LoopScope]:
        """Return all scopes."""
        with self._lock:
            return list(self.by_loop.values())

    def figures(self, name: str) -> Figures:
        """Return what was counted about a resource, over all event loops."""
        with self._lock:
            total = self._past.get(name, Figures())
            for scope in self.by_loop.values():
                if name in scope.figures:
                    total = total + scope.figures[name]
        return total

    async def close(self, scope: LoopScope) -> None:
        """Close what this event loop has open; a cancellation is raised in the end."""
        with self._lock:
            if self.by_loop.get(scope.loop) is scope:
                del self.by_loop[scope.loop]
        try:
            await scope.close()
        finally:
            self._count((scope,))

    async def close_all(self) -> None:
        """Close what is open on all event loops; a cancellation is raised in the end.

        A loop that runs in another thread is asked to do its part; what belongs to one that is
        closed or stands still is let go of, as far as that is possible.
        """
        with self._lock:
            scopes = list(self.by_loop.values())
            self.by_loop.clear()
        own = [scope for scope in scopes if scope.loop is asyncio.get_running_loop()]
        others = [scope for scope in scopes if scope not in own]
        asked = [(scope, _asked_to_close(scope)) for scope in others]
        closing = [asyncio.ensure_future(scope.close()) for scope in own]
        told = await outlast(closing)
        for task in closing:
            if not task.cancelled():
                task.result()
        for scope, future in asked:
            told = await self._closed_there(scope, future) or told
        self._count(scopes)
        if told is not None:
            raise told

    async def _closed_there(
        self, scope: LoopScope, future: asyncio.Future[None] | None
    ) -> asyncio.CancelledError | None:
        if future is None:
            scope.abandon()
            return None
        several = 2 + 2 * len(scope.all_open())
        told = await outlast((future,), several * self._rules.close_timeout)
        if not future.done():
            future.cancel()
            scope.abandon()
        elif not future.cancelled():
            future.exception()  # looked at: it was raised in its own thread
        return told

    def _count(self, scopes: Iterable[LoopScope]) -> None:
        with self._lock:
            for scope in scopes:
                for name, figures in scope.figures.items():
                    self._past[name] = self._past[name] + figures
                scope.figures.clear()


def _asked_to_close(scope: LoopScope) -> asyncio.Future[None] | None:
    """Ask a loop in another thread to close its resources; None: it does not run."""
    if not scope.loop.is_running():
        return None
    closing = scope.close()
    try:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closing, scope.loop))
    except RuntimeError:  # it has been closed just now
        closing.close()
        return None
