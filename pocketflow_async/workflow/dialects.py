"""Both ways to write a JSON workflow, made one graph.

Some write `connections` between ports that are counted; others name in `inputs` where a value comes
from: `"check.price"` is one output of the block `check`, and `"check"` all of them. Either is an
edge, and both may be used in one workflow.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from pocketflow_async.workflow.definition import (
    Block,
    BlockJson,
    ConnectionJson,
    Definition,
    EndJson,
    PortJson,
    Source,
    WorkflowCycleError,
    WorkflowDefinitionError,
    WorkflowJson,
    read,
)
from pocketflow_async.workflow.plain_json import pointer_of, to_json
from pocketflow_async.workflow.ports import did_you_mean


class NaturalPorts(NamedTuple):
    """The ports of a type of blocks, for blocks that declare none."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


PortsOf: TypeAlias = Callable[[str, str], NaturalPorts]
"""Returns the natural ports of a category and type."""


def define(workflow: object, ports_of: PortsOf = lambda *_: NaturalPorts()) -> Definition:
    """Return the graph that a JSON workflow means.

    Args:
        workflow: A dict, or JSON text.
        ports_of: Returns what ports a type has, for blocks that declare none.

    Raises:
        WorkflowCycleError: Blocks wait for each other.
        WorkflowDefinitionError: Something else is wrong; names all of it.
    """
    model, plain, text = read(workflow)
    graph = _Graph(model, plain, ports_of)
    return Definition(model.name, graph.in_order(), text)


class _Graph:
    def __init__(self, model: WorkflowJson, plain: Mapping[str, Any], ports_of: PortsOf) -> None:
        self.model = model
        self.plain = plain
        self.ports_of = ports_of
        self.problems: list[str] = []
        self.places: dict[str, int] = {}
        self.sources: dict[str, dict[str, Source]] = {}
        for place, block in enumerate(model.blocks):
            self._add(place, block)
        for place, block in enumerate(model.blocks):
            self._named(place, block)
        for place, connection in enumerate(model.connections):
            self._connected(place, connection)
        if self.problems:
            raise WorkflowDefinitionError(*self.problems)

    def in_order(self) -> tuple[Block, ...]:
        """Return the blocks, each after those that it needs; else as they stand (Kahn).

        Raises:
            WorkflowCycleError: There is no such order.
        """
        needs = {
            block.id: sorted({one.node_id for one in self.sources[block.id].values()}, key=self._at)
            for block in self.model.blocks
        }
        waiting = {name: len(before) for name, before in needs.items()}
        after: dict[str, list[str]] = {name: [] for name in needs}
        for name, before in needs.items():
            for one in before:
                after[one].append(name)
        ready = [self.places[name] for name, count in waiting.items() if not count]
        found: list[Block] = []
        while ready:
            place = heapq.heappop(ready)
            block = self.model.blocks[place]
            found.append(self._block(place, block, tuple(needs[block.id])))
            for name in after[block.id]:
                waiting[name] -= 1
                if not waiting[name]:
                    heapq.heappush(ready, self.places[name])
        if len(found) < len(needs):
            raise WorkflowCycleError(_circle(needs, [name for name in waiting if waiting[name]]))
        return tuple(found)

    def _at(self, name: str) -> int:
        return self.places[name]

    def _block(self, place: int, block: BlockJson, needs: tuple[str, ...]) -> Block:
        ports = _ports(block.inputs)
        return Block(
            id=block.id,
            name=block.name or block.id,
            category=block.category,
            type=block.type,
            properties=block.properties,
            config=block.config,
            inputs=tuple(ports),
            optional=frozenset(name for name, needed in ports.items() if not needed),
            sources=self.sources[block.id],
            outputs=tuple(port.name for port in block.outputs),
            timeout=block.timeout,
            risk_effect=block.risk_effect,
            on_restart=block.on_restart,
            needs=needs,
            text=to_json(self.plain["blocks"][place]),
            pointer=pointer_of(["blocks", place]),
        )

    # What is wrong is noted, so that all of it is told at once.

    def _wrong(self, path: Iterable[str | int], what: str, block_id: str | None = None) -> None:
        block = "" if block_id is None else f"block {block_id!r:.80}, "
        self.problems.append(f"{block}at {pointer_of(path)}: {what}")

    def _add(self, place: int, block: BlockJson) -> None:
        path = ("blocks", place)
        if block.id in self.places:
            first = pointer_of(["blocks", self.places[block.id]])
            self._wrong((*path, "id"), f"{first} has this id, too", block.id)
            return
        self.places[block.id] = place
        self.sources[block.id] = {}
        for side, ports in (("inputs", block.inputs), ("outputs", block.outputs)):
            names = [port.name for port in ports] if isinstance(ports, list) else list(ports)
            for name in (name for name, count in Counter(names).items() if count > 1):
                self._wrong((*path, side), f"there are two {side} {name!r}", block.id)

    def _named(self, place: int, block: BlockJson) -> None:
        """Take in what the inputs of a block refer to by name."""
        if not isinstance(block.inputs, dict):
            return
        for name, reference in block.inputs.items():
            path = ("blocks", place, "inputs", name)
            if reference is not None and (source := self._source(path, block.id, reference)):
                self._wire(path, block.id, name, source)

    def _source(self, path: tuple[str | int, ...], block_id: str, reference: str) -> Source | None:
        if reference in self.places:
            return Source(reference, None)
        parts = reference.split(".")
        splits = [(".".join(parts[:at]), ".".join(parts[at:])) for at in range(1, len(parts))]
        found = [Source(name, port) for name, port in splits if name in self.places and port]
        if len(found) == 1:
            block = self.model.blocks[self.places[found[0].node_id]]
            natural = self.ports_of(block.category, block.type).outputs
            names = [port.name for port in block.outputs] or [*natural]
            if not names or found[0].output in names:
                return found[0]
            output = str(found[0].output)
            what = f"block {found[0].node_id!r:.80} has no output {output!r:.80}"
            self._wrong(path, what + did_you_mean(output, names), block_id)
        elif found:
            self._wrong(path, f"{reference!r:.80} may be an output of several blocks", block_id)
        else:
            hint = did_you_mean(parts[0], self.places)
            what = f"{reference!r:.80} refers to no block{hint or '.'} Constants go into properties"
            self._wrong(path, what, block_id)
        return None

    def _connected(self, place: int, connection: ConnectionJson) -> None:
        """Take in what a connection joins by the places of the ports."""
        path = ("connections", place)
        ends = (("from", connection.source), ("to", connection.target))
        missing = [(end, at.blockId) for end, at in ends if at.blockId not in self.places]
        for end, name in missing:
            hint = did_you_mean(name, self.places)
            self._wrong((*path, end, "blockId"), f"there is no block {name!r:.80}{hint}")
        if missing:
            return
        source, target = (self.model.blocks[self.places[at.blockId]] for _, at in ends)
        try:
            natural = self.ports_of(source.category, source.type).outputs
            names = [port.name for port in source.outputs] or natural
            output = self._port((*path, "from"), connection.source, names, "output")
            natural = self.ports_of(target.category, target.type).inputs
            names = list(_ports(target.inputs)) or natural
            port = self._port((*path, "to"), connection.target, names, "input")
        except LookupError as error:
            self.problems.append(str(error.args[0]))
            return
        # Where neither has names, what comes out of a block goes in under the id of that.
        self._wire((*path, "to"), target.id, port or output or source.id, Source(source.id, output))

    def _port(
        self, path: tuple[str | int, ...], end: EndJson, names: Sequence[str], what: str
    ) -> str | None:
        """Return the name of a port; None: it is the only one of a block without names.

        Raises:
            LookupError: There is no such port.
        """
        if end.index < len(names):
            return names[end.index]
        if not names and not end.index:
            return None
        count = f"it has {len(names)}, counted from 0" if names else "it declares none"
        at = f"block {end.blockId!r:.80}, at {pointer_of((*path, 'index'))}"
        raise LookupError(f"{at}: there is no {what} {end.index}: {count}")

    def _wire(self, path: tuple[str | int, ...], block_id: str, name: str, source: Source) -> None:
        known = self.sources[block_id].setdefault(name, source)
        if known is not source:
            what = f"the input {name!r:.80} is connected twice, to {known} and to {source}"
            self._wrong(path, what, block_id)


def _ports(inputs: Mapping[str, str | None] | list[PortJson]) -> dict[str, bool]:
    """Return which inputs a block declares, and whether each must be there."""
    if isinstance(inputs, list):
        return {port.name: port.required for port in inputs}
    return dict.fromkeys(inputs, True)


def _circle(needs: Mapping[str, list[str]], stuck: list[str]) -> list[str]:
    """Return a circle among *stuck*, all of which wait for others of them, in order of the data."""
    among = set(stuck)
    path: dict[str, int] = {}
    here = stuck[0]
    while here not in path:
        path[here] = len(path)
        here = next(name for name in needs[here] if name in among)
    return [here, *reversed([*path][path[here] :])]
