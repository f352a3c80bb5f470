"""The use of a resource for a time, in which it is not closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pocketflow_async.resources.entry import Entry
from pocketflow_async.resources.loop_scope import LoopScope

Find = Callable[[str], Awaitable[tuple[LoopScope, Entry]]]


class Lease:
    """The use of a resource for a block: `async with registry.lease("db") as db:`.

    A resource that is replaced meanwhile is closed when the last lease has been given back. A lease
    is for one use; without a block, it is `await lease.take()` and then `lease.release()`.

    Args:
        find: Finds the resource.
        name: What it is called.
    """

    __slots__ = ("_entry", "_find", "_scope", "name")

    def __init__(self, find: Find, name: str) -> None:
        self.name = name
        self._find = find
        self._scope: LoopScope | None = None
        self._entry: Entry | None = None

    def __repr__(self) -> str:
        return f"<Lease of {self.name!r}{'' if self._entry is None else ', taken'}>"

    async def take(self) -> Any:
        """Return the resource, which is now in use.

        Raises:
            RuntimeError: It has been taken already.
            Exception: What `ResourceRegistry.get_resource` raises.
        """
        if self._entry is not None:
            raise RuntimeError(f"the lease of {self.name!r} is taken already: make another one")
        self._scope, entry = await self._find(self.name)
        entry.leases += 1
        self._entry = entry
        return entry.resource

    def release(self) -> None:
        """Give the resource back; nothing happens if it is not in use."""
        scope, entry = self._scope, self._entry
        self._scope = self._entry = None
        if scope is not None and entry is not None:
            scope.release(entry)

    def is_of(self, resource: object) -> bool:
        """Return whether *resource* is what is in use."""
        return self._entry is not None and self._entry.resource is resource

    async def __aenter__(self) -> Any:
        return await self.take()

    async def __aexit__(self, *_: object) -> None:
        self.release()
