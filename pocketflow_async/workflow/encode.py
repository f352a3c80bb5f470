"""From a workflow to plain data: dicts, lists, texts, numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pocketflow_async.workflow.references import reference
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow
from pocketflow_async.workflow.validate import refusal

VERSION: Final = 1
"""Of the format."""

DEEPEST: Final = 50
"""So many containers may stand inside each other."""

IMPORT: Final = "$import"
"""Key of a reference to a function or class: `{"$import": "module:name"}`."""

WORKFLOW: Final = "$workflow"
"""Key of a workflow inside a node: `{"$workflow": {…}}`."""


def encode(workflow: Workflow) -> dict[str, Any]:
    """Return *workflow* as plain data.

    Raises:
        WorkflowValidationError: Something in it cannot be saved; all of it is named.
    """
    problems: list[str] = []
    document = _Encoder(problems, 0).workflow(workflow)
    if problems:
        raise refusal(problems)
    return document


class _Encoder:
    """Makes plain data and notes what cannot be."""

    def __init__(self, problems: list[str], depth: int, within: str = "") -> None:
        self._problems = problems
        self._depth = depth
        self._within = within

    def workflow(self, workflow: Workflow) -> dict[str, Any]:
        metadata = {name: fact for name, fact in workflow.metadata.items() if name[:1] != "_"}
        document = {
            "version": VERSION,
            "name": workflow.name,
            "workflow_id": workflow.workflow_id,
            "description": workflow.description,
            "metadata": self._plain(metadata, f"{self._within}metadata", 0),
            "nodes": [self._node(spec) for spec in workflow.nodes.values()],
            "connections": [_edge(edge) for edge in workflow.connections],
            "aliases": dict(workflow.aliases),
        }
        optional = ("description", "metadata", "connections", "aliases")
        return {key: part for key, part in document.items() if part or key not in optional}

    def _node(self, spec: NodeSpec) -> dict[str, Any]:
        place = f"{self._within}node {spec.id!r}"
        parts = {
            "config": dict(spec.config),
            "wrapped": spec.wrapped or None,
            "timeout": spec.timeout,
            "max_concurrent_tasks": spec.max_concurrent_tasks,
            "retry_policy": _policy(spec.retry_policy),
            "error_handler": _handler(spec.error_handler),
            "required_resources": list(spec.required_resources) or None,
            "condition": spec.condition,
            "description": spec.description,
        }
        plain = {
            name: self._plain(part, f"{place}: {name}", 0)
            for name, part in parts.items()
            if part is not None
        }
        return {"id": spec.id, "type": spec.type, **plain}

    def _plain(self, value: Any, place: str, depth: int) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float and math.isfinite(value):
            return value
        if depth + self._depth >= DEEPEST:
            return self._refuse(place, f"more than {DEEPEST} containers inside each other")
        return self._container(value, place, depth + 1)

    def _container(self, value: Any, place: str, depth: int) -> Any:
        if isinstance(value, Mapping):
            return dict(self._items(value, place, depth))
        if isinstance(value, list | tuple):
            return [self._plain(part, f"{place}/{at}", depth) for at, part in enumerate(value)]
        if isinstance(value, Workflow):
            inner = _Encoder(self._problems, depth + self._depth, f"{place}: ")
            return {WORKFLOW: inner.workflow(value)}
        if callable(value):
            return self._reference(value, place)
        return self._refuse(place, f"{_shown(value)} cannot be saved")

    def _items(self, value: Mapping[Any, Any], place: str, depth: int) -> Iterator[tuple[str, Any]]:
        for key, part in value.items():
            if not isinstance(key, str):
                self._refuse(place, f"key {key!r} is not a text, so it cannot be saved")
                continue
            # What begins with a dollar has a meaning of its own in a saved workflow.
            yield (
                ("$" + key if key.startswith("$") else key),
                self._plain(part, f"{place}/{key}", depth),
            )

    def _reference(self, value: Any, place: str) -> Any:
        try:
            return {IMPORT: reference(value)}
        except ValueError as error:
            return self._refuse(place, f"{_shown(value)} cannot be saved: {error}")

    def _refuse(self, place: str, text: str) -> None:
        self._problems.append(f"{place}: {text}")


def _edge(edge: Edge) -> dict[str, Any]:
    output = {} if edge.output is None else {"output": edge.output}
    return {"from": edge.source, **output, "to": edge.target, "input": edge.input}


_SAME: Final = {
    "max_retries": "max_attempts",
    "base_delay": "initial_delay",
    "retry_on": "retry_exceptions",
}


def _policy(policy: Any) -> dict[str, Any] | None:
    """Return the facts of a policy, each under one of its two names."""
    if policy is None:
        return None
    facts: dict[str, Any] = policy.to_dict()
    return {
        name: fact
        for name, fact in facts.items()
        if fact is not None and _SAME.get(name) not in facts
    }


def _handler(handler: Any) -> dict[str, Any] | None:
    if handler is None:
        return None
    names = ("handler_type", "fallback_value", "custom_handler", "log_level")
    return {name: part for name in names if (part := getattr(handler, name)) is not None}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return str(value)
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else f"an object of type {type(value).__name__}"
