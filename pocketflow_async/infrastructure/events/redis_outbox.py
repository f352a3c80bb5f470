"""What is to be written to Redis: kept in order until the server has said that it has it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pocketflow_async.infrastructure.events.errors import PublishError
from pocketflow_async.infrastructure.events.redis_places import (
    ANSWER,
    FIRST,
    EntryId,
    Pause,
    entry_id,
    text_of,
)
from pocketflow_async.resilience.tasks import stopped

if TYPE_CHECKING:
    from redis.asyncio import Redis

_AT_ONCE: Final = 100
_LOOK_BACK: Final = 1000
_log = logging.getLogger(__name__)


class _Item:
    __slots__ = ("body", "channel", "done", "error", "stream", "token")

    def __init__(self, channel: str, stream: str, body: str) -> None:
        self.channel = channel
        self.stream = stream
        self.body = body
        self.token = uuid4().hex
        self.error: Exception | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Outbox:
    """Writes entries in the order in which they came, each of them once.

    A batch whose answer was lost is looked for before it is written again: Redis runs all of a
    batch or nothing, and each entry has a token. Only if the server runs the lost commands after
    that look an entry is there twice, with the same token; readers then leave out the second.

    Args:
        client: The connection.
        register: Key of the set of all channels.
        keep: About how many entries a stream keeps.
        size: How many entries may wait.
        patience: How long a publisher waits for the server, in seconds.
    """

    def __init__(
        self, client: Redis, *, register: str, keep: int, size: int, patience: float
    ) -> None:
        self._client = client
        self._register = register
        self._keep = keep
        self._size = size
        self._patience = patience
        self._items: deque[_Item] = deque()
        self._filled = asyncio.Event()
        self._down = False
        self._task: asyncio.Task[None] | None = None
        self.last: dict[str, EntryId] = {}

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, channel: str, stream: str, body: str) -> None:
        """Keep *body*, and wait a while until the server has it; cancelled or not, it is sent.

        Raises:
            PublishError: There is no room, or the server refuses it for good.
        """
        if len(self._items) >= self._size:
            raise PublishError(
                f"Redis has not taken events for so long that {self._size} wait: this one is lost"
            )
        item = _Item(channel, stream, body)
        self._items.append(item)
        self._filled.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="events to Redis")
        if not self._down:
            await asyncio.wait([item.done], timeout=self._patience)
            self._down = not item.done.done()  # then it is sent later, and nobody waits until then
        if item.error is not None:
            raise item.error

    async def emptied(self) -> None:
        """Wait until all that is in it now has been written."""
        if self._items:
            await asyncio.wait([item.done for item in self._items])

    async def close(self, timeout: float | None) -> None:
        """Write what there is, for *timeout* seconds; what is left is lost, and that is logged."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self.emptied()
        except TimeoutError:
            _log.error("Redis has not taken %d events: they are lost", len(self._items))
        finally:
            await stopped([self._task])

    async def _work(self) -> None:
        pause, doubt = Pause(), False
        while True:
            if not self._items:
                self._filled.clear()
                await self._filled.wait()
            batch = list(islice(self._items, _AT_ONCE))
            try:
                async with asyncio.timeout(ANSWER):
                    if doubt:
                        batch = await self._missing(batch)
                    answers = await self._write(batch) if batch else []
            except Exception as error:  # noqa: BLE001 (whatever it is: nothing must be lost by it)
                if not doubt:
                    kind = type(error).__name__
                    _log.warning("Redis takes no events (%s); they are kept and sent later", kind)
                doubt = True
                await pause.wait()
                continue
            pause, doubt, self._down = Pause(), False, False
            for item, answer in zip(batch, answers, strict=True):
                self._settle(item, answer)

    async def _write(self, batch: list[_Item]) -> list[Any]:
        async with self._client.pipeline(transaction=True) as pipeline:
            for item in batch:
                fields: dict[Any, Any] = {"token": item.token, "event": item.body}
                pipeline.xadd(item.stream, fields, maxlen=self._keep, approximate=True)
            pipeline.sadd(self._register, *{item.channel for item in batch})
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers[: len(batch)]

    async def _missing(self, batch: list[_Item]) -> list[_Item]:
        """Return those that are not there yet, and settle the others."""
        found: dict[str, bytes] = {}
        for stream in {item.stream for item in batch}:
            recent: Any = await self._client.xrevrange(stream, count=_LOOK_BACK)
            found.update((text_of(fields, "token"), entry) for entry, fields in recent)
        for item in batch:
            if item.token in found:
                self._settle(item, found[item.token])
        return [item for item in batch if item.token not in found]

    def _settle(self, item: _Item, answer: Any) -> None:
        self._items.remove(item)
        if isinstance(answer, Exception):
            said = f"Redis refuses an event on {item.channel!r}: {answer}"
            item.error = PublishError(said)
            _log.error("%s", said)
        else:
            self.last[item.stream] = max(self.last.get(item.stream, FIRST), entry_id(answer))
        if not item.done.done():
            item.done.set_result(None)
