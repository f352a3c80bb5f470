"""From plain data, which may be written by hand, to a workflow; all mistakes are named at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from pocketflow_async.workflow.encode import DEEPEST, IMPORT, VERSION, WORKFLOW
from pocketflow_async.workflow.errors import CyclicDependencyError, WorkflowError
from pocketflow_async.workflow.ports import did_you_mean
from pocketflow_async.workflow.references import resolve
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow
from pocketflow_async.workflow.validate import problems, refusal

Pointer: TypeAlias = tuple[str | int, ...]
"""The way to a value in a document."""

Show: TypeAlias = Callable[[Pointer], str]
"""Says where in its file a value stands."""

Remake: TypeAlias = Callable[[NodeSpec], NodeSpec]
"""Gives a node that was read its work and ports; raises what is wrong with its config."""

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a value has to be."""

    text: str
    holds: Callable[[Any], bool]


_TEXT: Final = _Kind("a text", lambda value: isinstance(value, str))
_FILLED: Final = _Kind(
    "a text that is not empty", lambda value: isinstance(value, str) and value != ""
)
_LIST: Final = _Kind("a list", lambda value: isinstance(value, list))
_OBJECT: Final = _Kind("an object", lambda value: isinstance(value, dict))
_TRUTH: Final = _Kind("true or false", lambda value: isinstance(value, bool))
_SECONDS: Final = _Kind(
    "a number of seconds above 0",
    lambda value: type(value) in (int, float) and value > 0,
)
_COUNT: Final = _Kind("a whole number from 1", lambda value: type(value) is int and value > 0)
_TEXTS: Final = _Kind(
    "a list of texts",
    lambda value: isinstance(value, list) and all(isinstance(part, str) for part in value),
)
_FUNCTION: Final = _Kind(
    f"a function, {{{IMPORT!r}: 'module:name'}},",
    lambda value: isinstance(value, dict) and IMPORT in value,
)

_WORKFLOW_KEYS: Final = {
    "version": _Kind(str(VERSION), lambda value: value is not True and value == VERSION),
    "name": _FILLED,
    "workflow_id": _FILLED,
    "description": _TEXT,
    "metadata": _OBJECT,
    "nodes": _LIST,
    "connections": _LIST,
    "aliases": _OBJECT,
}
_NODE_KEYS: Final = {
    "id": _FILLED,
    "type": _FILLED,
    "config": _OBJECT,
    "wrapped": _TRUTH,
    "timeout": _SECONDS,
    "max_concurrent_tasks": _COUNT,
    "retry_policy": _OBJECT,
    "error_handler": _OBJECT,
    "required_resources": _TEXTS,
    "condition": _FUNCTION,
    "description": _TEXT,
}
_EDGE_KEYS: Final = {"from": _FILLED, "output": _FILLED, "to": _FILLED, "input": _FILLED}


def decode(
    document: Any,
    *,
    remake: Remake,
    new_id: Callable[[], str],
    show: Show,
    noted: Iterable[tuple[Pointer, str]] = (),
) -> Workflow:
    """Return the workflow that *document* describes.

    Args:
        document: Plain data, as `encode` makes it.
        remake: Gives each node its work and ports.
        new_id: Makes an id for a workflow that has none.
        show: Says where a value stands.
        noted: Mistakes that are known already.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle, and nothing else is wrong.
        WorkflowValidationError: Something is wrong with it; all of it is named.
    """
    decoder = _Decoder(remake, new_id, show, list(noted))
    workflow = decoder.workflow(document, ())
    mistakes = [f"{show(place)}: {text}" for place, text in decoder.mistakes]
    if mistakes or workflow is None:
        only_circles = len(decoder.circles) == len(mistakes)
        raise CyclicDependencyError(decoder.circles[0]) if only_circles else refusal(mistakes)
    return workflow


class _Decoder:
    """Reads a document and notes what is wrong with it and where."""

    def __init__(
        self,
        remake: Remake,
        new_id: Callable[[], str],
        show: Show,
        mistakes: list[tuple[Pointer, str]],
    ) -> None:
        self._remake = remake
        self._new_id = new_id
        self._show = show
        self.mistakes = mistakes
        self.circles: list[tuple[str, ...]] = []

    def workflow(self, document: Any, at: Pointer) -> Workflow | None:
        fields = self._fields(document, at, _WORKFLOW_KEYS, ("nodes",))
        if fields is None:
            return None
        nodes = self._nodes(fields.get("nodes", ()), (*at, "nodes"))
        edges = self._edges(fields.get("connections", ()), (*at, "connections"))
        aliases = self._aliases(fields.get("aliases", {}), (*at, "aliases"))
        self._graph(nodes, edges, aliases, at)
        return Workflow(
            workflow_id=fields.get("workflow_id") or self._new_id(),
            name=fields.get("name", "workflow"),
            nodes=MappingProxyType({node_id: spec for node_id, (spec, _) in nodes.items()}),
            connections=tuple(edge for edge, _ in edges),
            metadata=self._value(fields.get("metadata", {}), (*at, "metadata")),
            aliases=aliases,
            description=fields.get("description", ""),
        )

    def _fields(
        self, document: Any, at: Pointer, keys: Mapping[str, _Kind], needed: Iterable[str]
    ) -> dict[str, Any] | None:
        """Return what is right of the fields of an object; None: it is none."""
        if not isinstance(document, dict):
            self._wrong(at, f"an object with {', '.join(keys)} is needed, not {_shown(document)}")
            return None
        right: dict[str, Any] = {}
        for key, value in document.items():
            kind = keys.get(key) if isinstance(key, str) else None
            if kind is None:
                self._wrong((*at, key), _unknown_key(key, keys))
            elif value is None and key not in needed:
                continue  # like a field that is not there
            elif not kind.holds(value):
                self._wrong((*at, key), f"{kind.text} is needed, not {_shown(value)}")
            else:
                right[key] = value
        for key in needed:
            if key not in document:
                self._wrong(at, f"{key!r} is missing")
        return right

    def _nodes(self, found: Iterable[Any], at: Pointer) -> dict[str, tuple[NodeSpec, Pointer]]:
        nodes: dict[str, tuple[NodeSpec, Pointer]] = {}
        for number, document in enumerate(found):
            place = (*at, number)
            fields = self._fields(document, place, _NODE_KEYS, ("id", "type"))
            if fields is None or "id" not in fields:
                continue
            node_id = fields["id"]
            if node_id in nodes:
                first = self._show(nodes[node_id][1])
                self._wrong((*place, "id"), f"node {node_id!r} is there already, at {first}")
                continue
            nodes[node_id] = (self._node(fields, place), place)
        return nodes

    def _node(self, fields: dict[str, Any], at: Pointer) -> NodeSpec:
        """Return the node, with its work if it can be made."""
        before = len(self.mistakes)
        parts = {name: self._value(value, (*at, name)) for name, value in fields.items()}
        parts["required_resources"] = tuple(parts.get("required_resources", ()))
        for name, make in (("retry_policy", _retry_policy), ("error_handler", _error_handler)):
            if name in parts:
                parts[name] = self._made(make, parts[name], (*at, name))
        bare = NodeSpec(fields["id"], fields.get("type", ""))
        if len(self.mistakes) > before or "type" not in fields:
            return bare
        return self._made(self._remake, NodeSpec(**parts), at) or bare

    def _made(self, make: Callable[[Any], Any], given: Any, at: Pointer) -> Any:
        """Return what *make* makes of *given*, or note why it does not."""
        try:
            return make(given)
        except (WorkflowError, TypeError, ValueError, LookupError) as error:
            for line in getattr(error, "problems", None) or [str(error)]:
                self._wrong(at, line)
            return None

    def _edges(self, found: Iterable[Any], at: Pointer) -> list[tuple[Edge, Pointer]]:
        edges: list[tuple[Edge, Pointer]] = []
        for number, document in enumerate(found):
            place = (*at, number)
            fields = self._fields(document, place, _EDGE_KEYS, ("from", "to", "input"))
            if fields is not None and fields.keys() >= {"from", "to", "input"}:
                edge = Edge(fields["from"], fields.get("output"), fields["to"], fields["input"])
                edges.append((edge, place))
        return edges

    def _aliases(self, found: Mapping[Any, Any], at: Pointer) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for alias, node_id in found.items():
            if isinstance(alias, str) and isinstance(node_id, str):
                aliases[alias] = node_id
            else:
                self._wrong((*at, alias), "an alias and the id of its node are texts")
        return aliases

    def _graph(
        self,
        nodes: Mapping[str, tuple[NodeSpec, Pointer]],
        edges: list[tuple[Edge, Pointer]],
        aliases: Mapping[str, str],
        at: Pointer,
    ) -> None:
        specs = {node_id: spec for node_id, (spec, _) in nodes.items()}
        for problem in problems(specs, [edge for edge, _ in edges], aliases):
            if problem.edge is not None:
                place = edges[problem.edge][1]
            elif problem.node is not None:
                place = nodes[problem.node][1]
            else:
                place = (*at, "aliases")
            self._wrong(place, problem.text)
            if problem.circle:
                self.circles.append(problem.circle)

    def _value(self, value: Any, at: Pointer) -> Any:
        """Return *value* with functions and workflows instead of what stands for them."""
        if isinstance(value, list | dict) and len(at) > 3 * DEEPEST:
            return self._wrong(at, f"more than {DEEPEST} containers inside each other")
        if isinstance(value, list):
            return [self._value(part, (*at, place)) for place, part in enumerate(value)]
        if not isinstance(value, dict):
            return value
        special = next((key for key in (IMPORT, WORKFLOW) if key in value), None)
        if special is not None:
            return self._special(special, value, at)
        right: dict[str, Any] = {}
        for key, part in value.items():
            name = self._key(key, (*at, key))
            if name is not None:
                right[name] = self._value(part, (*at, key))
        return right

    def _key(self, key: Any, at: Pointer) -> str | None:
        if not isinstance(key, str):
            self._wrong(at, f"a key is a text, not {_shown(key)}: put it in quotes")
            return None
        if key.startswith("$"):
            if not key.startswith("$$"):
                known = f"{IMPORT} and {WORKFLOW} have a meaning"
                self._wrong(at, f"{key!r}: of these only {known}; for a plain key: '${key}'")
            return key[1:]
        return key

    def _special(self, key: str, value: dict[Any, Any], at: Pointer) -> Any:
        place = (*at, key)
        if len(value) > 1:
            return self._wrong(at, f"{key!r} stands alone, without {len(value) - 1} other keys")
        if key == WORKFLOW:
            return self.workflow(value[key], place)
        if not isinstance(value[key], str):
            return self._wrong(place, f"'module:name' is needed, not {_shown(value[key])}")
        return self._made(resolve, value[key], place)

    def _wrong(self, at: Pointer, text: str) -> None:
        self.mistakes.append((at, text))


def _retry_policy(given: Any) -> Any:
    from pocketflow_async.workflow.policies import (  # noqa: PLC0415 (few documents have one)
        RetryPolicy,
    )

    return RetryPolicy.from_dict(given)


def _error_handler(given: Any) -> Any:
    from pocketflow_async.workflow.policies import (  # noqa: PLC0415 (few documents have one)
        ErrorHandler,
    )

    return ErrorHandler.from_dict(given)


def _unknown_key(key: Any, keys: Iterable[str]) -> str:
    if not isinstance(key, str):
        return f"a key is a text, not {_shown(key)}: put it in quotes"
    return f"{key!r} means nothing here{did_you_mean(key, keys)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
