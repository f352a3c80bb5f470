"""Resources that a workflow needs, as declared: what they are, not the things themselves."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from pocketflow_async.workflow.arguments import seconds, text, whole
from pocketflow_async.workflow.errors import WorkflowError

CACHES: Final = ("redis", "memory")
DATABASES: Final = ("postgresql", "mysql", "sqlite")
_SECRET: Final = ("password", "passwd", "secret", "token", "key", "credential", "auth", "cookie")


@dataclass(frozen=True)
class Requirement:
    """A resource that a workflow needs.

    Attributes:
        name: What nodes call it.
        kind: Class of the factory that makes it, such as `DatabasePoolFactory`.
        config: What the factory is given, secrets aside.
        secrets: What must not be shown.
        factory: The user's own factory; None: one of *kind*.
        health_check: Says whether the resource is well; None: nothing does.
        cleanup_handler: Closes the resource; None: its own method does.
        description: For people.
    """

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    secrets: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    factory: Any = field(default=None, repr=False)
    health_check: Any = field(default=None, repr=False)
    cleanup_handler: Any = field(default=None, repr=False)
    description: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what the metadata of a workflow say about it."""
        return {
            "factory_type": self.kind,
            "description": self.description,
            "has_health_check": self.health_check is not None,
            "has_cleanup": self.cleanup_handler is not None,
        }


def database(name: str, given: Mapping[str, Any]) -> Requirement:
    """Declare a pool of database connections.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: There is no such backend, or the sizes do not fit.
    """
    backend = given.get("backend", "postgresql")
    _one_of("database backend", backend, DATABASES)
    _port(given.get("port"))
    least = whole("min_size", given["min_size"], 0)
    if least > whole("max_size", given["max_size"]):
        raise ValueError(f"min_size ({least}) must not be above max_size ({given['max_size']})")
    return _declared(name, "DatabasePoolFactory", given, f"{backend} database")


def http_client(name: str, given: Mapping[str, Any]) -> Requirement:
    """Declare an HTTP client.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: The timeout is not above zero.
    """
    headers = given["headers"]
    if headers is not None and not isinstance(headers, Mapping):
        raise TypeError(f"headers must be a dict, not {headers!r:.80}")
    if given["timeout"] is not None:
        seconds("timeout", given["timeout"])
    return _declared(name, "HttpClientFactory", given, "HTTP client")


def cache(name: str, given: Mapping[str, Any]) -> Requirement:
    """Declare a cache.

    Raises:
        TypeError: An argument is of a wrong type.
        ValueError: There is no such backend.
    """
    _one_of("cache backend", given.get("backend"), CACHES)
    _port(given.get("port"))
    return _declared(name, "CacheFactory", given, f"{given['backend']} cache")


def custom(
    name: str, factory: Any, health_check: Any, cleanup_handler: Any, description: str | None
) -> Requirement:
    """Declare a resource of the user's own.

    Raises:
        TypeError: The factory can make nothing, or a function is none.
    """
    if isinstance(factory, type) and hasattr(factory, "create"):
        raise TypeError(f"factory must be an object: {factory.__name__}(…)")
    if not callable(getattr(factory, "create", factory)):
        raise TypeError(
            f"factory must be callable or have a method create(), not {type(factory).__name__}"
        )
    for label, function in (("health_check", health_check), ("cleanup_handler", cleanup_handler)):
        if function is not None and not callable(function):
            raise TypeError(f"{label} must be a function, not {function!r}")
    if description is not None and not isinstance(description, str):
        raise TypeError(f"description must be a text, not {description!r}")
    return Requirement(
        text("the name of a resource", name),
        type(factory).__name__,
        factory=factory,
        health_check=health_check,
        cleanup_handler=cleanup_handler,
        description=description or "",
    )


def _one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"Unsupported {what}: {value}. There is: {', '.join(known)}")


def _port(port: Any) -> None:
    if port is not None and whole("port", port) > 65535:
        raise ValueError(f"port must be from 1 to 65535, not {port}")


def _declared(name: str, kind: str, given: Mapping[str, Any], description: str) -> Requirement:
    config = {key: value for key, value in given.items() if value is not None}
    secrets = {key: config.pop(key) for key in list(config) if _is_secret(key)}
    return Requirement(
        text("the name of a resource", name),
        kind,
        MappingProxyType(config),
        MappingProxyType(secrets),
        description=description,
    )


def _is_secret(key: str) -> bool:
    # Any header may be one, whatever it is called.
    return key in ("headers", "dsn", "url") or any(word in key.lower() for word in _SECRET)


def new_registry() -> Any:
    """Return a registry for declared resources."""
    module = _resources()
    return Declared() if module is None else module.ResourceRegistry()


def register(registry: Any, needed: Requirement) -> None:
    """Tell *registry* how to make what is *needed*; without the package of resources, that it is.

    Raises:
        TypeError: The registry takes no factories.
    """
    if isinstance(registry, Declared):
        registry.declare(needed)
        return
    factory = needed.factory
    if factory is None:
        module = _resources()
        if module is None:
            return  # a registry of the user's own, which has what it has
        factory = getattr(module, needed.kind)(**needed.config, **needed.secrets)
    take = getattr(registry, "register_factory", None)
    if take is None:
        raise TypeError(
            f"resource {needed.name!r} cannot be added: {type(registry).__name__} has no method "
            "register_factory"
        )
    take(
        needed.name,
        factory,
        health_check=needed.health_check,
        cleanup_handler=needed.cleanup_handler,
    )


def _resources() -> Any:
    """Return the package of resources if it is there."""
    name = "pocketflow_async.resources"
    try:
        module = importlib.import_module(name)
        return module if hasattr(module, "ResourceRegistry") else None
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


class Declared:
    """Knows which resources were declared, and can make none: the package for that is not there."""

    def __init__(self) -> None:
        self._needed: dict[str, Requirement] = {}

    def __iter__(self) -> Iterator[Requirement]:
        return iter(self._needed.values())

    def __len__(self) -> int:
        return len(self._needed)

    def __bool__(self) -> bool:
        """Stay a registry while it is empty."""
        return True

    def declare(self, needed: Requirement) -> None:
        """Add a resource, or replace the one of its name."""
        self._needed[needed.name] = needed

    def has_factory(self, name: str) -> bool:
        """Return whether *name* was declared."""
        return name in self._needed

    def has_resource(self, name: str) -> bool:
        """Return whether *name* is there: it never is."""
        return False

    def list_resources(self) -> set[str]:
        """Return the names that were declared."""
        return set(self._needed)

    async def get_resource(self, name: str) -> Any:
        """Refuse.

        Raises:
            LookupError: Always.
        """
        raise UnmadeResourceError(name, name in self._needed)

    async def cleanup(self) -> None:
        """Do nothing: nothing was made."""


class UnmadeResourceError(WorkflowError, LookupError):
    """Raised when a resource is asked for that nobody can make."""

    def __init__(self, name: str, declared: bool) -> None:
        self.name = name
        super().__init__(
            f"No factory registered for resource: {name}"
            + (" (it is declared, but nothing here can make it)" if declared else "")
            + ". Give the builder or the runtime a resource_registry that has it."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.name, "it is declared" in str(self)))
