"""A Redis client whose commands are told to those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.needing import need
from pocketflow_async.resources.errors import CacheClosedError
from pocketflow_async.resources.severing import sever
from pocketflow_async.resources.signatures import Known, taken_by
from pocketflow_async.resources.uses import using

if TYPE_CHECKING:
    from redis.asyncio import Redis

_KEYED: Final = frozenset(
    {"get", "set", "setex", "psetex", "setnx", "getex", "getdel", "del", "exists", "expire"}
    | {"incr", "incrby", "decr", "decrby", "pexpire", "ttl", "pttl", "hget", "hset", "hgetall"}
)
"""Commands whose first argument is a key, and so may be shown; of others nothing is."""

_BLOCKING: Final = frozenset(
    {"blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop"}
    | {"xread", "xreadgroup", "wait", "waitaof"}
)
"""Commands that wait on the server, for as long as they are told to."""

_PAUSES: Final = {"base": 0.05, "cap": 1.0}
_TRIES: Final = 3


def open_redis(name: str, options: Mapping[str, Any], seconds: float | None = 5.0) -> Redis:
    """Return a client; it connects at its first command.

    Args:
        name: What it is called in traces.
        options: What `redis.asyncio.Redis` takes; or `url` and the rest of them.
        seconds: What a command may take, with all its tries; None: any time.

    Raises:
        ImportError: redis is not installed; says how it is.
        ValueError: The URL is none of Redis.
    """
    given = dict(options)
    url = given.pop("url", None)
    if "retry" not in given:
        given["retry"] = _retry()
    # With a timeout of its own, redis sends through `asyncio.wait_for`, which before Python 3.12
    # loses a cancellation that comes at the wrong moment: the task would go on.
    given.setdefault("socket_timeout", None)
    made = _client()
    client: Redis = made(**given) if url is None else made.from_url(url, **given)
    client.resource_name = name  # type: ignore[attr-defined]
    client.seconds = seconds  # type: ignore[attr-defined]
    return client


async def prepared() -> None:
    """Import the library in a thread, since that takes a while.

    Raises:
        ImportError: It is not installed; says how it is.
    """
    await asyncio.to_thread(need, "redis.asyncio", "workflow")


def taken() -> Known:
    """Return the options that a client takes, with a URL or without."""
    where = "redis.asyncio.connection:"
    passing = ("ConnectionPool", "SSLConnection", "Connection", "UnixDomainSocketConnection")
    inner = (f"{where}{name}" for name in (*passing, "AbstractConnection"))
    return taken_by("redis.asyncio:Redis", *inner)


def shut(client: Any) -> None:
    """Have *client* refuse all further use, where redis would connect again in silence.

    A pool that it was given, and that is not its own, is left as it is.
    """
    name = client.resource_name
    client.is_shut = True

    async def refuse(*_: Any, **__: Any) -> Any:
        raise CacheClosedError(name)

    if client.auto_close_connection_pool:  # pipelines and subscriptions go past the client
        client.connection_pool.get_connection = refuse


def let_go(client: Any) -> None:
    """Cut the connections of *client*, whose event loop is closed."""
    pool = client.connection_pool
    for connection in [*getattr(pool, "_available_connections", ()), *_busy(pool)]:
        transport: Any = getattr(getattr(connection, "_writer", None), "transport", None)
        sever(transport)
        with suppress(Exception):  # else both complain when they are collected
            transport._closing = True
        connection._writer = connection._reader = None


def _busy(pool: Any) -> list[Any]:
    return list(getattr(pool, "_in_use_connections", ()))


@asynccontextmanager
async def _limited(seconds: float | None) -> AsyncGenerator[None, None]:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        from redis.exceptions import TimeoutError as Late  # noqa: PLC0415 (redis is an extra)

        raise Late(f"Redis has not answered within {seconds:g} s") from error


def _whole(time: Any) -> Any:
    return int(time.total_seconds()) if isinstance(time, timedelta) else time


def _retry() -> Any:
    need("redis.asyncio", "workflow")
    from redis.asyncio.retry import Retry  # noqa: PLC0415 (redis is an extra)
    from redis.backoff import ExponentialWithJitterBackoff  # noqa: PLC0415 (likewise)

    return Retry(ExponentialWithJitterBackoff(**_PAUSES), _TRIES)


def _check_open(client: Any) -> None:
    if client.is_shut:
        raise CacheClosedError(client.resource_name)


@cache
def _client() -> Any:
    need("redis.asyncio", "workflow")
    from redis.asyncio import Redis  # noqa: PLC0415 (redis is an extra)
    from redis.asyncio.client import Pipeline  # noqa: PLC0415 (likewise)

    run: Any = Redis.execute_command

    class TracedPipeline(Pipeline):
        """A pipeline that is one step, however many commands are in it."""

        resource_name = "cache"
        seconds: float | None = None

        def setex(self, name: Any, time: Any, value: Any) -> Any:
            """Keep *value* for *time* seconds; redis calls its own method deprecated."""
            return self.execute_command("SETEX", name, _whole(time), value)

        async def execute(self, raise_on_error: bool = True) -> list[Any]:
            facts = {**_SYSTEM, "db.operation.name": "PIPELINE"}
            size = {"db.operation.batch.size": len(self.command_stack)}
            with using(self.resource_name, "pipeline", None, **facts, **size):
                async with _limited(self.seconds):
                    found: list[Any] = await super().execute(raise_on_error)
                return found

    class TracedRedis(Redis):
        """A `redis.asyncio.Redis` each of whose commands is a step."""

        resource_name = "cache"
        seconds: float | None = None
        is_shut = False

        def __repr__(self) -> str:
            place = self.connection_pool.connection_kwargs
            where = place.get("path") or f"{place.get('host')}:{place.get('port')}"
            return f"<Redis {self.resource_name} at {where}>"

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            _check_open(self)
            command = str(args[0])
            word = command.lower().replace(" ", "_")
            shown = {"key": args[1]} if word in _KEYED and len(args) > 1 else None
            name = {"db.operation.name": command}
            with using(self.resource_name, word, shown, **_SYSTEM, **name) as facts:
                async with _limited(None if word in _BLOCKING else self.seconds):
                    answer = await run(self, *args, **options)
                if facts is not None and word == "get":
                    facts["flow.cache.hit"] = answer is not None
                return answer

        def setex(self, name: Any, time: Any, value: Any) -> Any:
            """Keep *value* for *time* seconds; redis calls its own method deprecated."""
            return self.execute_command("SETEX", name, _whole(time), value)

        def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
            pool, callbacks = self.connection_pool, self.response_callbacks
            made = TracedPipeline(pool, callbacks, transaction, shard_hint)
            made.resource_name, made.seconds = self.resource_name, self.seconds
            return made

    return TracedRedis


_SYSTEM: Final[dict[str, Any]] = {"db.system.name": "redis"}
