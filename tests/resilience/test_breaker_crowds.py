"""The circuit breaker under many callers at once: tasks, threads, and loops in threads."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from pocketflow_async.clock import Clock
from pocketflow_async.resilience import CircuitBreaker, CircuitBreakerOpen
from tests.resilience.breaker_kit import Service
from tracing.testing import FakeClock

MANY = 1000


@pytest.fixture
def clock():
    return FakeClock()


def half_open(clock, **options):
    """Return a breaker that waits for its probes."""
    breaker = CircuitBreaker(failure_threshold=1, reset_timeout=30, clock=clock, **options)
    with pytest.raises(ConnectionError):
        breaker.call(Service(ConnectionError("down")))
    clock.advance(30)
    return breaker


@pytest.fixture(autouse=True)
def _restless():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Held:
    """A service whose calls all wait until it is let go; counts those at work."""

    def __init__(self, error=None):
        self.entered = 0
        self.error = error
        self.go = asyncio.Event()

    async def __call__(self):
        self.entered += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error


async def crowd(breaker, held, many=MANY):
    """Let so many call at once; return what each came to, once all that may have entered."""
    tasks = [asyncio.create_task(breaker.acall(held)) for _ in range(many)]
    for _ in range(5):
        await asyncio.sleep(0)
    at_work = held.entered
    held.go.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return at_work, Counter(type(one).__name__ for one in ended)


class Decisions:
    """Counts what threads have met with, and lets somebody wait for so many."""

    def __init__(self):
        self.counted = Counter()
        self._changed = threading.Condition()

    def add(self, what):
        with self._changed:
            self.counted[what] += 1
            self._changed.notify_all()

    def wait_for(self, many):
        with self._changed:
            assert self._changed.wait_for(lambda: self.counted.total() >= many, 30)


def begin(threads):
    for thread in threads:
        thread.start()
    return threads


def end(threads):
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("allowed", [1, 3, 50])
async def test_half_open_a_thousand_tasks_get_just_the_allowed_probes(clock, allowed):
    """The others are refused at once; the probes' success closes it."""
    breaker = half_open(clock, half_open_max_calls=allowed, success_threshold=allowed)
    at_work, ended = await crowd(breaker, Held())

    assert at_work == allowed
    assert ended == {"NoneType": allowed, "CircuitBreakerOpen": MANY - allowed}
    assert breaker.is_closed


async def test_of_probes_that_all_fail_the_first_opens_it_once(clock):
    """The later ones belong to the past: they neither open it again nor prolong it."""
    heard = []
    breaker = half_open(clock, half_open_max_calls=10, on_event=heard.append)
    at_work, ended = await crowd(breaker, Held(ConnectionError("down")))

    assert at_work == 10
    assert ended == {"ConnectionError": 10, "CircuitBreakerOpen": MANY - 10}
    assert [event.after for event in heard] == ["open", "half_open", "open"]
    assert breaker.statistics().failures == 2


@pytest.mark.parametrize("allowed", [1, 7])
def test_half_open_a_thousand_threads_get_just_the_allowed_probes(clock, allowed):
    """Whether they enter as calls or as blocks."""
    breaker = half_open(clock, half_open_max_calls=allowed, success_threshold=allowed)
    decisions, ready, go = Decisions(), threading.Barrier(100), threading.Event()

    def probe():
        decisions.add("entered")
        go.wait(30)

    def block():
        with breaker:
            probe()

    def run(n):
        ready.wait(30)
        for _ in range(MANY // 100):
            try:
                block() if n % 2 else breaker.call(probe)
            except CircuitBreakerOpen:
                decisions.add("refused")
            else:
                return

    refusals = (100 - allowed) * MANY // 100
    threads = begin([threading.Thread(target=run, args=(n,)) for n in range(100)])
    decisions.wait_for(refusals + allowed)
    assert breaker.statistics().probes == allowed
    assert breaker.is_half_open
    go.set()
    end(threads)

    assert decisions.counted == {"entered": allowed, "refused": refusals}
    assert breaker.is_closed


def test_loops_in_threads_share_it(clock):
    """Four loops of 250 tasks each, all at once: one probe."""
    breaker = half_open(clock)
    decisions, go = Decisions(), threading.Event()

    async def probe():
        decisions.add("entered")
        await asyncio.to_thread(go.wait, 30)

    async def one():
        try:
            await breaker.acall(probe)
        except CircuitBreakerOpen:
            decisions.add("refused")

    async def several():
        await asyncio.gather(*(one() for _ in range(MANY // 4)))

    threads = begin([threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)])
    decisions.wait_for(MANY)
    go.set()
    end(threads)

    assert decisions.counted == {"entered": 1, "refused": MANY - 1}
    assert breaker.is_closed


async def test_cancelled_probes_let_the_next_ones_in_and_nothing_leaks(clock):
    """A thousand, each cancelled at work: never more than two at once, and none is left."""
    breaker = half_open(clock, half_open_max_calls=2, success_threshold=5)
    held = Held()
    for _ in range(MANY // 2):
        tasks = [asyncio.create_task(breaker.acall(held)) for _ in range(3)]
        await asyncio.sleep(0)
        assert breaker.statistics().probes == 2
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in ended[:2]] == [asyncio.CancelledError] * 2
        assert type(ended[2]) is CircuitBreakerOpen
    assert breaker.statistics().probes == 0
    assert breaker.is_half_open


def test_threads_that_fail_together_open_it_just_once():
    """Results of all threads are counted, and each change is heard once, in order."""
    heard, ready = [], threading.Barrier(20)
    breaker = CircuitBreaker(failure_threshold=30, on_event=heard.append)

    def run():
        ready.wait(30)
        for _ in range(200):
            try:
                breaker.call(Service(ConnectionError("down")))
            except (ConnectionError, CircuitBreakerOpen):
                continue

    end(begin([threading.Thread(target=run) for _ in range(20)]))

    assert [event.after for event in heard] == ["open"]
    stands = breaker.statistics()
    assert stands.failures == 30
    assert stands.failures_total + stands.refused_total == 20 * 200


class Jealous(Clock):
    """A clock that lets other threads run while it is read, and counts who reads it at once."""

    def __init__(self):
        self.inside = self.most = 0

    def monotonic(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0)
        now = time.monotonic()
        self.inside -= 1
        return now


def test_one_thread_at_a_time_moves_it():
    """Reading the clock is part of that, so time never goes back between two threads."""
    clock, ready = Jealous(), threading.Barrier(20)
    breaker = CircuitBreaker(failure_threshold=10**6, clock=clock)

    def run():
        ready.wait(30)
        for _ in range(50):
            breaker.call(Service())
            with suppress(ConnectionError), breaker:
                raise ConnectionError
            breaker.statistics()

    end(begin([threading.Thread(target=run) for _ in range(20)]))
    assert clock.most == 1
    assert breaker.statistics()[1:3] == (2000, 1000)


def test_events_of_many_threads_come_in_order():
    """However they force it open and closed: each event begins where the last one ended."""
    heard, ready = [], threading.Barrier(8)
    breaker = CircuitBreaker(on_event=heard.append)

    def run(n):
        ready.wait(30)
        for _ in range(300):
            if n % 2:
                breaker.force_open()
            else:
                breaker.force_close()

    end(begin([threading.Thread(target=run, args=(n,)) for n in range(8)]))

    states = ["closed", *(event.after for event in heard)]
    assert [event.before for event in heard] == states[:-1]
    assert states[-1] == breaker.state
    assert breaker.statistics().opened_total == states.count("forced_open")


def test_an_event_that_comes_just_when_another_was_told_is_told_too():
    """Whoever has told looks again once others may: nothing waits for the next change."""
    heard = []
    breaker = CircuitBreaker(on_event=heard.append)
    gate = breaker._gate

    class Late:
        """The lock of those who tell, with a change just before it is let go."""

        def __init__(self, lock):
            self.lock, self.acquire = lock, lock.acquire

        def release(self):
            if len(heard) == 1:
                breaker.force_close()
            self.lock.release()

    gate._telling = Late(gate._telling)
    breaker.force_open()
    assert [event.after for event in heard] == ["forced_open", "closed"]


def test_it_goes_on_in_the_next_event_loop(clock):
    """Nothing of it belongs to a loop, not even probes that a loop has left behind."""
    breaker = half_open(clock)
    held = []

    async def leave_behind():
        held.append(asyncio.create_task(breaker.acall(Held())))
        await asyncio.sleep(0)
        assert breaker.statistics().probes == 1

    asyncio.run(leave_behind())  # which cancels what is left
    assert held[0].cancelled()
    assert breaker.statistics().probes == 0
    asyncio.run(breaker.acall(Service().acall))
    assert breaker.is_closed
