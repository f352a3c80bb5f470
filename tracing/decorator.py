"""`trace_flow`: see every run of a flow or function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, overload

from tracing.config import TracingConfig
from tracing.functions import trace_function
from tracing.settings import Settings

T = TypeVar("T")
_RUNS = ("run", "run_async")


@overload
def trace_flow(target: T, /) -> T: ...
@overload
def trace_flow(
    config: TracingConfig | None = None,
    flow_name: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    *,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[T], T]: ...
def trace_flow(
    config: Any = None,
    flow_name: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    *,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """Trace every run of a flow class, a flow object, or a function.

    Use it bare (`@trace_flow`), with parentheses (`@trace_flow()`), or on an object
    (`flow = trace_flow(flow)`). A class or object is given back itself, with its `run` and
    `run_async` traced; nodes are not touched. A function (plain, async, generator or async
    generator) is given back wrapped, its signature kept. A run inside another traced run becomes
    part of that trace.

    Args:
        config: Settings; from the environment, at the first run, when left out. Never changed.
        flow_name: Name of the trace; the name of the class or function when left out.
        session_id: Session the traces belong to; before the one in *config*.
        user_id: User the traces belong to; before the one in *config*.
        tags: Tags of the traces.
        metadata: Facts about the traces, by name.

    Raises:
        TypeError: It is put on something that cannot be run.

    Results, errors and cancellation are those of the untraced run, whatever happens in tracing.
    """
    if config is not None and not isinstance(config, TracingConfig):
        return trace_flow()(config)
    settings = Settings(
        None if config is None else replace(config),
        flow_name,
        session_id,
        user_id,
        tuple(tags),
        dict(metadata or {}),
    )

    def decorate(target: Any) -> Any:
        if isinstance(target, type):
            return _trace_class(target, settings)
        if any(callable(getattr(target, name, None)) for name in _RUNS):
            return _trace_object(target, settings)
        if callable(target):
            return trace_function(target, settings)
        raise TypeError(
            f"trace_flow goes on a flow class, a flow object or a function, not on {target!r}"
        )

    return decorate


def _trace_class(cls: type[Any], settings: Settings) -> type[Any]:
    found = [name for name in _RUNS if callable(getattr(cls, name, None))]
    if not found:
        raise TypeError(f"{cls.__name__} has neither run nor run_async: there is nothing to trace")
    for name in found:
        setattr(cls, name, _method(getattr(cls, name), name, settings, cls.__name__))
    return cls


def _method(original: Any, name: str, settings: Settings, label: str) -> Any:
    if name == "run_async" or inspect.iscoroutinefunction(original):

        @wraps(original)
        async def run_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            run = settings.start("flow", label, self, _shared(args, kwargs))
            try:
                with run:
                    result = await original(self, *args, **kwargs)
            except BaseException as error:
                run.finish(error, _shared(args, kwargs))
                raise
            run.finish(None, _shared(args, kwargs), **_result(result))
            return result

        return run_async

    @wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = settings.start("flow", label, self, _shared(args, kwargs))
        try:
            with run:
                result = original(self, *args, **kwargs)
        except BaseException as error:
            run.finish(error, _shared(args, kwargs))
            raise
        run.finish(None, _shared(args, kwargs), **_result(result))
        return result

    return run


def _shared(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("shared")


def _result(result: Any) -> dict[str, Any]:
    """Return a flow's result as an attribute; its output is `shared` as the run left it."""
    if result is None:
        return {}
    plain = isinstance(result, (str, int, float, bool))
    return {"result": result if plain else f"<{type(result).__name__}>"}


class _TracedRun:
    """The traced `run` or `run_async` of one object; plain data, so that it pickles with it."""

    def __init__(self, target: Any, name: str, settings: Settings) -> None:
        self.target = target
        self.name = name
        self.settings = settings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        cls = type(self.target)
        method = _method(getattr(cls, self.name), self.name, self.settings, cls.__name__)
        return method(self.target, *args, **kwargs)


def _trace_object(target: T, settings: Settings) -> T:
    for name in _RUNS:
        if callable(getattr(type(target), name, None)):
            setattr(target, name, _TracedRun(target, name, settings))
    return target
