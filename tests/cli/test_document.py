"""Traces as JSON: complete, valid, and the same every time."""

from __future__ import annotations

import json

from tracing.cli import document
from tracing.record import FAILED


def _tree(make):
    tries = [
        make.phase(outcome=FAILED, error=make.failure(), wait=0.5),
        make.phase(attempt=1),
        make.phase("suspended", note="approval"),
    ]
    child = make.span("Ask", index=2, phases=tries, input=b'{"q":[1,2]}', attributes={"a": 1})
    running = make.span("Wait", took=None, outcome="running")
    return make.tree(make.span("F", "flow", children=[child, running]), tags=("x",), dropped=3)


def test_document_has_everything(make):
    """Ids are hex, times are both ISO and nanoseconds, content is JSON inside the JSON."""
    found = json.loads(document.dumps(document.trace_document(_tree(make))))

    assert found["trace_id"] == "3f2a91bc0d4e4c4e8a8b8c8d8e8f9091"
    assert found["started"] == "2023-11-14T22:13:20.000000000Z"
    assert found["started_ns"] == 1_700_000_000_000_000_000
    assert found["duration_ns"] == found["ended_ns"] - found["started_ns"] == 10_000_000
    assert found["tags"] == ["x"]
    assert found["dropped"] == 3
    child, running = found["roots"][0]["children"]
    assert child["input"] == {"q": [1, 2]}
    assert child["output"] is None
    assert (child["index"], child["attempts"], child["fell_back"]) == (2, 2, False)
    assert child["attributes"] == {"a": 1}
    assert [phase["wait_s"] for phase in child["phases"]] == [0.5, None, None]
    assert child["phases"][2]["note"] == "approval"
    assert child["phases"][0]["error"]["frames"][-1] == {
        "file": "/srv/lib/x.py",
        "line": 42,
        "function": "f",
    }
    assert (running["ended"], running["ended_ns"], running["duration_ns"]) == (None, None, None)


def test_key_order_is_stable(make):
    """Two documents of one trace are the same text, and the first keys name the trace."""
    tree = _tree(make)
    text = document.dumps(document.trace_document(tree))

    assert text == document.dumps(document.trace_document(tree))
    assert list(json.loads(text))[:3] == ["trace_id", "name", "outcome"]


def test_content_that_is_no_json_is_text(make):
    """A cut or foreign content does not break the document."""
    tree = make.tree(make.span(input=b'{"cut', output=b"\xff"))

    root = document.trace_document(tree)["roots"][0]

    assert root["input"] == '{"cut'
    assert root["output"] == "\ufffd"


def test_ascii_document(make):
    """For a stream without UTF-8, the same values in ASCII."""
    tree = make.tree(make.span(input='"ä"'.encode()))
    text = document.dumps(document.trace_document(tree), ascii_only=True)

    assert text.isascii()
    assert json.loads(text)["roots"][0]["input"] == "ä"
