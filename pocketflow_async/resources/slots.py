"""A number of places, given to those who wait for one in order of their coming."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable


class Slots:
    """A number of places on one event loop.

    A place that is given back goes straight to whoever has waited longest, so nobody who comes
    later can take it first, and there are never more out than there are.

    Args:
        limit: How many places there are.

    Attributes:
        free: How many are free; above 0 only when nobody waits.
    """

    __slots__ = ("_refusal", "_waiting", "free")

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._refusal: Callable[[], Exception] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def try_take(self) -> bool:
        """Take a place if one is free."""
        if self.free > 0 and self._refusal is None:
            self.free -= 1
            return True
        return False

    async def take(self) -> None:
        """Take a place, waiting for one if none is free.

        Cancelled, it has taken none.

        Raises:
            Exception: What `refuse` was given makes.
        """
        if self.try_take():
            return
        if self._refusal is not None:
            raise self._refusal()
        place = asyncio.get_running_loop().create_future()
        self._waiting[place] = None
        try:
            await place
        except BaseException:
            if place in self._waiting:
                del self._waiting[place]
            elif not place.cancelled() and place.exception() is None:
                self.give()  # it came together with the cancellation
            raise

    def give(self) -> None:
        """Give a place back."""
        while self._waiting:
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                place.set_result(None)
                return
        self.free += 1

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Let nobody take a place any more; those who wait get an *error*, too."""
        self._refusal = error
        while self._waiting:
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                place.set_exception(error())

    def forget(self, error: Callable[[], Exception]) -> None:
        """Refuse everybody; those who waited did so on an event loop that is closed."""
        self._refusal = error
        self._waiting.clear()
