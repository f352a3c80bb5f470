"""Places are given in order of coming, never too many, and none is lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.resources.slots import Slots


class Queue:
    """People who come to a number of places, go, and give up, and the order they were served in."""

    def __init__(self, limit):
        self.slots = Slots(limit)
        self.people, self.served, self.given_up, self.gone = [], [], set(), 0

    async def _person(self, number):
        await self.slots.take()
        self.served.append(number)

    def come(self, _=0):
        self.people.append(asyncio.create_task(self._person(len(self.people))))

    def give(self, _=0):
        if len(self.served) > self.gone:
            self.slots.give()
            self.gone += 1

    def cancel(self, which):
        waiting = [number for number, task in enumerate(self.people) if not task.done()]
        if waiting:
            number = waiting[which % len(waiting)]
            self.people[number].cancel()
            self.given_up.add(number)

    def both(self, which):
        self.give()
        self.cancel(which)

    async def finish(self):
        while any(not task.done() for task in self.people):
            await asyncio.sleep(0)
            self.give()
        while len(self.served) > self.gone:
            self.give()


@settings(deadline=None)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.sampled_from(["come", "give", "cancel", "both", "turn"]), st.integers(0, 9))
    ),
)
def test_whatever_happens_nobody_is_passed_over(limit, happenings):
    """Of those who were not cancelled the next one is always served first; all places are back."""

    async def play():
        queue = Queue(limit)
        for what, which in happenings:
            if what != "turn":
                getattr(queue, what)(which)
            if what in ("turn", "come"):  # they are served in the order in which they get there
                await asyncio.sleep(0)
            assert len(queue.served) - queue.gone <= limit
        await queue.finish()
        assert queue.served == sorted(queue.served)
        assert set(queue.served) | queue.given_up == set(range(len(queue.people)))
        assert (queue.slots.free, queue.slots.waiting) == (limit, 0)

    asyncio.run(play())


async def test_refused_and_forgotten():
    """Once refused, those who wait and those who come get the error; places can be given back."""
    slots = Slots(1)
    assert slots.try_take()
    assert not slots.try_take()
    task = asyncio.create_task(slots.take())
    await asyncio.sleep(0)
    slots.refuse(lambda: KeyError("closed"))
    for late in (task, slots.take()):
        with pytest.raises(KeyError):
            await late
    slots.give()
    assert not slots.try_take()
    slots.forget(lambda: KeyError("closed"))
    assert (slots.free, slots.waiting) == (1, 0)


async def test_ten_thousand_give_up_at_once():
    """That many cancellations cost no more than that many, and leave nothing."""
    slots = Slots(1)
    assert slots.try_take()
    tasks = [asyncio.create_task(slots.take()) for _ in range(10_000)]
    await asyncio.sleep(0)
    assert slots.waiting == 10_000
    for task in tasks[::-1]:
        task.cancel()
    await asyncio.wait(tasks)
    slots.give()
    assert (slots.free, slots.waiting) == (1, 0)
