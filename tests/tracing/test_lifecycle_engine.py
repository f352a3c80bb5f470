"""Lifecycles of traced flows: nobody calls anything, every node visit has its own."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from datetime import timedelta
from itertools import pairwise

import pytest

from pocketflow_async import (
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchNode,
    Flow,
    Node,
)
from pocketflow_async.hooks import guarding, suspended
from tracing import TracingConfig, flush, trace_flow
from tracing.async_lifecycle import LEGAL, AsyncLifecycleManager, AsyncNodeState, LifecycleRing
from tracing.record import Record
from tracing.recorder import new_trace

S = AsyncNodeState


class Null:
    """A sink that takes everything and keeps nothing."""

    is_closed = False

    def opened(self, record):
        pass

    def closed(self, record):
        pass


def traced(flow, **options):
    return trace_flow(config=TracingConfig(**options) if options else None)(flow)


def tracer_of(flow):
    return getattr(flow, "_tracer", None) or flow.__pocketflow_trace__.tracer


def manager_of(flow):
    return tracer_of(flow).get_lifecycle_manager()


def told(lifecycle):
    """Return the events as words, with the attempt where there is one."""
    words = []
    for event in lifecycle.events:
        attempt = event.metadata.get("attempt")
        words.append(event.state.value + (f" {attempt}" if attempt and attempt > 1 else ""))
    return words


def is_legal(lifecycle):
    states = [event.state for event in lifecycle.events]
    return states[0] is S.CREATED and all(
        following in LEGAL[state] for state, following in pairwise(states)
    )


class Work(AsyncNode):
    async def exec_async(self, prep_res):
        return "done"


async def test_every_visit_has_its_lifecycle_without_a_call():
    """CREATED, STARTING, RUNNING for each phase, COMPLETING, COMPLETED; nothing suspended."""
    first = Work()
    first >> Work()
    flow = traced(AsyncFlow(first))
    await flow.run_async({})

    manager = manager_of(flow)
    one, two = manager.completed_lifecycles
    assert told(one) == [
        "created", "starting", "running", "running", "running", "completing", "completed",
    ]  # fmt: skip
    assert [event.phase.value for event in one.events[2:5]] == ["prep", "exec", "post"]
    assert one.node_id != two.node_id
    assert one.context_data["flow_name"] == "AsyncFlow"
    assert (one.suspend_count, one.resume_count) == (0, 0)
    assert is_legal(one)
    assert one.start_time.utcoffset() == timedelta(0)
    assert [event.timestamp for event in one.events] == sorted(e.timestamp for e in one.events)
    assert one.duration_ms >= 0
    assert manager.get_statistics()["state_distribution"] == {"completed": 2}


def test_a_sync_flow_has_lifecycles_too():
    """`run` is watched as `run_async` is."""
    flow = traced(Flow(Node()))
    flow.run({})

    assert [told(found)[-1] for found in manager_of(flow).completed_lifecycles] == ["completed"]


async def test_the_id_is_that_of_the_span(traces):
    """A lifecycle's node_id finds its span in the trace."""
    flow = traced(AsyncFlow(Work()))
    await flow.run_async({})

    (lifecycle,) = manager_of(flow).completed_lifecycles
    (node,) = traces.one().children
    assert lifecycle.node_id == node.span_id


async def test_suspended_only_where_something_was_suspended():
    """One block of `suspended` is one suspension, with its reason, between RUNNING and RUNNING."""
    seen = []

    class Ask(AsyncNode):
        async def exec_async(self, prep_res):
            async with suspended("waiting for approval"):
                (now,) = manager_of(flow).active_lifecycles.values()
                seen.append((now.current_state, now.current_phase.value, now.is_active))
                assert manager_of(flow).get_lifecycle(now.node_id).suspend_count == 1
            seen.append(manager_of(flow).get_current_lifecycle().current_state)

    flow = traced(AsyncFlow(Ask()))
    await flow.run_async({})

    (done,) = manager_of(flow).completed_lifecycles
    assert seen == [(S.SUSPENDED, "exec", True), S.RUNNING]
    assert told(done)[3:8] == ["running", "suspended", "resuming", "running", "running"]
    assert done.events[4].metadata == {"suspend_reason": "waiting for approval"}
    assert is_legal(done)
    assert manager_of(flow).get_statistics()["total_suspends"] == 1


async def test_overlapping_suspensions_are_one():
    """Two branches of a node suspended at the same time: the node is suspended once."""

    class Ask(AsyncNode):
        async def exec_async(self, prep_res):
            async def wait(turns):
                async with suspended("a branch"):
                    for _ in range(turns):
                        await asyncio.sleep(0)

            await asyncio.gather(wait(1), wait(5))

    flow = traced(AsyncFlow(Ask()))
    await flow.run_async({})

    (done,) = manager_of(flow).completed_lifecycles
    assert (done.suspend_count, done.resume_count) == (1, 1)
    assert is_legal(done)


async def test_retries_are_visible_with_their_number():
    """A failed attempt is followed by RETRYING with its cause and wait, then RUNNING again."""

    class Flaky(AsyncNode):
        async def exec_async(self, prep_res):
            if self.cur_retry < 2:
                async with suspended("a moment"):
                    raise ConnectionError("down")

    flow = traced(AsyncFlow(Flaky(3, wait=0.001)))
    await flow.run_async({})

    (done,) = manager_of(flow).completed_lifecycles
    assert [word for word in told(done) if word.startswith(("retrying", "running"))] == [
        "running", "running", "running", "retrying 2", "running 2", "running", "retrying 3",
        "running 3", "running",
    ]  # fmt: skip
    retrying = next(event for event in done.events if event.state is S.RETRYING)
    assert retrying.metadata == {
        "attempt": 2,
        "wait_seconds": 0.001,
        "error_type": "ConnectionError",
        "error_message": "down",
    }
    assert is_legal(done)
    assert manager_of(flow).get_statistics()["state_distribution"] == {"completed": 1}


async def test_while_it_waits_for_the_next_attempt_it_is_retrying():
    """Seen from another task, a node between attempts is RETRYING."""
    seen = []

    class Flaky(AsyncNode):
        async def exec_async(self, prep_res):
            if not self.cur_retry:
                asyncio.get_running_loop().call_soon(look)
                raise ConnectionError

    def look():
        seen.extend(found.current_state for found in manager.active_lifecycles.values())

    flow = traced(AsyncFlow(Flaky(2, wait=0.01)))
    manager = manager_of(flow)
    await flow.run_async({})

    assert seen == [S.RETRYING]


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (KeyError("no"), S.FAILED, {"outcome": "failed", "timed_out": False, "halted": False}),
        (TimeoutError(), S.FAILED, {"outcome": "timed_out", "timed_out": True}),
        (asyncio.CancelledError("stop"), S.CANCELLED, {"cancel_reason": "stop"}),
    ],
)
async def test_failures_have_their_cause(error, state, said):
    """FAILED and CANCELLED say why; a timeout is a failure that says that it is one."""

    class Bad(AsyncNode):
        async def exec_async(self, prep_res):
            raise error

    flow = traced(AsyncFlow(Bad()))
    with pytest.raises(type(error)):
        await flow.run_async({})

    (done,) = manager_of(flow).completed_lifecycles
    assert done.current_state is state
    assert said.items() <= done.events[-1].metadata.items()
    assert done.events[-1].metadata["error_type"].endswith(type(error).__name__)
    assert is_legal(done)


async def test_a_refused_node_is_failed_and_halted():
    """A gate's refusal is told apart in the metadata."""

    def gate(step):
        if step.kind == "node":
            raise PermissionError("budget")

    flow = traced(AsyncFlow(Work()))
    with guarding(gate), pytest.raises(PermissionError):
        await flow.run_async({})

    (done,) = manager_of(flow).completed_lifecycles
    assert (done.current_state, done.events[-1].metadata["halted"]) == (S.FAILED, True)
    assert is_legal(done)


async def test_cancelled_while_suspended_is_never_resumed():
    """SUSPENDED goes straight to CANCELLED."""
    waiting = asyncio.Event()

    class Ask(AsyncNode):
        async def exec_async(self, prep_res):
            async with suspended("for ever"):
                waiting.set()
                await asyncio.Event().wait()

    flow = traced(AsyncFlow(Ask()))
    task = asyncio.create_task(flow.run_async({}))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    (done,) = manager_of(flow).completed_lifecycles
    assert told(done)[-2:] == ["suspended", "cancelled"]
    assert manager_of(flow).get_statistics()["total_resumes"] == 0
    assert is_legal(done)


async def test_items_of_a_batch_have_lifecycles_of_their_own():
    """Each item retries for itself, under the name of the node with its place."""

    class Each(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return [0, 1]

        async def exec_async(self, item):
            if item and not self.cur_retry:
                raise ValueError

    flow = traced(AsyncFlow(Each(2, wait=0.001)))
    await flow.run_async({})

    done = {found.node_name: found for found in manager_of(flow).completed_lifecycles}
    assert set(done) == {"Each", "Each[0]", "Each[1]"}
    assert "retrying 2" in told(done["Each[1]"])
    assert "retrying 2" not in told(done["Each[0]"])
    assert all(map(is_legal, done.values()))


async def test_another_run_that_ends_changes_nothing_of_one_that_lives():
    """Twelve runs at once, one slow: none is cancelled by the end of another, nor by a cleanup."""
    gate = asyncio.Event()

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            if self.params.get("slow"):
                await gate.wait()

        async def prep_async(self, shared):
            self.params = shared

    flow = traced(AsyncFlow(Slow()))
    slow = asyncio.create_task(flow.run_async({"slow": True}))
    await asyncio.gather(*[flow.run_async({}) for _ in range(11)])
    manager = manager_of(flow)
    manager.cleanup()
    assert manager.get_statistics()["active_lifecycles"] == 1
    gate.set()
    await slow

    assert manager.get_statistics()["state_distribution"] == {"completed": 12}


async def test_handlers_hear_of_the_engine_at_both_ends():
    """The first two events come as the visit begins, the others when it has ended, in order."""
    heard = []

    class Look(AsyncNode):
        async def exec_async(self, prep_res):
            heard.append("at work")

    def handler(event):
        heard.append(event.state.value)

    flow = traced(AsyncFlow(Look()))
    await flow.run_async({})  # before anybody listens
    heard.clear()
    manager = manager_of(flow)
    manager.add_event_handler(handler)
    await flow.run_async({})
    manager.remove_event_handler(handler)
    await flow.run_async({})

    assert heard == [
        "created", "starting", "at work", "running", "running", "running", "completing",
        "completed", "at work",
    ]  # fmt: skip


async def test_a_broken_handler_disturbs_no_run(caplog):
    """What a handler raises is logged; the flow's result is its own."""

    def broken(event):
        raise RuntimeError("deaf")

    flow = traced(AsyncFlow(Work()))
    manager_of(flow).add_event_handler(broken)
    await flow.run_async({})

    assert "deaf" in caplog.text


async def test_off_means_that_nothing_is_kept():
    """With trace_async_lifecycle off there is no ring, and only what is told by hand is known."""
    flow = traced(AsyncFlow(Work()), trace_async_lifecycle=False)
    await flow.run_async({})

    manager = manager_of(flow)
    assert manager.get_statistics() == {"total_lifecycles": 0}
    manager.start_lifecycle("n", "Node")
    assert list(manager.active_lifecycles) == ["n"]


@pytest.mark.timeout(300)  # every allocation is traced, and other tests may run beside it
async def test_ten_thousand_runs_do_not_grow():
    """Once the ring is full memory stays: 10,000 one-node runs, under 30 bytes each."""

    async def runs(count):
        for _ in range(count):
            await flow.run_async({})
        assert flush(60).failed == 0
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0

    flow = traced(AsyncFlow(Work()))
    await runs(2_000)
    tracemalloc.start()
    try:
        before = await runs(1_100)  # so that all that is kept was allocated under its eyes
        after = await runs(10_000)
    finally:
        tracemalloc.stop()

    assert after - before < 300_000
    assert manager_of(flow).get_statistics()["total_lifecycles"] == 1_000


def record(name="n", kind="node"):
    return Record(new_trace("t"), 1, None, kind, name, time.perf_counter_ns())


def test_the_ring_keeps_the_last_and_passes_all_on():
    """It is a sink: everything reaches the one behind it, and of node runs the last are kept."""
    passed = []

    class Notes(Null):
        def opened(self, record):
            passed.append(("opened", record.name))

        def closed(self, record):
            passed.append(("closed", record.name))

    sink = Notes()
    ring = LifecycleRing(sink, size=2)
    for name in ("a", "b", "c"):
        found = record(name)
        ring.opened(found)
        assert ring.live == [found]
        ring.closed(found)
    flow = record("f", "flow")
    ring.opened(flow)
    ring.closed(flow)

    assert [found.name for found in ring.finished()] == ["b", "c"]
    assert ring.live == []
    assert passed[:2] == [("opened", "a"), ("closed", "a")]
    assert passed[-1] == ("closed", "f")
    assert ring.is_closed is False
    sink.is_closed = True
    assert ring.is_closed is True


def test_the_ring_holds_no_large_contents():
    """Contents over 2 KiB stay with the store alone; the record that the store gets is whole."""
    passed = []

    class Notes(Null):
        def closed(self, record):
            passed.append(record)

    ring = LifecycleRing(Notes())
    large = record()
    large.input, large.size = b"x" * 5_000, 5_000
    ring.opened(large)
    ring.closed(large)

    assert passed[0].input == b"x" * 5_000
    assert ring.finished()[0].input is None
    assert ring.finished()[0].span_id == large.span_id


def test_a_manager_without_a_ring_knows_what_it_is_told():
    """Any object will do for a tracer; one that records nothing has no runs of the engine."""

    class Bare:
        config = TracingConfig()

    manager = AsyncLifecycleManager(Bare())
    manager.start_lifecycle("n", "Node")

    assert list(manager.active_lifecycles) == ["n"]
