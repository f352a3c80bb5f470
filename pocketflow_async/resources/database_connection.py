"""A connection that a pool has lent."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.hooks import active
from pocketflow_async.resources.database_errors import ConnectionReleasedError
from pocketflow_async.resources.statements import Operation, Statements, note

if TYPE_CHECKING:
    from pocketflow_async.resources.database_pool import DatabasePool


class _Released:
    """Stands for the connection that has been given back: whatever is asked of it is an error."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionReleasedError


RELEASED: Final[Any] = _Released()


class DatabaseConnection(Statements):
    """A connection lent by a pool, for one task at a time.

    What is not here goes to the driver's own connection.

    Args:
        pool: Whose it is.
        raw: The driver's connection.
    """

    __slots__ = ("_pool", "_raw")

    def __init__(self, pool: DatabasePool, raw: Any) -> None:
        self._pool = pool
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self._raw, name)

    def __repr__(self) -> str:
        state = " (given back)" if self._raw is RELEASED else ""
        return f"<{type(self).__name__} of {self._pool.name!r}{state}>"

    @abstractmethod
    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> Any:
        """Return a transaction, for `async with`: it commits, or on an error rolls back.

        Inside another one it is a savepoint of that. It also has `start`, `commit` and `rollback`.

        Args:
            isolation: How much it sees of others, by the words of asyncpg; None: the usual.
            readonly: Nothing will be written.
        """

    async def _statement(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        if active() is None:
            return await self._do(operation, query, args, options)
        with self._pool.telling(operation, query) as facts:
            value = await self._do(operation, query, args, options)
            note(facts, operation, value)
            return value

    @abstractmethod
    async def _do(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Do what the method called *operation* says."""
