"""Where resources come from in this context: inside `async with registry:`, or in a workflow."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from pocketflow_async.resources.errors import NoRegistryError, ResourceNotFoundError


class Source(Protocol):
    """What resources come from, such as a registry."""

    def has_factory(self, name: str, /) -> bool:
        """Return whether it has a resource *name*."""

    async def get_resource(self, name: str, /) -> Any:
        """Return the resource *name*."""


_sources: ContextVar[tuple[Source, ...]] = ContextVar("resource_sources", default=())


async def get_resource(name: str) -> Any:
    """Return a shared resource from the registries of this context, the innermost first.

    There are some inside `async with registry:`, in the nodes of a workflow, and in factories,
    which may be made of other resources.

    Args:
        name: What it is called.

    Raises:
        NoRegistryError: There is no registry here.
        ResourceNotFoundError: None of them has it, or it cannot be made for now.
        Exception: What its factory raises.
    """
    sources = _sources.get()
    for source in sources:
        if source.has_factory(name):
            return await source.get_resource(name)
    if not sources:
        raise NoRegistryError(name)
    known: set[str] = set()
    for source in sources:
        listed = getattr(source, "list_resources", None)
        known.update(listed() if listed is not None else ())
    raise ResourceNotFoundError(name, known)


def enter(source: Source) -> None:
    """Let resources come from *source* first, for the rest of this context."""
    _sources.set((source, *_sources.get()))


def leave(source: Source) -> None:
    """Undo the last `enter` of *source* in this context."""
    sources = list(_sources.get())
    if source in sources:
        sources.remove(source)
        _sources.set(tuple(sources))


@contextmanager
def entered(source: Source) -> Generator[None, None, None]:
    """Let resources come from *source* first, for the block."""
    token = _sources.set((source, *_sources.get()))
    try:
        yield
    finally:
        _sources.reset(token)
