"""Loading the flow that `MODULE:FLOW` or `FILE.py:FLOW` names.

A flow is known by its `to_mermaid` method: this package does not import the engine.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable


class TargetError(Exception):
    """A `MODULE:FLOW` does not lead to a flow; the message says where it ends."""


@runtime_checkable
class Drawable(Protocol):
    """The part of a flow that this command needs."""

    def to_mermaid(self) -> str:
        """Return the flow as Mermaid text."""

    def validate(self) -> Any:
        """Return what is wrong with the flow, if anything."""


def load_flow(target: str) -> Drawable:
    """Return the flow that *target* names.

    What the module prints while it is imported goes to standard error.

    Raises:
        TargetError: *target* is malformed, cannot be imported, or is no flow.
    """
    place, colon, path = target.rpartition(":")
    if not (colon and place and path):
        raise TargetError(
            f"{target!r} names no flow: write package.module:flow or path/to/file.py:flow"
        )
    with contextlib.redirect_stdout(sys.stderr):
        module = _module(place)
        return _flow(_attribute(module, path, place), target)


def _module(place: str) -> ModuleType:
    as_file = place.endswith(".py") or "/" in place or "\\" in place
    try:
        return _from_file(Path(place)) if as_file else _from_name(place)
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        raise TargetError(f"cannot import {place}: {_cause(error)}") from error


def _from_name(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise TargetError(f"cannot import {file}: there is no such file")
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise TargetError(f"cannot import {file}: a Python file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _cause(error: BaseException) -> str:
    """Return what went wrong, and the last line outside the import machinery where it did."""
    said = traceback.format_exception_only(error)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(("<frozen", __file__))]
    theirs = [frame for frame in theirs if "importlib" not in Path(frame.filename).parts]
    return f"{said} (at {theirs[-1].filename}:{theirs[-1].lineno})" if theirs else said


def _attribute(module: ModuleType, path: str, place: str) -> Any:
    found: Any = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TargetError(f"{place} has no {path!r}. {_offer(module, place)}") from None
    return found


def _offer(module: ModuleType, place: str) -> str:
    names = flows_in(module)
    if not names:
        return "There is no flow in it."
    return "Flows in it: " + ", ".join(f"{place}:{name}" for name in names)


def flows_in(module: ModuleType) -> list[str]:
    """Return the names of flows, and of flow classes defined in *module*."""
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and _draws(value)
        and (not inspect.isclass(value) or value.__module__ == module.__name__)
    )


def _draws(value: object) -> bool:
    return callable(getattr(value, "to_mermaid", None))


def _flow(found: Any, target: str) -> Drawable:
    if inspect.isclass(found) or (callable(found) and not _draws(found)):
        found = _build(found, target)
    if not _draws(found):
        raise TargetError(
            f"{target} is {_kind(found)}, not a flow: name a flow of pocketflow_async, a class of "
            "one that takes no arguments, or a function that takes none and returns one"
        )
    flow: Drawable = found
    return flow


def _build(maker: Any, target: str) -> Any:
    if inspect.isclass(maker) and not _draws(maker):
        raise TargetError(f"{target} is the class {maker.__qualname__}, which is not a flow")
    try:
        inspect.signature(maker).bind()
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"{target} cannot be called without arguments ({error}): "
            "name a flow, or a function that builds it"
        ) from None
    try:
        return maker()
    except (Exception, SystemExit) as error:
        raise TargetError(f"calling {target} failed: {_cause(error)}") from error


def _kind(value: object) -> str:
    if inspect.iscoroutine(value):
        value.close()
        return "an async function"
    kind = type(value)
    place = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return "None" if value is None else f"of type {place}{kind.__qualname__}"
