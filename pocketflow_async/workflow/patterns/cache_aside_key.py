"""From the inputs of a node to the key of a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pocketflow_async.resilience.keys import Key
from pocketflow_async.workflow.function_work import has_signature, name_of_function, needs_of
from pocketflow_async.workflow.spec import Context, Port, Ports

_WHAT = "cache_key_template"


class CacheKey:
    """Makes the key of a node's inputs.

    Args:
        source: A template such as `"{user}:{page}"`, or a function of inputs by name.

    Raises:
        TypeError: It is neither, or the function does not tell what it takes.
        ValueError: The template is none.
    """

    def __init__(self, source: str | Callable[..., Any]) -> None:
        self._key = Key(source, _WHAT)
        self._function = None if isinstance(source, str) else source
        if self._function is not None and not has_signature(self._function):
            raise TypeError(f"{_WHAT}: {source!r:.80} does not tell which inputs it takes")
        self._needs = None if self._function is None else needs_of(self._function)

    def __repr__(self) -> str:
        return f"CacheKey({self._key.source!r:.80})"

    @property
    def inputs(self) -> Ports:
        """The inputs that it is made of."""
        needs = self._needs
        if needs is None:
            return Ports({name: Port(name) for name in self._key.fields}, open=False)
        known = {name: Port(name, None, name in needs.required) for name in needs.names()}
        return Ports(known, open=needs.anything)

    def of(self, inputs: Mapping[str, Any], context: Context) -> str:
        """Return the key.

        Raises:
            TypeError: The function's key is no text, or it lacks an input.
            ValueError: The template lacks an input; names those that are there.
        """
        if self._function is None or self._needs is None:
            return self._key.filled(inputs)
        name = f"{name_of_function(self._function)}()"
        given, named = self._needs.bind(inputs, context, name)
        key = self._function(*given, **named)
        if not isinstance(key, str):
            raise TypeError(f"{_WHAT}: {name} must return a text, not {key!r:.80}")
        return key
