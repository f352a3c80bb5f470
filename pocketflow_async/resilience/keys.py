"""Keys made of values by name: a template such as `"user:{user_id}"`, or a function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from string import Formatter
from typing import Any, Final, TypeAlias

from pocketflow_async.resilience.policy import Policy, _not_async

KeySource: TypeAlias = str | Callable[..., Any]
"""A template with `{name}`s, or a function of the same arguments as the call."""

_NAME: Final = re.compile(r"[^.\[]*")
_DEEPEST: Final = 3


class Key:
    """Makes the key of a call of its arguments.

    Args:
        source: A template with fields as of `str.format` (`{user}`, `{order.id}`, `{n:05d}`), or a
            function.
        what: What errors call it.

    Raises:
        TypeError: It is neither.
        ValueError: The template is none, or has a field without a name.
    """

    def __init__(self, source: KeySource, what: str = "key") -> None:
        if not isinstance(source, str) and not callable(source):
            raise TypeError(f"{what} must be a text or a function, not {source!r:.80}")
        if isinstance(source, str) and not source:
            raise ValueError(f"{what} must not be empty")
        self.source = source
        self._what = what
        self.fields: tuple[str, ...] = ()
        """The names that a template uses, in order."""
        if isinstance(source, str):
            self.fields = tuple(dict.fromkeys(_fields(source, what)))

    def __repr__(self) -> str:
        return f"Key({self.source!r:.80})"

    def filled(self, values: Mapping[str, Any]) -> str:
        """Return the template with *values* in it.

        Raises:
            ValueError: One that it needs is not there; names those that are.
        """
        assert isinstance(self.source, str)
        for name in self.fields:
            if name not in values:
                there = ", ".join(map(repr, values)) or "none"
                raise ValueError(f"{self._what} uses {{{name}}}, but the values are: {there}")
        return self.source.format_map(values)

    def of(self, call: Callable[[], Any]) -> Any:
        """Return the key of *call*, by the arguments that a policy or a partial has bound to it.

        Raises:
            TypeError: The arguments do not fit.
            ValueError: A value that the template needs is not there.
        """
        function, args, named = _bound(call)
        if not isinstance(self.source, str):
            return self.source(*args, **named)
        return self.filled(_by_name(function, args, named) if self.fields else {})


def _fields(template: str, what: str, depth: int = 1) -> Iterator[str]:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{what} {template!r:.80} is no template: {error}") from error
    for _, field, spec, _ in parts:
        if field is None:
            continue
        name = _NAME.match(field)[0]  # type: ignore[index]  # it matches anything
        if not name.isidentifier():
            shown = "{" + field + "}"
            raise ValueError(f"{what} {template!r:.80} has the field {shown}: a name is needed")
        yield name
        if spec and depth < _DEEPEST:
            yield from _fields(spec, what, depth + 1)


def _bound(call: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the function that is called in the end, and with what."""
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    while True:
        if isinstance(call, partial):
            args, named = (*call.args, *args), {**call.keywords, **named}
            call = call.func
        elif args and (call is _not_async or _is_of_policy(call)):
            call, args = args[0], args[1:]
        else:
            return call, args, named


def _is_of_policy(call: Any) -> bool:
    return isinstance(getattr(call, "__self__", None), Policy)


def _by_name(
    function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    plain = getattr(function, "__func__", None)
    if plain is not None:  # a method, with its object
        function, args = plain, (function.__self__, *args)  # type: ignore[attr-defined]
    names, defaults, signature = _signature(function)
    if signature is None:
        return {**defaults, **dict(zip(names, args, strict=False)), **named}
    bound = signature.bind(*args, **named)
    bound.apply_defaults()
    return {**bound.arguments, **named}


@lru_cache(maxsize=256)
def _signature(
    function: Callable[..., Any],
) -> tuple[tuple[str, ...], dict[str, Any], inspect.Signature | None]:
    """Return the names of what can be given by place, the defaults, and the rest if need be."""
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = tuple(each.name for each in parameters if each.kind in places)
    has_rest = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return names, defaults, signature if has_rest else None
