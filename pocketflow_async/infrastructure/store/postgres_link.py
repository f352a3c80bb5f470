"""How a `PostgresStore` asks its server: again when it has been away, and no change done twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from pocketflow_async.infrastructure.store import postgres_statements as sql
from pocketflow_async.infrastructure.store.errors import StoreUnavailable
from pocketflow_async.infrastructure.store.postgres_errors import (
    is_lost,
    is_told_already,
    is_undone,
    meaning,
    place,
    server_settings,
)
from pocketflow_async.infrastructure.store.postgres_pool import Pools
from pocketflow_async.infrastructure.store.postgres_schema import prepare
from pocketflow_async.needing import need

T = TypeVar("T")

_FIRST: Final = 0.02
_LONGEST: Final = 0.5
"""Seconds between two tries."""
_QUOTING: Final = "A password's @ / ? # and % are written as %40 %2F %3F %23 and %25"
_SWEEP: Final = 60.0
"""Seconds between two times that old outcomes are deleted."""


class Link:
    """Asks one server, from any number of event loops.

    Args:
        url: Its address.
        schema: The schema with the tables.
        size: Most connections of one event loop.
        patience: Seconds to keep trying while the server is away.
    """

    def __init__(self, url: str, schema: str, size: int, patience: float) -> None:
        self.where = place(url, schema)
        self._url = url
        self._schema = schema
        self._patience = patience
        self._pools = Pools(self._connect, size)
        self._is_prepared = False
        self._sweep_at = 0.0
        self.is_closed = False

    async def rows(self, query: str, *args: Any, patience: float | None = None) -> list[Any]:
        """Return rows; for what may be done again.

        Raises:
            StoreUnavailable: The server cannot be reached, or refuses.
        """

        async def ask(connection: Any, left: float, again: bool) -> list[Any]:
            found: list[Any] = await connection.fetch(query, *args, timeout=left)
            return found

        return await self._patiently(ask, patience)

    async def change(self, query: str, *args: Any) -> tuple[bytes | None] | None:
        """Do one change, once; return its answer in a tuple, or None: there was nothing to change.

        Raises:
            StoreUnavailable: The server cannot be reached, or refuses; says so where it is not
                known whether the change was kept.
        """
        token = uuid4()

        async def ask(connection: Any, left: float, again: bool) -> tuple[bytes | None] | None:
            if again and (told := await _recall(connection, token, left)) is not None:
                return told
            try:
                row = await connection.fetchrow(query, token, *args, timeout=left)
            except need("asyncpg", "workflow").UniqueViolationError as error:
                # What was cut off had gone on, and has come to its end only now.
                if not again or not is_told_already(error):
                    raise
                return await _recall(connection, token, left)
            if row is not None:
                return (row["answer"],)
            # It may have waited for what was cut off, and then found it done.
            return await _recall(connection, token, left) if again else None

        told = await self._patiently(ask, writes=True)
        await self._sweep()
        return told

    async def close(self) -> None:
        """Close all connections when what is under way has ended; again is fine."""
        self.is_closed = True
        await self._pools.close()

    # ----------------------------------------------------------------------------------------------

    async def _patiently(
        self,
        ask: Callable[[Any, float, bool], Awaitable[T]],
        patience: float | None = None,
        *,
        writes: bool = False,
    ) -> T:
        """Ask until there is an answer; *ask* is told how long it may take, and if it asks again.

        A try that was cut off may have been done; the next one has to look.
        """
        end = time.monotonic() + (self._patience if patience is None else patience)
        unknown, pause = False, _FIRST
        while True:
            left = max(end - time.monotonic(), 1.0)
            asked = False
            try:
                async with self._connection(left) as connection:
                    asked = True
                    return await ask(connection, left, unknown)
            except Exception as error:
                unknown = unknown or (writes and asked and is_lost(error))
                over = time.monotonic() + pause >= end
                if over or self.is_closed or not (is_lost(error) or is_undone(error)):
                    told = meaning(error, self.where, unknown=unknown)
                    if told is error:
                        raise
                    raise told from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST)

    @asynccontextmanager
    async def _connection(self, timeout: float) -> AsyncGenerator[Any, None]:
        if self.is_closed:
            raise StoreUnavailable(self.where, "is closed")
        pool = self._pools.here()
        async with asyncio.timeout(timeout):
            connection = await pool.take()
        clean = False
        try:
            if not self._is_prepared:
                await prepare(connection, self._schema, self.where)
                self._is_prepared = True
            yield connection
            clean = True
        except Exception as error:
            clean = not is_lost(error)
            if not clean:
                pool.clear()  # most likely all of them are cut
            raise
        finally:
            pool.give(connection, clean=clean)

    async def _connect(self) -> Any:
        asyncpg = need("asyncpg", "workflow")
        try:
            return await asyncpg.connect(
                self._url,
                timeout=max(self._patience, 1.0),
                command_timeout=max(self._patience, 1.0),
                server_settings=server_settings(self._schema),
            )
        except (ValueError, OverflowError):
            pass
        # Not from the error: it may have the address in it, and with that the password.
        raise StoreUnavailable(
            self.where, "has an address that asyncpg does not understand", _QUOTING
        )

    async def _sweep(self) -> None:
        """Delete what is too old to be asked for."""
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP
            with suppress(StoreUnavailable):  # the change itself is kept
                await self.rows(sql.SWEEP, patience=0.0)


async def _recall(connection: Any, token: UUID, left: float) -> tuple[bytes | None] | None:
    """Return what a change has been answered, in a tuple; None: it was not kept."""
    row = await connection.fetchrow(sql.RECALL, token, timeout=left)
    return None if row is None else (row["answer"],)
