"""Timeout: whose time is up, and whose error that is."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pocketflow_async.clock import using_clock
from pocketflow_async.resilience.errors import CallTimeoutError, ResilienceError
from pocketflow_async.resilience.policy import compose
from pocketflow_async.resilience.timeout import Timeout
from tests.resilience.policy_kit import watching
from tracing.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


async def sleeper(seconds, value=None):
    await asyncio.sleep(seconds)
    return value


def test_a_call_within_its_time_is_as_ever(clock):
    """Its value and its errors come as they are; no timer is left."""

    async def failing():
        raise KeyError("x")

    async def main():
        assert await Timeout(2).acall(lambda: sleeper(1, 3)) == 3
        with pytest.raises(KeyError):
            await Timeout(2).acall(failing)
        task = asyncio.current_task()
        await asyncio.sleep(100)
        return task.cancelling()

    assert clock.run(main()) == 0


def test_a_call_that_takes_longer_is_cancelled(clock):
    """Just when its time is up; the error says what it had, and is a TimeoutError."""
    ended = []

    async def slow():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(clock.monotonic())

    with pytest.raises(CallTimeoutError, match=r"^the call took longer than 2.5 s$") as caught:
        clock.run(Timeout(2.5).acall(slow))

    assert ended == [2.5]
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, ResilienceError)
    assert (caught.value.seconds, caught.value.operation) == (2.5, "the call")
    with pytest.raises(CallTimeoutError, match=r"^GET /users took longer than 1 s$"):
        clock.run(Timeout(1, name="GET /users").acall(slow))


def test_a_timeout_of_the_calls_own_is_its_own(clock):
    """The very same object, also when it comes because the call was cancelled for being late."""
    own = TimeoutError("mine")

    async def failing():
        raise own

    async def nested():
        async with asyncio.timeout(1):
            await asyncio.sleep(100)

    async def late():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise own from None

    for call in (failing, late):
        with pytest.raises(TimeoutError) as caught:
            clock.run(Timeout(2).acall(call))
        assert caught.value is own
    with pytest.raises(TimeoutError) as caught:
        clock.run(Timeout(2).acall(nested))
    assert type(caught.value) is TimeoutError


@pytest.mark.parametrize(("outer", "inner", "whose"), [(1, 2, "outer"), (2, 1, "inner")])
def test_the_shorter_of_two_is_the_one_that_is_up(clock, outer, inner, whose):
    """And its error is not taken for the other's."""
    policies = compose(Timeout(outer, name="outer"), Timeout(inner, name="inner"))
    with pytest.raises(CallTimeoutError) as caught:
        clock.run(policies.acall(lambda: sleeper(100)))
    assert caught.value.operation == whose


def test_being_cancelled_is_no_timeout(clock):
    """Neither before its time is up, nor just then."""

    async def main(moment):
        task = asyncio.create_task(Timeout(2).acall(lambda: sleeper(100)))
        await asyncio.sleep(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    clock.run(main(1))
    clock.run(main(2))


def test_a_call_that_will_not_stop_is_waited_for(clock):
    """What it then returns counts, and the task is not left marked as cancelled."""

    async def stubborn():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
        return 3

    async def main():
        value = await Timeout(2).acall(stubborn)
        return value, asyncio.current_task().cancelling()

    assert clock.run(main()) == (3, 0)
    assert clock.monotonic() == 7


def test_a_synchronous_call_is_measured(clock):
    """It cannot be interrupted: what came too late is dropped, and an error is its own."""
    guarded = Timeout(2)(lambda seconds: clock.advance(seconds) or seconds)

    def failing():
        clock.advance(5)
        raise KeyError("x")

    with using_clock(clock):
        assert guarded(2) == 2
        with pytest.raises(CallTimeoutError, match="the call took longer than 2 s"):
            guarded(2.5)
        with pytest.raises(KeyError):
            Timeout(2).call(failing)
    assert Timeout(2, clock=clock).call(lambda: 3) == 3


def test_a_block_has_its_time(clock):
    """Like a call: errors of its own, and being cancelled, come as they are."""

    async def main():
        async with Timeout(2) as limit:
            await asyncio.sleep(1)
        assert limit.seconds == 2
        with pytest.raises(CallTimeoutError):
            async with Timeout(2):
                await asyncio.sleep(100)
        own = TimeoutError("mine")
        with pytest.raises(TimeoutError) as caught:
            async with Timeout(2):
                raise own
        assert caught.value is own
        task = asyncio.create_task(block())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.current_task().cancelling()

    async def block():
        async with Timeout(2):
            await asyncio.sleep(100)

    assert clock.run(main()) == 0


def test_one_object_holds_for_many_blocks_at_once(clock):
    """Of many tasks, and one inside another; nothing of them is kept."""
    limit = Timeout(10.5)

    async def block(number):
        async with limit:
            await asyncio.sleep(number % 5)
            async with limit:
                await asyncio.sleep(6 + number % 5)
        return number

    async def main():
        return await asyncio.gather(*map(block, range(50)), return_exceptions=True)

    got = clock.run(main())
    for number, result in enumerate(got):
        late = 2 * (number % 5) + 6 > 10
        assert isinstance(result, CallTimeoutError) if late else result == number
    assert limit._open == {}


def test_a_block_needs_a_task():
    """As asyncio's own; and nothing is kept of it."""
    limit = Timeout(1)
    coroutine = limit.__aenter__()
    with pytest.raises(RuntimeError):
        coroutine.send(None)
    assert limit._open == {}


def test_event_loops_in_threads_share_one():
    """Each call is on the loop that it is on; loop after loop, and at the same time."""
    guarded = Timeout(0.02)(sleeper)
    got = []

    def thread(seconds):
        for _ in range(3):
            try:
                got.append(asyncio.run(guarded(seconds, "in time")))
            except CallTimeoutError:
                got.append("late")

    threads = [threading.Thread(target=thread, args=(seconds,)) for seconds in (0, 30)]
    began = time.monotonic()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(got) == ["in time"] * 3 + ["late"] * 3
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("colour", ["async", "sync"])
def test_those_who_watch_see_the_limit_and_whether_it_was_reached(clock, colour):
    """Only if it was."""
    limit = Timeout(2, name="api")

    def call(seconds):
        if colour == "async":
            return clock.run(limit.acall(lambda: sleeper(seconds)))
        with using_clock(clock):
            return limit.call(lambda: clock.advance(seconds))

    with watching() as seen:
        call(1)
        with pytest.raises(CallTimeoutError):
            call(3)

    facts = {"flow.policy": "timeout", "flow.timeout.seconds": 2}
    assert seen == [
        ("policy", "api", facts),
        ("policy", "api", {**facts, "flow.timeout.expired": True}),
    ]


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_what_is_no_time_is_refused(seconds, error):
    """The error names it."""
    with pytest.raises(error, match="seconds must be"):
        Timeout(seconds)


def test_it_shows_its_seconds():
    """As it is made."""
    assert repr(Timeout(2.50)) == "Timeout(2.5)"
