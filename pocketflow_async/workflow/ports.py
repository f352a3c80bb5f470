"""From what a node has yielded to what an edge carries."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pocketflow_async.wording import a
from pocketflow_async.workflow.errors import PortError
from pocketflow_async.workflow.spec import NodeSpec, Port
from pocketflow_async.workflow.types import name_of_type, step

RESULT: Final = "result"
"""The port that is always there: all of what a node has made."""

_MISSING: Final = object()


def take(value: Any, path: str | None, *, wrapped: bool, node_id: str) -> Any:
    """Return what is found at *path* in what a node has yielded.

    None is all of it. `result` is what the node's code has made: what is under that name if the
    node is *wrapped*, else all of it. Any other path leads on from there: keys, fields of
    dataclasses and named tuples, places in lists, joined by dots. A key that holds dots itself
    goes before its parts.

    Args:
        value: What stands in the results of the run for this node.
        path: A port or dotted path, or None.
        wrapped: Whether the node yields `{"result": value}`.
        node_id: The node, for the error.

    Raises:
        PortError: There is nothing there; names what is.
    """
    if path is None:
        return value
    if wrapped and isinstance(value, Mapping) and RESULT in value:
        found, place = _walk(value, path)
    elif path == RESULT:
        return value
    else:
        found, place = _walk(value, path)
        if found is _MISSING and path.startswith(RESULT + "."):
            found, place = _walk(value, path[len(RESULT) + 1 :])
    if found is _MISSING:
        raise PortError(_missing_text(value, path, place, wrapped, node_id))
    return found


def _walk(value: Any, path: str) -> tuple[Any, Any]:
    """Return what is at *path*, or what was found last if there is nothing."""
    rest: str | None = path
    while rest is not None:
        found = _at(value, rest)
        if found is not _MISSING:
            return found, value
        name, dot, tail = rest.partition(".")
        found = _at(value, name) if dot else _MISSING
        if found is _MISSING:
            return _MISSING, value
        value, rest = found, tail
    return value, value


def _at(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, _MISSING)
    if name in _field_names(value):
        return getattr(value, name)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return _in_list(value, name)
    return _MISSING


def _in_list(value: Sequence[Any], name: str) -> Any:
    digits = name.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return _MISSING
    place = int(name)
    return value[place] if -len(value) <= place < len(value) else _MISSING


def _field_names(value: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(field.name for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return tuple(getattr(value, "_fields", ()))
    return ()


def _missing_text(value: Any, path: str, place: Any, wrapped: bool, node_id: str) -> str:
    text = f"node {node_id!r} has no output {_short(path)}: {_contents(place)}"
    made = value[RESULT] if wrapped and isinstance(value, Mapping) and RESULT in value else None
    if made is not None and _walk(made, path)[0] is not _MISSING:
        return f"{text}; did you mean {RESULT + '.' + path!r}?"
    names = [name for name in _names(place) if isinstance(name, str)]
    wanted = path.rpartition(".")[2] if place is not value else path
    return text + did_you_mean(wanted, names)


def _names(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Mapping) else list(_field_names(value))


def _contents(value: Any) -> str:
    """Say what is there instead."""
    kind = type(value).__name__
    names = _names(value)
    if names:
        return f"there is {a(kind)} with {listed(names)}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return f"there is {a(kind)} of {len(value)}"
    return f"there is {'None' if value is None else a(kind)}, which has no parts by name"


def listed(names: Iterable[Any], most: int = 10) -> str:
    """Return *names* for people, in quotes, at most *most* of them."""
    every = list(names)
    text = ", ".join(_short(name) for name in every[:most])
    return text if len(every) <= most else f"{text} and {len(every) - most} more"


def _short(name: Any, most: int = 60) -> str:
    text = repr(name)
    return text if len(text) <= most else f"{text[:most]}…"


def did_you_mean(word: object, words: Iterable[str], most: int = 1000) -> str:
    """Return "; did you mean …?" for the one of *words* that is like *word*, or nothing.

    Nothing either for a word of more than 100 letters or more than *most* words: it takes long.
    """
    known = list(words)
    if not isinstance(word, str) or len(word) > 100 or len(known) > most:
        return ""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def find_port(spec: NodeSpec, path: str | None) -> Port | None:
    """Return what is known, before any run, of the output of *spec* at *path*; None: nothing.

    Raises:
        PortError: It is certain that there will be nothing.
    """
    known = spec.outputs.known
    if path is None:
        return None if spec.wrapped else known.get(RESULT)
    inside = path.removeprefix(RESULT + ".")
    if path == RESULT:
        return known.get(RESULT)
    if spec.wrapped and inside == path:
        raise PortError(_unwrapped_text(spec, path))
    if path in known or inside in known:
        return known.get(path) or known[inside]
    name, dot, rest = inside.partition(".")
    if name in known and dot:
        return _deeper(spec, known[name], rest, path)
    if known.keys() == {RESULT} and (
        inside != path or spec.outputs.open or known[RESULT].annotation is not None
    ):  # else all that it yields is a key of that name
        return _deeper(spec, known[RESULT], inside, path)
    if spec.outputs.open:
        return None
    raise PortError(_unknown_text(spec, path, name))


def _unwrapped_text(spec: NodeSpec, path: str) -> str:
    hint = ""
    known = spec.outputs.known
    if spec.outputs.open or known.keys() <= {RESULT} or path.partition(".")[0] in known:
        hint = f"; did you mean {RESULT + '.' + path!r}?"
    return f"node {spec.id!r} yields {{'result': …}}, so it has no output {path!r}{hint}"


def _unknown_text(spec: NodeSpec, path: str, name: str) -> str:
    names = dict.fromkeys([*spec.outputs.known, RESULT])
    text = f"node {spec.id!r} has no output {path!r}: its outputs are {listed(names)}"
    return text + did_you_mean(name, names)


def _deeper(spec: NodeSpec, port: Port, rest: str, path: str) -> Port | None:
    annotation = port.annotation
    for name in rest.split("."):
        if annotation is None:
            return None
        try:
            annotation = step(annotation, name)
        except LookupError:
            text = f"node {spec.id!r} has no output {path!r}: nothing is called {name!r} in "
            raise PortError(f"{text}{name_of_type(annotation)}") from None
    return Port(path, annotation)
