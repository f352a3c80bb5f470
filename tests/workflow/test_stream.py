"""AsyncLocalRuntime.stream: the events of a run."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from pocketflow_async.runtime import (
    AsyncLocalRuntime,
    NodeFailed,
    NodeFinished,
    NodeReady,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from pocketflow_async.workflow.errors import WorkflowExecutionError, WorkflowValidationError
from pocketflow_async.workflow.policies import RetryPolicy
from tests.workflow.runtime_kit import giver, node, nothing_left, raiser, sleeper, workflow
from tracing.testing import FakeClock


def collect(flow, **options):
    async def main():
        runtime = AsyncLocalRuntime(**options)
        return [event async for event in runtime.stream(flow, {"n": 1}, run_id="r")]

    return FakeClock().run(main())


def test_a_run_tells_what_happens_in_order():
    """Ready, started with its wait, finished with its value; times count from the start."""
    flow = workflow([node("a", sleeper(1, "A")), node("b", sleeper(2, "B"))])

    first, *events, last = collect(flow, max_concurrent_nodes=1)

    assert isinstance(first, RunStarted)
    assert (first.run_id, first.workflow) == ("r", flow)
    assert first.analysis is not None
    assert events == [
        NodeReady("a", 0),
        NodeReady("b", 0),
        NodeStarted("a", 0, 0),
        NodeFinished("a", "A", 1, 1),
        NodeStarted("b", 1, 1),
        NodeFinished("b", "B", 2, 3),
    ]
    assert isinstance(last, RunFinished)
    assert last.result["results"] == {"a": "A", "b": "B"}
    assert last.at == 3


def test_failures_retries_and_skipped_nodes_are_told():
    """Each with its error or reason."""
    error = ValueError("no")
    flow = workflow(
        [
            node("a", raiser(error), retry_policy=RetryPolicy(2)),
            node("b", giver(1)),
            node("c", giver(1), condition=lambda inputs: False),
        ],
        "a -> b",
    )

    events = collect(flow, enable_analysis=False)

    assert events[0].analysis is None
    assert [e for e in events if isinstance(e, NodeRetried)] == [NodeRetried("a", 1, error, 1.0, 0)]
    assert [e for e in events if isinstance(e, NodeFailed)] == [NodeFailed("a", error, 1, 1)]
    assert {e.node_id: e.reason for e in events if isinstance(e, NodeSkipped)} == {
        "b": "it needs 'a', which failed",
        "c": "its condition is false",
    }


async def test_closing_the_iterator_cancels_the_run():
    """And waits for its end: nothing is left, and the slots are free again."""
    ended = []

    async def slow(**_):
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    runtime = AsyncLocalRuntime()
    async with nothing_left(), aclosing(runtime.stream(workflow([node("a", slow)]))) as events:
        async for event in events:
            if isinstance(event, NodeStarted):
                await asyncio.sleep(0)
                break

    assert ended == [1]
    assert runtime._slots.free == 10


async def test_cancelling_the_reader_cancels_the_run():
    """However often it is told."""
    started = asyncio.Event()

    async def slow(**_):
        started.set()
        await asyncio.sleep(100)

    async def read():
        async for _ in AsyncLocalRuntime().stream(workflow([node("a", slow)])):
            pass

    async with nothing_left():
        reader = asyncio.create_task(read())
        await started.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader


async def test_a_stream_that_is_never_read_runs_nothing():
    """The run begins with the first event that is asked for."""
    called = []

    async def work(**_):
        called.append(1)

    stream = AsyncLocalRuntime().stream(workflow([node("a", work)]))
    await asyncio.sleep(0)
    await stream.aclose()

    assert called == []


async def test_what_the_run_raises_comes_after_the_last_event():
    """With `on_error="raise"`; and a workflow that cannot run raises at once."""
    flow = workflow([node("a", raiser(ValueError("no")))])
    stream = AsyncLocalRuntime().stream(flow, on_error="raise")
    events = [type(await anext(stream)) for _ in range(4)]

    with pytest.raises(WorkflowExecutionError, match="'a' failed"):
        await anext(stream)
    assert events == [RunStarted, NodeReady, NodeStarted, NodeFailed]

    circle = workflow([node("a", giver(1)), node("b", giver(1))], "a -> b", "b -> a")
    with pytest.raises(WorkflowValidationError):
        async for _ in AsyncLocalRuntime().stream(circle):
            pass


async def test_streams_run_side_by_side():
    """Each tells of its own run only."""
    runtime = AsyncLocalRuntime(max_concurrent_nodes=2)

    async def one(number):
        flow = workflow([node(f"n{number}", sleeper(0)), node(f"m{number}", giver(number))])
        events = [e async for e in runtime.stream(flow)]
        assert {e.node_id for e in events[1:-1]} == {f"n{number}", f"m{number}"}
        return events[-1].result["results"][f"m{number}"]

    assert await asyncio.gather(*map(one, range(20))) == list(range(20))
