"""Scores: given now or later, to a span or a trace, and kept with it."""

from __future__ import annotations

import logging
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import pytest

from pocketflow_async import Flow, Node
from tracing import spans as tracing
from tracing import trace_flow
from tracing.scores import score


def _said(scores):
    return [(found.name, found.value, found.comment) for found in scores]


def test_a_score_in_a_phase_is_the_nodes(traces, find):
    """In exec it judges the node, in a span by hand that span."""

    class Ask(Node):
        def exec(self, prep_res):
            score("clear", 0.25, "too long")
            with tracing.span("s"):
                score("fast", True)

    trace_flow(Flow(start=Ask())).run({})

    (tree,) = traces.all()
    root = tree.roots[0]
    (ask,), (below,) = find(root, "Ask"), find(root, "s")
    assert _said(ask.scores) == [("clear", 0.25, "too long")]
    assert _said(below.scores) == [("fast", True, None)]
    assert ask.scores[0].span_id == ask.span_id
    assert ask.start_ns <= ask.scores[0].at_ns
    assert (tree.scores, root.scores) == ((), ())


def test_a_trace_is_judged_long_after(traces):
    """With its id alone the trace is judged, with a span's id that span."""
    with tracing.span("request") as s, tracing.span("answer") as below:
        pass
    traces.all()
    score("liked", "very", trace_id=s.trace_id)
    score("liked", 3, trace_id=s.trace_id, span_id=below.span_id)
    s.score("own", 1)

    (tree,) = traces.all()
    (root,) = tree.roots
    assert _said(tree.scores) == [("liked", "very", None)]
    assert tree.scores[0].span_id is None
    assert _said(root.scores) == [("own", 1, None)]
    assert _said(root.children[0].scores) == [("liked", 3, None)]
    assert (tree.summary.name, tree.summary.outcome) == ("request", "completed")


def test_a_trace_is_judged_by_another_process(traces, child_env):
    """A process that knows only the id adds to the same trace."""
    with tracing.span("request") as s:
        pass
    traces.all()
    program = f"from tracing.scores import score; score('liked', False, trace_id='{s.trace_id}')"
    subprocess.run([sys.executable, "-c", program], env=child_env, check=True, timeout=30)

    (tree,) = traces.all()
    assert _said(tree.scores) == [("liked", False, None)]
    assert (tree.summary.name, tree.summary.outcome) == ("request", "completed")


def test_a_score_may_come_before_its_trace_is_stored(traces):
    """Given at once, by id, while the trace still runs: it is there, and so is the trace."""
    with tracing.span("request") as s:
        score("early", 1, trace_id=s.trace_id)
        score("early", 2, span_id=s.span_id)

    (tree,) = traces.all()
    assert (tree.summary.name, tree.summary.outcome) == ("request", "completed")
    assert _said(tree.scores) == [("early", 1, None)]
    assert _said(tree.roots[0].scores) == [("early", 2, None)]


def test_a_score_by_id_from_outside_before_the_trace_is_stored(traces):
    """From a context of its own, before anything of the trace was written."""
    loose = tracing.span("request")
    score("early", 1, trace_id=loose.trace_id)
    traces.all()
    loose.end()

    (tree,) = traces.all()
    assert (tree.summary.name, tree.summary.outcome) == ("request", "completed")
    assert _said(tree.scores) == [("early", 1, None)]


def test_a_score_of_what_nobody_knows_is_kept(traces):
    """Neither an unknown trace nor an unknown span loses its score."""
    with tracing.span("request") as s:
        pass
    score("a", 1, trace_id=s.trace_id, span_id="00000000000000aa")
    score("b", 1, trace_id="0" * 31 + "1")

    found = {tree.summary.name: tree for tree in traces.all()}
    (lost,) = found.pop("request").scores
    assert (lost.name, lost.span_id) == ("a", "00000000000000aa")
    (unknown,) = found.values()
    assert (_said(unknown.scores), unknown.roots) == ([("b", 1, None)], ())


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (0.5, 0.5),
        (True, True),
        (False, False),
        ("good", "good"),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 2), 0.5),
        (2**60, float(2**60)),
    ],
)
def test_values_that_can_be(traces, value, kept):
    """Numbers, booleans and texts come back as what they were."""
    with tracing.span("s") as s:
        s.score("q", value)

    (found,) = traces.one().scores
    assert (found.value, type(found.value)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"value": None}, TypeError, "must be a number, a bool or a text, not NoneType"),
        ({"value": [1]}, TypeError, "not list"),
        ({"value": float("nan")}, ValueError, "must be a finite number, not nan"),
        ({"value": float("inf")}, ValueError, "finite"),
        ({"value": " "}, ValueError, "the text is empty"),
        ({"name": ""}, ValueError, "name is empty"),
        ({"name": 3}, TypeError, "name must be a string"),
        ({"comment": 3}, TypeError, "comment must be a string"),
        ({"trace_id": "abc"}, ValueError, "trace_id must be 32 hex digits"),
        ({"trace_id": "0" * 32}, ValueError, "not all 0"),
        ({"trace_id": "g" * 32}, ValueError, "32 hex digits"),
        ({"trace_id": 3}, TypeError, "trace_id must be a string of 32 hex digits"),
        ({"span_id": "abc"}, ValueError, "span_id must be 16 hex digits"),
    ],
)
@pytest.mark.parametrize("off", [False, True])
def test_what_cannot_be_is_refused_at_the_call(given, error, words, off, monkeypatch):
    """The error names what is wrong, and is the same where tracing is off."""
    if off:
        monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    known = {"name": "q", "value": 1, **given}
    with pytest.raises(error, match=words):
        score(**known)
    if not given.keys() & {"trace_id", "span_id"}:
        with tracing.span("s") as s, pytest.raises(error, match=words):
            s.score(**known)


def test_outside_every_span_it_hints_once(traces, caplog, monkeypatch):
    """Without an id there is nothing to judge: the log says so once."""
    monkeypatch.setattr(tracing, "_hinted", False)
    with caplog.at_level(logging.WARNING):
        score("q", 1)
        score("q", 1)

    (said,) = caplog.records
    assert "give score a trace_id" in said.message
    assert not traces.path.exists()


def test_with_tracing_off_nothing_is_kept(traces, monkeypatch):
    """Not even with an id."""
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    score("q", 1, trace_id="0" * 31 + "1")
    score("q", 1)

    assert not traces.path.exists()
