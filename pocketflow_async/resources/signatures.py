"""Which options a back end takes, as its signatures say: a misspelt one is refused at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import reduce
from typing import Any

from pocketflow_async.needing import need

Known = frozenset[str] | None
"""Names of options; None: that cannot be known."""


def taken_by(*functions: Any, extra: str = "workflow") -> Known:
    """Return the names that *functions* take; all but the last pass on what they do not know.

    Args:
        *functions: They, or where they are: `"asyncpg:create_pool"`.
        extra: What the library comes with.

    Returns:
        The names; None when the library is not installed, or the last one takes any name.
    """
    names: set[str] = set()
    takes_any = False
    for function in functions:
        try:
            parameters = inspect.signature(_found(function, extra)).parameters.values()
        except (ImportError, AttributeError, ValueError):  # not there, or without a signature
            return None
        names.update(one.name for one in parameters if one.kind not in _VARIOUS)
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    return None if takes_any else frozenset(names - {"self"})


_VARIOUS = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _found(function: Any, extra: str) -> Any:
    if not isinstance(function, str):
        return function
    module, _, path = function.partition(":")
    return reduce(getattr, path.split("."), need(module, extra))


def check_options(
    who: str,
    options: Mapping[str, Any],
    known: Callable[[], Known],
    also: Collection[str] = (),
) -> None:
    """Refuse an option that nothing takes.

    Args:
        who: Who is given them.
        options: What is given; when it is empty, *known* is not asked.
        known: Tells what is taken.
        also: Names that may have been meant besides.

    Raises:
        TypeError: There is such an option; says which one may be meant. No value is repeated.
    """
    taken = known() if options else None
    if taken is None:
        return
    for name in options:
        if name not in taken:
            close = get_close_matches(name, sorted({*taken, *also}), 1)
            meant = f": did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{who} takes no option {name!r}{meant}")


def parameters_of(factory: type[Any]) -> frozenset[str]:
    """Return the names of the parameters that *factory* itself has."""
    parameters = inspect.signature(factory).parameters.values()
    return frozenset(one.name for one in parameters if one.kind not in _VARIOUS)
