"""Rows that answer to names and to places, as asyncpg's records do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, overload


class Row(tuple[Any, ...]):
    """The values of a row, by place (`row[0]`) and by name (`row["id"]`).

    It goes over its values, like a tuple; `in` asks for a name, and `dict(row)` makes a dict. Of
    two columns of one name the last is found by it.

    Args:
        values: In the order of the columns.
        places: The place of each name.
    """

    _places: Mapping[str, int]

    def __new__(cls, values: Iterable[Any] = (), places: Mapping[str, int] | None = None) -> Row:
        """Make a row of *values*."""
        row = super().__new__(cls, values)
        row._places = {} if places is None else places
        return row

    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...
    def __getitem__(self, key: Any, /) -> Any:
        """Return the value of that name or place, or the values of a slice."""
        if type(key) is str:
            key = self._places[key]
        return tuple.__getitem__(self, key)

    def __contains__(self, name: object, /) -> bool:
        """Return whether there is a column of that name."""
        return name in self._places

    def __repr__(self) -> str:
        return f"<Row {' '.join(f'{name}={value!r}' for name, value in self.items())}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Row, (tuple(self), dict(self._places)))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of that name, or *default*."""
        place = self._places.get(name)
        return default if place is None else tuple.__getitem__(self, place)

    def keys(self) -> Iterator[str]:
        """Go over the names."""
        return iter(self._places)

    def values(self) -> Iterator[Any]:
        """Go over the values."""
        return iter(self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Go over names and values."""
        return ((name, tuple.__getitem__(self, place)) for name, place in self._places.items())


def rows(values: Iterable[Sequence[Any]], names: Iterable[str]) -> list[Row]:
    """Return rows of *values* whose columns are called *names*."""
    places = {name: place for place, name in enumerate(names)}
    return [Row(each, places) for each in values]


def parameters(args: tuple[Any, ...]) -> Any:
    """Return what a DB-API cursor is given for `execute(query, *args)`.

    One list, tuple or dict is all the parameters together; otherwise each is one.
    """
    if len(args) == 1 and isinstance(args[0], list | tuple | dict):
        return args[0]
    return args


def status(query: str, count: int) -> str:
    """Return what a statement has done, as PostgreSQL says it: "INSERT 0 2", "UPDATE 3".

    Args:
        query: The statement.
        count: Rows that it changed or found; below 0: it is not about rows.
    """
    verb = query.lstrip(" \t\r\n;(").partition(" ")[0].split(None, 1)[0:1]
    word = verb[0].rstrip(";").upper() if verb else ""
    if word in ("INSERT", "REPLACE"):
        return f"INSERT 0 {max(count, 0)}"
    if word in ("UPDATE", "DELETE", "SELECT", "WITH") and count >= 0:
        return f"{word} {count}"
    return word


def changed(said: str) -> int | None:
    """Return the number of rows that a status speaks of, or None."""
    number = said.rpartition(" ")[2]
    return int(number) if number.isdecimal() else None
