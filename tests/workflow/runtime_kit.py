"""What several tests of the runtime share: workflows of plain functions, a look for leftovers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pocketflow_async.workflow.spec import Context, Edge, NodeSpec, Workflow


class Work:
    """The work of a node: a function of its inputs by name."""

    def __init__(self, function: Callable[..., Any], with_context: bool = False) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.with_context = with_context

    def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        more = (context,) if self.with_context else ()
        return self.function(*more, **inputs)


def node(
    node_id: str, function: Callable[..., Any], context: bool = False, **more: Any
) -> NodeSpec:
    """Return a node that calls *function* with its inputs; with its context first if asked to."""
    return NodeSpec(node_id, "Function", work=Work(function, context), **more)


def workflow(nodes: Iterable[NodeSpec], *edges: str, **more: Any) -> Workflow:
    """Return a workflow; an edge is written `"a -> b"`, or `"a.port -> b.name"`."""
    by_id = {spec.id: spec for spec in nodes}
    return Workflow("w1", "test", by_id, tuple(_edge(edge) for edge in edges), **more)


def _edge(text: str) -> Edge:
    source, _, target = text.partition(" -> ")
    start, _, output = source.partition(".")
    end, _, name = target.partition(".")
    return Edge(start, output or None, end, name or start)


def sleeper(seconds: float, value: Any = None) -> Callable[..., Any]:
    """Return a function that sleeps, then returns *value*."""

    async def sleep(**inputs: Any) -> Any:
        await asyncio.sleep(seconds)
        return value

    return sleep


def giver(value: Any) -> Callable[..., Any]:
    """Return an asynchronous function that returns *value*."""

    async def give(**inputs: Any) -> Any:
        return value

    return give


def raiser(error: Exception) -> Callable[..., Any]:
    """Return an asynchronous function that raises *error*."""

    async def fail(**inputs: Any) -> Any:
        raise error

    return fail


@asynccontextmanager
async def nothing_left() -> Any:
    """Fail if the block leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    assert not left, left


class Peak:
    """Counts how many are inside at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> Peak:
        self.now += 1
        self.most = max(self.most, self.now)
        return self

    def __exit__(self, *_: object) -> None:
        self.now -= 1
