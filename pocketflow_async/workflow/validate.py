"""What is wrong with a workflow, all at once, before it runs."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from pocketflow_async.workflow.errors import (
    ConnectionError,
    CyclicDependencyError,
    PortError,
    WorkflowValidationError,
)
from pocketflow_async.workflow.plan import circles, following, resolved, shown
from pocketflow_async.workflow.ports import did_you_mean, find_port, listed
from pocketflow_async.workflow.run_inputs import is_for_one
from pocketflow_async.workflow.spec import Edge, NodeSpec
from pocketflow_async.workflow.types import fits, name_of_type

MOST_SHOWN: Final = 100
"""So many problems an error names; nobody reads more."""

_MOST_GUESSED: Final = 20
"""For so many problems we look for what may have been meant; it takes long."""

_STAR: Final = re.compile(r"\bfrom\s+[\w.]+\s+import\s*\*")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a workflow.

    Attributes:
        text: What is wrong and what to do.
        node: Id of the node it is about; None: of none.
        edge: Place of the edge it is about; None: of none.
        circle: Ids of the nodes that wait for each other, the first again at the end; empty:
            it is something else.
    """

    text: str
    node: str | None = None
    edge: int | None = None
    circle: tuple[str, ...] = ()


def validate(
    nodes: Mapping[str, NodeSpec],
    edges: Iterable[Edge],
    aliases: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> list[str]:
    """List what is wrong with a workflow, each with what to do; empty: nothing.

    Args:
        nodes: Its nodes by id.
        edges: Its edges.
        aliases: Other names of its nodes: id by alias.
        given: The inputs of a run: a dict under the id of a node is for that node, anything else
            for all of them. None: not known yet, so that inputs nobody gives are not reported.
    """
    return [problem.text for problem in problems(nodes, edges, aliases, given)]


def check(
    nodes: Mapping[str, NodeSpec],
    edges: Iterable[Edge],
    aliases: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> None:
    """Raise if `validate` finds something.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle, and nothing else is wrong.
        WorkflowValidationError: Something is wrong; all of it is named.
    """
    found = problems(nodes, edges, aliases, given)
    if not found:
        return
    if all(problem.circle for problem in found):
        error = CyclicDependencyError(found[0].circle)
        for other in found[1:MOST_SHOWN]:
            error.add_note(other.text)
        raise error
    raise refusal([problem.text for problem in found])


def refusal(texts: list[str]) -> WorkflowValidationError:
    """Return the error that names all of *texts*, up to a number that can be read."""
    more = len(texts) - MOST_SHOWN
    return WorkflowValidationError(*texts[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else []))


def check_edge(
    nodes: Mapping[str, NodeSpec],
    edges: Collection[Edge],
    edge: Edge,
    aliases: Mapping[str, str] | None = None,
) -> None:
    """Raise if *edge* cannot be added to *edges*.

    Args:
        nodes: The nodes so far.
        edges: The edges so far; a set or dict of them, where there may be very many.
        edge: The new one.
        aliases: Other names of nodes: id by alias.

    Raises:
        ConnectionError: It is there already, leads from or to nowhere, or to where it starts.
    """
    found = resolved(edge, aliases or {})
    for role, end in (("Source", found.source), ("Target", found.target)):
        if end not in nodes:
            text = f"{role} node {end!r:.80} not found in workflow{did_you_mean(end, nodes) or '.'}"
            raise ConnectionError(f"{text}\nAvailable nodes: {listed(nodes, 20) or 'none yet'}")
    if found.source == found.target:
        raise ConnectionError(f"Cannot connect node {found.source!r} to itself")
    if edge in edges or found in edges:
        raise ConnectionError(f"Duplicate connection detected: {shown(edge)}")


def problems(
    nodes: Mapping[str, NodeSpec],
    edges: Iterable[Edge],
    aliases: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """List what is wrong with a workflow and where; `validate` says the same in words."""
    if isinstance(edges, Iterable):
        edges = list(edges)
    wrong = list(_wrong_types(nodes, edges, aliases))
    return wrong or list(_Search(nodes, edges, aliases).all(given))


def _wrong_types(nodes: object, edges: object, aliases: object) -> Iterator[Problem]:
    """Yield what is not even of the right type, which only those made by hand can have."""
    if not isinstance(nodes, Mapping) or not isinstance(aliases, Mapping):
        yield Problem("the nodes and the aliases of a workflow are dicts by id")
    elif not isinstance(edges, list):
        yield Problem(f"the connections of a workflow are Edges, not {edges!r:.80}")
    else:
        for node_id, spec in nodes.items():
            if not isinstance(spec, NodeSpec):
                yield Problem(f"node {node_id!r:.80} is a NodeSpec, not {spec!r:.80}")
        for place, edge in enumerate(edges):
            if not _is_edge(edge):
                yield Problem(f"a connection is an Edge of texts, not {edge!r:.80}", edge=place)


def _is_edge(edge: object) -> bool:
    if not isinstance(edge, Edge):
        return False
    parts: tuple[object, ...] = (edge.source, edge.target, edge.input, edge.output or "")
    return all(isinstance(part, str) for part in parts)


class _Search:
    """One look at a workflow; its parts share what they have found out."""

    def __init__(
        self, nodes: Mapping[str, NodeSpec], edges: list[Edge], aliases: Mapping[str, str]
    ) -> None:
        self._nodes = nodes
        self._aliases = aliases
        self._edges = [resolved(edge, aliases) for edge in edges]
        self._sound: list[Edge] = []  # edges between two nodes that are there
        self._guesses = _MOST_GUESSED

    def all(self, given: Mapping[str, Any] | None) -> Iterator[Problem]:
        for node_id, alias_of in self._aliases.items():
            yield from self._alias(node_id, alias_of)
        for node_id, spec in self._nodes.items():
            yield from _node(node_id, spec)
        first: dict[tuple[str, str], tuple[int, Edge]] = {}
        for place, edge in enumerate(self._edges):
            yield from self._edge(place, edge, first)
        yield from self._circles()
        if given is not None:
            yield from self._inputs(given, first)

    def _alias(self, alias: str, node_id: str) -> Iterator[Problem]:
        if alias in self._nodes:
            yield Problem(f"alias {alias!r} is the id of a node too: rename one of them")
        elif node_id not in self._nodes:
            guess = self._guess(node_id, self._nodes)
            yield Problem(f"alias {alias!r} stands for node {node_id!r}, which is not there{guess}")

    def _guess(self, word: object, words: Iterable[str]) -> str:
        self._guesses -= 1
        return did_you_mean(word, words) if self._guesses >= 0 else ""

    def _edge(
        self, place: int, edge: Edge, first: dict[tuple[str, str], tuple[int, Edge]]
    ) -> Iterator[Problem]:
        missing = [end for end in (edge.source, edge.target) if end not in self._nodes]
        for end in dict.fromkeys(missing):
            guess = self._guess(end, chain(self._nodes, self._aliases))
            yield Problem(f"{shown(edge)}: there is no node {end!r}{guess}", edge=place)
        if missing:
            return
        if edge.source == edge.target:
            yield Problem(f"{shown(edge)}: a node cannot wait for itself", edge=place)
            return
        self._sound.append(edge)
        _, before = first.setdefault((edge.target, edge.input), (place, edge))
        if first[edge.target, edge.input][0] != place:
            yield Problem(_fed_twice(edge, before), edge=place)
            return
        yield from self._ports(place, edge)

    def _ports(self, place: int, edge: Edge) -> Iterator[Problem]:
        source, target = self._nodes[edge.source], self._nodes[edge.target]
        known = target.inputs.known.get(edge.input)
        if known is None and not target.inputs.open:
            names = target.inputs.known
            there = f"its inputs are {listed(names)}" if names else "it takes none"
            text = f"{shown(edge)}: node {edge.target!r} has no input {edge.input!r:.80}: {there}"
            yield Problem(text + self._guess(edge.input, names), edge=place)
        elif not _is_name(edge.input) and target.type.endswith("PythonCodeNode"):
            text = f"{shown(edge)}: {edge.input!r:.80} is no name that code could use"
            yield Problem(f"{text}: rename that input", edge=place)
        try:
            port = find_port(source, edge.output)
        except PortError as error:
            yield Problem(f"{shown(edge)}: {error}", edge=place)
            return
        if port is not None and known is not None and not fits(port.annotation, known.annotation):
            got, wanted = name_of_type(port.annotation), name_of_type(known.annotation)
            text = f"{shown(edge)}: it carries {got}, but the input wants {wanted}"
            yield Problem(text, edge=place)

    def _circles(self) -> Iterator[Problem]:
        places = {node_id: place for place, node_id in enumerate(self._nodes)}
        for circle in circles(following(self._sound, places)):
            yield Problem(str(CyclicDependencyError(circle)), node=circle[0], circle=circle)

    def _inputs(
        self, given: Mapping[str, Any], fed: Mapping[tuple[str, str], object]
    ) -> Iterator[Problem]:
        own = {
            node_id: (key, value)
            for key, value in given.items()
            if is_for_one(
                value,
                key,
                self._nodes.get(node_id := self._aliases.get(key, key)),
                (key,) if (node_id, key) in fed else (),
            )
        }
        for_all = given.keys() - {key for key, _ in own.values()}
        for node_id, spec in self._nodes.items():
            _, for_it = own.get(node_id, ("", {}))
            there = {*for_it, *spec.required_resources}
            for name, port in spec.inputs.known.items():
                if not port.required or (node_id, name) in fed:
                    continue
                if name not in for_all and name not in there:
                    yield Problem(_nobody_gives(node_id, name) + _hidden(spec), node=node_id)
            if spec.inputs.open:
                continue
            for name in for_it:
                if name not in spec.inputs.known:
                    guess = self._guess(name, spec.inputs.known)
                    text = f"inputs for node {node_id!r}: it has no input {name!r}{guess}"
                    yield Problem(text, node=node_id)


def _nobody_gives(node_id: str, name: str) -> str:
    return (
        f"nobody gives input {name!r:.80} of node {node_id!r}: connect it to an output, or give "
        f"{{{node_id!r}: {{{name!r:.80}: …}}}} or {{{name!r:.80}: …}} as inputs of the run"
    )


def _hidden(spec: NodeSpec) -> str:
    code = spec.config.get("code")
    if isinstance(code, str) and (found := _STAR.search(code)) is not None:
        text = found[0].strip()
        return f"; if it is from `{text}`: that hides what names there are, import it by name"
    return ""


def _fed_twice(edge: Edge, before: Edge) -> str:
    if edge == before:
        return f"{shown(edge)} is there twice"
    return (
        f"{shown(edge)}: input {edge.input!r:.80} of node {edge.target!r} is fed by "
        f"{shown(before)} already: give them two names"
    )


def _node(node_id: object, spec: NodeSpec) -> Iterator[Problem]:
    if not isinstance(node_id, str) or not node_id:
        yield Problem(f"a node's id is a text that is not empty, not {node_id!r}")
        return
    if spec.id != node_id:
        yield Problem(f"node {node_id!r} calls itself {spec.id!r}: these must be the same", node_id)
    if spec.timeout is not None and not _is_above_zero(spec.timeout):
        text = f"node {node_id!r}: timeout is a number of seconds above 0, not {spec.timeout!r}"
        yield Problem(text, node_id)
    most: object = spec.max_concurrent_tasks
    if most is not None and (isinstance(most, float) or not _is_above_zero(most)):
        text = f"node {node_id!r}: max_concurrent_tasks is a whole number from 1, not {most!r}"
        yield Problem(text, node_id)


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_name(text: object) -> bool:
    if not isinstance(text, str) or not text.isidentifier() or keyword.iskeyword(text):
        return False
    return unicodedata.normalize("NFKC", text) == text  # as Python reads names in code
