"""Our position as OpenTelemetry's current span, and its spans as parents of our runs."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest
from opentelemetry import baggage
from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

import tracing
from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from tests.tracing.otel_kit import hexed, provider
from tracing import TracingConfig, current_span, trace_flow
from tracing.otel import RecordingProcessor


def seen():
    """Return the ids of OpenTelemetry's current span, as `current_span` writes ours."""
    context = api.get_current_span().get_span_context()
    return (hexed(context.trace_id, 32), hexed(context.span_id)) if context.is_valid else None


class Look(AsyncNode):
    """Notes in each phase what OpenTelemetry sees beside what we see."""

    def look(self, shared):
        shared.setdefault("seen", []).append((seen(), current_span()))

    async def prep_async(self, shared):
        self.look(shared)
        return shared

    async def exec_async(self, shared):
        self.look(shared)

    async def post_async(self, shared, prep_res, exec_res):
        self.look(shared)


class Call(AsyncNode):
    """Calls what it was given, in exec."""

    def __init__(self, call):
        super().__init__()
        self.call = call

    async def exec_async(self, _):
        result = self.call()
        return await result if asyncio.iscoroutine(result) else result


async def run(call, name="run", **settings):
    return await trace_flow(flow_name=name, **settings)(AsyncFlow(start=Call(call))).run_async({})


@pytest.fixture
def tracer():
    made, exporter = provider()
    tracer = made.get_tracer("app")
    tracer.exporter = exporter
    yield tracer
    made.shutdown()


@pytest.fixture(autouse=True)
def _no_words(caplog):
    """OpenTelemetry and we have nothing to complain of."""
    yield
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


def remote(flags=TraceFlags.SAMPLED, state=None):
    return NonRecordingSpan(SpanContext(0xABC, 0xDEF, True, TraceFlags(flags), state))


async def test_each_phase_is_the_current_span(traces):
    """OpenTelemetry sees the ids that `current_span` has, and afterwards nothing."""
    shared = {}

    await trace_flow(AsyncFlow(start=Look())).run_async(shared)

    assert len({ours for _, ours in shared["seen"]}) == 3
    assert all(theirs == tuple(ours) for theirs, ours in shared["seen"])
    assert seen() is None


async def test_span_that_stands_for_us_records_nothing(traces):
    """It is sampled, is not recording, and takes whatever it is told."""

    def call():
        span = api.get_current_span()
        span.set_attribute("a", 1)
        span.add_event("e")
        span.record_exception(ValueError("x"))
        span.update_name("n")
        span.end()
        return span.is_recording(), span.get_span_context().trace_flags.sampled, repr(span)

    kept = []
    await run(lambda: kept.append(call()))

    ((recording, sampled, words),) = kept
    assert (recording, sampled) == (False, True)
    assert words.startswith("Here(SpanContext")
    assert not find_attributes(traces.one())


def find_attributes(span):
    return {name for child in span.children for name in child.attributes} - {"action"}


async def test_nested_runs_share_one_current_span(traces):
    """Inside a trace nothing is attached again, so that a span by hand costs nothing more."""
    kept = []

    async def call():
        kept.append(contexts.get_current())
        with tracing.span("inner"):
            kept.append(contexts.get_current())
            kept.append((seen(), current_span()))

    await run(call)

    assert kept[0] is kept[1]
    assert kept[2][0] == tuple(kept[2][1])


async def test_own_spans_and_theirs_nest_in_each_other(tracer, traces, find):
    """Ours, theirs, ours, theirs, ours: each has the one around it as its parent."""
    ids = {}

    async def call():
        ids["exec"] = current_span().span_id
        with tracer.start_as_current_span("theirs 1") as one:
            ids["theirs 1"] = hexed(one.context.span_id)
            with tracing.span("ours 1") as two:
                ids["ours 1"] = two.span_id
                with tracer.start_as_current_span("theirs 2") as three:
                    ids["theirs 2"] = hexed(three.context.span_id)
                    await AsyncFlow(start=Look()).run_async({})
                assert seen()[1] == two.span_id
            assert seen()[1] == ids["theirs 1"]
        assert seen()[1] == ids["exec"]

    await run(call)

    theirs = {
        span.name: hexed(span.parent.span_id) for span in tracer.exporter.get_finished_spans()
    }
    assert theirs == {"theirs 1": ids["exec"], "theirs 2": ids["ours 1"]}
    (tree,) = traces.all()
    (inner,) = [span for root in tree.roots for span in find(root, "ours 1")]
    (flow,) = [span for root in tree.roots for span in find(root, "AsyncFlow")]
    assert (inner.parent_id, flow.parent_id) == (ids["theirs 1"], ids["theirs 2"])
    assert inner.attributes["flow.parent"] == flow.attributes["flow.parent"] == "opentelemetry"


async def test_nested_flow_is_whole_in_the_store_when_their_spans_are_recorded(traces):
    """With a RecordingProcessor their span is in our store, so the parent is no stranger."""
    made, _ = provider(RecordingProcessor())
    tracer = made.get_tracer("app")

    async def call():
        with tracer.start_as_current_span("theirs"):
            await AsyncFlow(start=Look()).run_async({})

    await run(call)

    (node,) = traces.one().children
    (theirs,) = node.children
    (flow,) = theirs.children
    assert (theirs.kind, flow.name) == ("span", "AsyncFlow")
    assert "flow.parent" not in flow.attributes
    made.shutdown()


@pytest.mark.parametrize("whence", ["remote", "opentelemetry"])
async def test_run_below_a_strange_span_continues_its_trace(tracer, traces, whence):
    """Same trace id, its span as the parent, its tracestate; and it is said whose it is."""
    state = TraceState([("vendor", "x1")])
    span = remote(state=state) if whence == "remote" else tracer.start_span("request")
    with api.use_span(span):
        kept = []
        await run(lambda: kept.append(api.get_current_span().get_span_context()))

    context = span.get_span_context()
    root = traces.one()
    assert root.trace_id == hexed(context.trace_id, 32)
    assert root.parent_id == hexed(context.span_id)
    assert root.attributes["flow.parent"] == whence
    assert kept[0].trace_state.to_header() == ("vendor=x1" if whence == "remote" else "")
    assert kept[0].trace_id == context.trace_id


async def test_flow_that_is_only_watched_continues_a_strange_trace(traces):
    """The engine's own step at the root of a trace does as a traced run does."""
    from tracing.recorder import Recorder, watching
    from tracing.store import open_store

    with api.use_span(remote()), watching(Recorder(open_store(traces.path))):
        await AsyncFlow(start=Look()).run_async({})

    root = traces.one()
    assert (int(root.trace_id, 16), int(root.parent_id, 16)) == (0xABC, 0xDEF)


@pytest.mark.parametrize(("by_parent", "kept"), [(True, 0), (False, 1)])
async def test_flag_of_a_strange_parent_decides_unless_told_otherwise(traces, by_parent, kept):
    """A trace that its beginner does not sample is not recorded, with `sample_by_parent`."""
    config = TracingConfig(store=str(traces.path), sample_by_parent=by_parent)
    await run(lambda: None, config=config)

    with api.use_span(remote(TraceFlags.DEFAULT)):
        await run(lambda: None, config=config)

    assert len(traces.all()) == 1 + kept


async def test_sampled_parent_overrules_the_rate(traces):
    """A rate of nothing leaves out only what begins here."""
    config = TracingConfig(store=str(traces.path), sample_rate=0.0)

    await run(lambda: None, config=config)
    with api.use_span(remote()):
        await run(lambda: None, config=config)

    assert [int(tree.summary.trace_id, 16) for tree in traces.all()] == [0xABC]


async def test_unsampled_span_inside_a_run_is_no_parent(traces, find):
    """It arrives nowhere, so what is opened below it stays under our phase."""
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("app")
    ids = []

    def call():
        ids.append(current_span().span_id)
        with tracer.start_as_current_span("dropped"), tracing.span("inner"):
            pass

    await run(call)

    (inner,) = find(traces.one(), "inner")
    assert inner.parent_id == ids[0]


async def test_bare_thread_with_their_context_alone_is_under_the_run(traces):
    """Where OpenTelemetry's context was taken to and ours was not, the run is the parent."""
    kept = []

    def call():
        context = contexts.get_current()

        def work():
            contexts.attach(context)
            kept.append(seen())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    await run(call)

    assert kept[0][1] == traces.one().span_id


async def test_thread_that_the_context_was_carried_to_is_under_the_phase(traces):
    """`carry` and `to_thread` take both along."""
    kept = []

    async def call():
        kept.append(current_span().span_id)
        kept.append((await asyncio.to_thread(seen))[1])
        thread = threading.Thread(target=tracing.carry(lambda: kept.append(seen()[1])))
        thread.start()
        thread.join()

    await run(call)

    assert len(set(kept)) == 1


async def test_hidden_run_is_outside_our_trace_but_not_outside_theirs(tracer, traces, find):
    """With tracing off for a flow inside, its spans are not in our store, and stay sampled."""
    made, exporter = provider(RecordingProcessor(everything=True))
    inner = made.get_tracer("app")
    off = TracingConfig(store="off")

    async def secret():
        with inner.start_as_current_span("secret"), inner.start_as_current_span("below"):
            pass

    await run(lambda: run(secret, name="hidden", config=off))

    root = traces.one()
    assert not find(root, "secret") + find(root, "below")
    assert [span.name for span in exporter.get_finished_spans()] == ["below", "secret"]
    made.shutdown()


def test_generator_leaves_nothing_current_between_its_steps(tracer, traces):
    """Whoever takes the values has what it had before, and the body its own spans."""
    inside = []

    @tracing.traced
    def numbers():
        for number in range(3):
            with tracing.span("step"):
                inside.append((seen(), current_span()))
                yield number
                inside.append((seen(), current_span()))

    with tracer.start_as_current_span("around"):
        outside = seen()
        for _ in numbers():
            assert seen() == outside

    assert len(inside) == 6
    assert all(theirs == tuple(ours) for theirs, ours in inside)
    assert seen() is None


async def test_async_generator_may_be_stepped_from_task_to_task(traces):
    """Each step enters and leaves in the task that asks for it; the last closes it elsewhere."""
    inside = []

    @tracing.traced
    async def numbers():
        for number in range(4):
            inside.append((seen(), current_span()))
            yield number

    made = numbers()
    for _ in range(2):
        await asyncio.create_task(anext(made))
        assert seen() is None
    await asyncio.create_task(made.aclose())

    assert all(theirs == tuple(ours) for theirs, ours in inside)
    assert seen() is None


def test_span_left_in_another_context_says_nothing(traces):
    """Neither we nor OpenTelemetry complain, and the context it was left in is clean."""
    opened = tracing.span("wandering")
    elsewhere = contextvars.copy_context()
    elsewhere.run(opened.__enter__)

    assert elsewhere.run(seen) == tuple(elsewhere.run(current_span))

    later = elsewhere.copy()
    later.run(opened.__exit__, None, None, None)

    assert later.run(seen) is later.run(current_span) is None
    assert seen() is None


def test_sync_flow_is_seen_as_well(traces):
    """A plain Flow shows its phases, too."""
    kept = []

    class One(Node):
        def exec(self, _):
            kept.append((seen(), current_span()))

    trace_flow(Flow(start=One())).run({})

    assert kept[0][0] == tuple(kept[0][1])


async def test_baggage_of_the_program_stays(traces):
    """What else is in OpenTelemetry's context is there inside."""
    kept = []
    token = contexts.attach(baggage.set_baggage("k", "v"))
    try:
        await run(lambda: kept.append(baggage.get_baggage("k")))
    finally:
        contexts.detach(token)

    assert kept == ["v"]


def test_tracing_alone_does_not_load_opentelemetry(child_env, tmp_path):
    """A traced run where nobody uses OpenTelemetry does not pay for it."""
    code = """
import sys
from pocketflow_async import Flow, Node
from tracing import trace_flow, flush
trace_flow(Flow(start=Node())).run({})
flush()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=child_env, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
