"""A pool of connections to one SQLite database, through aiosqlite: a thread for each."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final
from uuid import uuid4

from pocketflow_async.clock import clock
from pocketflow_async.needing import need
from pocketflow_async.resources import sqlite_thread
from pocketflow_async.resources.database_facts import Where
from pocketflow_async.resources.kept_pool import KeptPool
from pocketflow_async.resources.sqlite_thread import SLICE, Call
from pocketflow_async.resources.statements import Operation
from pocketflow_async.resources.transactions import Transaction, TransactionalConnection

MEMORY: Final = ":memory:"
_PERSISTENCE: Final = 0.05  # seconds until what was interrupted, and goes on, is interrupted again
_WORK: Final[Mapping[str, Callable[..., Any]]] = {
    "fetch": sqlite_thread.fetch,
    "fetchrow": sqlite_thread.fetchrow,
    "execute": sqlite_thread.execute,
    "executemany": sqlite_thread.executemany,
}


class SqliteConnection(TransactionalConnection):
    """A connection to SQLite; what is not here is that of `aiosqlite.Connection`.

    Placeholders are `?` or `:name`. Outside of transactions each statement is kept at once.
    """

    __slots__ = ()
    _pool: SqlitePool

    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> Transaction:
        """Return a transaction, or inside another one a savepoint.

        Args:
            isolation: Whatever is asked for, SQLite's are serializable.
            readonly: Nothing will be written, so that it need not wait for writers.
        """
        return Transaction(self, "BEGIN" if readonly else "BEGIN IMMEDIATE")

    async def _do(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        column = options.pop("column", 0)
        timeout = options.pop("timeout", None)
        if options:
            raise TypeError(f"{operation} of SQLite does not know {', '.join(options)}")
        work = _WORK["fetchrow" if operation == "fetchval" else operation]
        if timeout is None:
            value = await self._in_thread(work, query, args)
        else:
            async with asyncio.timeout(timeout):
                value = await self._in_thread(work, query, args)
        if operation == "fetchval":
            return None if value is None else value[column]
        return value

    async def _command(self, sql: str) -> None:
        await self._in_thread(sqlite_thread.command, sql)

    def _is_in_transaction(self) -> bool:
        return bool(self._raw.in_transaction)

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        raw = self._raw
        call = Call(partial(work, raw._conn, *args), self._pool.busy_timeout)
        try:
            # The one way to do several things with one hop into the thread and back.
            return await raw._execute(call)
        except asyncio.CancelledError:
            self._pool.call_off(raw, call)
            raise


class SqlitePool(KeptPool):
    """A pool of connections to one SQLite file, or to one database in memory.

    Args:
        where: Which database it is.
        file: Its file, also as a URI, or ":memory:".
        min_size: Connections that are kept open.
        max_size: Most connections at a time.
        acquire_timeout: Seconds to wait for a connection; None: any time.
        busy_timeout: Seconds that a statement waits for other writers.
        max_idle: Seconds after which an unused connection above *min_size* is closed.
        wal: Whether a file is put into WAL mode, where readers and writers do not wait for each
            other. It stays in it.
        foreign_keys: Whether references are enforced.
        pragmas: More of them, for each connection.
        **options: What `sqlite3.connect` takes besides.
    """

    connection_class = SqliteConnection

    def __init__(
        self,
        where: Where,
        file: str,
        min_size: int,
        max_size: int,
        acquire_timeout: float | None,
        *,
        busy_timeout: float = 30.0,
        max_idle: float = 300.0,
        wal: bool = True,
        foreign_keys: bool = True,
        pragmas: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(where, min_size, max_size, acquire_timeout, max_idle)
        self.busy_timeout = busy_timeout
        self._options = options
        self._off: dict[Any, Call] = {}
        self._anchor: sqlite3.Connection | None = None
        self._file = file
        self._pragmas: dict[str, Any] = {"foreign_keys": "ON" if foreign_keys else "OFF"}
        if self._file == MEMORY:
            # Shared by the connections that name it so, as long as one of them is open.
            self._file = f"file:/pocketflow-{uuid4().hex}?vfs=memdb"
            self._anchor = sqlite3.connect(self._file, uri=True, check_same_thread=False)
        elif wal:
            self._pragmas = {"journal_mode": "WAL", **self._pragmas}
        self._pragmas.update(pragmas or {})

    def call_off(self, raw: Any, call: Call) -> None:
        """Stop what *call* does in the thread of *raw*; nobody waits for it any more."""
        call.is_off = True
        self._off[raw] = call
        _interrupt(raw)

    async def _connect(self) -> Any:
        raw = need("aiosqlite", "workflow").connect(
            self._file,
            timeout=SLICE,
            isolation_level=None,
            uri=self._file.startswith("file:"),
            **self._options,
        )
        thread = getattr(raw, "_thread", None)
        if thread is not None:
            thread.daemon = True  # else a pool that is left open keeps the program from ending
        try:
            await raw
            await raw._execute(
                partial(sqlite_thread.prepare, raw._conn, self._pragmas, self.busy_timeout)
            )
        except BaseException as error:
            if raw._connection is not None:
                self._cut(raw)
            # aiosqlite's thread still has something for the loop, which must not be closed by then.
            while thread is not None and thread.is_alive():
                await clock().asleep(0.001)
            if isinstance(error, sqlite3.Error):
                error.add_note(f"while opening {self.where}")
            raise
        return raw

    def _is_well(self, raw: Any) -> bool:
        return raw._connection is not None

    def _is_clean(self, raw: Any) -> bool:
        return raw not in self._off and self._is_well(raw) and not raw.in_transaction

    async def _clean(self, raw: Any) -> bool:
        call = self._off.pop(raw, None)
        if not self._is_well(raw):
            return False
        undoing = asyncio.ensure_future(raw._execute(partial(sqlite_thread.undo, raw._conn)))
        while not (await asyncio.wait({undoing}, timeout=_PERSISTENCE))[0]:
            if call is not None and not call.has_ended:
                _interrupt(raw)  # it had only been about to begin
        undoing.result()
        return True

    async def _disconnect(self, raw: Any) -> None:
        await raw.close()

    def _cut(self, raw: Any) -> None:
        self._off.pop(raw, None)
        _interrupt(raw)
        # In a thread, since `stop` would make a future of whatever loop there is here, which may
        # be closed; the connection's own thread closes it.
        stopping = threading.Thread(target=raw.stop)
        stopping.start()
        stopping.join()

    async def _close(self) -> None:
        await super()._close()
        self._lift_anchor()

    def _terminate(self) -> None:
        super()._terminate()
        self._lift_anchor()

    def _lift_anchor(self) -> None:
        anchor, self._anchor = self._anchor, None
        if anchor is not None:
            anchor.close()


def _interrupt(raw: Any) -> None:
    with suppress(Exception):  # it is closed
        raw._conn.interrupt()


async def open_sqlite(
    where: Where,
    file: str,
    min_size: int,
    max_size: int,
    acquire_timeout: float | None,
    **options: Any,
) -> SqlitePool:
    """Return a pool with its first connections open.

    Raises:
        ImportError: aiosqlite is not installed.
        sqlite3.Error: The file cannot be opened, with a note of which it is.
    """
    need("aiosqlite", "workflow")
    pool = SqlitePool(where, file, min_size, max_size, acquire_timeout, **options)
    await pool.open()
    return pool
