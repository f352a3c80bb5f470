"""Health checks of a registry: seldom, by one for all, outside of everything, and replaced."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from pocketflow_async.resources import (
    HealthState,
    HealthStatus,
    ResourceFactory,
    ResourceNotFoundError,
    ResourceRegistry,
    create_composite_health_check,
)
from tests.resources.registry_kit import Making, until
from tracing.testing import FakeClock


class Check:
    """A check that counts; it says what is in `says`."""

    def __init__(self, says=True, seconds=0.0):
        self.says = says
        self.seconds = seconds
        self.asked = []

    async def __call__(self, resource):
        self.asked.append(resource)
        await asyncio.sleep(self.seconds)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def with_check(check, making=None, **options):
    registry = ResourceRegistry(**options)
    registry.register_factory("x", making or Making("x"), health_check=check)
    return registry


def test_a_resource_is_asked_once_in_the_interval():
    """Not when it is made, not within five seconds, and then once again."""
    clock, check = FakeClock(), Check()

    async def main():
        async with with_check(check) as registry:
            counts = []
            for seconds in (0, 4.9, 0.1, 0, 4.9, 5.1):
                await asyncio.sleep(seconds)
                await registry.get_resource("x")
                counts.append(len(check.asked))
            return counts

    assert clock.run(main()) == [0, 0, 1, 1, 1, 2]


async def test_fifty_at_once_wait_for_one_check():
    """They take as long as one check takes, not fifty times that."""
    check = Check(seconds=0.001)
    async with with_check(check, health_interval=0) as registry:
        await registry.get_resource("x")
        found = await asyncio.gather(*(registry.get_resource("x") for _ in range(50)))

    assert len(set(map(id, found))) == 1
    assert len(check.asked) == 1


async def test_a_check_holds_up_no_other_resource():
    """While one is asked, others are handed out."""
    gate = asyncio.Event()

    async def check(resource):
        await gate.wait()
        return True

    async with with_check(check, health_interval=0) as registry:
        registry.register_factory("y", Making("y"))
        await registry.get_resource("x")
        waiting = asyncio.create_task(registry.get_resource("x"))
        await asyncio.sleep(0)
        assert (await registry.get_resource("y")).name == "y"
        gate.set()
        await waiting


SAYING_NO = [False, 0, "", HealthStatus.unhealthy("no"), HealthState.UNHEALTHY, OSError("cut")]
SAYING_YES = [
    True,
    1,
    None,
    HealthStatus.healthy(),
    HealthStatus.degraded("slow"),
    HealthState.DEGRADED,
]


@pytest.mark.parametrize("says", SAYING_NO, ids=lambda one: repr(one).partition(", timestamp")[0])
async def test_what_is_not_well_is_replaced(says):
    """The old one is closed; each kind of no is counted, also one that is not raised."""
    making, check = Making("x"), Check(says)
    async with with_check(check, making, health_interval=0) as registry:
        old = await registry.get_resource("x")
        new = await registry.get_resource("x")
        await until(lambda: not old.is_open)

        assert new is not old
        assert len(check.asked) == 1  # the new one has just been made
        figures = registry.get_metrics()["resources"]["x"]
        assert (figures["health_failures"], figures["recreations"]) == (1, 1)


@pytest.mark.parametrize("says", SAYING_YES, ids=lambda one: repr(one).partition(", timestamp")[0])
async def test_what_is_well_stays(says):
    """A degraded resource can be used; a check without an answer had no objection."""
    async with with_check(Check(says), health_interval=0) as registry:
        assert await registry.get_resource("x") is await registry.get_resource("x")


async def test_what_is_not_well_stays_open_while_it_is_used():
    """The lease keeps it; others get the new one."""
    check = Check(False)
    async with with_check(check, health_interval=0) as registry, registry.lease("x") as old:
        new = await registry.get_resource("x")
        await asyncio.sleep(0.001)

        assert (old.is_open, new.is_open, new is old) == (True, True, False)


@pytest.mark.parametrize(
    "kind", [lambda check: lambda x: check(x), lambda check: partial(check), lambda check: check]
)
async def test_a_function_that_returns_a_coroutine_is_awaited(kind):
    """A lambda around an asynchronous check says what that says, and not yes to all."""
    async with with_check(kind(Check(False)), health_interval=0) as registry:
        old = await registry.get_resource("x")
        assert await registry.get_resource("x") is not old


async def test_a_plain_function_is_asked_in_a_thread():
    """It may block: the loop goes on."""
    threads = []

    def check(resource):
        threads.append(threading.current_thread())
        return True

    async with with_check(check, health_interval=0) as registry:
        await registry.get_resource("x")
        await registry.get_resource("x")

    assert threads
    assert threads[0] is not threading.current_thread()


def test_a_check_that_takes_too_long_says_no():
    """Who waits for it has a new resource after that time."""
    clock, check = FakeClock(), Check(seconds=3600)

    async def main():
        async with with_check(check, health_interval=0, health_timeout=3) as registry:
            old = await registry.get_resource("x")
            began = clock.monotonic()
            new = await registry.get_resource("x")
            assert new is not old
            return clock.monotonic() - began

    assert clock.run(main()) == pytest.approx(3.0)


async def test_a_check_in_a_thread_that_hangs_holds_nobody_up():
    """The new resource is there although the thread has not come back."""
    leave = threading.Event()

    def check(resource):
        leave.wait(10)
        return True

    async with with_check(check, health_interval=0, health_timeout=0.01) as registry:
        old = await registry.get_resource("x")
        assert await registry.get_resource("x") is not old
        leave.set()


async def test_who_is_cancelled_during_a_check_ends_it_for_nobody_else():
    """The last one ends it, and the next one asks anew."""
    gate, cancelled = asyncio.Event(), []

    async def check(resource):
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return True

    async with with_check(check, health_interval=0) as registry:
        thing = await registry.get_resource("x")
        first, second = [asyncio.create_task(registry.get_resource("x")) for _ in range(2)]
        await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.sleep(0.001)
        assert not cancelled
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await until(lambda: cancelled)
        gate.set()
        assert await registry.get_resource("x") is thing


async def test_the_factory_can_check_its_resource():
    """Where no check was registered; one that was goes first."""

    class Factory(ResourceFactory):
        def __init__(self):
            self.asked = 0

        async def create(self):
            return object()

        async def check(self, resource):
            self.asked += 1
            return self.asked < 2

    factory = Factory()
    async with ResourceRegistry(health_interval=0) as registry:
        registry.register_factory("x", factory)
        first = await registry.get_resource("x")
        assert await registry.get_resource("x") is first
        assert await registry.get_resource("x") is not first
        registry.register_factory("x", factory, health_check=Check())
        await registry.get_resource("x")
        await registry.get_resource("x")
    assert factory.asked == 2


# Asking how a resource is.


async def test_check_health_asks_at_once():
    """Whatever the interval; what is not well is replaced at the next use."""
    check = Check()
    async with with_check(check) as registry:
        thing = await registry.get_resource("x")
        well = await registry.check_health("x")
        check.says = HealthStatus.degraded("slow", {"lag": 3})
        slow = await registry.check_health("x")
        check.says = ConnectionError("gone")
        broken = await registry.check_health("x")

        assert (well["status"], well["state"]) == ("healthy", "healthy")
        assert (slow["status"], slow["state"], slow["message"]) == ("healthy", "degraded", "slow")
        assert slow["details"] == {"lag": 3}
        assert (broken["status"], broken["message"]) == (
            "unhealthy",
            "Health check failed: ConnectionError: gone",
        )
        assert len(check.asked) == 3
        assert await registry.get_resource("x") is not thing


async def test_check_health_makes_what_is_not_there():
    """That it cannot be made is an answer; that nobody can make it is an error."""
    async with ResourceRegistry() as registry:
        registry.register_factory("x", Making("x"))
        registry.register_factory(
            "y",
            Making("y", errors=[OSError("no"), OSError("no")]),
            metadata={"circuit_breaker_threshold": 2},
        )
        answers = [await registry.check_health(name) for name in "xyyy"]

        assert [answer["status"] for answer in answers] == ["healthy", *["unhealthy"] * 3]
        assert answers[1]["message"] == "It cannot be made: OSError: no"
        assert answers[3]["message"].startswith("Circuit breaker open for resource: y")
        assert answers[3]["details"]["retry_after"] == pytest.approx(30, abs=1)
        with pytest.raises(ResourceNotFoundError):
            await registry.check_health("z")


async def test_a_check_of_parts():
    """The example of the composite check: lambdas that return coroutines."""
    database, cache = Check(), Check()
    check = create_composite_health_check(lambda it: database(it), lambda it: cache(it))
    async with with_check(check) as registry:
        assert (await registry.check_health("x"))["message"] == "All health checks passed"
        cache.says = HealthStatus.degraded("slow cache")
        assert (await registry.check_health("x"))["message"] == "slow cache"
        database.says = False
        assert (await registry.check_health("x"))["status"] == "unhealthy"
        assert len(cache.asked) == 2  # the first no ends it
