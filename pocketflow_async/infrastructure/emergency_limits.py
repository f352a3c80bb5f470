"""Risk limits that act: an exceeded one halts all processes, a nearly exceeded one alerts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeAlias

from pocketflow_async.infrastructure.emergency_shared import SharedState
from pocketflow_async.infrastructure.emergency_states import EmergencyState, raising, state_of
from pocketflow_async.infrastructure.risk import (
    Direction,
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
        limit = self.limits.limit(name, given, direction)
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

    async def _stop(self, name: str, reading: Reading, exceeded: RiskLimitExceeded) -> None:
        exits = self.limits.on_breach == "reduce"
        state = EmergencyState.REDUCING if exits else EmergencyState.HALT
        try:
            await self._raise_to(state, f"Risk limit exceeded: {name}", reading)
        except Exception as error:
            raise exceeded from error

    async def _note(self, name: str, reading: Reading) -> None:
        """Tell of a limit that is nearly used up, or that is so no more."""
        part = f"{self.limits.alert_at:.0%}"
        try:
            if reading.level == "alert":
                await self._raise_to(
                    EmergencyState.ALERT, f"Risk limit above {part}: {name}", reading
                )
            else:
                await self._shared.change(lambda row: row)
        except Exception as error:  # noqa: BLE001 (nothing is beyond its limit)
            logger.warning("the risk limit %r could not be noted: %s", name, error)

    async def _raise_to(self, state: EmergencyState, reason: str, reading: Reading) -> None:
        facts = reading.facts()
        seen = {"limit_type": key_of(reading.limit.name)}
        seen |= {what: facts[what] for what in ("current", "limit")}
        await self._shared.obey(raising(state, reason, self._shared.at(), seen))

    async def _ask(self, name: str, measure: Measure) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                value = measure()
                return await value if isawaitable(value) else value
        except Exception:
            logger.exception("the measure of %r failed: it is taken for exceeded", name)
            return None
