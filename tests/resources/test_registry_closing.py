"""How a registry closes: in reverse order, through errors, cancellation and slowness."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pocketflow_async.resources import ResourceCreationError, ResourceFactory, ResourceRegistry
from tests.resources.registry_kit import Making, Thing, until
from tracing.testing import FakeClock


async def opened(registry, log, *names):
    """Register and open things of these *names*, in that order."""
    makings = [Making(name, log) for name in names]
    for making in makings:
        registry.register_factory(making.name, making)
        await registry.get_resource(making.name)
    return makings


async def test_the_last_made_is_closed_first():
    """One after the other, in reverse order of creation, not of registration."""
    log = []
    registry = ResourceRegistry()
    for name in "abc":
        registry.register_factory(name, Making(name, log))
    for name in "cab":
        await registry.get_resource(name)
    await registry.cleanup()

    assert log == ["close b", "close a", "close c"]


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError(), asyncio.CancelledError()])
async def test_errors_of_one_leave_the_others_closed(caplog, error):
    """They are logged, by the name of the resource, and raised to nobody."""
    log = []

    async def failing(thing):
        log.append("failing")
        raise error

    registry = ResourceRegistry()
    registry.register_factory("a", Making("a", log))
    registry.register_factory("b", Making("b", log), cleanup_handler=failing)
    registry.register_factory("c", Making("c", log))
    for name in "abc":
        await registry.get_resource(name)
    await registry.cleanup()

    assert [log[0], log[-1]] == ["close c", "close a"]
    assert "closing resource 'b': " in caplog.text
    assert registry.get_metrics()["resources"]["b"]["close_failures"] == 1


async def test_the_block_may_be_left_by_an_error():
    """All is closed, and the error goes on."""
    registry = ResourceRegistry()
    with pytest.raises(ValueError, match="mine"):
        async with registry:
            (making,) = await opened(registry, [], "a")
            raise ValueError("mine")

    assert not making.open


def test_slow_closing_is_given_up_after_a_time(caplog):
    """It is cancelled and terminated, and the others are closed; nobody waits for ever."""
    log, clock = [], FakeClock()

    class Slow(ResourceFactory):
        async def create(self):
            return Thing(log, "slow")

        async def close(self, resource):
            await asyncio.sleep(3600)

        def terminate(self, resource):
            log.append("terminate slow")

    async def main():
        registry = ResourceRegistry(close_timeout=10)
        registry.register_factory("a", Making("a", log))
        registry.register_factory("slow", Slow())
        await registry.get_resource("a")
        await registry.get_resource("slow")
        await registry.cleanup()

    clock.run(main())

    assert log == ["terminate slow", "close a"]
    assert clock.monotonic() == pytest.approx(10.0)
    assert "closing resource 'slow': it took longer than 10 s" in caplog.text


def test_closing_that_cannot_even_be_cancelled_is_left_behind():
    """It holds nobody up for longer than twice the time."""
    clock, leave = FakeClock(), []

    async def stubborn(thing):
        while not leave:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    async def main():
        registry = ResourceRegistry(close_timeout=10)
        registry.register_factory("a", Making("a"), cleanup_handler=stubborn)
        await registry.get_resource("a")
        await registry.cleanup()
        took = clock.monotonic()
        leave.append(1)
        await asyncio.sleep(2)
        return took

    assert clock.run(main()) == pytest.approx(20.0)


async def test_a_cancelled_cleanup_closes_everything_first():
    """However often it is cancelled; then it raises that."""
    log, gate = [], asyncio.Event()

    async def slow(thing):
        log.append("slow")
        await gate.wait()
        log.append("slow is done")

    registry = ResourceRegistry()
    registry.register_factory("a", Making("a", log))
    registry.register_factory("b", Making("b", log), cleanup_handler=slow)
    for name in "ab":
        await registry.get_resource(name)
    task = asyncio.create_task(registry.cleanup())
    await until(lambda: log)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["slow", "slow is done", "close a"]


async def test_a_block_that_is_cancelled_closes_everything_first():
    """`async with registry:` in a task that is cancelled."""
    log = []

    async def block():
        async with ResourceRegistry() as registry:
            await opened(registry, log, "a", "b")
            await asyncio.sleep(60)

    task = asyncio.create_task(block())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert log == ["close b", "close a"]


async def test_cleanup_waits_for_those_who_use_something():
    """The resource is closed once the lease is given back."""
    registry = ResourceRegistry()
    (making,) = await opened(registry, [], "a")
    lease = registry.lease("a")
    await lease.take()
    cleaning = asyncio.create_task(registry.cleanup())
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(making.open) == 1

    lease.release()
    await cleaning
    assert not making.open


def test_cleanup_waits_for_users_only_so_long(caplog):
    """Then it closes what is in use, and says so; the lease is given back as ever."""
    clock = FakeClock()

    async def main():
        registry = ResourceRegistry(close_timeout=10)
        (making,) = await opened(registry, [], "a")
        async with registry.lease("a"):
            await registry.cleanup()
            assert not making.open
        return making

    clock.run(main())

    assert clock.monotonic() == pytest.approx(10.0)
    assert "resource 'a' is closed while 1 use it" in caplog.text


async def test_cleanup_lets_what_is_being_made_be_made():
    """Who waits for it has it, and it is closed when it is given back."""
    making = Making("a")
    making.gate = asyncio.Event()
    registry = ResourceRegistry()
    registry.register_factory("a", making)

    async def use():
        async with registry.lease("a") as thing:
            await asyncio.sleep(0.01)
            return thing.is_open

    using = asyncio.create_task(use())
    await until(lambda: making.begun)
    cleaning = asyncio.create_task(registry.cleanup())
    await asyncio.sleep(0)
    making.gate.set()

    assert await using is True
    await cleaning
    assert not making.open


def test_cleanup_ends_a_creation_that_hangs():
    """Who waits for it is told so."""
    clock = FakeClock()

    async def main():
        making = Making("a", seconds=3600)
        registry = ResourceRegistry(close_timeout=10)
        registry.register_factory("a", making)
        waiting = asyncio.create_task(registry.get_resource("a"))
        await asyncio.sleep(1)
        await registry.cleanup()
        with pytest.raises(ResourceCreationError, match="was cancelled"):
            await waiting
        return making.cancelled

    assert clock.run(main()) == 1


async def test_a_registry_can_be_used_again():
    """After `cleanup`, after its block, and when nothing was open."""
    registry = ResourceRegistry()
    await registry.cleanup()
    (making,) = await opened(registry, [], "a")
    await registry.cleanup()
    await registry.cleanup()
    async with registry:
        assert (await registry.get_resource("a")).name == "a2"
        assert len(making.open) == 1
    assert not making.open


async def test_two_cleanups_at_once_close_once():
    """The second one finds nothing."""
    log = []
    registry = ResourceRegistry()
    await opened(registry, log, "a")
    await asyncio.gather(registry.cleanup(), registry.cleanup())

    assert log == ["close a"]


# Which method closes.


class Closable:
    def __init__(self, log, *methods):
        for method in methods:
            setattr(self, method, lambda method=method: log.append(method))


@pytest.mark.parametrize(
    ("methods", "called"),
    [
        (("close", "aclose", "cleanup", "disconnect"), ["aclose"]),
        (("close", "cleanup", "disconnect"), ["close"]),
        (("cleanup", "disconnect"), ["cleanup"]),
        (("disconnect",), ["disconnect"]),
        ((), []),
    ],
)
async def test_the_method_that_closes(methods, called):
    """The first of aclose, close, cleanup and disconnect; without one, nothing is done."""
    log = []
    registry = ResourceRegistry()
    registry.register_factory("x", lambda: Closable(log, *methods))
    await registry.get_resource("x")
    await registry.cleanup()

    assert log == called


async def test_a_close_that_returns_an_awaitable_is_awaited():
    """Though it is no `async def`, as that of redis.asyncio once was."""
    done = []

    class Client:
        def close(self):
            async def work():
                await asyncio.sleep(0)
                done.append("closed")

            return work()

    registry = ResourceRegistry()
    registry.register_factory("x", Client)
    registry.register_factory("y", Client, cleanup_handler=lambda client: client.close())
    for name in "xy":
        await registry.get_resource(name)
    await registry.cleanup()

    assert done == ["closed", "closed"]


async def test_closing_is_logged_quietly(caplog):
    """What goes well is no warning."""
    registry = ResourceRegistry()
    await opened(registry, [], "a")
    with caplog.at_level(logging.DEBUG, "pocketflow_async.resources"):
        await registry.cleanup()

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "resource 'a' closed")
    ]
