"""Our own lines of JSON: what is written comes back into another store as the same trace."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import warnings
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tracing
from tests.tracing.test_random_flows import Trouble, build, programs
from tracing import TracingConfig, trace_flow
from tracing.formats import jsonl
from tracing.formats.arrived import Arrived
from tracing.formats.importing import Importer, NotImported
from tracing.formats.reading import BadFile, read
from tracing.formats.walking import last_moment, walk
from tracing.record import Failure, phase_id
from tracing.store import TraceReader, open_store
from tracing.store.model import Event, PhaseSpan, Score, Span

NOW = 1_800_000_000_000_000_000
NUMBERS = itertools.count()
TRACE = "3f2a91bc0d4e4c4e8a8b8c8d8e8f9091"


def imported(path, *traces):
    """Return whether each of *traces* was new to the store at *path*."""
    with Importer(str(path), NOW) as importer:
        return [importer.add(trace) for trace in traces]


def copied(tree, path):
    """Write *tree* as lines, read these into the store at *path*, and return what is there."""
    with Importer(str(path), NOW) as importer:
        assert [importer.add(one) for one in read("lines", jsonl.lines(tree))] == [True]
    return TraceReader(path).trace(tree.summary.trace_id)


# -- any flow ----------------------------------------------------------------------------------


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=programs)
def test_the_trace_of_any_flow_comes_back_equal(spec, tmp_path):
    """Nodes, batches, branches, failures, retries, fallbacks: the same tree in another store."""
    from pocketflow_async import AsyncFlow

    path = tmp_path / f"{next(NUMBERS)}.db"
    config = TracingConfig(store=path, session_id="s", user_id="u")
    flow = trace_flow(config, tags=["x"], metadata={"k": [1, None]})(AsyncFlow(build(spec, [])))
    with warnings.catch_warnings(), suppress(Trouble):
        warnings.simplefilter("ignore")  # such as those of unknown actions
        asyncio.run(flow.run_async({"n": 0}))
    store = open_store(path)
    store.close(30)
    reader = TraceReader(path)
    (summary,) = reader.traces()
    tree = reader.trace(summary.trace_id)

    assert copied(tree, tmp_path / f"{next(NUMBERS)}.db") == tree


def test_events_scores_and_generations_come_back(store_path, tmp_path):
    """What is noted by hand is in the file too: events in order, scores of spans and traces."""
    with tracing.span("work", input={"a": 1}) as span:
        for name in ("one", "two", "three"):
            span.event(name, n=name)
        tracing.score("good", True, comment="yes")
        with tracing.generation(model="m", input="hi") as call:
            call.update(output="ho", usage={"input": 1})
    store = open_store()
    store.flush(10)
    trace_id = TraceReader(store_path).traces()[0].trace_id
    tracing.score("whole", 0.5, trace_id=trace_id)
    store.flush(10)
    tree = TraceReader(store_path).trace(trace_id)

    again = copied(tree, tmp_path / "other.db")

    assert again == tree
    assert [event.name for event in again.roots[0].events] == ["one", "two", "three"]
    assert [score.name for score in (*again.roots[0].scores, *again.scores)] == ["good", "whole"]
    store.close()


# -- any tree ----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
contents = st.one_of(
    st.none(),
    st.binary(max_size=12),
    st.sampled_from([b"null", b"1.0", b"1.00", b'{"b":1,"a":2}', b'{"a":1,"a":2}', b'"\xc3\xa4"']),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
mappings = st.dictionaries(texts, values, max_size=3)
failures = st.none() | st.builds(
    Failure,
    texts,
    texts,
    st.lists(st.tuples(texts, st.integers(0, 9), texts), max_size=2).map(tuple),
)
outcomes = st.sampled_from(["completed", "failed", "cancelled", "timed_out", "halted"])


@st.composite
def arrivals(draw):
    """Any trace that a store can hold, all of it ended."""
    ids = draw(st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=8, unique=True))
    spans = []
    for place, number in enumerate(ids):
        start = draw(st.integers(NOW, NOW + 10**6))
        kinds = draw(st.lists(st.sampled_from(["prep", "exec", "suspended"]), max_size=3))
        phases = tuple(
            PhaseSpan(
                f"{phase_id(number, ordinal):016x}",
                kind,
                draw(st.integers(0, 3)),
                start,
                start + draw(st.integers(0, 99)),
                draw(outcomes),
                draw(failures),
                draw(st.none() | st.floats(0, 9)),
                draw(st.none() | texts),
            )
            for ordinal, kind in enumerate(kinds)
        )
        hosts = [span.span_id for span in spans] + [p.span_id for s in spans for p in s.phases]
        parent = draw(st.sampled_from([None, *hosts, "00000000000000ff"])) if place else None
        events = [
            Event(draw(texts), NOW + n // 2, draw(mappings)) for n in range(draw(st.integers(0, 3)))
        ]
        spans.append(
            Span(
                TRACE,
                f"{number:016x}",
                parent,
                draw(st.sampled_from(["flow", "node", "item", "span"])),
                draw(texts),
                draw(st.none() | st.integers(0, 9)),
                start,
                start + draw(st.integers(0, 10**6)),
                draw(outcomes),
                draw(failures),
                draw(contents),
                draw(contents),
                draw(mappings),
                phases,
                (),
                tuple(events),
            )
        )
    scores = [Score(f"{7 + n:016x}", draw(texts), 0.5, None, NOW + n) for n in range(2)]
    return Arrived(
        TRACE,
        draw(texts),
        draw(outcomes),
        NOW,
        draw(st.integers(0, 10**9)),
        tuple(spans),
        draw(st.none() | texts),
        draw(st.none() | texts),
        tuple(draw(st.lists(texts, max_size=2))),
        draw(mappings),
        tuple(scores),
        draw(st.integers(0, 3)),
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(trace=arrivals())
def test_any_tree_comes_back_equal(trace, tmp_path):
    """Contents to the byte, also those that are no JSON; unknown parents; lost records."""
    first, second = (tmp_path / f"{next(NUMBERS)}.db" for _ in range(2))
    assert imported(first, trace) == [True]
    tree = TraceReader(first).trace(TRACE)

    assert copied(tree, second) == tree
    assert tree.dropped == trace.dropped
    assert {span.span_id: span.input for span, _ in walk(tree.roots)} == {
        span.span_id: span.input for span in trace.spans
    }


# -- the lines ---------------------------------------------------------------------------------


def simple(**fields):
    known = {"parent_id": None, "kind": "node", "name": "N", "index": None, "outcome": "completed"}
    known |= {"start_ns": NOW, "end_ns": NOW + 10, "span_id": "00000000000000aa", **fields}
    return Span(trace_id=TRACE, **known)


def arrived(*spans, **fields):
    known = {"name": "T", "outcome": "completed", "started_ns": NOW, "duration_ns": 10, **fields}
    return Arrived(trace_id=TRACE, spans=spans, **known)


def lines_of(path):
    return [*jsonl.lines(TraceReader(path).trace(TRACE))]


def test_contents_are_values_in_their_line(tmp_path):
    """A JSON content can be asked for with jq; one that would change is kept as text."""
    spans = (
        simple(input=b'{"q":[1,2]}', output=b"1.00"),
        simple(span_id="00000000000000ab", output=b"\xff"),
    )
    imported(tmp_path / "a.db", arrived(*spans))

    _, one, two = map(json.loads, lines_of(tmp_path / "a.db"))

    assert (one["input"], one["output_text"], "output" in one) == ({"q": [1, 2]}, "1.00", False)
    assert two["output_base64"] == "/w=="
    assert "input" not in two


def test_what_ran_is_interrupted_elsewhere(tmp_path):
    """A trace that was written while it ran is not said to run where it was read."""
    phase = PhaseSpan("0" * 16, "exec", 0, NOW + 5, None, "running")
    span = simple(end_ns=None, outcome="running", phases=(phase,))
    imported(tmp_path / "a.db", arrived(span, duration_ns=None, outcome="running"))

    tree = TraceReader(tmp_path / "a.db").trace(TRACE)

    assert (tree.summary.outcome, tree.summary.duration_ns) == ("interrupted", 5)
    (root,) = tree.roots
    assert (root.outcome, root.end_ns, root.phases[0].outcome) == (
        "interrupted",
        NOW + 5,
        "interrupted",
    )
    assert last_moment(tree) == NOW + 5


def test_a_trace_that_is_there_stays_as_it_is(tmp_path):
    """The second import of a trace writes nothing."""
    path = tmp_path / "a.db"

    assert imported(path, arrived(simple(name="first")), arrived(simple(name="second"))) == [
        True,
        False,
    ]
    assert TraceReader(path).trace(TRACE).roots[0].name == "first"


def test_nothing_that_is_imported_waits_to_be_sent(tmp_path):
    """Rows have no route, and there is no parcel."""
    imported(tmp_path / "a.db", arrived(simple()))

    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("SELECT route, within FROM records").fetchall() == [(None, None)]
        assert connection.execute("SELECT count(*) FROM parcels").fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0], lines[1][:-9]], "2: it is not a line of JSON"),
        (lambda lines: [b"[1]\n", *lines], "1: it is not a JSON object"),
        (lambda lines: [b'{"a":1}\n'], "1: it is neither a line of"),
        (lambda lines: lines[:1], "0 of the 1 records of trace 3f2a91bc"),
        (lambda lines: lines[1:], "the line of type trace is missing"),
        (
            lambda lines: [lines[0].replace(b'async":1', b'async":9'), lines[1]],
            "1: it has format 9",
        ),
        (
            lambda lines: [lines[0], lines[1].replace(b'"00000000000000aa"', b'"xyz"')],
            "2: span_id must be 16 hex digits and not zero, not 'xyz'",
        ),
        (
            lambda lines: [lines[0], b"\n", lines[1].replace(b'"kind":"node"', b'"kind":7')],
            "3: kind must be a text, not 7",
        ),
        (
            lambda lines: [lines[0], lines[1].replace(b'"start_ns":1', b'"start_ns":99999999991')],
            "2: start_ns must be a whole number of 64 bits",
        ),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(tmp_path, change, said):
    """The error has the file and the number of the line, and comes before the first trace."""
    imported(tmp_path / "a.db", arrived(simple()))
    lines = change(lines_of(tmp_path / "a.db"))

    with pytest.raises(BadFile, match="Nothing was imported") as caught:
        next(read("some.jsonl", lines))

    assert str(caught.value).startswith("some.jsonl:")
    assert said in str(caught.value)


def test_traces_may_be_mixed_and_files_put_together(tmp_path):
    """The lines of two traces in any order are two traces; the same file twice is each once."""
    other = Arrived("f" * 32, "U", "completed", NOW, 1, (simple(),))
    spans = tuple(simple(span_id=f"{n:016x}") for n in range(1, 4))
    path = tmp_path / "a.db"
    imported(path, arrived(*spans), Arrived("f" * 32, "U", "completed", NOW, 1, spans))
    reader = TraceReader(path)
    one, two = ([*jsonl.lines(reader.trace(key))] for key in (TRACE, other.trace_id))
    mixed = [line for pair in zip(one, two, strict=True) for line in pair]

    found = [*read("x", [*mixed, *one])]

    assert [(trace.name, len(trace.spans)) for trace in found] == [("T", 3), ("U", 3)]


def test_a_trace_that_cannot_be_written_leaves_nothing(tmp_path):
    """Its transaction is undone, and the next trace is written whole, with a writer of its own."""
    path = tmp_path / "a.db"
    imported(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON records WHEN NEW.name = 'bad'"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    good = Arrived("f" * 32, "U", "completed", NOW, 1, (simple(),), dropped=2)

    with Importer(str(path), NOW) as importer:
        with pytest.raises(NotImported, match="disk full"):
            importer.add(arrived(simple(), simple(name="bad"), dropped=2))
        assert importer.add(good)

    reader = TraceReader(path)
    assert [trace.trace_id for trace in reader.traces()] == ["f" * 32]
    assert reader.trace("f" * 32).dropped == 2


def test_a_file_that_is_no_store_is_not_written(tmp_path):
    """The importer leaves another program's file alone, and says so."""
    (tmp_path / "notes").write_text("just some notes\n" * 100)

    with pytest.raises(NotImported, match="cannot write into the trace store"):
        Importer(str(tmp_path / "notes"), NOW)

    assert (tmp_path / "notes").read_text().startswith("just")


def test_a_deep_tree_needs_no_deep_stack(tmp_path):
    """Three thousand spans inside each other are written and read."""
    below = (simple(span_id=f"{n:016x}", parent_id=f"{n - 1:016x}") for n in range(2, 3_001))
    spans = [simple(span_id=f"{1:016x}"), *below]
    imported(tmp_path / "a.db", arrived(*spans))

    (found,) = read("x", lines_of(tmp_path / "a.db"))

    assert len(found.spans) == 3_000
