"""Traced functions of all four kinds: plain, async, generator and async generator."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any

from tracing.context import Position, position
from tracing.names import ABANDONED
from tracing.run import ABSENT, Run
from tracing.settings import Settings


def trace_function(
    function: Any,
    settings: Settings,
    *,
    kind: str = "function",
    inputs: bool = True,
    outputs: bool = True,
) -> Any:
    """Return *function* with a span around each call, its kind and signature kept.

    Args:
        function: A function of any of the four kinds, or an object that is called like one.
        settings: Starts the spans.
        kind: Kind of the spans.
        inputs: Whether the arguments are noted.
        outputs: Whether the result is noted.
    """
    calls = _Calls(function, settings, kind, inputs, outputs)
    body = _body(function)
    if inspect.isasyncgenfunction(body):
        wrapper = _async_generator(calls)
    elif inspect.isgeneratorfunction(body):
        wrapper = _generator(calls)
    elif inspect.iscoroutinefunction(body):
        wrapper = _coroutine(calls)
    else:
        wrapper = _plain(calls)
    return wraps(function)(wrapper)


def _body(function: Any) -> Any:
    """Return what tells of which kind *function* is: itself, or the `__call__` of an object."""
    if isinstance(function, partial) or inspect.isroutine(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 (what it is, not whether)


class _Calls:
    """How the calls of one function are noted."""

    __slots__ = ("_inputs", "_kind", "_name", "_outputs", "_settings", "function")

    def __init__(
        self, function: Any, settings: Settings, kind: str, inputs: bool, outputs: bool
    ) -> None:
        self.function: Callable[..., Any] = function
        self._name = getattr(function, "__name__", type(function).__name__)
        self._settings = settings
        self._kind = kind
        self._inputs = inputs
        self._outputs = outputs

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """Open the span of a call."""
        value = _arguments(args, kwargs) if self._inputs else ABSENT
        return self._settings.start(self._kind, self._name, None, value)

    def returned(self, result: Any) -> Any:
        """Return what is to be noted of *result*."""
        return result if self._outputs else ABSENT


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what the call was given: one argument as itself, more of them by place and name."""
    if len(args) == 1 and not kwargs:
        return args[0]
    return {**{str(place): value for place, value in enumerate(args)}, **kwargs}


def _plain(calls: _Calls) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Any:
        run = calls.start(args, kwargs)
        try:
            with run:
                result = calls.function(*args, **kwargs)
        except BaseException as error:
            run.finish(error, ABSENT)
            raise
        run.finish(None, calls.returned(result))
        return result

    return traced


def _coroutine(calls: _Calls) -> Any:
    async def traced(*args: Any, **kwargs: Any) -> Any:
        run = calls.start(args, kwargs)
        try:
            with run:
                result = await calls.function(*args, **kwargs)
        except BaseException as error:
            run.finish(error, ABSENT)
            raise
        run.finish(None, calls.returned(result))
        return result

    return traced


# A generator's body runs in the context of whoever asks for the next value, in another task even;
# so the span is made current for each step of it, and only for that long.


class _Inside:
    """Makes a span current for one step of its generator, and nothing of it for the caller.

    What the body has made current itself, a span around its `yield`, is put away between steps and
    is there again in the next one; the caller has what it had before.
    """

    __slots__ = ("_around", "_inner", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._around: Position | None = None
        self._inner: Position | None = None

    def __enter__(self) -> None:
        self._run.__enter__()
        self._around = position.get()
        if self._inner is not None:
            position.set(self._inner)

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        now, around = position.get(), self._around
        self._around = None
        self._inner = None if now is around else now
        if now is not around:
            position.set(around)
        self._run.__exit__()


class _Steps(Generator[Any, Any, Any]):
    """A generator whose every step is taken inside a span."""

    def __init__(self, body: Generator[Any, Any, Any], run: Run) -> None:
        self.body = body
        self.inside = _Inside(run)
        self.count = 0

    def send(self, value: Any) -> Any:
        with self.inside:
            item = self.body.send(value)
        self.count += 1
        return item

    def throw(self, error: Any, value: Any = None, trace: Any = None) -> Any:
        with self.inside:
            item = self.body.throw(error)
        self.count += 1
        return item

    def close(self) -> None:
        with self.inside:
            self.body.close()


def _generator(calls: _Calls) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = calls.start(args, kwargs)
        steps = _Steps(calls.function(*args, **kwargs), run)
        try:
            result = yield from steps
        except GeneratorExit:
            run.finish(None, ABSENT, yielded=steps.count, closed_early=True)
            raise
        except BaseException as error:
            run.finish(error, ABSENT, yielded=steps.count)
            raise
        run.finish(None, calls.returned(result), yielded=steps.count)
        return result

    return traced


class _Guard:
    """Ends a span whose generator went away without being closed, as when its loop is closed."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __del__(self) -> None:
        abandon(self._run)


def abandon(run: Run) -> None:
    """End the span of *run*, if it is open, as one that nobody will end any more.

    For finalizers: never raises, not even while the interpreter is taken down.
    """
    with suppress(Exception):
        run.__exit__()  # its body may have gone away in the middle of a step
        gone = GeneratorExit("its object went away without having been ended")
        run.finish(gone, ABSENT, **{ABANDONED: True})


def _async_generator(calls: _Calls) -> Any:
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run = calls.start(args, kwargs)
        _guard = _Guard(run)
        body = calls.function(*args, **kwargs)
        step, value, count = partial(_first, body), None, 0
        inside = _Inside(run)
        try:
            while True:
                with inside:
                    item = await step(value)
                count += 1
                try:
                    step, value = body.asend, (yield item)
                except GeneratorExit:
                    with inside:
                        await body.aclose()
                    run.finish(None, ABSENT, yielded=count, closed_early=True)
                    raise
                except BaseException as error:  # noqa: BLE001 (thrown in: the body decides)
                    step, value = body.athrow, error
        except StopAsyncIteration:
            run.finish(None, ABSENT, yielded=count)
        except BaseException as error:
            run.finish(error, ABSENT, yielded=count)
            raise

    return traced


def _first(body: AsyncGenerator[Any, Any], value: None) -> Any:
    """Take the first step of *body* unseen by the event loop, which then need not close it.

    The loop closes all generators it knows when it ends, and at once. It knows the wrapper, which
    closes its body itself; told of both, it would complain that one is being closed already.
    """
    hooks = sys.get_asyncgen_hooks()
    if hooks.firstiter is None and hooks.finalizer is None:
        return body.asend(value)
    sys.set_asyncgen_hooks(firstiter=None, finalizer=_leave)
    try:
        return body.asend(value)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave(body: object) -> None:
    """Do nothing about a body that goes away unfinished: it goes with its wrapper."""
