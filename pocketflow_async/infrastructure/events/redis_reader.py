"""One handler of Redis streams: reads in a task of its own, from where it has got to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from pocketflow_async.infrastructure.events.redis_places import (
    ANSWER,
    FIRST,
    Entry,
    EntryId,
    Pause,
    Streams,
    entries_of,
    entry_id,
    text_of,
)
from pocketflow_async.infrastructure.events.subscription import Event, Subscription, Terms

_REMEMBERED: Final = 1000
_log = logging.getLogger(__name__)


class Reader(Subscription):
    """A handler that gets every event, and keeps its own place in the streams.

    The place outlives connections, so nothing is lost while the server or the way to it is away;
    only what the server has trimmed in the meantime is, and that is noticed.
    """

    def __init__(self, streams: Streams, terms: Terms) -> None:
        super().__init__(terms)
        self._streams = streams
        self._client = streams.client
        self._places: dict[str, EntryId] = {}
        self._seen: deque[str] = deque(maxlen=_REMEMBERED)
        self._go = asyncio.Event()
        self._ended = self._drain = False
        self._fetching = False

    @property
    def opened(self) -> bool:
        """Whether it reads."""
        return self._task is not None

    async def open(self) -> None:
        """Find the places from which on to read, and begin."""
        names = await self._streams.channels() if self.pattern else [self.channel]
        for key in [self._streams.key(name) for name in names if self.hears(name)]:
            self._places[key] = await self._streams.end(key)
            await self._join(key, self._places[key])
        self._task = asyncio.create_task(self._run(), name=f"events {self.channel} -> {self.name}")

    def close(self, *, drain: bool) -> asyncio.Task[None] | None:
        """Let it end after the event that is being handled; with *drain*, after all it has."""
        self._ended, self._drain = True, drain
        self._go.set()
        if self._task is None or self._task.done():
            return None
        if self._fetching:
            self._task.cancel()
        return self._task

    def pause(self, paused: bool) -> None:
        """Hold events back, or go on; they wait in the stream."""
        if paused:
            self._go.clear()
        else:
            self._go.set()
        self._changed()

    async def flushed(self, last: dict[str, EntryId]) -> None:
        """Wait until all entries up to *last* have been handled."""
        mine = {key: at for key, at in last.items() if self.hears(self._streams.channel(key))}
        await self.until(
            lambda: (
                self._ended
                or not self._go.is_set()
                or all(self._places.get(key, FIRST) >= at for key, at in mine.items())
            )
        )

    async def _work(self) -> None:
        pause, down = Pause(), False
        while not self._ended:
            await self._go.wait()
            try:
                entries = await self._fetched(again=down)
                pause, down = Pause(), False
                await self._handle(entries)
            except Exception as error:  # noqa: BLE001 (a reader that ends hears nothing more)
                if not down:
                    message = "events for %s cannot be read (%s); this is tried until they can"
                    _log.warning(message, self.name, type(error).__name__)
                down = True
                await pause.wait()
        await self._leave()

    async def _fetched(self, *, again: bool) -> list[Entry]:
        """Return the next entries; none, if there are none yet or we are told to end."""
        self._fetching = True
        try:
            if self._ended:
                return []
            return await self._fetch(again=again)
        except asyncio.CancelledError:
            if not self._ended:
                raise
            return []  # `close` does not let us wait
        finally:
            self._fetching = False

    async def _handle(self, entries: Iterable[Entry]) -> None:
        for key, entry, fields in entries:
            await self._go.wait()
            if self._ended and not self._drain:
                return
            await self._one(key, entry, fields)
            self._places[key] = max(self._places.get(key, FIRST), entry_id(entry))
            self._changed()

    async def _one(self, key: str, entry: str, fields: dict[Any, Any] | None) -> None:
        token = text_of(fields, "token") if fields else ""
        if token in self._seen:
            return  # it was written or delivered twice
        event = None if fields is None else _event(fields)
        if event is None:
            self.dropped += 1
            _log.warning("entry %s of %s is no event, or was trimmed: not handled", entry, key)
            return
        await self._call(event)
        self._seen.append(token)

    async def _fetch(self, *, again: bool) -> list[Entry]:
        block = await self._look()
        if not self._places:
            await asyncio.sleep(block)
            return []
        places: Any = {key: f"{at[0]}-{at[1]}" for key, at in self._places.items()}
        async with asyncio.timeout(block + ANSWER):
            found = entries_of(await self._client.xread(places, count=100, block=int(block * 1000)))
        if (
            again or len(found) >= self._streams.many
        ):  # we are behind: has the server trimmed what we have not read?
            await self._check(dict.fromkeys(key for key, _, _ in found))
        return found

    async def _look(self) -> float:
        """Find new streams of a pattern; return how long to wait for entries, in seconds."""
        if not self.pattern:
            return self._streams.block
        async with asyncio.timeout(ANSWER):
            for name in await self._streams.channels():
                key = self._streams.key(name)
                if key not in self._places and self.hears(name):
                    await self._join(key, FIRST)
                    self._places[key] = FIRST  # it is younger than the subscription
        return self._streams.block / 4

    async def _check(self, keys: Iterable[str]) -> None:
        for key in keys:
            first: Any = await self._client.xrange(key, count=1)
            if first and FIRST < self._places[key] < entry_id(first[0][0]):
                message = "%s may have lost events of %s: they were trimmed before it read them"
                _log.warning(message, self.name, key)

    async def _join(self, key: str, at: EntryId) -> None:
        """Say that we read a stream, from an id on."""

    async def _leave(self) -> None:
        """Say that we read no more."""


def _event(fields: dict[Any, Any]) -> Event | None:
    try:
        data = json.loads(text_of(fields, "event"))["data"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
