"""Spans of other instrumentations in our store, as they are."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from opentelemetry import trace as api
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.otel_kit import hexed, provider
from tracing import TracingConfig, current_span, trace_flow
from tracing.otel import RecordingProcessor
from tracing.otel.entered import entered
from tracing.otel.translated import kind_of


class Call(AsyncNode):
    def __init__(self, call):
        super().__init__()
        self.call = call

    async def exec_async(self, _):
        result = self.call()
        return await result if asyncio.iscoroutine(result) else None


async def run(call, **settings):
    return await trace_flow(flow_name="run", **settings)(AsyncFlow(start=Call(call))).run_async({})


@pytest.fixture
def processor():
    return RecordingProcessor()


@pytest.fixture
def tracer(processor):
    made, exporter = provider(processor)
    tracer = made.get_tracer("lib", "1.2")
    tracer.exporter = exporter
    yield tracer
    made.shutdown()
    assert not entered


@pytest.fixture
def only(traces):
    """Return the span inside the only node of the only trace."""

    def only():
        (node,) = traces.one().children
        (span,) = node.children
        return span

    return only


async def test_span_keeps_all_that_it_says(tracer, only):
    """Ids, exact times, kind, scope, attributes, links and events are those of the span."""
    above = []
    link = Link(SpanContext(0xA, 0xB, True), {"why": "batch"})

    def call():
        above.append(current_span())
        with tracer.start_as_current_span(
            "fetch", kind=SpanKind.CLIENT, attributes={"a": 1, "b": ["x", "y"]}, links=[link]
        ) as span:
            span.add_event("retry", {"n": 2})
            span.update_name("fetch it")

    await run(call)

    span, (theirs,) = only(), tracer.exporter.get_finished_spans()
    assert (span.trace_id, span.parent_id) == tuple(above[0])
    assert span.span_id == hexed(theirs.context.span_id)
    assert (span.kind, span.name, span.outcome) == ("span", "fetch it", "completed")
    assert (span.start_ns, span.end_ns) == (theirs.start_time, theirs.end_time)
    assert span.attributes == {
        "a": 1,
        "b": ["x", "y"],
        "otel.scope.name": "lib",
        "otel.scope.version": "1.2",
        "otel.kind": "client",
        "otel.links": [
            {"trace_id": hexed(0xA, 32), "span_id": hexed(0xB), "attributes": {"why": "batch"}}
        ],
    }
    (event,) = span.events
    assert (event.name, event.attributes) == ("retry", {"n": 2})
    assert event.at_ns == theirs.events[0].timestamp


async def test_children_are_under_their_parents(tracer, only):
    """Also in a thread that knows nothing but OpenTelemetry's context, and of an ended parent."""

    def call():
        with tracer.start_as_current_span("outer") as outer:
            context = api.set_span_in_context(outer)
            thread = threading.Thread(target=lambda: tracer.start_span("thread", context).end())
            thread.start()
            thread.join()
        with api.use_span(outer):
            tracer.start_span("late").end()

    await run(call)

    span = only()
    assert (span.name, [child.name for child in span.children]) == ("outer", ["thread", "late"])
    assert not any("flow.parent" in child.attributes for child in span.children)


async def test_exception_is_the_failure(tracer, only):
    """Type, message and lines come from the exception event, which is not told twice."""

    def call():
        try:
            with tracer.start_as_current_span("bad"):
                raise KeyError("missing")
        except KeyError:
            pass

    await run(call)

    span = only()
    assert (span.outcome, span.error.type, span.error.message) == (
        "failed",
        "KeyError",
        "'missing'",
    )
    assert span.error.frames[-1][0] == __file__
    assert span.events == ()


@pytest.mark.parametrize(
    ("attributes", "description", "error"),
    [
        ({"error.type": "TimeoutError"}, "too slow", ("timed_out", "TimeoutError", "too slow")),
        ({"error.type": "asyncio.CancelledError"}, "", ("cancelled", "asyncio.CancelledError", "")),
        ({}, None, ("failed", "Error", "")),
    ],
)
async def test_status_without_an_exception_is_a_failure_too(
    tracer, only, attributes, description, error
):
    """The status says that it failed, the attribute `error.type` with what."""

    def call():
        span = tracer.start_span("bad", attributes=attributes)
        span.set_status(Status(StatusCode.ERROR, description))
        span.end()

    await run(call)

    span = only()
    assert (span.outcome, span.error.type, span.error.message) == error


@pytest.mark.parametrize(
    ("attributes", "scope", "kind"),
    [
        ({"openinference.span.kind": "LLM"}, "", "generation"),
        (
            {"openinference.span.kind": "RETRIEVER", "gen_ai.operation.name": "chat"},
            "",
            "retriever",
        ),
        ({"openinference.span.kind": "PROMPT"}, "", "span"),
        ({"gen_ai.operation.name": "chat"}, "", "generation"),
        ({"gen_ai.operation.name": "embeddings"}, "", "embedding"),
        ({"gen_ai.operation.name": "execute_tool"}, "", "tool"),
        ({"gen_ai.operation.name": "invoke_agent"}, "", "agent"),
        ({"gen_ai.operation.name": "invoke_workflow"}, "", "span"),
        ({"langfuse.observation.type": "tool"}, "langfuse-sdk", "tool"),
        ({"langfuse.observation.type": "flow"}, "langfuse-sdk", "span"),
        ({"langfuse.observation.type": "tool"}, "mine", "span"),
        ({}, "", "span"),
    ],
)
def test_kind_follows_from_the_attributes(attributes, scope, kind):
    """OpenInference comes first, then gen_ai, then what Langfuse's own spans say."""
    assert kind_of(attributes, scope) == kind


OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "input.value": json.dumps({"q": 1, "password": "hunter2"}),
    "input.mime_type": "application/json",
    "output.value": "plain text",
    "llm.input_messages.0.message.content": "q",
    "llm.output_messages.0.message.content": "a",
    "llm.model_name": "m",
    "llm.token_count.prompt": 3,
}
GENAI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.input.messages": json.dumps([{"role": "user", "password": "hunter2"}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": []}]),
    "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "be nice"}]),
}


async def _told(tracer, attributes, **settings):
    await run(lambda: tracer.start_span("chat", attributes=attributes).end(), **settings)


async def test_contents_of_openinference_are_the_contents(tracer, only, value):
    """They move out of the attributes, are redacted, and the model and usage are found."""
    await _told(tracer, OPENINFERENCE)

    span = only()
    assert value(span.output) == "plain text"
    assert value(span.input)["q"] == 1
    assert b"hunter2" not in span.input
    assert not {"input.value", "output.value", "input.mime_type"} & set(span.attributes)
    assert (span.model, span.usage) == ("m", {"input_tokens": 3})


async def test_contents_of_gen_ai_are_the_contents(tracer, only, value):
    """JSON in a text is stored as what it means, so that it is redacted like everything else."""
    await _told(tracer, GENAI)

    span = only()
    assert value(span.output) == [{"role": "assistant", "parts": []}]
    assert value(span.input)[0]["role"] == "user"
    assert "hunter2" not in str(span.attributes) + str(span.input)
    assert span.attributes["gen_ai.output.messages"] == value(span.output)


@pytest.mark.parametrize("attributes", [OPENINFERENCE, GENAI])
@pytest.mark.parametrize(("inputs", "outputs"), [(False, True), (True, False), (False, False)])
async def test_contents_that_are_not_to_be_noted_are_nowhere(
    tracer, traces, only, attributes, inputs, outputs
):
    """`trace_inputs` and `trace_outputs` hold for spans of others and all their attributes."""
    config = TracingConfig(store=str(traces.path), trace_inputs=inputs, trace_outputs=outputs)

    await _told(tracer, attributes, config=config)

    span = only()
    assert (span.input is not None, span.output is not None) == (inputs, outputs)
    names = " ".join(span.attributes)
    assert inputs or not any(part in names for part in ("input.", "input_messages", "instruct"))
    assert outputs or not any(part in names for part in ("output.", "output_messages"))


async def test_long_values_are_cut_at_the_limit(tracer, traces, only):
    """The limit of one content holds for each attribute."""
    config = TracingConfig(store=str(traces.path), value_limit=256)

    await _told(tracer, {"long": "x" * 5_000, "input.value": "y" * 5_000}, config=config)

    span = only()
    assert len(span.attributes["long"]) <= 256
    assert len(span.input) <= 256


async def test_span_may_end_in_another_thread_after_its_phase(tracer, traces, find):
    """It is stored all the same, under the phase in which it started."""
    opened = []

    await run(lambda: opened.append((tracer.start_span("long"), current_span().span_id)))
    ((span, phase),) = opened
    thread = threading.Thread(target=span.end)
    thread.start()
    thread.join()

    (found,) = find(traces.one(), "long")
    assert (found.parent_id, found.outcome) == (phase, "completed")


async def test_root_of_another_trace_inside_a_run_is_stored_where_it_happened(tracer, only):
    """A span told to have no parent keeps its own trace id as an attribute."""
    from opentelemetry.context import Context

    kept = []

    def call():
        with tracer.start_as_current_span("apart", context=Context()) as span:
            kept.append((hexed(span.context.trace_id, 32), current_span()))

    await run(call)

    span = only()
    assert span.attributes["otel.trace_id"] == kept[0][0] != span.trace_id
    assert span.parent_id == kept[0][1].span_id


async def test_spans_outside_every_run_are_left_alone(tracer, traces, find):
    """Unless everything is asked for."""
    with tracer.start_as_current_span("outside"):
        pass
    await run(lambda: None)

    assert not find(traces.one(), "outside")


async def test_everything_includes_spans_outside_every_run(traces):
    """A server's span, our run in it and a span in that are one tree."""
    made, _ = provider(RecordingProcessor(everything=True))
    tracer = made.get_tracer("lib")

    with tracer.start_as_current_span("request"):
        await run(lambda: tracer.start_span("query").end())
    made.shutdown()

    root = traces.one()
    (flow,) = root.children
    (node,) = flow.children
    (query,) = node.children
    assert (root.name, flow.name, query.name) == ("request", "run", "query")
    assert "flow.parent" not in {**root.attributes, **flow.attributes}


async def test_two_processors_store_a_span_once(tracer, processor, only):
    """However many are added, on however many providers."""
    made, _ = provider(RecordingProcessor(), RecordingProcessor())

    await run(lambda: made.get_tracer("lib").start_span("one").end())

    assert only().name == "one"
    made.shutdown()


async def test_shutdown_notes_what_is_open_as_left_behind(traces, find):
    """And afterwards nothing is recorded, and nothing raises."""
    processor = RecordingProcessor()
    made, _ = provider(processor)
    tracer = made.get_tracer("lib")

    def call():
        span = tracer.start_span("open")
        processor.shutdown()
        tracer.start_span("after").end()
        span.end()

    await run(call)
    made.shutdown()

    (span,) = find(traces.one(), "open")
    assert (span.outcome, span.attributes["abandoned"]) == ("cancelled", True)
    assert not find(traces.one(), "after")


async def test_force_flush_waits_for_the_store(tracer, processor, traces):
    """What has ended is in the file when it says so."""
    await run(lambda: tracer.start_span("one").end())

    assert processor.force_flush(10_000) is True


async def test_trouble_in_tracing_stays_there(traces, caplog):
    """A sink that raises is reported, and the program gets its span and its result."""
    from tracing.recorder import Recorder, watching

    class Broken:
        is_closed = False

        def opened(self, record):
            if record.kind == "span":
                raise RuntimeError("no")

        closed = opened

    made, exporter = provider(RecordingProcessor())
    with watching(Recorder(Broken())):
        await AsyncFlow(start=Call(lambda: made.get_tracer("l").start_span("one").end())).run_async(
            {}
        )

    assert [span.name for span in exporter.get_finished_spans()] == ["one"]
    assert "is not recorded" in caplog.text
    made.shutdown()
