"""What a registry knows about a resource: who makes it, asks whether it is well, and closes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pocketflow_async.resources.breaker import THRESHOLD, WAIT, CreationBreaker
from pocketflow_async.resources.errors import ResourceCreationError
from pocketflow_async.resources.factory import ResourceFactory, as_factory, awaited
from pocketflow_async.resources.health import HealthCheck, HealthStatus, asked
from pocketflow_async.resources.uses import naming


class Registration:
    """How one resource is made, checked and closed; a new one replaces it as a whole.

    Args:
        name: What the resource is called.
        factory: Makes it.
        health_check: Says whether it is well; None: the factory does.
        cleanup_handler: Closes it; None: the factory does.
        metadata: What else is known; `circuit_breaker_threshold` is how many failures in a row put
            off the next attempt, `circuit_breaker_timeout` for how many seconds.

    Raises:
        TypeError: One of them is of a wrong type.
        ValueError: The name is empty, or the threshold or timeout is none.
    """

    def __init__(
        self,
        name: str,
        factory: Any,
        health_check: HealthCheck | None = None,
        cleanup_handler: Callable[[Any], Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a resource must be a text, not {name!r:.80}")
        if not name:
            raise ValueError("the name of a resource must not be empty")
        for label, function in (
            ("health_check", health_check),
            ("cleanup_handler", cleanup_handler),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"{label} must be a function, not {type(function).__name__}")
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"metadata must be a dict, not {type(metadata).__name__}")
        self.name = name
        self.metadata = dict(metadata or {})
        self.factory = as_factory(factory)
        self.breaker = CreationBreaker(
            self.metadata.get("circuit_breaker_threshold", THRESHOLD),
            self.metadata.get("circuit_breaker_timeout", WAIT),
        )
        self._handler = cleanup_handler
        self._check = health_check
        if health_check is None and type(self.factory).check is not ResourceFactory.check:
            self._check = self.factory.check
        self.has_check = self._check is not None

    async def create(self) -> Any:
        """Make the resource.

        Raises:
            ResourceCreationError: The factory returned nothing.
            Exception: Whatever it raises, with a note of what was being made.
        """
        try:
            with naming(self.name):
                resource = await awaited(self.factory.create())
        except Exception as error:
            self._sign(error)
            raise
        if resource is None:
            raise ResourceCreationError(
                self.name, "its factory returned None; it must return what it makes"
            )
        return resource

    def _sign(self, error: Exception) -> None:
        """Say on *error*, once, what was being made; it may be the same one each time."""
        note = f"while making resource {self.name!r}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)

    async def check(self, resource: Any) -> HealthStatus:
        """Return whether *resource* is well."""
        if self._check is None:
            return HealthStatus.healthy("It is open, and there is no health check")
        with naming(self.name):
            return await asked(self._check, resource)

    async def close(self, resource: Any) -> None:
        """Close *resource*.

        Raises:
            Exception: Whatever that raises.
        """
        close = self.factory.close if self._handler is None else self._handler
        await awaited(close(resource))

    def terminate(self, resource: Any) -> None:
        """Let go of *resource* without an event loop, as far as that is possible.

        Raises:
            Exception: Whatever that raises.
        """
        self.factory.terminate(resource)
