"""Functions and classes as text: `module:name`, and back."""

from __future__ import annotations

import importlib
import inspect
from typing import Any


def reference(value: Any) -> str:
    """Return the text that `resolve` turns into *value* again.

    Raises:
        ValueError: There is none: a lambda, a bound method, or something made inside a function.
    """
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError(f"{_kind(value)} has no name that leads back to it")
    if "<lambda>" in name:
        raise ValueError("a lambda has no name that leads back to it: make it a function")
    if "<locals>" in name:
        raise ValueError(f"{name} is made inside a function: move it to the top of its module")
    text = f"{module}:{name}"
    try:
        found = resolve(text)
    except ValueError:
        found = None
    if found is not value and (not inspect.ismethod(value) or found != value):
        raise ValueError(f"the name {text} does not lead back to it")
    return text


def resolve(text: str) -> Any:
    """Return what *text* names; its module is imported, so it has to be trusted like code.

    Raises:
        ValueError: It is not written like `module:name`, or there is nothing of that name.
    """
    module, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in f"{module}.{name}".split(".")):
        raise ValueError(f"{text!r} is not written like 'module:name'")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # it runs its author's code, which may raise anything
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(f"{text!r}: module {module} cannot be imported ({problem})") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{text!r}: there is no {part!r} in {module}") from None
    return found


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"
