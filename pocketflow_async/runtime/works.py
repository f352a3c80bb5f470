"""The works of nodes that hold something back, which is to be done before the runtime goes."""

from __future__ import annotations

import threading
from collections.abc import Awaitable
from typing import Protocol
from weakref import WeakSet


class Closing(Protocol):
    """A work that holds something back."""

    def aclose(self) -> Awaitable[None]:
        """Do all that was held back; it can be used again."""


class Works:
    """Works that are closed with a runtime; it keeps none of them alive."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: WeakSet[Closing] = WeakSet()
        self._lock = threading.Lock()

    def add(self, work: Closing) -> None:
        """Let `close` close *work*."""
        if work not in self._known:
            with self._lock:
                self._known.add(work)

    async def close(self) -> None:
        """Close all works, one after the other, also where one fails.

        Raises:
            Exception: What the first one raised that failed; what the others did is in its notes.
        """
        with self._lock:
            works = list(self._known)
        first: Exception | None = None
        for work in works:
            try:
                await work.aclose()
            except Exception as error:  # noqa: BLE001 (raised below, when all are closed)
                if first is None:
                    first = error
                else:
                    first.add_note(f"{type(error).__name__}: {error}")
        if first is not None:
            raise first
