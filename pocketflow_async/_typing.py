"""Type variables of nodes, for type checkers; at run time the bases stay PocketFlow's own.

`class Summarise(AsyncNode[list[str], str])` says: prep gives a list of strings, exec makes a string
of it. A third parameter, `Any` when left out, is what post returns.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Generic

    from typing_extensions import TypeVar

    Prepared = TypeVar("Prepared", default=Any)
    Executed = TypeVar("Executed", default=Any)
    Posted = TypeVar("Posted", default=Any)
else:
    from typing import TypeVar

    Prepared = TypeVar("Prepared")
    Executed = TypeVar("Executed")
    Posted = TypeVar("Posted")

    class Generic:
        """Stands in for `typing.Generic`, so that no node has it among its bases."""

        def __class_getitem__(cls, _params):
            return object


def subscript(cls: type[Any], params: Any) -> GenericAlias:
    """Return *cls* with its type parameters; the body of every `__class_getitem__`."""
    return GenericAlias(cls, params)


__all__ = ["Executed", "Generic", "Posted", "Prepared", "subscript"]
