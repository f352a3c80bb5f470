"""`trace_flow`: see every run of a flow or function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, SupportsIndex, TypeVar, overload
from uuid import UUID

from tracing.config import TracingConfig
from tracing.functions import trace_function
from tracing.run import ABSENT
from tracing.settings import Settings

T = TypeVar("T")
_EXECUTES = "execute_workflow_async"
_RUNS = ("run", "run_async", _EXECUTES)
_EXECUTE = "execute"
"""What has none of those, but is asynchronous and called so, is an executor of one workflow."""
_SETTINGS = "__pocketflow_trace__"
_TWIN = "__pocketflow_twin__"


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
@overload
def trace_flow(
    target: T,
    /,
    flow_name: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    *,
    config: TracingConfig | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> T: ...
def trace_flow(
    target: Any = None,
    /,
    flow_name: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    *,
    config: TracingConfig | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """Trace every run of a flow class, a flow object, a workflow runtime, or a function.

    Use it bare (`@trace_flow`), with parentheses (`@trace_flow()`), or on an object
    (`flow = trace_flow(flow, config=config)`). A class or object is given back itself, with its
    `run` and `run_async` traced (of a runtime its `execute_workflow_async`); nodes are not
    touched. A function (plain, async, generator or async generator) is given back wrapped, its
    signature kept. A run inside another traced run becomes part of that trace.

    Args:
        target: What is traced; when left out, a decorator is returned. A config may stand here too.
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
    if isinstance(target, TracingConfig):
        target, config = None, target
    if config is not None and not isinstance(config, TracingConfig):
        raise TypeError(f"trace_flow: config must be a TracingConfig, not {config!r}")
    settings = Settings(
        None if config is None else replace(config),
        _text("flow_name", flow_name),
        _text("session_id", session_id),
        _text("user_id", user_id),
        tuple(tags),
        dict(metadata or {}),
    )

    def decorate(target: Any) -> Any:
        if isinstance(target, type):
            return _trace_class(target, settings)
        if isinstance(target, (staticmethod, classmethod)):
            return type(target)(decorate(target.__func__))
        if _runs_of(type(target)) or any(name in getattr(target, "__dict__", {}) for name in _RUNS):
            return _trace_object(target, settings)
        if callable(target):
            return trace_function(target, settings)
        raise TypeError(
            "trace_flow goes on a flow class, a flow object, an executor, an AsyncLocalRuntime or "
            f"a function, not on a {type(target).__name__}. Put it on a function that runs what "
            "you want to see"
        )

    return decorate if target is None else decorate(target)


def _text(name: str, value: Any) -> str | None:
    """Return an id as text; numbers and UUIDs are common ones."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, UUID)) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{name} must be a string, a number or a UUID, not {value!r}")


def _runs_of(cls: type[Any]) -> list[str]:
    """Return the names of the methods of *cls* that are runs."""
    found = [name for name in _RUNS if callable(getattr(cls, name, None))]
    if not found and inspect.iscoroutinefunction(getattr(cls, _EXECUTE, None)):
        return [_EXECUTE]
    return found


def _trace_class(cls: type[Any], settings: Settings) -> type[Any]:
    found = _runs_of(cls)
    if not found:
        raise TypeError(f"{cls.__name__} has neither run nor run_async: there is nothing to trace")
    for name in found:
        setattr(cls, name, _method(getattr(cls, name), name, settings))
    if not hasattr(cls, "_tracer"):
        cls._tracer = _TRACER
    setattr(cls, _SETTINGS, settings)
    return cls


class _Tracer:
    """The tracer behind a traced flow: its lifecycles, compositions and errors.

    Not a property: a flow that has a `_tracer` of its own may set it.
    """

    def __get__(self, flow: Any, owner: type[Any]) -> Any:
        settings: Settings = getattr(owner, _SETTINGS)
        return settings.tracer


_TRACER = _Tracer()


def _label(flow: Any) -> str:
    """Return the name a flow was given, or that of its class."""
    given = getattr(getattr(flow, "_pf_options", None), "name", None)
    return given if isinstance(given, str) else type(flow).__name__


def _method(original: Any, name: str, settings: Settings) -> Any:
    if (other := _OTHERS.get(name)) is not None:
        return other(original, settings)
    if name == "run_async" or inspect.iscoroutinefunction(original):

        @wraps(original)
        async def run_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            run = settings.start("flow", _label(self), self, _shared(args, kwargs))
            try:
                with run:
                    result = await original(self, *args, **kwargs)
            except BaseException as error:
                run.finish(error, _shared(args, kwargs))
                if isinstance(error, Exception):
                    await settings.settle()
                raise
            run.finish(None, _shared(args, kwargs), **_result(result))
            await settings.settle()
            return result

        return run_async

    @wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = settings.start("flow", _label(self), self, _shared(args, kwargs))
        try:
            with run:
                result = original(self, *args, **kwargs)
        except BaseException as error:
            run.finish(error, _shared(args, kwargs))
            raise
        run.finish(None, _shared(args, kwargs), **_result(result))
        return result

    return run


def _execution(original: Any, settings: Settings) -> Any:
    """Return the method of a runtime that executes workflows, traced."""

    @wraps(original)
    async def execute_workflow_async(
        self: Any, workflow: Any, inputs: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if callable(build := getattr(workflow, "build", None)):
            workflow = build()  # so that the engine's own step is about the object that we know
        name = getattr(workflow, "name", None) or type(workflow).__name__
        run = settings.start("workflow", name, workflow, inputs)
        try:
            with run:
                result = await original(self, workflow, inputs, *args, **kwargs)
        except BaseException as error:
            run.finish(error, ABSENT)
            raise
        failures = getattr(result, "exceptions", None) or {}
        run.finish(next(iter(failures.values()), None), result.get("results"))
        return result

    return execute_workflow_async


def _executor(original: Any, settings: Settings) -> Any:
    """Return the method of an executor that executes its workflow, traced."""

    @wraps(original)
    async def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        source = getattr(self, "definition", None)
        name = getattr(source, "name", None) or getattr(self, "workflow_id", None)
        run = settings.start("workflow", name or type(self).__name__, source, ABSENT)
        try:
            with run:
                result = await original(self, *args, **kwargs)
        except BaseException as error:
            run.finish(error, ABSENT)
            raise
        run.finish(None, result.get("outputs") if isinstance(result, dict) else result)
        return result

    return execute


_OTHERS = {_EXECUTES: _execution, _EXECUTE: _executor}


def _shared(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("shared")


def _result(result: Any) -> dict[str, Any]:
    """Return a flow's result as an attribute; its output is `shared` as the run left it."""
    if result is None:
        return {}
    plain = isinstance(result, (str, int, float, bool))
    return {"result": result if plain else f"<{type(result).__name__}>"}


def _trace_object(target: T, settings: Settings) -> T:
    """Give *target* a class of its own that traces, since an attribute would not bind to copies."""
    for name in _RUNS:
        own = getattr(target, "__dict__", {}).get(name)
        if own is not None:  # it was given a run of its own, which the class must not hide
            setattr(target, name, _bound(own, target, settings))
    try:
        target.__class__ = _traced_class(type(target), settings)
    except TypeError as error:
        raise TypeError(
            f"{target!r} cannot be traced as an object: {error}. Put trace_flow on its class."
        ) from error
    return target


def _bound(own: Callable[..., Any], target: Any, settings: Settings) -> Any:
    """Return a traced stand-in for a run that was assigned to the object itself."""
    method = _method(lambda _, *args, **kwargs: own(*args, **kwargs), "", settings)
    if inspect.iscoroutinefunction(own):
        method = _method(lambda _, *args, **kwargs: own(*args, **kwargs), "run_async", settings)
    return wraps(own)(partial(method, target))


def _traced_class(cls: type[Any], settings: Settings) -> type[Any]:
    """Return a subclass of *cls* that traces its runs and otherwise passes for *cls*."""
    body: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__slots__": (),
        "__reduce_ex__": _reduce,
        _SETTINGS: settings,
        _TWIN: True,
    }
    if not hasattr(cls, "_tracer"):
        body["_tracer"] = _TRACER
    for name in _runs_of(cls):
        body[name] = _method(getattr(cls, name), name, settings)
    make: Any = type(cls)  # the metaclass, whatever it is
    made: type[Any] = make(cls.__name__, (cls,), body)
    return made


def _reduce(self: Any, protocol: SupportsIndex) -> tuple[Any, ...]:
    """Pickle and copy as the class underneath does, and trace the twin again."""
    traced: Any = next(cls for cls in type(self).__mro__ if cls.__dict__.get(_TWIN))
    below = traced.__mro__[1]
    make, args, *state = super(traced, self).__reduce_ex__(protocol)
    plain = tuple(below if arg is traced else arg for arg in args)
    return (_again, (traced.__dict__[_SETTINGS], make, plain), *state)


def _again(settings: Settings, make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    twin = make(*args)
    twin.__class__ = _traced_class(type(twin), settings)
    return twin
