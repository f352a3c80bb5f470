"""The exact sliding window: what it decides, and that no window anywhere is over its limit."""

from __future__ import annotations

import asyncio
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resilience import RateLimiter, Window
from tests.resilience.limiter_kit import fullest
from tracing.testing import FakeClock


class Model:
    """A window in exact fractions, written down as one says it."""

    def __init__(self, limit, per, burst):
        self.spans = [(limit, Fraction(per))]
        if burst is not None:
            self.spans.append((burst, Fraction(per * burst / limit)))
        self.calls = []

    def room(self, now):
        now = Fraction(now)
        return min(
            most - sum(1 for call in self.calls if now - call < length)
            for most, length in self.spans
        )

    def take(self, now):
        if self.room(now) < 1:
            return False
        self.calls.append(Fraction(now))
        return True


@st.composite
def windows(draw):
    limit = draw(st.integers(1, 8))
    per = draw(st.sampled_from([0.1, 0.3, 1.0, 1 / 3, 60.0, 1e-3]) | st.floats(1e-3, 1e3))
    burst = draw(st.none() | st.integers(1, limit))
    return limit, per, burst


gaps = st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0]) | st.floats(0, 2), max_size=60)


@given(windows(), gaps, st.sampled_from([0.0, 1.0, 1e6, 1e9]))
def test_it_decides_like_exact_fractions(window, gaps, now):
    """Whatever the floats, a call is let through just when the exact count says so."""
    limit, per, burst = window
    decides, model = Window(limit, per, burst), Model(limit, per, burst)
    for gap in gaps:
        now += gap * per
        free = model.room(now)
        assert decides.tokens(now) == max(0, free)
        assert (decides.wait(now) == 0) == (free >= 1)
        assert decides.take(now) == model.take(now)
        if free < 1:
            now += decides.wait(now)
            now += now * 1e-15  # what the sum may have lost
            assert decides.take(now) == model.take(now)


@given(windows(), gaps)
def test_what_has_waited_as_told_is_let_through(window, gaps):
    """After `wait` seconds a call may happen, and halfway there not."""
    decides, now = Window(*window), 0.0
    for gap in gaps:
        now += gap * window[1]
        wait = decides.wait(now)
        if wait > 1e-9:
            assert not decides.take(now + wait * 0.5)
        now += wait
        while decides.wait(now):
            now += now * 1e-15
        assert decides.take(now)


@given(st.integers(1, 6), st.integers(0, 30), gaps)
def test_those_ahead_are_reckoned_with(limit, ahead, gaps):
    """The wait behind others is when one passes if all before pass as soon as they may."""
    decides, now = Window(limit, 1.0), 0.0
    for gap in gaps:
        now += gap
        decides.take(now)
    told, moment = now + decides.wait(now, ahead), now
    for _ in range(ahead + 1):
        while wait := decides.wait(moment):
            moment += max(wait, 1e-12)
        assert decides.take(moment)
    assert moment == pytest.approx(told)


def test_a_hundred_thousand_calls_are_never_over_in_any_window():
    """Asked at odd moments, far from zero: exactly the limit in the fullest window, never more."""
    chance, decides = random.Random(5), Window(300, 0.7)
    now, taken = 1e6, []
    while len(taken) < 100_000:
        now += chance.expovariate(900)
        if decides.take(now):
            taken.append(now)

    assert fullest(taken, 0.7) == 300
    assert len(taken) / (now - 1e6) == pytest.approx(300 / 0.7, rel=0.01)


@pytest.mark.parametrize("burst", [None, 7])
def test_a_hundred_thousand_that_wait_are_never_over_in_any_window(burst):
    """On virtual time 200 tasks at a time wait for their turn, some of which give up."""
    clock, chance = FakeClock(), random.Random(7)
    limiter, taken = RateLimiter.window(50, 0.9, burst=burst), []

    async def caller():
        while len(taken) < 100_000:
            try:
                async with asyncio.timeout(None if chance.random() < 0.9 else chance.random()):
                    await limiter.take()
            except TimeoutError:
                continue
            taken.append(clock.monotonic())
            if chance.random() < 0.01:
                await asyncio.sleep(chance.random() * 3)

    async def main():
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(caller())

    clock.run(main())

    assert fullest(taken, 0.9) == 50
    if burst:
        assert fullest(taken, 0.9 * burst / 50) == burst
    assert len(taken) / clock.monotonic() == pytest.approx(50 / 0.9, rel=0.01)
    assert limiter.waiting == 0


def test_a_place_is_free_again_just_when_its_window_ends():
    """Windows are half-open: at `t + per` exactly the next call passes, and not before."""
    decides = Window(2, 1.0)
    assert decides.take(0.0)
    assert decides.take(0.25)
    assert not decides.take(0.9999999999999999)
    assert decides.take(1.0)
    assert not decides.take(1.0)
    assert decides.wait(1.0) == 0.25


def test_a_sum_that_is_rounded_down_lets_nothing_through_too_early():
    """A moment that is a float below the exact end of the window is still in the window."""
    start = 1e6
    lengths = [0.1, 0.2, 0.3, 0.6, 0.7, 0.9]
    below = [per for per in lengths if Fraction(start + per) < Fraction(start) + Fraction(per)]
    assert below
    for per in below:
        decides = Window(1, per)
        assert decides.take(start)
        assert not decides.take(start + per)
        assert decides.take(math.nextafter(start + per, math.inf))


def test_time_that_goes_back_gives_and_takes_nothing():
    """With another clock the waits are as they were."""
    decides = Window(2, 10.0)
    assert decides.take(1000.0)
    assert decides.take(1004.0)
    assert decides.wait(1005.0) == 5.0
    assert decides.wait(3.0) == 5.0
    assert decides.count(3.0) == 2
    assert decides.take(8.0)
    assert decides.wait(8.0) == pytest.approx(4.0)


def test_burst_one_spaces_calls_evenly():
    """Ten a second in bursts of one: one each tenth of a second."""
    clock = FakeClock()

    async def main():
        limiter = RateLimiter.window(10, 1.0, burst=1)
        return [(await limiter.take()).waited for _ in range(11)]

    waits = clock.run(main())
    assert waits == pytest.approx([0.0, *[0.1] * 10], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0, 1, None), ValueError, "limit must be at least 1"),
        ((1.5, 1, None), TypeError, "limit must be a whole number, not 1.5"),
        ((1, 0, None), ValueError, "per must be above 0 and finite, not 0"),
        ((1, float("nan"), None), ValueError, "per"),
        ((5, 1, 6), ValueError, "burst must be at most the limit, 5"),
        ((5, 1, 0), ValueError, "burst must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, text):
    """The error names the argument and the value."""
    for make in (Window, lambda limit, per, burst: RateLimiter.window(limit, per, burst=burst)):
        with pytest.raises(error, match=text):
            make(*arguments)
