"""The graph of a workflow with its names resolved: who needs whom, in what order, and circles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pocketflow_async.workflow.errors import ConnectionError, CyclicDependencyError
from pocketflow_async.workflow.spec import Edge, Workflow


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to know of the edges; made once per workflow, shared by all its runs.

    Attributes:
        order: Ids of all nodes, each after all that it needs; otherwise as they were added.
        places: Place of each node among those added, by id.
        ranks: Place of each node in `order`, by id.
        incoming: Edges into each node, by its id, with aliases resolved; missing: none.
        counts: Number of nodes that each node needs, by id; missing: none.
        dependants: Ids of the nodes that need each node, in the order added; missing: none.
        optional: Pairs (source, target) where the target can do without the source, because its
            inputs from there all have a default.
    """

    order: tuple[str, ...]
    places: Mapping[str, int]
    ranks: Mapping[str, int]
    incoming: Mapping[str, tuple[Edge, ...]]
    counts: Mapping[str, int]
    dependants: Mapping[str, tuple[str, ...]]
    optional: frozenset[tuple[str, str]]

    def needs(self, node_id: str) -> tuple[str, ...]:
        """Return the ids of the nodes whose output goes into *node_id*, each once."""
        return tuple(dict.fromkeys(edge.source for edge in self.incoming.get(node_id, ())))


def make_plan(workflow: Workflow) -> Plan:
    """Return the plan of *workflow*.

    Raises:
        ConnectionError: An edge leads from or to a node that is not there.
        CyclicDependencyError: Nodes wait for each other in a circle.
    """
    nodes = workflow.nodes
    edges = [resolved(edge, workflow.aliases) for edge in workflow.connections]
    for edge in edges:
        for end in (edge.source, edge.target):
            if end not in nodes:
                raise ConnectionError(f"{shown(edge)}: there is no node {end!r}")
    places = {node_id: place for place, node_id in enumerate(nodes)}
    dependants = following(edges, places)
    order = _order(places, dependants)
    if len(order) < len(places):
        raise CyclicDependencyError(next(circles(dependants)))
    incoming: dict[str, list[Edge]] = {}
    for edge in edges:
        incoming.setdefault(edge.target, []).append(edge)
    return Plan(
        order=tuple(order),
        places=places,
        ranks={node_id: rank for rank, node_id in enumerate(order)},
        incoming={target: tuple(found) for target, found in incoming.items()},
        counts=_counts(dependants),
        dependants=dependants,
        optional=_optional(edges, workflow),
    )


def resolved(edge: Edge, aliases: Mapping[str, str]) -> Edge:
    """Return *edge* between ids where it has named aliases."""
    source = aliases.get(edge.source, edge.source)
    target = aliases.get(edge.target, edge.target)
    if source == edge.source and target == edge.target:
        return edge
    return Edge(source, edge.output, target, edge.input)


def shown(edge: Edge) -> str:
    """Return *edge* in words, for messages."""
    output = "" if edge.output is None else f", {edge.output!r:.80}"
    return f"connection ({edge.source!r:.80}{output}) -> ({edge.target!r:.80}, {edge.input!r:.80})"


def following(edges: Iterable[Edge], places: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Return the targets of each source, each once, in the order in which they were added."""
    found: dict[str, dict[str, None]] = {}
    for edge in edges:
        found.setdefault(edge.source, {})[edge.target] = None
    return {
        source: tuple(sorted(targets, key=places.__getitem__)) if len(targets) > 1 else (*targets,)
        for source, targets in found.items()
    }


def _order(places: Mapping[str, int], dependants: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes in an order to run them; those in and behind circles are missing."""
    missing = _counts(dependants)
    order = [node_id for node_id in places if node_id not in missing]
    for node_id in order:  # it grows while we read it
        for target in dependants.get(node_id, ()):
            missing[target] -= 1
            if not missing[target]:
                order.append(target)
    return order


def _counts(dependants: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the number of nodes that each node needs, if any."""
    counts: dict[str, int] = {}
    for targets in dependants.values():
        for target in targets:
            counts[target] = counts.get(target, 0) + 1
    return counts


def _optional(edges: Iterable[Edge], workflow: Workflow) -> frozenset[tuple[str, str]]:
    pairs: set[tuple[str, str]] = set()
    needed: set[tuple[str, str]] = set()
    for edge in edges:
        port = workflow.nodes[edge.target].inputs.known.get(edge.input)
        can_do_without = port is not None and not port.required
        (pairs if can_do_without else needed).add((edge.source, edge.target))
    return frozenset(pairs - needed)


def circles(dependants: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield circles that have no node in common, each closed by its first node again.

    None is yielded only if there is none. One walk in depth, in linear time: an edge back to a
    node on the way closes a circle, which is yielded if no part of it has been yielded before.
    """
    done: set[str] = set()
    for start in dependants:
        if start not in done:
            yield from _circles_from(start, dependants, done)


def _circles_from(
    start: str, dependants: Mapping[str, Sequence[str]], done: set[str]
) -> Iterator[tuple[str, ...]]:
    way, places = [start], {start: 0}
    branches = [iter(dependants.get(start, ()))]
    yielded: list[list[int]] = []  # first and last place on the way of circles yielded
    while way:
        for target in branches[-1]:
            if target in places:
                if not yielded or yielded[-1][1] < places[target]:
                    yielded.append([places[target], len(way) - 1])
                    yield (*way[places[target] :], target)
            elif target not in done:
                places[target] = len(way)
                way.append(target)
                branches.append(iter(dependants.get(target, ())))
                break
        else:
            left = way.pop()
            branches.pop()
            del places[left]
            done.add(left)
            if yielded and yielded[-1][1] == len(way):
                yielded[-1][1] -= 1  # the rest of that circle is still on the way
                if yielded[-1][1] < yielded[-1][0]:
                    yielded.pop()
