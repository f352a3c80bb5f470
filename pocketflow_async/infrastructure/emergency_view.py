"""What one process knows of the emergency state, without asking anybody."""

from __future__ import annotations

from typing import Any

from pocketflow_async.infrastructure.emergency_shared import SharedState
from pocketflow_async.infrastructure.emergency_states import (
    EmergencyState,
    RiskEffect,
    checked_effect,
    state_of,
)
from pocketflow_async.infrastructure.risk import RiskLimits


class EmergencyView:
    """What this process has last seen.

    Args:
        controller_id: Which controller it is.
        shared: Its state.
        limits: Risk limits by name.
    """

    def __init__(self, controller_id: str, shared: SharedState, limits: RiskLimits) -> None:
        self.controller_id = controller_id
        self.limits = limits
        self._shared = shared

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.controller_id}: {self.state}>"

    @property
    def state(self) -> EmergencyState:
        """Return the state as this process knows it."""
        return state_of(self._shared.known())

    @property
    def reason(self) -> str | None:
        """Return why it is not normal; None: it is."""
        return self._shared.known().reason

    @property
    def is_normal(self) -> bool:
        """Return whether all is well."""
        return self.state is EmergencyState.NORMAL

    @property
    def is_alert(self) -> bool:
        """Return whether somebody should look."""
        return self.state is EmergencyState.ALERT

    @property
    def is_reducing(self) -> bool:
        """Return whether only exits may be traded."""
        return self.state is EmergencyState.REDUCING

    @property
    def is_halted(self) -> bool:
        """Return whether trading is halted."""
        return self.state is EmergencyState.HALT

    @property
    def is_shutdown(self) -> bool:
        """Return whether nothing may be done."""
        return self.state is EmergencyState.SHUTDOWN

    def can_trade(self) -> bool:
        """Return whether the risk may be increased."""
        return self.state.can_trade()

    def can_operate(self) -> bool:
        """Return whether anything may be done."""
        return self.state.can_operate()

    def admit_now(self, risk_effect: RiskEffect = "increase") -> None:
        """Raise unless a step of this effect may be done, as this process knows. See `watch`.

        Raises:
            EmergencyHalted: It may not.
        """
        effect = checked_effect(risk_effect)
        self._shared.refuse(lambda state: state.lets(effect))

    def get_status(self) -> dict[str, Any]:
        """Return all that this process knows, as JSON; `refresh` asks the store before."""
        row, state = self._shared.known(), self.state
        unread = {
            name: {"current": None, "limit": float(limit.value), "utilization": 0.0}
            for name, limit in self.limits.items()
        }
        return {
            "controller_id": self.controller_id,
            "state": str(state),
            "can_trade": state.can_trade(),
            "can_operate": state.can_operate(),
            "reducing": state is EmergencyState.REDUCING,
            "halt_reason": row.reason,
            "halt_timestamp": row.at if state is not EmergencyState.NORMAL else None,
            "risk_limits": {**unread, **row.limits, **self._shared.limits},
            "metadata": dict(row.metadata),
            "handlers_count": len(self._shared.listeners),
            "stored": self._shared.is_stored,
            "version": row.version,
        }
