"""Bulkhead: how many are at work, who waits, and who is next."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import deque
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resilience.bulkhead import Bulkhead
from pocketflow_async.resilience.errors import BulkheadFull
from pocketflow_async.resilience.places import Places
from tests.resilience.policy_kit import watching
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


class Peak:
    """Counts how many are inside at once, over threads too."""

    def __init__(self):
        self.now = self.most = self.all = 0
        self.lock = threading.Lock()

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


# What is decided

steps = st.lists(st.tuples(st.sampled_from(["ask", "free", "drop"]), st.integers(0, 9)))


@given(st.integers(1, 4), st.none() | st.integers(0, 3), steps)
def test_places_are_given_in_the_order_of_asking(limit, most, steps):
    """Never more than there are, and none is free while somebody waits; as in a plain queue."""
    places, holders, queue, names = Places(limit, most), [], deque(), iter(range(10_000))
    for step, number in steps:
        if step == "ask":
            name = next(names)
            if places.take():
                assert len(holders) < limit
                assert not queue
                holders.append(name)
            elif places.queue(name):
                assert most is None or len(queue) < most
                queue.append(name)
            else:
                assert len(queue) == most
        elif step == "free" and holders:
            holders.pop(number % len(holders))
            places.free()
            following = places.following()
            assert following == (queue.popleft() if queue else None)
            if following is not None:
                holders.append(following)
        elif step == "drop" and queue:
            name = queue[number % len(queue)]
            queue.remove(name)
            assert places.drop(name)
            assert not places.drop(name)
        assert (places.taken, places.waiting) == (len(holders), len(queue))
        assert places.following() is None


# Tasks


async def test_at_most_so_many_are_at_work():
    """However many there are; all of them come to be."""
    bulkhead, peak = Bulkhead(5), Peak()

    @bulkhead
    async def work(number):
        with peak:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return number

    assert await asyncio.gather(*map(work, range(1000))) == list(range(1000))
    assert peak.most == 5
    statistics = bulkhead.statistics()
    assert statistics[:5] == (0, 0, 5, 1000, 0)


def test_they_come_in_the_order_of_asking(clock):
    """And nobody gets in between those who wait, not even where a place is just free."""
    bulkhead, order = Bulkhead(1), []

    async def work(name):
        async with bulkhead:
            order.append(name)
            await asyncio.sleep(1)

    async def main():
        tasks = [asyncio.create_task(work(number)) for number in range(5)]
        await tasks[0]  # its place is number 1's now, which has not run yet
        tasks.append(asyncio.create_task(work("late")))
        await asyncio.gather(*tasks)

    clock.run(main())
    assert order == [0, 1, 2, 3, 4, "late"]
    assert clock.monotonic() == 6
    assert bulkhead.statistics().waited == 1 + 2 + 3 + 4 + 4


@pytest.mark.parametrize("waiting", [0, 2])
def test_too_many_are_refused_at_once(clock, waiting):
    """The error says how many there are of each."""
    bulkhead = Bulkhead(3, waiting=waiting, name="api")

    async def main():
        tasks = [asyncio.create_task(bulkhead.acall(lambda: asyncio.sleep(1))) for _ in range(7)]
        await asyncio.wait(tasks)
        return [task.exception() for task in tasks]

    errors = clock.run(main())
    assert errors[: 3 + waiting] == [None] * (3 + waiting)
    said = f"bulkhead 'api' is full: 3 calls are at work and {waiting} wait"
    for error in errors[3 + waiting :]:
        assert isinstance(error, BulkheadFull)
        assert str(error).startswith(said)
        assert (error.name, error.limit, error.waiting) == ("api", 3, waiting)
    assert bulkhead.statistics()[:5] == (0, 0, 3, 3 + waiting, 4 - waiting)


def test_waiting_may_have_an_end(clock):
    """Then the call is refused, and its place in the queue is another's."""
    bulkhead, ended = Bulkhead(1, timeout=2.5), []

    async def work(name, seconds):
        try:
            async with bulkhead:
                await asyncio.sleep(seconds)
        except BulkheadFull as error:
            ended.append((name, clock.monotonic(), error.__notes__))
        else:
            ended.append((name, clock.monotonic()))

    async def main():
        await asyncio.gather(work("a", 2), work("b", 2), work("c", 1), work("d", 1))
        await work("e", 1)

    clock.run(main())
    late = ["refused after 2.5 s in the queue"]
    assert ended == [("a", 2), ("c", 2.5, late), ("d", 2.5, late), ("b", 4), ("e", 5)]
    assert bulkhead.statistics()[:5] == (0, 0, 1, 3, 2)


def test_who_is_cancelled_uses_nothing_up(clock):
    """In the queue, at work, and just as its turn has come."""
    bulkhead, done = Bulkhead(1), []

    async def work(name):
        async with bulkhead:
            await asyncio.sleep(1)
            done.append(name)

    async def cancelled(*tasks):
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task

    async def main():
        async with bulkhead:
            queued, next_one, after = (asyncio.create_task(work(name)) for name in "abc")
            await asyncio.sleep(0)
            assert bulkhead.statistics()[:2] == (1, 3)
            await cancelled(queued)
            assert bulkhead.statistics()[:2] == (1, 2)
        assert bulkhead.statistics()[:2] == (1, 1)  # the place is the next one's,
        await cancelled(next_one)  # which did not know it yet
        assert bulkhead.statistics()[:2] == (1, 0)
        await asyncio.sleep(0.5)
        await cancelled(after)
        assert bulkhead.statistics()[:5] == (0, 0, 1, 2, 0)
        await work("e")

    clock.run(main())
    assert done == ["e"]


def test_an_error_gives_the_place_back(clock):
    """It comes as it is."""
    bulkhead, error = Bulkhead(1), KeyError("x")

    async def failing():
        raise error

    async def main():
        for _ in range(3):
            with pytest.raises(KeyError) as caught:
                await bulkhead.acall(failing)
            assert caught.value is error
            with pytest.raises(KeyError):
                async with bulkhead:
                    await failing()

    clock.run(main())
    with pytest.raises(KeyError), bulkhead:
        raise error
    assert bulkhead.statistics()[:2] == (0, 0)


async def test_many_that_come_and_are_cancelled_leave_nothing_behind():
    """Thousands, at any moment: in the end all places are free."""
    import random

    chance, bulkhead, peak = random.Random(7), Bulkhead(4, waiting=200), Peak()

    async def work():
        async with bulkhead:
            with peak:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)

    tasks = []
    for _ in range(3000):
        tasks.append(asyncio.create_task(work()))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    got = await asyncio.gather(*tasks, return_exceptions=True)

    usual = {type(None), asyncio.CancelledError}
    assert usual <= {type(error) for error in got} <= usual | {BulkheadFull}
    assert peak.most == 4
    assert bulkhead.statistics()[:2] == (0, 0)


# Event loops and threads


def test_one_limit_holds_for_all_event_loops_and_threads():
    """Asynchronous and synchronous calls together; nobody is forgotten."""
    bulkhead, peak = Bulkhead(3), Peak()

    async def work():
        async with bulkhead:
            with peak:
                await asyncio.sleep(0)

    async def many():
        await asyncio.gather(*(work() for _ in range(100)))

    def plain():
        for _ in range(100):
            with bulkhead, peak:
                pass

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    threads += [threading.Thread(target=plain) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    assert peak.all == 600
    assert peak.most <= 3
    assert bulkhead.statistics()[:2] == (0, 0)
    assert bulkhead.statistics().admitted == 600


def test_event_loops_one_after_another_share_one():
    """What was left on a loop that is gone is not waited for."""
    bulkhead = Bulkhead(1)

    async def held():
        async with bulkhead:
            await asyncio.sleep(1000)

    async def main():
        task = asyncio.create_task(held())
        other = asyncio.create_task(held())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bulkhead.statistics()[:2] == (1, 1)
        return task, other

    for _ in range(3):
        asyncio.run(main())
        assert bulkhead.statistics()[:2] == (0, 0)


def test_who_waits_on_a_loop_that_stands_still_is_passed_over():
    """Others go on; it asks again when its loop does, and is not refused then."""
    bulkhead = Bulkhead(1, waiting=1)
    still, done = asyncio.new_event_loop(), []

    async def work():
        async with bulkhead:
            done.append("on the loop that stood still")

    try:
        with bulkhead:
            task = still.create_task(work())
            still.run_until_complete(asyncio.sleep(0))
            assert bulkhead.statistics()[:2] == (1, 1)
        assert bulkhead.statistics()[:2] == (0, 0)
        with bulkhead:
            thread = threading.Thread(target=bulkhead.call, args=(lambda: done.append("thread"),))
            thread.start()
            while bulkhead.statistics().waiting == 0:
                threading.Event().wait(0.001)
            still.run_until_complete(asyncio.sleep(0))  # the queue is full, but it was in it
            assert bulkhead.statistics()[:2] == (1, 2)
        thread.join(20)
        still.run_until_complete(asyncio.wait_for(task, 20))
    finally:
        still.close()
    assert sorted(done) == ["on the loop that stood still", "thread"]
    assert bulkhead.statistics()[:2] == (0, 0)


def test_who_waits_on_a_closed_loop_is_passed_over():
    """Whether or not its task has been collected yet."""
    bulkhead, gone = Bulkhead(1), asyncio.new_event_loop()

    async def work():
        async with bulkhead:
            pass

    with bulkhead:
        task = gone.create_task(work())
        gone.run_until_complete(asyncio.sleep(0))
        gone.close()
        assert bulkhead.statistics()[:2] == (1, 1)
    assert bulkhead.statistics()[:2] == (0, 0)
    assert bulkhead.call(lambda: 3) == 3
    task._log_destroy_pending = False
    coroutine = task.get_coro()
    with suppress(RuntimeError):
        coroutine.close()
    del task
    gc.collect()
    assert bulkhead.statistics()[:2] == (0, 0)


def test_a_thread_waits_for_its_turn():
    """In the order of asking, between tasks and other threads; a time to wait has its end."""
    bulkhead, order = Bulkhead(1, timeout=20), []
    impatient = Bulkhead(1, timeout=0.01)

    with impatient:
        with pytest.raises(BulkheadFull) as caught:
            threading_call(impatient)
        assert caught.value.__notes__ == ["refused after 0.01 s in the queue"]
    with bulkhead:
        threads = []
        for number in range(4):
            target = lambda n=number: bulkhead.call(lambda: order.append(n))  # noqa: E731
            threads.append(threading.Thread(target=target))
            threads[-1].start()
            while bulkhead.statistics().waiting <= number:
                threading.Event().wait(0.001)
    for thread in threads:
        thread.join(20)
    assert order == [0, 1, 2, 3]


def threading_call(bulkhead):
    """Call in another thread; raise here what it raises."""
    got = []

    def target():
        try:
            bulkhead.call(lambda: None)
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(20)
    if got:
        raise got[0]


async def test_a_synchronous_call_does_not_wait_on_an_event_loop():
    """It would wait for ever for those who are on it; with a place free it is let through."""
    bulkhead = Bulkhead(1)
    assert bulkhead.call(lambda: 3) == 3
    async with bulkhead:
        with pytest.raises(BulkheadFull) as caught:
            bulkhead.call(lambda: 3)
        assert "does not wait on an event loop" in caught.value.__notes__[0]
        waiting = asyncio.create_task(asyncio.to_thread(bulkhead.call, lambda: 4))
        while bulkhead.statistics().waiting == 0:  # noqa: ASYNC110 (a thread joins)
            await asyncio.sleep(0.001)
    assert await waiting == 4


def test_a_call_inside_a_call_needs_a_place_of_its_own(clock):
    """With one it is refused at the end of its time, if there is such an end."""

    async def main():
        bulkhead = Bulkhead(1, timeout=3)
        async with bulkhead:
            with pytest.raises(BulkheadFull):
                await bulkhead.acall(lambda: asyncio.sleep(0))
        two = Bulkhead(2)
        async with two, two:
            assert two.statistics().at_work == 2

    clock.run(main())
    assert clock.monotonic() == 3


# What is told


def test_those_who_watch_see_the_wait(clock):
    """And how many there were; of a call that waits for nobody, no wait."""
    bulkhead = Bulkhead(1, name="api")

    async def main():
        with watching() as seen:
            call = lambda: asyncio.sleep(2)  # noqa: E731
            await asyncio.gather(bulkhead.acall(call), bulkhead.acall(call))
        return seen

    first, second = clock.run(main())
    assert first == (
        "policy",
        "api",
        {"flow.policy": "bulkhead", "flow.bulkhead.at_work": 1, "flow.bulkhead.waiting": 0},
    )
    assert second[2]["flow.bulkhead.waited_seconds"] == 2
    with watching() as seen:
        bulkhead.call(lambda: 1)
    assert seen[0][2] == first[2]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"limit": 0}, ValueError, "limit must be at least 1, not 0"),
        ({"limit": 1.5}, TypeError, "limit must be a whole number, not 1.5"),
        ({"limit": 1, "waiting": -1}, ValueError, "waiting must be at least 0"),
        ({"limit": 1, "waiting": True}, TypeError, "waiting must be a whole number"),
        ({"limit": 1, "timeout": 0}, ValueError, "timeout must be above 0 seconds"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, said):
    """The error names the argument and its value."""
    with pytest.raises(error, match=said):
        Bulkhead(**arguments)


def test_it_shows_how_full_it_is():
    """At the moment."""
    bulkhead = Bulkhead(3)
    assert bulkhead.limit == 3
    with bulkhead:
        assert repr(bulkhead) == "<Bulkhead 1 of 3 at work, 0 waiting>"
