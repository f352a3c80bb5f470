"""What all policies are: something that goes around a call, whoever makes it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from types import CoroutineType
from typing import Any, ClassVar, TypeVar, cast

from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.hooks import Hooks, Step, active

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Facts = dict[str, Any]
"""What a policy tells those who watch about one call: plain values by short name."""


class Policy(ABC):
    """Goes around any call: as a decorator, as `acall` and `call`, or in a node's `policies`.

    It keeps its state, if it has any, in itself, for all who use it. A call that is watched (by a
    tracer) is a step of kind `policy`, with what the policy tells of it as facts.

    Args:
        name: What it is called in traces and errors; its kind when left out.
        clock: Its time, waits and chance; those of the context in which it is used if left out.
    """

    kind: ClassVar[str] = "policy"

    def __init__(self, name: str | None = None, *, clock: Clock | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a text, not {name!r:.80}")
        self.name = name or self.kind
        self._clock = clock

    def __call__(self, function: F) -> F:
        """Return *function* with the policy around each call; async stays async.

        Raises:
            TypeError: It is no function, or a generator, whose work is not done in one call.
        """
        if isinstance(function, staticmethod | classmethod):
            return cast("F", type(function)(self(function.__func__)))
        if isinstance(function, Policy):
            raise TypeError(f"{self.kind} goes around a function; for policies there is compose")
        if not callable(function):
            raise TypeError(f"{self.kind} goes around a function, not {function!r:.80}")
        own = _plain(function)
        if inspect.isgeneratorfunction(own) or inspect.isasyncgenfunction(own):
            raise TypeError(
                f"{self.kind} cannot go around the generator {_name(function)}: "
                "put it around what does one item"
            )
        if inspect.iscoroutinefunction(own):

            @wraps(function)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                return await self.acall(partial(function, *args, **kwargs))

        else:

            @wraps(function)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                return self.call(partial(function, *args, **kwargs))

        return cast("F", guarded)

    async def acall(self, call: Callable[[], Awaitable[T]], /) -> T:
        """Await what *call* returns, under the policy."""
        hooks = active()
        if hooks is None:
            return await self._acall(call, None)
        facts: Facts = {}
        with self._step(hooks, facts):
            return await self._acall(call, facts)

    def call(self, call: Callable[[], T], /) -> T:
        """Return what *call* returns, under the policy; whatever waits blocks this thread.

        Raises:
            TypeError: It returned a coroutine, which `acall` is for.
        """
        hooks = active()
        if hooks is None:
            return self._call(partial(_not_async, call), None)
        facts: Facts = {}
        with self._step(hooks, facts):
            return self._call(partial(_not_async, call), facts)

    @abstractmethod
    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        """Do what `acall` says; tell of it in *facts*, if there are any."""

    @abstractmethod
    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        """Do what `call` says; tell of it in *facts*, if there are any."""

    def _step(self, hooks: Hooks, facts: Facts) -> Step:
        """Return the step of one call; *facts* may grow until it ends."""
        facts["flow.policy"] = self.kind
        step = Step("policy", self.name, self, None, hooks)
        step.facts = facts
        return step

    def _time(self) -> Clock:
        return current_clock() if self._clock is None else self._clock


class Policies(Policy):
    """Several policies as one; the first is the outermost.

    Args:
        *policies: From the outside in.

    Raises:
        TypeError: One of them is no policy.
    """

    kind = "policies"

    def __init__(self, *policies: Policy) -> None:
        super().__init__()
        for policy in policies:
            if not isinstance(policy, Policy):
                raise TypeError(f"a policy is needed, not {policy!r:.80}")
        self.policies = policies

    def __repr__(self) -> str:
        return f"Policies({', '.join(map(repr, self.policies))})"

    async def acall(self, call: Callable[[], Awaitable[T]], /) -> T:
        """Await what *call* returns, under all of them."""
        for policy in reversed(self.policies):
            call = partial(policy.acall, call)
        return await call()

    def call(self, call: Callable[[], T], /) -> T:
        """Return what *call* returns, under all of them."""
        call = partial(_not_async, call)  # there may be no policy at all
        for policy in reversed(self.policies):
            call = partial(policy.call, call)
        return call()

    async def _acall(self, call: Callable[[], Awaitable[T]], facts: Facts | None) -> T:
        return await self.acall(call)

    def _call(self, call: Callable[[], T], facts: Facts | None) -> T:
        return self.call(call)


def compose(*policies: Policy) -> Policies:
    """Return *policies* as one; the first is the outermost.

    Raises:
        TypeError: One of them is no policy.
    """
    return Policies(*policies)


def _not_async(call: Callable[[], T]) -> T:
    value: Any = call()
    if type(value) is CoroutineType:
        value.close()
        raise TypeError(f"{_name(call)} returned a coroutine: use acall, or make it `async def`")
    return cast("T", value)


def _plain(function: Callable[..., Any]) -> Any:
    """Return what tells of which kind *function* is."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isfunction(function) or inspect.ismethod(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 (of an object that is called)


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__qualname__", repr(function)))
