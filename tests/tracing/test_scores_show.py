"""The command shows scores of a trace, and its JSON all that was noted by hand."""

from __future__ import annotations

import json

from tracing import spans as tracing
from tracing.cli import document
from tracing.cli.render import trace_page
from tracing.cli.view import View
from tracing.scores import score


def test_the_command_shows_scores_of_the_trace(traces):
    """They stand at the head of the page, and in the JSON."""
    with tracing.span("request") as s:
        pass
    score("liked", 0.123456789, "nice\nand short", trace_id=s.trace_id)

    (tree,) = traces.all()
    view = View(now_ns=tree.summary.started_ns, width=100)
    page = [line.plain for line in trace_page(tree, view)]
    assert "score    liked = 0.123457 (nice and short)" in page
    (found,) = json.loads(document.dumps(document.trace_document(tree)))["scores"]
    assert (found["value"], found["comment"]) == (0.123456789, "nice\nand short")


def test_the_json_has_what_was_noted_by_hand(traces):
    """Model, usage, cost, events and scores have fields of their own."""
    with tracing.span("chat") as s, tracing.generation(model="m", usage={"input": 2}, cost=1) as g:
        g.event("e", a=1)
        g.score("q", 0.5, "why")
        s.score("liked", True)

    (tree,) = traces.all()
    assert tree.summary.spans == 2
    root = json.loads(document.dumps(document.trace_document(tree)))["roots"][0]
    shown = root["children"][0]
    assert (shown["model"], shown["usage"], shown["cost"]) == ("m", {"input_tokens": 2}, 1.0)
    assert shown["events"][0]["attributes"] == {"a": 1}
    assert (shown["scores"][0]["value"], shown["scores"][0]["comment"]) == (0.5, "why")
    assert root["scores"][0]["value"] is True
