"""Whether the parts of an infrastructure are well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pocketflow_async.infrastructure.events.stamp import timestamp
from pocketflow_async.infrastructure.logging_redaction import clean
from pocketflow_async.infrastructure.resilience import CircuitBreaker, CircuitBreakerOpen

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.factory import Infrastructure

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"


async def check(infra: Infrastructure) -> dict[str, Any]:
    """Return how the parts are, asked at the same time; see `Infrastructure.health_check`."""
    limits = infra.config.resilience
    state, events, emergency = await asyncio.gather(
        _asked(infra.store.health, limits.db_timeout, infra.circuit_breakers["state"]),
        _asked(lambda: _ping(infra), limits.network_timeout, infra.circuit_breakers["events"]),
        _asked(lambda: _emergency(infra), limits.db_timeout),
    )
    breakers = {name: str(one.state) for name, one in sorted(infra.circuit_breakers.items())}
    parts = {"state": state, "events": events, "emergency": emergency}
    status = overall([part["status"] for part in parts.values()], breakers.values())
    return {
        "status": status,
        "healthy": status != UNHEALTHY,
        "env": infra.config.env,
        "checked_at": timestamp(),
        **parts,
        "circuit_breakers": breakers,
    }


def overall(parts: Any, breakers: Any) -> str:
    """Return the status of the whole: unhealthy as any part, degraded if any part or breaker is."""
    found = set(parts)
    if UNHEALTHY in found:
        return UNHEALTHY
    return DEGRADED if DEGRADED in found or set(breakers) - {"closed"} else HEALTHY


async def _asked(
    ask: Callable[[], Awaitable[Mapping[str, Any]]],
    seconds: float,
    breaker: CircuitBreaker | None = None,
) -> dict[str, Any]:
    """Return what a part says, or what is the matter with it; never raises an Exception."""

    async def answer() -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            found = dict(await ask())
        if found["status"] == UNHEALTHY:
            raise _Unwell(found)
        return found

    try:
        return await answer() if breaker is None else await breaker.call(answer)
    except _Unwell as error:
        said = str(error.found.get("error", "it does not answer"))
        return {**error.found, "error": clean(said)}
    except CircuitBreakerOpen as error:
        return {"status": UNHEALTHY, "error": str(error)}
    except TimeoutError:
        return {"status": UNHEALTHY, "error": f"no answer within {seconds:g} s"}
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the answer)
        return {"status": UNHEALTHY, "error": clean(f"{type(error).__name__}: {error}")}


class _Unwell(ConnectionError):
    """A part says that it is not well; a breaker is to know."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__()
        self.found = found


async def _ping(infra: Infrastructure) -> dict[str, Any]:
    ping = getattr(infra.events, "ping", None)  # a bus of the program's own may have none
    well = ping is None or await ping()
    return {"status": HEALTHY if well else UNHEALTHY, "backend": type(infra.events).__name__}


async def _emergency(infra: Infrastructure) -> dict[str, Any]:
    state = await infra.emergency.refresh()
    status = HEALTHY if state.can_trade() else DEGRADED
    return {"status": status, "state": str(state), "reason": clean(infra.emergency.reason or "")}
