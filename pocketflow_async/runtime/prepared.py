"""What runs need of a workflow, found out once: its edges by node, and whether it is sound."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pocketflow_async.runtime.conditions import Condition
from pocketflow_async.workflow.errors import WorkflowValidationError
from pocketflow_async.workflow.plan import Plan, make_plan
from pocketflow_async.workflow.ports import RESULT
from pocketflow_async.workflow.run_inputs import misspelled
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow
from pocketflow_async.workflow.validate import check

_MOST_KNOWN = 64  # sets of inputs that are remembered to be right, per workflow


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A node as a run needs it.

    Attributes:
        spec: The node.
        run: What it does.
        is_async: Whether that is awaited; otherwise it runs in a thread.
        edges: Where its inputs come from: source, output, whether that is wrapped, whether a key
            of that name goes before all else, own name.
        needs: The sources, each once.
        names: The inputs of the run that it takes; None: all.
        reads: The inputs that it makes use of; None: not known, so all.
        shown: What an error about its time calls it; empty for code.
        condition: Decides whether it runs; None: it does.
        is_plain: Whether there is no more to it than to call it.
    """

    id: str
    spec: NodeSpec
    run: Callable[..., Any]
    is_async: bool
    timeout: float | None
    edges: tuple[tuple[str, str | None, bool, bool, str], ...]
    needs: tuple[str, ...]
    names: frozenset[str] | None
    reads: frozenset[str] | None
    shown: str
    condition: Condition | None
    is_plain: bool


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A workflow as its runs need it; it does not keep the workflow alive.

    Attributes:
        plan: Its edges.
        nodes: Its nodes by id, in the order in which they were added.
        known: Names of inputs with which it was found to be sound.
        taken: Names of the inputs that its nodes take; None: some node takes any.
    """

    plan: Plan
    nodes: Mapping[str, Planned]
    known: set[Any]
    taken: frozenset[str] | None

    def check_names(self, workflow: Workflow, given: Mapping[str, Any]) -> None:
        """Raise where an input that no node takes looks like one that is missing.

        Raises:
            WorkflowValidationError: There is one.
        """
        if self.taken is None or given.keys() <= self.taken:
            return
        ids = {**workflow.nodes, **workflow.aliases}
        unknown = [name for name in given if name not in self.taken and name not in ids]
        if found := misspelled(unknown, self.taken, ids, given):
            raise WorkflowValidationError(*found)

    def check(self, workflow: Workflow, given: Mapping[str, Any]) -> None:
        """Raise unless *workflow*, which this was made of, can run with the inputs *given*.

        Raises:
            WorkflowValidationError: Something is wrong; all of it is named.
        """
        names = frozenset(
            (name, frozenset(value)) if name in self.nodes and isinstance(value, Mapping) else name
            for name, value in given.items()
        )
        if names in self.known:
            return
        check(workflow.nodes, workflow.connections, workflow.aliases, given)
        if len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        self.known.add(names)


_prepared: dict[int, tuple[weakref.ref[Workflow], Prepared]] = {}


def prepare(workflow: Workflow) -> Prepared:
    """Return what runs need of *workflow*, made the first time; of each object its own.

    Raises:
        WorkflowValidationError: It cannot run as it is.
    """
    key = id(workflow)
    found = _prepared.get(key)
    if found is not None and found[0]() is workflow:
        return found[1]
    made = _prepare(workflow)

    def forget(gone: weakref.ref[Workflow]) -> None:
        if (now := _prepared.get(key)) is not None and now[0] is gone:
            del _prepared[key]

    _prepared[key] = (weakref.ref(workflow, forget), made)
    return made


def _prepare(workflow: Workflow) -> Prepared:
    check(workflow.nodes, workflow.connections, workflow.aliases)
    plan = make_plan(workflow)
    nodes = {
        node_id: _planned(node_id, spec, plan, workflow) for node_id, spec in workflow.nodes.items()
    }
    return Prepared(plan, nodes, set(), _taken(nodes.values()))


def _taken(nodes: Iterable[Planned]) -> frozenset[str] | None:
    names: set[str] = set()
    for node in nodes:
        if node.reads is None:
            return None
        names.update(node.reads, node.spec.required_resources)
    return frozenset(names)


def _planned(node_id: str, spec: NodeSpec, plan: Plan, workflow: Workflow) -> Planned:
    work = spec.work
    if work is None:
        raise WorkflowValidationError(f"node {node_id!r} has no work: there is nothing to run")
    edges = plan.incoming.get(node_id, ())
    names = None if spec.inputs.open else frozenset(spec.inputs.known)
    return Planned(
        id=node_id,
        spec=spec,
        run=work.run,
        is_async=work.is_async,
        timeout=spec.timeout,
        edges=tuple(_way(edge, workflow.nodes[edge.source].wrapped) for edge in edges),
        needs=plan.needs(node_id),
        names=names,
        reads=getattr(getattr(work, "compiled", None), "free_names", names),  # of code: exact
        shown="" if "Code" in spec.type else f"node {node_id!r} ({spec.type.lower()})",
        condition=None
        if spec.condition is None
        else Condition(spec.condition, frozenset((*spec.inputs.known, *(e.input for e in edges)))),
        is_plain=spec.retry_policy is None
        and spec.error_handler is None
        and spec.condition is None,
    )


def _way(edge: Edge, wrapped: bool) -> tuple[str, str | None, bool, bool, str]:
    is_key = edge.output is not None and (wrapped or edge.output != RESULT)
    return edge.source, edge.output, wrapped, is_key, edge.input
