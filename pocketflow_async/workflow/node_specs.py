"""From what a node is made of to its spec: one maker for each type of node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any, Final

from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.flow_work import NodeWork, WorkflowWork
from pocketflow_async.workflow.function_work import FunctionWork, has_signature
from pocketflow_async.workflow.map_work import MapOptions, MapWork, OfFunction
from pocketflow_async.workflow.node_options import OPTIONS, check_id, check_names, check_options
from pocketflow_async.workflow.ports import did_you_mean, listed
from pocketflow_async.workflow.resource_work import ResourceWork
from pocketflow_async.workflow.scatter_gather import GatherWork
from pocketflow_async.workflow.spec import NodeSpec, Ports, Workflow

CODE_TIMEOUT: Final = 30
"""Seconds that an asynchronous code node may take unless it is said otherwise."""

CODE_TASKS: Final = 10
"""Most tasks that an asynchronous code node may have at work unless it is said otherwise."""

_WITHOUT_EFFECT: Final = frozenset({"imports", "max_memory_mb", "sandbox_mode"})
"""What others take for a code node and we do not need: full builtins, trusted code."""


def make_spec(
    kind: str,
    node_id: str,
    config: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    wrapped: bool = False,
) -> NodeSpec:
    """Make the spec of a node, with the work that it does.

    Args:
        kind: Its type, see `KINDS`.
        node_id: Its id.
        config: What it is made of; depends on the type.
        options: What can be said about any node: timeout, retry_policy …
        wrapped: For code and functions: whether it yields `{"result": value}`.

    Raises:
        TypeError: Something is of a wrong type, or unknown.
        ValueError: Something is out of range.
        WorkflowValidationError: The id cannot be one, or the code is no code.
    """
    check_id(node_id)
    if kind not in _MAKERS:
        guess = did_you_mean(kind, KINDS)
        raise WorkflowValidationError(
            f"node {node_id!r}: there is no type {kind!r}{guess}; there is {listed(KINDS, 20)}"
        )
    make, taken = _MAKERS[kind]
    check_names(config, taken, f"node {node_id!r} ({kind})", OPTIONS)
    return make(kind, node_id, dict(config), check_options(node_id, options or {}), wrapped)


_Options = dict[str, Any]


def _code(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    from pocketflow_async.workflow.code import compile_code  # noqa: PLC0415 (only for code)
    from pocketflow_async.workflow.code_work import CodeWork  # noqa: PLC0415

    code = config.get("code")
    if callable(code):
        return _function("Function", node_id, {"function": code}, options, wrapped)
    if not isinstance(code, str):
        shown = "nothing" if code is None else f"{code!r:.80}"
        raise TypeError(f"node {node_id!r}: code must be a string or a function, not {shown}")
    if not code.strip():
        raise WorkflowValidationError(f"node {node_id!r}: Code cannot be empty")
    is_async = kind == "AsyncPythonCodeNode"
    allow = _allowed(node_id, config)
    compiled = compile_code(code, node_id=node_id, is_async=is_async, allow=allow)
    most = options.get("max_concurrent_tasks")
    work = CodeWork(compiled, wrapped=wrapped, max_concurrent_tasks=most)
    return NodeSpec(
        node_id,
        kind,
        config,
        work,
        inputs=work.inputs,
        outputs=work.outputs,
        wrapped=wrapped,
        **options,
    )


def _allowed(node_id: str, config: Mapping[str, Any]) -> frozenset[str]:
    allow = config.get("allow")
    if allow is None:
        return frozenset()
    if isinstance(allow, str | bytes) or not isinstance(allow, Collection):
        raise TypeError(f"node {node_id!r}: allow must be a list of names, not {allow!r:.80}")
    return frozenset(allow)


def _function(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    function = config.get("function")
    if not callable(function):
        raise TypeError(f"node {node_id!r}: a function is needed, not {function!r:.80}")
    if not has_signature(function):
        raise TypeError(
            f"node {node_id!r}: {function!r:.80} does not tell which inputs it takes: wrap it in a "
            "function that does, such as lambda items: …"
        )
    work = FunctionWork(function, options.get("required_resources", ()), wrapped)
    return NodeSpec(
        node_id,
        kind,
        config,
        work,
        inputs=work.inputs,
        outputs=work.outputs,
        wrapped=wrapped,
        **options,
    )


def _node(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    try:
        node = config["node"] if "node" in config else _instance(config)
        work = NodeWork(node, config.get("outputs"))
    except TypeError as error:
        raise TypeError(f"node {node_id!r}: {error}") from error
    return NodeSpec(node_id, kind, config, work, outputs=work.outputs, **options)


def _instance(config: Mapping[str, Any]) -> Any:
    """Return a node of the class in *config*, which can be saved, unlike a node."""
    cls = config.get("node_class")
    if not isinstance(cls, type):
        raise TypeError(f"a node or the class of one is needed, not {cls!r}")
    return cls(**config.get("arguments", {}))


def _work(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    work = config.get("work")
    if not callable(getattr(work, "run", None)) or not hasattr(work, "is_async"):
        raise TypeError(
            f"node {node_id!r}: work has is_async and run(inputs, context): {work!r:.80}"
        )
    ports: Any = {
        name: found
        for name in ("inputs", "outputs")
        if isinstance(found := getattr(work, name, None), Ports)
    }
    return NodeSpec(node_id, kind, config, work, wrapped=wrapped, **ports, **options)


def _workflow(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    workflow = config.get("workflow")
    build = getattr(workflow, "build", None)
    if callable(build) and not isinstance(workflow, type):
        workflow = config["workflow"] = build()
    if not isinstance(workflow, Workflow):
        raise TypeError(
            f"node {node_id!r}: a workflow or its builder is needed, not {workflow!r:.80}"
        )
    work = WorkflowWork(workflow)
    return NodeSpec(node_id, kind, config, work, outputs=work.outputs, **options)


_MAP_OPTIONS: Final = tuple(field.name for field in fields(MapOptions))


def _map(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    given = {name: config[name] for name in _MAP_OPTIONS if name in config}
    function = config.get("map_function")
    make: Any
    try:
        chosen = MapOptions(**given)
        if isinstance(function, str):
            from pocketflow_async.workflow.code_map import OfCode  # noqa: PLC0415 (only for code)

            make = OfCode(function, node_id, _allowed(node_id, config))
        else:
            make = OfFunction(function)  # type: ignore[arg-type]
    except WorkflowValidationError:
        raise
    except (TypeError, ValueError) as error:
        raise type(error)(f"node {node_id!r}: {error}") from error
    work = MapWork(make, chosen, make.inputs, config.get("workers"))
    return NodeSpec(
        node_id, kind, config, work, inputs=work.inputs, outputs=work.outputs, **options
    )


def _gather(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    work = GatherWork(config.get("output_field", "results"))
    return NodeSpec(
        node_id, kind, config, work, inputs=work.inputs, outputs=work.outputs, **options
    )


def _resource(
    kind: str, node_id: str, config: dict[str, Any], options: _Options, wrapped: bool
) -> NodeSpec:
    name: Any = config.get("resource_name")
    operation: Any = config.get("operation")
    try:
        work = ResourceWork(
            name,
            operation,
            config.get("params"),
            config.get("output_field", "result"),
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"node {node_id!r}: {error}") from error
    options["required_resources"] = tuple(
        dict.fromkeys((name, *options.get("required_resources", ())))
    )
    return NodeSpec(
        node_id, kind, config, work, inputs=work.inputs, outputs=work.outputs, **options
    )


_CODE_KEYS: Final = ("code", "allow")
_NODE_KEYS: Final = ("node", "node_class", "arguments", "outputs")
_MAP_KEYS: Final = ("map_function", "allow", *_MAP_OPTIONS)

_MAKERS: Final[Mapping[str, tuple[Callable[..., NodeSpec], tuple[str, ...]]]] = {
    "PythonCodeNode": (_code, _CODE_KEYS),
    "AsyncPythonCodeNode": (_code, _CODE_KEYS),
    "Function": (_function, ("function",)),
    "Node": (_node, _NODE_KEYS),
    "Flow": (_node, _NODE_KEYS),
    "Workflow": (_workflow, ("workflow",)),
    "ParallelMap": (_map, _MAP_KEYS),
    "Scatter": (_map, (*_MAP_KEYS, "workers")),
    "Gather": (_gather, ("output_field",)),
    "Resource": (_resource, ("resource_name", "operation", "params", "output_field")),
    "Work": (_work, ("work",)),
}

KINDS: Final = tuple(_MAKERS)
"""The types of nodes."""


def parted(kind: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part what was *given* for a node of a named type into its config and its options.

    An asynchronous code node gets the limits that it has unless it is said otherwise.
    """
    options = {name: value for name, value in given.items() if name in OPTIONS}
    config = {name: value for name, value in given.items() if name not in OPTIONS}
    if kind == "AsyncPythonCodeNode":
        options = {"timeout": CODE_TIMEOUT, "max_concurrent_tasks": CODE_TASKS, **options}
    if kind in ("AsyncPythonCodeNode", "PythonCodeNode"):
        config = {name: value for name, value in config.items() if name not in _WITHOUT_EFFECT}
    return config, options
