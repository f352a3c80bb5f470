"""Everything here runs against the package that ENGINE_UNDER_TEST names.

`ENGINE_UNDER_TEST=pocketflow` runs the same programs on the package from PyPI: what passes there
and here is compatible. A test marked `fixed` states what this engine does where PocketFlow is
wrong; run against PocketFlow it has to fail, so the list of its defects stays true.
"""

import asyncio
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

ENGINE = os.environ.get("ENGINE_UNDER_TEST", "pocketflow_async")
UPSTREAM = ENGINE == "pocketflow"

pf = importlib.import_module(ENGINE)
sys.modules["engine_under_test"] = pf  # so that a program's import line is one and the same


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fixed(reason, strict=True): right here and, for this reason, wrong in PocketFlow",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not UPSTREAM:
        return
    for item in items:
        for mark in item.iter_markers("fixed"):
            (reason,) = mark.args
            strict = mark.kwargs.get("strict", True)
            item.add_marker(pytest.mark.xfail(reason=reason, strict=strict))


class Kind:
    """Builds the sync or the async kind of a node or flow from the same plain functions.

    `prep`, `exec`, `post` and `exec_fallback` are given as plain functions; for an async base they
    become the `…_async` coroutine functions with the same body.
    """

    def __init__(self, name: str, nodes: str, flows: str) -> None:
        self.name = name
        self._bases = {
            "Node": getattr(pf, f"{nodes}Node" if nodes != "AsyncParallel" else "AsyncNode"),
            "BatchNode": getattr(pf, f"{nodes}BatchNode"),
            "Flow": getattr(pf, f"{flows}Flow" if flows != "AsyncParallel" else "AsyncFlow"),
            "BatchFlow": getattr(pf, f"{flows}BatchFlow"),
        }

    def base(self, name: str) -> type:
        return self._bases[name]

    def cls(self, base: str, title: str = "Made", **phases: Callable[..., Any]) -> type:
        """Subclass *base* with the given phases."""
        parent = self._bases[base]
        if issubclass(parent, pf.AsyncNode):
            phases = {f"{name}_async": _coroutine_function(fn) for name, fn in phases.items()}
        return type(title, (parent,), dict(phases))

    def node(self, *args: Any, **phases: Any) -> Any:
        """A node of a class of its own; *args* go to its constructor."""
        return self.cls("Node", **phases)(*args)

    def batch_node(self, *args: Any, **phases: Any) -> Any:
        return self.cls("BatchNode", **phases)(*args)

    def flow(self, start: Any = None, **phases: Any) -> Any:
        return self.cls("Flow", **phases)(start)

    def batch_flow(self, start: Any = None, **phases: Any) -> Any:
        return self.cls("BatchFlow", **phases)(start)

    def run(self, runnable: Any, shared: Any = None) -> Any:
        """Run to the end, on an event loop of its own if need be."""
        if isinstance(runnable, pf.AsyncNode):
            return asyncio.run(runnable.run_async(shared))
        return runnable.run(shared)


def _coroutine_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def phase(*args: Any) -> Any:
        return fn(*args)

    return phase


_KINDS = {
    "sync": Kind("sync", "", ""),
    "mixed": Kind("mixed", "", "Async"),
    "async": Kind("async", "Async", "Async"),
    "parallel": Kind("parallel", "AsyncParallel", "AsyncParallel"),
}


@pytest.fixture(params=["sync", "mixed", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Nodes in a flow: all sync, sync nodes in an AsyncFlow, all async."""
    return _KINDS[request.param]


@pytest.fixture(params=["sync", "async"])
def pure(request: pytest.FixtureRequest) -> Kind:
    """All sync or all async: for nodes that run alone."""
    return _KINDS[request.param]


@pytest.fixture(params=["sync", "async", "parallel"])
def batch(request: pytest.FixtureRequest) -> Kind:
    """The three batch nodes, and the three batch flows over nodes of their own kind."""
    return _KINDS[request.param]


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """Give the texts of all UserWarnings so far; any other warning still fails the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", UserWarning)
        yield lambda: [str(warning.message) for warning in caught]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make both sleeps instant, as users' tests do, and list the waits asked for."""
    asked: list[float] = []
    turn = asyncio.sleep

    async def nap(delay: float, result: Any = None) -> Any:
        if delay:
            asked.append(delay)
        return await turn(0, result)

    monkeypatch.setattr(pf.time, "sleep", asked.append)
    monkeypatch.setattr(pf.asyncio, "sleep", nap)
    return asked
