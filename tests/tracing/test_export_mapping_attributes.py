"""Attributes of users, and what models, tools and agents say, as back ends show them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tracing.langfuse_kit_mapping import attributes
from tests.tracing.mapping_kit import START, jaeger, langfuse, out, record, sent, via_collector
from tracing.export.model import CLIENT
from tracing.store.model import Event

# --- users' attributes ----------------------------------------------------------------------------

TRAPS = (
    "model",
    "prompt",
    "input",
    "output",
    "events",
    "tool_arguments",
    "tool_response",
    "all_messages_events",
    "gen_ai.tool.name",
    "gen_ai.operation.name",
    "gen_ai.request.model.extra",
    "langfuse.observation.type",
    "langfuse.observation.input",
    "langfuse.trace.name",
    "input.value",
    "session.id",
    "openinference.span.kind",
    "mlflow.spanInputs",
    "traceloop.entity.input",
    "genkit:name",
    "logfire.msg",
)


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("kind", ["flow", "node", "span"])
@pytest.mark.parametrize("contents", [{}, {"input": None, "output": None}], ids=["full", "empty"])
def test_no_name_of_a_user_changes_what_a_span_is(name, kind, contents):
    """Bare, it would rename the span, make a generation of it or hide its contents."""
    plain = record(kind, **contents)
    said = record(kind, attributes={name: "tool"}, **contents)

    for show in (langfuse, via_collector):
        before, after = show(plain), show(said)
        assert replace(after, metadata={}) == replace(before, metadata={})
    assert langfuse(said).metadata[name] == "tool"
    assert jaeger(said)[f"flow.attr.{name}"] == "tool"


def test_values_of_users_go_out_as_they_are_or_as_json():
    """Scalars and lists of one kind for everybody; Langfuse's metadata is all text."""
    values = {"n": 3, "f": 0.5, "t": True, "none": None, "l": [1, 2], "m": [1, "a"], "d": {"k": 1}}
    tags = jaeger(record(attributes=values))

    assert {name: tags[f"flow.attr.{name}"] for name in values} == {
        **values,
        "none": "null",
        "m": '[1,"a"]',
        "d": '{"k":1}',
    }
    shown = langfuse(record(attributes=values)).metadata
    assert [shown[name] for name in values] == [
        "3", "0.5", "true", "null", "[1,2]", '[1,"a"]', '{"k":1}',
    ]  # fmt: skip


def test_names_of_the_server_are_not_taken_from_it():
    """Langfuse keeps all other attributes under `attributes`; a user's own may not hide them."""
    found = langfuse(record(attributes={"attributes": "mine", "scope": "mine"}))

    assert found.metadata["attributes"]["flow.attr.attributes"] == "mine"
    assert found.metadata["scope"] != "mine"


def test_facts_of_ours_have_names_of_ours():
    """The action, the place in a batch, what a generator has come to."""
    tags = jaeger(record("item", index=4, attributes={"action": "next", "flow.slow": 2.5}))
    assert (tags["flow.index"], tags["flow.action"], tags["flow.slow"]) == (4, "next", 2.5)

    tags = jaeger(record("function", attributes={"yielded": 3, "abandoned": True}))
    assert (tags["flow.yielded"], tags["flow.abandoned"]) == (3, True)


def test_a_user_cannot_change_facts_of_ours():
    """Kind and outcome are what the recorder has seen."""
    tags = jaeger(record(attributes={"flow.kind": "x", "flow.outcome": "x", "flow.index": 9}))

    assert (tags["flow.kind"], tags["flow.outcome"]) == ("node", "completed")


def test_events_of_users_are_events_and_never_contents():
    """One that is called like a model's message gets a prefix."""
    events = (Event("cache miss", START + 5, {"key": "k"}), Event("gen_ai.user.message", START + 6))
    span = record(events=events)
    (found, *_) = sent(out(span))[1]

    assert [event.name for event in found.events] == [
        "cache miss",
        "flow.event.gen_ai.user.message",
    ]
    assert attributes(found.events[0].attributes) == {"key": "k"}
    assert langfuse(span).input == {"question": "why"}


# --- models, tools, agents ------------------------------------------------------------------------

CALL = {
    "gen_ai.request.model": "small",
    "gen_ai.request.temperature": 0,
    "gen_ai.request.stop": {"at": "x"},
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 4,
    "flow.cost": 0.02,
    "flow.cost.input": 0.015,
    "flow.completion_start_ns": 1_500,
    "mine": "yes",
}


def test_a_generation_has_model_usage_cost_and_first_token():
    """Langfuse's columns, and the same for a Langfuse behind a collector but for the time."""
    found, over = (
        show(record("generation", attributes=CALL)) for show in (langfuse, via_collector)
    )

    assert (found.model, found.model_parameters) == (
        "small",
        {"temperature": 0, "stop": {"at": "x"}},
    )
    assert found.usage == {"input": 10, "output": 4, "total": 14}
    assert found.cost == {"total": 0.02, "input": 0.015}
    assert found.completion_start_time == "2025-06-15T15:06:40.123458Z"
    assert found.metadata["mine"] == "yes"
    assert (over.type, over.model, over.cost) == ("GENERATION", "small", {"total": 0.02})
    assert over.usage == {"input": 10, "output": 4}
    tags = jaeger(record("generation", attributes=CALL))
    assert tags["gen_ai.operation.name"] == "chat"
    assert tags["gen_ai.response.time_to_first_chunk"] == 1.5e-6


def test_a_node_that_names_its_model_is_a_generation():
    """`tracing.update(model=…)` in exec: Langfuse counts usage and cost of generations only."""
    found = langfuse(record("node", attributes=CALL))

    assert (found.type, found.model, found.usage["total"]) == ("GENERATION", "small", 14)
    assert out(record("node", attributes=CALL))[0].kind == CLIENT


def test_a_flow_never_is():
    """It stays what it is, and a model's names stay its attributes."""
    found = via_collector(record("flow", attributes=CALL))

    assert (found.type, found.model, found.usage) == ("CHAIN", None, {})
    assert jaeger(record("flow", attributes=CALL))["flow.attr.gen_ai.request.model"] == "small"


def test_an_agent_that_counts_does_not_say_invoke_agent():
    """Langfuse would take model, usage and cost from it; one that does not count says it."""
    for show in (langfuse, via_collector):
        found = show(record("agent", attributes=CALL))
        assert (found.type, found.model) == ("AGENT", "small")
        assert found.usage["input"] == 10
        assert found.cost["total"] == 0.02
    said = {**CALL, "gen_ai.operation.name": "invoke_agent"}
    assert via_collector(record("generation", attributes=said)).model == "small"
    assert jaeger(record("agent"))["gen_ai.operation.name"] == "invoke_agent"


def test_contents_under_names_of_gen_ai_are_not_lost_beside_ours():
    """Input noted by us and output by the user as messages: both show."""
    said = {"gen_ai.output.messages": [{"role": "assistant", "parts": []}]}
    for show in (langfuse, via_collector):
        found = show(record("generation", output=None, attributes=said))
        assert found.input == {"question": "why"}
        assert found.output == [{"role": "assistant", "parts": []}]


def test_the_name_of_a_tool_stays_that_of_its_span():
    """Langfuse shows `gen_ai.tool.name`; a generation that has one keeps its own name."""
    assert langfuse(record("tool", "search")).name == "search"
    assert langfuse(record("generation", "ask", attributes={"gen_ai.tool.name": "x"})).name == "ask"
