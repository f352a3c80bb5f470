"""A workflow as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pocketflow_async.workflow.plan import resolved
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow

_SHAPES: Final = {
    "PythonCodeNode": ("[", "]"),
    "AsyncPythonCodeNode": ("(", ")"),
    "ParallelMap": ("[[", "]]"),
    "Scatter": ("[/", "\\]"),
    "Gather": ("[\\", "/]"),
    "Resource": ("[(", ")]"),
}
"""What stands around the label: sharp corners for threads, round ones for the event loop."""

_ENTITIES: Final = str.maketrans(
    {
        "#": "#35;",
        "%": "#37;",
        "&": "#amp;",
        '"': "#quot;",
        "<": "#lt;",
        ">": "#gt;",
        "`": "#96;",
        "\\": "#92;",
        "\n": " ",
        "\r": " ",
    }
)
"""What would end or change a label."""


def mermaid(workflow: Workflow) -> str:
    """Return *workflow* as a Mermaid flowchart: outputs and inputs on the edges.

    A workflow that is a node of it is a subgraph; a node with a condition is a rhombus. All nodes
    come before all edges: Mermaid puts a node where its name appears first.
    """
    names = _Names()
    nodes = list(_nodes(workflow, names, (), "    "))
    return "\n".join(["flowchart TD", *nodes, *_edges(workflow, names, ())]) + "\n"


class _Names:
    """Gives every node its name in the drawing, by the ids that lead to it."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], str] = {}

    def of(self, place: tuple[str, ...]) -> str:
        return self._names.setdefault(place, f"n{len(self._names) + 1}")


def _nodes(workflow: Workflow, names: _Names, place: tuple[str, ...], indent: str) -> Iterator[str]:
    for spec in workflow.nodes.values():
        here = (*place, spec.id)
        inner = _inside(spec, here)
        if inner is None:
            yield f"{indent}{names.of(here)}{_shape(spec)}"
            continue
        yield f"{indent}subgraph {names.of(here)}[{_quoted(spec.id)}]"
        yield from _nodes(inner, names, here, indent + "    ")
        yield f"{indent}end"


def _inside(spec: NodeSpec, place: tuple[str, ...]) -> Workflow | None:
    """Return the workflow that *spec* is, where that is worth a drawing of its own."""
    inner = getattr(spec.work, "workflow", None)
    drawn = isinstance(inner, Workflow) and bool(inner.nodes) and len(place) <= 20
    return inner if drawn else None


def _shape(spec: NodeSpec) -> str:
    label = _quoted(spec.id)
    if spec.condition is not None:
        return f"{{{label}}}"
    opening, closing = _SHAPES.get(spec.type, ("(", ")"))
    return f"{opening}{label}{closing}"


def _edges(workflow: Workflow, names: _Names, place: tuple[str, ...]) -> Iterator[str]:
    together: dict[tuple[str, str], list[str]] = {}
    for edge in (resolved(edge, workflow.aliases) for edge in workflow.connections):
        together.setdefault((edge.source, edge.target), []).append(_carried(edge))
    for (source, target), carried in together.items():
        start, end = names.of((*place, source)), names.of((*place, target))
        yield f"    {start} -->|{_quoted(', '.join(carried))}| {end}"
    for spec in workflow.nodes.values():
        inner = _inside(spec, (*place, spec.id))
        if inner is not None:
            yield from _edges(inner, names, (*place, spec.id))


def _carried(edge: Edge) -> str:
    """Say what *edge* carries, once where both ends call it the same."""
    if edge.output == edge.input:
        return edge.input
    return f"{edge.output} → {edge.input}" if edge.output is not None else f"→ {edge.input}"


def _quoted(text: str) -> str:
    """Return *text* as a quoted Mermaid label."""
    return f'"{text.translate(_ENTITIES) or " "}"'
