"""The rate limiter: what its bucket decides, and who waits for it how long."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resilience import Bucket, RateLimiter
from tracing.testing import FakeClock


def most_over(times, rate, burst):
    """Return by how much the fullest span of time is over `rate * length + burst`."""
    worst, highest = -burst, 0
    for place, moment in enumerate(times):
        least = place - rate * moment  # of a span that begins with this call
        highest = least if not place else min(highest, least)
        worst = max(worst, place + 1 - rate * moment - highest - burst)
    return worst


class Model:
    """A bucket in exact fractions, written down as one says it: tokens that are refilled."""

    def __init__(self, rate, burst):
        self.rate, self.burst = Fraction(rate), burst
        self.tokens, self.at = Fraction(burst), Fraction(0)

    def take(self, now):
        self.tokens = min(self.burst, self.tokens + (Fraction(now) - self.at) * self.rate)
        self.at = Fraction(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


rates = st.sampled_from([0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 64.0])  # their times are exact in binary
gaps = st.lists(st.integers(0, 64).map(lambda ticks: ticks / 64), max_size=80)


@given(rates, st.integers(1, 6), gaps)
def test_the_bucket_decides_like_exact_tokens(rate, burst, gaps):
    """Each call is let through just when the model does; so no span is over, and none is short."""
    bucket, model, now, taken = Bucket(rate, burst), Model(rate, burst), 0.0, []
    for gap in gaps:
        now += gap
        wait = bucket.wait(now)
        assert (wait == 0) == model.take(now) == bucket.take(now)
        if wait == 0:
            taken.append(now)
        assert bucket.tokens(now) == model.tokens

    assert most_over([Fraction(moment) for moment in taken], Fraction(rate), burst) <= 0


@given(rates, st.integers(1, 6), gaps)
def test_what_has_waited_as_told_is_let_through(rate, burst, gaps):
    """After `wait` seconds a call may happen, and not before."""
    bucket, now = Bucket(rate, burst), 0.0
    for gap in gaps:
        now += gap
        wait = bucket.wait(now)
        if wait:
            assert not bucket.take(now + wait / 2)
        now += wait
        assert bucket.take(now)


@given(
    st.floats(0.001, 10_000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=80),
    st.floats(0, 1e9),
)
def test_any_rate_at_any_time_is_held(rate, burst, gaps, start):
    """With numbers that are not exact the rounding is that of the clock, and does not add up."""
    bucket, now, taken = Bucket(rate, burst), start, []
    for gap in gaps:
        now += gap / rate
        wait = bucket.wait(now)
        if wait:
            now += wait + 1e-6
        assert bucket.take(now)
        taken.append(now - start)

    assert most_over(taken, rate, burst) <= rate * (start + 1) * 1e-14 + 1e-9


def test_a_hundred_thousand_calls_are_never_over_the_rate():
    """Asked again and again at odd moments, 100,000 calls take their time, and no rounding."""
    chance, bucket = random.Random(3), Bucket(300.0, 7)
    now, taken = 0.0, []
    while len(taken) < 100_000:
        now += chance.expovariate(500)
        if bucket.take(now):
            taken.append(now)

    assert most_over(taken, 300.0, 7) < 1e-6
    assert len(taken) / now == pytest.approx(300.0, rel=0.01)


def test_time_that_goes_back_gives_and_takes_nothing():
    """With another clock the tokens are as they were, and come at the same rate."""
    bucket = Bucket(1.0, 2)
    assert bucket.take(1000.0)
    assert bucket.take(1000.5)
    assert bucket.tokens(5.0) == 0.5
    assert bucket.wait(5.0) == 0.5
    assert bucket.take(5.5)
    assert not bucket.take(5.75)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0,), ValueError, "rate must be above 0 and finite, not 0"),
        ((-1.0,), ValueError, "rate"),
        ((float("nan"),), ValueError, "rate"),
        ((float("inf"),), ValueError, "rate"),
        ((10**400,), ValueError, "rate"),
        (("10",), TypeError, "rate must be a number, not '10'"),
        ((True,), TypeError, "rate"),
        ((1, 0), ValueError, "burst must be at least 1"),
        ((1, 1.5), TypeError, "burst must be a whole number, not 1.5"),
        ((1, True), TypeError, "burst"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, text):
    """The error names the argument and the value."""
    for make in (Bucket, RateLimiter):
        with pytest.raises(error, match=text):
            make(*arguments)


def test_a_wrong_window_is_named():
    """Its name is in the error."""
    with pytest.raises(ValueError, match="window must be above 0"):
        RateLimiter(1, window=0)


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 1), (0.5, 1), (1, 2), (10, 20), (2.6, 5)])
def test_the_burst_is_twice_the_rate_and_at_least_one(rate, burst):
    """So a rate below one in two seconds does not wait for ever."""
    assert RateLimiter(rate).burst == burst


async def taking(limiter, number, noted, clock):
    await limiter.take()
    noted.append((number, clock.monotonic()))


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 16)), min_size=1, max_size=25),
)
def test_callers_pass_in_the_order_in_which_they_came(burst, callers):
    """Whoever gives up and when: the others pass in order, in time, and as early as they can."""
    clock = FakeClock()
    limiter, noted = RateLimiter(2, burst), []

    async def main():
        tasks = []
        for number, (gap, patience) in enumerate(callers):
            await asyncio.sleep(gap / 8)
            task = asyncio.create_task(taking(limiter, number, noted, clock))
            if patience is not None:
                asyncio.get_running_loop().call_later(patience / 8, task.cancel)
            tasks.append(task)
            await asyncio.sleep(0)
        await asyncio.wait(tasks)

    clock.run(main())

    numbers = [number for number, _ in noted]
    assert numbers == sorted(numbers)
    patient = {number for number, (_, patience) in enumerate(callers) if patience is None}
    assert patient <= set(numbers)
    times = [moment for _, moment in noted]
    assert most_over(times, 2, burst) <= 1e-9
    assert limiter.waiting == 0
    arrived, now = {}, 0.0
    for number, (gap, _) in enumerate(callers):
        now += gap / 8
        arrived[number] = now
    bucket, now = Bucket(2, burst), 0.0
    for number, moment in noted:  # nobody has waited for one who gave up
        now = max(now, arrived[number])
        now += bucket.wait(now)
        assert bucket.take(now + 1e-12)
        assert moment == pytest.approx(now, abs=1e-5)


def test_one_that_is_cancelled_first_in_the_queue_uses_nothing_up():
    """The next one passes when the cancelled one would have, and nothing is left behind."""
    clock = FakeClock()

    async def main():
        limiter, noted = RateLimiter(1, 1), []
        await limiter.take()
        tasks = [asyncio.create_task(taking(limiter, n, noted, clock)) for n in range(3)]
        await asyncio.sleep(0.5)
        assert limiter.waiting == 3
        tasks[0].cancel()
        await asyncio.wait(tasks)
        assert noted == [(1, 1.0), (2, 2.0)]
        assert len(asyncio.all_tasks()) == 1

    clock.run(main())


def test_what_is_told_of_an_admission():
    """Tokens that are left, calls within the window, seconds waited."""
    clock = FakeClock()

    async def main():
        limiter = RateLimiter(2, 3, window=1.0)
        told = [tuple(await limiter.take()) for _ in range(5)]
        assert told == [(2, 1, 0), (1, 2, 0), (0, 3, 0), (0, 4, 0.5), (0, 2, 0.5)]
        await asyncio.sleep(10)
        assert limiter.tokens == 3
        assert tuple(await limiter.take()) == (2, 1, 0)

    clock.run(main())


def test_one_may_be_refused_instead_of_waiting():
    """`try_take` takes a token that is there, unless somebody waits for it already."""
    clock = FakeClock()

    async def main():
        limiter, noted = RateLimiter(1, 1), []
        assert limiter.try_take() is not None
        assert limiter.try_take() is None
        task = asyncio.create_task(taking(limiter, 0, noted, clock))
        await asyncio.sleep(0.5)
        assert limiter.try_take() is None
        clock.advance(2)  # as by code that blocks: there is a token, and the task is still asleep
        assert limiter.try_take() is None
        await task
        await asyncio.sleep(1)
        assert limiter.try_take() is not None

    clock.run(main())


def test_reset_forgets_what_was():
    """The bucket is full again and the window empty."""
    clock = FakeClock()

    async def main():
        limiter = RateLimiter(1, 2)
        for _ in range(2):
            await limiter.take()
        limiter.reset()
        assert tuple(await limiter.take()) == (1, 1, 0)
        assert repr(limiter) == "<RateLimiter 1 a second, burst 2, 0 waiting>"

    clock.run(main())
    assert clock.monotonic() == 0


def test_the_clock_may_be_its_own():
    """A clock that is given is asked, whatever the context's is; many limiters share nothing."""
    clock = FakeClock()
    limiter, other = RateLimiter(1, 1, clock=clock), RateLimiter(1, 1, clock=clock)
    assert limiter.try_take() is not None
    assert limiter.try_take() is None
    assert other.try_take() is not None
    clock.advance(1)
    assert limiter.try_take() is not None


def test_it_is_shared_by_loops_in_threads_and_one_after_another():
    """Four threads with a loop each, twice: 120 calls at 1,000 a second, none over the rate."""
    limiter = RateLimiter(1000, 5)
    taken = []

    async def several():
        await asyncio.gather(*(taken_at() for _ in range(15)))

    async def taken_at():
        await limiter.take()
        taken.append(time.monotonic())

    began = time.monotonic()
    for _ in range(2):
        threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    assert len(taken) == 120
    assert limiter.waiting == 0
    # The n-th call has passed no earlier than its token was there.
    for place, moment in enumerate(sorted(taken)):
        assert moment - began >= (place + 1 - 5) / 1000 - 1e-6


def test_a_loop_that_stands_still_holds_nobody_up():
    """Those on other loops go on; who was on it takes its place at the end when it goes on."""
    limiter, passed = RateLimiter(50, 1), []

    async def take(name):
        await limiter.take()
        passed.append(name)

    async def begin():
        tasks = [asyncio.create_task(take(f"still {n}")) for n in range(2)]
        await asyncio.sleep(0)
        return tasks

    assert limiter.try_take()
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(begin())
    assert limiter.waiting == 2
    asyncio.run(asyncio.wait_for(take("other"), 10))
    assert passed == ["other"]
    loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks), 10))
    loop.close()

    assert sorted(passed) == ["other", "still 0", "still 1"]
    assert limiter.waiting == 0


def test_those_behind_a_loop_that_stops_find_out_by_themselves():
    """Nobody else has to come along: a loop behind goes on, with all that wait on it."""
    limiter = RateLimiter(1000, 1)
    loop = asyncio.new_event_loop()
    joined = threading.Event()

    async def begin():
        task = asyncio.create_task(still())
        await asyncio.sleep(0)
        threads[0].start()
        joined.wait(10)
        return task

    async def still():
        await limiter.take()

    async def behind():
        tasks = [asyncio.create_task(limiter.take()) for _ in range(3)]
        await asyncio.sleep(0)
        joined.set()
        await asyncio.wait(tasks)

    threads = [threading.Thread(target=asyncio.run, args=(behind(),))]
    assert limiter.try_take()
    task = loop.run_until_complete(begin())
    threads[0].join(10)
    assert not threads[0].is_alive()
    loop.run_until_complete(task)
    loop.close()

    assert limiter.waiting == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_is_closed_over_its_tasks_holds_nobody_up(caplog):
    """A task that was thrown away with its loop has no place any more."""
    limiter = RateLimiter(50, 1)

    async def begin():
        task = asyncio.create_task(limiter.take())
        task._log_destroy_pending = False
        await asyncio.sleep(0)

    assert limiter.try_take()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    asyncio.run(asyncio.wait_for(limiter.take(), 10))
    gc.collect()

    assert limiter.waiting == 0


def test_a_thousand_that_give_up_leave_nothing():
    """Cancelled all at once, in any order, they leave the queue, and the next one is let in."""
    clock = FakeClock()

    async def main():
        limiter = RateLimiter(1, 1)
        await limiter.take()
        tasks = [asyncio.create_task(limiter.take()) for _ in range(1000)]
        await asyncio.sleep(0.25)
        random.Random(1).shuffle(tasks)
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await asyncio.wait(tasks)
        assert limiter.waiting == 0
        await limiter.take()
        assert clock.monotonic() == pytest.approx(1.0)

    clock.run(main())
