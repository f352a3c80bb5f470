"""What `add_node` is given, whatever it is, as a type of node and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketflow_async.flows import Flow
from pocketflow_async.nodes import BaseNode
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.node_specs import KINDS, parted
from pocketflow_async.workflow.ports import did_you_mean, listed
from pocketflow_async.workflow.spec import Workflow

CODE_NODES = ("PythonCodeNode", "AsyncPythonCodeNode")


@dataclass(frozen=True, slots=True)
class Addition:
    """A node to be.

    Attributes:
        kind: Its type.
        config: What it is made of.
        options: What can be said about any node.
        wrapped: Whether it yields `{"result": value}`.
    """

    kind: str
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    wrapped: bool = False


def added(thing: Any, config: Any, options: Mapping[str, Any]) -> Addition:
    """Return what kind of node *thing* makes.

    Args:
        thing: Name of a type, class of a node or flow, or what a node is made of.
        config: What was given with it.
        options: What was said besides.

    Raises:
        TypeError: It makes no node, or the config is no dict or of no use.
        WorkflowValidationError: There is no type of that name.
    """
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config must be a dict, not {config!r:.80}")
    if isinstance(thing, type) and thing.__name__ in CODE_NODES and _is_code_node(thing):
        thing = thing.__name__
    if isinstance(thing, str):
        return _of_type(thing, {**(config or {}), **options})
    if isinstance(thing, type) and issubclass(thing, BaseNode):
        parts = {"node_class": thing, "arguments": dict(config or {})}
        return Addition("Flow" if issubclass(thing, Flow) else "Node", parts, options)
    if isinstance(thing, type) and _is_work(thing):
        thing, config = thing(**(config or {})), None
    if config:
        raise TypeError(f"config goes with a type or a class; {thing!r:.80} is made already")
    return _of_object(thing, options)


def _of_type(kind: str, given: Mapping[str, Any]) -> Addition:
    if kind not in KINDS:
        guess = did_you_mean(kind, KINDS)
        raise WorkflowValidationError(
            f"there is no type of node {kind!r:.80}{guess}; there is {listed(KINDS, 20)}"
        )
    config, options = parted(kind, given)
    return Addition(kind, config, options, wrapped=kind in CODE_NODES)


def _of_object(thing: Any, options: Mapping[str, Any]) -> Addition:
    if isinstance(thing, BaseNode):
        return Addition("Flow" if isinstance(thing, Flow) else "Node", {"node": thing}, options)
    if isinstance(thing, Workflow) or _is_builder(thing):
        return Addition("Workflow", {"workflow": thing}, options)
    if _is_code_node(type(thing)) and type(thing).__name__ in CODE_NODES:
        return _of_code_node(thing, options)
    if _is_work(thing):
        return Addition(
            "Work", {"work": thing}, options, wrapped=getattr(thing, "wrapped", False) is True
        )
    if callable(thing):
        return Addition("Function", {"function": thing}, options)
    raise TypeError(
        "a node is made of the name of a type, the class of a node, a node, a flow, a workflow or "
        f"a function, not of {thing!r:.80}"
    )


def _is_work(thing: Any) -> bool:
    return hasattr(thing, "is_async") and callable(getattr(thing, "run", None))


def _is_builder(thing: Any) -> bool:
    return (
        not isinstance(thing, type)
        and callable(getattr(thing, "build", None))
        and hasattr(thing, "add_connection")
    )


def _is_code_node(cls: type) -> bool:
    return cls.__module__ == "pocketflow_async.nodes.code"


def _of_code_node(node: Any, options: Mapping[str, Any]) -> Addition:
    """Return the node that a code node on its own is in a workflow, with its own options."""
    own = ("timeout", "max_concurrent_tasks", "description")
    said = {name: getattr(node, name) for name in own if getattr(node, name, None) is not None}
    code = node.work.function if node.code is None else node.code
    return Addition(type(node).__name__, {"code": code}, {**said, **options}, wrapped=True)
