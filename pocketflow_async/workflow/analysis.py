"""What will run at the same time in a workflow, what takes longest, and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pocketflow_async.workflow.plan import Plan, make_plan
from pocketflow_async.workflow.ports import listed
from pocketflow_async.workflow.spec import NodeSpec, Workflow


@dataclass(frozen=True)
class Analysis:
    """What is known of a workflow before it runs; `str()` of it is for people.

    Attributes:
        name: Name of the workflow.
        groups: Ids of nodes that can be at work at the same time: those with equally many steps
            before them. The runtime does not wait for a group to end: a node starts when its own
            inputs are there.
        critical_path: The longest way; nothing makes the run shorter than that.
        critical: How long it takes, in seconds if durations were given, else in nodes.
        total: How long all nodes take one after another, in the same unit.
        measured: Whether durations were given.
        async_nodes: Ids of the nodes that run in the event loop.
        sync_nodes: Ids of the nodes that run in threads.
        required_resources: Names of the resources that nodes use.
        why: What limits the run, one line each.
    """

    name: str
    groups: tuple[tuple[str, ...], ...]
    critical_path: tuple[str, ...]
    critical: float
    total: float
    measured: bool
    async_nodes: frozenset[str]
    sync_nodes: frozenset[str]
    required_resources: tuple[str, ...]
    why: tuple[str, ...]

    @property
    def widest(self) -> int:
        """Number of nodes in the largest group."""
        return max(map(len, self.groups), default=0)

    @property
    def speedup(self) -> float:
        """How many times faster than one after another it can be at best."""
        return self.total / self.critical if self.critical else 1.0

    def __str__(self) -> str:
        """Return it as lines for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        count = len(self.async_nodes) + len(self.sync_nodes)
        kinds = f"{len(self.async_nodes)} async, {len(self.sync_nodes)} sync"
        yield f"{self.name}: {count} nodes ({kinds})"
        for number, group in enumerate(self.groups, 1):
            if number > 20:
                yield f"  … and {len(self.groups) - 20} more steps"
                break
            yield f"  step {number}: {', '.join(group[:10])}{_more(len(group) - 10)}"
        yield f"critical path ({self._length()}): {_way(self.critical_path)}"
        yield from (f"- {line}" for line in self.why)

    def _length(self) -> str:
        if self.measured:
            return f"{self.critical:.3g} s of {self.total:.3g} s in all"
        return f"{self.critical:.0f} of {self.total:.0f} nodes; durations are not known yet"


def analyze(
    workflow: Workflow,
    durations: Mapping[str, float] | None = None,
    *,
    max_concurrent_nodes: int | None = None,
    thread_pool_size: int | None = None,
) -> Analysis:
    """Say what of *workflow* can run at the same time, and what takes longest.

    Args:
        workflow: What is to run.
        durations: Seconds that nodes have taken, by id; one that is missing counts as their
            median. None: nothing was measured, and every node counts as one.
        max_concurrent_nodes: Limit of the runtime; None: none.
        thread_pool_size: Threads that the runtime has for nodes that are not async; None: many.

    Raises:
        CyclicDependencyError: Nodes wait for each other in a circle.
    """
    plan = make_plan(workflow)
    nodes = workflow.nodes
    known = {n: max(0.0, durations[n]) for n in plan.order if n in durations} if durations else {}
    usual = statistics.median(known.values()) if known else 1.0
    costs = {node_id: known.get(node_id, usual) for node_id in plan.order}
    path, length = _longest(plan, costs)
    in_loop = frozenset(node_id for node_id, spec in nodes.items() if is_async(spec))
    in_threads = frozenset(nodes) - in_loop
    groups = _groups(plan)
    sync_groups = [[node_id for node_id in group if node_id in in_threads] for group in groups]
    return Analysis(
        name=workflow.name,
        groups=groups,
        critical_path=path,
        critical=length,
        total=sum(costs.values()),
        measured=bool(known),
        async_nodes=in_loop,
        sync_nodes=in_threads,
        required_resources=tuple(
            dict.fromkeys(name for spec in nodes.values() for name in spec.required_resources)
        ),
        why=(
            *_joins(plan, path, costs, measured=bool(known)),
            *_limit(groups, max_concurrent_nodes, "nodes", "max_concurrent_nodes"),
            *_limit(sync_groups, thread_pool_size, "sync nodes", "thread_pool_size"),
        ),
    )


def is_async(spec: NodeSpec) -> bool:
    """Return whether the node runs in the event loop and not in a thread."""
    return spec.work.is_async if spec.work is not None else spec.type != "PythonCodeNode"


def _groups(plan: Plan) -> tuple[tuple[str, ...], ...]:
    """Return the nodes by the number of steps before them, each group as it was added."""
    depths: dict[str, int] = {}
    groups: list[list[str]] = []
    for node_id in plan.order:
        depth = max((depths[source] + 1 for source in plan.needs(node_id)), default=0)
        depths[node_id] = depth
        if depth == len(groups):
            groups.append([])
        groups[depth].append(node_id)
    return tuple(tuple(sorted(group, key=plan.places.__getitem__)) for group in groups)


def _longest(plan: Plan, costs: Mapping[str, float]) -> tuple[tuple[str, ...], float]:
    """Return the longest way through the graph and how long it takes."""
    ends: dict[str, float] = {}
    before: dict[str, str] = {}
    for node_id in plan.order:
        latest = max(plan.needs(node_id), key=ends.__getitem__, default=None)
        if latest is not None:
            before[node_id] = latest
        ends[node_id] = (ends[latest] if latest is not None else 0.0) + costs[node_id]
    last = max(ends, key=ends.__getitem__, default=None)
    if last is None:
        return (), 0.0
    path = [last]
    while path[-1] in before:
        path.append(before[path[-1]])
    return tuple(reversed(path)), ends[last]


def _joins(
    plan: Plan, path: tuple[str, ...], costs: Mapping[str, float], *, measured: bool
) -> Iterator[str]:
    """Say where the run has to wait, and for what."""
    if measured and path:
        slowest = max(path, key=costs.__getitem__)
        yield f"{slowest} takes longest on that path: {costs[slowest]:.3g} s"
    joins = [(n, needs) for n in path if len(needs := plan.needs(n)) > 1]
    for node_id, needs in joins[:5]:
        last = path[path.index(node_id) - 1]
        yield f"{node_id} starts when {listed(needs, 5)} have finished, the last of them {last}"
    if path and len(path) == len(plan.order) > 1:
        yield "every node waits for the one before it: nothing can run at the same time"


def _limit(
    groups: Iterable[Sequence[str]], limit: int | None, what: str, option: str
) -> Iterator[str]:
    """Say if more could run at the same time than may."""
    widest = max(map(len, groups), default=0)
    if limit is not None and widest > limit:
        yield f"up to {widest} {what} could run at the same time, but {option} is {limit}"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _way(path: tuple[str, ...]) -> str:
    if len(path) <= 20:
        return " -> ".join(path) or "none"
    return f"{' -> '.join(path[:10])} -> … -> {' -> '.join(path[-5:])}"
