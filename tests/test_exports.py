"""What the packages offer, and what importing them costs."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

STAR_MODULES = {"asyncio", "copy", "time", "warnings"}
"""PocketFlow's star import hands these out, and programs have come to rely on it."""

HEAVY = {
    "asyncpg",
    "httpx",
    "jinja2",
    "langfuse",
    "opentelemetry",
    "pydantic",
    "pydantic_settings",
    "redis",
    "requests",
    "rich",
    "sqlalchemy",
    "starlette",
    "typer",
}


def _packages() -> list[str]:
    names = []
    for root in ("pocketflow_async", "tracing"):
        names.append(root)
        path = importlib.import_module(root).__path__
        names += [found.name for found in pkgutil.walk_packages(path, root + ".") if found.ispkg]
    return names


@pytest.mark.parametrize("name", _packages())
def test_all_is_sorted_and_complete(name):
    """`__all__` lists every public name of the package, in order, and each of them exists."""
    package = importlib.import_module(name)
    if not hasattr(package, "__all__"):
        assert not _public(package), f"{name} offers names without an __all__"
        return

    assert list(package.__all__) == sorted(set(package.__all__))
    assert [listed for listed in package.__all__ if not hasattr(package, listed)] == []
    assert _public(package) <= set(package.__all__)


def _public(package: ModuleType) -> set[str]:
    """Return the names bound in *package* itself, submodules and imported modules aside."""
    return {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    } - {"TYPE_CHECKING", "Any"}


def test_star_import_gives_what_pocketflow_gives():
    """`from pocketflow_async import *` brings the four modules that PocketFlow's does."""
    package = importlib.import_module("pocketflow_async")

    assert set(package.__all__) >= STAR_MODULES
    for name in STAR_MODULES:
        assert getattr(package, name) is importlib.import_module(name)


def _loaded_by(statement: str, env: dict[str, str]) -> set[str]:
    """Return the top-level modules that *statement* loads into a fresh interpreter."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True
    )
    return set(json.loads(result.stdout))


def test_engine_loads_only_the_standard_library(child_env):
    """Importing the engine loads no other distribution, and nothing of tracing."""
    loaded = _loaded_by("from pocketflow_async import *", child_env)

    assert loaded - sys.stdlib_module_names == {"pocketflow_async"}


@pytest.mark.parametrize("statement", ["import tracing", "import tracing.cli"])
def test_tracing_loads_nothing_heavy(statement, child_env):
    """Servers, terminals and exporters are loaded by who uses them."""
    assert not _loaded_by(statement, child_env) & HEAVY


def _seconds(statement: str, env: dict[str, str]) -> float:
    """Return the CPU time of *statement* in a fresh interpreter: other processes do not count."""
    program = f"import time; start = time.process_time()\n{statement}\n"
    program += "print(time.process_time() - start)"
    result = subprocess.run(
        [sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True
    )
    return float(result.stdout)


@pytest.mark.parametrize("statement", ["import pocketflow_async", "import tracing"])
def test_imports_are_quick(statement, child_env):
    """Either package costs no more than three times what asyncio and sqlite3 cost."""
    standard = "import asyncio, dataclasses, inspect, json, logging, sqlite3"

    runs = [(_seconds(statement, child_env), _seconds(standard, child_env)) for _ in range(7)]

    assert min(run[0] for run in runs) < 3 * min(run[1] for run in runs)
