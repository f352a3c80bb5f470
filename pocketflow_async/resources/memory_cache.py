"""A cache in this process, with the methods of a Redis client that caches need."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar

from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.resources.errors import CacheClosedError
from pocketflow_async.resources.expiring import Entry, Expiring
from pocketflow_async.resources.uses import using

T = TypeVar("T")
Seconds: TypeAlias = float | timedelta


class MemoryCacheStatistics(NamedTuple):
    """What a memory cache has done so far."""

    entries: int
    hits: int
    misses: int
    pushed_out: int


class MemoryStore:
    """What memory caches of one factory have in common, whichever event loop they belong to.

    Args:
        limit: Most values that are kept; those used longest ago are pushed out.
        clock: When values run out; the clock of the context in which it is used if left out.
    """

    def __init__(self, limit: int = 10_000, clock: Clock | None = None) -> None:
        if type(limit) is not int or limit < 1:
            raise ValueError(f"max_entries must be a whole number above 0, not {limit!r}")
        self.values = Expiring(limit)
        self.lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self._clock = clock

    def now(self) -> float:
        """Return the time, in seconds."""
        return (current_clock() if self._clock is None else self._clock).monotonic()


class MemoryCache:
    """Keeps values in this process, as they are: neither copied nor made to bytes.

    So do not change a value that came out of it. Its methods are those of `redis.asyncio`, and are
    coroutines although none of them waits. Usable from several event loops and threads at once.

    Args:
        store: What it keeps its values in; one of its own when left out. It outlives the cache.
        name: What it is called in traces.
    """

    def __init__(self, store: MemoryStore | None = None, name: str = "cache") -> None:
        self.name = name
        self._store = store or MemoryStore()
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryCache {self.name}: {len(self._store.values)} entries>"

    def __len__(self) -> int:
        return len(self._store.values)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def get(self, key: Any) -> Any:
        """Return the value of *key*; None: it has none."""
        with self._using("get", key) as facts:
            entry = self._do(lambda values, now: values.get(key, now))
            self._count(entry is not None)
            if facts is not None:
                facts["flow.cache.hit"] = entry is not None
        return None if entry is None else entry.value

    async def mget(self, *keys: Any) -> list[Any]:
        """Return the values of *keys*, given one by one or in a list; None for those without."""
        wanted = list(keys[0]) if len(keys) == 1 and isinstance(keys[0], (list, tuple)) else keys
        return [await self.get(key) for key in wanted]

    async def set(
        self,
        key: Any,
        value: Any,
        ttl: Seconds | None = None,
        *,
        ex: Seconds | None = None,
        px: Seconds | None = None,
        nx: bool = False,
        xx: bool = False,
    ) -> bool | None:
        """Keep *value*; return True, or None where *nx* or *xx* forbid it.

        Args:
            key: Anything hashable.
            value: Anything.
            ttl: Seconds until it runs out; None: never.
            ex: The same, as Redis calls it.
            px: Milliseconds.
            nx: Only if there is none yet.
            xx: Only if there is one already.

        Raises:
            ValueError: The time is not above zero, or said twice; *nx* and *xx* are both given.
        """
        lasts = _lasts(ttl, ex, px)
        if nx and xx:
            raise ValueError("nx and xx forbid each other")

        def put(values: Expiring, now: float) -> bool | None:
            if (nx or xx) and (values.get(key, now) is not None) is nx:
                return None
            values.put(key, Entry(value, None if lasts is None else now + lasts), now)
            return True

        with self._using("set", key):
            return self._do(put)

    async def setex(self, key: Any, time: Seconds, value: Any) -> bool:
        """Keep *value* for *time* seconds.

        Raises:
            ValueError: The time is not above zero.
        """
        await self.set(key, value, time)
        return True

    async def delete(self, *keys: Any) -> int:
        """Forget *keys*; return how many there were."""
        with self._using("delete", keys[0] if len(keys) == 1 else list(keys)):
            gone = self._do(lambda values, now: [values.pop(key, now) for key in keys])
        return sum(entry is not None for entry in gone)

    async def exists(self, *keys: Any) -> int:
        """Return how many of *keys* have a value."""
        found = self._do(lambda values, now: [values.get(key, now) for key in keys])
        return sum(entry is not None for entry in found)

    async def incr(self, key: Any, amount: int = 1) -> int:
        """Add *amount* to the number that *key* has, 0 if it has none, and return it.

        Raises:
            ValueError: It has no whole number.
        """

        def add(values: Expiring, now: float) -> int:
            entry = values.get(key, now) or Entry(0)
            number = int(entry.value) + amount
            values.put(key, entry._replace(value=number), now)
            return number

        with self._using("incr", key):
            return self._do(add)

    incrby = incr

    async def decr(self, key: Any, amount: int = 1) -> int:
        """Take *amount* from the number that *key* has; see `incr`."""
        return await self.incr(key, -amount)

    async def expire(self, key: Any, time: Seconds) -> bool:
        """Let the value of *key* run out in *time* seconds; return whether there is one."""
        lasts = _seconds(time)

        def end(values: Expiring, now: float) -> bool:
            entry = values.get(key, now)
            if entry is None:
                return False
            values.put(key, entry._replace(until=now + lasts), now)
            return True

        return self._do(end)

    async def persist(self, key: Any) -> bool:
        """Let the value of *key* never run out; return whether it would have."""

        def keep(values: Expiring, now: float) -> bool:
            entry = values.get(key, now)
            if entry is None or entry.until is None:
                return False
            values.put(key, Entry(entry.value), now)
            return True

        return self._do(keep)

    async def ttl(self, key: Any) -> int:
        """Return the seconds until *key* runs out; -1: never, -2: there is none."""

        def left(values: Expiring, now: float) -> int:
            entry = values.get(key, now)
            if entry is None:
                return -2
            return -1 if entry.until is None else round(entry.until - now)

        return self._do(left)

    async def keys(self, pattern: str = "*") -> list[Any]:
        """Return the keys whose text is like *pattern*, as file names are."""

        def found(values: Expiring, now: float) -> list[Any]:
            values.purge(now)
            return [key for key in values if fnmatch.fnmatchcase(str(key), pattern)]

        return self._do(found)

    async def scan_iter(self, match: str = "*") -> AsyncIterator[Any]:
        """Yield the keys whose text is like *match*."""
        for key in await self.keys(match):
            yield key

    async def clear(self) -> bool:
        """Forget all."""
        self._do(lambda values, now: values.clear())
        return True

    flushdb = clear

    async def ping(self) -> bool:
        """Return True."""
        self._do(lambda values, now: None)
        return True

    async def aclose(self) -> None:
        """Use it no more. What it kept is kept for the other caches of its store."""
        self._closed = True

    close = aclose

    def terminate(self) -> None:
        """Use it no more, without an event loop."""
        self._closed = True

    def statistics(self) -> MemoryCacheStatistics:
        """Return what its store has done so far."""
        store = self._store
        with store.lock:
            kept, out = len(store.values), store.values.pushed_out
            return MemoryCacheStatistics(kept, store.hits, store.misses, out)

    def _using(self, operation: str, key: Any) -> using:
        return using(self.name, operation, {"key": key}, **_SYSTEM)

    def _do(self, work: Callable[[Expiring, float], T]) -> T:
        if self._closed:
            raise CacheClosedError(self.name)
        store = self._store
        with store.lock:
            return work(store.values, store.now())

    def _count(self, hit: bool) -> None:
        store = self._store
        with store.lock:
            store.hits += hit
            store.misses += not hit


_SYSTEM = {"db.system.name": "memory"}


def _lasts(ttl: Seconds | None, ex: Seconds | None, px: Seconds | None) -> float | None:
    given = [_seconds(time) for time in (ttl, ex) if time is not None]
    if px is not None:
        given.append(_seconds(px, 1e-3))
    if len(given) > 1:
        raise ValueError("say once how long a value is kept: ttl=, ex= or px=")
    return given[0] if given else None


def _seconds(time: Seconds, unit: float = 1.0) -> float:
    seconds = time.total_seconds() if isinstance(time, timedelta) else time * unit
    if not seconds > 0:
        raise ValueError(f"a time to live must be above 0, not {time!r}")
    return seconds
