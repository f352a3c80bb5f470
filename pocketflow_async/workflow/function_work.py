"""Functions as nodes: what they need by name, and a call with just that."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter
from types import SimpleNamespace
from typing import Any

from pocketflow_async.offloading import offload
from pocketflow_async.workflow.spec import Context, Port, Ports


def name_of_function(function: Callable[..., Any]) -> str:
    """Return what *function* is called in messages and traces."""
    if isinstance(function, functools.partial):
        return name_of_function(function.func)
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def is_coroutine_callable(function: Callable[..., Any]) -> bool:
    """Return whether calling *function* gives a coroutine; looks through partials and objects."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return not inspect.isroutine(function) and inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is looked at)
    )


def _is_generator_callable(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def refuse_awaitable(value: Any, what: str) -> Any:
    """Return *value*, unless somebody has forgotten to await it.

    Args:
        value: What the user's code has returned.
        what: Who returned it, for the error.

    Raises:
        TypeError: It is an awaitable; a coroutine is closed, so that Python does not complain too.
    """
    if not inspect.isawaitable(value):
        return value
    kind = type(value).__name__
    close = getattr(value, "close", None)
    if close is not None:
        close()
    raise TypeError(
        f"{what} returned a {kind} that nobody awaits: await it there, in an `async def`"
    )


@dataclass(frozen=True, slots=True)
class Needs:
    """What a function takes, by name.

    Attributes:
        first: Names that can only be given by position, in order.
        required: Names that it cannot do without.
        optional: Names with a default.
        context: Names that get the `Context` of the run, by their annotation.
        anything: Whether it takes any other name (`**kwargs`).
        hints: Types by name, `return` among them, as far as they are known.
    """

    first: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    anything: bool = True
    hints: Mapping[str, Any] | None = None

    def names(self) -> tuple[str, ...]:
        """Return the names of all inputs."""
        return (*self.required, *self.optional)

    def bind(
        self, inputs: Mapping[str, Any], context: Context, what: str
    ) -> tuple[list[Any], dict[str, Any]]:
        """Choose from *inputs* what the function is called with.

        Raises:
            TypeError: Something that it needs is not there; the message names it.
        """
        for name in self.required:
            if name not in inputs:
                there = ", ".join(map(repr, inputs)) or "nothing"
                raise TypeError(
                    f"node {context.node_id!r}: {what} needs the input {name!r}, "
                    f"which nobody gives it; it has: {there}. "
                    f"Connect a node to it, or pass it to the run."
                )
        if self.anything:
            named = dict(inputs)
        else:
            named = {name: inputs[name] for name in self.names() if name in inputs}
        for name in self.context:
            named[name] = context
        given: list[Any] = []
        for name in self.first:
            if name not in named:
                break  # those after it have defaults too
            given.append(named.pop(name))
        for name in self.first[len(given) :]:
            named.pop(name, None)
        return given, named


def has_signature(function: Callable[..., Any]) -> bool:
    """Return whether it is known what *function* takes; some built-in ones do not tell."""
    if function is dict:
        return True  # any names
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        return False
    return True


def needs_of(function: Callable[..., Any]) -> Needs:
    """Read from the signature of *function* what it takes; where there is none: anything."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have none
        return Needs(hints={})
    hints = _hints(function)
    context = tuple(p.name for p in parameters if hints.get(p.name) is Context)
    named = [
        p
        for p in parameters
        if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) and p.name not in context
    ]
    return Needs(
        first=tuple(p.name for p in parameters if p.kind is Parameter.POSITIONAL_ONLY),
        required=tuple(p.name for p in named if p.default is Parameter.empty),
        optional=tuple(p.name for p in named if p.default is not Parameter.empty),
        context=context,
        anything=any(p.kind is Parameter.VAR_KEYWORD for p in parameters),
        hints=hints,
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of *function* as types; those that name nothing are left out."""
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        hints = _resolved(target.__init__)
        return {**hints, "return": target}
    if not inspect.isroutine(target):
        target = type(target).__call__
    return _resolved(target)


def _resolved(target: Any) -> dict[str, Any]:
    with suppress(Exception):  # any annotation may raise anything; types are a bonus
        return typing.get_type_hints(target)
    hints: dict[str, Any] = {}
    space = getattr(target, "__globals__", {})
    for name, hint in getattr(target, "__annotations__", {}).items():
        with suppress(Exception):  # one that names nothing must not take the others with it
            one = SimpleNamespace(__annotations__={name: hint})
            hints |= typing.get_type_hints(one, globalns=space)
    return hints


class FunctionWork:
    """A function as the work of a node.

    It is called with those inputs that it takes; a parameter with the annotation
    `pocketflow_async.workflow.Context` gets the context of the run, and one with the name of a
    required resource gets that. Synchronous functions run in a thread, asynchronous ones on the
    loop. A generator function is only called: its generator is what the node yields, for a
    parallel map to read from.

    Args:
        function: What to call.
        resources: Names of the resources that it is given by name.
        wrapped: Whether the value is to be yielded as `{"result": value}`.
    """

    def __init__(
        self, function: Callable[..., Any], resources: tuple[str, ...] = (), wrapped: bool = False
    ) -> None:
        self.function = function
        self.wrapped = wrapped
        self._name = f"{name_of_function(function)}()"
        self._needs = needs_of(function)
        self._coroutine = is_coroutine_callable(function)
        self._lazy = _is_generator_callable(function)
        taken = resources if self._needs.anything else set(resources) & set(self._needs.names())
        self._resources = tuple(name for name in resources if name in taken)
        self._is_async = self._coroutine or self._lazy or bool(self._resources)

    def __repr__(self) -> str:
        return f"<FunctionWork {self._name}>"

    @property
    def is_async(self) -> bool:
        """Whether `run` returns an awaitable."""
        return self._is_async

    @property
    def inputs(self) -> Ports:
        """What the function takes, but for what the context gives it."""
        needs = self._needs
        hints = needs.hints or {}
        known = {
            name: Port(name, hints.get(name), name in needs.required)
            for name in needs.names()
            if name not in self._resources
        }
        return Ports(known, open=needs.anything)

    @property
    def outputs(self) -> Ports:
        """What the function yields, as far as its annotation says it."""
        hint = (self._needs.hints or {}).get("return")
        if hint is None or self._lazy:
            return Ports()
        return Ports({"result": Port("result", hint)}, open=True)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Call the function with what it takes of *inputs*; return, or await, its value.

        Raises:
            TypeError: An input that it needs is missing, or it returned an awaitable that nobody
                would await.
        """
        if self._is_async:
            return self._run_async(inputs, context)
        given, named = self._needs.bind(inputs, context, self._name)
        return self._yielded(self.function(*given, **named), context)

    async def _run_async(self, inputs: Mapping[str, Any], context: Context) -> Any:
        if self._resources:
            found = {name: await context.get_resource(name) for name in self._resources}
            inputs = {**found, **inputs}  # an edge or input of that name wins
        given, named = self._needs.bind(inputs, context, self._name)
        if self._coroutine:
            value = await self.function(*given, **named)
        elif self._lazy:
            value = self.function(*given, **named)
        else:
            value = await offload(functools.partial(self.function, *given, **named))
        return self._yielded(value, context)

    def _yielded(self, value: Any, context: Context) -> Any:
        refuse_awaitable(value, f"node {context.node_id!r}: {self._name}")
        return {"result": value} if self.wrapped else value
