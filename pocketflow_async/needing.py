"""Libraries that parts of this package need, imported when they are first used."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any


@cache
def need(module: str, extra: str) -> Any:
    """Return *module*.

    Raises:
        ImportError: It is not installed; says which extra it comes with.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        raise ImportError(
            f"{module} is not installed. Install it with: pip install 'pocketflow-async[{extra}]'",
            name=error.name,
        ) from error
