"""When a node that failed is tried again: data and two pure decisions, no sleeping."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias, overload

ErrorName: TypeAlias = type[BaseException] | str
_Errors: TypeAlias = Iterable[ErrorName] | ErrorName | None

_SAME: Final = {
    "max_retries": "max_attempts",
    "base_delay": "initial_delay",
    "retry_on": "retry_exceptions",
}
"""The other word for an argument."""

_PLAIN_ORDER: Final = (
    "max_attempts", "initial_delay", "backoff_factor", "max_delay", "retry_exceptions",
)  # fmt: skip
_STRATEGY_ORDER: Final = ("max_retries", "strategy", "base_delay", "max_delay", "retry_on")
_DEFAULTS: Final[Mapping[str, Any]] = {
    "max_attempts": 3,
    "initial_delay": 1.0,
    "backoff_factor": 2.0,
    "max_delay": 60.0,
    "retry_exceptions": None,
    "strategy": "exponential",
}


class RetryStrategy(StrEnum):
    """How the delays grow from one attempt to the next."""

    IMMEDIATE = "immediate"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


class RetryPolicy:
    """When a failed node is tried again, and how long after.

    There are two words for most arguments, which mean the same, and two orders: a strategy in
    second place makes it `(max_retries, strategy, base_delay, max_delay, retry_on)`.

    Args:
        max_attempts: Most attempts in all, the first included (also `max_retries`).
        initial_delay: Seconds after the first failed attempt (also `base_delay`).
        backoff_factor: What the delay is multiplied by from one attempt to the next.
        max_delay: Most seconds of any delay.
        retry_exceptions: Errors worth another attempt, as classes or by name: `"TimeoutError"`, or
            dotted, `"aiohttp.ClientError"`, which imports nothing (also `retry_on`). None: all;
            an empty list: none.
        strategy: How the delays grow: `exponential`, `linear`, `fibonacci` or `immediate`.

    Raises:
        TypeError: An argument is of a wrong type, unknown, or given twice.
        ValueError: A value is out of its range.
    """

    __slots__ = (
        "_keys",
        "backoff_factor",
        "initial_delay",
        "max_attempts",
        "max_delay",
        "retry_exceptions",
        "strategy",
    )

    max_attempts: int
    initial_delay: float
    backoff_factor: float
    max_delay: float
    retry_exceptions: tuple[ErrorName, ...] | None
    strategy: RetryStrategy
    _keys: tuple[str, ...]

    @overload
    def __init__(
        self,
        max_attempts: int = 3,
        initial_delay: float = 1.0,
        backoff_factor: float = 2.0,
        max_delay: float = 60.0,
        retry_exceptions: _Errors = None,
        *,
        strategy: RetryStrategy | str = "exponential",
    ) -> None: ...

    @overload
    def __init__(
        self,
        max_retries: int = 3,
        strategy: RetryStrategy | str = "exponential",
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        retry_on: _Errors = None,
        *,
        backoff_factor: float = 2.0,
    ) -> None: ...

    def __init__(self, *args: Any, **keywords: Any) -> None:
        given = _named(args, keywords)
        values = dict(_DEFAULTS)
        for key, value in given.items():
            values[_SAME.get(key, key)] = value
        said = {_SAME.get(key, key): key for key in given}  # errors speak the caller's words

        def put(key: str, value: object) -> None:
            object.__setattr__(self, key, value)

        put(
            "max_attempts", _count(said.get("max_attempts", "max_attempts"), values["max_attempts"])
        )
        for key in ("initial_delay", "max_delay", "backoff_factor"):
            put(key, _number(said.get(key, key), values[key]))
        on = said.get("retry_exceptions", "retry_exceptions")
        put("retry_exceptions", _errors(on, values["retry_exceptions"]))
        put("strategy", _strategy(values["strategy"]))
        put("_keys", (*given,))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a RetryPolicy cannot be changed: make a new one with {name}=")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a RetryPolicy cannot be changed")

    @property
    def max_retries(self) -> int:
        """Another word for `max_attempts`: attempts in all."""
        return self.max_attempts

    @property
    def base_delay(self) -> float:
        """Another word for `initial_delay`."""
        return self.initial_delay

    @property
    def retry_on(self) -> tuple[ErrorName, ...] | None:
        """Another word for `retry_exceptions`."""
        return self.retry_exceptions

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number *attempt*; the first one is 1."""
        if attempt < 1:
            raise ValueError(f"attempt is counted from 1, and cannot be {attempt!r}")
        if not self.initial_delay:
            return 0.0
        try:
            return min(self.initial_delay * self._growth(attempt), self.max_delay)
        except OverflowError:
            return self.max_delay

    calculate_delay = delay

    def _growth(self, attempt: int) -> float:
        match self.strategy:
            case RetryStrategy.IMMEDIATE:
                return 0.0
            case RetryStrategy.LINEAR:
                return float(attempt)
            case RetryStrategy.FIBONACCI:
                return _fibonacci(attempt)
        return float(self.backoff_factor) ** (attempt - 1)  # a whole number might get endless

    def is_retried(self, error: BaseException) -> bool:
        """Return whether *error* is worth another attempt; no cancellation ever is."""
        if not isinstance(error, Exception):
            return False
        wanted = self.retry_exceptions
        return wanted is None or any(_matches(error, one) for one in wanted)

    def to_dict(self) -> dict[str, Any]:
        """Return its values under their names, and under those that the caller gave.

        Errors are in it by name. `from_dict` makes an equal policy of it.
        """
        on = self.retry_exceptions
        values = {
            "max_attempts": self.max_attempts,
            "initial_delay": self.initial_delay,
            "backoff_factor": self.backoff_factor,
            "max_delay": self.max_delay,
            "retry_exceptions": None if on is None else [_name(error) for error in on],
            "strategy": self.strategy.value,
        }
        return {**values, **{key: values[_SAME.get(key, key)] for key in self._keys}}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> RetryPolicy:
        """Make one of what `to_dict` returned, or of any arguments by name."""
        keywords = dict(given)
        for other, key in _SAME.items():
            if other in keywords and keywords.get(key) == keywords[other]:
                del keywords[key]
        return cls(**keywords)

    def _facts(self) -> tuple[object, ...]:
        on = self.retry_exceptions
        return (
            self.max_attempts,
            self.initial_delay,
            self.backoff_factor,
            self.max_delay,
            None if on is None else tuple(map(_name, on)),
            self.strategy,
        )

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if isinstance(other, RetryPolicy) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts())

    def __reduce__(self) -> tuple[Any, ...]:
        values = {key: getattr(self, key) for key in self._keys}
        return (_again, (values,))

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={getattr(self, key)!r}" for key in self._keys)
        return f"{type(self).__name__}({values})"


def _again(values: Mapping[str, Any]) -> RetryPolicy:
    return RetryPolicy(**values)


def _named(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments by the names that the caller gave them, or would have given."""
    by_strategy = len(args) > 1 and isinstance(args[1], str)
    order = _STRATEGY_ORDER if by_strategy else _PLAIN_ORDER
    if len(args) > len(order):
        raise TypeError(f"RetryPolicy takes at most {len(order)} arguments by place: {order}")
    given: dict[str, Any] = {}
    for key, value in [*zip(order, args, strict=False), *keywords.items()]:
        name = _SAME.get(key, key)
        if name not in _DEFAULTS:
            known = sorted({*_DEFAULTS, *_SAME})
            raise TypeError(f"RetryPolicy has no argument {key!r}; it takes {', '.join(known)}")
        for other in given:
            if _SAME.get(other, other) == name:
                raise TypeError(f"RetryPolicy got both {other} and {key}, which are the same")
        given[key] = value
    return given


def _fibonacci(attempt: int) -> float:
    before, now = 0.0, 1.0
    for _ in range(min(attempt, 1500) - 1):  # by then it is infinite
        before, now = now, before + now
    return now


def _matches(error: Exception, wanted: ErrorName) -> bool:
    if not isinstance(wanted, str):
        return isinstance(error, wanted)
    return any(_is_called(cls, wanted) for cls in type(error).__mro__)


def _is_called(cls: type, name: str) -> bool:
    module, _, last = name.rpartition(".")
    if not module:
        return cls.__name__ == name
    if f"{cls.__module__}.{cls.__qualname__}" == name:
        return True
    # Packages hand on what their modules define: aiohttp.ClientError is of another module.
    return getattr(sys.modules.get(module), last, None) is cls


def _name(error: ErrorName) -> str:
    if isinstance(error, str):
        return error
    if error.__module__ == "builtins":
        return error.__name__
    return f"{error.__module__}.{error.__qualname__}"


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} counts the first attempt too: at least 1, not {value!r}")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r}")
    lowest = "more than 0" if name == "backoff_factor" else "at least 0"
    # A whole number may be too great to be a float: compared, not converted.
    if not 0 <= value <= sys.float_info.max or (name == "backoff_factor" and not value):
        raise ValueError(f"{name} must be a finite number, {lowest}, not {value!r}")
    return value


def _strategy(value: Any) -> RetryStrategy:
    try:
        return RetryStrategy(value.lower() if isinstance(value, str) else value)
    except ValueError:
        known = ", ".join(one.value for one in RetryStrategy)
        raise ValueError(f"strategy must be one of {known}, not {value!r}") from None


def _errors(name: str, value: Any) -> tuple[ErrorName, ...] | None:
    if value is None:
        return None
    if isinstance(value, str | type) or not isinstance(value, Iterable):
        value = (value,)
    errors = tuple(value)
    for one in errors:
        if isinstance(one, type) and issubclass(one, Exception):
            continue
        if isinstance(one, str):
            if not all(part.isidentifier() for part in one.split(".")):
                raise ValueError(f"{name}: {one!r} is not the name of an error")
            continue
        if isinstance(one, type) and issubclass(one, BaseException):
            raise ValueError(f"{name}: {one.__name__} is not an Exception that can be retried")
        raise TypeError(f"{name} takes error classes and their names, not {one!r}")
    return errors
