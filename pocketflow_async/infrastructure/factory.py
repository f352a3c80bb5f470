"""One infrastructure for all that runs in a process: where things are kept, told and stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.clock import Clock
from pocketflow_async.infrastructure import health
from pocketflow_async.infrastructure.config import Config, get_config
from pocketflow_async.infrastructure.emergency import EmergencyController, RiskLimits
from pocketflow_async.infrastructure.logging import configure_logging
from pocketflow_async.infrastructure.resilience import CircuitBreaker, RetryConfig
from pocketflow_async.infrastructure.state import State
from pocketflow_async.infrastructure.store.errors import StoreUnavailable
from pocketflow_async.infrastructure.store.model import Store
from pocketflow_async.infrastructure.store.opening import open_store
from pocketflow_async.resilience import Breakers

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.events.bus import Bus, EventBus

__all__ = ["Infrastructure", "create_infrastructure"]

logger = logging.getLogger(__name__)

_SOON: Final = 5.0
"""Seconds after which a store or event bus that has failed is asked again, at the latest."""


class Infrastructure:
    """Holds what runs share; made by `create`, and closed at the end.

        async with await Infrastructure.create("production") as infra:
            ...

    Belongs to one event loop.

    Attributes:
        config: Its settings.
        store: Where state, emergencies, runs and journals are.
        state: JSON by key, on the store.
        events: Where events are published and heard.
        emergency: Decides what may be done.
        circuit_breakers: The breakers by name; "state" goes around `state`, and "events" around
            the questions of `health_check` to the event bus.
        retry: How calls of providers are made again.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        events: EventBus,
        emergency: EmergencyController,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.events = events
        self.emergency = emergency
        said = config.resilience
        self.retry = RetryConfig(
            said.retry_max_attempts,
            said.retry_min_wait,
            said.retry_max_wait,
            said.retry_multiplier,
            said.retry_jitter,
        )
        self._clock = clock
        self._breakers = Breakers(
            failure_threshold=said.circuit_failure_threshold,
            reset_timeout=said.circuit_timeout,
            window=said.circuit_window,
            success_threshold=said.circuit_success_threshold,
            half_open_max_calls=said.circuit_half_open_max_calls,
            clock=clock,
        )
        self.circuit_breakers: dict[str, CircuitBreaker] = {}
        soon = min(said.circuit_timeout, _SOON)
        guard = self._breaker("state", reset_timeout=soon, is_failure=(OSError,)).policy
        self._breaker("events", reset_timeout=soon)
        self.state = State(store, guard)
        self._stack = AsyncExitStack()
        self._closing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Infrastructure {self.config.env}: {self.store!r}, {self.events!r}>"

    @classmethod
    async def create(
        cls,
        env: str | None = None,
        config: Config | None = None,
        controller_id: str = "default",
        *,
        store: Store | None = None,
        events: EventBus | None = None,
        clock: Clock | None = None,
    ) -> Infrastructure:
        """Return an infrastructure that is ready: its store is open, and a halt is known.

        Logs are configured as the settings say, unless the program has done so itself.

        Args:
            env: development, staging or production, or an alias such as "prod"; None: the
                variable ENV says, else development.
            config: All settings; *env* is not asked then.
            controller_id: Which of the store's emergency controllers it obeys.
            store: A store to use in place of the settings'; the caller closes it.
            events: An event bus to use in place of the settings'; the caller closes it.
            clock: Time of the breakers; that of the context if it is left out.

        Raises:
            ConfigError: There is no such environment, or a setting cannot be; a ValueError.
            StoreError: The store cannot be used. Nothing is left open.
            ImportError: A library for the store or the event bus is not installed.
        """
        # In a thread: it reads files, and loads libraries.
        config = await asyncio.to_thread(_prepared, env, config)
        async with AsyncExitStack() as stack:
            if store is None:
                store = await stack.enter_async_context(open_store(config.store_url))
            if events is None:
                events = bus = await asyncio.to_thread(_bus, config)
                stack.push_async_callback(bus.close)
            emergency = EmergencyController(
                controller_id,
                store=store,
                bus=events,
                limits=_limits(config),
                auto_halt=config.emergency.auto_halt_on_limit,
            )
            stack.push_async_callback(emergency.close)
            await emergency.refresh()
            made = cls(config, store, events, emergency, clock=clock)
            made._stack = stack.pop_all()
            made._stack.push_async_callback(made._persist)
            return made

    async def __aenter__(self) -> Infrastructure:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def breaker(self, dependency: str) -> CircuitBreaker:
        """Return the breaker of what is called, such as a venue: one for all who call it."""
        return self._breaker(dependency)

    def create_circuit_breaker(
        self,
        name: str,
        failure_threshold: int | None = None,
        timeout_seconds: float | None = None,
    ) -> CircuitBreaker:
        """Return the breaker of that name, made if there is none.

        Args:
            name: Its name: that of what is called.
            failure_threshold: Failures in the window with which it opens; None: as configured.
            timeout_seconds: How long it is open; None: as configured.

        Raises:
            ValueError: It is there already, and differs.
        """
        options: dict[str, Any] = {}
        if failure_threshold is not None:
            options["failure_threshold"] = failure_threshold
        if timeout_seconds is not None:
            options["reset_timeout"] = timeout_seconds
        return self._breaker(name, **options)

    async def health_check(self) -> dict[str, Any]:
        """Return how it is, by part; never raises an Exception, and ends in bounded time.

        `status` is "healthy"; "degraded", when a breaker is not closed or trading is halted; or
        "unhealthy", when the store or the events cannot be used. Each of the parts `state`,
        `events` and `emergency` has a `status` of its own, and an `error` if it is unhealthy.
        """
        return await health.check(self)

    def on_close(self, callback: Callable[[], Awaitable[Any]]) -> None:
        """Have *callback* awaited first of all when it is closed; the last one before the others.

        Nothing is called when it has been closed already.
        """
        self._stack.push_async_callback(callback)

    async def close(self) -> None:
        """Keep the emergency state, let handlers finish with their events, and close the store.

        Again, or twice at the same time, is fine: who comes later waits. Each part is closed even
        if another fails or this is cancelled; what has failed is raised at the end.
        """
        async with self._closing:
            await self._stack.pop_all().aclose()

    async def cleanup(self) -> None:
        """Do as `close` does."""
        await self.close()

    def _breaker(self, name: str, **options: Any) -> CircuitBreaker:
        policy = self._breakers.get(name, **options)
        return self.circuit_breakers.setdefault(
            name, CircuitBreaker(policy=policy, clock=self._clock)
        )

    async def _persist(self) -> None:
        if self.config.emergency.persist_state:
            try:
                async with asyncio.timeout(self.config.resilience.db_timeout):
                    await self.emergency.persist_state()
            except (StoreUnavailable, TimeoutError):
                logger.exception("the readings of the risk limits are not stored")


async def create_infrastructure(
    env: str | None = None, config: Config | None = None, controller_id: str = "default"
) -> Infrastructure:
    """Return a new infrastructure; see `Infrastructure.create`."""
    return await Infrastructure.create(env, config, controller_id)


def _prepared(env: str | None, config: Config | None) -> Config:
    if config is None:
        config = get_config(env)
    elif not isinstance(config, Config):
        raise TypeError(f"config must be a Config, not {type(config).__name__}")
    said = config.logging
    if said.configure:
        try:
            configure_logging(said.level, said.format, said.add_correlation_id, said.show_locals)
        except ImportError as error:
            logger.warning("logs are left as they are: %s", error)
    return config


def _bus(config: Config) -> Bus:
    if config.events.backend == "memory":
        from pocketflow_async.infrastructure.events.memory import MemoryBus  # noqa: PLC0415

        return MemoryBus()
    from pocketflow_async.infrastructure.events.redis_streams import (  # noqa: PLC0415
        RedisStreamsBus,
    )

    assert config.events.address is not None  # the settings have made sure
    return RedisStreamsBus(config.events.address, prefix=config.events.prefix)


def _limits(config: Config) -> RiskLimits:
    said = config.emergency
    given = {
        "daily_loss": said.daily_loss_limit,
        "position_size": said.max_position_size,
        "drawdown_percent": said.max_drawdown_percent,
    }
    known = {name: value for name, value in given.items() if value is not None}
    return RiskLimits(known, alert_at=said.alert_at, on_breach=said.on_breach)
