"""Items a batch at a time, read from any iterable or async iterable as they are needed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

from pocketflow_async.scatter import Items


class Batches:
    """The items, all at once or a batch at a time."""

    def __init__(self, items: Items, size: int | None) -> None:
        self.more = True
        self._items = items
        self._size = size
        self._source: Any = items

    async def __aenter__(self) -> Batches:
        if self._size is not None:
            items = self._items
            self._source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        return self

    async def __aexit__(self, *_: object) -> None:
        close = getattr(self._source, "aclose", None)
        if self._size is not None and close is not None:
            await close()

    def next(self) -> Items:
        """Return the next batch; the last may be empty."""
        if self._size is None:
            self.more = False
            return self._items
        if isinstance(self._source, AsyncIterator):
            return self._some_async(self._source, self._size)
        return self._some(self._source, self._size)

    def _some(self, source: Iterator[Any], size: int) -> Iterator[Any]:
        for _ in range(size):
            try:
                item = next(source)
            except StopIteration:
                self.more = False
                return
            yield item

    async def _some_async(self, source: AsyncIterator[Any], size: int) -> AsyncIterator[Any]:
        for _ in range(size):
            try:
                item = await anext(source)
            except StopAsyncIteration:
                self.more = False
                return
            yield item
