"""Transactions for drivers that have none themselves, like asyncpg's."""

from __future__ import annotations

import logging
from abc import abstractmethod
from types import TracebackType
from typing import Any

from pocketflow_async.resources.database_connection import DatabaseConnection
from pocketflow_async.resources.database_pool import DatabasePool

logger = logging.getLogger(__name__)


class TransactionalConnection(DatabaseConnection):
    """A connection whose transactions are begun and ended by commands."""

    __slots__ = ("_depth",)

    def __init__(self, pool: DatabasePool, raw: Any) -> None:
        super().__init__(pool, raw)
        self._depth = 0

    @abstractmethod
    def _is_in_transaction(self) -> bool:
        """Return whether a transaction is open, as far as the database says."""

    @abstractmethod
    async def _command(self, sql: str) -> None:
        """Do what *sql* says; there is nothing to fetch."""


class Transaction:
    """A transaction, or inside another one a savepoint: `async with connection.transaction():`.

    At its end it commits; on an error or a cancellation it rolls back.

    Args:
        connection: Where.
        begin: The commands that begin it.
    """

    def __init__(self, connection: TransactionalConnection, *begin: str) -> None:
        self._connection = connection
        self._begin = begin
        self._point: str | None = None

    async def start(self) -> None:
        """Begin it."""
        connection = self._connection
        if connection._depth:
            self._point = f"pf_{connection._depth}"
            await connection._command(f"SAVEPOINT {self._point}")
        else:
            for sql in self._begin:
                await connection._command(sql)
        connection._depth += 1

    async def commit(self) -> None:
        """Keep what was done in it; if that fails, it is rolled back."""
        point = self._point
        try:
            await self._connection._command(f"RELEASE SAVEPOINT {point}" if point else "COMMIT")
        except BaseException:
            await self._undone()
            raise
        self._connection._depth -= 1

    async def rollback(self) -> None:
        """Undo what was done in it."""
        connection, point = self._connection, self._point
        connection._depth -= 1
        if not connection._is_in_transaction():
            return  # the database has done so itself
        if point is None:
            await connection._command("ROLLBACK")
        else:
            await connection._command(f"ROLLBACK TO SAVEPOINT {point}")
            await connection._command(f"RELEASE SAVEPOINT {point}")

    async def _undone(self) -> None:
        try:
            await self.rollback()
        except Exception as error:  # noqa: BLE001 (the error that has led here is the one to see)
            name = self._connection._pool.name
            logger.info("rolling back on %r: %s", name, type(error).__name__)

    async def __aenter__(self) -> Transaction:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.commit()
        else:
            await self._undone()
