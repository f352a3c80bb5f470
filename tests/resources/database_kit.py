"""Databases of a test's own: a schema in PostgreSQL, a file and one in memory, one in MariaDB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from pocketflow_async.resources.database import DatabasePoolFactory

BACKENDS = ("postgresql", "sqlite", "memory", "mysql")
ENDLESS = {
    "postgresql": "SELECT pg_sleep(600)",
    "mysql": "SELECT SLEEP(600)",
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) "
    "FROM n",
}


class Database:
    """A database of a test's own.

    Args:
        backend: The name that the factory knows it by.
        given: What the factory needs for it.
    """

    def __init__(self, backend: str, **given: Any) -> None:
        self.backend = backend
        self.given = given

    @property
    def endless(self) -> str:
        """A statement that goes on until it is stopped."""
        return ENDLESS[self.backend]

    def factory(self, **options: Any) -> DatabasePoolFactory:
        return DatabasePoolFactory(self.backend, **{"min_size": 1, **self.given, **options})

    def sql(self, query: str) -> str:
        """Return *query* with its `?` as this database writes them."""
        parts = query.split("?")
        marks = {
            "postgresql": [f"${n}" for n in range(1, len(parts))],
            "mysql": ["%s"] * (len(parts) - 1),
        }.get(self.backend, ["?"] * (len(parts) - 1))
        return "".join(a + b for a, b in zip(parts, [*marks, ""], strict=True))

    @asynccontextmanager
    async def pool(self, **options: Any) -> AsyncGenerator[Any, None]:
        """Open a pool with an empty table `logs (id, data)` in it; close it at the end."""
        async with await self.factory(**options).create() as pool:
            await pool.execute("CREATE TABLE logs (id INTEGER, data VARCHAR(40))")
            try:
                yield pool
            finally:
                if not pool.is_closing():
                    await pool.execute("DROP TABLE logs")


@pytest.fixture(params=BACKENDS)
async def database(request, unique, tmp_path):
    """Return a database of the test's own, in turn one of each kind."""
    if request.param == "sqlite":
        yield Database("sqlite", database=tmp_path / "file.db")
    elif request.param == "memory":
        yield Database("sqlite", database=":memory:")
    elif request.param == "postgresql":
        async for found in _postgresql(request.getfixturevalue("postgres_url"), unique):
            yield found
    else:
        async for found in _mysql(request.getfixturevalue("mysql_url"), unique):
            yield found


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "database": parts.path[1:],
        "user": parts.username,
        "password": parts.password,
    }


async def _postgresql(url: str, unique: str) -> AsyncGenerator[Database, None]:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE SCHEMA "{unique}"')
        yield Database("postgresql", **_server(url), server_settings={"search_path": unique})
        await connection.execute(f'DROP SCHEMA "{unique}" CASCADE')
    finally:
        await connection.close()


async def _mysql(url: str, unique: str) -> AsyncGenerator[Database, None]:
    given = _server(url)
    async with await DatabasePoolFactory("mysql", **given, min_size=0).create() as pool:
        await pool.execute(f"CREATE DATABASE {unique}")
        yield Database("mysql", **{**given, "database": unique})
        await pool.execute(f"DROP DATABASE {unique}")


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until *condition*, asynchronous or not, holds."""
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.005)


def at_rest(pool: Any) -> bool:
    """Return whether nobody has or waits for a connection of *pool*, and none is missing."""
    seen = pool.statistics()
    return (seen.leases, seen.waiting) == (0, 0) and seen.idle == seen.size
