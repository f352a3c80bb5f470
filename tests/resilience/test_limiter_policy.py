"""The rate limiter as a policy: around calls, per key, refusing, in threads, watched."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async import AsyncNode
from pocketflow_async.hooks import observing
from pocketflow_async.resilience import Bucket, RateLimiter, RateLimitExceeded, compose
from tests.resilience.limiter_kit import fullest
from tracing.testing import FakeClock, fake_clock


async def value():
    return 5


def both(**options):
    return [RateLimiter(1, 1, **options), RateLimiter.window(1, 1.0, **options)]


@pytest.mark.parametrize("limiter", both())
def test_it_goes_around_any_async_call(limiter):
    """As decorator, by `acall` and `async with`: each waits for its turn and counts."""
    clock = FakeClock()

    @limiter
    async def doubled(n):
        return 2 * n, clock.monotonic()

    async def main():
        assert await doubled(4) == (8, 0.0)
        assert await limiter.acall(value) == 5
        async with limiter as admission:
            assert admission.waited == pytest.approx(1.0)
        assert clock.monotonic() == pytest.approx(2.0)

    clock.run(main())
    assert limiter.statistics() == (3, 0, 0, pytest.approx(2.0), 0)


@pytest.mark.parametrize("limiter", both())
def test_it_goes_around_any_sync_call(limiter):
    """The same, where waiting blocks the thread."""
    with fake_clock() as clock:

        @limiter
        def doubled(n):
            return 2 * n

        assert doubled(4) == 8
        assert limiter.call(lambda: 5) == 5
        with limiter as admission:
            assert admission.waited == pytest.approx(1.0)
        assert clock.monotonic() == pytest.approx(2.0)
        assert limiter.take_blocking().waited == pytest.approx(1.0)


@pytest.mark.parametrize("limiter", both(wait=False, name="mail"))
def test_it_may_refuse(limiter):
    """Without waiting, the error says when there is room again, and the call is not made."""
    clock = FakeClock()

    async def main():
        assert await limiter.acall(value) == 5
        await asyncio.sleep(0.25)
        with pytest.raises(RateLimitExceeded, match=r"'mail' has no room; try again in 0\.75 s"):
            await limiter.acall(None)
        with pytest.raises(RateLimitExceeded) as refused:
            limiter.call(None)
        assert refused.value.retry_after == 0.75
        await asyncio.sleep(0.75)
        assert await limiter.acall(value) == 5

    clock.run(main())
    assert limiter.statistics()[:3] == (2, 2, 0)


@pytest.mark.parametrize("limiter", both(max_wait=2.5))
def test_the_wait_may_be_bounded(limiter):
    """Those who can pass in time wait; one behind them is refused at once, not after waiting."""
    clock = FakeClock()

    async def main():
        tasks = [asyncio.create_task(limiter.take()) for _ in range(4)]
        await asyncio.sleep(0)
        assert clock.monotonic() == 0
        assert isinstance(tasks[3].exception(), RateLimitExceeded)
        assert tasks[3].exception().retry_after == pytest.approx(3.0)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert tasks[2].result().waited == pytest.approx(1.0)

    clock.run(main())
    assert limiter.waiting == 0


def test_one_that_cannot_pass_in_time_after_all_gives_up():
    """A burst spaces those ahead by more than was known: the wait is not longer than it may be."""
    clock = FakeClock()
    limiter = RateLimiter.window(4, 4.0, burst=2, max_wait=2.0)

    async def main():
        passed = []
        for _ in range(12):
            try:
                passed.append((await limiter.take()).waited)
            except RateLimitExceeded:
                await asyncio.sleep(0.1)
        assert max(passed) <= 2.01

    clock.run(main())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"wait": 3}, TypeError, "wait must be True or False, not 3; seconds are max_wait"),
        ({"max_wait": -1}, ValueError, "max_wait must be 0 or more, not -1"),
        ({"max_wait": "1"}, TypeError, "max_wait must be a number or None"),
        ({"max_wait": float("nan")}, ValueError, "max_wait"),
        ({"wait": False, "max_wait": 1}, ValueError, "give one"),
        ({"key": 5}, TypeError, "key must be"),
        ({"max_keys": 0}, ValueError, "max_keys must be at least 1"),
        ({"name": 5}, TypeError, "name must be a text"),
    ],
)
def test_wrong_options_are_named(options, error, text):
    """By both ways of making one."""
    for make in (functools.partial(RateLimiter, 1), functools.partial(RateLimiter.window, 1)):
        with pytest.raises(error, match=text):
            make(**options)


# keys


@pytest.mark.parametrize(
    "make", [functools.partial(RateLimiter, 1, 1), functools.partial(RateLimiter.window, 1, 1.0)]
)
def test_each_key_has_its_own_limit(make):
    """A key is made of the arguments of a guarded call, or given; without one it is another."""
    clock = FakeClock()
    limiter = make(key="{user}", wait=False)

    @limiter
    async def mail(user, text=""):
        return user

    async def main():
        assert await mail("ann") == "ann"
        assert await mail(user="bob", text="x") == "bob"
        with pytest.raises(RateLimitExceeded):
            await mail("ann", "again")
        assert limiter.try_take("ann") is None
        assert limiter.try_take() is not None
        assert await limiter.of("cy").acall(value) == 5
        with pytest.raises(RateLimitExceeded):
            await limiter.take("cy")
        with pytest.raises(RateLimitExceeded):
            async with limiter.of("cy"):
                raise AssertionError
        with pytest.raises(RateLimitExceeded), limiter.of("bob"):
            raise AssertionError
        assert limiter.statistics().keys == 3
        limiter.reset()
        assert limiter.of("cy").call(lambda: 1) == 1

    clock.run(main())


def test_a_key_may_be_a_function_and_other_policies_may_be_around():
    """It gets the arguments of the call that all of them go around."""
    limiter = RateLimiter.window(1, 60, key=lambda user, **_: user, wait=False)
    calls = compose(RateLimiter(1000), limiter, RateLimiter(1000))

    @calls
    def mail(user, text=""):
        return user

    assert [mail("ann", text="x"), mail("bob")] == ["ann", "bob"]
    with pytest.raises(RateLimitExceeded):
        mail("ann")


def test_a_key_that_is_secret_is_not_shown():
    """Neither in what is shown of the limiter nor in its errors."""
    limiter = RateLimiter.window(1, 60, wait=False)
    limiter.try_take("s3cret")
    with pytest.raises(RateLimitExceeded) as refused:
        limiter.of("s3cret").call(None)
    assert "s3cret" not in f"{refused.value} {limiter!r} {limiter.of('s3cret')!r}"


def test_idle_keys_are_forgotten():
    """Of 20,000 keys that come once only those that still count are kept."""
    clock = FakeClock()
    for limiter in (RateLimiter.window(2, 1.0, clock=clock), RateLimiter(2, 2, clock=clock)):
        for number in range(20_000):
            clock.advance(0.01)
            assert limiter.try_take(number) is not None
            assert limiter.statistics().keys <= 101


@given(
    st.booleans(),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.25, 0.5])), max_size=150),
)
def test_with_too_many_keys_none_is_over_its_limit(waits, most, calls):
    """Keys that find no place share one limit; their calls there count when they get their own."""
    clock, taken = FakeClock(), {}
    limiter = RateLimiter.window(2, 1.0, max_keys=most)

    async def one(key):
        if waits:
            await limiter.take(key)
        elif limiter.try_take(key) is None:
            return
        taken.setdefault(key, []).append(clock.monotonic())

    async def main():
        async with asyncio.TaskGroup() as group:
            for key, gap in calls:
                await asyncio.sleep(gap)
                group.create_task(one(key))

    clock.run(main())

    assert limiter.statistics().keys <= most
    assert all(fullest(moments, 1.0) <= 2 for moments in taken.values())
    assert not waits or sum(map(len, taken.values())) == len(calls)


# threads


def test_threads_and_tasks_stand_in_one_queue():
    """In real time, 6 threads and 3 loops with 5 tasks each: in no window too many, nobody lost."""
    limiter, taken = RateLimiter.window(10, 0.05), []

    def passes():
        for _ in range(6):
            limiter.take_blocking()
            taken.append(time.monotonic())

    async def four():
        for _ in range(4):
            await limiter.take()
            taken.append(time.monotonic())

    async def five():
        await asyncio.gather(*(four() for _ in range(5)))

    interval, began = sys.getswitchinterval(), time.monotonic()
    sys.setswitchinterval(1e-5)
    try:
        run([passes] * 6 + [lambda: asyncio.run(five())] * 3)
    finally:
        sys.setswitchinterval(interval)

    assert len(taken) == limiter.statistics().admitted == 6 * 6 + 3 * 5 * 4
    assert limiter.waiting == 0
    # The n-th call has passed no earlier than its place was free.
    for place, moment in enumerate(sorted(taken)):
        assert moment - began >= place // 10 * 0.05 - 1e-6


def run(calls):
    """Call each in a thread, and wait for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_threads_pass_in_the_order_in_which_they_came():
    """Each joins when the one before stands in the queue."""
    limiter, passed = RateLimiter.window(1, 0.02), []
    assert limiter.try_take()

    def wait(number):
        limiter.take_blocking()
        passed.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while limiter.waiting + len(passed) <= number:
            time.sleep(0)
    for thread in threads:
        thread.join(30)

    assert passed == list(range(5))


def test_a_thread_that_blocks_its_own_loop_does_not_wait_for_its_tasks():
    """A task of that loop is first, and cannot go on: it is passed over, and comes later."""
    limiter, passed = RateLimiter.window(1, 0.05), []

    async def task():
        await limiter.take()
        passed.append("task")

    async def main():
        await limiter.take()
        waiting = asyncio.create_task(task())
        await asyncio.sleep(0)
        assert limiter.waiting == 1
        limiter.take_blocking()
        passed.append("thread")
        await waiting

    asyncio.run(asyncio.wait_for(main(), 20))
    assert passed == ["thread", "task"]
    assert limiter.waiting == 0


def test_threads_of_a_loop_in_virtual_time_wait_no_real_time():
    """A day's waits of offloaded calls are over at once, and no window is over."""
    clock = FakeClock()
    limiter, taken = RateLimiter.window(2, 3600.0), []

    def one():
        limiter.take_blocking()
        taken.append(clock.monotonic())

    async def main():
        await asyncio.gather(*(asyncio.to_thread(one) for _ in range(8)))

    clock.run(main())
    assert fullest([round(moment, 3) for moment in taken], 3599.0) == 2
    assert max(taken) == pytest.approx(3 * 3600, rel=1e-3)


# watched


def test_what_watches_is_told():
    """The step of a call says how long it has waited, or that it was refused; it has no key."""
    clock, steps = FakeClock(), []
    limiter = RateLimiter.window(1, 1.0, key="{n}", max_wait=1.0, name="mail")

    @limiter
    async def mail(n):
        return n

    async def main():
        with observing(steps.append):
            results = await asyncio.gather(*(mail(7) for _ in range(3)), return_exceptions=True)
            await limiter.of(8).acall(value)
        assert results[:2] == [7, 7]

    clock.run(main())
    facts = [step.facts for step in steps]
    assert [(step.kind, step.name) for step in steps] == [("policy", "mail")] * 4
    assert facts[0] == {
        "flow.policy": "limiter",
        "flow.limiter.waited_seconds": 0.0,
        "flow.limiter.tokens_remaining": 0.0,
    }
    assert facts[1]["flow.limiter.waited_seconds"] == pytest.approx(1.0)
    assert facts[2]["flow.limiter.refused"] is True
    assert facts[2]["flow.limiter.retry_after_seconds"] == pytest.approx(2.0)
    assert facts[3]["flow.limiter.waited_seconds"] == 0.0


async def test_it_goes_around_the_attempts_of_a_node():
    """As one of its policies: an attempt that there is no room for has failed."""

    class Mail(AsyncNode):
        async def exec_async(self, prepared):
            return prepared

        async def post_async(self, shared, prepared, done):
            shared["done"] = shared.get("done", 0) + 1

    limiter = RateLimiter.window(2, 60.0, wait=False)
    node, shared = Mail(policies=[limiter]), {}
    for _ in range(2):
        await node.run_async(shared)
    with pytest.raises(RateLimitExceeded):
        await node.run_async(shared)
    assert shared == {"done": 2}


@given(
    st.sampled_from([0.5, 1.0, 4.0]),
    st.integers(1, 5),
    st.integers(0, 20),
    st.integers(0, 6),
)
def test_a_bucket_reckons_with_those_ahead(rate, burst, ahead, taken):
    """The wait behind others is when one passes if all before pass as soon as they may."""
    bucket, now = Bucket(rate, burst), 8.0
    for _ in range(taken):
        bucket.take(now)
    told = now + bucket.wait(now, ahead)
    for _ in range(ahead + 1):
        now += bucket.wait(now)
        assert bucket.take(now)
    assert now == told
