"""Message queues in Redis streams (5.0 or later).

A queue is a stream. A message is deleted when all groups that are known have acknowledged it, so a
group that comes new gets what the others have not finished; without any group all is kept.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from pocketflow_async.needing import need
from pocketflow_async.resources.queue import MessageQueue
from pocketflow_async.resources.queue_message import Draft, Message, Verdict
from pocketflow_async.resources.queue_source import Source
from pocketflow_async.resources.redis_cache import let_go

_RELEASED: Final = "released"
"""The consumer that has what nobody has: what was given back."""
_GONE: Final = ("NOGROUP", "UNBLOCKED")
"""What Redis says when somebody has deleted the stream."""
_LOOK: Final = 1.0
"""Seconds between two looks for messages of consumers that are gone."""

_DONE: Final = """
local function later(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  am, as, bm, bs = tonumber(am), tonumber(as), tonumber(bm), tonumber(bs)
  return am > bm or (am == bm and as > bs)
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for at = 1, #group, 2 do facts[group[at]] = group[at + 1] end
  if later(ARGV[2], facts['last-delivered-id']) then return 0 end
  if #redis.call('XPENDING', KEYS[1], facts['name'], ARGV[2], ARGV[2], 1) > 0 then return 0 end
end
return redis.call('XDEL', KEYS[1], ARGV[2])
"""
"""Acknowledge, and delete what no group needs any more."""

_LEAVE: Final = """
local held = {}
for at = 4, #ARGV do held[ARGV[at]] = true end
local kept = 0
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10000, ARGV[2])) do
  if held[entry[1]] then
    kept = kept + 1
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], 'released', 0, entry[1], 'IDLE', ARGV[3], 'JUSTID')
  end
end
if kept == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) end
return kept
"""
"""Give back what a consumer has, those aside that are at work, and forget it if it has none."""


class RedisQueue(MessageQueue):
    """Queues in Redis streams; made by `MessageQueueFactory`.

    Args:
        options: What `redis.asyncio.Redis` takes; or `url` and the rest of them.
        prefix: What the keys of the streams begin with.
        **rest: See `MessageQueue`.
    """

    system = "redis"

    def __init__(self, options: Mapping[str, Any], *, prefix: str = "", **rest: Any) -> None:
        super().__init__(**rest)
        errors = need("redis.exceptions", "workflow")
        self._options = options
        self._prefix = prefix
        self._missing: type[Exception] = errors.ResponseError
        self.lost = (errors.ConnectionError, errors.TimeoutError, OSError)
        self.fatal = (errors.AuthenticationError,)

    async def _connect(self) -> Any:
        redis = need("redis.asyncio", "workflow")
        never = need("redis.asyncio.retry", "workflow").Retry(
            need("redis.backoff", "workflow").NoBackoff(), 0
        )
        given = {"retry": never, "socket_timeout": None, "protocol": 2, **self._options}
        url = given.pop("url", None)
        client = redis.Redis(**given) if url is None else redis.Redis.from_url(url, **given)
        client.done = client.register_script(_DONE)
        client.leave = client.register_script(_LEAVE)
        return client

    def _is_open(self, link: Any) -> bool:
        return True  # it makes its connections itself

    async def _disconnect(self, link: Any) -> None:
        await link.aclose()

    def _sever(self, link: Any) -> None:
        let_go(link)

    async def _ping(self, link: Any) -> None:
        await link.ping()

    async def _publish(self, link: Any, draft: Draft) -> None:
        fields = {"id": draft.id, "body": draft.body, "headers": json.dumps(dict(draft.headers))}
        await link.xadd(self.key(draft.queue), fields)

    async def _declare(self, link: Any, queue: str, group: str) -> None:
        try:
            await link.xgroup_create(self.key(queue), group, id="0", mkstream=True)
        except self._missing as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _delete(self, link: Any, queue: str, groups: tuple[str, ...]) -> None:
        await link.delete(self.key(queue))

    async def _source(self, link: Any, queue: str, group: str, prefetch: int) -> Source:
        await self._declare(link, queue, group)
        return _Stream(self, link, queue, group, prefetch)

    def key(self, queue: str) -> str:
        """Return the key of the stream that *queue* is."""
        return self._prefix + queue

    async def settle(self, queue: str, group: str, entry: Any, verdict: Verdict) -> None:
        """Do with a message what was said about it."""

        async def say(link: Any) -> None:
            if verdict == "nack":
                idle = int(self.ack_wait * 1000) + 1
                await link.xclaim(
                    self.key(queue), group, _RELEASED, 0, [entry], idle=idle, justid=True
                )
            else:
                await link.done(keys=[self.key(queue)], args=[group, entry])

        await self._patiently("acknowledgement", say)


class _Stream(Source):
    """One consumer of a group."""

    def __init__(self, queue: RedisQueue, link: Any, name: str, group: str, prefetch: int) -> None:
        self._queue = queue
        self._link = link
        self._name = name
        self._key = queue.key(name)
        self._group = group
        self._prefetch = prefetch
        self._consumer = uuid4().hex
        self._fetched: deque[tuple[Any, Message]] = deque()  # with their entries
        self._held: dict[Any, Message] = {}  # handed out, by entry; some may be settled
        self._looked = float("-inf")
        self._closed = False

    def ready(self) -> Message | None:
        if not self._fetched:
            return None
        entry, message = self._fetched.popleft()
        self._held = {key: one for key, one in self._held.items() if one.settled is None}
        self._held[entry] = message
        return message

    async def next(self) -> Message:
        while not self._fetched:
            try:
                await self._fetch()
            except self._queue._missing as error:
                if not str(error).startswith(_GONE):
                    raise
                await self._queue._declare(self._link, self._name, self._group)
        message = self.ready()
        assert message is not None
        return message

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._fetched.clear()
        held = [entry for entry, one in self._held.items() if one.settled is None]
        idle = int(self._queue.ack_wait * 1000) + 1
        await self._link.leave(keys=[self._key], args=[self._group, self._consumer, idle, *held])

    async def _fetch(self) -> None:
        now = asyncio.get_running_loop().time()
        block = min(_LOOK, self._queue.ack_wait / 2)
        if now - self._looked >= block:
            await self._reclaim()
            if self._fetched:
                return  # and look again next time: there may be more
            self._looked = now
        # The server ends the wait itself; when it does not, it is not there any more.
        async with asyncio.timeout(block + self._queue.timeout):
            found = await self._link.xreadgroup(
                self._group,
                self._consumer,
                {self._key: ">"},
                count=self._prefetch,
                block=max(1, int(block * 1000)),
            )
        for _, entries in found or ():
            self._take(entries, redelivered=False)

    async def _reclaim(self) -> None:
        """Take over what was given back, and what others have had for too long."""
        async with asyncio.timeout(self._queue.timeout):
            found = await self._link.xautoclaim(
                self._key,
                self._group,
                self._consumer,
                min_idle_time=int(self._queue.ack_wait * 1000),
                count=self._prefetch,
            )
        self._take(found[1], redelivered=True)

    def _take(self, entries: Any, *, redelivered: bool) -> None:
        for entry, fields in entries:
            if fields:  # else it was deleted while it was pending
                message = self._message(entry, fields, redelivered=redelivered)
                self._fetched.append((entry, message))

    def _message(self, entry: bytes, fields: dict[bytes, bytes], *, redelivered: bool) -> Message:
        async def settle(verdict: Verdict) -> None:
            await self._queue.settle(self._name, self._group, entry, verdict)

        name = fields.get(b"id", entry).decode()
        headers = json.loads(fields.get(b"headers", b"{}"))
        draft = Draft(self._name, fields.get(b"body", b""), headers, name)
        return self._queue.message(draft, settle, redelivered=redelivered)
