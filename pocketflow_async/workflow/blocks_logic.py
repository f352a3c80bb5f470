"""The conditions that are built in. Pure; what is no number or no truth value is refused."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from pocketflow_async.wording import a
from pocketflow_async.workflow.node_handlers import BlockWork

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "gte", "ge"), operator.ge),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "lte", "le"), operator.le),
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
}


def number(name: str, value: object) -> int | float | Decimal:
    """Return *value*.

    Raises:
        TypeError: It is no number: nothing is read as 0.
        ValueError: It is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError(f"the input {name!r} must be a number, not {_shown(value)}")
    if not math.isfinite(value):
        raise ValueError(f"the input {name!r} is {value}, which is no number to decide by")
    return value


def truth(name: str, value: object) -> bool:
    """Return *value*.

    Raises:
        TypeError: It is neither true nor false: nothing is read as False.
    """
    if not isinstance(value, bool):
        raise TypeError(f"the input {name!r} must be true or false, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return "null" if value is None else a(type(value).__name__)


def threshold(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Pass what is within its bounds, both included."""
    value = number("value", inputs["value"])
    low, high = (number(name, inputs[name]) if name in inputs else None for name in ("min", "max"))
    if low is None and high is None:
        raise ValueError("a threshold needs a bound: min, max or both")
    return {"pass": (low is None or value >= low) and (high is None or value <= high)}


def _bounded(names: frozenset[str]) -> str | None:
    return None if names & {"min", "max"} else "needs a bound: give min, max or both"


def compare(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Compare two numbers, or two texts or truth values for whether they are equal."""
    sign = inputs["operator"]
    how = _COMPARISONS.get(sign) if isinstance(sign, str) else None
    if how is None:
        raise ValueError(f"the operator {sign!r:.40} is none of {', '.join(_COMPARISONS)}")
    first, second = inputs["value1"], inputs["value2"]
    kinds = (type(first), type(second))
    if how not in (operator.eq, operator.ne) or kinds not in ((str, str), (bool, bool)):
        first, second = number("value1", first), number("value2", second)
    return {"result": how(first, second)}


def _truths(inputs: Mapping[str, Any]) -> Iterator[bool]:
    return (truth(name, value) for name, value in inputs.items())


def _all_true(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    # A list: each is looked at, also where it would not count.
    return {"output": all([*_truths(inputs)])}


def _any_true(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    return {"output": any([*_truths(inputs)])}


def _several(names: frozenset[str]) -> str | None:
    return None if len(names) > 1 else "needs two inputs or more"


def either(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Say which way to go: two truth values, one the other's opposite."""
    condition = truth("condition", inputs["condition"])
    return {"true": condition, "false": not condition}


def _divided(first: Any, second: Any) -> Any:
    if not second:
        raise ZeroDivisionError("math: division by zero")
    return first / second


def _average(*values: Any) -> Any:
    return sum(values) / len(values)


_TWO: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(("subtract", "-", "sub", "minus"), operator.sub),
    **dict.fromkeys(("divide", "/", "div"), _divided),
    **dict.fromkeys(("difference", "spread"), lambda one, other: abs(one - other)),
    "percent_change": lambda before, now: _divided((now - before) * 100, abs(before)),
}
_MANY: Final[Mapping[str, Callable[..., Any]]] = {
    **dict.fromkeys(("add", "+", "sum", "plus"), lambda *values: sum(values)),
    **dict.fromkeys(("multiply", "*", "mul", "times"), lambda *values: math.prod(values)),
    **dict.fromkeys(("average", "avg", "mean"), _average),
    "min": min,
    "max": max,
}
_ONE: Final[Mapping[str, Callable[[Any], Any]]] = {
    "abs": abs,
    **dict.fromkeys(("negate", "neg"), operator.neg),
}


def calculate(node: Any, inputs: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Calculate with the other inputs, in the order in which the block names them."""
    name = inputs["operation"]
    values = [number(key, value) for key, value in inputs.items() if key != "operation"]
    if name in _MANY and values:
        result = _MANY[name](*values)
    elif name in _TWO and len(values) == 2:
        result = _TWO[name](*values)
    elif name in _ONE and len(values) == 1:
        result = _ONE[name](*values)
    elif name in _MANY or name in _TWO or name in _ONE:
        raise ValueError(f"the operation {name!r} cannot be done with {len(values)} inputs")
    else:
        known = ", ".join((*_MANY, *_TWO, *_ONE))
        raise ValueError(f"the operation {name!r:.40} is none of {known}")
    return {"result": number("result", result)}


_BOTH: Final = ("input1", "input2")

CONDITIONS: Final[Mapping[str, BlockWork]] = {
    "threshold": BlockWork(
        threshold,
        ("value", "min", "max"),
        required=frozenset({"value"}),
        optional=frozenset({"min", "max"}),
        outputs=("pass",),
        check=_bounded,
        is_quick=True,
    ),
    "compare": BlockWork(
        compare,
        ("value1", "value2", "operator"),
        required=frozenset({"value1", "value2", "operator"}),
        outputs=("result",),
        is_quick=True,
    ),
    "and": BlockWork(_all_true, _BOTH, outputs=("output",), check=_several, is_quick=True),
    "or": BlockWork(_any_true, _BOTH, outputs=("output",), check=_several, is_quick=True),
    "if": BlockWork(
        either,
        ("condition",),
        required=frozenset({"condition"}),
        outputs=("true", "false"),
        is_quick=True,
    ),
    "math": BlockWork(
        calculate,
        ("value1", "value2"),
        required=frozenset({"operation"}),
        outputs=("result",),
        is_quick=True,
    ),
}
