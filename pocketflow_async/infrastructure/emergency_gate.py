"""The emergency control as a gate of the engine: plain flows and workflows can be halted too."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from pocketflow_async.hooks import Step
from pocketflow_async.infrastructure.emergency_states import RiskEffect, checked_effect


class Admitting(Protocol):
    """What the gate asks."""

    async def admit(self, risk_effect: RiskEffect = "increase") -> None:
        """Raise unless a step of this effect may be done, as all processes know."""

    def admit_now(self, risk_effect: RiskEffect = "increase") -> None:
        """Raise unless a step of this effect may be done, as this process knows."""


class EmergencyGate:
    """Asks before each flow, node and attempt.

    A node's effect is its attribute `risk_effect`; what says nothing is taken to increase the risk.
    Flows and nodes that hold others have none of their own: what is in them is asked about.

    Args:
        controller: Whom to ask.
        effects: Effects by the names of nodes, before what these say themselves.
        default: Of nodes that say nothing.
        cached: Whether to answer from what this process knows, without a wait; synchronous flows
            need that.

    Raises:
        ValueError: An effect is none.
    """

    or_else = ", or `gate(cached=True)`"
    """What a synchronous flow may do besides, for the error that it gets."""

    def __init__(
        self,
        controller: Admitting,
        effects: Mapping[str, RiskEffect] | None = None,
        default: RiskEffect = "increase",
        *,
        cached: bool = False,
    ) -> None:
        self._controller = controller
        self._effects = {name: checked_effect(one) for name, one in (effects or {}).items()}
        self._default = checked_effect(default)
        self._cached = cached

    def __repr__(self) -> str:
        return f"<EmergencyGate of {self._controller!r}>"

    def __call__(self, step: Step) -> Awaitable[None] | None:
        """Raise unless *step* may be done, or return what does that when it is awaited.

        Raises:
            EmergencyHalted: It may not.
            RiskLimitExceeded: A limit that is measured is exceeded.
            StoreError: The state cannot be read, and the step has an effect on the risk.
            ValueError: Its effect is none.
        """
        effect = self.effect_of(step)
        if self._cached:
            self._controller.admit_now(effect)
            return None
        return self._controller.admit(effect)

    def effect_of(self, step: Step) -> RiskEffect:
        """Return the effect that *step* has.

        Raises:
            ValueError: What it says is none.
        """
        said: Any = self._effects.get(step.name) or getattr(step.source, "risk_effect", None)
        if said is not None:
            try:
                return checked_effect(said)
            except ValueError as error:
                error.add_note(f"It is the risk_effect of {step.name}.")
                raise
        holds = getattr(step.source, "_pf_holds", False)
        return "none" if holds or step.kind in ("flow", "workflow") else self._default
