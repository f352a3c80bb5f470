"""Which versions are installed, whether they fit together, and what Python runs them."""

from __future__ import annotations

import platform
import re
import sqlite3
import sys
from collections.abc import Callable
from typing import Final

from tracing.cli.findings import Level, Section

Read = Callable[[str], str | None]
"""Returns the installed version of a distribution, None if there is none."""

_NEEDED: Final = {
    "opentelemetry-sdk": (1, 30),
    "opentelemetry-exporter-otlp-proto-http": (1, 30),
    "orjson": (3, 10),
}
_OPTIONAL: Final = {
    "opentelemetry-exporter-otlp-proto-grpc": ((1, 30), "grpc"),
    "grpcio": ((1, 60), "grpc"),
    "langfuse": ((4, 7), "langfuse"),
    "uvloop": ((0, 17), ""),
}
_SAME: Final = (
    "opentelemetry-sdk",
    "opentelemetry-api",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-exporter-otlp-proto-grpc",
)
"""Released together; of different minor versions, they may not import each other's parts."""


def installed(name: str) -> str | None:
    """Return the installed version of the distribution *name*."""
    from importlib import metadata  # noqa: PLC0415 (only for those who ask)

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def look(read: Read = installed) -> Section:
    """Return what is to be said about versions."""
    section = Section("versions")
    python = f"{platform.python_version()} ({platform.python_implementation()})"
    if sys.version_info < (3, 11):  # noqa: UP036 (that is what is checked)
        section.add("python", python, "wrong", "pocketflow-async needs Python 3.11 or newer")
    else:
        section.add("python", python)
    own = read("pocketflow-async")
    section.add("pocketflow-async", own or "run from its sources, not installed", "note")
    for name, least in _NEEDED.items():
        _judge(section, name, read(name), least, "wrong")
    for name, (least, extra) in _OPTIONAL.items():
        if (version := read(name)) is not None:
            _judge(section, name, version, least, "warning")
        elif extra and name != "grpcio":
            how = f"not installed; pip install 'pocketflow-async[{extra}]' if you want it"
            section.add(name, how, "note")
    _compare(section, read)
    section.add("sqlite", sqlite3.sqlite_version)
    return section


def _judge(
    section: Section, name: str, version: str | None, least: tuple[int, int], level: Level
) -> None:
    wanted = ".".join(map(str, least))
    fix = f"pip install -U '{name}>={wanted}'"
    if version is None:
        section.add(name, "not installed", level, fix)
    elif _number(version) < least:
        section.add(name, f"{version}, too old", level, fix)
    else:
        section.add(name, version)


def _compare(section: Section, read: Read) -> None:
    versions = {name: version for name in _SAME if (version := read(name)) is not None}
    if len({_number(version) for version in versions.values()}) > 1:
        said = ", ".join(f"{name} {version}" for name, version in versions.items())
        fix = "pip install -U " + " ".join(versions)
        section.add("opentelemetry", f"of different versions: {said}", "warning", fix)


def _number(version: str) -> tuple[int, int]:
    found = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return (*found, 0, 0)[0], (*found, 0, 0)[1]
