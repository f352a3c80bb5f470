"""Makes caches: Redis clients, and memory of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.clock import Clock
from pocketflow_async.resources import redis_cache
from pocketflow_async.resources.factory import ResourceFactory, masked
from pocketflow_async.resources.memory_cache import MemoryCache, MemoryStore
from pocketflow_async.resources.signatures import check_options, parameters_of
from pocketflow_async.resources.uses import name_here

_BACKENDS: Final = ("redis", "memory")
_PORT: Final = 6379
_SCHEMES: Final = ("redis://", "rediss://", "unix://")


class CacheFactory(ResourceFactory[Any]):
    """Makes caches with `get`, `set`, `setex`, `delete` and the rest of a Redis client.

    "redis" gives a `redis.asyncio.Redis` (of the extra `workflow`), which connects at its first
    command, tries three times, and answers with bytes unless `decode_responses=True`. "memory"
    gives a `MemoryCache`; all caches of one factory share what they keep, so it outlives an event
    loop and is in several at once.

    Args:
        backend: "redis" or "memory".
        host: Where the server is.
        port: Its port; 6379 when left out.
        url: Address of the server in place of *host* and *port*; never shown.
        username: Who connects.
        password: Never shown.
        db: Number of the database.
        timeout: Seconds that a command may take with all its tries, those aside that wait on the
            server, as BLPOP does; None: any time.
        max_entries: Of "memory": most values that are kept.
        clock: Of "memory": when values run out.
        **options: What `redis.asyncio.Redis` takes.

    Raises:
        ValueError: There is no such backend, or another argument cannot be.
        TypeError: The back end takes no such option.
    """

    def __init__(
        self,
        backend: str = "redis",
        host: str = "localhost",
        port: int | None = None,
        *,
        url: str | None = None,
        username: str | None = None,
        password: str | None = None,
        db: int = 0,
        timeout: float | None = 5.0,
        max_entries: int = 10_000,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        if backend not in _BACKENDS:
            raise ValueError(
                f"Unsupported cache backend: {backend}. There is: {', '.join(_BACKENDS)}"
            )
        check_options(
            f"CacheFactory({backend!r})",
            options,
            lambda: frozenset() if backend == "memory" else redis_cache.taken(),
            parameters_of(CacheFactory),
        )
        if url is not None and not str(url).startswith(_SCHEMES):
            raise ValueError("url must begin with redis://, rediss:// or unix://")
        self.backend = backend
        self._max_entries = max_entries
        self._timeout = timeout
        self._store = MemoryStore(max_entries, clock) if backend == "memory" else None
        place = {"url": url} if url is not None else {"host": host, "port": port or _PORT, "db": db}
        secrets = {"username": username, "password": password}
        known = {name: value for name, value in secrets.items() if value is not None}
        self._redis = {**place, **known, **options}

    async def create(self) -> Any:
        """Make a cache.

        Raises:
            ImportError: redis is not installed; says how it is.
        """
        name = name_here("cache")
        if self._store is not None:
            return MemoryCache(self._store, name)
        await redis_cache.prepared()
        return redis_cache.open_redis(name, self._redis, self._timeout)

    async def close(self, resource: Any) -> None:
        """Close the cache's connections, for good; what is kept stays."""
        if not isinstance(resource, MemoryCache):
            redis_cache.shut(resource)
        await resource.aclose()

    async def check(self, resource: Any) -> bool:
        """Say whether the cache answers.

        Raises:
            Exception: What the server, or the way to it, raises.
        """
        return bool(await resource.ping())

    def terminate(self, resource: Any) -> None:
        """Cut the cache's connections; its event loop is closed."""
        if isinstance(resource, MemoryCache):
            resource.terminate()
        else:
            redis_cache.shut(resource)
            redis_cache.let_go(resource)

    def get_config(self) -> Mapping[str, Any]:
        """Return what caches are made of, without passwords."""
        if self.backend == "memory":
            return {"backend": "memory", "max_entries": self._max_entries}
        return masked({"backend": self.backend, **self._redis, "timeout": self._timeout})
