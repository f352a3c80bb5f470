"""Slots: a limit that runs share fairly, on one event loop or several."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.runtime.slots import Slots


async def test_whoever_waits_gets_a_turn_for_each_run():
    """A run that has queued a hundred does not come before one that has queued one."""
    order = []
    slots = Slots(1)
    first = slots.share(lambda item: order.append(item))
    second = slots.share(lambda item: order.append(item))
    assert first.ask("at once")
    for number in range(100):
        assert not first.ask(number)
    assert not second.ask("mine")

    first.release()  # to itself: it waited first
    first.release()
    second.release()

    assert order == [0, "mine", 1]
    assert (first.held, second.held, slots.free) == (1, 0, 0)


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ask", "release", "leave"]))),
)
def test_no_slot_is_lost_or_made(limit, acts):
    """Whatever two runs do: held and free are the limit, and nobody waits while one is free."""

    async def main():
        slots = Slots(limit)
        granted = []
        shares = {name: slots.share(granted.append) for name in "ab"}
        for name, act in acts:
            share = shares[name]
            if act == "ask":
                share.ask(name)
            elif act == "leave":
                share.leave()
            elif share.held:
                share.release()
            assert slots.free + sum(other.held for other in shares.values()) == limit
            assert slots.free == 0 or not slots._queue
        for share in shares.values():
            share.leave()
        assert slots.free == limit

    asyncio.run(main())


async def test_a_slot_goes_to_another_loop():
    """A release here starts what waits on the loop of another thread, in that thread."""
    slots = Slots(1)
    mine = slots.share(lambda _: None)
    assert mine.ask("here")
    waiting, done = threading.Event(), threading.Event()
    where = []

    def other():
        async def main():
            finished = asyncio.Event()

            def got(item):
                where.append((item, threading.get_ident()))
                finished.set()

            share = slots.share(got)
            assert not share.ask("there")
            waiting.set()
            await finished.wait()
            share.leave()

        asyncio.run(main())
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    await asyncio.to_thread(waiting.wait, 10)
    mine.release()
    await asyncio.to_thread(thread.join, 10)

    assert done.is_set()
    assert where == [("there", thread.ident)]
    assert slots.free == 1


async def test_a_loop_that_is_gone_costs_no_slot():
    """What waited on a closed loop is passed over."""
    slots = Slots(1)
    mine = slots.share(lambda _: None)
    assert mine.ask("here")

    async def wait():
        share = slots.share(lambda _: None)
        assert not share.ask(1)
        assert not share.ask(2)

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    await asyncio.to_thread(thread.join, 10)
    order = []
    last = slots.share(order.append)
    assert not last.ask("mine")

    mine.release()

    assert order == ["mine"]
    last.release()
    assert slots.free == 1


async def test_taking_waits_and_may_be_cancelled():
    """`take` waits for its turn; cancelled, or when the run ends, it holds nothing."""
    slots = Slots(1)
    share = slots.share(lambda _: None)
    assert await share.take()
    cancelled, turn, late = (asyncio.create_task(share.take()) for _ in range(3))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    share.release()
    assert await turn
    share.drop()
    assert not await late
    assert not await share.take()
    share.leave()

    assert slots.free == 1


async def test_cancelled_in_the_moment_of_the_grant_it_gives_the_slot_back():
    """The slot is not lost between the grant and the task that would take it."""
    slots = Slots(1)
    share, other = slots.share(lambda _: None), slots.share(lambda _: None)
    assert share.ask("x")
    task = asyncio.create_task(other.take())
    await asyncio.sleep(0)
    share.release()  # granted, but the task has not run yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert slots.free == 1


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (True, TypeError), ("1", TypeError)])
def test_a_limit_is_a_whole_number(limit, error):
    """Anything else is refused."""
    with pytest.raises(error):
        Slots(limit)
