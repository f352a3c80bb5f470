"""A member of a consumer group of Redis streams."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final
from uuid import uuid4

from pocketflow_async.infrastructure.events.redis_places import (
    ANSWER,
    FIRST,
    Entry,
    EntryId,
    Streams,
    entries_of,
    entry_id,
    faults,
    text,
)
from pocketflow_async.infrastructure.events.redis_reader import Reader
from pocketflow_async.infrastructure.events.subscription import Terms
from pocketflow_async.resilience.tasks import stopped

_LOOK: Final = 0.005
_log = logging.getLogger(__name__)

_KEEP: Final = """
local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #found == 0 then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')
return 1
"""
"""Have an entry for longer, if it is still ours."""

_BURY: Final = """
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])) do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', unpack(entry[2]))
end
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""
"""Copy an entry aside, and acknowledge it."""

_LEAVE: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
"""
"""Forget a consumer, unless it leaves something for others to take over."""


class GroupReader(Reader):
    """A consumer of a group: each event is handled by one of its members.

    An event is acknowledged after the handler was called. What a member leaves behind when it
    dies is taken over after *idle* seconds, and what its own connection lost is asked for again:
    each event is handled at least once. One that was taken over *deliveries* times, since whoever
    handles it dies, is put into the stream `dead:…` instead.
    """

    def __init__(
        self, streams: Streams, terms: Terms, group: str, idle: float, deliveries: int
    ) -> None:
        super().__init__(streams, terms)
        self._group = group
        self._consumer = uuid4().hex
        self._idle = idle
        self._deliveries = deliveries
        self._held: dict[tuple[str, str], None] = {}
        self._looked = time.monotonic()
        self._keep = self._client.register_script(_KEEP)
        self._bury = self._client.register_script(_BURY)

    async def flushed(self, last: dict[str, EntryId]) -> None:
        """Wait until the group has got all entries up to *last*, and we have handled ours."""
        for key, at in last.items():
            if self.hears(self._streams.channel(key)):
                # Only the server knows what was given to whom.
                while not (self._ended or not self._go.is_set() or await self._has(key, at)):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)

    async def _has(self, key: str, at: EntryId) -> bool:
        try:
            async with asyncio.timeout(ANSWER):
                groups: Any = await self._client.xinfo_groups(key)
                ours = [one for one in groups if text(one["name"]) == self._group]
                if not ours or entry_id(ours[0]["last-delivered-id"]) < at:
                    return False
                return not await self._client.xpending_range(
                    key, self._group, "-", "+", 1, consumername=self._consumer
                )
        except faults():
            return False

    async def _work(self) -> None:
        keeper = asyncio.create_task(self._keep_all(), name=f"keeps events of {self.name}")
        try:
            await super()._work()
        finally:
            await stopped([keeper])

    async def _join(self, key: str, at: EntryId) -> None:
        from redis.exceptions import ResponseError  # noqa: PLC0415 (redis is an extra)

        try:
            place = f"{at[0]}-{at[1]}"
            await self._client.xgroup_create(key, self._group, id=place, mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _fetch(self, *, again: bool) -> list[Entry]:
        block = await self._look()
        if not self._places:
            await asyncio.sleep(block)
            return []
        if again:  # a server that has lost the group gets it again, and what has come is new to it
            async with asyncio.timeout(ANSWER):
                for key in self._places:
                    await self._join(key, FIRST)
            if lost := await self._read("0", None):
                return lost
        now = time.monotonic()
        if now - self._looked >= self._idle / 2:
            if left := await self._taken_over():
                return left
            self._looked = now
        return await self._read(">", int(min(block, self._idle / 2) * 1000) or 1)

    async def _read(self, place: str, block: int | None) -> list[Entry]:
        places: Any = dict.fromkeys(self._places, place)
        async with asyncio.timeout((block or 0) / 1000 + ANSWER):
            answer = await self._client.xreadgroup(
                self._group, self._consumer, places, count=10, block=block
            )
        return self._mine(entries_of(answer))

    async def _taken_over(self) -> list[Entry]:
        """Return what other members have had for too long: they are dead."""
        found: list[Entry] = []
        limit = int(self._idle * 1000)
        for key in list(self._places):
            async with asyncio.timeout(ANSWER):
                left: Any = await self._client.xpending_range(
                    key, self._group, "-", "+", 10, idle=limit
                )
                times = {text(one["message_id"]): one["times_delivered"] for one in left}
                if not times:
                    continue
                answer = await self._client.xclaim(
                    key, self._group, self._consumer, limit, list(times)
                )
                for entry in entries_of([(key, answer)]):
                    if times[entry[1]] < self._deliveries:
                        found.append(entry)
                    else:
                        await self._give_up(key, entry[1])
        return self._mine(found)

    async def _give_up(self, key: str, entry: str) -> None:
        await self._bury(keys=[key, self._streams.dead(key)], args=[self._group, entry])
        self.dropped += 1
        _log.error("entry %s of %s has killed those who handled it: put aside", entry, key)

    def _mine(self, entries: list[Entry]) -> list[Entry]:
        self._held = dict.fromkeys((key, entry) for key, entry, _ in entries)
        return entries

    async def _one(self, key: str, entry: str, fields: dict[Any, Any] | None) -> None:
        if (key, entry) not in self._held:
            return  # we were so slow that another has taken it over
        await super()._one(key, entry, fields)
        await self._client.xack(key, self._group, entry)
        self._held.pop((key, entry), None)

    async def _keep_all(self) -> None:
        """Tell the server again and again that we are at work on what we have."""
        retried = faults()
        while True:
            await asyncio.sleep(self._idle / 3)
            for key, entry in list(self._held):
                try:
                    async with asyncio.timeout(ANSWER):
                        kept = await self._keep(
                            keys=[key], args=[self._group, self._consumer, entry]
                        )
                except retried:
                    continue  # the reader will notice
                if not kept:
                    self._held.pop((key, entry), None)

    async def _leave(self) -> None:
        retried = faults()
        leave = self._client.register_script(_LEAVE)
        for key in self._places:
            try:
                async with asyncio.timeout(ANSWER):
                    await leave(keys=[key], args=[self._group, self._consumer])
            except retried:
                return  # what we have is taken over by others
