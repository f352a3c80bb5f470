"""What a node or flow may be told beyond PocketFlow's own parameters: validated, frozen data.

The engine keeps them in one private attribute, and only when one was given. So a user's own
`self.timeout` or `self.name` is never mistaken for the engine's, and a node without options has
exactly PocketFlow's attributes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar

from pocketflow_async.clock import Clock

_LONGEST = sys.float_info.max  # seconds: what overflows is as good as for ever, but a number
RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]
)
OnError: TypeAlias = Literal["raise", "collect"]
_T = TypeVar("_T", bound="NodeOptions | FlowOptions")


class Around(Protocol):
    """What may go around each attempt of a node, such as the policies of `resilience`."""

    async def acall(self, call: Callable[[], Awaitable[Any]], /) -> Any:
        """Await what *call* returns, or not, or more than once."""

    def call(self, call: Callable[[], Any], /) -> Any:
        """Return what *call* returns, or not, or call it more than once."""


class AsyncNodeKeywords(TypedDict, total=False):
    """Options of every node; see `Node`."""

    timeout: float | None
    retry_on: RetryOn | None
    backoff: float
    max_wait: float | None
    jitter: float
    name: str | None
    policies: Sequence[Around] | Around


class NodeKeywords(AsyncNodeKeywords, total=False):
    """Options of synchronous nodes."""

    in_thread: bool


class ParallelKeywords(AsyncNodeKeywords, total=False):
    """Options of parallel batch nodes; see `AsyncParallelBatchNode`."""

    concurrency: int | None
    on_error: OnError


class BranchKeywords(TypedDict, total=False):
    """Options of `parallel`."""

    concurrency: int | None
    on_error: OnError
    name: str | None


class FlowKeywords(TypedDict, total=False):
    """Options of every flow; see `Flow`."""

    name: str | None
    max_steps: int | None
    timeout: float | None
    ends: Collection[str]
    strict: bool
    merge_params: bool


class ParallelFlowKeywords(FlowKeywords, total=False):
    """Options of parallel batch flows; see `AsyncParallelBatchFlow`."""

    concurrency: int | None
    on_error: OnError


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Options of a node; see `Node` for what each means."""

    timeout: float | None = None
    retry_on: RetryOn | None = None
    backoff: float = 1.0
    max_wait: float | None = None
    jitter: float = 0.0
    name: str | None = None
    in_thread: bool = False
    concurrency: int | None = None
    on_error: OnError = "raise"
    policies: Sequence[Around] | Around = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", _policies(self.policies))
        _positive("timeout", self.timeout)
        _positive("max_wait", self.max_wait)
        _number("backoff", self.backoff, low=1.0)
        _number("jitter", self.jitter, low=0.0, high=1.0)
        _text("name", self.name)
        _count("concurrency", self.concurrency)
        _choice("on_error", self.on_error, ("raise", "collect"))
        _flag("in_thread", self.in_thread)
        _retry_on(self.retry_on)

    def worth_retrying(self, error: Exception) -> bool:
        """Return whether *error* is one to try again after."""
        on = self.retry_on
        if on is None:
            return True
        if isinstance(on, (type, tuple)):
            return isinstance(error, on)
        return on(error)

    def around(self, call: Callable[..., Any], way: Literal["call", "acall"]) -> Callable[..., Any]:
        """Return *call* with the policies around it, the first one outermost."""
        for policy in reversed(self.policies):  # type: ignore[arg-type]  # a tuple by now
            call = _around(getattr(policy, way), call)
        return call

    def delay(self, wait: float, attempt: int, clock: Clock) -> float:
        """Return the seconds to wait after failed attempt number *attempt* (0-based).

        `wait * backoff ** attempt`, at most `max_wait`; of that the share `jitter` is random: 0
        none of it, 1 all of it ("full jitter" of the AWS Architecture Blog, "Exponential Backoff
        And Jitter", 2015).
        """
        try:
            full = wait * self.backoff**attempt
        except OverflowError:
            full = _LONGEST if wait else 0.0
        full = min(full, _LONGEST if self.max_wait is None else self.max_wait)
        if not self.jitter:
            return full
        return min(full, clock.uniform(full * (1 - self.jitter), full))  # rounding may exceed it


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """Options of a flow; see `Flow` for what each means."""

    name: str | None = None
    max_steps: int | None = None
    timeout: float | None = None
    ends: Collection[str] = ()
    strict: bool = False
    merge_params: bool = False
    concurrency: int | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        _text("name", self.name)
        _count("max_steps", self.max_steps)
        _count("concurrency", self.concurrency)
        _positive("timeout", self.timeout)
        _choice("on_error", self.on_error, ("raise", "collect"))
        _flag("strict", self.strict)
        _flag("merge_params", self.merge_params)
        _actions("ends", self.ends)


def build(cls: type[_T], owner: object, keywords: str, given: Mapping[str, Any]) -> _T:
    """Build the options of *owner* from its keyword arguments.

    Raises:
        TypeError: An argument is no key of the TypedDict named *keywords*, or of a wrong type.
        ValueError: A value is out of its range.
    """
    names = sorted(globals()[keywords].__optional_keys__)
    for name in given:
        if name not in names:
            who = type(owner).__name__
            raise TypeError(f"{who} has no option {name!r}; it takes {', '.join(names)}")
    return cls(**given)


def _around(policy: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    def through(prepared: Any) -> Any:
        return policy(partial(call, prepared))

    through.__wrapped__ = call  # type: ignore[attr-defined]  # so that its signature is that of exec
    return through


def _policies(given: Any) -> tuple[Around, ...]:
    policies = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for policy in policies:
        if isinstance(policy, type) or not (hasattr(policy, "acall") and hasattr(policy, "call")):
            raise TypeError(
                "policies takes objects such as those of pocketflow_async.resilience "
                f"(Retry(3), Timeout(5), …), not {policy!r:.80}"
            )
    return policies


def _number(name: str, value: object, low: float, high: float = math.inf) -> None:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        raise ValueError(f"{name} must be a number {bounds}, not {value!r}")


def _positive(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (number and value > 0):
        raise ValueError(f"{name} must be a number of seconds above 0, or None, not {value!r}")


def _count(name: str, value: Any) -> None:
    if value is not None and not (
        isinstance(value, int) and not isinstance(value, bool) and value > 0
    ):
        raise ValueError(f"{name} must be a whole number above 0, or None, not {value!r}")


def _text(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{name} must be a string that is not empty, not {value!r}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")


def _actions(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise TypeError(f"{name} must be a list, tuple or set of actions, not {value!r}")


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def _retry_on(on: Any) -> None:
    if on is None:
        return
    types = on if isinstance(on, tuple) else (on,)
    for kind in types:
        if isinstance(kind, type) and not issubclass(kind, Exception):
            raise ValueError(f"retry_on: {kind.__name__} is not an Exception that can be retried")
        if not isinstance(kind, type) and (on is types or not callable(kind)):
            raise TypeError(f"retry_on takes exception types or a predicate, not {kind!r}")
