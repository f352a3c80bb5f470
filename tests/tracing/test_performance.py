"""Where time went, slow nodes, and a blocked event loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Flow, Node
from pocketflow_async.hooks import suspended
from tracing import TracingConfig, trace_flow
from tracing.async_error_handling import AsyncErrorType
from tracing.performance import Monitor, report, timings
from tracing.performance_loops import LOOPS
from tracing.store import PhaseSpan, Span


def span(start, end, *phases, kind="node", name="n", index=None, children=(), attributes=None):
    """Return a span with times in seconds; a phase is (kind, start, end[, wait])."""
    return Span(
        "t", f"{name}{index}", None, kind, name, index, int(start * 1e9),
        None if end is None else int(end * 1e9), "completed",
        attributes=attributes or {},
        phases=tuple(
            PhaseSpan("p", what, 0, int(a * 1e9), None if b is None else int(b * 1e9),
                      "completed", wait=wait[0] if wait else None)
            for what, a, b, *wait in phases
        ),
        children=tuple(children),
    )  # fmt: skip


def test_waits_and_suspensions_are_not_run_time():
    """Ten seconds: 2 waited between attempts, 3 suspended, 5 at work."""
    found = timings(
        span(0, 10, ("prep", 0, 1), ("exec", 1, 2, 2.0), ("exec", 4, 9),
             ("suspended", 5, 8), ("post", 9, 10))
    )  # fmt: skip

    assert found == (0, 2, 3, 5, 10)
    assert found._fields == ("queued", "waited", "suspended", "running", "total")


def test_an_item_is_queued_from_the_moment_its_batch_began():
    """The batch's prep ended at 1, the item began at 4: queued for three seconds."""
    item = span(4, 6, ("exec", 4, 6), kind="item", index=1)
    batch = span(0, 7, ("prep", 0, 1), ("post", 6, 7), children=[item])

    assert timings(item, batch) == (3, 0, 0, 2, 5)
    assert timings(item) == (0, 0, 0, 2, 2)


def test_overlapping_suspensions_count_once():
    """Two branches suspended at the same time do not wait twice."""
    found = timings(span(0, 9, ("exec", 0, 9), ("suspended", 1, 5), ("suspended", 2, 6)))

    assert (found.suspended, found.running) == (5, 4)


def test_a_span_without_end_counts_to_its_last_known_moment():
    """A running or interrupted span has no end."""
    assert timings(span(0, None, ("prep", 0, 2), ("exec", 2, None))).total == 2
    assert timings(span(0, None)).total == 0


def test_cancelled_while_waiting_for_the_next_attempt():
    """The wait ends with the span."""
    assert timings(span(0, 3, ("exec", 0, 1, 60.0))).waited == 2


def test_the_report_has_the_slowest_first():
    """Nodes and items with their paths; a flow is not a node; as text it is a table."""
    quick = span(0, 1, ("exec", 0, 1), name="Quick")
    item = span(2, 8, ("exec", 2, 8), kind="item", name="Each", index=0)
    each = span(1, 9, ("prep", 1, 1), name="Each", children=[item], attributes={"flow.slow": 8.0})
    root = span(0, 9, kind="flow", name="Flow", children=[quick, each])

    found = report(root)

    assert [row.path for row in found.work] == [
        "Flow > Each", "Flow > Each > Each[0]", "Flow > Quick",
    ]  # fmt: skip
    assert [row.slow for row in found.work] == [True, False, False]
    assert found.work[1].timings.queued == 1
    assert len(report(root, most=1).work) == 1
    assert str(found).splitlines()[1].split() == [
        "8.000", "0.000", "0.000", "0.000", "Flow", ">", "Each", "(slow)",
    ]  # fmt: skip


async def test_timings_of_a_real_trace(traces):
    """A batch of two, one at a time: the second item was queued while the first ran."""

    class Each(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return [0, 1]

        async def exec_async(self, item):
            async with suspended("a moment"):
                await asyncio.sleep(0.002)
            if not self.cur_retry:
                raise ValueError

    flow = trace_flow()(AsyncFlow(Each(2, wait=0.002, concurrency=1)))
    await flow.run_async({})

    (tree,) = traces.all()
    (batch,) = tree.roots[0].children
    first, second = (timings(item, batch) for item in batch.children)
    assert second.queued >= first.total - first.queued
    assert first.waited >= 0.002
    assert first.suspended >= 0.004
    assert first.total == pytest.approx(sum(first[:4]))
    assert {row.span.kind for row in report(tree).work} == {"node", "item"}


def traced(flow, **options):
    config = TracingConfig(performance_monitoring=True, **options)
    return trace_flow(config=config, flow_name="Steps")(flow)


def tracer_of(flow):
    return getattr(flow, "_tracer", None) or flow.__pocketflow_trace__.tracer


def monitored(flow):
    """Return the handler of *flow*, which sees to it that the monitor is at work."""
    return tracer_of(flow).get_error_handler()


class Sleeps(AsyncNode):
    def __init__(self, seconds, *, suspend=False):
        super().__init__()
        self.seconds = seconds
        self.suspend = suspend

    async def exec_async(self, prep_res):
        if self.suspend:
            async with suspended("on purpose"):
                await asyncio.sleep(self.seconds)
        else:
            await asyncio.sleep(self.seconds)


async def test_a_slow_node_is_logged_and_marked(traces, caplog):
    """One that runs longer than slow_node_seconds; time suspended does not count."""
    slow, waiting = Sleeps(0.03), Sleeps(0.03, suspend=True)
    slow >> waiting
    flow = traced(AsyncFlow(slow), slow_node_seconds=0.02)
    monitored(flow)
    with caplog.at_level(logging.WARNING):
        await flow.run_async({})

    first, second = traces.one().children
    assert first.attributes["flow.slow"] >= 0.02
    assert "flow.slow" not in second.attributes
    assert [line for line in caplog.messages if "is slow" in line] == [
        line for line in caplog.messages if line.startswith("node Sleeps of Steps is slow: it ran")
    ]
    assert len(caplog.messages) == 1


class Blocks(AsyncNode):
    async def exec_async(self, prep_res):
        time.sleep(0.5)  # what must not be done


async def test_a_blocked_loop_names_the_node_and_the_line(traces, caplog):
    """MIXED_SYNC_ASYNC with node, flow, line and length, once a block, and marked in the trace."""
    flow = traced(AsyncFlow(Blocks()), block_threshold_seconds=0.2)
    handler = monitored(flow)
    heard = []
    handler.register_error_handler(AsyncErrorType.MIXED_SYNC_ASYNC, heard.append)
    with caplog.at_level(logging.WARNING):
        await asyncio.gather(flow.run_async({}), asyncio.sleep(0.6))

    (event,) = handler.error_events
    (node,) = traces.one().children
    assert event.error_type is AsyncErrorType.MIXED_SYNC_ASYNC
    assert (event.metadata["node_name"], event.flow_name) == ("Blocks", "Steps")
    assert event.node_id == node.span_id
    assert 0.2 <= event.metadata["seconds"] <= 5
    assert "in Blocks.exec_async" in event.metadata["where"]
    assert "test_performance.py" in event.metadata["where"]
    assert 0.2 <= node.attributes["flow.blocked"] <= 5
    assert heard == [event]
    assert len([line for line in caplog.messages if "stood still" in line]) == 1


async def test_the_node_at_work_is_named_among_many():
    """Of three runs of two flows at once, the one that blocks is named, and told to its flow."""
    waits = traced(AsyncFlow(Sleeps(0.6)), block_threshold_seconds=0.2)
    blocks = traced(AsyncFlow(Blocks()), block_threshold_seconds=0.2)
    innocent, guilty = monitored(waits), monitored(blocks)
    await asyncio.gather(waits.run_async({}), waits.run_async({}), blocks.run_async({}))

    assert [event.metadata["node_name"] for event in guilty.error_events] == ["Blocks"]
    assert innocent.error_events == []


async def test_a_task_of_the_users_own_blocks():
    """In a task that the only node at work has started, the node is named."""

    class Starts(AsyncNode):
        async def exec_async(self, prep_res):
            async def work():
                time.sleep(0.5)  # what must not be done

            await asyncio.gather(work())

    flow = traced(AsyncFlow(Starts()), block_threshold_seconds=0.2)
    handler = monitored(flow)
    await flow.run_async({})

    (event,) = handler.error_events
    assert event.metadata["node_name"] == "Starts"
    assert "Starts.exec_async.<locals>.work" in event.metadata["where"]


async def test_waiting_is_no_blocking():
    """A node that awaits leaves the loop free."""
    flow = traced(AsyncFlow(Sleeps(0.5)), block_threshold_seconds=0.3)
    handler = monitored(flow)
    await flow.run_async({})

    assert handler.error_events == []


def test_a_sync_flow_has_no_loop_to_block():
    """`run` without a loop is only measured."""

    class Slow(Node):
        def exec(self, prep_res):
            time.sleep(0.01)

    flow = traced(Flow(Slow()), block_threshold_seconds=0.001, slow_node_seconds=0.001)
    handler = monitored(flow)
    flow.run({})

    assert handler.error_events == []


async def test_nothing_when_off():
    """Without performance_monitoring there is no monitor, no thread, and no attribute."""
    flow = trace_flow(config=TracingConfig(slow_node_seconds=0.001))(AsyncFlow(Sleeps(0.01)))
    tracer = tracer_of(flow)
    tracer.get_error_handler()
    before = {thread.ident for thread in threading.enumerate()}
    await flow.run_async({})

    names = {t.name for t in threading.enumerate() if t.ident not in before}
    assert "pocketflow-loop-watchdog" not in names
    assert tracer.ring.listener(Monitor) is None


def test_the_watchdogs_thread_ends_with_its_loop():
    """After asyncio.run no thread of it stays for longer than a second or two."""
    flow = traced(AsyncFlow(Sleeps(0.01)))
    monitored(flow)
    before = set(threading.enumerate())
    asyncio.run(flow.run_async({}))

    for thread in set(threading.enumerate()) - before:
        if thread.name == "pocketflow-loop-watchdog":
            thread.join(5)
            assert not thread.is_alive()


def test_loops_are_not_kept():
    """A watchdog keeps no loop alive that has ended."""
    flow = traced(AsyncFlow(Sleeps(0)))
    monitored(flow)
    before = len(LOOPS._dogs)
    for _ in range(3):
        asyncio.run(flow.run_async({}))
    gc.collect()

    assert len(LOOPS._dogs) <= before + 1  # the thread may be looking at the last one
    assert LOOPS._places == {}
    assert LOOPS._stacks == {}
