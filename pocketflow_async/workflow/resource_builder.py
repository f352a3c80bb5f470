"""Builds workflows that declare the resources they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pocketflow_async.workflow import requirements
from pocketflow_async.workflow.builder import WorkflowBuilder, new_hex
from pocketflow_async.workflow.requirements import Requirement
from pocketflow_async.workflow.spec import NodeSpec

_Self = TypeVar("_Self", bound="ResourceBuilder")


class ResourceBuilder(WorkflowBuilder):
    """A builder to which resources are declared; nothing is made or connected to by that.

    Args:
        name: Name of the workflow; made up when left out.
        resource_registry: Where resources come from; one of its own when left out.
        description: What it is for.
        new_id: Makes ids of workflows.
    """

    def __init__(
        self,
        name: str | None = None,
        resource_registry: Any = None,
        description: str | None = None,
        *,
        new_id: Callable[[], str] = new_hex,
    ) -> None:
        if resource_registry is not None and not hasattr(resource_registry, "get_resource"):
            raise TypeError(f"resource_registry has no get_resource: {resource_registry!r:.80}")
        super().__init__(name, description, new_id=new_id)
        self._resources: dict[str, Requirement] = {}
        self._found = resource_registry

    def require_resource(
        self: _Self,
        name: str,
        factory: Any,
        health_check: Any = None,
        cleanup_handler: Any = None,
        description: str | None = None,
    ) -> _Self:
        """Declare a resource that *factory* makes; return the builder.

        Args:
            name: What nodes call it; a resource of that name is replaced.
            factory: An object with `create()`, or a function.
            health_check: Says whether the resource is well.
            cleanup_handler: Closes it.
            description: For people.
        """
        return self._declare(
            requirements.custom(name, factory, health_check, cleanup_handler, description)
        )

    def with_database(
        self: _Self,
        name: str = "db",
        host: str = "localhost",
        port: int | None = 5432,
        database: str | None = None,
        user: str | None = None,
        password: str | None = None,
        min_size: int = 10,
        max_size: int = 20,
        **options: Any,
    ) -> _Self:
        """Declare a pool of database connections, made when it is first used.

        Args:
            name: What nodes call it.
            host: Where the server is.
            port: Its port.
            database: Name of the database.
            user: Who connects.
            password: Never shown.
            min_size: Least connections of the pool.
            max_size: Most connections of the pool.
            **options: `backend` ("postgresql", "mysql", "sqlite") and what the pool takes.
        """
        given = {
            "host": host,
            "port": port,
            "database": database,
            "user": user,
            "password": password,
            "min_size": min_size,
            "max_size": max_size,
            **options,
        }
        return self._declare(requirements.database(name, given))

    def with_http_client(
        self: _Self,
        name: str = "http",
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 30,
        **options: Any,
    ) -> _Self:
        """Declare an HTTP client.

        Args:
            name: What nodes call it.
            base_url: What its addresses begin with.
            headers: Sent with every request; never shown.
            timeout: Seconds that a request may take.
            **options: What the client takes.
        """
        given = {"base_url": base_url, "headers": headers, "timeout": timeout, **options}
        return self._declare(requirements.http_client(name, given))

    def with_cache(
        self: _Self,
        name: str = "cache",
        backend: str = "redis",
        host: str = "localhost",
        port: int | None = 6379,
        **options: Any,
    ) -> _Self:
        """Declare a cache.

        Args:
            name: What nodes call it.
            backend: "redis" or "memory".
            host: Where the server is.
            port: Its port.
            **options: What the client takes.

        Raises:
            ValueError: There is no such backend.
        """
        given = {"backend": backend, "host": host, "port": port, **options}
        return self._declare(requirements.cache(name, given))

    def get_resource_registry(self) -> Any:
        """Return where the workflow's resources come from."""
        if self._found is None:
            self._found = requirements.new_registry()
        return self._found

    def list_required_resources(self) -> list[str]:
        """Return the names of the declared resources, then of others that nodes require."""
        used = [name for spec in self._nodes.values() for name in spec.required_resources]
        return list(dict.fromkeys([*self._resources, *used]))

    def _declare(self: _Self, needed: Requirement) -> _Self:
        requirements.register(self.get_resource_registry(), needed)
        self._resources[needed.name] = needed
        return self

    def _finished(self, spec: NodeSpec) -> NodeSpec:
        """Return *spec* with the declared resources that its code uses by name alone."""
        names = [name for name in spec.inputs.known if name in self._resources]
        if not names:
            return spec
        return replace(
            spec, required_resources=tuple(dict.fromkeys((*spec.required_resources, *names)))
        )

    def _registry(self) -> Any:
        return self.get_resource_registry()
