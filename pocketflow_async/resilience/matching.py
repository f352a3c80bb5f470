"""Which errors a policy is about: classes, or a function that decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

Errors: TypeAlias = type[Exception] | Iterable[type[Exception]] | Callable[[Exception], bool]
"""Classes of errors, or a function that says of an error whether it is meant."""


class Matcher(NamedTuple):
    """Decides whether an error is one of those that are meant.

    Attributes:
        classes: They, or their subclasses.
        decide: Asked in place of the classes; None: those decide.
    """

    classes: tuple[type[Exception], ...]
    decide: Callable[[Exception], bool] | None = None

    def __repr__(self) -> str:
        if self.decide is not None:
            return getattr(self.decide, "__qualname__", repr(self.decide))
        return f"({', '.join(one.__name__ for one in self.classes)})"

    def takes(self, error: Exception) -> bool:
        """Return whether *error* is meant."""
        if self.decide is not None:
            return bool(self.decide(error))
        return isinstance(error, self.classes)


def matcher(on: Errors, name: str = "on") -> Matcher:
    """Return what decides which errors are meant.

    Args:
        on: A class, classes, or a function of the error.
        name: What it is called in errors.

    Raises:
        TypeError: It is none of these, or one of the classes is no class.
        ValueError: One of the classes is no `Exception`, such as `asyncio.CancelledError`: who
            cancels a call has to get his way.
    """
    given: Any = on  # what it is in truth
    if isinstance(given, Matcher):
        return given
    if isinstance(given, type):
        given = (given,)
    elif callable(given):
        return Matcher((), given)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be error classes or a function, not {given!r:.80}")
    classes = tuple(given)
    for one in classes:
        if not isinstance(one, type) or not issubclass(one, BaseException):
            raise TypeError(f"{name} takes error classes, not {one!r:.80}")
        if not issubclass(one, Exception):
            raise ValueError(f"{name}: {one.__name__} is no Exception, and always passes through")
    return Matcher(classes)
