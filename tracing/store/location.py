"""Where the trace store lies: what the environment says, else the user's data folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MEMORY: Final = "memory"
"""Name of a store that lives and dies with its process."""
OFF: Final = "off"
"""Name of no store at all."""
VARIABLE: Final = "POCKETFLOW_TRACE_STORE"


def is_memory(location: str) -> bool:
    """Return whether *location* is `memory`, or `memory:NAME`: one of several in a process."""
    return location.partition(":")[0] == MEMORY


def default_path(environ: Mapping[str, str] = os.environ) -> str:
    """Return `POCKETFLOW_TRACE_STORE` (a path, `memory` or `off`), or else the usual file."""
    if named := environ.get(VARIABLE, "").strip():
        return named
    import platformdirs  # noqa: PLC0415 - 5 ms that a process which names its store need not pay

    return str(Path(platformdirs.user_data_dir("pocketflow-async", appauthor=False), "traces.db"))


def resolve(location: str | Path | None = None) -> str | None:
    """Return the real path meant by *location*, or the name of a memory, or None for `OFF`.

    Args:
        location: A path, `memory`, `memory:NAME`, `off`, or None for `default_path()`.
    """
    named = default_path() if location is None else os.fspath(location)
    if named == OFF:
        return None
    return named if is_memory(named) else os.path.realpath(os.path.expanduser(named))
