"""A pool of connections to MySQL or MariaDB, through aiomysql."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.needing import need
from pocketflow_async.resources.database_errors import DatabaseUnreachableError
from pocketflow_async.resources.database_facts import Where
from pocketflow_async.resources.kept_pool import KeptPool
from pocketflow_async.resources.rows import Row, parameters, rows, status
from pocketflow_async.resources.severing import sever
from pocketflow_async.resources.statements import Operation
from pocketflow_async.resources.transactions import Transaction, TransactionalConnection

logger = logging.getLogger(__name__)

_UNREACHABLE: Final = 2003
_ISOLATIONS: Final = ("read_uncommitted", "read_committed", "repeatable_read", "serializable")


class MysqlConnection(TransactionalConnection):
    """A connection to MySQL or MariaDB; what is not here is that of `aiomysql.Connection`.

    Placeholders are `%s` or `%(name)s`; with arguments a `%` of the statement is `%%`. Outside of
    transactions each statement is kept at once.
    """

    __slots__ = ("_at_work",)
    _pool: MysqlPool

    def __init__(self, pool: MysqlPool, raw: Any) -> None:
        super().__init__(pool, raw)
        self._at_work = False

    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> Transaction:
        """Return a transaction, or inside another one a savepoint.

        Args:
            isolation: "read_uncommitted", "read_committed", "repeatable_read", "serializable"; the
                server's usual one when left out. Not for savepoints.
            readonly: Nothing will be written.
        """
        begin = "START TRANSACTION READ ONLY" if readonly else "START TRANSACTION"
        if isolation is None:
            return Transaction(self, begin)
        if isolation not in _ISOLATIONS:
            raise ValueError(f"isolation must be one of {', '.join(_ISOLATIONS)}")
        level = isolation.replace("_", " ").upper()
        return Transaction(self, f"SET TRANSACTION ISOLATION LEVEL {level}", begin)

    async def _do(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        column = options.pop("column", 0)
        timeout = options.pop("timeout", None)
        if options:
            raise TypeError(f"{operation} of MySQL does not know {', '.join(options)}")
        if timeout is None:
            return await self._run(operation, query, args, column)
        async with asyncio.timeout(timeout):
            return await self._run(operation, query, args, column)

    async def _run(
        self, operation: Operation, query: str, args: tuple[Any, ...], column: int = 0
    ) -> Any:
        raw = self._raw
        if self._at_work:
            raise RuntimeError(
                "another statement is at work on this connection: acquire one for each task"
            )
        thread = raw.thread_id()
        self._at_work = True
        try:
            if operation == "executemany":
                return await self._execute_many(query, args[0])
            async with raw.cursor() as cursor:
                return await _result(cursor, operation, query, args, column)
        except asyncio.CancelledError:
            self._pool.call_off(raw, thread)
            raise
        finally:
            self._at_work = False

    async def _execute_many(self, query: str, args: Any) -> None:
        raw = self._raw
        each = [one if isinstance(one, list | tuple | dict) else (one,) for one in args]
        within = raw.get_transaction_status()
        if not within:
            await raw.begin()
        try:
            async with raw.cursor() as cursor:
                await cursor.executemany(query, each)
            if not within:
                await raw.commit()
        except BaseException:
            if not within and not raw.closed:
                await raw.rollback()
            raise

    async def _command(self, sql: str) -> None:
        await self._run("execute", sql, ())

    def _is_in_transaction(self) -> bool:
        return not self._raw.closed and bool(self._raw.get_transaction_status())


async def _result(
    cursor: Any, operation: Operation, query: str, args: tuple[Any, ...], column: int
) -> Any:
    await cursor.execute(query, parameters(args) if args else None)
    if operation == "execute":
        return status(query, cursor.rowcount)
    names = [about[0] for about in cursor.description or ()]
    if operation == "fetch":
        return rows(await cursor.fetchall(), names) if names else []
    first = await cursor.fetchone() if names else None
    if first is None or operation == "fetchval":
        return first if first is None else first[column]
    return Row(first, {name: place for place, name in enumerate(names)})


class MysqlPool(KeptPool):
    """A pool of connections to MySQL or MariaDB.

    Args:
        where: Which database it is.
        min_size: Connections that are kept open.
        max_size: Most connections at a time.
        acquire_timeout: Seconds to wait for a connection; None: any time.
        password: Never shown.
        connect_timeout: Seconds that opening a connection may take.
        max_idle: Seconds after which an unused connection above *min_size* is closed.
        **options: What `aiomysql.connect` takes besides.
    """

    connection_class = MysqlConnection

    def __init__(
        self,
        where: Where,
        min_size: int,
        max_size: int,
        acquire_timeout: float | None,
        *,
        password: str | None = None,
        connect_timeout: float = 10.0,
        max_idle: float = 300.0,
        **options: Any,
    ) -> None:
        super().__init__(where, min_size, max_size, acquire_timeout, max_idle)
        self._connect_timeout = connect_timeout
        self._given: Mapping[str, Any] = {
            "host": where.host,
            "port": where.port,
            "db": where.database,
            "user": where.user,
            "password": password or "",
            "charset": "utf8mb4",
            "autocommit": True,
            **options,
        }

    def call_off(self, raw: Any, thread: int) -> None:
        """Stop what the server does for *raw*, whose answer nobody waits for any more.

        The connection is of no use then: its answer would come to somebody else.
        """
        raw.close()
        if self._ended is None:
            self._go(self._kill(thread))

    async def _kill(self, thread: int) -> None:
        """Tell the server; it would find out only at the end of the statement."""
        try:
            other = await self._connect()
            try:
                async with other.cursor() as cursor:
                    await cursor.execute(f"KILL {thread:d}")
            finally:
                other.close()
        except Exception as error:  # noqa: BLE001 (it may be over by now)
            logger.debug("stopping a statement of %r: %s", self.name, type(error).__name__)

    async def _connect(self) -> Any:
        aiomysql = need("aiomysql", "resources")
        raw = aiomysql.Connection(**self._given)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await raw._connect()
        except BaseException as error:
            raw.close()
            if isinstance(error, OSError):
                raise DatabaseUnreachableError(str(self.where), _reason(error)) from error
            if isinstance(error, aiomysql.OperationalError) and error.args[0] == _UNREACHABLE:
                cause = error.__cause__ or error
                raise DatabaseUnreachableError(str(self.where), _reason(cause)) from error
            if isinstance(error, Exception):
                error.add_note(f"while connecting to {self.where}")
            raise
        return raw

    def _is_well(self, raw: Any) -> bool:
        if raw.closed:
            return False
        reader = raw._reader
        return not (reader.at_eof() or reader.eof_received or reader.exception())

    def _is_clean(self, raw: Any) -> bool:
        return self._is_well(raw) and not raw.get_transaction_status()

    async def _clean(self, raw: Any) -> bool:
        if not self._is_well(raw):
            return False
        async with asyncio.timeout(self._connect_timeout):
            await raw.rollback()
        return True

    async def _disconnect(self, raw: Any) -> None:
        await raw.ensure_closed()

    def _cut(self, raw: Any) -> None:
        if not self._loop.is_closed():
            raw.close()
        elif raw._writer is not None:
            sever(raw._writer.transport)
            raw._writer = raw._reader = None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time; see connect_timeout="
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def open_mysql(
    where: Where,
    password: str | None,
    min_size: int,
    max_size: int,
    acquire_timeout: float | None,
    connect_timeout: float,
    options: dict[str, Any],
) -> MysqlPool:
    """Return a pool with its first connections open.

    Raises:
        ImportError: aiomysql is not installed.
        DatabaseUnreachableError: Nobody answers there.
        Exception: What the server has against it, with a note of where that was.
    """
    need("aiomysql", "resources")
    pool = MysqlPool(
        where,
        min_size,
        max_size,
        acquire_timeout,
        password=password,
        connect_timeout=connect_timeout,
        **options,
    )
    await pool.open()
    return pool
