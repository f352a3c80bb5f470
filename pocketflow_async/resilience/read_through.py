"""Reading through a cache: look, and where nothing is found load once and keep that.

`ReadThrough` is what `CacheAside` and the pattern of that name are made of. The cache is given with
each call, since each event loop may have its own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.offloading import offload
from pocketflow_async.resilience.cache_access import MISSING, CacheAccess, Dumps, Loads
from pocketflow_async.resilience.errors import CallTimeoutError
from pocketflow_async.resilience.single_flight import SingleFlight

logger = logging.getLogger(__name__)

LOOK: Final = "look"
READ: Final = "read"
_HITS, _MISSES, _LOADS, _SHARED, _ERRORS = range(5)  # places in CacheStatistics


class Read(NamedTuple):
    """What reading a key has come to."""

    value: Any
    """The value; the caller's own, unless it cannot be written as text."""
    found: bool
    """Whether it was in the cache."""
    stored: bool
    """Whether it was loaded, and is in the cache now."""
    shared: bool
    """Whether it was loaded for another caller."""
    error: Exception | None
    """What went wrong with the cache, last; None: nothing."""


class CacheStatistics(NamedTuple):
    """What was read so far."""

    hits: int
    """Values that were in the cache."""
    misses: int
    """Values that were not."""
    loads: int
    """Loads that were made for those."""
    shared: int
    """Callers that got what was loaded for another."""
    errors: int
    """Times that the cache has failed, or a value could not be written or read."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a cache is used.

    Attributes:
        ttl: Seconds that values are kept; None: as long as the cache likes.
        timeout: Seconds that one operation of the cache may take; None: any number.
        in_thread: Whether its methods block, and are called in a thread.
        strict: Whether its errors are raised.
        dumps: Makes text of a value; None: JSON.
        loads: Makes the value of it again.
        clock: Its time; None: that of the context.
    """

    ttl: float | None = 3600.0
    timeout: float | None = 5.0
    in_thread: bool = False
    strict: bool = False
    dumps: Dumps | None = None
    loads: Loads | None = None
    clock: Clock | None = None


class _Landed(NamedTuple):
    """What a flight has come to, for all who wait for it."""

    value: Any
    again: Callable[[], Any] | None
    """Makes the value once more, for another caller; None: it cannot be made."""
    found: bool
    stored: bool
    error: Exception | None


class ReadThrough:
    """Reads through caches, with one load for all who want the same key at the same time.

    Args:
        name: What it is called in the log.
        settings: How caches are used.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.flights = SingleFlight(name=name)
        self._lock = threading.Lock()
        self._counts = [0] * len(CacheStatistics._fields)
        self._last: tuple[Any, CacheAccess] | None = None
        self._forgotten = 0
        self._is_failing = False

    def access(self, cache: Any) -> CacheAccess:
        """Return *cache* as it is spoken to.

        Raises:
            TypeError: It is none.
        """
        last = self._last
        if last is not None and last[0] is cache:
            return last[1]
        chosen = self.settings
        access = CacheAccess(cache, chosen.ttl, self._now, chosen.dumps, chosen.loads)
        self._last = (cache, access)
        return access

    def statistics(self) -> CacheStatistics:
        """Return what was read so far."""
        with self._lock:
            return CacheStatistics(*self._counts)

    def is_loading(self, cache: Any, key: str) -> bool:
        """Return whether *key* is being read here, so that `aread` would wait for that."""
        return self.flights.is_under_way((READ, id(cache), key))

    async def alook(self, cache: Any, key: str) -> Read:
        """Look for *key* and load nothing; `found` says whether it was there.

        Who looks for the same at the same time shares one question. May be cancelled.
        """
        access = self.access(cache)
        mine: list[_Landed] = []

        async def look() -> _Landed:
            mine.append(await self._alooked(access, key))
            return mine[0]

        landed = await self.flights.ajoin((LOOK, id(cache), key), look)
        if landed.found:
            self._count(_HITS)
        return _told(landed, bool(mine))

    async def aread(self, cache: Any, key: str, load: Callable[[], Awaitable[Any]]) -> Read:
        """Return what is under *key*, or what *load* returns, which is kept then.

        May be cancelled: the load ends with the last caller that waits for it.

        Raises:
            Exception: What the load raised; or the cache, where that is strict.
        """
        access = self.access(cache)
        flight = (READ, id(cache), key)
        if access.answers_at_once and not self.flights.is_under_way(flight):
            landed = self._looked_now(access, key)
            if landed.found:
                self._count(_HITS)
                return _told(landed, True)
        mine: list[_Landed] = []

        async def read() -> _Landed:
            landed = await self._alooked(access, key)
            if not landed.found:
                before = self._forgotten
                self._count(_LOADS)
                value = await load()
                landed, text = self._packed(access, value, landed.error)
                if text is not None and before == self._forgotten:
                    landed = await self._astored(access, key, text, landed)
            mine.append(landed)
            return landed

        landed = await self.flights.ajoin(flight, read)
        return self._counted(landed, bool(mine))

    def read(self, cache: Any, key: str, load: Callable[[], Any]) -> Read:
        """Do what `aread` says, in this thread.

        Raises:
            TypeError: The cache is asynchronous.
            Exception: What the load raised; or the cache, where that is strict.
        """
        access = self.access(cache)
        mine: list[_Landed] = []

        def read() -> _Landed:
            landed = self._looked(access, key)
            if not landed.found:
                before = self._forgotten
                self._count(_LOADS)
                landed, text = self._packed(access, load(), landed.error)
                if text is not None and before == self._forgotten:
                    landed = self._stored(access, key, text, landed)
            mine.append(landed)
            return landed

        landed = self.flights.join((READ, id(cache), key), read)
        return self._counted(landed, bool(mine))

    async def akeep(self, cache: Any, key: str, value: Any) -> Read:
        """Keep *value*, which was loaded elsewhere, under *key*.

        Raises:
            Exception: What the cache raised, where that is strict.
        """
        access = self.access(cache)
        landed, text = self._packed(access, value, None)
        if text is not None:
            landed = await self._astored(access, key, text, landed)
        return _told(landed, True)

    async def aforget(self, cache: Any, key: str) -> None:
        """Drop *key* from the cache. A load that is under way is not kept, and joined by nobody.

        Raises:
            Exception: What the cache raised.
        """
        self._let_go(cache, key)
        await self._aasked(self.access(cache).drop, key)

    def forget(self, cache: Any, key: str) -> None:
        """Do what `aforget` says, in this thread.

        Raises:
            Exception: What the cache raised.
        """
        self._let_go(cache, key)
        _at_once(self.access(cache).drop(key))

    def _let_go(self, cache: Any, key: str) -> None:
        with self._lock:
            self._forgotten += 1
        for what in (LOOK, READ):
            self.flights.forget((what, id(cache), key))

    # The two ways to ask; what comes of the answers is the same for both.

    def _looked_now(self, access: CacheAccess, key: str) -> _Landed:
        """Look into a cache that has always answered at once; a hit needs no flight then."""
        try:
            return self._answered(access, _at_once(access.get(key)))
        except Exception:  # noqa: BLE001 (the flight asks again, and is the one to tell)
            access.answers_at_once = False
            return _Landed(None, None, False, False, None)

    async def _alooked(self, access: CacheAccess, key: str) -> _Landed:
        try:
            return self._answered(access, await self._aasked(access.get, key, access=access))
        except Exception as error:  # noqa: BLE001 (a cache that fails is one without the value)
            return self._failed(error)

    def _looked(self, access: CacheAccess, key: str) -> _Landed:
        try:
            return self._answered(access, _at_once(access.get(key)))
        except _AsyncCacheError:
            raise
        except Exception as error:  # noqa: BLE001 (see above)
            return self._failed(error)

    async def _astored(
        self, access: CacheAccess, key: str, text: str | bytes, landed: _Landed
    ) -> _Landed:
        if isinstance(landed.error, CallTimeoutError):  # it would only hold us up once more
            return landed
        try:
            await self._aasked(access.put, key, text)
        except Exception as error:  # noqa: BLE001 (see above)
            return landed._replace(error=self._failed(error).error)
        return landed._replace(stored=True)

    def _stored(self, access: CacheAccess, key: str, text: str | bytes, landed: _Landed) -> _Landed:
        try:
            _at_once(access.put(key, text))
        except Exception as error:  # noqa: BLE001 (see above)
            return landed._replace(error=self._failed(error).error)
        return landed._replace(stored=True)

    async def _aasked(
        self, operation: Callable[..., Any], *args: Any, access: CacheAccess | None = None
    ) -> Any:
        """Return what the cache answers; note at *access* whether it did so at once."""
        seconds = self.settings.timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                in_thread = self.settings.in_thread
                answer = await offload(operation, *args) if in_thread else operation(*args)
                if inspect.isawaitable(answer):
                    return await answer
                if access is not None:
                    access.answers_at_once = not in_thread
                return answer
        except TimeoutError as error:
            if seconds is None or not limit.expired():
                raise
            raise CallTimeoutError(seconds, "the cache") from error

    def _answered(self, access: CacheAccess, answer: Any) -> _Landed:
        value = access.value_in(answer)
        self._recovered()
        if value is MISSING:
            return _Landed(None, None, False, False, None)
        again = None if value is answer else lambda: access.value_in(answer)
        return _Landed(value, again, True, False, None)

    def _packed(
        self, access: CacheAccess, value: Any, error: Exception | None
    ) -> tuple[_Landed, str | bytes | None]:
        """Return what was loaded as the cache would return it, and its text; None: it has none."""
        try:
            text = access.text_of(value)
            value = access.value_of(text)
        except Exception as wrong:  # noqa: BLE001 (a value that cannot be kept is a value)
            unfit = TypeError(f"the value cannot be kept as text: {type(wrong).__name__}: {wrong}")
            return _Landed(value, None, False, False, self._failed(unfit, False).error), None
        return _Landed(value, lambda: access.value_of(text), False, False, error), text

    def _failed(self, error: Exception, is_cache: bool = True) -> _Landed:
        """Note that the cache has failed.

        Raises:
            Exception: *error*, where that is to be raised.
        """
        self._count(_ERRORS)
        if self.settings.strict:
            raise error
        if is_cache and not self._is_failing:
            self._is_failing = True
            logger.warning("%s: the cache fails (%s); it goes on without", self.name, _kind(error))
        return _Landed(None, None, False, False, error)

    def _recovered(self) -> None:
        if self._is_failing:
            self._is_failing = False
            logger.info("%s: the cache answers again", self.name)

    def _counted(self, landed: _Landed, is_mine: bool) -> Read:
        self._count(_HITS if landed.found else _MISSES)
        if not is_mine and not landed.found:
            self._count(_SHARED)
        return _told(landed, is_mine)

    def _count(self, which: int) -> None:
        with self._lock:
            self._counts[which] += 1

    def _now(self) -> float:
        clock = self.settings.clock
        return (current_clock() if clock is None else clock).monotonic()


def _told(landed: _Landed, is_mine: bool) -> Read:
    """Return what a flight has come to for one of those who have waited."""
    value = landed.value if is_mine or landed.again is None else landed.again()
    return Read(value, landed.found, landed.stored, not is_mine and not landed.found, landed.error)


class _AsyncCacheError(TypeError):
    """Raised where a thread would have to await."""


def _at_once(answer: Any) -> Any:
    if not inspect.isawaitable(answer):
        return answer
    close = getattr(answer, "close", None)
    if close is not None:
        close()
    raise _AsyncCacheError("the cache is asynchronous: use acall, or make the function `async def`")


def _kind(error: Exception) -> str:
    return type(error).__name__  # its text may have addresses
