"""What all policies have in common: around which calls they go, and what is told of it."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial

import pytest

from pocketflow_async.clock import Clock, using_clock
from pocketflow_async.hooks import guarding, observing
from pocketflow_async.resilience import Policies, Policy, compose
from pocketflow_async.resilience.errors import (
    BatcherClosed,
    BulkheadFull,
    CallTimeoutError,
    CircuitBreakerOpen,
    RateLimitExceeded,
    ResilienceError,
)
from tests.resilience.policy_kit import watching
from tracing.testing import FakeClock


class Noting(Policy):
    """Notes its name before and after each call."""

    kind = "noting"

    def __init__(self, log, name=None, *, clock=None):
        super().__init__(name, clock=clock)
        self.log = log

    async def _acall(self, call, facts):
        self._before(facts)
        try:
            return await call()
        finally:
            self.log.append(f"-{self.name}")

    def _call(self, call, facts):
        self._before(facts)
        try:
            return call()
        finally:
            self.log.append(f"-{self.name}")

    def _before(self, facts):
        self.log.append(f"+{self.name}")
        if facts is not None:
            facts["flow.noting.time"] = self._time().monotonic()


@pytest.fixture
def log():
    return []


@pytest.fixture
def policy(log):
    return Noting(log, "one")


class Service:
    """Methods of all kinds."""

    def __init__(self, log):
        self.log = log

    def plain(self, x):
        self.log.append("plain")
        return x

    async def awaited(self, x):
        self.log.append("awaited")
        return x

    async def __call__(self, x):
        self.log.append("called")
        return x


async def test_an_async_function_stays_one(policy, log):
    """It has its name, its words and its signature, and is awaited inside the policy."""

    @policy
    async def double(x: int, *, times: int = 2) -> int:
        """Double it."""
        await asyncio.sleep(0)
        log.append("double")
        return x * times

    assert inspect.iscoroutinefunction(double)
    assert (double.__name__, double.__doc__) == ("double", "Double it.")
    assert str(inspect.signature(double)) == "(x: 'int', *, times: 'int' = 2) -> 'int'"
    assert await double(3, times=5) == 15
    assert log == ["+one", "double", "-one"]


def test_a_plain_function_stays_one(policy, log):
    """It needs no event loop."""

    @policy
    def double(x):
        log.append("double")
        return x * 2

    assert not inspect.iscoroutinefunction(double)
    assert double(3) == 6
    assert log == ["+one", "double", "-one"]


async def test_methods_can_be_decorated(policy, log):
    """Plain ones, static ones and those of the class, in either order of the decorators."""

    class Guarded:
        @policy
        async def method(self, x):
            return (type(self).__name__, x)

        @policy
        @staticmethod
        async def static(x):
            return x

        @staticmethod
        @policy
        async def also_static(x):
            return x

        @policy
        @classmethod
        async def of_class(cls, x):
            return (cls.__name__, x)

        @classmethod
        @policy
        def plain_of_class(cls, x):
            return (cls.__name__, x)

    guarded = Guarded()
    assert await guarded.method(1) == ("Guarded", 1)
    assert await guarded.static(2) == await Guarded.static(2) == 2
    assert await guarded.also_static(3) == 3
    assert await guarded.of_class(4) == ("Guarded", 4)
    assert guarded.plain_of_class(5) == ("Guarded", 5)
    assert log == ["+one", "-one"] * 6


async def test_whatever_can_be_called_can_be_decorated(policy, log):
    """Bound methods, partials of partials, and objects: what is async is found out."""
    service = Service(log)
    for function in (service.awaited, partial(partial(service.awaited)), service, partial(service)):
        guarded = policy(function)
        assert inspect.iscoroutinefunction(guarded)
        assert await guarded(1) == 1
    assert policy(service.plain)(1) == 1
    assert policy(partial(service.plain, 2))() == 2
    assert policy(int)("3") == 3


def test_what_is_no_function_is_refused(policy, log):
    """Generators too, since the work of one is not done in one call; and other policies."""

    def numbers():
        yield 1

    async def more():
        yield 1

    for wrong in (numbers, more, partial(more)):
        with pytest.raises(TypeError, match="noting cannot go around the generator"):
            policy(wrong)
    with pytest.raises(TypeError, match="noting goes around a function, not 3"):
        policy(3)
    with pytest.raises(TypeError, match="for policies there is compose"):
        policy(Noting(log))


def test_a_coroutine_is_nothing_for_a_plain_call(policy):
    """The error says what to do, and Python does not complain about the coroutine."""

    async def awaited():
        return 1

    said = "awaited returned a coroutine: use acall, or make it `async def`"
    for call in (policy.call, compose(policy).call, compose().call, policy(lambda: awaited())):
        with pytest.raises(TypeError) as caught:
            call(awaited) if call.__name__ == "call" else call()
        assert said in str(caught.value) or "lambda" in str(caught.value)


async def test_several_are_one_from_the_outside_in(log):
    """As a decorator, with calls of both colours, one inside another; none at all is one too."""
    policies = compose(Noting(log, "a"), compose(Noting(log, "b")), Noting(log, "c"))

    async def awaited():
        log.append("work")
        return 1

    assert await policies.acall(awaited) == 1
    around = ["+a", "+b", "+c", "work", "-c", "-b", "-a"]
    assert log == around
    log.clear()
    assert policies.call(lambda: log.append("work")) is None
    assert log == around
    log.clear()
    assert await policies(awaited)() == 1
    assert log == around
    assert await compose().acall(awaited) == compose().call(lambda: 1) == 1
    assert isinstance(policies, Policies)


def test_only_policies_are_put_together(policy):
    """The error shows what is none."""
    with pytest.raises(TypeError, match="a policy is needed, not 3"):
        compose(policy, 3)
    with pytest.raises(TypeError, match="a policy is needed"):
        compose(Noting)


def test_names_are_texts(log):
    """Without one, the kind is the name."""
    assert Noting(log).name == "noting"
    assert Noting(log, "mine").name == "mine"
    with pytest.raises(TypeError, match="name must be a text, not 3"):
        Noting(log, 3)


@pytest.mark.parametrize("colour", ["async", "sync"])
def test_a_watched_call_is_a_step(log, colour):
    """Of kind `policy`, with the facts that it ends with; policies inside are steps inside."""
    policies = compose(Noting(log, "outer"), Noting(log, "inner"))

    async def awaited():
        return 1

    with watching() as seen:
        if colour == "async":
            asyncio.run(policies.acall(awaited))
        else:
            policies.call(lambda: 1)

    assert [(kind, name) for kind, name, _ in seen] == [("policy", "inner"), ("policy", "outer")]
    for _, _, facts in seen:
        assert facts["flow.policy"] == "noting"
        assert "flow.noting.time" in facts


async def test_what_a_call_raises_comes_as_it_is_watched_or_not(policy):
    """The same object, and so does being cancelled."""
    error = KeyError("x")

    async def failing():
        raise error

    def plain():
        raise error

    async def main():
        for call in (
            partial(policy.acall, failing),
            partial(asyncio.to_thread, policy.call, plain),
        ):
            with pytest.raises(KeyError) as caught:
                await call()
            assert caught.value is error
        task = asyncio.create_task(policy.acall(asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await main()
    with watching():
        await main()


async def test_an_observer_that_fails_is_not_noticed(policy, caplog):
    """The call has its result; and gates are not asked, since a policy is no step of a flow."""

    def failing(step):
        raise ValueError("observer")

    def gate(step):
        raise ValueError("gate")

    async def one():
        return 1

    with observing(failing), guarding(gate):
        assert await policy.acall(one) == 1
        assert policy.call(lambda: 2) == 2
    assert "the observer" in caplog.text


def test_its_time_is_its_own_or_that_of_the_context(log):
    """A clock that was given wins over the one around."""
    mine, around = FakeClock(), FakeClock()
    mine.advance(5)
    around.advance(7)
    with using_clock(around), watching() as seen:
        Noting(log, clock=mine).call(lambda: 1)
        Noting(log).call(lambda: 1)

    assert [facts["flow.noting.time"] for *_, facts in seen] == [5, 7]
    assert isinstance(Noting(log)._time(), Clock)


def test_a_policy_has_both_colours():
    """One that leaves one out cannot be made."""

    class Half(Policy):
        async def _acall(self, call, facts):
            return await call()

    with pytest.raises(TypeError, match="_call"):
        Half()


@pytest.mark.parametrize(
    "error",
    [
        CallTimeoutError(1.5),
        CircuitBreakerOpen("api", 3, retry_after=2.0),
        RateLimitExceeded("api", 2.0),
        BulkheadFull("api", 3, 4),
        BatcherClosed("b"),
    ],
)
def test_errors_can_be_copied_and_pickled(error):
    """With their text and all that they know."""
    import copy
    import pickle

    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert isinstance(twin, ResilienceError)
        assert (str(twin), vars(twin)) == (str(error), vars(error))
