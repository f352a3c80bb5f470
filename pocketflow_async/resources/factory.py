"""What makes a resource, and how one is closed and asked whether it is well."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

R = TypeVar("R")

_CLOSERS: Final = ("aclose", "close", "cleanup", "disconnect")
_TERMINATORS: Final = ("terminate", "close")
_SECRET: Final = (
    *("password", "passwd", "pwd", "secret", "token"),
    *("key", "credential", "auth", "cookie"),
)
_ALWAYS_SECRET: Final = frozenset({"headers", "dsn", "url", "cert"})

MASK: Final = "***"
"""What stands for a secret."""


class ResourceFactory(ABC, Generic[R]):
    """Makes a resource; subclasses define `create`, and whatever else is not as usual."""

    @abstractmethod
    async def create(self) -> R:
        """Make the resource, on the event loop that it will be used on.

        When it is cancelled or fails, it must leave nothing open.
        """

    def get_config(self) -> Mapping[str, Any]:
        """Return what the resource is made of, without any secret."""
        return {}

    async def close(self, resource: R) -> None:
        """Close the resource: by its `aclose`, `close`, `cleanup` or `disconnect`."""
        await close(resource)

    async def check(self, resource: R) -> Any:
        """Say whether the resource is well: a bool or a `HealthStatus`; None: nobody knows.

        It may raise instead, which means that it is not.
        """
        return None

    def terminate(self, resource: R) -> None:
        """Let go of a resource whose event loop is closed, as far as that is possible."""
        terminate(resource)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({parts})"


class FunctionFactory(ResourceFactory[Any]):
    """Makes what a function returns, or what an object with a method `create` does.

    A function that is not asynchronous is called on the event loop's thread: it must not block.

    Args:
        make: A function, synchronous or not; or an object with `create`, and if it likes with
            `get_config`.
    """

    def __init__(self, make: Any) -> None:
        self._make = getattr(make, "create", make)
        self._own = make if make is not self._make else None

    def __repr__(self) -> str:
        made_by = self._own or self._make
        name = getattr(made_by, "__qualname__", None) or type(made_by).__name__
        return f"FunctionFactory({name})"  # not the object's own repr, which may have secrets

    async def create(self) -> Any:
        """Call the function; await what it returns if that can be."""
        return await awaited(self._make())

    def get_config(self) -> Mapping[str, Any]:
        """Return what the object says of itself, if it does."""
        config = getattr(self._own, "get_config", None)
        return config() if callable(config) else {}


def as_factory(factory: Any) -> ResourceFactory[Any]:
    """Return *factory*, or one around it if it is a function or has just a method `create`.

    Raises:
        TypeError: It can make nothing.
    """
    if isinstance(factory, ResourceFactory):
        return factory
    if isinstance(factory, type) and hasattr(factory, "create"):
        raise TypeError(f"factory must be an object: {factory.__name__}(…)")
    if not callable(getattr(factory, "create", factory)):
        raise TypeError(
            f"factory must be callable or have a method create(), not {type(factory).__name__}"
        )
    return FunctionFactory(factory)


async def awaited(value: Any) -> Any:
    """Return *value*, awaited if that can be."""
    return await value if inspect.isawaitable(value) else value


async def close(resource: Any) -> None:
    """Close *resource* by the first method that it has for that, awaited if need be."""
    method = _first(resource, _CLOSERS)
    if method is not None:
        await awaited(method())


def terminate(resource: Any) -> None:
    """Let go of *resource* without an event loop, as far as that is possible.

    Raises:
        Exception: Whatever it raises then.
    """
    method = _first(resource, _TERMINATORS)
    if method is None or inspect.iscoroutinefunction(method):
        return
    pending = method()
    if inspect.iscoroutine(pending):
        pending.close()


def _first(resource: Any, names: tuple[str, ...]) -> Callable[[], Any] | None:
    for name in names:
        method = getattr(resource, name, None)
        if callable(method):
            found: Callable[[], Any] = method
            return found
    return None


def is_secret(name: str) -> bool:
    """Return whether a parameter of that name may hold a secret."""
    low = name.lower()
    return low in _ALWAYS_SECRET or any(word in low for word in _SECRET)


def masked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return *config* for people: secrets and all values of headers masked, Nones left out.

    A URL with a user or a password in it, under whatever name, is masked in these parts.
    """
    return {name: _shown(name, value) for name, value in config.items() if value is not None}


def _shown(name: str, value: Any) -> Any:
    if is_secret(name):
        return dict.fromkeys(value, MASK) if isinstance(value, Mapping) else MASK
    if isinstance(value, Mapping):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_shown(name, part) for part in value]
    if isinstance(value, str):
        return without_credentials(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return f"<{type(value).__name__}>"  # its repr may say anything


def without_credentials(url: str) -> str:
    """Return *url* with user, password and query masked, if it is one and has any."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    end = min((rest.find(sign) for sign in "/?#" if sign in rest), default=len(rest))
    place, path = rest[:end], rest[end:]
    if "@" in place:
        place = f"{MASK}@{place.rpartition('@')[2]}"
    path, asked, _ = path.partition("?")
    return f"{scheme}://{place}{path}{'?' + MASK if asked else ''}"
