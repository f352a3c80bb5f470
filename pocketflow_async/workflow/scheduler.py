"""Which nodes of a run may start now. No tasks and no clock: it is told what has happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pocketflow_async.workflow.plan import Plan, make_plan
from pocketflow_async.workflow.spec import Workflow


class Skipped(NamedTuple):
    """What follows when a node does not run because its condition says so.

    Attributes:
        skipped: Ids of the nodes that need its output and will not run either.
        ready: Ids of the nodes that can do without its output and may start now.
    """

    skipped: tuple[str, ...]
    ready: tuple[str, ...]


class Scheduler:
    """Follows one run of a workflow; every node ends as finished, failed or skipped.

    A node is handed out as ready once, when all that it needs has finished. What depends on a
    failed node, however far away, is skipped. All of a run takes time in proportion to the nodes
    and edges.

    Args:
        workflow: The workflow, or the plan of one.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle.
    """

    __slots__ = ("_because", "_left", "_plan", "_running", "_started", "_waiting")

    def __init__(self, workflow: Workflow | Plan) -> None:
        self._plan = workflow if isinstance(workflow, Plan) else make_plan(workflow)
        self._waiting = dict(self._plan.counts)
        self._running: set[str] = set()
        self._because: dict[str, str] = {}
        self._left = len(self._plan.order)
        self._started = False

    @property
    def plan(self) -> Plan:
        """What it goes by."""
        return self._plan

    @property
    def because(self) -> Mapping[str, str]:
        """Id of the node that has failed, or was skipped itself, by id of the node skipped."""
        return MappingProxyType(self._because)

    @property
    def running(self) -> frozenset[str]:
        """Ids of the nodes that were handed out and have not ended."""
        return frozenset(self._running)

    @property
    def is_done(self) -> bool:
        """Whether every node has ended."""
        return not self._left

    def start(self) -> tuple[str, ...]:
        """Return the nodes that need nothing, in the order in which they were added.

        Raises:
            RuntimeError: It was started before.
        """
        if self._started:
            raise RuntimeError("this run was started before; make a new Scheduler")
        self._started = True
        ready = tuple(node_id for node_id in self._plan.places if node_id not in self._waiting)
        self._running.update(ready)
        return ready

    def finish(self, node_id: str) -> tuple[str, ...]:
        """Note that *node_id* has yielded; return what may start now, in the order added.

        Raises:
            ValueError: It is not at work.
        """
        self._end(node_id)
        return self._release(self._plan.dependants.get(node_id, ()))

    def fail(self, node_id: str) -> tuple[str, ...]:
        """Note that *node_id* has failed; return what is skipped now, in the order added.

        Raises:
            ValueError: It is not at work.
        """
        self._end(node_id)
        skipped: list[str] = []
        found = [node_id]
        while found:
            for target in self._plan.dependants.get(found.pop(), ()):
                if target in self._waiting:
                    self._give_up(target, node_id)
                    skipped.append(target)
                    found.append(target)
        return self._in_order(skipped)

    def skip(self, node_id: str) -> Skipped:
        """Note that *node_id* was not run because its condition is false.

        Nodes that need its output are skipped. Those whose inputs from it all have a default run
        without it.

        Raises:
            ValueError: It is not at work.
        """
        self._end(node_id)
        skipped: list[str] = []
        ready: list[str] = []
        found = [node_id]
        while found:
            source = found.pop()
            for target in self._plan.dependants.get(source, ()):
                if (source, target) in self._plan.optional:
                    ready += self._release((target,))
                elif target in self._waiting:
                    self._give_up(target, node_id)
                    skipped.append(target)
                    found.append(target)
        return Skipped(self._in_order(skipped), self._in_order(ready))

    def _end(self, node_id: str) -> None:
        try:
            self._running.remove(node_id)
        except KeyError:
            raise ValueError(f"node {node_id!r} is not at work") from None
        self._left -= 1

    def _release(self, targets: Iterable[str]) -> tuple[str, ...]:
        """Count one need less for *targets*; return those that have none left."""
        ready: list[str] = []
        for target in targets:
            missing = self._waiting.get(target)
            if missing is None:
                continue  # it was skipped
            if missing > 1:
                self._waiting[target] = missing - 1
            else:
                del self._waiting[target]
                ready.append(target)
        self._running.update(ready)
        return tuple(ready)

    def _give_up(self, node_id: str, because: str) -> None:
        del self._waiting[node_id]
        self._because[node_id] = because
        self._left -= 1

    def _in_order(self, ids: list[str]) -> tuple[str, ...]:
        return tuple(sorted(ids, key=self._plan.places.__getitem__))
