"""The checks of the usual kinds of resources, with resources of other people's."""

from __future__ import annotations

import dataclasses
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from pocketflow_async.resources import (
    HealthState,
    HealthStatus,
    cache_health_check,
    create_composite_health_check,
    database_health_check,
    http_client_health_check,
    message_queue_health_check,
)


def test_the_kinds_of_a_status():
    """Healthy and degraded can be used; the time is when it was made."""
    statuses = [
        HealthStatus.healthy(),
        HealthStatus.degraded("slow", {"lag": 3}),
        HealthStatus.unhealthy("gone", {"error": "x"}),
        HealthStatus(HealthState.UNKNOWN),
    ]

    assert [status.is_healthy for status in statuses] == [True, True, False, False]
    assert [status.state.value for status in statuses] == [
        "healthy",
        "degraded",
        "unhealthy",
        "unknown",
    ]
    assert statuses[0].message == "Resource is healthy"
    assert statuses[1].details == {"lag": 3}
    assert abs((datetime.now(UTC) - statuses[0].timestamp).total_seconds()) < 60
    with pytest.raises(dataclasses.FrozenInstanceError):
        statuses[0].message = "changed"


class Connection:
    """What connections are like: with `fetchval`, or only with `execute`."""

    def __init__(self, log, error=None):
        self.log = log
        self.error = error

    async def execute(self, query):
        self.log.append(query)
        if self.error:
            raise self.error
        return self

    async def close(self):
        self.log.append("cursor closed")


class ManagedPool:
    """Like asyncpg's: `acquire` is an async context manager."""

    def __init__(self, connection):
        self.connection = connection
        self.sizes = (0, 0, 1)

    @asynccontextmanager
    async def acquire(self):
        yield self.connection

    def get_idle_size(self):
        return self.sizes[0]

    def get_size(self):
        return self.sizes[1]

    def get_max_size(self):
        return self.sizes[2]


class PlainPool:
    """`acquire` is a coroutine, and connections are given back."""

    def __init__(self, connection):
        self.connection = connection
        self.released = []

    async def acquire(self):
        return self.connection

    async def release(self, connection):
        self.released.append(connection)


async def test_databases_are_asked_through_any_pool():
    """A connection is borrowed, asked and given back; a cursor is closed."""
    log = []
    plain = PlainPool(Connection(log))

    for pool in (ManagedPool(Connection(log)), plain, Connection(log)):
        assert (await database_health_check(pool)).state is HealthState.HEALTHY
    assert log == ["SELECT 1", "cursor closed"] * 3
    assert plain.released == [plain.connection]


async def test_a_database_that_does_not_answer():
    """The connection goes back; the message has the error, and no credentials."""
    error = OSError("no route to postgresql://user:p4ss@db:5432/main")
    pool = PlainPool(Connection([], error))
    status = await database_health_check(pool)

    assert status.state is HealthState.UNHEALTHY
    assert status.message == (
        "Database health check failed: OSError: no route to postgresql://***@db:5432/main"
    )
    assert status.details["type"] == "OSError"
    assert pool.released == [pool.connection]
    late = await database_health_check(PlainPool(Connection([], TimeoutError())))
    assert (late.message, late.details) == (
        "Database health check timed out",
        {"error": "timeout"},
    )


async def test_a_pool_that_is_busy_is_not_broken():
    """All connections are in use: it is degraded, and not asked for one more."""
    pool = ManagedPool(Connection([], AssertionError("asked")))
    pool.sizes = (0, 1, 1)

    assert (await database_health_check(pool)).state is HealthState.DEGRADED


async def test_what_is_no_database_is_not_well():
    """It has nothing to ask."""
    status = await database_health_check(object())

    assert "object has neither fetchval nor execute" in status.message


class Answer:
    def __init__(self, **status):
        vars(self).update(status)


async def test_http_clients_are_asked_by_await_or_with():
    """As of httpx and as of aiohttp; 2xx is well, anything else is not."""

    class Awaited:
        async def get(self, url):
            return Answer(status_code=codes[url])

    class Entered:
        @asynccontextmanager
        async def get(self, url):
            yield Answer(status=codes[url])

    codes = {"/health": 204, "/other": 503}
    for client in (Awaited(), Entered()):
        well = await http_client_health_check(client)
        bad = await http_client_health_check(client, "/other")
        broken = await http_client_health_check(client, "/none")

        assert well.message == "HTTP client is healthy (status: 204)"
        assert (bad.is_healthy, bad.details) == (False, {"status_code": 503})
        assert (broken.is_healthy, broken.details["type"]) == (False, "KeyError")


class Cache(dict):
    async def set(self, key, value):
        self[key] = value

    async def get(self, key):
        return super().get(key)

    async def delete(self, key):
        del self[key]


async def test_caches_are_pinged_or_tried():
    """Without a ping a key of its own is set, read and deleted."""
    cache, forgetful = Cache(), Cache()
    forgetful.set = forgetful.get

    class Pinged:
        def ping(self):
            raise ConnectionError("down")

    async def nothing(key, value):
        return None

    forgetful.set, forgetful.delete = nothing, forgetful.get
    assert (await cache_health_check(cache)).is_healthy
    assert not cache
    assert not (await cache_health_check(forgetful)).is_healthy
    assert (await cache_health_check(Pinged())).details["type"] == "ConnectionError"


async def test_queues_are_asked_what_they_can_be():
    """Whether it is closed, a ping, a channel; one that cannot be asked is degraded."""

    class Queue:
        def __init__(self, **parts):
            vars(self).update(parts)

    opened = []

    class Channel:
        async def close(self):
            opened.append("closed")

    async def channel():
        opened.append("open")
        return Channel()

    async def down():
        raise ConnectionError("down")

    check = message_queue_health_check
    assert not (await check(Queue(is_closed=True))).is_healthy
    assert not (await check(Queue(is_closed=lambda: True))).is_healthy
    assert (await check(Queue(is_closed=False))).state is HealthState.HEALTHY
    assert (await check(Queue(is_closed=False, channel=channel))).is_healthy
    assert opened == ["open", "closed"]
    assert not (await check(Queue(ping=down))).is_healthy
    assert (await check(object())).state is HealthState.DEGRADED


async def test_a_check_of_no_parts_has_no_objection():
    """All of none are well."""
    assert (await create_composite_health_check()(object())).is_healthy
