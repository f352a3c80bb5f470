"""Risk limits that act: an exceeded one halts all processes, a nearly exceeded one alerts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, NoReturn, TypeAlias

from pocketflow_async.infrastructure.emergency_shared import SharedState
from pocketflow_async.infrastructure.emergency_states import (
    EmergencyState,
    plain,
    raising,
    short,
    state_of,
)
from pocketflow_async.infrastructure.risk import (
    Direction,
    NoNumber,
    Reading,
    RiskLimitExceeded,
    RiskLimits,
    key_of,
)

logger = logging.getLogger(__name__)

Measure: TypeAlias = Callable[[], Awaitable[Any] | Any]
"""Returns the current value of what a limit is about."""


class LimitChecks:
    """Compares values with limits, and changes the state by what comes of it.

    Args:
        limits: The limits that are known by name.
        shared: The state.
        seconds: How long a measure may take.

    Attributes:
        limits: The limits that are known by name.
        measures: What says by itself how it stands, by the limit's name.
    """

    def __init__(self, limits: RiskLimits, shared: SharedState, seconds: float) -> None:
        self.limits = limits
        self.measures: dict[str, Measure] = {}
        self._shared = shared
        self._seconds = seconds

    async def check(
        self,
        name: str,
        value: object,
        given: float | None,
        direction: Direction | None,
        *,
        acts: bool,
    ) -> None:
        """Raise if *value* is beyond the limit; see `EmergencyController.check_risk_limit`."""
        try:
            limit = self.limits.limit(name, given, direction)
        except NoNumber as error:
            await self._unchecked(name, value, given, error, acts=acts)
        reading = limit.read(value, self.limits.alert_at)
        key = key_of(name)
        before = self._shared.limits.get(key, {}).get("level", "ok")
        self._shared.limits[key] = reading.facts()
        if reading.level == "breach":
            exceeded = RiskLimitExceeded(name, value, limit.value)
            logger.error("%s", exceeded)
            if acts:
                await self._stop(name, reading, exceeded)
            raise exceeded
        calm = state_of(self._shared.known()) is EmergencyState.NORMAL
        if before != reading.level or (reading.level == "alert" and calm):
            await self._note(name, reading)

    async def check_measured(self, *, acts: bool) -> None:
        """Check all that is measured.

        Raises:
            RiskLimitExceeded: One is exceeded.
        """
        for name, measure in [*self.measures.items()]:
            await self.check(name, await self._ask(name, measure), None, None, acts=acts)

    async def _unchecked(
        self, name: str, value: object, given: object, error: NoNumber, *, acts: bool
    ) -> NoReturn:
        """Raise *error*; nobody knows how it stands, so that it is taken for exceeded."""
        logger.error("%s", error)
        if acts:
            seen = {"limit_type": key_of(name), "current": plain(value), "limit": plain(given)}
            try:
                await self._raise_to(f"Risk limit could not be checked: {name}", seen)
            except Exception as unstored:
                raise error from unstored
        raise error

    async def _stop(self, name: str, reading: Reading, exceeded: RiskLimitExceeded) -> None:
        try:
            await self._raise_to(f"Risk limit exceeded: {name}", _seen(reading))
        except Exception as error:
            raise exceeded from error

    async def _note(self, name: str, reading: Reading) -> None:
        """Tell of a limit that is nearly used up, or that is so no more."""
        reason = f"Risk limit above {self.limits.alert_at:.0%}: {name}"
        try:
            if reading.level == "alert":
                await self._raise_to(reason, _seen(reading), EmergencyState.ALERT)
            else:
                await self._shared.change(lambda row: row)
        except Exception as error:  # noqa: BLE001 (nothing is beyond its limit)
            logger.warning("the risk limit %r could not be noted: %s", name, error)

    async def _raise_to(
        self, reason: str, seen: dict[str, Any], state: EmergencyState | None = None
    ) -> None:
        """Raise the state to *state*; None: to what an exceeded limit leads to."""
        if state is None:
            exits = self.limits.on_breach == "reduce"
            state = EmergencyState.REDUCING if exits else EmergencyState.HALT
        await self._shared.obey(raising(state, short(reason), self._shared.at(), seen))

    async def _ask(self, name: str, measure: Measure) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                value = measure()
                return await value if isawaitable(value) else value
        except Exception:
            logger.exception("the measure of %r failed: it is taken for exceeded", name)
            return None


def _seen(reading: Reading) -> dict[str, Any]:
    facts = reading.facts()
    seen = {"limit_type": key_of(reading.limit.name)}
    return seen | {what: facts[what] for what in ("current", "limit")}
