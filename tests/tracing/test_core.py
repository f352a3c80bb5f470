"""`LangfuseTracer`: traces and node spans that begin and end by separate calls."""

import asyncio
import gc
import logging
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import TracingConfig, carry, current_span, trace_flow
from tracing.core import LANGFUSE_AVAILABLE, LangfuseTracer


class Step(AsyncNode):
    async def exec_async(self, prep_res):
        return "done"


@pytest.fixture
def tracer():
    return LangfuseTracer(TracingConfig())


def test_langfuse_available_is_whether_it_can_be_imported():
    """The constant is a bool, and tracing does not need it to be True."""
    assert isinstance(LANGFUSE_AVAILABLE, bool)


def test_a_new_tracer_has_the_attributes_of_the_contract():
    """The config is the object given, there is no client and nothing is current or made yet."""
    config = TracingConfig()
    tracer = LangfuseTracer(config)

    assert tracer.config is config
    assert (tracer.client, tracer.current_trace) == (None, None)
    assert (tracer.spans, tracer.async_contexts) == ({}, set())
    assert (tracer.lifecycle_manager, tracer.composition_manager) == (None, None)
    assert tracer.error_handler is None


def test_a_trace_has_its_name_input_output_and_status(tracer, traces, value):
    """start_trace returns the trace's id; end_trace takes output and status, by place."""
    trace_id = tracer.start_trace("Sync", {"a": 1})
    tracer.end_trace({"b": 2}, "success")

    (tree,) = traces.all()
    (root,) = tree.roots
    assert (tree.summary.trace_id, root.kind, root.name) == (trace_id, "flow", "Sync")
    assert (value(root.input), value(root.output)) == ({"a": 1}, {"b": 2})
    assert (root.outcome, root.attributes["status"]) == ("completed", "success")
    assert root.attributes["trace_type"] == "flow_execution"


def test_all_arguments_have_the_names_of_the_contract(tracer, traces):
    """Every synchronous method takes its arguments by name too."""
    tracer.start_trace(flow_name="Named", input_data={})
    span_id = tracer.start_node_span(node_name="N", node_id="1", phase="prep")
    tracer.end_node_span(span_id=span_id, input_data=1, output_data=2, error=None)
    tracer.end_trace(output_data={}, status="success")

    assert [child.name for child in traces.one().children] == ["N.prep"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("success", "completed"),
        ("error", "failed"),
        ("cancelled", "cancelled"),
        ("timeout", "timed_out"),
        ("as planned", "completed"),
    ],
)
def test_a_status_is_an_outcome(tracer, traces, status, outcome):
    """What the caller says decides how the trace ended; his own words mean that it completed."""
    tracer.start_trace("T", None)
    tracer.end_trace(None, status)

    root = traces.one()
    assert (root.outcome, root.attributes["status"]) == (outcome, status)


def test_a_node_span_has_input_output_and_metadata(tracer, traces, value):
    """The span is named after node and phase; its id is `{node_id}_{phase}`."""
    tracer.start_trace("T", None)
    span_id = tracer.start_node_span("Load", "n1", "exec")
    tracer.end_node_span(span_id, ["in"], {"out": True})
    tracer.end_trace(None)

    (span,) = traces.one().children
    assert span_id == "n1_exec"
    assert (span.kind, span.name, span.outcome) == ("span", "Load.exec", "completed")
    assert (value(span.input), value(span.output)) == (["in"], {"out": True})
    assert span.attributes == {
        "node_type": "Load",
        "node_id": "n1",
        "phase": "exec",
        "level": "DEFAULT",
    }


class Falsy(Exception):
    def __bool__(self):
        return False


@pytest.mark.parametrize("error", [ValueError("bad"), Falsy("bad"), "bad"], ids=repr)
def test_an_error_makes_a_failed_span_of_level_error(tracer, traces, error):
    """Also an exception that is falsy, or a mere message."""
    tracer.start_trace("T", None)
    tracer.end_node_span(tracer.start_node_span("N", "1", "exec"), error=error)
    tracer.end_trace(None, "error")

    (span,) = traces.one().children
    assert (span.outcome, span.error.message) == ("failed", "bad")
    assert span.attributes["level"] == "ERROR"


def test_a_trace_inside_a_trace_is_a_child_with_its_own_end(tracer, traces, shape):
    """A nested start_trace is a span of the outer; end_trace ends the innermost (defect 8)."""
    tracer.start_trace("Outer", {})
    tracer.start_trace("Inner", {})
    tracer.end_node_span(tracer.start_node_span("N", "1", "exec"))
    tracer.end_trace({}, "error")
    assert tracer.current_trace.name == "Outer"
    tracer.end_trace({})

    assert tracer.current_trace is None
    assert shape(traces.one()) == (
        "flow",
        "Outer",
        "completed",
        [("flow", "Inner", "failed", [("span", "N.exec", "completed")])],
    )


def test_what_is_never_ended_ends_with_its_trace_and_says_so(tracer, traces, find):
    """Spans and nested traces that nobody ended are closed and marked, never lost."""
    trace_id = tracer.start_trace("Outer", {})
    tracer.start_node_span("N", "1", "exec")
    tracer.start_trace("Inner", {})
    tracer.start_node_span("M", "2", "exec")
    tracer.end_trace({}, "error", trace_id=trace_id)

    root = traces.one()
    for name in ("N.exec", "Inner", "M.exec"):
        (span,) = find(root, name)
        assert span.attributes["flow.unfinished"] is True
        assert (span.outcome, span.end_ns is None) == ("failed", False)
    assert tracer.current_trace is None
    assert tracer.spans == {}


def test_ending_twice_or_the_unknown_is_reported_and_harmless(tracer, traces, caplog):
    """Nothing is raised and no other span changes; a debug line says what was not found."""
    with caplog.at_level(logging.DEBUG, logger="tracing"):
        tracer.end_trace({})
        tracer.start_trace("T", {})
        span_id = tracer.start_node_span("N", "1", "exec")
        tracer.end_node_span(span_id, output_data="first")
        tracer.end_node_span(span_id, output_data="second")
        tracer.end_node_span("nobody_exec")
        tracer.end_node_span(None)
        tracer.end_trace("first")
        tracer.end_trace("second")

    (span,) = traces.one().children
    assert (span.output, traces.one().output) == (b'"first"', b'"first"')
    assert caplog.text.count("there is no open trace to end here") == 2
    assert caplog.text.count("there is no open span") == 3


def test_nothing_is_current_outside_of_a_trace(tracer):
    """A node span needs a trace; without one there is no id."""
    assert tracer.start_node_span("N", "1", "exec") is None
    assert current_span() is None


def test_flows_and_spans_inside_belong_to_the_trace(tracer, traces, shape):
    """A flow that nobody decorated is seen too while a trace is current."""

    async def main():
        tracer.start_trace("Around", {})
        await AsyncFlow(Step(), name="Plain").run_async({})
        tracer.end_trace({})
        await AsyncFlow(Step(), name="After").run_async({})

    asyncio.run(main())

    assert shape(traces.one()) == (
        "flow",
        "Around",
        "completed",
        [("flow", "Plain", "completed", [("node", "Step", "completed")])],
    )


async def test_concurrent_traces_of_one_tracer_are_apart(tracer, traces, value):
    """Many tasks, one tracer, the same node ids: each span in its own trace (defects 5 and 7)."""
    meet = asyncio.Barrier(20)

    async def run(number):
        tracer.start_trace(f"T{number}", number)
        span_id = tracer.start_node_span("N", "n", "exec")
        await meet.wait()
        if number % 2:
            span_id = "n_exec"  # rebuilt by the caller: found by the context
        tracer.end_node_span(span_id, output_data=number)
        await meet.wait()
        tracer.end_trace(number)

    await asyncio.gather(*map(run, range(20)))

    found = traces.all()
    assert len(found) == 20
    for tree in found:
        (root,) = tree.roots
        (span,) = root.children
        assert root.name == f"T{value(root.output)}"
        assert value(span.output) == value(root.output)
        assert "flow.unfinished" not in span.attributes


async def test_one_run_that_ends_does_not_touch_another(tracer, traces):
    """Ending a trace, even twice, leaves those of other tasks as they are (defect 6)."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def long():
        tracer.start_trace("Long", {})
        span_id = tracer.start_node_span("N", "n", "exec")
        begun.set()
        await over.wait()
        tracer.end_node_span(span_id, output_data="kept")
        tracer.end_trace({})

    async def short():
        await begun.wait()
        tracer.start_trace("Short", {})
        tracer.end_trace({})
        tracer.end_trace({})
        tracer.end_node_span("n_exec", output_data="stolen")
        assert tracer.start_node_span("N", "n", "exec") is None
        await tracer.flush_async()
        over.set()

    await asyncio.gather(long(), short())

    found = {tree.summary.name: tree.roots[0] for tree in traces.all()}
    assert {name: root.outcome for name, root in found.items()} == {
        "Long": "completed",
        "Short": "completed",
    }
    assert found["Long"].children[0].output == b'"kept"'


async def test_parallel_spans_of_one_node_keep_their_own_contents(tracer, traces, value):
    """Several open spans with the same text as id are told apart by who opened them."""
    tracer.start_trace("T", {})
    meet = asyncio.Barrier(8)

    async def item(number):
        await tracer.start_node_span_async("N", "n", "exec")
        await meet.wait()
        await tracer.end_node_span_async("n_exec", number, number)

    await asyncio.gather(*map(item, range(8)))
    tracer.end_trace({})

    spans = traces.one().children
    assert sorted(value(span.output) for span in spans) == list(range(8))
    assert all(span.outcome == "completed" for span in spans)
    assert not any("flow.unfinished" in span.attributes for span in spans)


async def test_threads_that_carry_the_context_are_in_the_trace(tracer, traces, find):
    """asyncio.to_thread and tracing.carry take it along."""

    def work(name):
        tracer.end_node_span(tracer.start_node_span(name, "n", "exec"))

    tracer.start_trace("T", {})
    await asyncio.to_thread(work, "Asyncio")
    with ThreadPoolExecutor() as pool:
        list(pool.map(carry(work), ["Pool"]))
    tracer.end_trace({})

    root = traces.one()
    assert len(find(root, "Asyncio.exec")) == len(find(root, "Pool.exec")) == 1


def test_a_bare_thread_joins_the_only_trace_and_says_that_its_context_was_lost(tracer, traces):
    """Without a context there is one trace it can mean, if there is one."""

    def work():
        tracer.end_node_span(tracer.start_node_span("N", "n", "exec"), output_data=1)

    tracer.start_trace("T", {})
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    tracer.end_trace({})

    (span,) = traces.one().children
    assert span.attributes["flow.context_lost"] is True
    assert span.outcome == "completed"


def test_a_trace_may_end_in_another_thread(tracer, traces):
    """The other thread ends it; what starts here afterwards is a trace of its own."""
    trace_id = tracer.start_trace("First", {})
    with ThreadPoolExecutor() as pool:
        pool.submit(tracer.end_trace, {}, trace_id=trace_id).result()
    tracer.start_trace("Second", {})
    tracer.end_trace({})

    assert [tree.summary.name for tree in traces.all()] == ["First", "Second"]
    assert tracer.current_trace is None


def test_a_trace_that_is_never_ended_does_no_harm(store_path):
    """The program ends as it would, with nothing on stderr."""
    code = (
        "import asyncio\n"
        "from tracing.core import LangfuseTracer\n"
        "tracer = LangfuseTracer(None)\n"
        "async def main():\n"
        "    tracer.start_trace('T', {})\n"
        "    context = await tracer.start_trace_async('U', {})\n"
        "    await asyncio.create_task(context.__aenter__())\n"
        "asyncio.run(main())\n"
        "tracer.start_trace('V', {})\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_tracer_of_a_decorated_flow_names_its_own_traces(traces):
    """What is traced by hand has the name it was given, not that of the flow."""
    from tracing.settings import Settings

    settings = Settings(TracingConfig(session_id="s"), "Decorated")
    tracer = LangfuseTracer(settings.effective(), _settings=settings)
    tracer.start_trace("ByHand", {})
    tracer.end_trace({})

    (tree,) = traces.all()
    assert (tree.summary.name, tree.roots[0].name) == ("ByHand", "ByHand")
    assert tree.summary.session_id == "s"


async def test_by_hand_inside_a_decorated_flow_is_part_of_its_trace(tracer, traces, find):
    """Node spans and traces by hand hang under the phase they are opened in."""

    class Hand(AsyncNode):
        async def exec_async(self, prep_res):
            tracer.start_trace("Sub", {})
            tracer.end_node_span(tracer.start_node_span("X", "1", "exec"))
            tracer.end_trace({})

    await trace_flow(flow_name="Run")(AsyncFlow(Hand())).run_async({})

    root = traces.one()
    (sub,) = find(root, "Sub")
    assert sub.attributes["trace_type"] == "sub_flow_execution"
    assert [child.name for child in sub.children] == ["X.exec"]
    (hand,) = find(root, "Hand")
    assert sub in hand.children


def test_contents_are_copied_and_secrets_taken_out(tracer, traces, value):
    """What goes in is noted as it was then, without what is secret (defect 10)."""
    shared = {"api_key": "sk-123", "n": 1}
    tracer.start_trace("T", shared)
    shared["n"] = 2
    tracer.end_trace(shared)

    root = traces.one()
    assert (value(root.input)["n"], value(root.output)["n"]) == (1, 2)
    assert b"sk-123" not in root.input + root.output


def test_contents_are_left_out_where_the_config_says_so(traces):
    """trace_inputs and trace_outputs hold for spans by hand too."""
    tracer = LangfuseTracer(TracingConfig(trace_inputs=False, trace_outputs=False))
    tracer.start_trace("T", "in")
    tracer.end_node_span(tracer.start_node_span("N", "1", "exec"), "in", "out")
    tracer.end_trace("out")

    root = traces.one()
    assert (root.input, root.output) == (None, None)
    assert (root.children[0].input, root.children[0].output) == (None, None)


async def test_where_tracing_is_off_every_call_is_harmless():
    """No store: no ids, no contexts, nothing raised."""
    tracer = LangfuseTracer(TracingConfig(store="off"))

    assert tracer.start_trace("T", {}) is None
    assert await tracer.start_trace_async("T", {}) is None
    assert tracer.start_node_span("N", "1", "exec") is None
    tracer.end_node_span(None)
    tracer.end_trace({})
    await tracer.flush_async()
    assert await tracer.execute_nested_async_flow(asyncio.sleep(0, "x"), "F") == "x"


def test_a_trace_that_is_not_sampled_leaves_nothing(traces):
    """Nor do the spans and flows inside; the calls are the same."""
    tracer = LangfuseTracer(TracingConfig(sample_rate=0.0))
    assert tracer.start_trace("T", {}) is not None
    span_id = tracer.start_node_span("N", "1", "exec")
    asyncio.run(AsyncFlow(Step()).run_async({}))
    tracer.end_node_span(span_id, 1, 2)
    tracer.end_trace({})

    tracer.flush()
    assert not traces.path.exists() or traces.all() == []


async def test_flush_async_does_not_stand_in_the_loops_way(tracer, monkeypatch):
    """While the store is slow the loop goes on (defect 12)."""
    import tracing.flushing

    release = threading.Event()
    monkeypatch.setattr(tracing.flushing, "flush", lambda timeout=5.0: release.wait(timeout))
    waiting = asyncio.create_task(tracer.flush_async())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    await waiting


def test_flush_is_bounded(tracer, monkeypatch):
    """It waits no longer than five seconds, whatever the store does."""
    import tracing.flushing

    given = []
    monkeypatch.setattr(tracing.flushing, "flush", given.append)
    tracer.flush()

    assert given == [5.0]


def test_flush_stores_what_has_ended(tracer, store_path):
    """Afterwards a reader sees it."""
    from tracing.store import TraceReader

    tracer.start_trace("T", {})
    tracer.end_trace({})
    tracer.flush()

    assert [found.name for found in TraceReader(store_path).traces(10)] == ["T"]


def test_a_thousand_runs_leave_nothing_behind(tracer):
    """Memory does not grow with the number of traces by hand (defect 14)."""

    def runs(count):
        for number in range(count):
            tracer.start_trace("T", {"n": number})
            tracer.end_node_span(tracer.start_node_span("N", str(number), "exec"), 1, 2)
            tracer.start_node_span("Left", str(number), "exec")
            tracer.end_trace({})
        tracer.flush()
        gc.collect()

    runs(1_500)  # fills what is bounded
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    runs(1_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert grown < 200_000  # 200 bytes a run; some of it is what now waits to be written
    assert (tracer._traces, tracer._spans) == ({}, {})


def test_an_id_is_a_plain_string_elsewhere(tracer):
    """It can be pickled, and is then the text alone."""
    tracer.start_trace("T", {})
    span_id = tracer.start_node_span("N", "1", "exec")
    again = pickle.loads(pickle.dumps(span_id))
    tracer.end_trace({})

    assert (again, type(again)) == ("1_exec", str)


def test_the_config_is_never_changed():
    """Tracing with a config leaves it as it was (defect 21)."""
    config = TracingConfig(session_id="mine")
    before = dict(vars(config))
    tracer = LangfuseTracer(config)
    tracer.start_trace("T", {})
    tracer.end_trace({})

    assert vars(config) == before


def test_importing_the_core_loads_no_sdk():
    """Neither langfuse nor OpenTelemetry is imported: any of their versions will do (defect 16)."""
    code = (
        "import sys, tracing.core\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('langfuse', 'opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_start_and_end_are_cheap(tracer):
    """A span by hand costs some microseconds, and not hundreds (defect 13)."""
    tracer.start_trace("T", {})
    began = time.perf_counter()
    for _ in range(2_000):
        tracer.end_node_span(tracer.start_node_span("N", "n", "exec"), 1, 2)
    each = (time.perf_counter() - began) / 2_000
    tracer.end_trace({})

    assert each < 200e-6
