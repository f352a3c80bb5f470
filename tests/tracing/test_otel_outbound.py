"""Our spans, handed to a SpanProcessor that the program has."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tracing.export.model import ERROR, OutSpan, SpanEvent, SpanLink, Target
from tracing.otel.outbound import OUR_SCOPE, deliver, readable

RESOURCE = {"service.name": "app"}


def span(number=1, **fields):
    said = {
        "trace_id": bytes(15) + b"\1",
        "span_id": number.to_bytes(8, "big"),
        "parent_id": None,
        "name": f"span {number}",
        "start_ns": 1_000,
        "end_ns": 2_000,
        "attributes": {"own": 1},
        "shared": {"session.id": "s"},
        "scope": (OUR_SCOPE, "1.0"),
    }
    return OutSpan(**{**said, **fields})


def to(processor):
    return Target("mine", "", protocol="processor", processor=processor)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


def test_readable_span_says_all_that_ours_says():
    """Nothing is lost between our form and that of the SDK."""
    made = readable(
        span(
            7,
            parent_id=bytes(7) + b"\3",
            kind=3,
            status=ERROR,
            message="boom",
            events=[SpanEvent("e", 1_500, {"n": 1})],
            links=[SpanLink(bytes(15) + b"\2", bytes(7) + b"\4", {"why": "w"})],
            state="a=1",
            is_remote=True,
        ),
        RESOURCE,
    )

    assert (made.name, made.kind, made.start_time, made.end_time) == (
        "span 7",
        SpanKind.CLIENT,
        1_000,
        2_000,
    )
    assert (made.context.trace_id, made.context.span_id) == (1, 7)
    assert made.context.trace_flags.sampled
    assert made.context.trace_state.to_header() == "a=1"
    assert (made.parent.span_id, made.parent.is_remote) == (3, True)
    assert made.attributes["own"] == 1
    assert made.attributes["session.id"] == "s"
    assert (made.status.status_code, made.status.description) == (StatusCode.ERROR, "boom")
    assert [(e.name, e.timestamp, dict(e.attributes)) for e in made.events] == [
        ("e", 1_500, {"n": 1})
    ]
    assert [(n.context.trace_id, n.context.span_id) for n in made.links] == [(2, 4)]
    assert made.instrumentation_scope.name == OUR_SCOPE
    assert made.resource.attributes == RESOURCE


@given(
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    st.none() | st.integers(1, (1 << 64) - 1),
    st.integers(0, 9),
    st.integers(0, 5),
    st.text(),
)
def test_any_span_can_be_handed_over(trace_id, span_id, parent, kind, status, message):
    """Whatever its ids, kind and status, it is readable and encodes as JSON."""
    made = readable(
        span(
            trace_id=trace_id.to_bytes(16, "big"),
            span_id=span_id.to_bytes(8, "big"),
            parent_id=None if parent is None else parent.to_bytes(8, "big"),
            kind=kind,
            status=status,
            message=message,
        ),
        Resource(RESOURCE),
    )

    assert (made.context.trace_id, made.context.span_id) == (trace_id, span_id)
    assert made.to_json()


def test_processors_of_all_kinds_take_them(exporter):
    """Also one that batches, which looks at the sampled flag."""
    batch = BatchSpanProcessor(exporter, schedule_delay_millis=60_000)

    answers = [
        deliver(to(each), [span(1)], RESOURCE) for each in (SimpleSpanProcessor(exporter), batch)
    ]
    batch.force_flush()

    assert [answer.status for answer in answers] == [200, 200]
    assert [made.name for made in exporter.get_finished_spans()] == ["span 1", "span 1"]
    batch.shutdown()


def test_spans_of_others_are_not_handed_back(exporter):
    """What came in from the provider would go round in circles."""
    deliver(to(SimpleSpanProcessor(exporter)), [span(1), span(2, scope=("httpx", "1"))], RESOURCE)

    assert [made.name for made in exporter.get_finished_spans()] == ["span 1"]


def test_processor_that_raises_is_said_and_counted():
    """The other spans are handed over all the same."""

    class Picky:
        def on_end(self, made):
            if made.name == "span 2":
                raise ValueError("not this one")

    answer = deliver(to(Picky()), [span(1), span(2), span(3)], RESOURCE)

    assert (answer.status, answer.rejected) == (200, 1)
    assert answer.said == "Picky.on_end raised ValueError: not this one"


def test_global_provider_is_used_and_never_set(child_env, tmp_path):
    """Before there is one they wait, and say for what; later they come with its resource."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.tracing.test_otel_outbound import RESOURCE, span, to
from tracing.otel.outbound import deliver

answer = deliver(to(None), [span(1)], RESOURCE)
assert answer.status is None
assert "set_tracer_provider" in answer.said, answer
provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
exporter = InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
assert deliver(to(None), [span(1)], RESOURCE).status == 200
(made,) = exporter.get_finished_spans()
assert made.resource.attributes["service.name"] == "theirs"
assert trace.get_tracer_provider() is provider
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_env, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
