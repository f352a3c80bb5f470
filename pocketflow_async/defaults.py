"""What holds for a node or flow that was given no options, and the way to those it was given.

Apart from `options`, which validates and so costs several milliseconds to import: most programs
never need it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pocketflow_async.clock import Clock


class Defaults:
    """The options of a node or flow; all of them have their defaults here."""

    name: str | None = None
    timeout: float | None = None
    concurrency: int | None = None
    on_error: Literal["raise", "collect"] = "raise"
    in_thread: bool = False
    policies: Collection[Any] = ()
    max_steps: int | None = None
    ends: Collection[str] = ()
    strict: bool = False
    merge_params: bool = False

    def worth_retrying(self, error: Exception) -> bool:
        """Return whether *error* is one to try again after: any is."""
        return True

    def around(self, call: Callable[..., Any], way: Literal["call", "acall"]) -> Callable[..., Any]:
        """Return *call* as it is: nothing goes around it."""
        return call

    def delay(self, wait: float, attempt: int, clock: Clock) -> float:
        """Return the seconds to wait after any failed attempt: *wait*."""
        return wait


PLAIN = Defaults()


def choose(owner: Any, kind: str, given: Mapping[str, Any]) -> Any:
    """Return the validated options of *owner*.

    Args:
        owner: The node or flow; its class says which options it takes.
        kind: Name of their class in `options`.
        given: The keyword arguments.

    Raises:
        TypeError: An argument is unknown or has the wrong type.
        ValueError: A value is out of its range.
    """
    from pocketflow_async import options  # noqa: PLC0415 (see the module's docstring)

    return options.build(getattr(options, kind), owner, owner._pf_keywords, given)
