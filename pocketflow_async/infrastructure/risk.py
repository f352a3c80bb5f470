"""Risk limits: which way each counts, how far it is used up, and when it is exceeded. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from pocketflow_async.infrastructure.emergency_states import EmergencyError, plain, short

Direction: TypeAlias = Literal["floor", "ceiling", "abs"]
"""floor: nothing below the limit. ceiling: nothing above it. abs: nothing further from zero."""
Level: TypeAlias = Literal["ok", "alert", "breach"]

_SIGNED: Final = ("loss", "losses", "pnl", "pnls", "profit", "profits")  # also as in stoploss
_EITHER_WAY: Final = frozenset({"position", "exposure", "drawdown", "leverage"})
_PNL: Final = re.compile("pnl|p&l", re.IGNORECASE)
_WORD: Final = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NAN: Final = Decimal("NaN")


class RiskLimitExceeded(EmergencyError):
    """Raised when a value is beyond its limit, or is no number at all.

    Attributes:
        limit_type: Name of the limit.
        current: The value.
        limit: The limit.
    """

    def __init__(self, limit_type: str, current: Any, limit: float) -> None:
        super().__init__(
            f"Risk limit exceeded: {limit_type} is {plain(current)}, and its limit is {limit}"
        )
        self.limit_type = limit_type
        self.current = current
        self.limit = limit


class UnknownRiskLimit(EmergencyError, LookupError):
    """Raised when a value is to be checked for which there is no limit."""

    def __init__(self, name: str, known: Mapping[str, object]) -> None:
        there = ", ".join(sorted(known)) or "none"
        super().__init__(f"there is no risk limit {name!r}; give it a value. Limits: {there}")


class NoNumber(ValueError):
    """Raised when a limit is no finite number, so that nothing can be compared with it."""

    def __init__(self, name: str, value: object) -> None:
        said = repr(value)[:80] if isinstance(value, str) else short(value)
        super().__init__(f"the limit {name!r} is {said}: it must be a number, and finite")


@dataclass(frozen=True, slots=True)
class RiskLimit:
    """One limit.

    Losses and profits are signed: a loss of 500 is -500, and so is its limit.

    Args:
        name: Its name, which also says which way it counts unless *direction* does. With a word
            loss, pnl or profit in it anywhere, and as `min_…`, it is a floor; with position,
            exposure, drawdown or leverage it counts either way; all else are ceilings.
        value: The limit.
        direction: Which way it counts; None: by the name.

    Raises:
        ValueError: The limit is no finite number (`NoNumber`), or its sign does not fit the name,
            or an "abs" is below zero.
    """

    name: str
    value: float
    direction: Direction | None = None

    def __post_init__(self) -> None:
        limit = _finite(self.name, self.value)
        if self.direction is None:
            object.__setattr__(self, "direction", _by_name(self.name, limit))
        if self.direction not in get_args(Direction):
            raise ValueError(f"direction {self.direction!r}: say floor, ceiling or abs")
        if self.direction == "abs" and limit < 0:
            raise ValueError(f"the limit {self.name!r} counts either way: it cannot be below zero")

    def read(self, current: object, alert_at: float = 0.8) -> Reading:
        """Return what *current* means; what is no finite number is beyond every limit."""
        value, limit = exact(current), exact(self.value)
        if not value.is_finite():
            return Reading(self, current, 1.0, "breach")
        if self.direction == "abs":
            value = value.copy_abs()
        beyond = value < limit if self.direction == "floor" else value > limit
        used = _used(float(value), float(limit), floor=self.direction == "floor")
        if beyond:
            return Reading(self, current, max(used, 1.0), "breach")
        return Reading(self, current, used, "alert" if used >= alert_at else "ok")


@dataclass(frozen=True, slots=True)
class Reading:
    """A value beside its limit.

    Attributes:
        limit: The limit.
        current: The value as it was given.
        utilization: How much of the limit is used, 1.0 being all; 0.0 for a profit under a loss
            limit; 1.0 at least when it is exceeded.
        level: What follows from it.
    """

    limit: RiskLimit
    current: object
    utilization: float
    level: Level

    def facts(self) -> dict[str, Any]:
        """Return it as JSON."""
        number = exact(self.current)
        return {
            "current": plain(float(number) if number.is_finite() else self.current),
            "limit": float(self.limit.value),
            "utilization": self.utilization,
            "direction": self.limit.direction,
            "level": self.level,
        }


class RiskLimits(Mapping[str, RiskLimit]):
    """The limits that are known by name. `max_position_size` and `position_size_limit` are one.

    Args:
        limits: Numbers or `RiskLimit`s by name.
        alert_at: From which part of a limit on there is an alert.
        on_breach: Whether all that changes positions is halted, or exits go on ("reduce").

    Raises:
        ValueError: A limit is wrong; see `RiskLimit`.
    """

    def __init__(
        self,
        limits: Mapping[str, float | RiskLimit] = MappingProxyType({}),
        *,
        alert_at: float = 0.8,
        on_breach: Literal["halt", "reduce"] = "halt",
    ) -> None:
        if not 0 < alert_at <= 1:
            raise ValueError(f"alert_at is {alert_at!r}: it must be above 0 and at most 1")
        if on_breach not in ("halt", "reduce"):
            raise ValueError(f"on_breach is {on_breach!r}: say halt or reduce")
        self.alert_at = alert_at
        self.on_breach = on_breach
        self._limits = {
            key_of(name): limit if isinstance(limit, RiskLimit) else RiskLimit(name, limit)
            for name, limit in limits.items()
        }

    def __getitem__(self, name: str) -> RiskLimit:
        return self._limits[key_of(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def __repr__(self) -> str:
        said = ", ".join(f"{name}: {limit.value}" for name, limit in self._limits.items())
        return f"<RiskLimits {said or 'none'}>"

    def limit(self, name: str, value: float | None, direction: Direction | None) -> RiskLimit:
        """Return the limit of this name, or the one that *value* and *direction* make.

        Raises:
            UnknownRiskLimit: There is neither.
            ValueError: What is given makes no limit.
        """
        known = self.get(name)
        if known is None:
            if value is None:
                raise UnknownRiskLimit(name, self)
            return RiskLimit(name, value, direction)
        value = known.value if value is None else value
        if direction is None and (_finite(name, value) < 0) == (exact(known.value) < 0):
            direction = known.direction  # else it is a mistake, or the name says what is meant
        return RiskLimit(name, value, direction)


def key_of(name: str) -> str:
    """Return what a limit is known by: `max_position_size` and `position_size_limit` are one."""
    return name.strip().lower().removeprefix("max_").removesuffix("_limit")


def exact(value: object) -> Decimal:
    """Return *value* as a number, without rounding; NaN for what is none."""
    try:
        if isinstance(value, bool | str | bytes):
            return _NAN
        if isinstance(value, Decimal):
            return value if value.is_finite() else _NAN
        if not isinstance(value, int):
            value = float(value)  # type: ignore[arg-type] # that of other libraries too
        return Decimal(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return _NAN


def _finite(name: str, value: object) -> Decimal:
    limit = exact(value)
    if not limit.is_finite() or not math.isfinite(limit):
        raise NoNumber(name, value)
    return limit


def _words(name: str) -> list[str]:
    """Return the words of a name in small letters, however they are put together."""
    return [word.lower() for word in _WORD.findall(_PNL.sub("_pnl_", name))]


def _by_name(name: str, limit: Decimal) -> Direction:
    words = _words(name)
    if any(word.endswith(_SIGNED) for word in words):
        if limit > 0:
            raise ValueError(
                f"the limit {name!r} is {limit}, which is ambiguous: a loss is below zero, so say "
                f"-{limit}, or direction='floor' or 'ceiling' if {limit} is what you mean"
            )
        return "floor"
    if _EITHER_WAY.intersection(word.removesuffix("s") for word in words):
        return "abs"
    if words[:1] == ["min"]:
        return "floor"
    if limit < 0:
        raise ValueError(f"the limit {name!r} is {limit}: say direction='floor' or 'ceiling'")
    return "ceiling"


def _used(value: float, limit: float, *, floor: bool) -> float:
    """Return which part of *limit* is used up: the way from 0 to it, or what is left of it."""
    if floor:
        value, limit = -value, -limit
    if limit > 0:
        part = value / limit if value > 0 else 0.0
    elif limit == 0 or value >= 0:
        part = 1.0 if value > limit else 0.0
    else:
        part = limit / value
    return part if math.isfinite(part) else 1.0
