"""An answer means one thing, nothing is given up but what the content is blamed for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing.export.model import Answer
from tracing.export.verdict import Backoff, Kind, Verdict, judge

ANSWERS = st.builds(
    Answer,
    st.none() | st.integers(100, 599),
    st.text(max_size=5),
    st.none() | st.floats(0, 10_000),
    st.integers(0, 9),
    st.booleans(),
)
VERDICTS = st.builds(
    Verdict, st.sampled_from(Kind), retry_after=st.none() | st.floats(-5, 1e9, allow_nan=False)
)


@pytest.mark.parametrize(
    ("status", "many", "one"),
    [
        (200, Kind.DONE, Kind.DONE),
        (204, Kind.DONE, Kind.DONE),
        (None, Kind.RETRY, Kind.RETRY),
        (301, Kind.RETRY, Kind.RETRY),
        (400, Kind.SPLIT, Kind.POISON),
        (401, Kind.REFUSED, Kind.REFUSED),
        (403, Kind.REFUSED, Kind.REFUSED),
        (404, Kind.REFUSED, Kind.REFUSED),
        (405, Kind.REFUSED, Kind.REFUSED),
        (407, Kind.REFUSED, Kind.REFUSED),
        (408, Kind.RETRY, Kind.RETRY),
        (413, Kind.SPLIT, Kind.POISON),
        (415, Kind.REFUSED, Kind.REFUSED),
        (422, Kind.SPLIT, Kind.POISON),
        (429, Kind.RETRY, Kind.RETRY),
        (500, Kind.RETRY, Kind.RETRY),
        (501, Kind.RETRY, Kind.RETRY),
        (502, Kind.RETRY, Kind.RETRY),
        (503, Kind.RETRY, Kind.RETRY),
        (504, Kind.RETRY, Kind.RETRY),
    ],
)
def test_statuses(status, many, one):
    """What each status means for many spans and for one."""
    assert judge(Answer(status), 2).kind is many
    assert judge(Answer(status), 1).kind is one


def test_a_positive_answer_that_no_receiver_gives_is_tried_again():
    """A captive portal that says 200 to everything has not taken the spans."""
    assert judge(Answer(200, "<html>", valid=False), 5).kind is Kind.RETRY


@given(ANSWERS, st.integers(1, 5000))
def test_only_blamed_content_is_given_up(answer, spans):
    """A single span is set aside for 400, 413 and 422 alone, and a batch never is."""
    verdict = judge(answer, spans)

    if verdict.kind is Kind.POISON:
        assert spans == 1
        assert answer.status in (400, 413, 422)
    if verdict.kind is Kind.DONE:
        assert answer.valid
        assert answer.status is not None
        assert 200 <= answer.status < 300
    assert (verdict.why, verdict.retry_after) == (answer.said, answer.retry_after)
    assert verdict.rejected == (answer.rejected if verdict.kind is Kind.DONE else 0)


@given(st.integers(2, 600), st.data())
def test_splitting_ends_at_the_spans_that_are_to_blame(spans, data):
    """Halving what is refused reaches each bad span, and takes all the others."""
    bad = data.draw(st.sets(st.integers(0, spans - 1), max_size=5))
    waiting, taken, poisoned = [list(range(spans))], set[int](), set[int]()
    while waiting:
        batch = waiting.pop()
        verdict = judge(Answer(400 if bad & set(batch) else 200), len(batch))
        if verdict.kind is Kind.SPLIT:
            middle = len(batch) // 2
            waiting += [batch[:middle], batch[middle:]]
        else:
            (taken if verdict.kind is Kind.DONE else poisoned).update(batch)

    assert poisoned == bad
    assert taken == set(range(spans)) - bad


@given(VERDICTS, st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_waits_are_bounded_and_obey_the_server(verdict, failures, dice):
    """No wait is over what the policy allows, none under what the server asked within reason."""
    wait = Backoff(random=dice.random).wait(verdict, failures)

    asked = min(max(verdict.retry_after or 0, 0), 300)
    if verdict.kind is Kind.REFUSED:
        assert wait == max(60, asked)
    elif verdict.kind is Kind.RETRY:
        bound = min(60, 2.0 ** min(max(failures - 1, 0), 10))
        assert asked <= wait <= max(asked, bound)
    else:
        assert wait == 0


def test_jitter_uses_the_whole_range():
    """A thousand processes whose target comes back do not all knock at once."""
    dice = random.Random(7)
    waits = [Backoff(random=dice.random).wait(Verdict(Kind.RETRY), 4) for _ in range(1000)]

    assert min(waits) < 0.1
    assert 7.9 < max(waits) <= 8
    assert 3.7 < sum(waits) / 1000 < 4.3


def test_waits_leave_the_random_numbers_of_the_program_alone():
    """What a program draws after `random.seed` does not depend on how often we had to wait."""
    import random

    random.seed(7)
    expected = random.random()
    random.seed(7)
    Backoff().wait(Verdict(Kind.RETRY), 3)

    assert random.random() == expected
