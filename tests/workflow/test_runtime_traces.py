"""What a run of a workflow looks like in a trace."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.hooks import active, guarding, observing
from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.workflow.errors import WorkflowExecutionError
from pocketflow_async.workflow.policies import ErrorHandler, RetryPolicy
from tests.tracing.mapping_kit import out, record
from tests.workflow.runtime_kit import giver, node, raiser, sleeper, workflow
from tracing import span
from tracing.cli.render import trace_page
from tracing.cli.view import View
from tracing.names import LINKS
from tracing.recorder import watching
from tracing.spans import recorder_here
from tracing.testing import FakeClock, capture


@pytest.fixture
def seen():
    with capture() as traces:
        yield traces


async def run(flow, inputs=None, runtime=None, **options):
    """Run *flow* as the root of a trace."""
    with watching(recorder_here()):
        return await (runtime or AsyncLocalRuntime()).execute_workflow_async(
            flow, inputs, **options
        )


def links(span):
    return [link["span_id"] for link in span.attributes.get(LINKS, ())]


async def test_the_workflow_holds_its_nodes_with_inputs_outputs_and_links(seen):
    """Edges are links from a node to those that it has its inputs from."""
    flow = workflow(
        [node("a", giver({"n": 1})), node("b", giver(2)), node("c", giver(3))],
        "a.n -> c.x",
        "b -> c",
    )

    await run(flow, {"i": 0})

    trace = seen.one("test")
    assert str(trace) == (
        "workflow test: completed\n  node a: completed\n  node b: completed\n  node c: completed\n"
    )
    root, a, b, c = trace.roots[0].walk()
    assert (root.input, root.output) == ({"i": 0}, {"a": {"n": 1}, "b": 2, "c": 3})
    assert (a.input, a.output) == ({"i": 0}, {"n": 1})
    assert c.input == {"i": 0, "x": 1, "b": 2}
    assert (links(a), links(b)) == ([], [])
    assert links(c) == [a.span.span_id, b.span.span_id]
    assert {link["trace_id"] for link in c.attributes[LINKS]} == {trace.id}
    assert [link["attributes"]["flow.node.name"] for link in c.attributes[LINKS]] == ["a", "b"]
    assert [phase.kind for phase in c.phases] == ["prep", "exec"]


async def test_waiting_for_a_slot_is_apart_from_running(seen):
    """The span begins when the node does; how long it has waited is an attribute."""
    flow = workflow([node("a", sleeper(0.01)), node("b", giver(1))])

    result = await run(flow, runtime=AsyncLocalRuntime(max_concurrent_nodes=1))

    a, b = seen.find("a"), seen.find("b")
    assert "flow.waited_seconds" not in a.attributes
    waited = result["metrics"].waiting_times["b"]
    assert b.attributes["flow.waited_seconds"] == pytest.approx(waited, abs=1e-6)
    assert waited > 0.009
    assert b.span.start_ns >= a.span.end_ns


async def test_skipped_nodes_are_shown_with_the_reason(seen):
    """A record of no length: of a dependant of a failed node, and of a false condition."""
    flow = workflow(
        [
            node("a", raiser(ValueError("no"))),
            node("b", giver(1)),
            node("c", giver(1), condition=lambda inputs: False),
        ],
        "a -> b",
    )

    await run(flow)

    assert sorted(str(seen.one()).splitlines()) == sorted(
        [
            "workflow test: failed, WorkflowExecutionError: node 'a' failed: ValueError: no",
            "  node a: failed, ValueError: no",
            "  node b: skipped",
            "  node c: skipped",
        ]
    )
    a, b, c = seen.find("a"), seen.find("b"), seen.find("c")
    assert b.attributes["flow.reason"] == "it needs 'a', which failed"
    assert c.attributes["flow.reason"] == "its condition is false"
    assert b.span.start_ns == b.span.end_ns
    assert links(b) == [a.span.span_id]
    assert b.error is None


def test_attempts_timeouts_and_handlers_are_phases(seen):
    """Each attempt is an exec; the handler's answer is the fallback."""
    flow = workflow(
        [
            node("a", sleeper(9), timeout=1, retry_policy=RetryPolicy(2)),
            node(
                "b",
                raiser(ValueError("no")),
                retry_policy=RetryPolicy(2),
                error_handler=ErrorHandler("fallback", "instead", log_level="debug"),
            ),
        ]
    )

    FakeClock().run(run(flow))

    a, b = seen.find("a"), seen.find("b")
    assert (a.outcome, a.attempts) == ("timed_out", 2)
    assert [(p.kind, p.outcome, p.wait) for p in a.phases] == [
        ("prep", "completed", None),
        ("exec", "timed_out", 1.0),
        ("exec", "timed_out", None),
    ]
    assert (b.outcome, b.attempts, b.fell_back, b.output) == ("completed", 2, True, "instead")


async def test_user_spans_and_flows_are_inside_their_node(seen):
    """Also from a thread; and each run of several at once has a trace of its own."""

    class Ask(AsyncNode):
        async def exec_async(self, _):
            await asyncio.sleep(0)

    async def with_flow(**_):
        await AsyncFlow(Ask(), name="inner").run_async({})

    def in_thread(**_):
        with span("by hand"):
            return threading.current_thread().name

    flow = workflow([node("a", with_flow), node("b", in_thread)])

    await asyncio.gather(*(run(flow) for _ in range(5)))

    traces = seen.all()
    assert len(traces) == 5
    for trace in traces:
        inner = trace.roots[0].find("inner")
        hand = trace.roots[0].find("by hand")
        assert (inner.parent.name, hand.parent.name) == ("a", "b")
        assert inner.children[0].name == "Ask"


async def test_a_run_inside_a_span_belongs_to_it(seen):
    """As a flow would; its input is noted there too."""
    with span("request"):
        await AsyncLocalRuntime().execute_workflow_async(workflow([node("a", giver(1))]), {"i": 1})

    assert str(seen.one()) == (
        "span request: completed\n  workflow test: completed\n    node a: completed\n"
    )
    assert seen.find("test").input == {"i": 1}


async def test_cancelled_timed_out_and_refused_runs_say_so(seen):
    """The outcome of the workflow's span is that of the run."""
    started = asyncio.Event()

    async def slow(**_):
        started.set()
        await asyncio.sleep(100)

    task = asyncio.create_task(run(workflow([node("a", slow)])))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        await run(workflow([node("a", slow)]), timeout=0.001)

    def gate(step):
        if step.kind == "node":
            raise PermissionError("no")

    with guarding(gate), pytest.raises(WorkflowExecutionError):
        await run(workflow([node("a", slow)]), on_error="raise")

    cancelled, late, refused = seen.all()
    assert [found.outcome for found in cancelled.roots[0].walk()] == ["cancelled", "cancelled"]
    assert [found.outcome for found in late.roots[0].walk()] == ["timed_out", "cancelled"]
    assert refused.find("a").outcome == "halted"


async def test_the_finished_steps_keep_no_records_alive(seen):
    """What an observer has noted of a step is let go when the step is left."""
    steps = []

    with observing(lambda step: steps.append(step)):
        await run(workflow([node("a", giver(1)), node("b", giver(2))], "a -> b"))

    assert active() is None
    assert all(step._manager is None for step in steps)
    a, b = (step for step in steps if step.kind == "node")
    assert b.after == (a,)


def test_the_synchronous_door_is_traced_too(seen):
    """On its own loop, in the trace of the caller."""
    with span("request"):
        LocalRuntime().execute(workflow([node("a", giver(1))]))

    assert [found.name for found in seen.one().roots[0].walk()] == ["request", "test", "a"]


def test_links_and_skipped_nodes_go_out():
    """Links are OpenTelemetry's own; a skipped node has no error and no status."""
    link = {"trace_id": "ab" * 16, "span_id": "cd" * 8, "attributes": {}}
    said = {LINKS: [link], "flow.reason": "it needs 'a', which failed"}

    for dialect in ("otlp", "langfuse"):
        [sent] = out(record(outcome="skipped", attributes=said), dialect)

        assert [(to.trace_id.hex(), to.span_id.hex()) for to in sent.links] == [
            (link["trace_id"], link["span_id"])
        ]
        assert (sent.status, sent.message) == (0, "")
        assert sent.attributes["flow.outcome"] == "skipped"
        assert "error.type" not in sent.attributes
        if dialect == "otlp":
            assert sent.attributes["flow.reason"] == "it needs 'a', which failed"


async def test_the_command_shows_edges_and_reasons(seen):
    """Under the node's line: after which nodes it came, or why it did not run."""
    flow = workflow([node("a", raiser(ValueError("no"))), node("b", giver(1))], "a -> b")

    await run(flow)

    lines = [line.plain for line in trace_page(seen.one().stored, View(0, width=80))]
    place = next(number for number, line in enumerate(lines) if "○ b  skipped" in line)
    assert [line.strip() for line in lines[place + 1 : place + 3]] == [
        "after a",
        "it needs 'a', which failed",
    ]
    assert not any("otel.links" in line for line in lines)
