"""What users say about a span, as attributes: snapshots of plain data under agreed names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import orjson

from tracing import names
from tracing.encode import LIMIT, encode

_TOKENS: Final = {
    "input": "input_tokens",
    "prompt": "input_tokens",
    "prompt_tokens": "input_tokens",
    "output": "output_tokens",
    "completion": "output_tokens",
    "completion_tokens": "output_tokens",
    "total": "total_tokens",
}
"""What libraries call the three numbers that all of them count."""
_DEEP: Final = 4  # levels of details inside a usage that are told apart


def plain(value: Any, limit: int = LIMIT) -> Any:
    """Return *value* as plain data that shares nothing with it; never raises.

    What JSON does not know becomes what `encode` says of it, an object of a stranger its `repr`.

    Args:
        value: Anything.
        limit: Largest size kept, in bytes of JSON.
    """
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if (kind is str and len(value) <= limit) or (kind is int and -(1 << 63) <= value < 1 << 63):
        return value
    return orjson.loads(encode(value, limit))


def attributes(
    limit: int,
    *,
    model: object = None,
    parameters: object = None,
    usage: object = None,
    cost: object = None,
    level: object = None,
    status_message: object = None,
    others: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return attributes for what was said; what is None was not said, save for *others*.

    Args:
        limit: Largest size of one value, in bytes of JSON.
        model: Name of the model.
        parameters: The model's parameters by name.
        usage: Numbers by name (`input`, `output` and `total` are tokens), an object that has such
            fields, or the number of all tokens.
        cost: US dollars, as a number or by part.
        level: DEBUG, DEFAULT, WARNING or ERROR.
        status_message: Words for the level.
        others: The user's own attributes, kept under their names.
    """
    found = {name: plain(value, limit) for name, value in (others or {}).items()}
    for name, said in ((names.MODEL, model), (names.STATUS, status_message)):
        if said is not None:
            found[name] = plain(said, limit)
    if level is not None:
        found[names.LEVEL] = level.upper() if isinstance(level, str) else plain(level, limit)
    if parameters is not None:
        found.update(_parts(names.PARAMETER, plain(parameters, limit)))
    if usage is not None:
        found.update(_usage(usage, limit))
    if cost is not None:
        found.update(_cost(cost, limit))
    return found


def _usage(usage: object, limit: int) -> dict[str, Any]:
    seen = plain(usage, limit)
    if not isinstance(seen, dict):
        return {f"{names.USAGE}total_tokens" if _counts(seen) else names.USAGE.rstrip("."): seen}
    flat = dict(_flat(seen, "", _DEEP))
    return {f"{names.USAGE}{_TOKENS.get(name, name)}": value for name, value in flat.items()}


def _flat(seen: dict[str, Any], prefix: str, deep: int) -> Iterator[tuple[str, Any]]:
    """Yield the facts in *seen*, those of a box inside as `box.fact`; None says nothing."""
    for name, value in seen.items():
        if isinstance(value, dict) and deep:
            yield from _flat(value, f"{prefix}{name}.", deep - 1)
        elif value is not None:
            yield prefix + name, value


def _counts(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cost(cost: object, limit: int) -> dict[str, Any]:
    if not isinstance(cost, Mapping):
        return {names.COST: _dollars(cost, limit)}
    parts = {str(name): _dollars(value, limit) for name, value in cost.items()}
    whole = parts.pop("total", None)
    if whole is None:
        whole = sum(value for value in parts.values() if _counts(value))
    return {names.COST: whole, **{f"{names.COST}.{name}": value for name, value in parts.items()}}


def _dollars(value: Any, limit: int) -> Any:
    """Return an amount as a float, whatever number it is."""
    if type(value) is bool or not isinstance(value, (Real, Decimal)):
        return plain(value, limit)
    try:
        return float(value)
    except (ValueError, OverflowError):
        return plain(value, limit)


def _parts(prefix: str, seen: Any) -> dict[str, Any]:
    if isinstance(seen, dict):
        return {prefix + name: value for name, value in seen.items()}
    return {prefix.rstrip("."): seen}
