"""Whether resources are well: what a check says, and checks of the usual kinds of resources."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from pocketflow_async.offloading import offload
from pocketflow_async.resources.errors import in_words
from pocketflow_async.resources.factory import awaited


class HealthState(Enum):
    """How a resource is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HealthStatus:
    """How a resource is, and why.

    Attributes:
        state: How it is.
        message: Why, for people.
        details: More about it.
        timestamp: When it was found out; now, when left out.
    """

    state: HealthState
    message: str | None = None
    details: Mapping[str, Any] | None = None
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def is_healthy(self) -> bool:
        """Whether the resource can be used; a degraded one can."""
        return self.state in (HealthState.HEALTHY, HealthState.DEGRADED)

    @classmethod
    def healthy(
        cls, message: str = "Resource is healthy", details: Mapping[str, Any] | None = None
    ) -> HealthStatus:
        """Return that it is well."""
        return cls(HealthState.HEALTHY, message, details)

    @classmethod
    def degraded(cls, message: str, details: Mapping[str, Any] | None = None) -> HealthStatus:
        """Return that it works, but not as it should."""
        return cls(HealthState.DEGRADED, message, details)

    @classmethod
    def unhealthy(cls, message: str, details: Mapping[str, Any] | None = None) -> HealthStatus:
        """Return that it cannot be used."""
        return cls(HealthState.UNHEALTHY, message, details)


class HealthCheck(Protocol):
    """Says whether a resource is well; a function, asynchronous or not."""

    def __call__(self, resource: Any, /) -> Any:
        """Return a bool, a `HealthStatus`, None (no objection), or an awaitable of one of them.

        What it raises means that the resource is not well.
        """


async def asked(check: HealthCheck, resource: Any) -> HealthStatus:
    """Return what *check* says of *resource*; an error that it raises says that it is not well.

    A function that is not asynchronous is called in a thread, since it may block; when this is
    cancelled, that waits for the thread.
    """
    try:
        if _is_async(check):
            said = await check(resource)
        else:
            said = await awaited(await offload(check, resource))
        return verdict(said)
    except Exception as error:  # noqa: BLE001 (that is what it says)
        return _failed("Health check", error)


def verdict(said: Any) -> HealthStatus:
    """Return what a check has said as a status."""
    if isinstance(said, HealthStatus):
        return said
    if isinstance(said, HealthState):
        return HealthStatus(said)
    if said is None:
        return HealthStatus.healthy("The health check had no objection")
    return HealthStatus.healthy() if said else HealthStatus.unhealthy("The health check said no")


async def database_health_check(pool: Any) -> HealthStatus:
    """Return whether a database answers, through a pool of connections or a connection.

    A pool of which all connections are in use is degraded, not broken: it is not asked.
    """
    if _is_exhausted(pool):
        return HealthStatus.degraded("All connections of the pool are in use")
    try:
        if hasattr(pool, "acquire"):
            await _ask_pool(pool)
        elif hasattr(pool, "ping"):
            await awaited(pool.ping())
        else:
            await _ask_connection(pool)
    except Exception as error:  # noqa: BLE001 (that is what it says)
        return _failed("Database health check", error)
    return HealthStatus.healthy("Database connection is healthy")


async def _ask_pool(pool: Any) -> None:
    acquired = pool.acquire()
    if hasattr(acquired, "__aenter__"):
        async with acquired as connection:
            await _ask_connection(connection)
        return
    connection = await awaited(acquired)
    try:
        await _ask_connection(connection)
    finally:
        await awaited(pool.release(connection))


async def _ask_connection(connection: Any) -> None:
    query = getattr(connection, "fetchval", None) or getattr(connection, "execute", None)
    if query is None:
        raise TypeError(f"{type(connection).__name__} has neither fetchval nor execute")
    cursor = await awaited(query("SELECT 1"))
    close = getattr(cursor, "close", None)
    if close is not None:
        await awaited(close())


def _is_exhausted(pool: Any) -> bool:
    try:
        return bool(pool.get_idle_size() == 0 and pool.get_size() >= pool.get_max_size())
    except Exception:  # noqa: BLE001 (it cannot say, so it is asked for a connection)
        return False


async def http_client_health_check(client: Any, health_endpoint: str = "/health") -> HealthStatus:
    """Return whether a server answers a GET of *health_endpoint* with 2xx."""
    try:
        answer = client.get(health_endpoint)
        if hasattr(answer, "__aenter__"):
            async with answer as response:
                status = _status(response)
        else:
            status = _status(await awaited(answer))
    except Exception as error:  # noqa: BLE001 (that is what it says)
        return _failed("HTTP health check", error)
    if 200 <= status < 300:
        return HealthStatus.healthy(f"HTTP client is healthy (status: {status})")
    return HealthStatus.unhealthy(f"HTTP health check returned {status}", {"status_code": status})


def _status(response: Any) -> int:
    found = getattr(response, "status_code", None)
    return int(response.status if found is None else found)


async def cache_health_check(cache: Any) -> HealthStatus:
    """Return whether a cache answers: a ping, or else a key that is set, read and deleted."""
    try:
        if hasattr(cache, "ping"):
            await awaited(cache.ping())
            return HealthStatus.healthy("Cache is healthy (ping successful)")
        key = f"_health_check_{uuid4().hex}"  # others may check the same cache at the same time
        await awaited(cache.set(key, "healthy"))
        found = await awaited(cache.get(key))
        delete = getattr(cache, "delete", None)
        if delete is not None:
            await awaited(delete(key))
    except Exception as error:  # noqa: BLE001 (that is what it says)
        return _failed("Cache health check", error)
    if found in ("healthy", b"healthy"):
        return HealthStatus.healthy("Cache is healthy")
    return HealthStatus.unhealthy("Cache health check failed: it does not give back what it got")


async def message_queue_health_check(queue: Any) -> HealthStatus:
    """Return whether a message queue answers a ping, or else whether its connection is open."""
    try:
        closed = getattr(queue, "is_closed", None)
        if closed is not None and (closed() if callable(closed) else closed):
            return HealthStatus.unhealthy("Message queue connection is closed")
        if hasattr(queue, "ping"):
            await awaited(queue.ping())
        elif hasattr(queue, "channel"):
            channel = await awaited(queue.channel())
            await awaited(channel.close())
        elif closed is None:
            return HealthStatus(HealthState.DEGRADED, "Message queue cannot be asked")
    except Exception as error:  # noqa: BLE001 (that is what it says)
        return _failed("Message queue health check", error)
    return HealthStatus.healthy("Message queue is healthy")


def create_composite_health_check(*checks: HealthCheck) -> HealthCheck:
    """Return one check of several: asked in order, the first that says no ends it.

    If none does, but one says degraded, it is degraded.

    Args:
        *checks: Functions of the resource, asynchronous or not, such as
            `lambda service: database_health_check(service.db)`.
    """

    async def composite(resource: Any) -> HealthStatus:
        worst = HealthStatus.healthy("All health checks passed")
        for check in checks:
            status = await asked(check, resource)
            if not status.is_healthy:
                return status
            if status.state is HealthState.DEGRADED and worst.state is HealthState.HEALTHY:
                worst = status
        return worst

    return composite


def _failed(what: str, error: Exception) -> HealthStatus:
    if isinstance(error, TimeoutError):
        return HealthStatus.unhealthy(f"{what} timed out", {"error": "timeout"})
    words = in_words(error)
    return HealthStatus.unhealthy(
        f"{what} failed: {words}", {"error": words, "type": type(error).__name__}
    )


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (of an object that is called)
    )
