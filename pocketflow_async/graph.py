"""The graph of a flow as others see it: a walk over it, and its picture in Mermaid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pocketflow_async.batch import BatchNode
from pocketflow_async.nodes import BaseNode, name_of


def parts(node: Any) -> list[Any]:
    """Return the nodes that *node* holds and starts with: a flow's start, a fan-out's branches."""
    if not getattr(node, "_pf_holds", False):
        return []
    if hasattr(node, "branches"):
        return list(node.branches.values())
    return [] if node.start_node is None else [node.start_node]


def reachable(starts: list[Any]) -> list[Any]:
    """Return every node that can be reached from *starts* by successors, each once, in order."""
    seen: dict[int, Any] = {}
    waiting = list(reversed(starts))
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, BaseNode):
            continue
        seen[id(node)] = node
        waiting.extend(reversed(list(node.successors.values())))
    return list(seen.values())


def mermaid(flow: Any) -> str:
    """Return *flow* as a Mermaid flowchart: actions on the edges, nested flows as subgraphs.

    All nodes come before all edges: Mermaid puts a node where its name appears first.
    """
    drawing = _Drawing(parts(flow)[:1])
    lines = ["flowchart TD", *drawing.inside(flow, "    "), *drawing.edges()]
    return "\n".join(lines) + "\n"


class _Drawing:
    """Gives every node its id, and remembers what has been drawn."""

    def __init__(self, starts: list[Any]) -> None:
        self._starts = {id(start) for start in starts}
        self._ids: dict[int, str] = {}
        self._drawn: dict[int, Any] = {}

    def inside(self, holder: Any, indent: str) -> Iterator[str]:
        """Draw what *holder* holds, one level per flow; a node met again is not drawn again."""
        nodes = [n for n in reachable(parts(holder)) if id(n) not in self._drawn]
        self._drawn.update((id(n), n) for n in nodes)
        for node in nodes:
            yield from self._node(node, indent)

    def edges(self) -> Iterator[str]:
        """Draw the ways between all nodes drawn."""
        for node in self._drawn.values():
            for action, target in node.successors.items():
                if isinstance(target, BaseNode):
                    label = "" if action == "default" else f"|{_quoted(action)}|"
                    yield f"    {self._id(node)} -->{label} {self._id(target)}"

    def _node(self, node: Any, indent: str) -> Iterator[str]:
        name, label = self._id(node), _quoted(name_of(node))
        if parts(node):
            yield f"{indent}subgraph {name}[{label}]"
            yield from self.inside(node, indent + "    ")
            yield f"{indent}end"
        elif id(node) in self._starts:
            yield f"{indent}{name}([{label}])"
        elif isinstance(node, BatchNode):
            yield f"{indent}{name}[[{label}]]"
        else:
            yield f"{indent}{name}[{label}]"

    def _id(self, node: Any) -> str:
        return self._ids.setdefault(id(node), f"n{len(self._ids) + 1}")


_ENTITIES = str.maketrans(
    {
        "#": "#35;",
        "%": "#37;",
        "&": "#amp;",
        '"': "#quot;",
        "<": "#lt;",
        ">": "#gt;",
        "`": "#96;",
        "\n": " ",
        "\r": " ",
    }
)


def _quoted(text: object) -> str:
    """Return *text* as a quoted Mermaid label, with what would end or change it as entities."""
    return f'"{str(text).translate(_ENTITIES) or " "}"'
