"""`Batch`: what it decides to be due, whatever is added, taken and put back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pocketflow_async.resilience.batching import AGED, FORCED, FULL, Batch


def shown(dues):
    return [(due.reason, due.items) for due in dues]


def test_full_batches_are_due_at_once_and_the_rest_with_age():
    """In the order in which the items came; the age is that of the oldest."""
    batch = Batch(2, 10.0)
    batch.extend([1, 2, 3], 0.0)
    batch.add(4, 1.0)
    batch.add(5, 2.0)

    assert batch.due_at() == -math.inf
    assert shown(batch.take(2.0)) == [(FULL, [1, 2]), (FULL, [3, 4])]
    assert batch.due_at() == 12.0
    assert batch.take(11.9) == []
    assert shown(batch.take(12.0)) == [(AGED, [5])]
    assert batch.due_at() == math.inf


def test_force_takes_all():
    """What is too old by then is so for that reason."""
    batch = Batch(2, 10.0)
    batch.extend([1, 2, 3], 0.0)
    assert shown(batch.take(1.0, force=True)) == [(FULL, [1, 2]), (FORCED, [3])]

    batch.add(4, 2.0)
    assert shown(batch.take(12.0, force=True)) == [(AGED, [4])]
    assert batch.take(13.0, force=True) == []


def test_what_is_put_back_stays_together():
    """It is due after the interval, or soon, or when forced, or reclaimed; once."""
    batch = Batch(2, 10.0)
    batch.extend([1, 2, 3, 4], 0.0)
    first, second = batch.take(0.0)
    batch.put_back(first, 1.0)
    batch.put_back(second, 1.0, soon=True)
    batch.add(5, 1.0)

    assert (len(batch), batch.failed) == (5, 4)
    assert batch.due_at() == 1.0
    assert shown(batch.take(1.0)) == [(AGED, [3, 4])]
    assert batch.due_at() == 11.0
    assert batch.reclaim(first)
    assert not batch.reclaim(first)
    batch.put_back(first, 2.0)
    assert shown(batch.take(3.0, force=True)) == [(FORCED, [1, 2]), (FORCED, [5])]
    assert (len(batch), batch.failed) == (0, 0)


def test_without_an_interval_only_number_and_force_count():
    """What is put back is due with whatever is taken next, but not by itself."""
    batch = Batch(2, None)
    batch.extend([1, 2, 3], 0.0)
    (due,) = batch.take(0.0)
    batch.put_back(due, 0.0)

    assert batch.due_at() == math.inf
    assert shown(batch.take(1e9)) == [(FULL, [1, 2])]
    assert shown(batch.take(1e9, force=True)) == [(FORCED, [3])]


def test_when_time_goes_back_nothing_gets_any_younger():
    """As with another clock: what was to be due in 4 s still is."""
    batch = Batch(9, 10.0)
    batch.add(1, 1000.0)
    assert batch.take(1006.0) == []
    assert batch.take(3.0) == []

    assert batch.due_at() == 7.0
    assert shown(batch.take(7.0)) == [(AGED, [1])]


def test_items_can_be_withdrawn():
    """One that waits, the first of its kind; not one that was put back."""
    batch = Batch(3, 10.0)
    batch.add("a", 0.0)
    batch.add("b", 5.0)

    assert batch.discard("a")
    assert not batch.discard("a")
    assert batch.due_at() == 15.0
    assert shown(batch.take(15.0)) == [(AGED, ["b"])]


def test_clear_forgets_all():
    """Also what was put back."""
    batch = Batch(1, 10.0)
    batch.add(1, 0.0)
    (due,) = batch.take(0.0)
    batch.put_back(due, 0.0)
    batch.add(2, 0.0)
    batch.clear()

    assert (len(batch), batch.failed, batch.due_at()) == (0, 0, math.inf)
    assert batch.take(100.0, force=True) == []


@pytest.mark.parametrize(
    ("size", "interval", "error"),
    [
        (0, 1.0, ValueError),
        (True, 1.0, TypeError),
        (1.5, 1.0, TypeError),
        (1, 0, ValueError),
        (1, -1, ValueError),
        (1, math.inf, ValueError),
        (1, math.nan, ValueError),
        (1, "1", TypeError),
    ],
)
def test_what_cannot_be_is_refused(size, interval, error):
    """At once, with the name."""
    with pytest.raises(error, match=r"^(size|interval) must be"):
        Batch(size, interval)


class Machine(RuleBasedStateMachine):
    """Adds, takes, puts back and reclaims at random, and keeps its own books."""

    def __init__(self):
        super().__init__()
        self.batch = Batch(3, 10.0)
        self.now = 0.0
        self.number = 0
        self.since = {}
        self.out = []
        self.back = []
        self.done = set()

    @rule(seconds=st.integers(0, 12))
    def wait(self, seconds):
        self.now += seconds

    @rule(count=st.integers(0, 7))
    def add(self, count):
        items = range(self.number, self.number + count)
        self.number += count
        self.batch.extend(items, self.now)
        self.since |= dict.fromkeys(items, self.now)

    @rule(force=st.booleans())
    def take(self, force):
        for due in self.batch.take(self.now, force=force):
            assert 0 < len(due.items) <= 3
            assert due.items == sorted(due.items)
            if due in self.back:
                self.back.remove(due)
            elif due.reason == FULL:
                assert len(due.items) == 3
            elif due.reason == AGED:
                assert self.now - self.since[due.items[0]] >= 10
            else:
                assert force
            self.out.append(due)
        if force:
            assert len(self.batch) == 0

    @precondition(lambda self: self.out)
    @rule(soon=st.booleans(), data=st.data())
    def put_back(self, soon, data):
        due = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.back.append(due)
        self.batch.put_back(due, self.now, soon=soon)

    @precondition(lambda self: self.back)
    @rule(data=st.data())
    def reclaim(self, data):
        due = self.back.pop(data.draw(st.integers(0, len(self.back) - 1)))
        assert self.batch.reclaim(due)
        self.out.append(due)

    @precondition(lambda self: self.out)
    @rule()
    def process(self):
        items = self.out.pop().items
        assert not self.done & set(items)
        self.done |= set(items)

    @invariant()
    def nothing_is_lost_or_doubled(self):
        out = sum(len(due.items) for due in self.out)
        assert len(self.batch) + out + len(self.done) == self.number
        assert self.batch.failed == sum(len(due.items) for due in self.back)

    @invariant()
    def what_is_due_is_taken_at_that_moment(self):
        at = self.batch.due_at()
        assert (at == math.inf) == (len(self.batch) == 0)

    def teardown(self):
        self.take(force=True)
        items = [item for due in self.out for item in due.items]
        assert sorted([*items, *self.done]) == list(range(self.number))


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=40), st.integers(1, 5))
def test_nothing_waits_longer_than_the_interval(steps, size):
    """Whoever takes at each `due_at` has every item within its interval, and in order."""
    batch, now, taken, since = Batch(size, 3.0), 0.0, [], {}
    for number, (gap, count) in enumerate(steps):
        until = now + gap
        while (at := batch.due_at()) <= until:
            now = max(now, at)
            for due in batch.take(now):
                assert all(now - since[item] <= 3.0 for item in due.items)
                taken += due.items
        now = until
        items = [(number, place) for place in range(count)]
        since |= dict.fromkeys(items, now)
        batch.extend(items, now)
    taken += [item for due in batch.take(now, force=True) for item in due.items]

    assert taken == list(since)
