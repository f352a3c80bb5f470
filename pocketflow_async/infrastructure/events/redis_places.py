"""Where things are in Redis, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pocketflow_async.needing import need

if TYPE_CHECKING:
    from redis.asyncio import Redis

EntryId: TypeAlias = tuple[int, int]
FIRST: Final = (0, 0)
Entry: TypeAlias = tuple[str, str, dict[Any, Any] | None]
"""A stream, the id of an entry in it, and its fields; None: it has been deleted."""

ANSWER: Final = 5.0
"""Seconds after which a server that has not answered is taken for lost."""

_PAUSES: Final = (0.02, 1.0)


def entry_id(name: Any) -> EntryId:
    """Return the id of a stream's entry, in a form that can be compared."""
    left, _, right = text(name).partition("-")
    return int(left), int(right)


def text_of(fields: Mapping[Any, Any], name: str) -> str:
    """Return a field of an entry, whether the client decodes what it reads or not."""
    return text(fields.get(name.encode(), fields.get(name, "")))


def faults() -> tuple[type[Exception], ...]:
    """Return the errors after which a command is tried again."""
    return (need("redis.exceptions", "workflow").RedisError, OSError)


class Pause:
    """Waits between tries, each twice as long as the last, up to a second."""

    def __init__(self) -> None:
        self._seconds = _PAUSES[0]

    async def wait(self) -> None:
        """Wait a little longer than the last time."""
        seconds, self._seconds = self._seconds, min(self._seconds * 2, _PAUSES[1])
        await asyncio.sleep(seconds)


class Streams:
    """What all readers of a bus know: the connection, and where the streams are.

    Args:
        client: The connection.
        prefix: What all keys begin with.
        block: How long one read waits for entries, in seconds.
        keep: About how many entries a stream keeps.
    """

    def __init__(self, client: Redis, prefix: str, block: float, keep: int) -> None:
        self.client = client
        self.many = max(1, min(100, keep // 2))
        self.register = f"{prefix}channels"
        self.block = block
        self._prefix = f"{prefix}stream:"
        self._dead = f"{prefix}dead:"

    def key(self, channel: str) -> str:
        """Return the key of the stream of *channel*."""
        return self._prefix + channel

    def dead(self, key: str) -> str:
        """Return the key of the stream for events that nobody survives."""
        return self._dead + self.channel(key)

    def channel(self, key: str) -> str:
        """Return the channel of a stream."""
        return key.removeprefix(self._prefix)

    async def channels(self) -> list[str]:
        """Return all channels that were ever published on."""
        answer: Any = await self.client.smembers(self.register)
        return sorted(text(name) for name in answer)

    async def end(self, key: str) -> EntryId:
        """Return the id of the last entry of a stream."""
        from redis.exceptions import ResponseError  # noqa: PLC0415 (redis is an extra)

        try:
            facts = await self.client.xinfo_stream(key)
        except ResponseError as error:
            if "no such key" in str(error):
                return FIRST
            raise
        return entry_id(facts["last-generated-id"])


def text(value: Any) -> str:
    """Return a text that the client may have decoded or not."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def entries_of(answer: Any) -> list[Entry]:
    """Return the entries in the answer to a read."""
    streams = answer.items() if isinstance(answer, dict) else answer or ()
    found: list[Entry] = []
    for key, entries in streams:
        # The third version of the protocol wraps the entries of a stream into one more list.
        flat = entries[0] if entries and isinstance(entries[0], list) else entries
        found += [(text(key), text(entry), fields or None) for entry, fields in flat if entry]
    return found
