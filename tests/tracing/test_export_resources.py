"""Uses of resources and policies on their way out: names that back ends know."""

from __future__ import annotations

import pytest

from tests.tracing.mapping_kit import langfuse, out, record
from tracing.export.model import CLIENT, INTERNAL

QUERY = {
    "kind": "resource",
    "name": "main_db.fetch",
    "input": b'{"statement":"SELECT 1"}',
    "attributes": {
        "flow.resource": "main_db",
        "db.system.name": "postgresql",
        "db.response.returned_rows": 1,
        "mine": "x",
    },
}


@pytest.mark.parametrize("dialect", ["otlp", "langfuse"])
def test_a_statement_goes_out_as_a_database_span(dialect):
    """It is a client's span with OpenTelemetry's names; what else was noted keeps our prefix."""
    (span,) = out(record(**QUERY), dialect)

    assert span.kind == CLIENT
    assert span.name == "main_db.fetch"
    assert span.attributes["db.system.name"] == "postgresql"
    assert span.attributes["db.response.returned_rows"] == 1
    assert span.attributes["db.query.text"] == "SELECT 1"
    assert span.attributes["flow.resource"] == "main_db"
    assert "mine" not in span.attributes


@pytest.mark.parametrize("content", [None, b"[1]", b'{"statement":"SEL', b'{"statement":5}'])
def test_without_a_statement_there_is_no_text_of_one(content):
    """No input, another one, or one that was cut: the span goes out without."""
    (span,) = out(record(**{**QUERY, "input": content}))

    assert "db.query.text" not in span.attributes


def test_other_spans_get_no_such_names():
    """A user's own attribute of a node is never taken for one of a client's."""
    spans = out(record(attributes={"db.system.name": "mine", "http.request.method": "GET"}))

    (span,) = [span for span in spans if span.name == "Node"]
    assert not {"db.system.name", "db.query.text", "http.request.method"} & span.attributes.keys()


def test_a_policy_is_an_internal_span_with_its_facts():
    """It tells which policy, and what that has done."""
    said = {"flow.policy": "retry", "flow.retry.attempts": 3}
    (span,) = out(record("policy", "retry", input=None, output=None, attributes=said))

    assert span.kind == INTERNAL
    assert span.attributes["flow.policy"] == "retry"
    assert span.attributes["flow.retry.attempts"] == 3


def test_langfuse_shows_both_as_spans():
    """Neither becomes a generation or a chain there."""
    assert langfuse(record(**QUERY)).type == "SPAN"
    assert langfuse(record("policy", "retry")).type == "SPAN"
