"""Generations: model, messages, parameters, usage, cost and the moment of the first token."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from tracing import spans as tracing
from tracing.cli.render import trace_page
from tracing.cli.view import View


def _page(tree, **options):
    view = View(now_ns=tree.summary.started_ns, width=120, **options)
    return "\n".join(line.plain for line in trace_page(tree, view))


def test_a_generation_has_what_a_model_was_asked_and_said(traces, value):
    """Model, messages, parameters, answer, usage and cost are there, under agreed names."""
    messages = [{"role": "user", "content": "Why?"}]
    with tracing.generation(
        "answer", model="gpt-4o", input=messages, parameters={"temperature": 0, "stop": ["."]}
    ) as g:
        g.first_token()
        g.first_token()
        g.update(output={"role": "assistant", "content": "So."})
        g.update(usage={"input": 12, "output": 3, "total": 15}, cost=0.0021)

    root = traces.one()
    assert (root.kind, root.name, root.model) == ("generation", "answer", "gpt-4o")
    assert value(root.input) == messages
    assert value(root.output) == {"role": "assistant", "content": "So."}
    assert root.usage == {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    assert root.cost == 0.0021
    assert root.first_token_ns is not None
    assert root.end_ns is not None
    assert 0 <= root.first_token_ns <= root.end_ns - root.start_ns
    assert root.attributes["gen_ai.request.temperature"] == 0
    assert root.attributes["gen_ai.request.stop"] == ["."]
    assert root.attributes["gen_ai.usage.input_tokens"] == 12


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "generation"), ({"model": "m"}, "m"), ({"model": "m", "name": "n"}, "n")],
)
def test_name_of_a_generation(traces, given, name):
    """It is the one given, else the model's, else the kind's."""
    tracing.generation(**given).end()

    assert traces.one().name == name


@dataclass
class Details:
    cached_tokens: int = 7
    audio_tokens: int | None = None


@dataclass
class Usage:
    """As the OpenAI client has it."""

    prompt_tokens: int = 10
    completion_tokens: int = 5
    total_tokens: int = 15
    prompt_tokens_details: Details = field(default_factory=Details)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"input_tokens": 1, "output_tokens": 2}, {"input_tokens": 1, "output_tokens": 2}),
        ({"prompt": 1, "completion": 2}, {"input_tokens": 1, "output_tokens": 2}),
        ({"cache_read_input_tokens": 9}, {"cache_read_input_tokens": 9}),
        ({"characters": 40, "none": None}, {"characters": 40}),
        (17, {"total_tokens": 17}),
        (
            Usage(),
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "total_tokens": 15,
                "prompt_tokens_details.cached_tokens": 7,
            },
        ),
    ],
)
def test_usage_in_any_shape(traces, given, found):
    """Names of all providers mean the same; further keys stay; objects are read like mappings."""
    with tracing.generation(model="m") as g:
        g.update(usage=given)

    assert traces.one().usage == found


def test_usage_grows_with_each_update(traces):
    """A stream that tells input first and output last has both."""
    with tracing.generation(model="m", usage={"input": 4}) as g:
        g.update(usage={"output": 1})
        g.update(usage={"output": 2})

    assert traces.one().usage == {"input_tokens": 4, "output_tokens": 2}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (0.25, {"flow.cost": 0.25}),
        (Decimal("0.25"), {"flow.cost": 0.25}),
        (
            {"input": 0.25, "output": 0.5},
            {"flow.cost": 0.75, "flow.cost.input": 0.25, "flow.cost.output": 0.5},
        ),
        ({"input": 0.25, "total": 1}, {"flow.cost": 1.0, "flow.cost.input": 0.25}),
    ],
)
def test_cost_whole_and_by_part(traces, given, found):
    """The parts add up, unless the total is given."""
    tracing.generation(cost=given).end()

    assert traces.one().attributes == found


def test_a_generation_that_breaks_off(traces):
    """What had arrived by then is kept, with the error."""
    with pytest.raises(ConnectionError), tracing.generation(model="m", input="q") as g:
        g.update(output="half an ans")
        raise ConnectionError("reset")

    root = traces.one()
    assert (root.outcome, root.output) == ("failed", b'"half an ans"')


def test_the_command_shows_it(traces):
    """`show` has a line of the model, one of each event and score."""
    with tracing.span("chat") as s:
        with tracing.generation(
            model="gpt-4o",
            input="q",
            parameters={"temperature": 0},
            usage={"input": 1200, "output": 300, "cached": 5},
            cost=0.0123,
            prompt="v2",
        ) as g:
            g.first_token()
            g.event("tool asked for", tool="search")
            g.score("correct", 0.5, "the year is wrong")
        s.score("liked", True)

    (tree,) = traces.all()
    page = _page(tree)
    assert "model gpt-4o, 1,200 in + 300 out tokens, $0.0123, first token " in page
    assert "temperature=0, cached=5" in page
    assert "attr prompt='v2'" in page
    assert "event tool asked for tool='search'" in page
    assert "score correct = 0.5 (the year is wrong)" in page
    assert "score liked = True" in page


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        ({"input": 1, "output": 2, "total": 3}, "1 in + 2 out tokens"),
        ({"input": 1, "output": 2, "total": 9}, "1 in + 2 out = 9 tokens"),
        ({"total": 9}, "9 tokens"),
        ({"input": "many"}, "input_tokens='many'"),
    ],
)
def test_tokens_in_words(traces, usage, words):
    """A total is shown where it tells something; what is no number is shown as it is."""
    tracing.generation(model="m", usage=usage).end()

    assert f"model m, {words}\n" in _page(traces.all()[0]) + "\n"


def test_many_events_are_cut_short(traces):
    """Ten events have a line, all of them under `--full`."""
    with tracing.span("s") as s:
        for n in range(13):
            s.event(f"e{n}")

    (tree,) = traces.all()
    assert "3 more events" in _page(tree)
    assert "event e12" in _page(tree, full=True)
