"""What may be given as a store."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

from pocketflow_async.infrastructure.store.model import Store
from pocketflow_async.infrastructure.store.opening import open_store


class HasStore(Protocol):
    """What has a store, as an `Infrastructure` does."""

    @property
    def store(self) -> Store:
        """The store."""


Stored: TypeAlias = Store | HasStore | str | os.PathLike[str]
"""A store, what has one, or the address of one (see `open_store`)."""


@asynccontextmanager
async def opened(store: Stored) -> AsyncGenerator[Store, None]:
    """Give the store that is meant; one that is opened for that is closed afterwards.

    Raises:
        ValueError: The address is none.
        TypeError: It is no store at all.
    """
    if isinstance(store, str | os.PathLike):
        async with open_store(store) as found:
            yield found
        return
    given: Any = store
    if not hasattr(given, "put_if_absent"):
        given = getattr(given, "store", None)
    if not hasattr(given, "put_if_absent"):
        raise TypeError(
            f"store= takes a store, its address or an Infrastructure, not {store!r:.80}"
        )
    yield given
