"""What an analysis says of a workflow before it runs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.analysis import analyze
from pocketflow_async.workflow.errors import CyclicDependencyError
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow


def workflow_of(ids, pairs, types=None):
    nodes = {i: NodeSpec(i, (types or {}).get(i, "AsyncPythonCodeNode")) for i in ids}
    return Workflow("w", "totals", nodes, tuple(Edge(a, None, b, a) for a, b in pairs))


DIAMOND = workflow_of(
    "abcd", [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")], {"c": "PythonCodeNode"}
)


def test_what_can_run_at_the_same_time_is_grouped():
    """Both sides of a diamond are one group; kinds and the longest way are named."""
    analysis = analyze(DIAMOND)

    assert analysis.groups == (("a",), ("b", "c"), ("d",))
    assert analysis.widest == 2
    assert analysis.critical_path == ("a", "b", "d")
    assert analysis.critical == 3
    assert analysis.speedup == pytest.approx(4 / 3)
    assert analysis.async_nodes == {"a", "b", "d"}
    assert analysis.sync_nodes == {"c"}
    assert not analysis.measured


def test_measured_durations_decide_the_critical_path():
    """The slow side counts; what was not measured counts as the median of the rest."""
    analysis = analyze(DIAMOND, {"a": 1.0, "b": 1.0, "c": 5.0})

    assert analysis.critical_path == ("a", "c", "d")
    assert analysis.critical == 7
    assert analysis.total == 8
    assert analysis.measured
    assert "c takes longest on that path: 5 s" in analysis.why
    assert "d starts when 'b', 'c' have finished, the last of them c" in analysis.why


def test_the_limits_of_the_runtime_are_compared():
    """It says when more could run than may, and which option that is."""
    wide = workflow_of("abcdef", [], dict.fromkeys("abcdef", "PythonCodeNode"))

    why = analyze(wide, max_concurrent_nodes=4, thread_pool_size=2).why

    assert why == (
        "up to 6 nodes could run at the same time, but max_concurrent_nodes is 4",
        "up to 6 sync nodes could run at the same time, but thread_pool_size is 2",
    )
    assert analyze(wide, max_concurrent_nodes=6, thread_pool_size=6).why == ()


def test_it_reads_as_lines_for_people():
    """No invented seconds: without measurements nodes are counted."""
    assert str(analyze(DIAMOND)).splitlines() == [
        "totals: 4 nodes (3 async, 1 sync)",
        "  step 1: a",
        "  step 2: b, c",
        "  step 3: d",
        "critical path (3 of 4 nodes; durations are not known yet): a -> b -> d",
        "- d starts when 'b', 'c' have finished, the last of them b",
    ]
    assert "7 s of 8 s in all" in str(analyze(DIAMOND, {"a": 1.0, "b": 1.0, "c": 5.0}))


def test_a_chain_says_that_nothing_can_run_at_the_same_time():
    """So nobody wonders why more slots do not help."""
    chain = analyze(workflow_of("abc", [("a", "b"), ("b", "c")]))

    assert chain.why == (
        "every node waits for the one before it: nothing can run at the same time",
    )
    assert chain.speedup == 1


def test_long_workflows_stay_readable():
    """Thousands of nodes fit on a screen."""
    ids = [f"n{number}" for number in range(3000)]

    chain = str(analyze(workflow_of(ids, list(pairwise(ids)))))
    fan = str(analyze(workflow_of(ids, [])))

    assert len(chain.splitlines()) < 40
    assert "and 2980 more steps" in chain
    assert "and 2990 more" in fan
    assert len(fan) < 1000


def test_nothing_and_circles():
    """An empty workflow has an empty analysis; one with a circle has none."""
    assert str(analyze(Workflow("w", "w"))).splitlines()[-1].endswith("none")
    with pytest.raises(CyclicDependencyError):
        analyze(workflow_of("ab", [("a", "b"), ("b", "a")]))


@given(st.data())
def test_no_order_is_shorter_than_the_critical_path(data):
    """The path is one of the graph, its length is the sum of its nodes, and none is longer."""
    ids = "abcdefg"
    every = [(a, b) for a in ids for b in ids if a < b]
    pairs = data.draw(st.lists(st.sampled_from(every), unique=True))
    times = {i: float(data.draw(st.integers(0, 9))) for i in ids}

    analysis = analyze(workflow_of(ids, pairs), times)

    path = analysis.critical_path
    assert set(pairwise(path)) <= set(pairs)
    assert analysis.critical == sum(times[i] for i in path)
    ends: dict[str, float] = {}
    for node_id in ids:
        ends[node_id] = times[node_id] + max((ends[a] for a, b in pairs if b == node_id), default=0)
    assert analysis.critical == max(ends.values())
    assert sorted(sum(analysis.groups, ())) == list(ids)
    for group in analysis.groups:
        assert not [pair for pair in pairs if set(pair) <= set(group)]
