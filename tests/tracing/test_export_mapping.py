"""What a record looks like outside: in Langfuse's mapping, in Phoenix and in Jaeger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tracing.langfuse_kit import observed
from tests.tracing.langfuse_kit_mapping import attributes
from tests.tracing.mapping_kit import (
    BOOM,
    FACTS,
    ROUTE,
    START,
    TRACE,
    jaeger,
    langfuse,
    out,
    phase,
    phoenix,
    record,
    sent,
    via_collector,
)
from tracing.export.attributes import shared_attributes
from tracing.export.expand import expand
from tracing.export.model import CLIENT, INTERNAL
from tracing.record import Failure
from tracing.store.model import TraceFacts

# --- kinds ----------------------------------------------------------------------------------------

KINDS = {
    "flow": ("CHAIN", "CHAIN", INTERNAL),
    "workflow": ("CHAIN", "CHAIN", INTERNAL),
    "node": ("SPAN", "CHAIN", INTERNAL),
    "item": ("SPAN", "CHAIN", INTERNAL),
    "function": ("SPAN", "CHAIN", INTERNAL),
    "span": ("SPAN", "CHAIN", INTERNAL),
    "something": ("SPAN", "CHAIN", INTERNAL),
    "generation": ("GENERATION", "LLM", CLIENT),
    "embedding": ("EMBEDDING", "EMBEDDING", CLIENT),
    "agent": ("AGENT", "AGENT", INTERNAL),
    "tool": ("TOOL", "TOOL", INTERNAL),
    "retriever": ("RETRIEVER", "RETRIEVER", INTERNAL),
    "reranker": ("SPAN", "RERANKER", INTERNAL),
    "guardrail": ("GUARDRAIL", "GUARDRAIL", INTERNAL),
    "evaluator": ("EVALUATOR", "EVALUATOR", INTERNAL),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_word_everywhere(kind):
    """Langfuse's type, OpenInference's kind and OTLP's kind of span, with both contents."""
    type_, openinference, otlp = KINDS[kind]
    span = record(kind, "thing")
    found, seen = langfuse(span), phoenix(span)

    assert (found.type, found.name, found.level) == (type_, "thing", "DEFAULT")
    assert (found.input, found.output) == ({"question": "why"}, "because")
    assert (seen["kind"], seen["status"]) == (openinference, "OK")
    assert (seen["input"], seen["output"]) == ('{"question":"why"}', '"because"')
    assert jaeger(span)["flow.kind"] == kind
    assert out(span)[0].kind == otlp
    over = via_collector(span)
    assert (over.name, over.input, over.output) == ("thing", {"question": "why"}, "because")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"flow", "workflow"}))
def test_plain_kinds_have_no_names_of_models(kind):
    """`gen_ai.*` is on spans of models, tools, agents and their like only."""
    tags = jaeger(record(kind))
    plain = KINDS[kind][1] == "CHAIN"

    assert not (plain and [name for name in tags if name.startswith("gen_ai.")])
    if kind == "tool":
        assert tags["gen_ai.operation.name"] == "execute_tool"
        assert tags["gen_ai.tool.name"] == "Node"
    if kind == "agent":
        assert tags["gen_ai.operation.name"] == "invoke_agent"


# --- outcomes -------------------------------------------------------------------------------------

OUTCOMES = [
    ("completed", None, "", None),
    ("failed", BOOM, "ValueError: boom", "ValueError"),
    ("failed", Failure("KeyError", ""), "KeyError", "KeyError"),
    ("cancelled", Failure("asyncio.exceptions.CancelledError", ""), "cancelled", ...),
    ("cancelled", None, "cancelled", "cancelled"),
    ("timed_out", Failure("TimeoutError", ""), "timed_out: TimeoutError", "TimeoutError"),
    ("halted", Failure("NotAllowed", "no"), "halted: NotAllowed: no", "NotAllowed"),
    ("interrupted", None, "interrupted: its process died", "interrupted"),
]


@pytest.mark.parametrize(("outcome", "error", "message", "type_"), OUTCOMES)
def test_each_outcome_shows_in_the_status_message(outcome, error, message, type_):
    """All but completed is an error with words; Langfuse shows nothing else of it."""
    span = record(outcome=outcome, error=error)
    found, seen, tags = langfuse(span), phoenix(span), jaeger(span)

    assert found.level == ("ERROR" if message else "DEFAULT")
    assert found.status_message == (message or None)
    assert (seen["status"], seen["message"]) == ("ERROR" if message else "OK", message)
    assert tags.get("error", False) is bool(message)
    assert tags["flow.outcome"] == outcome
    assert tags.get("error.type") == (error.type if type_ is ... else type_)
    assert len(seen["exceptions"]) == (error is not None)


def test_an_error_is_an_exception_event_with_the_lines_it_came_through():
    """Type, message and a traceback as Python writes it, at the end of the span."""
    (event,) = phoenix(record(outcome="failed", error=BOOM))["exceptions"]
    said = attributes(event.attributes)

    assert (said["exception.type"], said["exception.message"]) == ("ValueError", "boom")
    assert said["exception.stacktrace"] == (
        "Traceback (most recent call last):\n"
        '  File "app.py", line 12, in exec_async\n'
        '  File "lib.py", line 3, in load\n'
        "ValueError: boom"
    )
    assert event.time_unix_nano == START + 2_000


def test_a_level_and_its_words_do_not_change_the_status():
    """They are Langfuse's; where the span has failed, the words stand before the error."""
    said = {"flow.level": "WARNING", "flow.status_message": "low on stock"}
    fine, bad = record(attributes=said), record(attributes=said, outcome="failed", error=BOOM)

    found = langfuse(fine)
    assert (found.level, found.status_message) == ("WARNING", "low on stock")
    assert phoenix(fine)["status"] == "OK"
    assert langfuse(bad).status_message == "low on stock; ValueError: boom"


def test_one_side_of_the_contents_may_be_missing():
    """What was not recorded is not made up."""
    found = langfuse(record(output=None, outcome="failed", error=BOOM))

    assert (found.input, found.output) == ({"question": "why"}, None)
    assert "output.value" not in jaeger(record(output=None))
    nothing = langfuse(record(input=None, output=None))
    assert (nothing.input, nothing.output) == (None, None)


# --- what all spans of a trace have ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flow", "node", "generation"])
def test_every_span_tells_of_its_trace(kind):
    """Langfuse's columns are there on each, phases too; metadata strings have no quotes."""
    spans = out(record(kind, phases=(phase(0, "prep"),)), "langfuse")

    for found in observed(sent(spans)[0]):
        assert (found.trace_name, found.session_id, found.user_id) == ("Flow", "s-1", "u-1")
        assert found.tags == ["a", "b"]
        assert found.trace_metadata == {"plan": "pro", "seats": "3"}
        assert (found.environment, found.release, found.version) == ("prod", "r-7", "2.0")
    seen = phoenix(record(kind))
    assert (seen["session"], seen["tags"]) == ("s-1", ["a", "b"])
    assert seen["metadata"] == {"plan": "pro", "seats": 3}


def test_what_propagate_says_inside_a_trace_wins_on_that_span():
    """Session and user replaced, tags united, metadata merged; its phases have the same."""
    said = {
        "session_id": "s-2",
        "user_id": "u-2",
        "tags": ["b", "c"],
        "metadata": {"plan": "free", "x": [1]},
    }
    spans = out(record(attributes=said, phases=(phase(0, "prep"),)), "langfuse")

    for found in observed(sent(spans)[0]):
        assert (found.session_id, found.user_id) == ("s-2", "u-2")
        assert found.tags == ["a", "b", "c"]
        assert found.trace_metadata == {"plan": "free", "seats": "3", "x": "[1]"}
    seen = phoenix(record(attributes=said))
    assert seen["metadata"] == {"plan": "free", "seats": 3, "x": [1]}
    assert not [name for name in jaeger(record(attributes=said)) if "session_id" in name]


def test_spans_of_one_trace_share_one_mapping():
    """So that it is encoded once; only a span that says more has its own."""
    shared = shared_attributes(FACTS, ROUTE, "otlp")
    spans = expand(record(phases=(phase(0, "prep"),)), FACTS, None, ROUTE, "otlp", shared)

    assert all(span.shared is shared for span in spans)


def test_what_is_too_long_for_langfuse_is_made_to_fit_and_stays_unique():
    """A longer session would be dropped; two that begin alike stay two."""

    def long(session):
        return TraceFacts(TRACE, "n" * 300, session, "u" * 201, ("t" * 201,))

    one, two = (langfuse(record(), facts=long("s" * 250 + end)) for end in "ab")

    assert len(one.session_id) == len(one.user_id) == len(one.tags[0]) == 200
    assert len(one.trace_name) == 200
    assert one.session_id != two.session_id
    assert one.user_id == two.user_id
    assert (
        via_collector(record(), facts=replace(FACTS, session_id="s" * 250)).session_id == "s" * 250
    )
