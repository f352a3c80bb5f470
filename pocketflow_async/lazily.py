"""Packages whose names are loaded when they are asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazily(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of *package* (PEP 562).

    Args:
        package: Its `__name__`.
        modules: Names that it offers, with spaces in between, by the module that has them.
    """
    where = {name: module for module, names in modules.items() for name in names.split()}
    known = vars(sys.modules[package])

    def load(name: str) -> Any:
        module = where.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        known[name] = found = getattr(importlib.import_module(f"{package}.{module}"), name)
        return found

    def names() -> list[str]:
        return sorted({*known, *where})

    return load, names
