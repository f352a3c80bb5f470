"""Resources that a workflow needs, as declared: what they are, not the things themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async import resources
from pocketflow_async.arguments import seconds, text, whole
from pocketflow_async.resources.factory import is_secret

if TYPE_CHECKING:
    from pocketflow_async.resources.registry import ResourceRegistry

CACHES: Final = ("redis", "memory")
DATABASES: Final = ("postgresql", "mysql", "sqlite")
_POSTGRESQL_PORT: Final = 5432


@dataclass(frozen=True)
class Requirement:
    """A resource that a workflow needs.

    Attributes:
        name: What nodes call it.
        kind: Class of the factory that makes it, such as `DatabasePoolFactory`.
        config: What the factory is given, secrets aside.
        secrets: What must not be shown.
        factory: The user's own factory; None: one of *kind*.
        health_check: Says whether the resource is well; None: the factory does, if it can.
        cleanup_handler: Closes the resource; None: the factory does.
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
            "has_health_check": self.health_check is not None or self.factory is None,
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
    if backend != "postgresql" and given.get("port") == _POSTGRESQL_PORT:  # the builder's default
        given = {**given, "port": None}
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
    secrets = {key: config.pop(key) for key in list(config) if is_secret(key)}
    return Requirement(
        text("the name of a resource", name),
        kind,
        MappingProxyType(config),
        MappingProxyType(secrets),
        description=description,
    )


def new_registry() -> ResourceRegistry:
    """Return a registry for declared resources."""
    from pocketflow_async.resources.registry import (  # noqa: PLC0415 (not all workflows need one)
        ResourceRegistry,
    )

    return ResourceRegistry()


def register(registry: Any, needed: Requirement) -> None:
    """Tell *registry* how to make what is *needed*.

    Raises:
        TypeError: The registry takes no factories.
    """
    take = getattr(registry, "register_factory", None)
    if take is None:
        raise TypeError(
            f"resource {needed.name!r} cannot be added: {type(registry).__name__} has no method "
            "register_factory"
        )
    factory = needed.factory
    if factory is None:
        factory = getattr(resources, needed.kind)(**needed.config, **needed.secrets)
    take(
        needed.name,
        factory,
        health_check=needed.health_check,
        cleanup_handler=needed.cleanup_handler,
    )
