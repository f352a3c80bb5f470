"""Builds workflows: nodes, edges between them, and then one frozen, checked whole."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pocketflow_async.arguments import text
from pocketflow_async.workflow.addition import Addition, added
from pocketflow_async.workflow.connecting import DATA, Form, chosen_input
from pocketflow_async.workflow.errors import (
    ConnectionError,
    CyclicDependencyError,
    PortError,
    WorkflowValidationError,
)
from pocketflow_async.workflow.node_options import OPTIONS, check_id
from pocketflow_async.workflow.node_specs import make_spec, parted
from pocketflow_async.workflow.plan import circles, following, resolved
from pocketflow_async.workflow.ports import did_you_mean, find_port, listed
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow
from pocketflow_async.workflow.validate import check, check_edge

_Self = TypeVar("_Self", bound="WorkflowBuilder")

_log = logging.getLogger("pocketflow_async.workflow")


def new_hex() -> str:
    """Return a new id."""
    return uuid.uuid4().hex


class WorkflowBuilder:
    """Builds a workflow of nodes of any type.

    Methods that add a node return its id; those that connect return the builder. `build` may be
    called more than once: what it returns does not change when the builder does.

    Args:
        name: Name of the workflow, for people and traces; made up when left out.
        description: What it is for.
        new_id: Makes ids of workflows.
    """

    _prefix = "workflow"

    def __init__(
        self,
        name: str | None = None,
        description: str | None = None,
        *,
        new_id: Callable[[], str] = new_hex,
    ) -> None:
        if name is not None:
            text("name", name)
        if description is not None and not isinstance(description, str):
            raise TypeError(f"description must be a text, not {description!r:.80}")
        self.name = name or f"{self._prefix}_{new_id()[:8]}"
        self.description = description or ""
        self._new_id = new_id
        self._nodes: dict[str, NodeSpec] = {}
        self._edges: dict[Edge, None] = {}
        self._aliases: dict[str, str] = {}
        self._metadata: dict[str, Any] = {}

    def __repr__(self) -> str:
        counts = f"{len(self._nodes)} nodes, {len(self._edges)} connections"
        return f"<{type(self).__name__} {self.name}: {counts}>"

    @property
    def nodes(self) -> Mapping[str, NodeSpec]:
        """The nodes so far, by id."""
        return MappingProxyType(self._nodes)

    @property
    def connections(self) -> tuple[Edge, ...]:
        """The edges so far."""
        return tuple(self._edges)

    def add_node(
        self,
        node_type: Any,
        node_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Add a node; return its id.

        Args:
            node_type: The name of a type (`"PythonCodeNode"`, `"AsyncPythonCodeNode"` …), the class
                of a node or flow, or a node, flow, workflow or function itself.
            node_id: Its id; made up when left out.
            config: For a named type what it is made of, such as `{"code": …}`, and its options;
                for a class the arguments of its constructor.
            **options: `timeout` (seconds), `max_concurrent_tasks`, `retry_policy`,
                `error_handler`, `required_resources`, `condition`, `description`.

        Raises:
            TypeError: Something is of a wrong type, or unknown.
            WorkflowValidationError: The id is taken or cannot be one, there is no such type, or
                the code is no code.

        A code node yields `{"result": value}`: its ports are `result` and `result.a.b`.
        """
        what = added(node_type, config, options)
        if node_id is None:
            node_id = self._unused(what.kind)
        return self._add(node_id, what)

    def add_function(self, node_id: str, function: Callable[..., Any], **options: Any) -> str:
        """Add a function that is called with those inputs that it has parameters for."""
        return self._add(node_id, Addition("Function", {"function": function}, options))

    def add_flow(
        self, node_id: str, flow: Any, *, outputs: Sequence[str] | None = None, **options: Any
    ) -> str:
        """Add a flow or a node of the engine; its inputs are its `shared`, and so is its output.

        Args:
            node_id: Its id.
            flow: The flow or node.
            outputs: Names of the keys of `shared` that it yields; None: all.
            **options: As for `add_node`.
        """
        what = added(flow, None, options)
        if what.kind not in ("Flow", "Node"):
            raise TypeError(f"node {node_id!r}: a flow or a node is needed, not {flow!r}")
        config = what.config if outputs is None else {**what.config, "outputs": _names(outputs)}
        return self._add(node_id, Addition(what.kind, config, options))

    def add_workflow(self, node_id: str, workflow: Any, **options: Any) -> str:
        """Add a built workflow, or its builder; it yields the results of its nodes by their ids."""
        return self._add(node_id, Addition("Workflow", {"workflow": workflow}, options))

    def add_connection(
        self: _Self, from_node: str, from_output: str | None, to_node: str, to_input: str
    ) -> _Self:
        """Lead an output of a node into an input of another.

        Args:
            from_node: Id of the node that yields it.
            from_output: Port or dotted path of it; None: all of it.
            to_node: Id of the node that gets it.
            to_input: Name under which that gets it.

        Raises:
            TypeError: One of them is no text.
            ConnectionError: There is no such node, the edge is there already, or it leads to where
                it starts. Ports that are not there, and inputs fed twice, are found by `build`.
        """
        text("from_node", from_node)
        text("to_node", to_node)
        text("to_input", to_input)
        if from_output is not None:
            text("from_output", from_output)
        edge = resolved(Edge(from_node, from_output, to_node, to_input), self._aliases)
        check_edge(self._nodes, self._edges.keys(), edge, self._aliases)
        _log.debug("%s: connected %r to %r", self.name, from_node, to_node)
        self._edges[edge] = None
        return self

    def connect(
        self: _Self,
        from_node: str,
        to: str | Iterable[str],
        *more: Any,
        mapping: Mapping[str, Any] | None = None,
        from_output: str | None = None,
        to_input: str | None = None,
    ) -> _Self:
        """Connect nodes in one of several forms.

        - `connect("a", "result.data", mapping={"b": "input"})`: an output of `a` into inputs of
          others;
        - `connect("a", "b", mapping={"output": "input"})`: outputs of `a` into inputs of `b`;
        - `connect("a", "b", from_output="output", to_input="input")`; without names, `data` (of a
          code node `result`, where there is none all that `a` yields) into `data`, or all that `a`
          yields into the only input of `b`, the only one left, or the only one left that it needs;
        - `connect("a", "output", "b", "input")`;
        - `connect("a", ["b", "c"], …)`: any of those with several nodes.

        If the second argument is the id of a node, it is that and no output.

        Raises:
            TypeError: The arguments make no form.
            ConnectionError: As for `add_connection`.
        """
        form = Form(from_node, to, more, mapping, from_output, to_input)
        for edge in form.links(self._is_node, self._input_of, self._output_of):
            self.add_connection(*edge)
        return self

    def set_metadata(self: _Self, **metadata: Any) -> _Self:
        """Add facts about the workflow; return the builder."""
        self._metadata.update(metadata)
        return self

    def update_node(self: _Self, node_id: str, config: Mapping[str, Any]) -> _Self:
        """Change what a node is made of, or its options; return the builder.

        Raises:
            WorkflowValidationError: There is no such node.
        """
        node_id = self._aliases.get(node_id, node_id)
        spec = self._nodes.get(node_id)
        if spec is None:
            guess = did_you_mean(node_id, self._nodes)
            there = listed(self._nodes, 20) or "none"
            raise WorkflowValidationError(
                f"there is no node {node_id!r:.80}{guess}; there is {there}"
            )
        own = {name: getattr(spec, name) for name in OPTIONS}
        new, options = parted(spec.type, {**own, **spec.config, **config})
        self._nodes[node_id] = make_spec(spec.type, node_id, new, options, wrapped=spec.wrapped)
        return self

    def clear(self: _Self) -> _Self:
        """Forget all nodes, edges and metadata; return the builder."""
        for part in (self._nodes, self._edges, self._aliases, self._metadata):
            part.clear()
        return self

    @classmethod
    def from_workflow(cls: type[_Self], workflow: Workflow) -> _Self:
        """Return a builder that goes on where *workflow* was built."""
        builder = cls(workflow.name, description=workflow.description)
        builder._nodes.update(workflow.nodes)
        builder._aliases.update(workflow.aliases)
        for edge in workflow.connections:
            builder.add_connection(edge.source, edge.output, edge.target, edge.input)
        return builder

    @classmethod
    def from_dict(cls: type[_Self], data: Mapping[str, Any]) -> _Self:
        """Return a builder with what a workflow's `to_dict` has saved."""
        from pocketflow_async.workflow.documents import from_dict  # noqa: PLC0415 (rarely needed)

        return cls.from_workflow(from_dict(data))

    def build(self, workflow_id: str | None = None, **metadata: Any) -> Workflow:
        """Check everything and return the workflow.

        Args:
            workflow_id: Its id; a new one when left out.
            **metadata: More facts about it.

        Raises:
            CyclicDependencyError: Nodes wait for each other; the path is named.
            WorkflowValidationError: Something is wrong; everything that is, is named.
        """
        if workflow_id is not None:
            text("workflow_id", workflow_id)
        nodes = {node_id: self._finished(spec) for node_id, spec in self._nodes.items()}
        check(nodes, self._edges, self._aliases)
        _log.debug("%s: built, with %d nodes", self.name, len(nodes))
        return Workflow(
            workflow_id or self._new_id(),
            self.name,
            MappingProxyType(nodes),
            tuple(self._edges),
            MappingProxyType({**self._facts(), **self._metadata, **metadata}),
            MappingProxyType(dict(self._aliases)),
            self.description,
            self._registry(),
        )

    def _finished(self, spec: NodeSpec) -> NodeSpec:
        """Return *spec* as it goes into the workflow."""
        return spec

    def _facts(self) -> dict[str, Any]:
        return {"name": self.name, "description": self.description}

    def _registry(self) -> Any:
        return None

    def _add(self, node_id: str, what: Addition) -> str:
        node_id = check_id(node_id)
        if node_id in self._nodes or node_id in self._aliases:
            raise WorkflowValidationError(f"Node ID {node_id!r} already exists in workflow")
        wrapped = what.wrapped
        spec = make_spec(what.kind, node_id, what.config, what.options, wrapped=wrapped)
        self._nodes[node_id] = spec
        _log.debug("%s: added node %r (%s)", self.name, node_id, spec.type)
        return node_id

    def _unused(self, kind: str) -> str:
        number = len(self._nodes) + 1
        while f"{kind}_{number}" in self._nodes or f"{kind}_{number}" in self._aliases:
            number += 1
        return f"{kind}_{number}"

    def _is_node(self, name: str) -> bool:
        return name in self._nodes or name in self._aliases

    def _output_of(self, node_id: Any, for_data: bool) -> str | None:
        """Return the output of a node that is meant where none is said."""
        spec = self._nodes.get(self._aliases.get(node_id, node_id)) if node_id else None
        if spec is None:
            return DATA  # there is no such node: an error anyway
        if spec.wrapped:
            return "result"
        if not for_data and spec.type == "Function" and DATA not in spec.outputs.known:
            return None  # nobody has said `data`
        try:
            find_port(spec, DATA)
        except PortError:
            return None
        return DATA

    def _input_of(self, source: str, target: str) -> str:
        """Return the input of *target* that is meant where none is said."""
        spec = self._nodes.get(self._aliases.get(target, target))
        if spec is None:
            return DATA  # there is no such node: an error anyway
        node_id = spec.id
        try:
            return chosen_input(
                source, spec, lambda: {e.input for e in self._edges if e.target == node_id}
            )
        except ConnectionError:
            source = self._aliases.get(source, source)
            places = {known: place for place, known in enumerate(self._nodes)}
            edges = [*self._edges, Edge(source, None, node_id, "")]
            if source in places and source != node_id:
                for circle in circles(following(edges, places)):
                    raise CyclicDependencyError(circle) from None
            raise


def _names(outputs: Any) -> list[str]:
    if isinstance(outputs, str) or not isinstance(outputs, Sequence):
        raise TypeError(f"outputs must be a list of names, not {outputs!r}")
    for name in outputs:
        if not isinstance(name, str):
            raise TypeError(f"outputs must be names, not {name!r}")
    return list(outputs)
