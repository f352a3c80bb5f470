"""What the fields of a `TracingConfig` may be, and how they are written in the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from tracing.export.address import is_header

DETAILS: TypeAlias = Literal["phases", "nodes"]
KEPT: TypeAlias = Literal["failed", "slow", "retried"]

SECRETS: Final = frozenset(
    ("langfuse_secret_key", "langfuse_public_key", "otlp_headers", "otlp_client_key")
)
"""Fields whose values are in no message and no repr."""

_LEAST: Final = 256  # bytes; less shows nothing of use
_WORDS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]*")
_AS_WRITTEN: Final = frozenset(("session_id", "user_id", "store"))
"""Texts that may begin or end with a space."""


class Processor(Protocol):
    """What is asked of an OpenTelemetry SpanProcessor that spans are handed to."""

    def on_end(self, span: Any) -> None:
        """Take a finished span."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits."""
        ...


def check(name: str, variable: str | None, value: Any, default: Any) -> Any:
    """Return *value* as the field *name* keeps it.

    Args:
        name: Name of the field.
        variable: What sets it in the environment, for messages; None: nothing does.
        value: What it is to be.
        default: What it is when nobody says anything.

    Raises:
        ValueError: It is out of range.
        TypeError: It is of a wrong type.
    """
    field = name if variable is None else f"{name} ({variable})"
    if name in _RULES:
        rule, wanted = _RULES[name]
        if not rule(value):
            raise ValueError(f"{field} must be {wanted}, not {_told(name, value)}")
        return value
    if name in _SHAPES:
        return _SHAPES[name](field, value)
    if isinstance(default, bool):
        if not isinstance(value, bool) and value not in (0, 1):
            raise TypeError(f"{field} must be True or False, not {value!r}")
        return bool(value)
    if isinstance(default, tuple):
        return _texts(field, value)
    if value is not None and not isinstance(value, str if name != "store" else (str, Path)):
        raise TypeError(f"{field} must be a text or None, not {_told(name, value)}")
    return value


def parse(name: str, variable: str, text: str, default: Any) -> Any:
    """Return the value that the environment variable's *text* stands for.

    Raises:
        ValueError: It stands for none.
    """
    if isinstance(default, bool):
        found = _WORDS.get(text.strip().lower())
        if found is None:
            raise ValueError(_misread(name, variable, "true or false", text))
        return found
    if isinstance(default, tuple):
        parts = re.split(r"\n|\|\|", text) if name == "redact_patterns" else text.split(",")
        return tuple(part.strip() for part in parts if part.strip())
    if isinstance(default, (int, float)):
        wanted = "a whole number" if isinstance(default, int) else "a number"
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError(_misread(name, variable, wanted, text)) from None
    return text if name in _AS_WRITTEN else text.strip()


def _misread(name: str, variable: str, wanted: str, text: str) -> str:
    return f"{variable} must be {wanted}, not {text!r}. It sets the field {name}."


def _told(name: str, value: Any) -> str:
    """Return *value* as a message may have it."""
    return f"this {type(value).__name__}" if name in SECRETS else repr(value)


def _tuple(field: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        raise TypeError(f"{field} is a tuple: {field.split()[0]}=({value!r},)")
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{field} is a tuple, not a {type(value).__name__}") from None


def _texts(field: str, value: Any) -> tuple[str, ...]:
    found = _tuple(field, value)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{field} holds texts, not {one!r}")
    return found


def _kept(field: str, value: Any) -> tuple[str, ...]:
    found = tuple(one.lower() for one in _texts(field, value))
    for one in found:
        if one not in ("failed", "slow", "retried"):
            raise ValueError(f"{field} holds 'failed', 'slow' and 'retried' only, not {one!r}")
    return found


def _patterns(field: str, value: Any) -> tuple[str, ...]:
    found = _texts(field, value)
    for one in found:
        try:
            pattern = re.compile(one)
        except re.error as error:
            raise ValueError(f"{field}: {one!r} is no regular expression: {error}") from None
        if pattern.search(""):  # it would be found between any two letters
            raise ValueError(f"{field}: {one!r} matches the empty text, and so everywhere")
    return found


def _exporters(field: str, value: Any) -> tuple[Any, ...]:
    found = _tuple(field, value)
    for one in found:
        if isinstance(one, str):
            if not _NAME.fullmatch(one):
                raise ValueError(
                    f"{field} holds names in small letters, such as 'otlp', not {one!r}"
                )
        elif not _is_processor(one) and not _is_target(one):
            raise TypeError(
                f"{field} holds names, Targets and OpenTelemetry SpanProcessors (with on_end and "
                f"force_flush), not a {type(one).__name__}"
            )
    return found


def _is_target(value: Any) -> bool:
    from tracing.export.model import Target  # noqa: PLC0415 (a config by itself encodes nothing)

    return isinstance(value, Target)


def _is_processor(value: Any) -> bool:
    wanted = ("on_end", "force_flush")
    return not isinstance(value, type) and all(callable(getattr(value, it, None)) for it in wanted)


def _callable(field: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"{field} must be a function or None, not {value!r}")
    return value


def _headers(field: str, value: Any) -> dict[str, str] | None:
    """Return the headers with names in small letters; messages tell names only."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{field} must be a mapping of names to texts, not a {type(value).__name__}"
        )
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"{field} must be a mapping of texts to texts: {name!r} is not")
        if not is_header(name, text):
            raise ValueError(f"{field}: {name!r} or its value is nothing that HTTP can carry")
    return {name.lower(): text for name, text in value.items()}


def _attributes(field: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{field} must be a mapping of names to values, not {value!r}")
    for name, one in value.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{field} must have texts as names, not {name!r}")
        if not _is_attribute(one):
            raise TypeError(f"{field}: {name} must be a text, number, bool or list of such")
    return {name: list(one) if isinstance(one, tuple) else one for name, one in value.items()}


def _is_attribute(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len({type(one) for one in value}) <= 1 and all(_is_scalar(one) for one in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


_SECONDS: Final = (_is_time, "seconds above 0")
_SWITCH: Final = (_is_switch, "True, False or None")

_RULES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "value_limit": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= _LEAST,
        f"a whole number of bytes of at least {_LEAST}",
    ),
    "slow_node_seconds": _SECONDS,
    "block_threshold_seconds": _SECONDS,
    "slow_trace_seconds": _SECONDS,
    "langfuse_timeout": _SECONDS,
    "otlp_timeout": _SECONDS,
    "otlp": _SWITCH,
    "otlp_insecure": _SWITCH,
    "sample_rate": (
        lambda value: _is_number(value) and 0 <= value <= 1,
        "a share between 0.0 and 1.0",
    ),
    "detail": (lambda value: value in ("phases", "nodes"), "'phases' or 'nodes'"),
    "otlp_protocol": (
        lambda value: value in ("http/protobuf", "http/json", "grpc"),
        "'http/protobuf', 'http/json' or 'grpc'",
    ),
    "otlp_compression": (
        lambda value: value in ("gzip", "none"),
        "'gzip' or 'none' (many receivers refuse deflate)",
    ),
}

_SHAPES: Final[dict[str, Callable[[str, Any], Any]]] = {
    "exporters": _exporters,
    "keep": _kept,
    "redact_patterns": _patterns,
    "redact_function": _callable,
    "otlp_headers": _headers,
    "resource_attributes": _attributes,
}
