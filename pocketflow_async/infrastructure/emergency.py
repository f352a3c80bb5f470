"""The emergency control: stops trading in all processes at once, and stays stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from pocketflow_async.infrastructure.emergency_gate import EmergencyGate
from pocketflow_async.infrastructure.emergency_limits import LimitChecks, Measure
from pocketflow_async.infrastructure.emergency_listeners import Done, Listener
from pocketflow_async.infrastructure.emergency_shared import Bus, SharedState
from pocketflow_async.infrastructure.emergency_states import (
    EmergencyError,
    EmergencyEvent,
    EmergencyHalted,
    EmergencyState,
    RiskEffect,
    checked_effect,
    lowering,
    plain,
    raising,
    record_of,
    restoring,
    short,
    state_of,
)
from pocketflow_async.infrastructure.emergency_view import EmergencyView
from pocketflow_async.infrastructure.risk import (
    Direction,
    RiskLimit,
    RiskLimitExceeded,
    RiskLimits,
    UnknownRiskLimit,
)
from pocketflow_async.infrastructure.store.model import EmergencyRow, Store

__all__ = [
    "EmergencyController",
    "EmergencyError",
    "EmergencyEvent",
    "EmergencyGate",
    "EmergencyHalted",
    "EmergencyState",
    "RiskLimit",
    "RiskLimitExceeded",
    "RiskLimits",
    "UnknownRiskLimit",
]


class EmergencyController(EmergencyView):
    """Decides what may be done, for all processes that share a store.

    The state only becomes worse, but by `resume` and `reset`. A change is stored before the method
    that makes it returns. One that cannot be stored, or is cancelled meanwhile, holds in this
    process all the same, and is stored as soon as that is possible. `admit` and the `assert_…`
    methods read what all processes share; the properties, `can_…` and `get_status` say what this
    process has last seen.

    Listeners are called in tasks of their own, each with a limit of time: none of them holds up a
    change. While there are any, changes made by other processes are looked for too. A controller
    belongs to one event loop.

    Args:
        controller_id: Which of the store's controllers it is.
        store: Where the state is.
        bus: Where changes are published, on the channel `workflow_events`.
        limits: Risk limits by name.
        auto_halt: Whether an exceeded limit halts, if `check_risk_limit` is not told.
        clock: Returns seconds since the epoch; None: that of the system.
        listener_seconds: How long a listener or a measure may take.
        poll_seconds: Time between two looks for changes by other processes.
    """

    def __init__(
        self,
        controller_id: str = "default",
        *,
        store: Store,
        bus: Bus | None = None,
        limits: RiskLimits | Mapping[str, float | RiskLimit] | None = None,
        auto_halt: bool = True,
        clock: Callable[[], float] | None = None,
        listener_seconds: float = 5.0,
        poll_seconds: float = 0.5,
    ) -> None:
        known = limits if isinstance(limits, RiskLimits) else RiskLimits(limits or {})
        now = clock or time.time
        shared = SharedState(controller_id, store, bus, now, listener_seconds, poll_seconds)
        super().__init__(controller_id, shared, known)
        self.auto_halt = auto_halt
        self._store = store
        self._key = f"emergency_controller:{controller_id}"
        self._checks = LimitChecks(known, shared, listener_seconds)

    async def __aenter__(self) -> EmergencyController:
        """Read the state.

        Raises:
            StoreError: It cannot be read.
        """
        await self.refresh()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Store what is not stored yet, and end what listeners still do; the store stays open."""
        await self._shared.close()

    # --- what all processes know ------------------------------------------------------------------

    async def refresh(self) -> EmergencyState:
        """Read the state, store what is not stored yet, and return it.

        Raises:
            StoreError: The store cannot be used.
        """
        await self._shared.refresh()
        return self.state

    async def assert_can_trade(self) -> None:
        """Raise unless the risk may be increased.

        Raises:
            EmergencyHalted: It may not.
            StoreError: The state cannot be read.
        """
        await self._shared.ask(EmergencyState.can_trade)

    async def assert_can_run(self) -> None:
        """Raise unless a run may begin; under REDUCING it may, to leave positions.

        Raises:
            EmergencyHalted: It may not.
            StoreError: The state cannot be read.
        """
        await self._shared.ask(EmergencyState.can_run)

    async def assert_can_operate(self) -> None:
        """Raise unless anything may be done.

        Raises:
            EmergencyHalted: It is shut down.
            StoreError: The state cannot be read.
        """
        await self._shared.ask(EmergencyState.can_operate)

    async def admit(self, risk_effect: RiskEffect = "increase") -> None:
        """Raise unless a step of this effect on the risk may be done.

        Before the risk is increased, the limits that are measured are checked too. What has no
        effect on the risk is let through when the store cannot be read.

        Raises:
            EmergencyHalted: It may not.
            RiskLimitExceeded: A limit that is measured is exceeded.
            StoreError: The state cannot be read, and the step has an effect.
            ValueError: There is no such effect.
        """
        effect = checked_effect(risk_effect)
        await self._shared.ask(lambda state: state.lets(effect), lenient=effect == "none")
        if effect == "increase" and self._checks.measures:
            await self._checks.check_measured(acts=self.auto_halt)
            await self._shared.ask(EmergencyState.can_trade)  # that may have taken a while

    def gate(
        self,
        effects: Mapping[str, RiskEffect] | None = None,
        default: RiskEffect = "increase",
        *,
        cached: bool = False,
    ) -> EmergencyGate:
        """Return a gate for `hooks.guarding`, which asks before each flow, node and attempt.

        Args:
            effects: Effects by the names of nodes, before their own `risk_effect`.
            default: Of nodes that say nothing.
            cached: Answer from what this process knows, as synchronous flows need; see `watch`.
        """
        return EmergencyGate(self, effects, default, cached=cached)

    # --- changes ----------------------------------------------------------------------------------

    async def halt(self, reason: str, **metadata: Any) -> None:
        """Stop all that changes positions.

        It is stored when this returns. In this process it holds from the call on, also if the call
        is cancelled or the store fails.

        Args:
            reason: Why; a further one is kept beside the first.
            **metadata: Facts; what is no JSON becomes text.

        Raises:
            StoreError: It could not be stored; this process is halted, and stores it when it can.
        """
        await self._raise_to(EmergencyState.HALT, reason, metadata)

    async def alert(self, reason: str, **metadata: Any) -> None:
        """Say that somebody should look; a worse state stays. See `halt`."""
        await self._raise_to(EmergencyState.ALERT, reason, metadata)

    async def reduce(self, reason: str, **metadata: Any) -> None:
        """Let only exits through, and what has no effect; a worse state stays. See `halt`."""
        await self._raise_to(EmergencyState.REDUCING, reason, metadata)

    async def shutdown(self, reason: str, **metadata: Any) -> None:
        """Stop everything, until `reset`. See `halt`."""
        await self._raise_to(EmergencyState.SHUTDOWN, reason, metadata)

    async def set_state(self, state: EmergencyState | str, reason: str, **metadata: Any) -> None:
        """Raise the state to *state*; NORMAL: resume."""
        state = EmergencyState(state)
        if state is EmergencyState.NORMAL:
            await self.resume(reason, **metadata)
        else:
            await self._raise_to(state, reason, metadata)

    async def _raise_to(
        self, state: EmergencyState, reason: str, metadata: Mapping[str, Any]
    ) -> None:
        facts = plain(metadata)
        await self._shared.obey(raising(state, short(reason), self._shared.at(), facts))

    async def resume(
        self,
        reason: str = "Manual resume",
        *,
        reducing: bool = False,
        if_version: int | None = None,
        **metadata: Any,
    ) -> None:
        """Go back to NORMAL; stored when this returns.

        Args:
            reason: Why.
            reducing: Go from HALT to REDUCING only, so that positions can be left.
            if_version: Only if the state is still that version, which somebody has looked at.
            **metadata: Facts; what is no JSON becomes text.

        Raises:
            EmergencyHalted: It is shut down, which only `reset` ends; or it has changed since.
            StoreError: It could not be stored; whether it was may not be known.
        """
        down = lowering(short(reason), self._shared.at(), plain(metadata), reducing=reducing)
        refused: list[EmergencyHalted] = []

        def change(row: EmergencyRow) -> EmergencyRow | None:
            refused.clear()  # this may be called again
            changed = if_version not in (None, row.version)
            if not changed and state_of(row).can_operate():
                return down(row)
            error = EmergencyHalted(state_of(row), row.reason)
            error.add_note("It has changed since." if changed else "Only reset() ends a shutdown.")
            refused.append(error)
            return None

        await self._shared.change(change)
        if refused:
            raise refused[0]

    async def reset(
        self, *, operator: str, reason: str = "Operator reset", **metadata: Any
    ) -> None:
        """Go back to NORMAL from whatever state, also from a shutdown; stored when this returns.

        The state, its reasons and facts are reset; what is known of risk limits stays.

        Args:
            operator: Who is responsible; kept.
            reason: Why.
            **metadata: Facts; what is no JSON becomes text.

        Raises:
            ValueError: There is no operator.
            StoreError: It could not be stored; whether it was may not be known.
        """
        if not operator.strip():
            raise ValueError("reset needs an operator: the name of who is responsible for it")
        facts = plain({**metadata, "operator": operator})
        await self._shared.change(lowering(short(reason), self._shared.at(), facts))

    # --- risk limits ------------------------------------------------------------------------------

    async def check_risk_limit(
        self,
        limit_type: str,
        current_value: Any,
        limit_value: float | None = None,
        auto_halt: bool | None = None,
        *,
        direction: Direction | None = None,
    ) -> None:
        """Raise if a value is beyond its limit; raise an alert when it comes near.

        Args:
            limit_type: Name of the limit.
            current_value: The value, losses being below zero; what is no finite number is beyond
                every limit.
            limit_value: The limit; None: that of this name among `limits`.
            auto_halt: Whether to halt (or to reduce, if the limits say so) before this raises;
                None: as the controller was told.
            direction: Which way it counts; None: as the known limit, or by the name.

        Raises:
            RiskLimitExceeded: It is beyond. Its cause is the StoreError, if the halt could not be
                stored; this process is halted all the same.
            UnknownRiskLimit: There is no such limit.
            ValueError: The limit is wrong; see `RiskLimit`. One that is no finite number is taken
                for exceeded: it halts before this raises.
        """
        acts = self.auto_halt if auto_halt is None else auto_halt
        await self._checks.check(limit_type, current_value, limit_value, direction, acts=acts)

    def measure(self, limit_type: str, source: Measure) -> None:
        """Let `admit` check a limit by itself before each step that increases the risk.

        Args:
            limit_type: Name of one of `limits`.
            source: Returns the current value, or an awaitable of it. If it raises, or takes longer
                than a listener may, the limit is taken for exceeded.

        Raises:
            UnknownRiskLimit: There is no such limit.
        """
        self.limits.limit(limit_type, None, None)
        self._checks.measures[limit_type] = source

    # --- listeners and copies ---------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> Done:
        """Tell *listener* of each change by any process, from now on; need not be awaited.

        It is called in the context of who subscribes. If the state is not normal, it is told so as
        soon as that is read.
        """
        self._shared.subscribe(listener)
        return Done()

    def unsubscribe(self, listener: Listener) -> Done:
        """Tell *listener* no more; need not be awaited."""
        self._shared.unsubscribe(listener)
        return Done()

    async def watch(self) -> None:
        """Look for changes by other processes until this is closed, also without a listener.

        Raises:
            StoreError: The state cannot be read.
        """
        self._shared.subscribe(_watching)
        await self.refresh()

    async def flush(self, timeout: float | None = None) -> bool:
        """Wait until all listeners have been told; return whether they have, in *timeout* s."""
        return await self._shared.listeners.flush(timeout)

    async def persist_state(self, store: Any = None) -> None:
        """Write a copy of the state under `emergency_controller:{id}`, for others to read.

        Args:
            store: A Store, or what has `set(key, value)`; None: the controller's own.
        """
        target = self._store if store is None else store
        record = record_of(self._shared.known(), self._shared.limits)
        if hasattr(target, "set"):
            await target.set(self._key, record)
        else:
            await target.put(self._key, json.dumps(record).encode())

    async def restore_state(self, store: Any = None) -> bool:
        """Raise the state to that of a copy, if it is newer; return whether there is a copy.

        Args:
            store: A Store, or what has `get(key)`; None: the controller's own.

        Raises:
            ValueError: The copy cannot be read.
            StoreError: A store cannot be used.
        """
        source = self._store if store is None else store
        record = await source.get(self._key)
        await self.refresh()
        if record is not None:
            await self._shared.obey(restoring(record))
        return record is not None


async def _watching(event: EmergencyEvent) -> None:
    """Stand for a listener where only the looking is wanted."""
