"""The places in a flow's graph, numbered: how a stored run says where it is.

The numbers and the description depend on names, classes and actions alone, so the same program gets
the same ones in every process. What the nodes do is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pocketflow_async.graph import parts
from pocketflow_async.nodes import BaseNode, name_of


class Places:
    """All nodes that can be reached in a flow and in what it holds, itself being number 0.

    Attributes:
        definition: What there is and how it is connected, as JSON.
        digest: SHA-256 of that, in hex.
    """

    def __init__(self, flow: Any) -> None:
        self._nodes: list[Any] = []
        self._numbers: dict[int, int] = {}
        lines = self._numbered(flow)
        self.definition = json.dumps(lines, ensure_ascii=True, separators=(",", ":"))
        self.digest = hashlib.sha256(self.definition.encode()).hexdigest()

    def node(self, number: int) -> Any:
        """Return a node by its number."""
        return self._nodes[number]

    def name(self, number: int) -> str:
        """Return the name of a node by its number."""
        return name_of(self._nodes[number])

    def number(self, node: Any) -> int | None:
        """Return the number of a node; None: it is no part of the graph."""
        return self._numbers.get(id(node))

    def _numbered(self, flow: Any) -> list[list[Any]]:
        """Give all nodes their numbers, those of one step before those of the next."""
        self._add(flow)
        ways: list[tuple[dict[str, Any], list[Any]]] = []
        for node in self._nodes:  # which grows meanwhile
            followers = {} if node is flow else _followers(node)
            held = [part for part in parts(node) if _is_node(part)]
            ways.append((followers, held))
            for other in (*held, *followers.values()):
                self._add(other)
        return [
            [
                name_of(node),
                type(node).__qualname__,
                {action: self.number(other) for action, other in followers.items()},
                [self.number(part) for part in held],
            ]
            for node, (followers, held) in zip(self._nodes, ways, strict=True)
        ]

    def _add(self, node: Any) -> None:
        if id(node) not in self._numbers:
            self._numbers[id(node)] = len(self._nodes)
            self._nodes.append(node)


def difference(old: str, new: str) -> str:
    """Return in words where two descriptions first differ."""
    before, after = json.loads(old), json.loads(new)
    for number, (was, now) in enumerate(zip(before, after, strict=False)):
        if was[:2] != now[:2]:
            return f"node {number} was {_shown(was)} and is {_shown(now)}"
        if was[2] != now[2]:
            return f"{was[0]!r} led by {list(was[2])} to {list(was[2].values())} and leads by " + (
                f"{list(now[2])} to {list(now[2].values())}"
            )
        if was != now:
            return f"{was[0]!r} held the nodes {was[3]} and holds {now[3]}"
    return f"it had {len(before)} nodes and has {len(after)}"


def _shown(line: list[Any]) -> str:
    name, cls = line[:2]
    return repr(name) if name == cls else f"{name!r} ({cls})"


def _followers(node: Any) -> dict[str, Any]:
    """Return the successors of *node* by action, whatever order they were connected in."""
    found = getattr(node, "successors", None) or {}
    by_text = {
        action if isinstance(action, str) else f"{action!r} ({type(action).__name__})": other
        for action, other in found.items()
        if _is_node(other)
    }
    return {action: by_text[action] for action in sorted(by_text)}


def _is_node(thing: Any) -> bool:
    return thing is not None and (isinstance(thing, BaseNode) or bool(thing))
