"""Langfuse's own SDK in the same process: its spans under ours, ours under its, and none lost."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider

import tracing
from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.otel_kit import serving
from tracing import current_span
from tracing.config import TracingConfig
from tracing.export.model import OutSpan, Route, Target
from tracing.otel import RecordingProcessor
from tracing.otel.outbound import OUR_SCOPE, deliver
from tracing.recorder import Recorder
from tracing.run import Run
from tracing.store import open_store

langfuse = pytest.importorskip("langfuse")
ROOT = "langfuse.internal.is_app_root"


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def sdk(server):
    """Return a client of the SDK on a provider of its own, which also records into our store."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(RecordingProcessor())
    client = langfuse.Langfuse(
        public_key=f"pk-{uuid.uuid4()}",
        secret_key="sk",
        base_url=server.url,
        tracer_provider=made,
    )
    client.provider = made
    yield client
    client.shutdown()
    made.shutdown()


class Call(AsyncNode):
    def __init__(self, call):
        super().__init__()
        self.call = call

    async def exec_async(self, _):
        self.call()


async def run(call, path, processor):
    """Run a flow whose records are for *processor*, as a route says it."""
    target = Target("mine", "", protocol="processor", processor=processor)
    recorder = Recorder(open_store(path), route=Route((target,)))
    run = Run(recorder, "flow", "ours", None, {"q": 1}, session_id="s-1", user_id="u-1")
    with run:
        await AsyncFlow(start=Call(call)).run_async({})
    run.finish(None, "done")


def sent(server):
    """Return the spans that arrived, by name, with their attributes."""
    found = {}
    for scope, span in server.spans:
        attributes = {pair.key: pair.value for pair in span.attributes}
        found[span.name] = (scope, span, attributes)
    return found


def out(span, shared=None):
    """Return a stored span, much as the mapping would make it."""
    return OutSpan(
        bytes.fromhex(span.trace_id),
        bytes.fromhex(span.span_id),
        bytes.fromhex(span.parent_id) if span.parent_id else None,
        span.name,
        span.start_ns,
        span.end_ns,
        {"input.value": "{}", **{k: v for k, v in span.attributes.items() if type(v) is str}},
        shared or {},
        scope=(OUR_SCOPE, "1"),
    )


def everything(span):
    return [span, *(below for child in span.children for below in everything(child))]


async def test_their_spans_are_under_ours_and_all_arrive(sdk, server, traces, store_path):
    """Parent, session and user are ours; ours pass the SDK's default filter; only one is a root."""
    before = api.get_tracer_provider()
    phases = []

    def call():
        phases.append(current_span())
        with sdk.start_as_current_observation(name="answer", as_type="generation", input="hi") as g:
            g.update(output="ho")
            with sdk.start_as_current_observation(name="inner"):
                pass

    await run(call, store_path, sdk.provider._active_span_processor)
    root = traces.one()
    ours = [out(span) for span in everything(root) if "otel.scope.name" not in span.attributes]
    target = Target("mine", "", "processor", processor=sdk.provider._active_span_processor)
    assert deliver(target, ours, {}).rejected == 0
    sdk.flush()

    found = sent(server)
    assert set(found) == {"ours", "AsyncFlow", "Call", "answer", "inner"}
    scope, answer, attributes = found["answer"]
    assert scope == "langfuse-sdk"
    assert (answer.trace_id.hex(), answer.parent_span_id.hex()) == tuple(phases[0])
    assert attributes["session.id"].string_value == "s-1"
    assert attributes["user.id"].string_value == "u-1"
    assert found["ours"][0] == OUR_SCOPE
    roots = {name for name, (_, _, said) in found.items() if ROOT in said}
    assert roots == {"ours"}
    assert api.get_tracer_provider() is before


async def test_their_spans_are_in_our_store_too(sdk, traces, store_path, value):
    """With a RecordingProcessor on their provider: kind, input and output as they say."""

    def call():
        with sdk.start_as_current_observation(name="answer", as_type="generation", input=[1]) as g:
            g.update(output={"a": 2}, model="m")

    await run(call, store_path, None)

    (answer,) = [span for span in everything(traces.one()) if span.name == "answer"]
    assert answer.kind == "generation"
    assert (value(answer.input), value(answer.output)) == ([1], {"a": 2})
    assert answer.attributes["otel.scope.name"] == "langfuse-sdk"


async def test_ours_are_under_theirs(sdk, server, traces):
    """A flow inside an observation continues its trace, and knows that its parent arrives."""
    flow = tracing.trace_flow(flow_name="ours")(AsyncFlow(start=Call(lambda: None)))

    with sdk.start_as_current_observation(name="theirs") as theirs:
        await flow.run_async({})
    sdk.flush()

    root = traces.one()
    assert (root.trace_id, root.parent_id) == (theirs.trace_id, theirs.id)
    assert root.attributes["flow.parent"] == "langfuse"
    assert set(sent(server)) == {"theirs"}


async def test_without_a_route_to_langfuse_their_spans_are_roots(sdk, server, traces, store_path):
    """Where ours do not arrive, theirs must not wait for a parent that never comes."""

    def call():
        with sdk.start_as_current_observation(name="answer"):
            pass

    config = TracingConfig(store=str(store_path))
    await tracing.trace_flow(config, "ours")(AsyncFlow(start=Call(call))).run_async({})
    sdk.flush()

    assert ROOT in sent(server)["answer"][2]


async def test_root_below_a_span_that_does_not_arrive_is_marked(server, sdk):
    """What the SDK marks at the start of a span we mark ourselves, when we hand it over."""
    spans = [
        OutSpan(
            b"\1" * 16, bytes([n]) * 8, b"\7" * 8, f"n{n}", 1, 2, said, {}, scope=(OUR_SCOPE, "")
        )
        for n, said in enumerate(
            ({"flow.parent": "remote"}, {"flow.parent": "langfuse"}, {}), start=1
        )
    ]
    target = Target("mine", "", "processor", processor=sdk.provider._active_span_processor)

    deliver(target, spans, {})
    sdk.flush()

    assert {name for name, (_, _, said) in sent(server).items() if ROOT in said} == {"n1"}


def test_by_configuration_alone_both_arrive_through_the_sdk(server, child_env, tmp_path):
    """With `exporters="otel"` our spans take the way of the SDK's, through the global provider."""
    code = f"""
from opentelemetry import trace
from langfuse import Langfuse
from pocketflow_async import Flow, Node
from tracing import flush, trace_flow
from tracing.otel import RecordingProcessor
client = Langfuse(public_key="pk", secret_key="sk", base_url={server.url!r})
provider = trace.get_tracer_provider()
provider.add_span_processor(RecordingProcessor())
class Ask(Node):
    def exec(self, _):
        with client.start_as_current_observation(name="answer", as_type="generation"):
            trace_flow(flow_name="nested")(Flow(start=Node())).run({{}})
with client.start_as_current_observation(name="request"):
    trace_flow(flow_name="ours", session_id="s-1")(Flow(start=Ask())).run({{}})
counts = flush(20)
assert counts.failed == counts.dropped == 0, counts
client.flush()
assert trace.get_tracer_provider() is provider
"""
    env = {**child_env, "POCKETFLOW_TRACE_EXPORTERS": "otel"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    found = sent(server)
    names = [span.name for _, span in server.spans]
    assert sorted(names) == sorted(found)  # each once
    above = {span.span_id: name for name, (_, span, _) in found.items()}
    parents = {name: above.get(span.parent_span_id) for name, (_, span, _) in found.items()}
    assert parents["request"] is None
    assert parents["ours"] == "request"
    assert parents["Ask.exec"] == "Ask"
    assert parents["answer"] == "Ask.exec"
    assert parents["nested"] == "answer"
    assert {name for name, (_, _, said) in found.items() if ROOT in said} == {"request"}
