"""One use of a shared resource, told to those who watch."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeAlias

from pocketflow_async.hooks import Step, active

Meter: TypeAlias = Callable[[str, float], None]
"""Told the name of a resource and the seconds that were waited for it."""

_name: ContextVar[str | None] = ContextVar("resource_name", default=None)
_meter: ContextVar[Meter | None] = ContextVar("resource_meter", default=None)


def meter(told: Meter) -> None:
    """Have *told* add up the waits for resources, for the rest of this context."""
    _meter.set(told)


def waited(resource: str, seconds: float) -> None:
    """Say how long somebody had to wait for a part of *resource*, as for a connection of a pool.

    In a workflow that is added to the metrics of the run; elsewhere nothing happens.
    """
    told = _meter.get()
    if told is not None:
        told(resource, seconds)


@contextmanager
def naming(name: str) -> Generator[None, None, None]:
    """Say what a resource is called while it is made; see `name_here`."""
    token = _name.set(name)
    try:
        yield
    finally:
        _name.reset(token)


def name_here(default: str) -> str:
    """Return what the resource that is being made is called, or *default*."""
    return _name.get() or default


class using:
    """Tell of one use of a resource while the block runs: `with using("db", "fetch") as facts:`.

    When it is watched, *facts* is a dict that may be added to until the end; otherwise it is None,
    and nothing else happens.

    Args:
        resource: What the resource is called.
        operation: What is done with it; few different words.
        input: What it is given; recorded as contents are, so subject to redaction.
        **facts: Plain values by the names of OpenTelemetry, or beginning with `flow.`.
    """

    __slots__ = ("_facts", "_input", "_operation", "_resource", "_step")

    def __init__(self, resource: str, operation: str, input: Any = None, **facts: Any) -> None:
        self._resource = resource
        self._operation = operation
        self._input = input
        self._facts = facts
        self._step: Step | None = None

    def __enter__(self) -> dict[str, Any] | None:
        hooks = active()
        if hooks is None:
            return None
        name = f"{self._resource}.{self._operation}"
        step = Step("resource", name, self, self._input, hooks)
        step.facts = facts = {"flow.resource": self._resource, **self._facts}
        step.__enter__()
        self._step = step
        return facts

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        step = self._step
        if step is not None:
            self._step = None
            step.__exit__(kind, error, trace)
