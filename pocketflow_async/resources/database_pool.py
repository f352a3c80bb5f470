"""What pools of database connections have in common: one face, a fair queue, steps, statistics."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Generator
from types import TracebackType
from typing import Any, ClassVar

from pocketflow_async.clock import clock
from pocketflow_async.hooks import active
from pocketflow_async.resources.database_connection import RELEASED, DatabaseConnection
from pocketflow_async.resources.database_errors import PoolClosedError, PoolTimeoutError
from pocketflow_async.resources.database_facts import PoolStatistics, Where
from pocketflow_async.resources.slots import Slots
from pocketflow_async.resources.statements import Operation, Statements, note
from pocketflow_async.resources.uses import name_here, using
from pocketflow_async.resources.uses import waited as told_of_waiting


class Acquiring:
    """A connection to come: `await` it, or use it in `async with`, which gives it back."""

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: DatabasePool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: DatabaseConnection | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._pool._acquired(self._timeout).__await__()

    async def __aenter__(self) -> Any:
        if self._connection is not None:
            raise RuntimeError("acquire() gives one connection: call it again for another")
        self._connection = await self._pool._acquired(self._timeout)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)


class DatabasePool(Statements):
    """Lends connections to one database, at most `max_size` at a time, in order of asking.

    It belongs to the event loop that it was made on. `async with pool:` closes it at the end.

    Args:
        where: Which database it is.
        min_size: Connections that are kept open.
        max_size: Most connections at a time.
        acquire_timeout: Seconds to wait for a connection, unless `acquire` says otherwise; None:
            any time.

    Attributes:
        name: What it is called in steps and errors.
    """

    connection_class: ClassVar[type[DatabaseConnection]]

    def __init__(
        self, where: Where, min_size: int, max_size: int, acquire_timeout: float | None
    ) -> None:
        self.name = name_here(where.system)
        self.where = where
        self._facts = where.facts()
        self._loop = asyncio.get_running_loop()
        self._min_size = min_size
        self._max_size = max_size
        self._acquire_timeout = acquire_timeout
        self._slots = Slots(max_size)
        self._acquired_total = self._waited_total = self._timeouts_total = 0
        self._waited_seconds = 0.0
        self._ended: asyncio.Event | None = None  # there from the moment of its closing

    def __repr__(self) -> str:
        state = ", closed" if self.is_closing() else ""
        return (
            f"<{type(self).__name__} {self.name!r}: {self.where}; "
            f"{self._leases()} of {self._max_size} in use, {self._slots.waiting} waiting{state}>"
        )

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # Lending.

    def acquire(self, *, timeout: float | None = None) -> Acquiring:
        """Lend a connection: `async with pool.acquire() as connection:`, or `await` it.

        Who awaits it gives it back with `release`. Cancelled, nothing is lent.

        Args:
            timeout: Seconds to wait for it; None: as the pool was told.

        Raises:
            PoolTimeoutError: None was there in time.
            PoolClosedError: The pool is closed.
            DatabaseUnreachableError: A new one was needed, and nobody answers.
        """
        return Acquiring(self, timeout)

    async def release(self, connection: Any) -> None:
        """Take *connection* back; once is enough, more often does no harm.

        What is open on it is rolled back. It is taken back even when this is cancelled.

        Raises:
            ValueError: It is of another pool.
        """
        if not isinstance(connection, DatabaseConnection) or connection._pool is not self:
            raise ValueError(f"{connection!r:.80} was not lent by {self.name!r}")
        raw, connection._raw = connection._raw, RELEASED
        if raw is not RELEASED:
            await self._take_back(raw)

    async def _acquired(self, timeout: float | None) -> DatabaseConnection:
        if active() is None:
            return (await self._lend(timeout))[0]
        with using(self.name, "acquire", **self._facts) as facts:
            connection, waited = await self._lend(timeout)
            if facts is not None:
                facts["flow.resource.waited_seconds"] = waited
            return connection

    async def _lend(self, timeout: float | None = None) -> tuple[DatabaseConnection, float]:
        """Return a connection, and after how many seconds it was there."""
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"the pool {self.name!r} belongs to another event loop: ask the registry for it "
                "on each loop"
            )
        seconds = self._acquire_timeout if timeout is None else timeout
        began = clock().monotonic()
        raw = await (self._one() if seconds is None else self._one_within(seconds))
        waited = clock().monotonic() - began
        self._acquired_total += 1
        self._waited_seconds += waited
        told_of_waiting(self.name, waited)
        return self.connection_class(self, raw), waited

    async def _one_within(self, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds) as scope:
                return await self._one()
        except TimeoutError:
            if not scope.expired():
                raise
            self._timeouts_total += 1
            state = (self._leases(), self._max_size, self._slots.waiting)
            raise PoolTimeoutError(self.name, seconds, *state) from None

    async def _one(self) -> Any:
        if not self._slots.try_take():
            self._waited_total += 1
            await self._slots.take()
        if self._ended is not None:
            self._slots.give()
            raise self._closed_error()
        return await self._get()

    @abstractmethod
    async def _get(self) -> Any:
        """Return a driver's connection that is well. A slot is taken; if it fails it is given."""

    @abstractmethod
    async def _take_back(self, raw: Any) -> None:
        """Put a driver's connection in order, and give its slot."""

    # Statements on whatever connection is free.

    async def _statement(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        if active() is None:
            connection, _ = await self._lend()
            try:
                return await connection._do(operation, query, args, options)
            finally:
                await self.release(connection)
        with self.telling(operation, query) as facts:
            connection, waited = await self._lend()
            if facts is not None:
                facts["flow.resource.waited_seconds"] = waited
            try:
                value = await connection._do(operation, query, args, options)
            finally:
                await self.release(connection)
            note(facts, operation, value)
            return value

    def telling(self, operation: str, query: str) -> using:
        """Return the step of a statement; the arguments stay here."""
        return using(self.name, operation, {"statement": query}, **self._facts)

    # Its state.

    def get_size(self) -> int:
        """Return how many connections are open."""
        return self._counts()[0]

    def get_idle_size(self) -> int:
        """Return how many open connections nobody uses."""
        return self._counts()[1]

    def get_min_size(self) -> int:
        """Return how many connections are kept open."""
        return self._min_size

    def get_max_size(self) -> int:
        """Return how many connections there may be at a time."""
        return self._max_size

    def statistics(self) -> PoolStatistics:
        """Return what it does, and has done so far."""
        size, idle = self._counts()
        return PoolStatistics(
            size,
            idle,
            self._leases(),
            self._slots.waiting,
            self._acquired_total,
            self._waited_total,
            self._waited_seconds,
            self._timeouts_total,
        )

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._ended is not None

    async def check(self) -> bool:
        """Say whether the database answers; a pool that is busy to the last connection is well.

        Raises:
            Exception: It does not answer.
        """
        if self.is_closing():
            return False
        if self._slots.free == 0:
            return True  # others find out; a place in the queue would only tell that it is busy
        connection, _ = await self._lend()
        try:
            return bool(await connection._do("fetchval", "SELECT 1", (), {}) == 1)
        finally:
            await self.release(connection)

    def _leases(self) -> int:
        return self._max_size - self._slots.free

    @abstractmethod
    def _counts(self) -> tuple[int, int]:
        """Return how many connections are open, and how many of these nobody uses."""

    # Its end.

    async def close(self) -> None:
        """Close it: who waits for a connection gets an error, who has one may finish.

        It waits for those; cancelled, or when that fails, it cuts all connections.
        """
        if self._ended is not None:
            await self._ended.wait()
            return
        self._ended = asyncio.Event()
        self._slots.refuse(self._closed_error)
        try:
            await self._close()
        except BaseException:
            self._terminate()
            raise
        finally:
            self._ended.set()

    def terminate(self) -> None:
        """Cut all connections at once; also when its event loop is closed already."""
        if self._ended is None:
            self._ended = asyncio.Event()
        if self._loop.is_closed():
            self._slots.forget(self._closed_error)
        else:
            self._slots.refuse(self._closed_error)
            self._ended.set()
        self._terminate()

    def _closed_error(self) -> PoolClosedError:
        return PoolClosedError(self.name)

    @abstractmethod
    async def _close(self) -> None:
        """Close all connections, once they are back."""

    @abstractmethod
    def _terminate(self) -> None:
        """Cut all connections, with or without an event loop; may be done twice."""
