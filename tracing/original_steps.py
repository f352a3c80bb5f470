"""What the watched variants of the original's methods have in common: the steps they enter."""

from __future__ import annotations

from functools import wraps
from typing import Any, Protocol, TypeAlias, TypeVar

from tracing.context import position
from tracing.recorder import Hooks, Kind, Step

T = TypeVar("T")


class Make(Protocol):
    """Makes the watched variant of a method of the original, for one module of it."""

    def __call__(self, module: Any, original: Any, /) -> Any:
        """Return the variant of *original* that works with the classes of *module*."""


Table: TypeAlias = dict[tuple[str, str], tuple[frozenset[str], Make]]
"""By class and method: the names that the method uses, and what makes its watched variant."""


def used(names: str) -> frozenset[str]:
    """Return the names of a `Table`, written with spaces between them."""
    return frozenset(names.split())


def as_named(original: Any, watched: T) -> T:
    """Give *watched* the name and signature of *original*, as warnings and tracebacks show."""
    return wraps(original)(watched)  # type: ignore[arg-type,return-value]  # it is a function


def visit(module: Any, node: Any, shared: Any, hooks: Hooks | None) -> Step:
    """Return the step of a flow's visit of *node*, which is the copy at work."""
    kind: Kind | None = getattr(type(node), "_pf_kind", None)
    if kind is None:
        kind = "flow" if isinstance(node, module.Flow) else "node"
    return Step(kind, type(node).__name__, node, shared, hooks)


def visit_unless_open(module: Any, node: Any, shared: Any, hooks: Hooks | None) -> Step:
    """Return the step of a node that is run by hand; an idle one if a flow has entered it."""
    now = position.get()
    if now is not None and now[1] < 0 and now[2] is node:
        return Step("node", "", None, None, None)
    return visit(module, node, shared, hooks)


def phase(kind: Kind, node: Any, given: Any, hooks: Hooks | None) -> Step:
    """Return the step of one phase of *node*."""
    return Step(kind, type(node).__name__, node, given, hooks)


def attempt(node: Any, given: Any, hooks: Hooks | None, number: int, attempts: int) -> Step:
    """Return the step of attempt *number* (0-based) at exec."""
    step = phase("exec", node, given, hooks)
    step.attempt = number
    step.attempts = attempts
    return step


def item(node: Any, given: Any, hooks: Hooks | None, index: int) -> Step:
    """Return the step of one item of a batch, or of one round of a batch flow."""
    step = phase("item", node, given, hooks)
    step.index = index
    return step


def pause(node: Any, number: int) -> float | None:
    """Return the seconds before the next attempt, or None if *number* was the last."""
    if number == node.max_retries - 1:
        return None
    wait = getattr(node, "wait", 0)
    return float(wait) if isinstance(wait, (int, float)) and wait > 0 else 0.0


def is_own(method: Any, default: Any) -> bool:
    """Return whether a bound *method* is anything but the package's *default*."""
    return getattr(method, "__func__", None) is not default
