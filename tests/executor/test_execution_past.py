"""What a journal says of an execution that goes on."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.infrastructure.store.model import Entry
from pocketflow_async.workflow.dialects import define
from pocketflow_async.workflow.execution_past import retrace
from tests.executor.recovery_kit import workflow

DEFINITION = define(workflow())
NODES = [block.id for block in DEFINITION.blocks]


def restart_of(block):
    return "reconcile" if block.category == "actions" else "rerun"


def journal(attempts, ends):
    """Return the journal of an execution: some attempts of each node, and how it ended."""
    lines = []
    for node, count, end in zip(NODES, attempts, ends, strict=True):
        lines += [(node, "started", number, None) for number in range(1, count + 1)]
        content = {"failed": json.dumps({"nodeId": node}), "skipped": "why"}.get(end)
        lines.append((node, end, count if end != "skipped" else 1, content))
    return [
        Entry(
            *("r", place, node, phase, attempt, f"r:{node}"),
            output=json.dumps({"of": node}).encode() if phase == "completed" else None,
            error=content,
            at=float(place),
        )
        for place, (node, phase, attempt, content) in enumerate(lines, 1)
    ]


journals = st.builds(
    journal,
    st.lists(st.integers(1, 3), min_size=5, max_size=5),
    st.lists(st.sampled_from(["completed", "failed", "skipped"]), min_size=5, max_size=5),
)


@given(journals, st.integers(0, 30), st.integers(0, 99))
def test_each_node_is_done_in_doubt_or_to_do(entries, cut, seq):
    """Wherever a journal breaks off: what was ended stays so, and nothing is known twice."""
    entries = entries[:cut]
    found = retrace(DEFINITION, entries, seq, restart_of)
    past = found.past

    last = {entry.node_id: entry for entry in entries}
    for phase, known in (
        ("completed", past.outputs),
        ("failed", past.errors),
        ("skipped", past.skipped),
        ("started", past.attempts),
    ):
        assert set(known) == {node for node, entry in last.items() if entry.phase == phase}
    assert past.outputs == {node: {"of": node} for node in past.outputs}
    assert past.attempts == {node: last[node].attempt for node in past.attempts}
    assert [entry.node_id for entry in found.doubts] == [
        node for node in past.attempts if node in ("a", "b")
    ]
    assert past.seq == seq
    assert not found.stale


@given(journals, st.integers(0, 30), st.floats(0, 30))
def test_only_what_an_open_action_waits_for_is_ever_stale(entries, cut, too_old):
    """No action runs again for fresher inputs, and nothing does once all actions are over."""
    entries = entries[:cut]
    found = retrace(DEFINITION, entries, 0, restart_of, too_old)
    last = {entry.node_id: entry.phase for entry in entries}

    assert found.stale <= {"p", "q", "c"}
    if all(last.get(action, "started") != "started" for action in ("a", "b")):
        assert not found.stale
    for node in found.stale:
        assert node not in {**found.past.outputs, **found.past.errors, **found.past.skipped}
        assert found.past.attempts[node] >= 1
    for node in ("p", "q"):
        if found.past.outputs.get(node) and found.stale:
            (line,) = [e for e in entries if e.node_id == node and e.phase == "completed"]
            assert line.at >= too_old


def test_durations_count_from_the_first_attempt():
    """In milliseconds."""
    found = retrace(DEFINITION, journal([3, 1, 1, 1, 1], ["completed"] * 5), 0, restart_of)

    assert found.past.durations["p"] == 3000.0
    assert list(found.past.outputs) == NODES
