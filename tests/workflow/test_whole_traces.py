"""Random workflows, traced: the same results, and a trace that shows all of them."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.hooks import active
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncWorkflowBuilder
from tests.workflow.whole_kit import (
    ERRORS,
    Log,
    built,
    check_result,
    expected,
    graphs,
    inputs,
    made,
    nothing_changed,
)
from tracing.names import LINKS
from tracing.recorder import watching
from tracing.spans import recorder_here
from tracing.testing import FakeClock, capture


async def run(flow, runtime, tag="t", log=None):
    return await runtime.execute_workflow_async(flow, inputs(log or Log(), tag))


async def traced(flow, runtime, tag="t", log=None):
    with watching(recorder_here()):
        return await run(flow, runtime, tag, log)


def links(span):
    return [link["span_id"] for link in span.attributes.get(LINKS, ())]


def check_trace(graph, trace):
    """Fail unless every node has its span under the workflow's, after those that it needs."""
    want = expected(graph)
    root = trace.root
    assert (root.kind, root.name) == ("workflow", "whole")
    assert root.outcome == ("failed" if want.failed else "completed")
    spans = {span.name: span for span in root.children}
    assert set(spans) == {f"n{number}" for number in range(len(graph.kinds))}
    assert len(root.children) == len(graph.kinds)
    ids = [span.span.span_id for span in trace.walk()]
    assert len(ids) == len(set(ids))
    for number, deed in enumerate(graph.deeds):
        span = spans[f"n{number}"]
        assert span.kind == "node"
        check_inside(span, graph.kinds[number], number in want.skipped)
        assert root.span.start_ns <= span.span.start_ns <= span.span.end_ns <= root.span.end_ns
        needed = {spans[f"n{need}"].span.span_id for need in graph.needs(number)}
        if number in want.skipped:
            check_skipped(span, deed)
            assert set(links(span)) <= needed  # what had not begun by then has no span to link to
            continue
        if number in want.failed:
            assert span.outcome == "failed"
            kind = graph.kinds[number].removeprefix("sync ")
            assert span.error.type.rpartition(".")[2] == ERRORS.get(kind, "ValueError")
            assert f"no {number}" in span.error.message
        else:
            assert span.outcome == "completed"
            assert span.attempts == (2 if deed == "flaky" else 1)
            assert span.fell_back == (deed == "handled")
        assert set(links(span)) == needed
        for need in graph.needs(number):
            assert spans[f"n{need}"].span.end_ns <= span.span.start_ns


def check_inside(span, kind, is_skipped):
    """Fail unless the span holds what its node is made of."""
    names = {child.name for child in span.children}
    if is_skipped or kind not in ("map", "workflow", "sync workflow"):
        assert not names
    elif kind == "map":
        assert [child.kind for child in span.children] == ["item"] * len(span.children)
    else:
        assert names == {"within"}
        assert all(child.children[0].name == "inner" for child in span.children)


def check_skipped(span, deed):
    assert span.outcome == "skipped"
    assert span.error is None
    reason = span.attributes["flow.reason"]
    if deed != "dropped":
        assert reason.startswith("it needs 'n")


async def test_a_skipped_node_is_linked_to_the_skipped_one_that_it_needs():
    """In whatever order they were added."""
    builder = AsyncWorkflowBuilder("whole")
    builder.add_async_code("a", "raise ValueError(1)")
    builder.add_async_code("c", "result = b")
    builder.add_async_code("b", "result = a")
    builder.add_connection("a", "result", "b", "a")
    builder.add_connection("b", "result", "c", "b")

    with capture() as traces:
        await traced(builder.build(), AsyncLocalRuntime())

    trace = traces.one()
    assert links(trace.find("c")) == [trace.find("b").span.span_id]


@settings(deadline=None, max_examples=60)
@given(graphs(), st.integers(1, 5))
def test_traced_runs_give_the_same_and_a_trace_of_all(graph, limit):
    """Every node has a span under the workflow's; edges are links; skipped nodes are shown."""
    log = Log()

    async def main():
        async with AsyncLocalRuntime(max_concurrent_nodes=limit) as runtime:
            flow = built(graph)
            plain = await run(flow, runtime)
            seen = await traced(flow, runtime, log=log)
            assert active() is None
            assert asyncio.all_tasks() == {asyncio.current_task()}
        return plain, seen

    with capture() as traces:
        plain, seen = FakeClock().run(main())
        check_trace(graph, traces.one())

    check_result(graph, seen, "t", log)
    assert made(seen) == made(plain)
    assert seen["errors"] == plain["errors"]
    assert set(seen["skipped"]) == set(plain["skipped"])
    assert seen["total_duration"] == plain["total_duration"]
    assert seen["metrics"].node_durations.keys() == plain["metrics"].node_durations.keys()


@settings(deadline=None, max_examples=8)
@given(st.lists(graphs(most=5), min_size=1, max_size=3), st.integers(1, 8))
def test_forty_traced_runs_at_once_have_a_trace_each(shapes, limit):
    """Every span is in the trace of its own run, on one runtime and with few slots."""
    flows = [built(graph) for graph in shapes]

    async def main():
        async with AsyncLocalRuntime(max_concurrent_nodes=limit) as runtime:
            return await asyncio.gather(
                *(traced(flows[n % len(flows)], runtime, n) for n in range(40))
            )

    with nothing_changed(), capture() as traces:
        results = FakeClock().run(main())
        seen = traces.all()

    for n, result in enumerate(results):
        check_result(shapes[n % len(shapes)], result, n)
    assert len(seen) == 40
    by_tag = {trace.root.input["tag"]: trace for trace in seen}
    assert set(by_tag) == set(range(40))
    for n, trace in by_tag.items():
        check_trace(shapes[n % len(shapes)], trace)
        for span in trace.walk():
            if span.kind != "item" and span.outcome != "skipped":
                assert span.input["tag"] == n
