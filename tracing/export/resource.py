"""What is said of the program that records: OpenTelemetry's resource."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

NAME: Final = "pocketflow-async"

_NO_SCRIPT: Final = frozenset(("", "-", "-c", "-m"))


def resource(
    attributes: Mapping[str, Any],
    service_name: str | None,
    version: str | None,
    environment: str | None,
    program: str,
) -> dict[str, Any]:
    """Return the attributes of the program.

    There is no process id among them: the resource says which records go out together, also those
    that another process of the same program has left.

    Args:
        attributes: The user's own; they win over what is found out here.
        service_name: Wins over `service.name` in *attributes*.
        version: Wins over `service.version`.
        environment: Wins over `deployment.environment.name`.
        program: What was started, as in `sys.argv[0]`.
    """
    said = {
        "service.name": service_name,
        "service.version": version,
        "deployment.environment.name": environment,
    }
    ours = {
        "telemetry.sdk.name": NAME,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": own_version(),
        "service.name": f"unknown_service:{program_name(program)}",
    }
    found: dict[str, Any] = {}
    for layer in (ours, attributes, said):
        found.update((name, value) for name, value in layer.items() if value not in ("", None))
    return found


def program_name(program: str) -> str:
    """Return what people call *program*: its script, module or command, or `python`.

    OpenTelemetry's own choice, the name of the executable, is `python` for all that we see; the
    prefix `unknown_service:` stays, since back ends know it.
    """
    if program in _NO_SCRIPT:
        return "python"
    path = PurePath(program)
    if path.stem in ("__main__", "__init__"):  # python -m package
        path = path.parent
    name = path.name
    for ending in (".py", ".pyz", ".exe"):
        name = name.removesuffix(ending)
    return name or "python"


def own_version() -> str:
    """Return our version, or an empty text where that cannot be known."""
    engine = sys.modules.get("pocketflow_async")  # it need not be imported for this
    found = getattr(engine, "__version__", None)
    return found if isinstance(found, str) else _installed()


def _installed() -> str:
    from importlib import metadata  # noqa: PLC0415 (slow to import, and rarely needed)

    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return ""
