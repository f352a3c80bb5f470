"""A pool of PostgreSQL connections, around asyncpg's."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from pocketflow_async.needing import need
from pocketflow_async.resources.database_connection import DatabaseConnection
from pocketflow_async.resources.database_errors import DatabaseUnreachableError
from pocketflow_async.resources.database_facts import Where
from pocketflow_async.resources.database_pool import DatabasePool
from pocketflow_async.resources.severing import sever
from pocketflow_async.resources.statements import Operation

logger = logging.getLogger(__name__)


class PostgresConnection(DatabaseConnection):
    """A connection to PostgreSQL; what is not here is asyncpg's own: `prepare`, `cursor`, `copy_…`.

    Rows are asyncpg's records.
    """

    __slots__ = ()

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Any:
        """Return asyncpg's transaction, or inside another one its savepoint.

        Args:
            isolation: "read_committed", "repeatable_read" or "serializable"; the server's usual one
                when left out.
            readonly: Nothing will be written.
            deferrable: It may wait for a moment when it cannot fail; see PostgreSQL.
        """
        return self._raw.transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)

    async def _do(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        raw = self._raw
        try:
            return await getattr(raw, operation)(query, *args, **options)
        except need("asyncpg", "workflow").InternalClientError as error:
            # The server has said that it ends, and asyncpg has not seen the connection end yet.
            raw.terminate()
            lost = need("asyncpg", "workflow").ConnectionDoesNotExistError
            raise lost("the server has ended the connection") from error


class PostgresPool(DatabasePool):
    """A pool of PostgreSQL connections; what is not here is that of `asyncpg.Pool`.

    asyncpg opens, resets and replaces the connections; this gives them out in order, and tells.
    """

    connection_class = PostgresConnection
    _under: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self._under, name)

    async def _get(self) -> Any:
        try:
            return await self._under.acquire()
        except BaseException as error:
            self._slots.give()
            if isinstance(error, OSError):
                raise unreachable(self.where, error) from error
            if isinstance(error, Exception):
                error.add_note(f"while connecting to {self.where}")
            raise

    async def _take_back(self, raw: Any) -> None:
        try:
            await self._under.release(raw)  # goes on in a task of its own if this is cancelled
        except Exception as error:  # noqa: BLE001 (what was done with it is done)
            logger.info("a connection of %r is gone: %s", self.name, type(error).__name__)
        finally:
            self._slots.give()

    def _counts(self) -> tuple[int, int]:
        return self._under.get_size(), self._under.get_idle_size()

    async def _close(self) -> None:
        await self._under.close()

    def _terminate(self) -> None:
        if not self._loop.is_closed():
            self._under.terminate()
            return
        for holder in self._under._holders:  # asyncpg's way needs the loop
            connection = holder._con
            if connection is not None:
                sever(connection._transport)
                with suppress(Exception):
                    connection.terminate()
        self._under._closed = True


async def open_postgresql(
    where: Where,
    password: Any,
    min_size: int,
    max_size: int,
    acquire_timeout: float | None,
    connect_timeout: float,
    options: dict[str, Any],
) -> PostgresPool:
    """Return a pool with its first connections open.

    Raises:
        ImportError: asyncpg is not installed.
        DatabaseUnreachableError: Nobody answers there.
        Exception: What the server has against it, with a note of where that was.
    """
    asyncpg = need("asyncpg", "workflow")
    pool = PostgresPool(where, min_size, max_size, acquire_timeout)
    given = {"timeout": connect_timeout, **options}
    try:
        pool._under = asyncpg.create_pool(
            host=where.host,
            port=where.port,
            database=where.database,
            user=where.user,
            password=password,
            min_size=min_size,
            max_size=max_size,
            **given,
        )
        await pool._under
    except OSError as error:
        raise unreachable(where, error) from error
    except Exception as error:
        error.add_note(f"while connecting to {where}")
        raise
    return pool


def unreachable(where: Where, error: OSError) -> DatabaseUnreachableError:
    """Return the error about *error*, which came while connecting."""
    if isinstance(error, TimeoutError):
        return DatabaseUnreachableError(str(where), "no answer in time; see connect_timeout=")
    reason = error.strerror or str(error) or type(error).__name__
    return DatabaseUnreachableError(str(where), reason)
