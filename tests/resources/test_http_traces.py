"""Requests, cache commands and messages in a trace, and the trace that they take along."""

from __future__ import annotations

import re

import pytest

from pocketflow_async.flows import AsyncFlow
from pocketflow_async.hooks import observing
from pocketflow_async.needing import need
from pocketflow_async.nodes.asynchronous import AsyncNode
from pocketflow_async.resources.cache import CacheFactory
from pocketflow_async.resources.http_factory import HttpClientFactory
from pocketflow_async.resources.outgoing import with_headers, with_trace
from pocketflow_async.resources.queue_factory import MessageQueueFactory
from pocketflow_async.resources.uses import naming
from tests.resources.http_kit import Answer, CutError, echo, serving
from tests.resources.queue_kit import URLS, Broker
from tracing import outgoing, propagate, trace_flow
from tracing.testing import capture

CUT = (need("httpx", "workflow").HTTPError, need("aiohttp", "resources").ClientError)
PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


class Job(AsyncNode):
    """Does what it is given."""

    async def exec_async(self, _):
        return await self.params["work"]()


async def traced(work):
    """Return what is traced while *work* is done in a node of a flow."""

    @trace_flow
    class Flow(AsyncFlow):
        pass

    flow = Flow(start=Job())
    flow.set_params({"work": work})
    with capture() as traces:
        await flow.run_async({})
    return traces


def uses(traces):
    return [span for span in traces.one().walk() if span.kind == "resource"]


async def made(factory, name):
    """Return what *factory* makes under a name, as a registry does it."""
    with naming(name):
        return await factory.create()


@pytest.mark.parametrize("backend", ["httpx", "aiohttp"])
async def test_requests_are_steps(backend):
    """Each has method, server, path and status; no query, header or body is told."""

    async def handler(asked):
        if asked.path == "/cut":
            raise CutError
        return Answer(404, b"hidden")

    async with serving(handler) as server:
        headers = {"X-API-Key": "hidden"}
        url = f"http://me:hidden@127.0.0.1:{server.port}"
        factory = HttpClientFactory(backend, url, headers=headers, trust_env=False)
        client = await made(factory, "api")

        async def work():
            await client.post("/orders?key=hidden", json={"password": "hidden"})
            async with client.get("/orders") as response:
                await response.read()
            with pytest.raises(CUT):
                await client.get("/cut")

        async with client:
            traces = await traced(work)
    post, get, cut = uses(traces)
    assert [span.name for span in (post, get, cut)] == ["api.post", "api.get", "api.get"]
    facts = {
        "flow.resource": "api",
        "http.request.method": "POST",
        "http.response.status_code": 404,
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.path": "/orders",
    }
    assert facts.items() <= post.attributes.items()
    assert (get.outcome, cut.outcome) == ("completed", "failed")
    assert "http.response.status_code" not in cut.attributes
    assert "hidden" not in traces.tree(contents=True) + str(post.attributes)


async def test_requests_take_the_trace_along():
    """By `outgoing=` to whom session and user may be told; the parent is the request's own step."""
    async with serving(echo) as server:
        factory = HttpClientFactory(base_url=server.url, outgoing=outgoing, trust_env=False)
        client = await made(factory, "api")

        async def work():
            with propagate(session_id="s-1"):
                await client.get("/x")

        async with client:
            traces = await traced(work)
    (step,) = uses(traces)
    sent = server.asked[0].headers
    trace_id, span_id = PARENT.fullmatch(sent["traceparent"]).groups()
    assert (trace_id, span_id) == (step.span.trace_id, step.span.span_id)
    assert "s-1" in sent["baggage"]


async def test_strangers_get_ids_alone():
    """Left as it is, a client of a program with OpenTelemetry sends the ids of its span."""
    from opentelemetry import baggage, context
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("test")
    factory = HttpClientFactory(trust_env=False)
    async with serving(echo) as server, await factory.create() as client:
        token = context.attach(baggage.set_baggage("session.id", "hidden"))
        with tracer.start_as_current_span("outer") as span:
            await client.get(server.url)
            await client.get(server.url, headers={"Traceparent": "own"})
        context.detach(token)
        await client.get(server.url)
    inside, own, outside = (asked.headers for asked in server.asked)
    ids = span.get_span_context()
    assert (
        inside["traceparent"] == f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"
    )
    assert "baggage" not in inside
    assert own["traceparent"] == "own"
    assert "traceparent" not in outside


def test_an_observer_that_names_the_trace():
    """One that has `outgoing` is asked, and only ids are taken of what it says."""

    class Watcher:
        def __call__(self, step):
            return None

        def outgoing(self, headers):
            return {**headers, "traceparent": "00-a-b-01", "baggage": "hidden"}

    with observing(Watcher()):
        assert with_trace({"X": "1"}) == {"X": "1", "traceparent": "00-a-b-01"}
    assert with_trace({"X": "1"}) == {"X": "1"}


def test_a_failure_of_tracing_is_not_the_callers(caplog):
    """Headers go out as they were given when what adds to them fails."""

    def broken(headers):
        raise KeyError("broken")

    assert with_headers(broken, {"X": "1"}) == {"X": "1"}
    assert "the trace is not taken along" in caplog.text
    assert with_headers(None, {"X": "1"}) == {"X": "1"}


async def test_cache_commands_are_steps(redis_url, redis_prefix):
    """Each has its key as input and says whether it was a hit; no value is told."""
    for factory, system in (
        (CacheFactory("redis", url=redis_url), "redis"),
        (CacheFactory("memory"), "memory"),
    ):
        cache = await made(factory, "cache")
        key = f"{redis_prefix}k"

        async def work(cache=cache, key=key):
            await cache.get(key)
            await cache.setex(key, 60, "hidden")
            await cache.get(key)
            await cache.delete(key)

        traces = await traced(work)
        miss, put, hit, gone = uses(traces)
        assert [span.name.partition(".")[0] for span in (miss, put, hit, gone)] == ["cache"] * 4
        assert miss.name == hit.name == "cache.get"
        assert (miss.attributes["flow.cache.hit"], hit.attributes["flow.cache.hit"]) == (0, 1)
        assert hit.input == put.input == gone.input == {"key": key}
        assert put.attributes["db.system.name"] == system
        assert "hidden" not in traces.tree(contents=True)
        await factory.close(cache)


async def test_a_pipeline_is_one_step(redis_url, redis_prefix):
    """However many commands it has."""
    factory = CacheFactory("redis", url=redis_url)
    cache = await made(factory, "cache")

    async def work():
        pipe = cache.pipeline()
        await pipe.setex(f"{redis_prefix}a", 60, "1").get(f"{redis_prefix}a").execute()

    (step,) = uses(await traced(work))
    assert step.name == "cache.pipeline"
    assert step.attributes["db.operation.batch.size"] == 2
    await factory.close(cache)


@pytest.mark.parametrize("backend", list(URLS))
async def test_messages_are_steps_and_take_the_trace_along(backend, request, unique):
    """Publishing and receiving have ids and sizes; the headers say where it was published."""
    broker = Broker(backend, request.getfixturevalue(URLS[backend]), unique)
    queue = await made(MessageQueueFactory(backend, url=broker.url, outgoing=outgoing), "jobs")
    received = []

    async def work():
        await queue.publish(unique, {"password": "hidden"}, {"X": "1"})
        async for message in queue.consume(unique, idle=5):
            received.append(message)
            await message.ack()
            return

    async with queue:
        traces = await traced(work)
    await broker.close()
    publish, receive, *_ = uses(traces)
    assert (publish.name, receive.name) == ("jobs.publish", "jobs.receive")
    facts = {
        "flow.resource": "jobs",
        "messaging.system": backend,
        "messaging.destination.name": unique,
        "messaging.message.id": received[0].id,
        "messaging.message.body.size": len(received[0].body),
    }
    assert facts.items() <= publish.attributes.items()
    assert facts.items() <= receive.attributes.items()
    assert PARENT.fullmatch(received[0].headers["traceparent"])[2] == publish.span.span_id
    assert received[0].headers["X"] == "1"
    assert "hidden" not in traces.tree(contents=True)


@pytest.mark.parametrize("backend", list(URLS))
async def test_settling_is_a_step(backend, request, unique):
    """ack, nack and drop, each with the id of its message; once for one that is settled."""
    broker = Broker(backend, request.getfixturevalue(URLS[backend]), unique)
    queue = await made(MessageQueueFactory(backend, url=broker.url), "jobs")
    verdicts = ["nack", "drop", "ack"]
    ids = []

    async def work():
        for number in range(2):
            await queue.publish(unique, str(number))
        async for message in queue.consume(unique, idle=5):
            ids.append(message.id)
            verdict = verdicts.pop(0)
            await (message.ack() if verdict == "ack" else message.nack(requeue=verdict == "nack"))
            await message.ack()
            if not verdicts:
                return

    async with queue:
        traces = await traced(work)
    await broker.close()
    settled = [span for span in uses(traces) if span.name.split(".")[1] in ("ack", "nack", "drop")]
    assert [span.name for span in settled] == ["jobs.nack", "jobs.drop", "jobs.ack"]
    for span, message_id in zip(settled, ids, strict=True):
        facts = {
            "flow.resource": "jobs",
            "messaging.system": backend,
            "messaging.destination.name": unique,
            "messaging.operation.type": "settle",
            "messaging.message.id": message_id,
        }
        assert facts.items() <= span.attributes.items()
