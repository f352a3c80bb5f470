"""The five ways to put a statement to a database, the same on pools and on connections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from pocketflow_async.resources.rows import changed

Operation: TypeAlias = Literal["fetch", "fetchrow", "fetchval", "execute", "executemany"]


class Statements(ABC):
    """Takes statements, with the placeholders of the database: `$1` PostgreSQL, `?` SQLite,
    `%s` MySQL.

    Watched, each is a step of kind `resource` with the statement as its input, never the arguments.
    All take `timeout=`, in seconds, after which the statement is stopped and TimeoutError raised.
    Cancelled, the statement is stopped, and what it has begun is undone.
    """  # noqa: D205 (the placeholders belong together)

    __slots__ = ()

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """Return the rows that *query* finds.

        Args:
            query: The statement.
            *args: What stands for its placeholders.
            **options: `timeout`, in seconds; PostgreSQL takes `record_class` too.
        """
        found: list[Any] = await self._statement("fetch", query, args, options)
        return found

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """Return the first row that *query* finds, or None."""
        return await self._statement("fetchrow", query, args, options)

    async def fetchval(self, query: str, *args: Any, column: int = 0, **options: Any) -> Any:
        """Return the value of one *column* of the first row, or None if there is no row."""
        if column:
            options["column"] = column
        return await self._statement("fetchval", query, args, options)

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """Do what *query* says; return what was done, as "INSERT 0 2" or "UPDATE 3"."""
        said: str = await self._statement("execute", query, args, options)
        return said

    async def executemany(self, query: str, args: Iterable[Any], **options: Any) -> None:
        """Do *query* once for each of *args*, in one transaction: all of it or nothing."""
        await self._statement("executemany", query, (args,), options)

    @abstractmethod
    async def _statement(
        self, operation: Operation, query: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Do what the method called *operation* says."""


def note(facts: dict[str, Any] | None, operation: Operation, value: Any) -> None:
    """Tell how many rows a statement has found or changed."""
    if facts is None:
        return
    if operation == "fetch":
        facts["db.response.returned_rows"] = len(value)
    elif operation == "fetchrow":
        facts["db.response.returned_rows"] = int(value is not None)
    elif operation == "execute" and (count := changed(value)) is not None:
        facts["flow.resource.changed_rows"] = count
