"""A model's contents as the messages that OpenTelemetry describes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracing.mapping_kit import jaeger, langfuse, record, via_collector
from tracing.export.messages import conversation

HI = {"type": "text", "content": "hi"}


def said(content, side="input"):
    span = record("generation", **{side: json.dumps(content).encode()})
    return json.loads(conversation(span).get(f"gen_ai.{side}.messages", "null"))


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("hi", [{"role": "user", "parts": [HI]}]),
        ([{"role": "system", "content": "hi"}], [{"role": "system", "parts": [HI]}]),
        ({"messages": [{"role": "user", "content": "hi"}]}, [{"role": "user", "parts": [HI]}]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url"}]}],
            [{"role": "user", "parts": [HI, {"type": "image_url"}]}],
        ),
        (
            [{"role": "tool", "tool_call_id": "1", "content": "42"}],
            [
                {
                    "role": "tool",
                    "parts": [{"type": "tool_call_response", "id": "1", "response": "42"}],
                }
            ],
        ),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "add", "arguments": "{}"}}],
                "finish_reason": "tool_calls",
            },
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "1", "name": "add", "arguments": "{}"}],
                    "finish_reason": "tool_calls",
                }
            ],
        ),
        ({"question": "why"}, None),
        ([1, 2], None),
        ([], None),
        ([{"role": "user", "content": "hi"}, "… 3 more items"], None),
        (None, None),
    ],
)
def test_contents_in_a_usual_form_become_messages(content, messages):
    """Text, lists of messages, parts, calls of tools and their answers; else nothing."""
    assert said(content) == messages


def test_a_text_that_came_out_is_the_assistants():
    """And one that went in the user's."""
    assert said("hi", "output") == [{"role": "assistant", "parts": [HI]}]


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "messages", "function"]), inner)))  # fmt: skip  # noqa: E501
def test_no_content_is_too_odd(content):
    """Whatever a user has noted, there are messages with parts, or none."""
    for message in said(content) or ():
        assert set(message) >= {"role", "parts"}


def test_they_stand_beside_the_contents_and_never_instead():
    """For everybody but Langfuse, which shows the contents; a user's own messages stay."""
    span = record("generation", input=b'"hi"', output=b'"yo"')
    tags = jaeger(span)

    assert json.loads(tags["gen_ai.input.messages"])[0]["parts"] == [HI]
    assert (tags["input.value"], tags["output.value"]) == ('"hi"', '"yo"')
    assert (via_collector(span).input, via_collector(span).output) == ("hi", "yo")
    assert "gen_ai.input.messages" not in langfuse(span).metadata["attributes"]
    own = record("generation", attributes={"gen_ai.input.messages": "mine"})
    assert jaeger(own)["gen_ai.input.messages"] == "mine"
    assert "gen_ai.input.messages" not in jaeger(record("node"))


def test_a_tool_has_its_arguments_and_result():
    """As Jaeger looks for them."""
    tags = jaeger(record("tool"))

    assert tags["gen_ai.tool.call.arguments"] == '{"question":"why"}'
    assert tags["gen_ai.tool.call.result"] == '"because"'
