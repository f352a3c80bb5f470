"""What several tests of the engine share: nodes from plain functions, a fake clock, a recorder."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node, Step
from pocketflow_async.clock import Clock

NODES = {"sync": Node, "async": AsyncNode}
FLOWS = {"sync": Flow, "async": AsyncFlow}


class FakeClock(Clock):
    """Moves only when somebody waits; chance gives the lower bound, or the share *luck* above."""

    def __init__(self, luck: float = 0.0) -> None:
        self.now = 1000.0
        self.luck = luck
        self.waits: list[float] = []
        self.asked: list[tuple[float, float]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return low + (high - low) * self.luck


def subclass(base: type, title: str = "Made", **phases: Callable[..., Any]) -> type:
    """Subclass *base* with phases given as plain functions, made async where the base is."""
    if issubclass(base, AsyncNode):
        phases = {
            f"{name}_async": fn if inspect.iscoroutinefunction(fn) else _coroutine_function(fn)
            for name, fn in phases.items()
        }
    return type(title, (base,), dict(phases))


def _coroutine_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def phase(*args: Any) -> Any:
        return fn(*args)

    return phase


def run(runnable: Any, shared: Any = None) -> Any:
    """Run to the end, on an event loop of its own if need be."""
    if isinstance(runnable, AsyncNode):
        return asyncio.run(runnable.run_async(shared))
    return runnable.run(shared)


async def turns(count: int) -> None:
    """Let the event loop go round *count* times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Flaky:
    """An exec that fails *failures* times, then returns what it got. `phase` goes into a class."""

    def __init__(self, failures: int, error: Callable[[str], BaseException] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self, prep_res: Any) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"try {self.calls}")
        return prep_res

    @property
    def phase(self) -> Callable[..., Any]:
        return lambda node, prep_res: self(prep_res)


class Seen:
    """A step as the recorder keeps it."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.children: list[Seen] = []
        self.error: BaseException | None = None

    def lines(self, indent: str = "") -> Iterator[str]:
        step = self.step
        text = f"{indent}{step.kind} {step.name}"
        if step.index is not None:
            text += f"[{step.index}]"
        if step.attempts != 1:
            text += f" {step.attempt + 1}/{step.attempts}"
        if self.error is not None:
            text += f" !{type(self.error).__name__}"
        if step.wait is not None:
            text += f" wait={step.wait:g}"
        yield text
        for child in self.children:
            yield from child.lines(indent + "  ")


class Recorder:
    """An observer that keeps every step as a tree; the parent is known by a ContextVar."""

    def __init__(self) -> None:
        self.roots: list[Seen] = []
        self.all: list[Seen] = []
        self._parent: ContextVar[Seen | None] = ContextVar("parent", default=None)

    def __call__(self, step: Step) -> Any:
        return self._watch(step)

    @contextmanager
    def _watch(self, step: Step) -> Iterator[None]:
        seen = Seen(step)
        self.all.append(seen)
        parent = self._parent.get()
        (self.roots if parent is None else parent.children).append(seen)
        token = self._parent.set(seen)
        try:
            yield
        except BaseException as error:
            seen.error = error
            raise
        finally:
            self._parent.reset(token)

    def text(self) -> list[str]:
        """Return the tree, one indented line per step."""
        return [line for root in self.roots for line in root.lines()]

    def steps(self, kind: str) -> list[Step]:
        """Return the steps of one kind in the order they began."""
        return [seen.step for seen in self.all if seen.step.kind == kind]
