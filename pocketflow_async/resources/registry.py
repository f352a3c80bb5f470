"""Where shared resources come from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pocketflow_async.clock import Clock
from pocketflow_async.resources.current import enter, leave
from pocketflow_async.resources.entry import Entry
from pocketflow_async.resources.errors import (
    ResourceNotFoundError,
    ResourceUnavailableError,
    in_words,
)
from pocketflow_async.resources.health import HealthCheck, HealthStatus
from pocketflow_async.resources.leases import Lease
from pocketflow_async.resources.loop_scope import LoopScope, ScopeIsOverError
from pocketflow_async.resources.registration import Registration
from pocketflow_async.resources.rules import Rules
from pocketflow_async.resources.scopes import Scopes

logger = logging.getLogger(__name__)


class ResourceRegistry:
    """Makes shared resources when they are first used, keeps them well, and closes them.

    A resource is made once on each event loop that asks for it, however many ask at once, and is
    never handed out on another one. It is closed by `cleanup`, when the block `async with
    registry:` is left, or else when its event loop ends as under `asyncio.run`: the last made
    first. One registry may be used on several event loops, also at the same time in several
    threads, and it can be used again after it was cleaned up.

    A resource with a health check is asked at most every `health_interval` seconds, by one of those
    who ask for it, while the others wait for the answer; if it is not well, a new one is made, and
    the old one is closed when the last lease of it has been given back.

    When a resource could not be made five times in a row, it is tried again after 30 seconds, once;
    `circuit_breaker_threshold` and `circuit_breaker_timeout` of its metadata say otherwise.

    Args:
        enable_metrics: Whether `get_metrics` has figures.
        health_interval: Seconds in which a resource is not asked again how it is.
        health_timeout: Seconds that a health check may take.
        close_timeout: Seconds that closing a resource may take; also how long `cleanup` waits for
            those who use one.
        clock: The time of intervals; that of the context when left out.

    Raises:
        ValueError: A number of seconds is out of range.
    """

    def __init__(
        self,
        enable_metrics: bool = True,
        *,
        health_interval: float = 5.0,
        health_timeout: float = 5.0,
        close_timeout: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._registered: dict[str, Registration] = {}
        self._has_metrics = enable_metrics
        rules = Rules(
            self._registered,
            self,
            _seconds("health_interval", health_interval, 0.0),
            _seconds("health_timeout", health_timeout),
            _seconds("close_timeout", close_timeout),
            clock,
        )
        self._scopes = Scopes(rules)

    def __repr__(self) -> str:
        names = ", ".join(sorted(self._registered))
        return f"<ResourceRegistry of {names or 'nothing'}>"

    def register_factory(
        self,
        name: str,
        factory: Any,
        health_check: HealthCheck | None = None,
        cleanup_handler: Callable[[Any], Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Say how a resource is made; one of that name is replaced when it is next asked for.

        Args:
            name: What the resource is called.
            factory: A `ResourceFactory`, any object with `create()`, or a function; these may be
                asynchronous.
            health_check: Says whether the resource is well: a function of it, which may be
                asynchronous; the factory's own `check` when left out.
            cleanup_handler: Closes it: a function of it, which may be asynchronous; the factory's
                `close` when left out, which calls `aclose`, `close`, `cleanup` or `disconnect`.
            metadata: What else is known of it; `circuit_breaker_threshold` (5) is how many failures
                in a row put off the next attempt, `circuit_breaker_timeout` (30) for how many
                seconds.

        Raises:
            TypeError: One of them is of a wrong type.
            ValueError: The name is empty, or the threshold or timeout is out of range.
        """
        new = Registration(name, factory, health_check, cleanup_handler, metadata)
        again = name in self._registered
        self._registered[name] = new
        logger.debug("resource %r registered%s", name, " anew" if again else "")

    def has_factory(self, name: str) -> bool:
        """Return whether something makes a resource *name*."""
        return name in self._registered

    def has_resource(self, name: str) -> bool:
        """Return whether the resource *name* is open, on this event loop or else on any."""
        loop = _running()
        if loop is not None:
            scope = self._scopes.by_loop.get(loop)
            return scope is not None and name in scope.entries
        return any(name in scope.entries for scope in self._scopes.all())

    def list_resources(self) -> set[str]:
        """Return the names of all resources that can be made."""
        return set(self._registered)

    async def get_resource(self, name: str) -> Any:
        """Return the resource *name* of this event loop, made now if need be.

        It may be closed when it is found not to be well, and at `cleanup`; `lease` defers that.
        Whoever is cancelled while it is made does not end that for others who wait for it.

        Raises:
            ResourceNotFoundError: Nothing makes it, or it has failed too often.
            ResourceCreationError: The factory returned nothing, or its work was cancelled.
            Exception: What its factory raises, with the note "while making resource …".
        """
        return (await self._find(name))[1].resource

    def lease(self, name: str) -> Lease:
        """Return the use of a resource for a block: `async with registry.lease("db") as db:`."""
        return Lease(self._find, name)

    async def check_health(self, name: str) -> dict[str, Any]:
        """Ask now whether a resource is well; it is made if it is not there.

        Returns:
            `status` ("healthy" or "unhealthy"), `state` (also "degraded"), `message`, `details`
            and `timestamp`.

        Raises:
            ResourceNotFoundError: Nothing makes it.
        """
        if name not in self._registered:
            raise ResourceNotFoundError(name, self._registered)
        try:
            status = await self._checked(name)
        except ResourceUnavailableError as error:
            status = HealthStatus.unhealthy(str(error), {"retry_after": error.retry_after})
        except Exception as error:  # noqa: BLE001 (that it cannot be made is the answer)
            words = in_words(error)
            status = HealthStatus.unhealthy(f"It cannot be made: {words}", {"error": words})
        return {
            "status": "healthy" if status.is_healthy else "unhealthy",
            "state": status.state.value,
            "message": status.message,
            "details": dict(status.details or {}),
            "timestamp": status.timestamp,
        }

    async def _checked(self, name: str) -> HealthStatus:
        scope, entry = await self._find(name)
        entry.leases += 1
        try:
            return await scope.check(entry)
        finally:
            scope.release(entry)

    def get_metrics(self) -> dict[str, Any]:
        """Return what was counted: `{"resources": {name: {…}}}`, over all event loops.

        Of each resource: `created`, `accessed`, `health_failures`, `recreations`, `closed`,
        `close_failures`, `leases` (how many are in use now), and `circuit_breaker`, a dict of
        `state` ("closed", "open", "half_open"), `failures`, `last_failure`, `threshold` and
        `timeout`.
        Without metrics the answer is empty.
        """
        if not self._has_metrics:
            return {}
        open_now = [entry for scope in self._scopes.all() for entry in scope.all_open()]
        return {
            "resources": {
                name: {
                    **asdict(self._scopes.figures(name)),
                    "leases": sum(entry.leases for entry in open_now if entry.name == name),
                    "circuit_breaker": made_by.breaker.facts(),
                }
                for name, made_by in list(self._registered.items())
            }
        }

    async def cleanup(self) -> None:
        """Close all that is open, on all event loops, the last made first.

        Resources that are in use get `close_timeout` seconds to be given back. Errors are logged.
        What is asked for later is made anew. When cancelled, it raises that after its work.
        """
        await self._scopes.close_all()

    async def __aenter__(self) -> ResourceRegistry:
        scope = await self._scopes.here()
        scope.entered += 1
        enter(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        leave(self)
        scope = self._scopes.by_loop.get(asyncio.get_running_loop())
        if scope is not None:
            scope.entered -= 1
            if scope.entered <= 0:
                await self._scopes.close(scope)

    async def _find(self, name: str) -> tuple[LoopScope, Entry]:
        while True:
            scope = self._scopes.by_loop.get(asyncio.get_running_loop())
            if scope is None or scope.is_over:
                if name not in self._registered:
                    raise ResourceNotFoundError(name, self._registered)
                scope = await self._scopes.here()
            try:
                return scope, await scope.find(name)
            except ScopeIsOverError:
                if scope.is_loop_ending:
                    raise


def _seconds(name: str, value: float, least: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, not {value!r:.80}")
    if not (value > 0 if least is None else value >= least):
        raise ValueError(f"{name} is {'more than 0' if least is None else '0 or more'} seconds")
    return float(value)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
