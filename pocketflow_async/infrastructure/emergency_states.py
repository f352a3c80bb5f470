"""The states of an emergency, how one leads to another, and what each lets through. Pure.

EmergencyError
└── EmergencyHalted     the state forbids what was to be done
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias, get_args

from pocketflow_async.infrastructure.store.model import EmergencyChange, EmergencyRow

RiskEffect: TypeAlias = Literal["increase", "reduce", "none"]
"""What a step does to the risk: an entry increases it, an exit reduces it; reading, deciding,
telling somebody and cancelling an order do neither."""

_EFFECTS: Final = frozenset(get_args(RiskEffect))
_FURTHER: Final = "further_reasons"
_RESUMED: Final = "resumed"
_MOST: Final = 20  # further reasons that are kept
_LONGEST: Final = 2000  # characters of a reason, or of one fact


class EmergencyState(StrEnum):
    """How bad it is, from the least to the worst.

    Attributes:
        NORMAL: All is well.
        ALERT: Somebody should look; everything goes on.
        REDUCING: Nothing that increases the risk.
        HALT: Nothing that changes a position; what is without effect on the risk goes on.
        SHUTDOWN: Nothing at all, until an operator resets it.
    """

    NORMAL = "normal"
    ALERT = "alert"
    REDUCING = "reducing"
    HALT = "halt"
    SHUTDOWN = "shutdown"

    @property
    def severity(self) -> int:
        """Return its place on the ladder, 0 for NORMAL."""
        return _LADDER[self]

    def can_trade(self) -> bool:
        """Return whether the risk may be increased."""
        return self.severity <= _LADDER[EmergencyState.ALERT]

    def can_run(self) -> bool:
        """Return whether a run may begin."""
        return self.severity <= _LADDER[EmergencyState.REDUCING]

    def can_operate(self) -> bool:
        """Return whether anything may be done."""
        return self is not EmergencyState.SHUTDOWN

    def lets(self, effect: RiskEffect) -> bool:
        """Return whether a step of this effect may be done."""
        if effect == "increase":
            return self.can_trade()
        return self.can_run() if effect == "reduce" else self.can_operate()


_LADDER: Final = {state: place for place, state in enumerate(EmergencyState)}


class EmergencyError(Exception):
    """Base of what the emergency control raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message, since each class makes its own of other arguments."""
        return (_again, (type(self), self.args), self.__dict__)


def _again(cls: type[EmergencyError], args: tuple[Any, ...]) -> EmergencyError:
    error = cls.__new__(cls)
    error.args = args
    return error


class EmergencyHalted(EmergencyError):
    """Raised instead of doing what the state forbids."""

    def __init__(self, state: EmergencyState, reason: str | None) -> None:
        super().__init__(f"Emergency controller is in {state} state. Reason: {reason}")
        self.state = state
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EmergencyEvent:
    """A change of the state, or another reason for the same one.

    Attributes:
        controller_id: Whose state it is.
        previous_state: What this process knew before.
        new_state: What it is now; the same as before if there is only one more reason.
        reason: Why.
        timestamp: When it was changed, by whichever process.
        metadata: Facts given with the change.
    """

    controller_id: str
    previous_state: EmergencyState
    new_state: EmergencyState
    reason: str | None
    timestamp: datetime | None
    metadata: Mapping[str, Any]


def checked_effect(effect: str) -> RiskEffect:
    """Return *effect*.

    Raises:
        ValueError: There is no such effect.
    """
    if effect not in _EFFECTS:
        raise ValueError(f"{effect!r} is no effect on the risk: say increase, reduce or none")
    return effect  # type: ignore[return-value]


def state_of(row: EmergencyRow) -> EmergencyState:
    """Return the state of a row; HALT for one that only a later version knows."""
    try:
        state = EmergencyState(row.state)
    except ValueError:
        return EmergencyState.HALT
    # The flag alone counts too, below a halt.
    return EmergencyState.REDUCING if row.reducing and state.can_run() else state


def raising(
    to: EmergencyState, reason: str, at: str, metadata: Mapping[str, Any]
) -> EmergencyChange:
    """Return the change to a state that is at least as severe as *to*.

    The first reason stays; others for the same state are kept with it.
    """
    facts = {name: one for name, one in metadata.items() if name not in (_FURTHER, _RESUMED)}

    def change(row: EmergencyRow) -> EmergencyRow | None:
        now = state_of(row)
        if to.severity < now.severity or to is EmergencyState.NORMAL:
            return None
        if to is not now:
            return replace(
                row,
                state=str(to),
                reason=reason,
                at=at,
                reducing=to is EmergencyState.REDUCING,
                metadata=facts,
            )
        further = _further(row)
        if reason == row.reason or any(one["reason"] == reason for one in further):
            return None
        known = [*further, {**facts, "reason": reason, "at": at}]
        return replace(row, metadata={**row.metadata, _FURTHER: known[-_MOST:]})

    return change


def lowering(
    reason: str, at: str, metadata: Mapping[str, Any], *, reducing: bool = False
) -> EmergencyChange:
    """Return the change to NORMAL; or, with *reducing*, from HALT to REDUCING."""

    def change(row: EmergencyRow) -> EmergencyRow | None:
        goal = EmergencyState.REDUCING if reducing else EmergencyState.NORMAL
        if state_of(row).severity <= goal.severity:
            return None
        return replace(
            row,
            state=str(goal),
            reason=reason if reducing else None,
            at=at,
            reducing=reducing,
            metadata={_RESUMED: {**metadata, "reason": reason, "from": row.state}},
        )

    return change


def event_between(
    controller_id: str, before: EmergencyRow, after: EmergencyRow
) -> EmergencyEvent | None:
    """Return what is to be told of the way from one row to another; None: nothing."""
    old, new = state_of(before), state_of(after)
    metadata, at, reason = after.metadata, after.at, after.reason
    if old is new:
        news = [one for one in _further(after) if one not in _further(before)]
        if new is EmergencyState.NORMAL or (before.reason == after.reason and not news):
            return None
        if before.reason == after.reason:
            metadata, at, reason = news[-1], news[-1]["at"], news[-1]["reason"]
    elif new is EmergencyState.NORMAL:
        metadata = after.metadata.get(_RESUMED, {})
        reason = metadata.get("reason")
    moment = datetime.fromisoformat(at) if at else None
    return EmergencyEvent(controller_id, old, new, reason, moment, metadata)


def plain(value: Any, depth: int = 3) -> Any:
    """Return *value* as finite JSON, whatever it is: no fact may stand in the way of a halt."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if abs(value) < 1 << 63 else short(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(value)
        if depth and isinstance(value, Mapping):
            return {short(key): plain(one, depth - 1) for key, one in [*value.items()][:_MOST]}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [plain(one, depth - 1) for one in [*value][:_MOST]]
    except Exception:  # noqa: BLE001 (its class has an error of its own)
        return short(value)
    return short(value)


def short(value: object) -> str:
    """Return the beginning of *value* as a text, with U+FFFD for what no store can hold."""
    try:
        text = str(value)[:_LONGEST]
    except Exception:  # noqa: BLE001 (its class has an error of its own)
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def record_of(row: EmergencyRow, limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return *row* as it is kept under the controller's key, with later readings of limits."""
    return {
        "state": str(state_of(row)),
        "halt_reason": row.reason,
        "halt_timestamp": row.at if row.reason is not None else None,
        "metadata": dict(row.metadata),
        "risk_limits": {**row.limits, **limits},
        "version": row.version,
    }


def restoring(stored: object) -> EmergencyChange:
    """Return the change that raises the state to that of a record, if the record is newer.

    Raises:
        ValueError: It is no record.
    """
    try:
        record: Any = json.loads(stored) if isinstance(stored, str | bytes) else stored
        state = EmergencyState(record["state"])
        reason = record.get("halt_reason") or "restored"
        at = record.get("halt_timestamp")
        version = int(record.get("version", 1))
        metadata = plain(record.get("metadata") or {})
        if at is not None:
            datetime.fromisoformat(at)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the stored emergency state cannot be read: {error}") from error
    change = raising(state, short(reason), at, metadata)
    # An old copy must not undo a resume() that came after it.
    return lambda row: change(row) if version > row.version else None


def _further(row: EmergencyRow) -> list[dict[str, Any]]:
    found = row.metadata.get(_FURTHER)
    return found if isinstance(found, list) else []
