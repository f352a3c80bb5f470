"""A trace over the boundary of a process: headers, messages, environment."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry import trace as api

import tracing
from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.otel_kit import hexed, provider
from tracing import TracingConfig, current_span, propagate, trace_flow
from tracing.otel import RecordingProcessor
from tracing.otel.carriers import child_environment, incoming, outgoing
from tracing.propagation import propagated

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = PARENT.split("-")[1:3]


class Call(AsyncNode):
    def __init__(self, call):
        super().__init__()
        self.call = call

    async def exec_async(self, _):
        result = self.call()
        return await result if asyncio.iscoroutine(result) else None


async def run(call, name="run", **settings):
    return await trace_flow(flow_name=name, **settings)(AsyncFlow(start=Call(call))).run_async({})


async def made(**said):
    """Return the headers that a node sends, and where it was."""
    kept = []
    await run(lambda: kept.append((outgoing(), current_span())), **said)
    return kept[0]


def caller():
    """Return the ids that a run here would continue, or None."""
    context = api.get_current_span().get_span_context()
    return (hexed(context.trace_id, 32), hexed(context.span_id)) if context.is_valid else None


async def test_headers_name_the_phase_that_calls(traces):
    """The traceparent has the ids of `current_span`, sampled."""
    headers, here = await made()

    assert headers == {"traceparent": f"00-{here.trace_id}-{here.span_id}-01"}


async def test_headers_of_others_stay_and_old_ones_are_replaced(traces):
    """What is given is not changed; a traceparent in it, in any case, is ours now."""
    given_ = {"Accept": "x", "TraceParent": PARENT}
    kept = []
    await run(lambda: kept.append(outgoing(given_)))

    assert set(kept[0]) == {"Accept", "traceparent"}
    assert given_ == {"Accept": "x", "TraceParent": PARENT}


def test_outside_every_trace_nothing_is_added():
    """There is nothing to continue."""
    assert outgoing() == {}
    assert outgoing({"a": "b"}) == {"a": "b"}


async def test_session_user_and_metadata_travel_as_baggage(traces):
    """They hold for what is traced on the other side, as `propagate` has it."""
    with propagate(
        user_id="ü 1", metadata={"tier": "gold", "n": 3, "odd name": 1, "big": "x" * 300}
    ):
        headers, _ = await made(session_id="s,1")

    with incoming(headers):
        said = propagated.get()

    assert (said.session_id, said.user_id) == ("s,1", "ü 1")
    assert said.metadata == {"tier": "gold", "n": "3"}
    assert headers["baggage"].isascii()
    assert propagated.get() is None


async def test_run_inside_continues_the_callers_trace(traces):
    """Its root has the caller's span as parent, its session, and says that it is elsewhere."""
    headers = {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "session.id=s-1"}
    kept = []

    async with incoming(headers):
        await run(lambda: kept.append(outgoing()))

    (tree,) = traces.all()
    (root,) = tree.roots
    assert (root.trace_id, root.parent_id) == (TRACE, SPAN)
    assert root.attributes["flow.parent"] == "remote"
    assert tree.summary.session_id == "s-1"
    assert kept[0]["tracestate"] == "a=1,b=2"
    assert kept[0]["traceparent"].startswith(f"00-{TRACE}-")
    assert caller() is None


async def test_flag_of_the_caller_travels_on(traces):
    """What the caller does not sample is not recorded, and nobody further on samples it either."""
    kept = []

    with incoming({"traceparent": f"{PARENT[:-2]}00"}):
        await run(lambda: kept.append(outgoing()))

    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", kept[0]["traceparent"])


async def test_run_that_the_rate_left_out_tells_so(traces):
    """A trace that is not recorded here is not recorded where it leads to."""
    kept = []
    await run(lambda: kept.append(outgoing()), config=TracingConfig(sample_rate=0.0))

    assert kept[0]["traceparent"].endswith("-00")


async def test_link_begins_a_trace_of_its_own(traces):
    """With a link to the caller's span, for the root alone."""
    with incoming({"traceparent": PARENT}, link=True):
        await run(lambda: None)

    root = traces.one()
    assert root.trace_id != TRACE
    assert root.parent_id is None
    assert root.attributes["otel.links"] == [{"trace_id": TRACE, "span_id": SPAN, "attributes": {}}]
    assert not any("otel.links" in child.attributes for child in root.children)


async def test_message_inside_a_run_belongs_to_its_senders_trace(traces):
    """A consumer that is traced itself leaves its own trace for as long as the block lasts."""
    kept = []

    async def consume():
        before = current_span()
        with incoming({"traceparent": PARENT}):
            assert current_span() is None
            await run(lambda: kept.append(current_span()), name="work")
        assert current_span() == before

    await run(consume, name="consumer")

    consumer, work = sorted(traces.all(), key=lambda tree: tree.summary.name)
    assert consumer.summary.name == "consumer"
    assert (work.summary.trace_id, work.roots[0].parent_id) == (TRACE, SPAN)
    assert kept[0].trace_id == TRACE


async def test_span_of_an_instrumented_server_is_kept(traces):
    """Where the instrumentation of the server has continued the trace, its span is the parent."""
    server, _ = provider()
    tracer = server.get_tracer("server")
    with incoming({"traceparent": PARENT}):
        around = api.set_span_in_context(api.get_current_span())

    with (
        tracer.start_as_current_span("GET /", context=around) as span,
        incoming({"traceparent": PARENT}),
    ):
        await run(lambda: None)

    assert traces.one().parent_id == hexed(span.context.span_id)
    server.shutdown()


@pytest.mark.parametrize(
    "carrier",
    [
        {"TraceParent": PARENT},
        {b"traceparent": PARENT.encode()},
        {"traceparent": [PARENT]},
        [(b"host", b"x"), (b"traceparent", PARENT.encode())],
        [("traceparent", PARENT)],
        [["traceparent", PARENT]],
        {"TRACEPARENT": PARENT},
        iter([("traceparent", bytearray(PARENT.encode()))]),
    ],
)
def test_carrier_may_be_any_mapping_or_list_of_pairs(carrier):
    """As ASGI, WSGI, Kafka, AMQP, httpx and others have their headers."""
    with incoming(carrier):
        assert caller() == (TRACE, SPAN)
    assert caller() is None


@pytest.mark.parametrize("kind", ["httpx", "starlette"])
def test_headers_of_libraries_will_do(kind):
    """Their own classes are mappings."""
    pairs = [("TraceParent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]
    if kind == "httpx":
        carrier = pytest.importorskip("httpx").Headers(pairs)
    else:
        raw = [(name.lower().encode(), value.encode()) for name, value in pairs]
        carrier = pytest.importorskip("starlette.datastructures").Headers(raw=raw)

    with incoming(carrier):
        assert caller() == (TRACE, SPAN)
        assert api.get_current_span().get_span_context().trace_state.to_header() == "a=1,b=2"


@pytest.mark.parametrize(
    "carrier",
    [
        {"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"},
        {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"},
        {"traceparent": PARENT.upper().replace("00-", "00-", 1)},
        {"traceparent": "ff" + PARENT[2:]},
        {"traceparent": PARENT + "-extra"},
        {"traceparent": PARENT[:-1]},
        {"traceparent": ""},
        {"traceparent": None},
        {"traceparent": 5},
        [("traceparent", PARENT), ("Traceparent", PARENT)],
        "traceparent",
        b"traceparent",
        [1, None, ("a",), ("a", "b", "c")],
        {},
        {"baggage": ";;=,=,%zz=%"},
    ],
)
def test_malformed_headers_are_not_there(carrier, caplog):
    """As W3C has it; and two of what may be there once are none."""
    with incoming(carrier):
        assert caller() is None
        assert propagated.get() is None


def test_object_that_is_no_carrier_is_reported(caplog):
    """The block runs all the same."""
    with incoming(object()):
        assert caller() is None
    assert "is not continued" in caplog.text


def test_newer_version_is_read_as_far_as_we_know_it():
    """A traceparent of version 01 may have more parts."""
    with incoming({"traceparent": "01" + PARENT[2:] + "-more"}):
        assert caller() == (TRACE, SPAN)


def test_baggage_may_be_refused():
    """Nothing that a stranger says of session and user is believed, nor passed on."""
    carrier = {"traceparent": PARENT, "baggage": "session.id=s,user.id=u,other=1"}

    with incoming(carrier, baggage=False):
        assert propagated.get() is None
        assert not baggage.get_all()
        assert caller() == (TRACE, SPAN)
    with incoming(carrier):
        assert baggage.get_baggage("other") == "1"
        assert propagated.get().session_id == "s"


def test_baggage_of_langfuse_is_understood():
    """Its SDK puts session and user there under names of its own."""
    with incoming({"baggage": "langfuse_session_id=s,langfuse_user_id=u"}):
        said = propagated.get()
    assert (said.session_id, said.user_id) == ("s", "u")


def test_block_may_be_entered_again_and_inside_itself():
    """Each exit undoes its own entry."""
    block = incoming({"traceparent": PARENT})
    for _ in range(2):
        with block, block:
            assert caller() == (TRACE, SPAN)
        assert caller() is None


ids = st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1)
tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=20)
values = st.text(min_size=1, max_size=60).filter(lambda text: text.strip() == text)


@given(*ids, st.booleans(), values, st.dictionaries(tokens, values, max_size=5))
def test_what_is_sent_is_what_arrives(trace_id, span_id, sampled, session, metadata):
    """Ids, flag, session and metadata come back as they were, whatever they are."""
    flags = "01" if sampled else "00"
    parent = f"00-{trace_id:032x}-{span_id:016x}-{flags}"

    with incoming({"traceparent": parent}), propagate(session_id=session, metadata=metadata):
        headers = outgoing()
    with incoming(headers):
        said, again = propagated.get(), outgoing()

    assert headers["traceparent"] == again["traceparent"] == parent
    assert said.session_id == session
    assert said.metadata == metadata


headers = st.text(max_size=80) | st.binary(max_size=80) | st.none() | st.integers()
names = st.sampled_from(["traceparent", "tracestate", "baggage", b"traceparent", 1]) | st.text()


@given(st.dictionaries(names, headers) | st.lists(st.tuples(names, headers)) | headers)
def test_no_carrier_whatever_makes_it_raise(carrier):
    """Neither on the way in, nor on the way on."""
    with incoming(carrier):
        assert isinstance(outgoing(), dict)


async def test_subprocess_continues_the_trace(traces, child_env, tmp_path):
    """Its environment says where it belongs, and `incoming()` reads it there."""
    code = """
import sys
from pocketflow_async import Flow, Node
from tracing import trace_flow, flush
from tracing.otel.carriers import incoming
with incoming():
    trace_flow(flow_name="child")(Flow(start=Node())).run({})
flush()
"""
    kept = []

    def call():
        kept.append(current_span())
        env = child_environment({**child_env, "TRACEPARENT": "old", "OTHER": "1"})
        assert env["OTHER"] == "1"
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)

    await run(call, session_id="s-1")

    root = traces.one()  # one tree in one trace, written by two processes
    (node,) = root.children
    (child,) = node.children
    assert (child.name, child.parent_id) == ("child", kept[0].span_id)
    assert json.loads(json.dumps(child.attributes))["flow.parent"] == "remote"


def test_environment_outside_every_trace_is_as_it_was(monkeypatch):
    """A trace that this process was called with is passed on to its children."""
    monkeypatch.setenv("TRACEPARENT", PARENT)

    assert child_environment() == dict(os.environ)
    with incoming():
        assert caller() == (TRACE, SPAN)
        assert child_environment({})["TRACEPARENT"] == PARENT


async def test_queue_takes_a_trace_to_a_task_that_was_there_before(traces, find):
    """The message has the headers, and the consumer's flow is under the producer's phase."""
    queue = asyncio.Queue()

    async def consumer():
        while (message := await queue.get()) is not None:
            with incoming(message):
                await run(lambda: None, name="consumed")

    task = asyncio.create_task(consumer())
    await run(lambda: queue.put_nowait(outgoing()), name="producer")
    await queue.put(None)
    await task

    root = traces.one()
    (consumed,) = find(root, "consumed")
    assert consumed.parent_id == root.children[0].phases[1].span_id


async def test_span_of_the_program_is_what_headers_name(traces):
    """Where it has opened a span of its own in a phase, that one is the caller."""
    app, _ = provider(RecordingProcessor())
    kept = []

    def call():
        with app.get_tracer("app").start_as_current_span("call") as span:
            kept.append((outgoing()["traceparent"], hexed(span.context.span_id)))

    await run(call)
    app.shutdown()

    assert kept[0][0].split("-")[2] == kept[0][1]


def test_headers_where_opentelemetry_is_not_loaded_yet(child_env, tmp_path):
    """The first call loads it, in the middle of a run that it does not know."""
    code = """
import sys
from pocketflow_async import Flow, Node
from tracing import current_span, trace_flow
from tracing.otel.carriers import outgoing
class Call(Node):
    def exec(self, _):
        assert "opentelemetry.trace" not in sys.modules
        here = current_span()
        assert outgoing()["traceparent"] == f"00-{here.trace_id}-{here.span_id}-01"
trace_flow(Flow(start=Call())).run({})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_env, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("chosen", "names"), [("none", []), ("nonsense", ["traceparent"])])
def test_global_propagator_is_honoured(child_env, tmp_path, chosen, names):
    """OTEL_PROPAGATORS counts; one that is not installed is not the end of it."""
    code = f"""
from tracing import span
from tracing.otel.carriers import outgoing
with span("s"):
    assert sorted(outgoing()) == {names}, outgoing()
"""
    env = {**child_env, "OTEL_PROPAGATORS": chosen}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_spans_by_hand_send_their_own_ids(traces):
    """Also outside every flow."""
    with tracing.span("by hand") as span:
        assert outgoing()["traceparent"] == f"00-{span.trace_id}-{span.span_id}-01"
