"""What a breaker decides, given the time: the window, the states, and their changes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pocketflow_async.resilience.breaker_states import Machine, Refusal, Settings, Ticket
from pocketflow_async.resilience.breaker_window import GRAIN, Window

calls = st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=60)


def machine(**settings):
    """Return a machine that opens at the second failure, for 10 seconds."""
    return Machine(Settings(**{"failure_threshold": 2, "reset_timeout": 10.0, **settings}))


def fail(one, now, times=1):
    for _ in range(times):
        opened = one.record(one.admit(now), "failure", now)
    return opened


def opened(**settings):
    """Return a machine that opened at 0."""
    one = machine(**settings)
    fail(one, 0.0, 2)
    assert one.state == "open"
    return one


def half_open(**settings):
    one = opened(**settings)
    assert one.look(10.0) == "half_open"
    return one


# The window


@given(calls, st.integers(1, 30), st.one_of(st.none(), st.integers(1, 8)))
def test_the_window_counts_what_is_in_it(gaps, seconds, limit):
    """Calls younger than its seconds and among the last of its limit; one just as old is out."""
    window, noted, now = Window(seconds, limit), [], 0
    for gap, failed in gaps:
        now += gap
        window.add(now, failed)
        noted = [*noted, (now, failed)][-(limit or len(gaps)) :]
        inside = [failed for moment, failed in noted if moment > now - seconds]
        assert (window.calls, window.failures) == (len(inside), sum(inside))
    window.move_to(now + seconds)
    assert (window.calls, window.failures) == (0, 0)


def test_the_window_stays_small_under_load():
    """A million calls in a window of time are about a thousand entries, a thousandth inexact."""
    window = Window(10.0)
    for n in range(100_000):
        window.add(n / 1000, n % 2 == 0)

    assert len(window._entries) <= GRAIN + 1
    assert window.calls == pytest.approx(10_000, abs=10)
    assert window.failures == pytest.approx(5_000, abs=10)


def test_a_window_of_calls_alone_knows_no_time():
    """The last three count, however long ago they were."""
    window = Window(limit=3)
    for now, failed in enumerate((True, True, False, True)):
        window.add(now * 1e9, failed)
    window.move_to(1e12)

    assert (window.calls, window.failures) == (3, 2)


# The settings


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("failure_threshold", 0, ValueError),
        ("failure_threshold", 1.5, TypeError),
        ("failure_threshold", True, TypeError),
        ("minimum_calls", 0, ValueError),
        ("half_open_max_calls", 0, ValueError),
        ("success_threshold", "1", TypeError),
        ("window", 0, ValueError),
        ("window", math.inf, ValueError),
        ("window", math.nan, ValueError),
        ("window", "2", TypeError),
        ("window", None, ValueError),
        ("window_calls", 0, ValueError),
        ("window_calls", 4, ValueError),
        ("reset_timeout", -1, ValueError),
        ("reset_timeout", math.nan, ValueError),
        ("reset_timeout", True, TypeError),
        ("probe_timeout", 0, ValueError),
        ("failure_rate", 1.01, ValueError),
        ("failure_rate", -0.1, ValueError),
        ("failure_rate", "half", TypeError),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name, value, error):
    """With its name and its value; also those by which it could never open, or never forget."""
    with pytest.raises(error, match=name):
        Settings(**{name: value})


# Opening


def test_it_opens_at_the_failure_that_reaches_the_threshold():
    """Not before, and that failure knows that it did it."""
    one = machine(failure_threshold=3)
    assert [fail(one, 0.0) for _ in range(3)] == [False, False, True]
    assert one.state == "open"
    assert one.failures == 3
    assert [tuple(change) for change in one.changes] == [
        ("closed", "open", "too many calls failed", 0.0)
    ]


def test_a_success_does_not_forget_the_failures():
    """They count as long as they are in the window: a service that fails every other call opens."""
    one = machine()
    fail(one, 0.0)
    one.record(one.admit(1.0), "success", 1.0)
    assert fail(one, 2.0)


def test_failures_that_are_too_old_do_not_open_it():
    """One each minute never makes two in a minute."""
    one = machine(window=60.0)
    assert not any(fail(one, 60.0 * minute) for minute in range(20))
    assert fail(one, 60.0 * 19 + 59)


def test_only_the_last_calls_count_where_it_is_by_calls():
    """Two of the last four; time is nothing to it without a window of time."""
    one = machine(window=None, window_calls=4)
    for now, outcome in enumerate(("failure", "success", "success", "success", "failure")):
        assert not one.record(one.admit(now), outcome, now * 1e6)
    assert one.calls == 4
    assert fail(one, 1e9)


def test_the_rate_counts_among_enough_calls_only():
    """Half of at least ten, of which at least two."""
    one = machine(failure_rate=0.5, minimum_calls=10)
    assert not fail(one, 0.0, 4)
    for _ in range(5):
        one.record(one.admit(0.0), "success", 0.0)
    assert one.state == "closed"
    assert fail(one, 0.0)

    busy = machine(failure_rate=0.5, minimum_calls=10)
    for _ in range(20):
        busy.record(busy.admit(0.0), "success", 0.0)
    assert not fail(busy, 0.0, 19)
    assert fail(busy, 0.0)


def test_a_success_never_opens_it():
    """Even the one that makes the calls enough: things get better just then."""
    one = machine(failure_rate=0.1, minimum_calls=5)
    fail(one, 0.0, 4)
    assert not one.record(one.admit(0.0), "success", 0.0)
    assert one.state == "closed"
    assert fail(one, 0.0)


def test_what_says_nothing_counts_for_nothing():
    """Neither as a call nor as a failure."""
    one = machine(minimum_calls=3)
    for _ in range(9):
        one.record(one.admit(0.0), "nothing", 0.0)
    assert not fail(one, 0.0, 2)
    assert one.calls == 2
    assert one.counts.ignored == 9


# Open, half-open, and closed again


def test_open_it_refuses_until_its_time_is_over():
    """It says how long that takes, and how many had failed."""
    one = opened()
    assert one.admit(4.0) == Refusal("open", 2, 6.0)
    assert one.admit(9.999).state == "open"
    assert type(one.admit(10.0)) is Ticket
    assert one.state == "half_open"
    assert one.counts.refused == 2


def test_half_open_it_lets_as_many_probes_through_as_it_may():
    """The next has its turn when one has come back, or was cancelled."""
    one = half_open(half_open_max_calls=2, success_threshold=9)
    first, second = one.admit(11.0), one.admit(11.0)
    assert one.admit(11.0) == Refusal("half_open", 2, None)
    one.record(first, "success", 12.0)
    third = one.admit(12.0)
    assert type(one.admit(12.0)) is Refusal
    one.record(second, "nothing", 12.0)
    assert type(one.admit(12.0)) is Ticket
    assert one.probes == 2
    assert third.probe != second.probe


def test_a_probe_that_fails_opens_it_for_its_whole_time_again():
    """At once, though others have succeeded before; it is never left half-open."""
    one = half_open(half_open_max_calls=5, success_threshold=3)
    tickets = [one.admit(11.0) for _ in range(5)]
    one.record(tickets[0], "success", 12.0)
    assert one.record(tickets[1], "failure", 13.0)
    assert one.state == "open"
    assert one.failures == 3
    assert one.admit(13.0).retry_after == 10.0
    assert one.changes[-1].reason == "a probe failed"


def test_it_closes_once_enough_probes_have_succeeded():
    """One after another if only one may be at work; then it counts anew."""
    one = half_open(success_threshold=3)
    for n in range(3):
        assert one.state == "half_open"
        one.record(one.admit(11.0 + n), "success", 11.0 + n)
    assert one.state == "closed"
    assert (one.calls, one.failures, one.opened_at()) == (0, 0, None)
    assert not fail(one, 14.0)
    assert fail(one, 14.0)


def test_what_comes_late_counts_no_more():
    """A call of before the last change moves nothing, whatever it was, and however late."""
    one = machine()
    hung = [one.admit(0.0) for _ in range(9)]
    fail(one, 0.0, 2)
    assert not one.record(hung[0], "failure", 1.0)
    assert one.admit(1.0).retry_after == 9.0
    probe = one.admit(10.0)
    one.record(hung[1], "success", 10.0)
    assert one.state == "half_open"
    one.record(hung[2], "failure", 10.0)
    assert one.state == "half_open"
    assert one.probes == 1
    one.record(probe, "success", 10.0)
    assert one.state == "closed"
    assert not any(one.record(ticket, "failure", 11.0) for ticket in hung[3:])
    assert one.state == "closed"
    assert one.failures == 0
    assert one.counts.failures == 10


def test_a_probe_of_the_last_try_counts_no_more_in_this_one():
    """Neither does it hold a place there."""
    one = half_open(half_open_max_calls=2)
    late, probe = one.admit(10.0), one.admit(10.0)
    one.record(probe, "failure", 11.0)
    assert one.look(21.0) == "half_open"
    assert one.probes == 0
    one.record(late, "success", 21.0)
    assert one.state == "half_open"


def test_a_probe_that_hangs_gives_up_its_place():
    """After `probe_timeout`, if there is one; what it says later still counts."""
    one = half_open(probe_timeout=5.0)
    hangs = one.admit(10.0)
    assert type(one.admit(14.9)) is Refusal
    assert type(one.admit(15.0)) is Ticket
    one.record(hangs, "success", 16.0)
    assert one.state == "closed"

    for_ever = half_open()
    for_ever.admit(10.0)
    assert type(for_ever.admit(1e9)) is Refusal


def test_a_reset_timeout_of_nothing_probes_at_once():
    """It is never seen open."""
    one = machine(reset_timeout=0)
    fail(one, 0.0, 2)
    assert type(one.admit(0.0)) is Ticket
    assert one.state == "half_open"


# By hand


def test_forced_open_it_stays_so_until_somebody_closes_it():
    """Whatever time passes, and whatever comes back."""
    one = machine()
    ticket = one.admit(0.0)
    one.command("force_open", 0.0)
    one.command("force_open", 5.0)
    assert one.admit(1e9) == Refusal("forced_open", 0, None)
    one.record(ticket, "success", 1e9)
    assert one.look(1e9) == "forced_open"
    assert one.opened_at() == 0.0
    one.command("force_close", 1e9)
    assert one.look(1e9) == "closed"
    assert [change.reason for change in one.changes] == ["force_open", "force_close"]


def test_a_call_let_through_elsewhere_does_not_move_one_forced_open():
    """Others may have let it through just before."""
    one = machine(failure_threshold=1)
    one.command("force_open", 0.0)
    ticket = one.take(0.0, False)
    assert not one.record(ticket, "failure", 0.0)
    assert not one.record(ticket, "success", 0.0)
    assert one.state == "forced_open"


def test_closed_by_hand_it_counts_anew():
    """Failures of before are forgotten, and so are calls that are still at work."""
    one = machine()
    fail(one, 0.0)
    ticket = one.admit(0.0)
    one.command("force_close", 1.0)
    assert not one.record(ticket, "failure", 1.0)
    assert not fail(one, 1.0)
    assert list(one.changes) == []
    assert one.counts.failures == 3


def test_reset_forgets_the_statistics_too():
    """It is as new."""
    one = opened()
    one.admit(1.0)
    one.command("reset", 2.0)
    assert one.state == "closed"
    assert one.failed_at() is None
    counts = one.counts
    assert (counts.successes, counts.failures, counts.refused, counts.opened) == (0, 0, 0, 0)


# The clock


def test_a_clock_that_goes_back_holds_nothing_up():
    """No time has passed meanwhile; what was waited already is not waited again."""
    one = opened()
    assert one.admit(4.0).retry_after == 6.0
    assert one.admit(-1e6).retry_after == 6.0
    assert one.opened_at() == -1e6 - 4.0
    assert one.admit(-1e6 + 5.9).retry_after == pytest.approx(0.1)
    assert type(one.admit(-1e6 + 6.1)) is Ticket


def test_a_clock_that_jumps_ahead_lets_a_probe_through():
    """That is all that can happen: it is half-open early, and failures are forgotten early."""
    one = opened()
    assert type(one.admit(1e9)) is Ticket
    assert type(one.admit(1e9)) is Refusal
    other = machine()
    fail(other, 0.0)
    assert not fail(other, 1e9)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_whatever_the_clock_does_it_never_waits_longer_than_it_says(moments):
    """The seconds until a probe never grow, and never are more than its time."""
    one = opened()
    last = 10.0
    for now in moments:
        answer = one.admit(now)
        if type(answer) is Ticket:
            return
        if answer.state == "half_open":
            continue
        assert 0.0 <= answer.retry_after <= last + 1e-6
        last = answer.retry_after


class Life(RuleBasedStateMachine):
    """Any life of a breaker, against what one would write down about it by hand."""

    settings_of_it = Settings(
        failure_threshold=3,
        window=20.0,
        window_calls=6,
        reset_timeout=10.0,
        half_open_max_calls=2,
        success_threshold=3,
    )

    def __init__(self):
        super().__init__()
        self.one, self.now = Machine(self.settings_of_it), 0
        self.at_work, self.tickets = [], []
        self.state, self.age, self.opened_at = "closed", 0, None
        self.window, self.good = [], 0

    @rule(seconds=st.integers(0, 12))
    def wait(self, seconds):
        self.now += seconds

    def moved(self, state):
        self.state, self.age, self.window, self.good = state, self.age + 1, [], 0
        self.opened_at = self.now if state == "open" else self.opened_at

    def time_passes(self):
        if self.state == "open" and self.now >= self.opened_at + 10:
            self.moved("half_open")

    @rule()
    def call(self):
        self.time_passes()
        ticket = self.one.admit(self.now)
        probes = sum(age == self.age for age, _ in self.at_work)
        let_through = self.state == "closed" or (self.state == "half_open" and probes < 2)
        assert (type(ticket) is Ticket) == let_through
        if let_through:
            self.at_work.append((self.age, ticket))

    @precondition(lambda self: self.at_work)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "failure", "nothing"]))
    def come_back(self, data, outcome):
        place = data.draw(st.integers(0, len(self.at_work) - 1))
        age, ticket = self.at_work.pop(place)
        before = self.age
        if age == self.age and outcome != "nothing":
            self.counts(outcome == "failure")
        opened = self.one.record(ticket, outcome, self.now)
        assert opened == (self.age != before and self.state == "open")

    def counts(self, failed):
        if self.state == "closed":
            self.window = [*self.window, (self.now, failed)][-6:]
            self.window = [one for one in self.window if one[0] > self.now - 20]
            if failed and sum(bad for _, bad in self.window) >= 3:
                self.moved("open")
        elif failed:
            self.moved("open")
        else:
            self.good += 1
            if self.good >= 3:
                self.moved("closed")

    @rule(command=st.sampled_from(["force_open", "force_close", "reset"]))
    def by_hand(self, command):
        self.one.command(command, self.now)
        if command != "force_open":
            self.moved("closed")
        elif self.state != "forced_open":
            self.moved("forced_open")

    @invariant()
    def agrees(self):
        self.time_passes()
        assert self.one.look(self.now) == self.state
        assert self.one.generation == self.age
        assert self.one.probes <= 2


TestLife = Life.TestCase
"""The machine decides as the model does, whatever happens in whatever order."""
