"""Errors about shared resources, each with a message that says what to do next.

ResourceError
├── ResourceNotFoundError (LookupError)        nothing can give a resource of that name
│   └── ResourceUnavailableError (ConnectionError)  it has failed so often that it is put off
├── ResourceCreationError (RuntimeError)       a factory could not do its work to the end
├── NoRegistryError (RuntimeError)             no registry is open here
└── CacheClosedError (RuntimeError)            the cache was closed where it came from
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_CREDENTIALS = re.compile(r"(\w://)[^/\s@]*@")
_SECRETS = re.compile(r"(?i)\b(password|passwd|pwd|token|secret|api_?key)(\s*[=:]\s*)[^\s,;&]+")


class ResourceError(Exception):
    """Base of all errors about shared resources; what a factory raises passes as it is."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message, since each class makes its own of other arguments."""
        return (_again, (type(self), self.args), self.__dict__)


def _again(cls: type[ResourceError], args: tuple[Any, ...]) -> ResourceError:
    # By the class that lays the object out, which is not always the first that has a `__new__`.
    make: Any = OSError.__new__ if issubclass(cls, OSError) else Exception.__new__
    error: ResourceError = make(cls)
    error.args = args
    return error


class ResourceNotFoundError(ResourceError, LookupError):
    """Raised when nothing can give a resource of that name.

    Attributes:
        name: What was asked for.
    """

    def __init__(self, name: object, known: Iterable[str] = ()) -> None:
        names = sorted(known)
        close = get_close_matches(name, names, 1) if isinstance(name, str) else []
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        there = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        super().__init__(
            f"No factory registered for resource: {name}{meant}. "
            f"There is: {there or 'nothing'}. Add it with register_factory({name!r}, …)"
        )
        self.name = name


class ResourceUnavailableError(ResourceNotFoundError, ConnectionError):
    """Raised when a resource could not be made so often that it is not tried again yet.

    The last failure is its cause.

    Attributes:
        name: What was asked for.
        retry_after: Seconds until it is tried again.
        failures: How often in a row it could not be made.
    """

    def __init__(
        self, name: str, retry_after: float, failures: int, last: BaseException | None = None
    ) -> None:
        when = f"tried again in {retry_after:.1f} s" if retry_after > 0 else "being tried right now"
        why = "" if last is None else f", the last time by {in_words(last):.500}"
        ResourceError.__init__(
            self,
            f"Circuit breaker open for resource: {name}. It could not be made {failures} times in "
            f"a row{why}; it is {when}",
        )
        self.__cause__ = last
        self.name = name
        self.retry_after = retry_after
        self.failures = failures


class ResourceCreationError(ResourceError, RuntimeError):
    """Raised when a resource could not be made, though its factory did not fail.

    Attributes:
        name: What was to be made.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Resource {name!r} could not be made: {why}")
        self.name = name


class NoRegistryError(ResourceError, RuntimeError):
    """Raised when a resource is asked for where no registry is open."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no registry here to get {name!r} from: ask inside "
            "`async with registry:`, or in a node of a workflow"
        )
        self.name = name


class CacheClosedError(ResourceError, RuntimeError):
    """Raised when a cache is used that was closed where it came from.

    Attributes:
        name: What it is called.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"cache {name!r} is closed: ask the registry for a new one")
        self.name = name


def in_words(error: BaseException) -> str:
    """Return *error* by its type and its message, without credentials that are easily seen."""
    message = _SECRETS.sub(r"\1\2***", _CREDENTIALS.sub(r"\1***@", str(error)))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
