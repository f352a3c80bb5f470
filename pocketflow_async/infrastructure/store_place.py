"""Where the store of a program is when the program does not say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pocketflow_async.needing import need

VARIABLES: Final = ("STATE__URL", "STATE_URL")
"""What names a store, the first that is there; in any case."""


def store_url(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """Return the address of the store that programs and commands use alike.

    That is what the environment says, else the `.env` of the working folder, else a file among the
    user's data.

    Args:
        environ: The environment; None: that of the process.
        folder: The working folder; None: that of the process.
    """
    file = (folder or Path.cwd()) / ".env"
    for said in (os.environ if environ is None else environ, _in_file(file)):
        by_name = {name.upper(): (value or "").strip() for name, value in said.items()}
        for name in VARIABLES:
            if found := by_name.get(name):
                return found
    return default_url()


def default_url() -> str:
    """Return the address of the file among the user's data; it need not exist."""
    folder = need("platformdirs", "workflow").user_data_dir("pocketflow-async", appauthor=False)
    return "sqlite:///" + quote(str(Path(folder, "state.db")))


def shown(url: str) -> str:
    """Return an address without what may be secret in it: user, password and options."""
    place = url.partition("?")[0]
    scheme, mark, rest = place.partition("://")
    if scheme.lower() == "sqlite":
        return place
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _in_file(file: Path) -> Mapping[str, Any]:
    values: Mapping[str, Any] = {}
    if file.is_file():
        values = need("dotenv", "workflow").dotenv_values(file)
    return values
