"""The scheduler: what may start when, whatever the graph and whatever happens to its nodes."""

from __future__ import annotations

import functools
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.errors import ConnectionError, CyclicDependencyError
from pocketflow_async.workflow.plan import circles, make_plan
from pocketflow_async.workflow.scheduler import Scheduler, Skipped
from pocketflow_async.workflow.spec import Edge, NodeSpec, Port, Ports, Workflow

MANY = 200_000


def workflow_of(ids, pairs, aliases=None, optional=()):
    """Make a workflow of *ids* with an edge for each pair; inputs are called after the source."""
    nodes = {}
    for node_id in ids:
        known = {s: Port(s, None, required=False) for s, t in optional if t == node_id}
        nodes[node_id] = NodeSpec(node_id, "Function", inputs=Ports(known))
    edges = tuple(Edge(source, "result", target, source) for source, target in pairs)
    return Workflow("w", "w", nodes, edges, aliases=aliases or {})


@st.composite
def graphs(draw, circular=False):
    """Draw ids in any order and pairs of them; without circles unless *circular*."""
    count = draw(st.integers(1, 12))
    ids = [f"n{number}" for number in range(count)]
    numbers = st.integers(0, count - 1)
    drawn = draw(st.lists(st.tuples(numbers, numbers), max_size=30))
    pairs = [(a, b) if circular else (min(a, b), max(a, b)) for a, b in drawn if a != b]
    order = draw(st.permutations(ids))
    return order, [(ids[a], ids[b]) for a, b in pairs]


def behind(node_id, pairs):
    """Return all that depends on *node_id*, however far away."""
    found, waiting = set(), [node_id]
    while waiting:
        source = waiting.pop()
        new = {t for s, t in pairs if s == source} - found
        found |= new
        waiting += new
    return found


@given(graphs(), st.data())
def test_each_node_is_ready_once_after_its_needs_and_ends_as_one_thing(graph, data):
    """Any graph, any end of any node in any order: ready once, after its needs.

    Never behind one that failed; each ends finished, failed or skipped, as what is behind those.
    """
    ids, pairs = graph
    scheduler = Scheduler(workflow_of(ids, pairs))
    running = list(scheduler.start())
    seen, finished, failed, skipped = list(running), set(), set(), set()

    while running:
        node_id = running.pop(data.draw(st.integers(0, len(running) - 1)))
        assert {s for s, t in pairs if t == node_id} <= finished
        if data.draw(st.integers(0, 3)):
            ready = scheduler.finish(node_id)
            finished.add(node_id)
            running += ready
            seen += ready
            assert list(ready) == sorted(ready, key=ids.index)
        else:
            failed.add(node_id)
            now = scheduler.fail(node_id)
            assert set(now) == behind(node_id, pairs) - skipped
            assert list(now) == sorted(now, key=ids.index)
            assert {scheduler.because[other] for other in now} <= {node_id}
            skipped |= set(now)
        assert scheduler.is_done == (len(finished) + len(failed) + len(skipped) == len(ids))

    assert scheduler.is_done
    assert len(seen) == len(set(seen))
    assert sorted([*finished, *failed, *skipped]) == sorted(ids)
    assert skipped == set().union(*(behind(node_id, pairs) for node_id in failed))
    assert set(scheduler.because) == skipped


@given(graphs(), st.data())
def test_a_node_with_a_false_condition_skips_what_needs_it_and_no_more(graph, data):
    """A node runs if all that it needs has finished; an input with a default is no need."""
    ids, pairs = graph
    optional = [pair for pair in pairs if data.draw(st.booleans())]
    off = {node_id for node_id in ids if data.draw(st.integers(0, 3)) == 0}
    scheduler = Scheduler(workflow_of(ids, pairs, optional=optional))
    running, finished, skipped = list(scheduler.start()), set(), set()

    while running:
        node_id = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if node_id in off:
            change = scheduler.skip(node_id)
            skipped |= {node_id, *change.skipped}
            running += change.ready
        else:
            finished.add(node_id)
            running += scheduler.finish(node_id)

    expected = set()
    for node_id in make_plan(workflow_of(ids, pairs)).order:
        needs = {s for s, t in pairs if t == node_id and (s, t) not in optional}
        if node_id not in off and needs <= expected:
            expected.add(node_id)
    assert scheduler.is_done
    assert finished == expected
    assert skipped == set(ids) - expected


@given(graphs(), st.lists(st.integers(0, 100), max_size=20))
def test_the_same_events_give_the_same_order(graph, choices):
    """Nothing depends on hashes or on the order of the edges."""
    ids, pairs = graph

    def run(pairs):
        scheduler = Scheduler(workflow_of(ids, pairs))
        running, log, picks = list(scheduler.start()), [], list(choices)
        while running:
            node_id = running.pop((picks.pop() if picks else 0) % len(running))
            ready = scheduler.finish(node_id)
            log.append((node_id, ready))
            running += ready
        return log

    assert run(pairs) == run(pairs[::-1])


def has_circle(ids, pairs):
    """Say whether taking away nodes without needs leaves some over."""
    left = set(ids)
    while free := {n for n in left if not any(t == n and s in left for s, t in pairs)}:
        left -= free
    return bool(left)


@given(graphs(circular=True))
def test_circles_are_found_with_a_true_path(graph):
    """A circle is named if and only if there is one, and all its edges are there."""
    ids, pairs = graph
    workflow = workflow_of(ids, pairs)
    if not has_circle(ids, pairs):
        assert len(make_plan(workflow).order) == len(ids)
        return

    with pytest.raises(CyclicDependencyError) as caught:
        Scheduler(workflow)

    path = caught.value.path
    assert path[0] == path[-1]
    assert len(set(path)) == len(path) - 1 >= 2
    assert set(pairwise(path)) <= set(pairs)
    assert " -> ".join(path) in str(caught.value)


@given(graphs(circular=True))
def test_circles_have_nothing_in_common_and_breaking_them_all_leads_on(graph):
    """Each further circle is another mistake, not another view of the same one."""
    ids, pairs = graph
    targets = {s: tuple({t: None for s2, t in pairs if s2 == s}) for s in ids}

    found = list(circles(targets))

    nodes = [node_id for circle in found for node_id in circle[:-1]]
    assert len(nodes) == len(set(nodes))
    assert bool(found) == has_circle(ids, pairs)


def test_two_mistakes_are_two_circles():
    """Circles that have no node in common are all found, wherever they lie."""
    pairs = {"a": ("b",), "b": ("a", "c"), "c": ("d",), "d": ("e",), "e": ("c",)}

    assert list(circles(pairs)) == [("a", "b", "a"), ("c", "d", "e", "c")]


def test_a_branch_does_not_wait_for_another():
    """There are no levels: b's dependant is ready while a is still at work."""
    scheduler = Scheduler(workflow_of("abcd", [("a", "c"), ("b", "d")]))
    assert scheduler.start() == ("a", "b")

    assert scheduler.finish("b") == ("d",)
    assert scheduler.running == {"a", "d"}


def test_several_edges_between_two_nodes_are_one_need():
    """A node that gets two outputs of another waits for it once."""
    nodes = {"a": NodeSpec("a", "Function"), "b": NodeSpec("b", "Function")}
    edges = (Edge("a", "x", "b", "x"), Edge("a", "y", "b", "y"))
    scheduler = Scheduler(Workflow("w", "w", nodes, edges))
    scheduler.start()

    assert scheduler.finish("a") == ("b",)
    assert scheduler.plan.incoming["b"] == edges


def test_a_node_behind_a_condition_that_only_may_have_its_output_runs():
    """Either branch of a choice may feed the node where they meet."""
    pairs = [("a", "c"), ("b", "c")]
    scheduler = Scheduler(workflow_of("abc", pairs, optional=pairs))
    scheduler.start()

    assert scheduler.skip("a") == Skipped((), ())
    assert scheduler.finish("b") == ("c",)


def test_one_input_without_a_default_is_a_need():
    """A node with two edges from a skipped one runs only if it can do without both."""
    inputs = Ports({"x": Port("x", required=False), "y": Port("y")})
    nodes = {"a": NodeSpec("a", "Function"), "b": NodeSpec("b", "Function", inputs=inputs)}
    edges = (Edge("a", "x", "b", "x"), Edge("a", "y", "b", "y"))
    scheduler = Scheduler(Workflow("w", "w", nodes, edges))
    scheduler.start()

    assert scheduler.skip("a") == Skipped(("b",), ())
    assert scheduler.because == {"b": "a"}


def test_aliases_are_names_of_the_same_node():
    """An edge may name a node by its alias."""
    scheduler = Scheduler(workflow_of("ab", [("other", "b")], aliases={"other": "a"}))
    scheduler.start()

    assert scheduler.finish("a") == ("b",)
    assert scheduler.plan.incoming["b"][0].source == "a"


def test_a_run_is_told_of_each_node_once():
    """Ending a node that is not at work, or starting twice, is a mistake of the caller."""
    scheduler = Scheduler(workflow_of("ab", [("a", "b")]))
    scheduler.start()
    scheduler.finish("a")

    for wrong in ("a", "nobody"):
        with pytest.raises(ValueError, match="not at work"):
            scheduler.finish(wrong)
    with pytest.raises(RuntimeError, match="new Scheduler"):
        scheduler.start()


def test_an_edge_to_nowhere_is_named():
    """A workflow that was never validated does not fail with a bare KeyError."""
    with pytest.raises(ConnectionError, match="there is no node 'x'"):
        Scheduler(workflow_of("a", [("a", "x")]))


def test_nothing_to_do_is_done():
    """An empty workflow has ended before it starts."""
    scheduler = Scheduler(workflow_of((), ()))

    assert scheduler.start() == ()
    assert scheduler.is_done


def test_a_plan_serves_many_runs():
    """Runs of one plan do not see each other."""
    plan = make_plan(workflow_of("ab", [("a", "b")]))
    one, other = Scheduler(plan), Scheduler(plan)
    one.start()
    other.start()

    assert one.finish("a") == ("b",)
    assert other.fail("a") == ("b",)
    assert not one.because


@functools.cache
def many_nodes():
    return workflow_of([str(number) for number in range(MANY)], []).nodes


def many(pairs):
    edges = tuple(Edge(source, "result", target, source) for source, target in pairs)
    return Workflow("w", "w", many_nodes(), edges)


@pytest.mark.parametrize("shape", ["chain", "fan-out", "fan-in"])
def test_very_many_nodes_take_seconds_and_no_recursion(shape):
    """The work is in proportion to the nodes and edges, and depth is no danger."""
    ids = [str(number) for number in range(MANY)]
    pairs = {
        "chain": list(pairwise(ids)),
        "fan-out": [("0", other) for other in ids[1:]],
        "fan-in": [(other, ids[-1]) for other in ids[:-1]],
    }[shape]
    workflow = many(pairs)
    started = time.process_time()

    plan = make_plan(workflow)
    scheduler = Scheduler(plan)
    ready = list(scheduler.start())
    for node_id in ready:
        ready += scheduler.finish(node_id)
    broken = Scheduler(plan)
    broken.start()

    assert len(ready) == MANY
    assert len(broken.fail("0")) == (1 if shape == "fan-in" else MANY - 1)
    assert time.process_time() - started < 10
    with pytest.raises(CyclicDependencyError):
        make_plan(many([*pairs, (ids[-1], ids[0]), (ids[1], ids[0])]))
