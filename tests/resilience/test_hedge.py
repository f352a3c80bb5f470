"""Hedge: when there is a second try, whose answer counts, and what becomes of the other."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.hooks import observing
from pocketflow_async.resilience import Hedge
from pocketflow_async.resilience.latency import Latencies
from tests.workflow.runtime_kit import nothing_left
from tracing.testing import FakeClock


class Tries:
    """Each try takes its seconds, then returns its number or raises its error."""

    def __init__(self, *plan):
        self.plan = plan
        self.begun = self.ended = 0
        self.cancelled = []

    async def __call__(self):
        number = self.begun
        self.begun += 1
        taken = self.plan[min(number, len(self.plan) - 1)]
        seconds, error = taken if isinstance(taken, tuple) else (taken, None)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.ended += 1
        if error is not None:
            raise error
        return number


@pytest.fixture
def clock():
    return FakeClock()


def timed(clock, policy, tries):
    """Return what a call comes to, an error too, and how long it took."""

    async def run():
        began = clock.monotonic()
        async with nothing_left():
            try:
                value = await policy.acall(tries)
            except Exception as error:
                value = error
        return value, round(clock.monotonic() - began, 6)

    return clock.run(run())


@pytest.mark.parametrize(
    ("plan", "answer", "seconds", "begun", "cancelled"),
    [
        ((0.5,), 0, 0.5, 1, []),  # in time: no second try
        ((9, 1), 1, 2, 2, [0]),  # the second is faster
        ((1.5, 9), 0, 1.5, 2, [1]),  # the first is back in time after all
        (((1.5, ValueError()), 1), 1, 2, 2, []),  # the first fails while the second runs
        ((3, (0.5, ValueError())), 0, 3, 2, []),  # the second fails: the first is waited for
    ],
)
def test_the_first_success_is_the_answer(clock, plan, answer, seconds, begun, cancelled):
    """The others are cancelled, and have ended before the call returns."""
    tries = Tries(*plan)

    assert timed(clock, Hedge(after=1), tries) == (answer, seconds)
    assert (tries.begun, tries.ended, tries.cancelled) == (begun, begun, cancelled)


def test_when_all_fail_the_first_error_has_the_others_as_notes(clock):
    """It is the error of the first try, whichever failed first."""
    first, second = ValueError("one"), OSError("two")
    error, seconds = timed(clock, Hedge(after=1), Tries((3, first), (1, second)))

    assert (error, seconds) == (first, 3)
    assert error.__notes__ == ["another try has failed too: OSError: two"]


def test_a_first_try_that_fails_alone_fails_the_call(clock):
    """There is no second try for that."""
    tries = Tries((0.5, ValueError("no")))
    error, seconds = timed(clock, Hedge(after=1), tries)

    assert isinstance(error, ValueError)
    assert (seconds, tries.begun) == (0.5, 1)


def test_an_error_that_is_not_listed_is_the_answer_at_once(clock):
    """The other try is cancelled."""
    tries = Tries((1.5, KeyError("no")), 9)
    error, seconds = timed(clock, Hedge(after=1, on=OSError), tries)

    assert isinstance(error, KeyError)
    assert (seconds, tries.cancelled) == (1.5, [1])


def test_each_further_try_comes_after_the_one_before(clock):
    """Up to the limit."""
    tries = Tries(9, 9, 9, 0)
    assert timed(clock, Hedge(after=1, limit=3), tries) == (0, 9)
    assert tries.begun == 3

    tries = Tries(9, 9, 0.25)
    assert timed(clock, Hedge(after=1, limit=3), tries) == (2, 2.25)
    assert timed(clock, Hedge(after=1, limit=1), Tries(9, 0)) == (0, 9)
    assert timed(clock, Hedge(after=0), Tries(9, 1)) == (1, 1)


def test_a_caller_that_is_cancelled_ends_all_tries(clock):
    """They have ended before the cancellation goes on, also by a timeout."""
    tries = Tries(9, 9)

    async def run():
        async with nothing_left():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await Hedge(after=1).acall(tries)

    clock.run(run())
    assert tries.cancelled == [0, 1]


def test_the_delay_is_learnt(clock):
    """No second try before enough calls are known; then after what 95 % do not exceed."""
    policy = Hedge(minimum=20)
    for number in range(1, 21):
        assert policy.delay is None
        timed(clock, policy, Tries(number / 10))

    assert policy.delay == pytest.approx(1.9)
    assert timed(clock, policy, Tries(9, 0.1)) == (1, 2.0)
    assert policy.statistics()[:3] == (21, 1, 1)
    policy.reset()
    assert policy.statistics() == (0, 0, 0, None)


def test_the_delay_does_not_drift_because_slow_tries_are_cut_short(clock):
    """With a quantile of 0.9, one call in ten has a second try, however long that goes on."""
    policy, chance = Hedge(quantile=0.9, minimum=50), random.Random(1)
    for _ in range(1000):
        timed(clock, policy, Tries(chance.expovariate(1), chance.expovariate(1)))

    assert 70 <= policy.statistics().hedged <= 130
    assert policy.delay == pytest.approx(2.3, rel=0.3)  # where nine in ten are, of all tries


def test_a_failed_first_try_tells_nothing_of_how_long_calls_take(clock):
    """Quick failures do not pull the delay down."""
    policy = Hedge(after=1)
    timed(clock, policy, Tries((0.1, ValueError())))
    timed(clock, policy, Tries((1.5, ValueError()), 1))

    assert len(policy._sample) == 0


async def test_a_try_that_ends_the_process_reaches_the_caller():
    """SystemExit does not go past it into the event loop."""

    async def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await Hedge(after=1).acall(leave)


@given(st.integers(1, 20), st.lists(st.floats(0, 10), min_size=1, max_size=60), st.floats(0.01, 1))
def test_the_sample_is_that_of_the_last_calls(size, durations, part):
    """The quantile is the shortest of them that enough do not exceed."""
    sample = Latencies(size)
    for seconds in durations:
        sample.add(seconds)
    last = sorted(durations[-size:])
    enough = [value for value in last if sum(each <= value for each in last) >= part * len(last)]

    assert len(sample) == len(last)
    assert sample.quantile(part) == min(enough, default=last[-1])


def test_in_threads_the_first_success_is_the_answer():
    """The try that has lost goes on to its end, and its result is dropped."""
    gate, begun = threading.Event(), []

    def work():
        begun.append(threading.current_thread())
        if len(begun) == 1:
            gate.wait(10)
            return "first"
        return "second"

    policy = Hedge(after=0.001)
    assert policy.call(work) == "second"
    gate.set()
    begun[0].join(10)
    assert policy.statistics()[:3] == (1, 1, 1)
    assert policy._left == 0


def test_in_threads_errors_are_as_on_the_loop():
    """All fail: the first, with notes; one that is not listed: at once."""
    second = threading.Event()

    def fails():
        if threading.current_thread().name != "hedge":
            raise AssertionError
        if second.is_set():
            raise OSError("two")
        second.set()
        gate.wait(10)
        raise ValueError("one")

    gate = threading.Event()
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(ValueError, match="one") as caught:
        Hedge(after=0.001).call(fails)
    assert caught.value.__notes__ == ["another try has failed too: OSError: two"]
    with pytest.raises(KeyError):
        Hedge(after=5, on=OSError).call(lambda: {}["a"])


def test_threads_that_were_left_are_limited():
    """When too many tries are still at work, a call has one try, in its own thread."""
    policy, gate, calls = Hedge(after=0.0), threading.Event(), []

    def work():
        calls.append(threading.current_thread())
        if threading.current_thread() is threading.main_thread():
            return "plain"
        if len(calls) % 2:
            gate.wait(10)
        return "hedged"

    for _ in range(100):
        if policy.call(work) == "plain":
            break
    assert policy._left <= 33
    gate.set()
    for thread in calls:
        if thread is not threading.main_thread():
            thread.join(10)
    assert calls[-1] is threading.main_thread()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"after": -1}, ValueError),
        ({"after": float("inf")}, ValueError),
        ({"after": "1"}, TypeError),
        ({"quantile": 1}, ValueError),
        ({"quantile": None}, TypeError),
        ({"minimum": 0}, ValueError),
        ({"minimum": 201}, ValueError),
        ({"limit": 0}, ValueError),
        ({"limit": True}, TypeError),
        ({"on": BaseException}, TypeError),
        ({"on": "OSError"}, TypeError),
    ],
)
def test_what_cannot_be_is_refused(options, error):
    """When it is made, and not with the first call."""
    with pytest.raises(error):
        Hedge(**options)


def facts_of(told, name):
    """Return the facts of the steps of that name, in the order in which they began."""
    return [step.facts for step in told if step.name == name]


def tried(number, won):
    return {"flow.policy": "hedge", "flow.hedge.try": number, "flow.hedge.won": won}


def test_who_watches_is_told_of_the_tries(clock):
    """How many there were, which was the answer, and of each try whether it has won."""
    told = []
    with observing(told.append):
        timed(clock, Hedge(after=1, name="twice"), Tries(9, 1))
        timed(clock, Hedge(after=1), Tries((0, ValueError())))
    facts = {"flow.policy": "hedge", "flow.hedge.tries": 2, "flow.hedge.winner": 2}
    assert facts_of(told, "twice") == [facts]
    assert facts_of(told, "twice.try") == [tried(1, False), tried(2, True)]
    assert facts_of(told, "hedge") == [{"flow.policy": "hedge", "flow.hedge.tries": 1}]
    assert facts_of(told, "hedge.try") == [tried(1, False)]


def test_of_two_that_end_at_once_one_has_won(clock):
    """The one whose answer it is, as the facts of the call say."""
    told = []
    with observing(told.append):
        timed(clock, Hedge(after=1, name="twice"), Tries(2, 1))
    (call,) = facts_of(told, "twice")
    won = [facts["flow.hedge.won"] for facts in facts_of(told, "twice.try")]
    assert won == [number == call["flow.hedge.winner"] for number in (1, 2)]


def test_tries_in_threads_are_told_too():
    """Each in its own thread; the loser says so when it has come to its end."""
    told, gate, ended = [], threading.Event(), threading.Semaphore(0)
    numbers = iter([1, 2])

    def call():
        number = next(numbers)
        if number == 1:
            gate.wait(10)
        return number

    class Watching:
        def __call__(self, step):
            told.append(step)
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            ended.release()

    with observing(Watching()):
        assert Hedge(after=0.0, name="twice").call(call) == 2
    gate.set()
    assert all(ended.acquire(timeout=10) for _ in range(3))
    assert facts_of(told, "twice.try") == [tried(1, False), tried(2, True)]


def test_one_that_is_not_hedged_is_no_try(clock):
    """While too little is known there is the call itself, and nothing around it."""
    told = []
    with observing(told.append):
        timed(clock, Hedge(), Tries(1))
    assert [step.name for step in told] == ["hedge"]
