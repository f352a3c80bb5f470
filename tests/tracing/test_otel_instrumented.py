"""Instrumented clients inside nodes: each of their spans under the phase it was made in."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("opentelemetry.instrumentation.openai_v2")
import httpx
import openai
import sqlalchemy
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry import trace as api
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as Official
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchFlow
from tests.tracing.otel_kit import provider, serving
from tracing import trace_flow
from tracing.otel import RecordingProcessor

ITEMS = 4


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def engine():
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    yield engine
    engine.dispose()


@pytest.fixture(params=[Official, OpenInference], ids=["opentelemetry", "openinference"])
def instrumented(request, engine, monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    made, _ = provider(RecordingProcessor())
    model, http, sql = request.param(), HTTPXClientInstrumentor(), SQLAlchemyInstrumentor()
    model.instrument(tracer_provider=made)
    http.instrument(tracer_provider=made)
    sql.instrument(engine=engine, tracer_provider=made, skip_dep_check=True)
    yield made
    for each in (model, http, sql):
        each.uninstrument()
    made.shutdown()


class Ask(AsyncNode):
    def __init__(self, server, gate):
        super().__init__()
        self.server, self.gate = server, gate

    async def exec_async(self, _):
        await self.gate.wait()
        question = f"q{self.params['n']}"
        url = f"{self.server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": question}]
            )
        async with httpx.AsyncClient() as client:
            await client.get(f"{self.server.url}/{question}")
        return answer.choices[0].message.content


class Look(AsyncNode):
    def __init__(self, server, engine, gate):
        super().__init__()
        self.server, self.engine, self.gate = server, engine, gate

    async def exec_async(self, _):
        await self.gate.wait()
        with self.engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"select {self.params['n']}"))
        async with openai.AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key="k") as client:
            await client.embeddings.create(model="e", input=f"q{self.params['n']}")


class Each(AsyncParallelBatchFlow):
    async def prep_async(self, shared):
        return [{"n": n} for n in range(ITEMS)]


async def test_clients_in_nodes_at_once_are_each_under_their_own_phase(
    instrumented, server, engine, traces, find
):
    """Four items at once in two nodes: no span is under another's exec, and none is lost."""
    before = api.get_tracer_provider()
    ask = Ask(server, asyncio.Barrier(ITEMS))
    ask >> Look(server, engine, asyncio.Barrier(ITEMS))

    await trace_flow(flow_name="each")(Each(start=ask)).run_async({})

    root = traces.one()
    asks, looks = find(root, "Ask"), find(root, "Look")
    assert len(asks) == len(looks) == ITEMS
    for node in asks:
        (phase,) = [phase for phase in node.phases if phase.kind == "exec"]
        chat, get = node.children
        assert {chat.parent_id, get.parent_id} == {phase.span_id}
        assert (chat.kind, get.kind) == ("generation", "span")
        number = get.attributes["http.url"][-1]
        assert f"q{number}".encode() in chat.input
        assert f"answer to q{number}".encode() in chat.output
        assert chat.usage["input_tokens"] == 3
        assert phase.start_ns <= chat.start_ns <= chat.end_ns <= get.start_ns <= phase.end_ns
    for node in looks:
        (phase,) = [phase for phase in node.phases if phase.kind == "exec"]
        *_, select, embed = node.children
        assert {child.parent_id for child in node.children} == {phase.span_id}
        assert (select.attributes["db.system"], embed.kind) == ("sqlite", "embedding")
        assert select.attributes["otel.scope.name"] == "opentelemetry.instrumentation.sqlalchemy"
    assert api.get_tracer_provider() is before


async def test_first_span_of_a_request_is_under_its_phase_under_uvloop(server, traces, find):
    """Context is Python's own: another event loop changes nothing."""
    uvloop = pytest.importorskip("uvloop")
    made, _ = provider(RecordingProcessor())
    HTTPXClientInstrumentor().instrument(tracer_provider=made)

    class Get(AsyncNode):
        async def exec_async(self, _):
            async with httpx.AsyncClient() as client:
                await client.get(server.url)

    try:
        flow = trace_flow(flow_name="get")(AsyncFlow(start=Get()))
        await asyncio.to_thread(uvloop.run, flow.run_async({}))
    finally:
        HTTPXClientInstrumentor().uninstrument()

    (node,) = find(traces.one(), "Get")
    (get,) = node.children
    assert get.parent_id == node.phases[1].span_id
