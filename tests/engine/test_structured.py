"""Structured: cancelled at whatever await, a run ends as cancelled and leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    Node,
    observing,
    parallel,
)
from pocketflow_async.clock import using_clock
from tests.engine.engine_kit import FakeClock, Recorder, turns

pytestmark = pytest.mark.usefixtures("tidy")


class Work:
    """Suspends in every phase, and counts who is inside which."""

    def __init__(self) -> None:
        self.inside = 0
        self.log: list[str] = []

    async def phase(self, name: str, rest: int = 2) -> None:
        self.inside += 1
        self.log.append(name)
        try:
            await turns(rest)
        finally:
            try:
                await turns(1)  # cleaning up takes a while, and may be cut short
            finally:
                self.inside -= 1


class Busy(AsyncNode):
    """Works in every phase; its first attempt fails, and the last of an odd round too."""

    def __init__(self, work, fails=0, **options):
        super().__init__(fails + 1, 1, **options)  # without options it is on the plain path
        self.work, self.fails = work, fails

    async def prep_async(self, shared):
        await self.work.phase("prep")
        return [1, 2, 3]

    async def exec_async(self, prep_res):
        await self.work.phase("exec")
        if self.cur_retry < self.fails:
            raise ValueError(self.cur_retry)

    async def exec_fallback_async(self, prep_res, exc):
        await self.work.phase("fallback")

    async def post_async(self, shared, prep_res, exec_res):
        await self.work.phase("post")


class Batch(Busy, AsyncBatchNode):
    pass


class ParallelBatch(Busy, AsyncParallelBatchNode):
    pass


class Stream(ParallelBatch):
    """A parallel batch over an async generator."""

    async def prep_async(self, shared):
        return self.items()

    async def items(self):
        self.work.inside += 1
        try:
            for item in range(4):
                await turns(1)
                yield item
        finally:
            try:
                await turns(2)
            finally:
                self.work.inside -= 1


class GivesUp(Busy):
    """Ends in its fallback."""

    async def exec_async(self, prep_res):
        await self.work.phase("exec")
        raise ValueError


class Rounds:
    async def prep_async(self, shared):
        await shared["work"].phase("rounds")
        return [{}, {}]


class RoundsInTurn(Rounds, AsyncBatchFlow):
    pass


class RoundsAtOnce(Rounds, AsyncParallelBatchFlow):
    pass


def chain(work):
    start = Busy(work)
    start >> Busy(work, fails=2) >> GivesUp(work, fails=1)
    return AsyncFlow(start)


def nested(work):
    start = Busy(work)
    start >> AsyncFlow(AsyncFlow(Busy(work), timeout=60), timeout=60) >> Node() >> Busy(work)
    return AsyncFlow(start, timeout=60, max_steps=10)


def fan_out(limit):
    def build(work):
        start = Busy(work)
        inner = Busy(work)
        inner >> Busy(work)
        fan = parallel(Busy(work), parallel(Busy(work), Batch(work)), inner, concurrency=limit)
        start >> fan >> Busy(work)
        return AsyncFlow(start)

    return build


FLOWS = {
    "chain": chain,
    "nested": nested,
    "node": lambda work: Busy(work, fails=1, timeout=60),
    "batch": lambda work: AsyncFlow(Batch(work, fails=1)),
    "parallel batch": lambda work: AsyncFlow(ParallelBatch(work, fails=1)),
    "bounded batch": lambda work: AsyncFlow(ParallelBatch(work, concurrency=2)),
    "collecting batch": lambda work: AsyncFlow(ParallelBatch(work, on_error="collect")),
    "stream": lambda work: AsyncFlow(Stream(work)),
    "bounded stream": lambda work: AsyncFlow(Stream(work, concurrency=2)),
    "rounds": lambda work: RoundsInTurn(Busy(work)),
    "rounds at once": lambda work: RoundsAtOnce(Busy(work)),
    "bounded rounds": lambda work: RoundsAtOnce(Busy(work), concurrency=1),
    "fan-out": fan_out(None),
    "bounded fan-out": fan_out(2),
}


async def steps_of(build) -> int:
    """Return after how many loop turns the flow is done when nobody cancels it."""
    work = Work()
    task = asyncio.create_task(build(work).run_async({"work": work}))
    count = 0
    while not task.done():
        await asyncio.sleep(0)
        count += 1
    await task
    return count


@pytest.mark.parametrize("build", FLOWS.values(), ids=FLOWS.keys())
@pytest.mark.parametrize("watched", [False, True], ids=["plain", "watched"])
async def test_cancelled_after_any_number_of_turns(build, watched):
    """CancelledError for the caller, every phase left, no task at work, no further phase begun."""
    with using_clock(FakeClock()):
        total = await steps_of(build)
        assert total > 3
        for after in range(total):
            work, record = Work(), Recorder()
            if watched:
                with observing(record):
                    task = asyncio.create_task(build(work).run_async({"work": work}))
            else:
                task = asyncio.create_task(build(work).run_async({"work": work}))
            await turns(after)
            assert not task.done()
            task.cancel()
            await asyncio.wait([task])
            begun = list(work.log)
            assert task.cancelled(), f"cancelled after {after} turns: {task}"
            assert work.inside == 0, f"cancelled after {after} turns"
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await turns(3)
            assert work.log == begun


@pytest.mark.parametrize("build", FLOWS.values(), ids=FLOWS.keys())
async def test_timed_out_after_any_number_of_turns(build):
    """The same by `asyncio.timeout`: a TimeoutError, and the caller is not left cancelled."""
    with using_clock(FakeClock()):
        total = await steps_of(build)
        for after in range(0, total, 3):
            work = Work()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    loop = asyncio.get_running_loop()
                    # As many turns from now as callbacks that each schedule the next.
                    countdown(loop, after + 1, limit)
                    await build(work).run_async({"work": work})
                    await asyncio.Event().wait()
            assert work.inside == 0
            assert asyncio.current_task().cancelling() == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}


def countdown(loop, turns_left, limit):
    if turns_left:
        loop.call_soon(countdown, loop, turns_left - 1, limit)
    elif not limit.expired():
        limit.reschedule(loop.time() - 1)


@pytest.mark.parametrize("build", FLOWS.values(), ids=FLOWS.keys())
async def test_cancelled_twice(build):
    """Told again while it cleans up: still cancelled, still nothing left."""
    with using_clock(FakeClock()):
        total = await steps_of(build)
        for after in range(0, total, 4):
            work = Work()
            task = asyncio.create_task(build(work).run_async({"work": work}))
            await turns(after)
            task.cancel()
            await turns(1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            work.log.clear()
            await turns(5)
            assert work.log == []


async def test_cancelled_with_a_thread_at_work():
    """A fan-out with a blocked thread in it ends when the thread has come back."""
    loop, started, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    work = Work()

    class Blocked(Node):
        def exec(self, prep_res):
            loop.call_soon_threadsafe(started.set)
            assert release.wait(10)

    fan = parallel(Busy(work), Blocked(in_thread=True), Busy(work))
    task = asyncio.create_task(AsyncFlow(fan).run_async({}))
    await started.wait()
    task.cancel()
    await turns(10)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert work.inside == 0


@pytest.mark.parametrize("limit", [None, 2])
async def test_nothing_of_a_failed_flow_runs_on(limit):
    """After the error has reached the caller no phase of the flow begins or ends."""
    work = Work()

    class Fails(AsyncNode):
        async def exec_async(self, prep_res):
            await turns(3)
            raise ValueError("boom")

    flow = AsyncFlow(parallel(Busy(work), Fails(), AsyncFlow(Busy(work)), concurrency=limit))
    with pytest.raises(ValueError, match="boom"):
        await flow.run_async({})
    begun = list(work.log)
    assert work.inside == 0
    await turns(10)

    assert work.log == begun
