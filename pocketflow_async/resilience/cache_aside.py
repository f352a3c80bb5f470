"""Calls whose results are kept in a cache; who wants the same at once shares a call, per loop."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from pocketflow_async.arguments import seconds
from pocketflow_async.clock import Clock
from pocketflow_async.resilience.cache_access import CacheAccess, Dumps, Loads
from pocketflow_async.resilience.keys import Key, KeySource
from pocketflow_async.resilience.policy import Facts, Policy
from pocketflow_async.resilience.read_through import CacheStatistics, Read, ReadThrough, Settings

T = TypeVar("T")


class CacheAside(Policy):
    """Keeps what calls return in a cache, and calls again only for what is not there.

    Callers that want the same key at the same time share one call: it looks into the cache, loads
    and stores, and belongs to all who wait for it (see `SingleFlight`). So however many come at
    once, each key is loaded once per process and event loop; other processes may load it too, until
    one of them has stored it. An error goes to all who wait, and is
    not kept. None, 0 and "" are kept like any other value.

    Values are kept as text, and each caller gets one of its own, made of that text also when it was
    loaded just now: with JSON a tuple is a list from the beginning. What cannot be written so is
    passed on and not kept.

        @CacheAside(redis, key="user:{user_id}", ttl=60)
        async def fetch_user(user_id): ...

        users = CacheAside(redis, key="user:{user_id}")
        user = await users.aget("user:7", lambda: fetch_user(7))

    Args:
        cache: Any object with `get(key)`, and `set` or `setex`, asynchronous or not; a dict; or a
            function that returns one, such as that of the event loop. A cache that takes no time to
            live has the moment kept with each value.
        key: A template filled with the arguments of the call, or a function of the same arguments.
        ttl: Seconds that values are kept; None: as long as the cache likes.
        on_error: "ignore": a cache that fails is one that has nothing. "raise": its error is
            raised; a value that was loaded is lost then.
        timeout: Seconds that one operation of an asynchronous cache may take; None: any number.
        in_thread: Whether the methods of the cache block, so that asynchronous calls have to use
            them in a thread.
        dumps: Makes text of a value; JSON if it is left out.
        loads: Makes the value of the text again.
        name: What it is called in traces.
        clock: Its time.

    Raises:
        TypeError: An argument is of a wrong type, or the cache is none.
        ValueError: An argument is out of range, or the template is none.
    """

    kind = "cache_aside"

    def __init__(
        self,
        cache: Any,
        *,
        key: KeySource,
        ttl: float | None = 3600.0,
        on_error: Literal["ignore", "raise"] = "ignore",
        timeout: float | None = 5.0,
        in_thread: bool = False,
        dumps: Dumps | None = None,
        loads: Loads | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, clock=clock)
        if on_error not in ("ignore", "raise"):
            raise ValueError(f"on_error is 'ignore' or 'raise', not {on_error!r:.80}")
        self._key = Key(key)
        self._is_maker = callable(cache) and not hasattr(cache, "get")
        self._cache = cache
        settings = Settings(
            None if ttl is None else seconds("ttl", ttl),
            None if timeout is None else seconds("timeout", timeout),
            in_thread,
            on_error == "raise",
            dumps,
            loads,
            clock,
        )
        self._through = ReadThrough(self.name, settings)
        if not self._is_maker:
            CacheAccess(cache, ttl, float)  # raises if it is none

    def __repr__(self) -> str:
        return f"<CacheAside {self.name!r}, key {self._key.source!r:.80}>"

    async def aget(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        """Return the value under *key*, or what *load* returns, which is kept then.

        May be cancelled; the load ends with the last caller that waits for it.

        Raises:
            BaseException: What the load raised.
        """
        read = await self._through.aread(await self._acache(), _text(key), load)
        return read.value  # type: ignore[no-any-return]

    def get(self, key: str, load: Callable[[], T]) -> T:
        """Return the value under *key*, or what *load* returns, which is kept then.

        Raises:
            TypeError: The cache is asynchronous.
            BaseException: What the load raised.
        """
        return self._through.read(self._cache_now(), _text(key), load).value  # type: ignore[no-any-return]

    async def aforget(self, key: str) -> None:
        """Drop *key* from the cache. What is being loaded for it now is not kept.

        Raises:
            Exception: What the cache raised.
        """
        await self._through.aforget(await self._acache(), _text(key))

    def forget(self, key: str) -> None:
        """Drop *key* from the cache. What is being loaded for it now is not kept.

        Raises:
            Exception: What the cache raised.
        """
        self._through.forget(self._cache_now(), _text(key))

    def statistics(self) -> CacheStatistics:
        """Return what was read so far."""
        return self._through.statistics()

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        key = _text(self._key.of(call))
        read = await self._through.aread(await self._acache(), key, call)
        return _value(read, facts)  # type: ignore[no-any-return]

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        key = _text(self._key.of(call))
        return _value(self._through.read(self._cache_now(), key, call), facts)  # type: ignore[no-any-return]

    async def _acache(self) -> Any:
        if not self._is_maker:
            return self._cache
        made = self._cache()
        return await made if inspect.isawaitable(made) else made

    def _cache_now(self) -> Any:
        return self._cache() if self._is_maker else self._cache


def _value(read: Read, facts: Facts | None) -> Any:
    if facts is not None:
        facts["flow.cache_aside.hit"] = read.found
        facts["flow.cache_aside.stored"] = read.stored
        facts["flow.cache_aside.shared"] = read.shared
        if read.error is not None:
            facts["flow.cache_aside.error"] = type(read.error).__name__
    return read.value


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key of a cache must be a text, not {key!r:.80}")
    return key
