"""What cannot be made is put off after some failures, and tried again after a time."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources import (
    ResourceNotFoundError,
    ResourceRegistry,
    ResourceUnavailableError,
    get_resource,
)
from pocketflow_async.resources.breaker import CreationBreaker
from tests.resources.registry_kit import Making
from tracing.testing import FakeClock


def failing(number):
    return Making("x", errors=[ConnectionRefusedError("nobody there") for _ in range(number)])


async def asked(registry, times=1):
    """Ask for x that often; return the kinds of the errors, and None where there was none."""
    kinds = []
    for _ in range(times):
        try:
            await registry.get_resource("x")
            kinds.append(None)
        except Exception as error:
            kinds.append(type(error))
    return kinds


def test_seven_attempts_are_five_creations():
    """The sixth and the seventh are refused at once, with the words of the contract."""
    clock, making = FakeClock(), failing(100)

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making)
            kinds = await asked(registry, 7)
            with pytest.raises(ResourceNotFoundError) as caught:
                await registry.get_resource("x")
            return kinds, caught.value, registry.get_metrics()["resources"]["x"]

    kinds, error, figures = clock.run(main())

    assert kinds == [ConnectionRefusedError] * 5 + [ResourceUnavailableError] * 2
    assert making.begun == 5
    assert str(error).startswith("Circuit breaker open for resource: x")
    assert (error.retry_after, error.failures) == (30.0, 5)
    assert figures["circuit_breaker"]["state"] == "open"
    assert figures["circuit_breaker"]["failures"] == 5


def test_after_thirty_seconds_one_attempt_is_let_through():
    """It fails: thirty seconds again. It succeeds: all is forgotten."""
    clock, making = FakeClock(), failing(6)

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making)
            await asked(registry, 5)
            await asyncio.sleep(29.9)
            before = await asked(registry)
            await asyncio.sleep(0.1)
            probe = await asked(registry, 2)
            await asyncio.sleep(30)
            return before, probe, await asked(registry, 3), registry.get_metrics()

    before, probe, after, metrics = clock.run(main())

    assert before == [ResourceUnavailableError]
    assert probe == [ConnectionRefusedError, ResourceUnavailableError]
    assert after == [None, None, None]
    assert metrics["resources"]["x"]["circuit_breaker"]["state"] == "closed"
    assert metrics["resources"]["x"]["circuit_breaker"]["failures"] == 0


def test_the_threshold_is_in_the_metadata_and_outlives_cleanup():
    """Also the failures that were counted by then."""
    clock, making = FakeClock(), failing(100)

    async def main():
        registry = ResourceRegistry()
        registry.register_factory("x", making, metadata={"circuit_breaker_threshold": 2})
        kinds = await asked(registry)
        await registry.cleanup()
        kinds += await asked(registry, 2)
        await registry.cleanup()
        return kinds, registry.get_metrics()["resources"]["x"]["circuit_breaker"]

    kinds, breaker = clock.run(main())

    assert kinds == [ConnectionRefusedError, ConnectionRefusedError, ResourceUnavailableError]
    assert (breaker["state"], breaker["threshold"]) == ("open", 2)


def test_many_at_once_are_one_failure():
    """A thousand who wait for one creation count it once."""
    clock, making = FakeClock(), failing(100)
    making.seconds = 1

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making)
            await asyncio.gather(*(asked(registry) for _ in range(1000)))
            return registry.get_metrics()["resources"]["x"]["circuit_breaker"]["failures"]

    assert clock.run(main()) == 1


def test_a_probe_that_is_cancelled_lets_another_one_through():
    """It says nothing about the resource."""
    clock, making = FakeClock(), failing(5)

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making)
            await asked(registry, 5)
            await asyncio.sleep(30)
            making.seconds = 10
            task = asyncio.create_task(registry.get_resource("x"))
            await asyncio.sleep(1)
            state = registry.get_metrics()["resources"]["x"]["circuit_breaker"]["state"]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return state, await asked(registry)

    assert clock.run(main()) == ("half_open", [None])


def test_registering_again_starts_afresh():
    """The new factory has not failed yet."""
    clock = FakeClock()

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", failing(100))
            await asked(registry, 6)
            registry.register_factory("x", Making("x"))
            return await asked(registry)

    assert clock.run(main()) == [None]


def test_the_clock_of_a_registry_may_be_its_own():
    """The one that it is given goes before that of the context."""
    clock, making = FakeClock(), failing(5)

    async def main():
        async with ResourceRegistry(clock=clock) as registry:
            registry.register_factory("x", making)
            await asked(registry, 5)
            refused = await asked(registry)
            clock.advance(31)
            return refused + await asked(registry)

    assert asyncio.run(main()) == [ResourceUnavailableError, None]


def test_the_pause_is_in_the_metadata():
    """It is what `circuit_breaker_timeout` says, in seconds; the metrics tell it."""
    clock, making = FakeClock(), failing(2)
    metadata = {"circuit_breaker_threshold": 1, "circuit_breaker_timeout": 2.5}

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making, metadata=metadata)
            kinds = await asked(registry, 2)
            await asyncio.sleep(2.4)
            kinds += await asked(registry)
            await asyncio.sleep(0.1)
            kinds += await asked(registry)
            return kinds, registry.get_metrics()["resources"]["x"]["circuit_breaker"]["timeout"]

    refused = ResourceUnavailableError
    kinds, timeout = clock.run(main())

    assert kinds == [ConnectionRefusedError, refused, refused, ConnectionRefusedError]
    assert timeout == 2.5


@pytest.mark.parametrize("pause", [0, -1, float("inf"), float("nan"), "30", None, True])
def test_a_pause_that_is_none_is_refused(pause):
    """When the factory is registered; the name and the value are in the error."""
    with pytest.raises((TypeError, ValueError), match="circuit_breaker_timeout must be"):
        ResourceRegistry().register_factory("x", dict, metadata={"circuit_breaker_timeout": pause})


def test_the_refusal_tells_of_the_last_failure():
    """It is its cause, its words are in the text without secrets, and so are the seconds left."""
    clock = FakeClock()
    last = OSError("no route to redis://me:hidden@cache:6379/0, password=hidden")
    making = Making("x", errors=[ValueError("first"), last])

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making, metadata={"circuit_breaker_threshold": 2})
            await asked(registry, 2)
            await asyncio.sleep(10)
            with pytest.raises(ConnectionError) as caught:
                await registry.get_resource("x")
            return caught.value

    error = clock.run(main())

    assert isinstance(error, ResourceUnavailableError)
    assert error.__cause__ is last
    assert "OSError: no route to redis://***@cache:6379/0" in str(error)
    assert "tried again in 20.0 s" in str(error)
    assert "hidden" not in str(error)


def test_the_refusal_while_a_probe_is_made_says_so():
    """There are no seconds left then."""
    clock, making = FakeClock(), failing(1)

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", making, metadata={"circuit_breaker_threshold": 1})
            await asked(registry)
            await asyncio.sleep(31)
            made_by = registry._registered["x"]
            assert made_by.breaker.refuses(clock.monotonic()) is None
            with pytest.raises(ResourceUnavailableError, match="it is being tried right now"):
                await registry.get_resource("x")

    clock.run(main())


def test_the_refusal_can_be_sent_to_another_process():
    """Its words, seconds and count come along."""
    error = ResourceUnavailableError("x", 2.0, 5, OSError("gone"))

    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again)) == (ResourceUnavailableError, str(error))
    assert (again.name, again.retry_after, again.failures) == ("x", 2.0, 5)


def test_an_error_says_what_was_being_made():
    """Once, however often the same error comes and however many wait for it."""
    clock, error = FakeClock(), ValueError("no")

    def make():
        raise error

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("x", make)
            await asyncio.gather(*(asked(registry) for _ in range(10)))
            await asked(registry, 2)

    clock.run(main())

    assert error.__notes__ == ["while making resource 'x'"]


def test_an_error_says_what_all_was_being_made_of_it():
    """From the inside out, when a resource needs another one that cannot be made."""
    clock = FakeClock()

    async def outer():
        return await get_resource("inner")

    async def main():
        async with ResourceRegistry() as registry:
            registry.register_factory("inner", failing(1))
            registry.register_factory("outer", outer)
            with pytest.raises(ConnectionRefusedError) as caught:
                await registry.get_resource("outer")
            return caught.value.__notes__

    assert clock.run(main()) == ["while making resource 'inner'", "while making resource 'outer'"]


STEPS = st.lists(st.sampled_from(["ask", "fail", "succeed", "give up", "wait"]), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_the_breaker_decides_as_its_rules_say(steps, threshold):
    """Any order of events: it refuses within 30 s of the last of enough failures in a row."""
    breaker, now = CreationBreaker(threshold), 0.0
    failures, opened, is_probing, under_way = 0, None, False, 0
    for step in steps:
        if step == "wait":
            now += 16.0
        elif step == "ask":
            left = breaker.refuses(now)
            may = opened is None or (now - opened >= 30.0 and not is_probing)
            assert (left is None) is may
            assert left is None or 0 <= left <= 30.0
            if may:
                under_way += 1
                is_probing = opened is not None
        elif under_way:
            under_way -= 1
            is_probing = False
            if step == "fail":
                breaker.failed(now)
                failures += 1
                opened = now if failures >= threshold else opened
            elif step == "succeed":
                breaker.succeeded()
                failures, opened = 0, None
            else:
                breaker.gave_up()
        assert breaker.failures == failures
        assert breaker.state == (
            "closed" if opened is None else "half_open" if is_probing else "open"
        )
