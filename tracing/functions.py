"""Traced functions of all four kinds: plain, async, generator and async generator."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator
from functools import wraps
from typing import Any

from tracing.run import Run
from tracing.settings import Settings


def trace_function(function: Any, settings: Settings) -> Any:
    """Return *function* with a span around each call, its kind and signature kept."""
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, settings)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, settings)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, settings)
    else:
        wrapper = _plain(function, settings)
    return wraps(function)(wrapper)


def _start(settings: Settings, function: Any, args: Any, kwargs: Any) -> Run:
    name = getattr(function, "__name__", type(function).__name__)
    return settings.start("function", name, None, _arguments(args, kwargs))


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what the call was given: one argument as itself, more of them by place and name."""
    if len(args) == 1 and not kwargs:
        return args[0]
    return {**{str(place): value for place, value in enumerate(args)}, **kwargs}


def _plain(function: Any, settings: Settings) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Any:
        run = _start(settings, function, args, kwargs)
        try:
            with run:
                result = function(*args, **kwargs)
        except BaseException as error:
            run.finish(error)
            raise
        run.finish(None, result)
        return result

    return traced


def _coroutine(function: Any, settings: Settings) -> Any:
    async def traced(*args: Any, **kwargs: Any) -> Any:
        run = _start(settings, function, args, kwargs)
        try:
            with run:
                result = await function(*args, **kwargs)
        except BaseException as error:
            run.finish(error)
            raise
        run.finish(None, result)
        return result

    return traced


# A generator's body runs in the context of whoever asks for the next value, in another task even;
# so the span is made current for each step of it, and only for that long.


class _Steps(Generator[Any, Any, Any]):
    """A generator whose every step is taken inside a span."""

    def __init__(self, body: Generator[Any, Any, Any], run: Run) -> None:
        self.body = body
        self.run = run
        self.count = 0

    def send(self, value: Any) -> Any:
        with self.run:
            item = self.body.send(value)
        self.count += 1
        return item

    def throw(self, error: Any, value: Any = None, trace: Any = None) -> Any:
        with self.run:
            item = self.body.throw(error)
        self.count += 1
        return item

    def close(self) -> None:
        with self.run:
            self.body.close()


def _generator(function: Any, settings: Settings) -> Any:
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run = _start(settings, function, args, kwargs)
        steps = _Steps(function(*args, **kwargs), run)
        try:
            result = yield from steps
        except GeneratorExit:
            run.finish(None, None, yielded=steps.count, closed_early=True)
            raise
        except BaseException as error:
            run.finish(error, None, yielded=steps.count)
            raise
        run.finish(None, result, yielded=steps.count)
        return result

    return traced


def _async_generator(function: Any, settings: Settings) -> Any:
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run = _start(settings, function, args, kwargs)
        body = function(*args, **kwargs)
        step, value, count = body.asend, None, 0
        try:
            while True:
                with run:
                    item = await step(value)
                count += 1
                try:
                    step, value = body.asend, (yield item)
                except GeneratorExit:
                    with run:
                        await body.aclose()
                    run.finish(None, None, yielded=count, closed_early=True)
                    raise
                except BaseException as error:  # noqa: BLE001 (thrown in: the body decides)
                    step, value = body.athrow, error
        except StopAsyncIteration:
            run.finish(None, None, yielded=count)
        except BaseException as error:
            run.finish(error, None, yielded=count)
            raise

    return traced
