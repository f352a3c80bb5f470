"""A breaker that shares its state, with answers as a test wants them: late, overtaken, or none."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.resilience import CircuitBreaker, CircuitBreakerOpen
from pocketflow_async.resilience.breaker_shared import Answer
from tests.resilience.breaker_kit import Service
from tracing.testing import FakeClock

CLOSED = Answer(True, False, False, "closed", "10", 0, None, "")
OPEN = Answer(False, False, True, "open", "11", 3, 0.0, "too many calls failed")
PROBE = Answer(True, True, False, "half_open", "12", 3, 60.0, "reset_timeout is over")


class Answers:
    """A shared state that gives what *answer* says, which may be changed, once it is let go."""

    is_async = True

    def __init__(self, answer=CLOSED):
        self.answer = answer
        self.asked = []
        self.go = asyncio.Event()
        self.go.set()

    async def aask(self, question):
        self.asked.append(question)
        answer = self.answer
        await self.go.wait()
        return answer

    def ask(self, question):
        raise AssertionError

    def verbs(self):
        return [(question.verb, question.outcome) for question in self.asked]


@pytest.fixture
def answers():
    return Answers()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def breaker(answers, heard):
    return CircuitBreaker("venue", shared=answers, on_event=heard.append, clock=FakeClock())


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_that_was_overtaken_changes_nothing_back(answers, breaker, heard):
    """What another call has been told later is newer, though it came earlier."""
    answers.go.clear()
    slow = asyncio.create_task(breaker.acall(Service().acall))
    await settle()
    answers.go, old = asyncio.Event(), answers.go
    answers.go.set()
    answers.answer = OPEN
    with pytest.raises(CircuitBreakerOpen):
        await breaker.acall(Service().acall)
    old.set()
    assert await slow == 1
    assert breaker.is_open
    assert [event.after for event in heard] == ["open"]


async def test_an_answer_to_a_question_of_before_does_not_undo_what_was_forced(answers, breaker):
    """It holds here at once, and goes out before the next question."""
    answers.go.clear()
    slow = asyncio.create_task(breaker.acall(Service().acall))
    await settle()
    breaker.force_open()
    answers.go.set()
    assert await slow == 1
    assert breaker.state == "forced_open"
    answers.answer = OPEN._replace(state="forced_open", generation="13", open_for=None)
    with pytest.raises(CircuitBreakerOpen):
        await breaker.acall(Service().acall)
    assert [question.verb for question in answers.asked][-2:] == ["command", "admit"]
    assert answers.asked[-2].command == "force_open"


async def test_a_cancelled_call_still_takes_its_answer_in(answers, breaker):
    """Cancelled while it says how it came out: that is said, and heard, all the same."""

    async def fails():
        answers.go.clear()
        answers.answer = OPEN
        raise ConnectionError

    task = asyncio.create_task(breaker.acall(fails))
    await settle()
    assert answers.verbs() == [("admit", "nothing"), ("record", "failure")]
    task.cancel()
    await settle()
    assert not task.done()
    answers.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert breaker.is_open
    assert breaker.statistics().failures_total == 1
    assert len(answers.asked) == 2


async def test_a_call_cancelled_twice_while_it_is_let_in_gives_its_place_back(answers, breaker):
    """Each time it waits for the answer, which is bounded, and then says so."""
    answers.answer = PROBE
    answers.go.clear()
    task = asyncio.create_task(breaker.acall(Service().acall))
    await settle()
    for _ in range(2):
        task.cancel()
        await settle()
    answers.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answers.verbs() == [("admit", "nothing"), ("record", "nothing")]
    assert answers.asked[0].call == answers.asked[1].call
    assert answers.asked[1].generation == "12"
    assert len(asyncio.all_tasks()) == 1


async def test_a_call_that_says_nothing_is_not_reported_unless_it_is_a_probe(answers, breaker):
    """One that is closed has nothing to give back."""
    with pytest.raises(ValueError, match="mine"):
        await breaker.acall(Service(ValueError("mine")).acall)
    assert answers.verbs() == [("admit", "nothing")]
    answers.answer = PROBE
    with pytest.raises(ValueError, match="mine"):
        await breaker.acall(Service(ValueError("mine")).acall)
    assert answers.verbs()[1:] == [("admit", "nothing"), ("record", "nothing")]
    assert breaker.statistics().probes == 0


async def test_a_probe_that_is_thrown_away_is_forgotten_here_without_asking(answers, breaker):
    """A coroutine that is closed cannot wait for anybody; its lease elsewhere runs out."""
    answers.answer = PROBE
    guard = breaker.guard()
    await guard.__aenter__()
    assert breaker.statistics().probes == 1
    await guard.__aexit__(GeneratorExit, GeneratorExit(), None)
    assert breaker.statistics().probes == 0
    assert answers.verbs() == [("admit", "nothing")]


async def test_without_an_answer_it_decides_alone_from_where_all_stood(answers, breaker, heard):
    """Here by what it has seen itself; the first answer decides again."""
    for _ in range(4):
        with pytest.raises(ConnectionError):
            await breaker.acall(Service(ConnectionError("down")).acall)
    assert breaker.is_closed
    answers.answer = None
    with pytest.raises(ConnectionError):
        await breaker.acall(Service(ConnectionError("down")).acall)
    assert breaker.is_open
    answers.answer = CLOSED
    assert await breaker.acall(Service().acall) == 1
    assert [event.after for event in heard] == ["open", "closed"]


async def test_whoever_watches_sees_whether_all_have_decided(answers, breaker):
    """Or this process alone."""
    guards = []
    for answers.answer in (CLOSED, None):
        guard = breaker.guard()
        guard._facts = {}
        async with guard:
            pass
        guards.append(guard._facts["flow.breaker.shared"])
    assert guards == [True, False]


async def test_an_error_of_the_shared_state_is_no_refusal(answers, breaker):
    """It comes as it is, since such a state has to answer or say that it cannot."""

    async def broken(question):
        raise ZeroDivisionError

    answers.aask = broken
    service = Service()
    with pytest.raises(ZeroDivisionError):
        await breaker.acall(service.acall)
    assert service.calls == 0
