"""Attributes as OTLP's JSON has them, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracing.formats import fields
from tracing.formats.fields import Unfit

_DEEPEST = 50


def attributes(said: Mapping[str, Any], name: str = "attributes") -> dict[str, Any]:
    """Return the list of keys and values *name* as a mapping."""
    return {
        fields.text(one, "key"): value(fields.mapping(one, "value"))
        for one in fields.items(said, name)
    }


def value(said: Mapping[str, Any], depth: int = 0) -> Any:
    """Return the value that an `AnyValue` holds: None, a scalar, a list, or a mapping.

    Bytes stay the base64 text that they are in JSON.
    """
    if depth > _DEEPEST:
        raise Unfit("a value is nested too deeply")
    for name, found in said.items():
        if name == "intValue":
            return fields.whole(said, name)
        if name == "arrayValue":
            inner = fields.items(fields.mapping(said, name), "values")
            return [value(one, depth + 1) for one in inner]
        if name == "kvlistValue":
            inner = fields.items(fields.mapping(said, name), "values")
            return {
                fields.text(one, "key"): value(fields.mapping(one, "value"), depth + 1)
                for one in inner
            }
        if name in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
            return found
    return None
