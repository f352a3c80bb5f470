"""Chrome's format: lanes on which spans nest, and events that viewers take."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracing.test_formats_jsonl import NOW, TRACE, arrived, imported, simple
from tracing.formats import chrome
from tracing.formats.lanes import Bar, assign
from tracing.record import Failure, phase_id
from tracing.store import TraceReader
from tracing.store.model import Event, PhaseSpan

bars = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 30)), max_size=30
).map(
    lambda some: [
        Bar(str(place), str(parent % place) if place and parent % 3 else None, start, start + took)
        for place, (start, took, parent) in enumerate(some)
    ]
)


def nested_or_apart(spans):
    """Whether any two of *spans* (start, end) nest, touch, or have nothing in common."""
    for number, (start, end) in enumerate(spans):
        for begin, stop in spans[number + 1 :]:
            if start < begin < end < stop or begin < start < stop < end:
                return False
    return True


@given(bars)
def test_on_a_lane_spans_nest_or_are_apart(bars):
    """Whatever overlaps without nesting is on different lanes."""
    homes = assign(bars)

    for lane in set(homes.values()):
        assert nested_or_apart([(b.start_ns, b.end_ns) for b in bars if homes[b.key] == lane])


@given(bars)
def test_on_a_lane_a_span_lies_only_in_its_ancestors(bars):
    """Two that overlap on one lane are one above the other in the tree."""
    homes, parents = assign(bars), {bar.key: bar.parent for bar in bars}

    def above(key):
        while (key := parents[key]) is not None:
            yield key

    for one in bars:
        for other in bars:
            overlap = max(one.start_ns, other.start_ns) < min(one.end_ns, other.end_ns)
            if one.key != other.key and homes[one.key] == homes[other.key] and overlap:
                assert one.key in above(other.key) or other.key in above(one.key)


def test_a_sequence_stays_on_one_lane_and_branches_get_more():
    """Children one after the other stay with their parent; those at once are side by side."""
    sequence = [Bar("r", None, 0, 30), Bar("a", "r", 0, 10), Bar("b", "r", 10, 30)]
    branches = [Bar("r", None, 0, 30), *(Bar(f"{n}", "r", 5, 20) for n in range(3))]
    later = Bar("z", "r", 21, 29)

    assert set(assign(sequence).values()) == {0}
    assert assign([*branches, later]) == {"r": 0, "0": 0, "1": 1, "2": 2, "z": 0}


def test_ten_thousand_at_once_take_no_second():
    """The number of lanes does not slow it down."""
    many = [Bar("r", None, 0, 10**9), *(Bar(f"{n}", "r", n, 10**8 + n) for n in range(10_000))]
    started = time.process_time()

    assert max(assign(many).values()) == 9_999
    assert time.process_time() - started < 2


@pytest.fixture
def tree(tmp_path):
    """A flow with a node that failed once, was suspended, and has an event."""
    root, node = simple(kind="flow", name="F"), int("ab", 16)
    kinds = [("prep", 0, 1), ("exec", 1, 2), ("exec", 3, 5), ("suspended", 4, 1)]
    phases = tuple(
        PhaseSpan(
            f"{phase_id(node, place):016x}",
            kind,
            int(place == 2),
            NOW + start,
            NOW + start + took,
            "failed" if place == 1 else "completed",
            Failure("E", "no") if place == 1 else None,
            0.5 if place == 1 else None,
            "approval" if kind == "suspended" else None,
        )
        for place, (kind, start, took) in enumerate(kinds)
    )
    child = simple(
        span_id=f"{node:016x}",
        parent_id=root.span_id,
        name="N",
        phases=phases,
        input=b'{"q":1}',
        output=b"\xff",
        events=(Event("seen", NOW + 4, {"k": 1}),),
    )
    inner = simple(
        span_id="00000000000000ac",
        parent_id=phases[2].span_id,
        start_ns=NOW + 4,
        end_ns=NOW + 8,
        name="I",
    )
    imported(tmp_path / "a.db", arrived(root, child, inner))
    return TraceReader(tmp_path / "a.db").trace(TRACE)


def test_the_file_is_one_object_with_names_spans_and_moments(tree):
    """Complete events in microseconds from the origin, metadata, instants, and what is known."""
    found = json.loads(b"".join(chrome.document([tree], NOW - 1_000)))

    assert found["otherData"]["origin_unix_ns"] == str(NOW - 1_000)
    events = found["traceEvents"]
    by_name = {event["name"]: event for event in events}
    assert by_name["process_name"]["args"]["name"] == f"T {TRACE[:8]}"
    assert [event["name"] for event in events if event["ph"] == "X"] == [
        "F", "N", "N.prep", "N.exec 1", "N.exec 2", "N.suspended", "I",
    ]  # fmt: skip
    assert (by_name["N"]["ts"], by_name["N"]["dur"], by_name["N"]["cat"]) == (1.0, 0.01, "node")
    assert by_name["N"]["args"]["input"] == {"q": 1}
    assert by_name["N"]["args"]["output"] == "\ufffd"
    assert by_name["N.exec 1"]["args"]["error"] == "E: no"
    assert by_name["N.suspended"]["args"]["note"] == "approval"
    assert (by_name["seen"]["ph"], by_name["seen"]["s"], by_name["seen"]["ts"]) == ("i", "t", 1.004)


def test_spans_of_a_real_tree_nest_on_their_lanes(tree):
    """A suspension lies in its attempt; what runs beside it is on another lane."""
    events = json.loads(b"".join(chrome.document([tree, tree], NOW)))["traceEvents"]
    lanes = {}
    for event in events:
        if event["ph"] == "X":
            span = (round(event["ts"] * 1e3), round((event["ts"] + event["dur"]) * 1e3))
            lanes.setdefault((event["pid"], event["tid"]), []).append(span)

    assert len(lanes) == 4  # two processes with two lanes each
    assert all(nested_or_apart(spans) for spans in lanes.values())
