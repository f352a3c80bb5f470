"""The names that settings go by: in code, in the environment and in `.env`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from pocketflow_async.infrastructure.config_sections import (
    ConfigError,
    EmergencyConfig,
    EventsConfig,
    LoggingConfig,
    ResilienceConfig,
    StateConfig,
)

SECTIONS: Final = {
    "state": tuple(StateConfig.model_fields),
    "events": tuple(EventsConfig.model_fields),
    "logging": tuple(LoggingConfig.model_fields),
    "resilience": tuple(ResilienceConfig.model_fields),
    "emergency": tuple(EmergencyConfig.model_fields),
}
"""The settings of each section."""

SHORT: Final[Mapping[str, tuple[str, str]]] = {
    "state_backend": ("state", "backend"),
    "state_url": ("state", "url"),
    "events_backend": ("events", "backend"),
    "events_url": ("events", "url"),
    "redis_url": ("events", "redis_url"),
    "log_level": ("logging", "level"),
    "log_format": ("logging", "format"),
    # Words that any program may use for its timeouts have no short name.
    **{
        name: ("resilience", name)
        for name in SECTIONS["resilience"]
        if name.startswith(("retry_", "circuit_"))
    },
    **{
        name: ("emergency", name)
        for name in SECTIONS["emergency"]
        if name not in ("alert_at", "on_breach")
    },
}
"""Settings that have a short name."""


def nested(values: Mapping[str, Any], *, strict: bool = False) -> dict[str, Any]:
    """Return settings by section that are given by any of their names.

    Args:
        values: By `env`, `section__field` or a short name, in lower case; or by section.
        strict: Whether all of them are meant for us; else those with other names are not.

    Raises:
        ConfigError: One has a section of ours, but is no setting of it; or *strict*, and one is
            unknown.
    """
    found: dict[str, Any] = {}
    strangers = []
    # Long names after short ones: who writes both means the exact one.
    for name in sorted(values, key=lambda one: "__" in one):
        section, mark, field = name.partition("__")
        if strict and name in SECTIONS:
            whole = values[name]
            found[name] = {**found.get(name, {}), **whole} if isinstance(whole, dict) else whole
        elif name == "env":
            found["env"] = values[name]
        elif name in SHORT or (mark and field in SECTIONS.get(section, ())):
            section, field = SHORT.get(name, (section, field))
            if isinstance(found.setdefault(section, {}), dict):
                found[section] = {**found[section], field: values[name]}
        elif strict or (mark and section in SECTIONS):
            strangers.append(name)
    if strangers:
        raise ConfigError(map(_unknown, strangers))
    return found


def problem(place: tuple[Any, ...], message: str) -> str:
    """Return what is wrong with the setting at *place*, and how it is called elsewhere."""
    known = [name.upper() for name, where in SHORT.items() if where == place]
    if len(place) == 2:
        known.append("__".join(map(str, place)).upper())
    called = f" ({', '.join(known)})" if known else ""
    return f"{'.'.join(map(str, place))}{called}: {message.removeprefix('Value error, ')}"


def _unknown(name: str) -> str:
    known = [*SECTIONS, *SHORT, *(f"{one}__{field}" for one in SECTIONS for field in SECTIONS[one])]
    near = get_close_matches(name, known, 1)
    meant = f"; {near[0]} is meant?" if near else ""
    return f"{name.upper()}: there is no such setting{meant}"
