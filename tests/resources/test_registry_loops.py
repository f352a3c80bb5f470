"""Event loops that end, and others that come; threads with a loop each."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketflow_async.resources import ResourceCreationError, ResourceFactory, ResourceRegistry
from tests.resources.registry_kit import Making, Thing, until


@pytest.fixture
def making():
    return Making("x")


@pytest.fixture
def registry(making):
    registry = ResourceRegistry()
    registry.register_factory("x", making)
    return registry


def test_resources_are_closed_when_their_loop_ends(registry, making):
    """`asyncio.run` leaves nothing open, without any `cleanup`."""
    asyncio.run(registry.get_resource("x"))

    assert making.begun == 1
    assert not making.open
    assert making.log == ["close x"]


def test_they_are_closed_in_order_and_through_errors_when_the_loop_ends(caplog):
    """As by `cleanup`."""
    log = []

    async def broken(thing):
        log.append("broken")
        raise OSError("no")

    async def main():
        registry = ResourceRegistry()
        for name in "abc":
            handler = broken if name == "b" else None
            registry.register_factory(name, Making(name, log), cleanup_handler=handler)
            await registry.get_resource(name)

    asyncio.run(main())

    assert log == ["close c", "broken", "close a"]
    assert "closing resource 'b': OSError: no" in caplog.text


def test_each_loop_has_its_own(registry, making):
    """What belongs to a loop that has ended is never handed out on the next one."""
    first, second = (asyncio.run(registry.get_resource("x")) for _ in range(2))

    assert first is not second
    assert first.loop is not second.loop
    assert making.log == ["close x", "close x2"]


def test_a_loop_that_was_closed_without_notice_leaves_nothing_behind(caplog):
    """Its resources are terminated when the next loop comes, and never handed out there."""
    terminated = []

    class Factory(ResourceFactory):
        async def create(self):
            return Thing([], "x")

        def terminate(self, resource):
            terminated.append(resource)
            raise RuntimeError("the loop is closed")

    registry = ResourceRegistry()
    registry.register_factory("x", Factory())
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(registry.get_resource("x"))
    loop.close()

    second = asyncio.run(registry.get_resource("x"))

    assert second is not first
    assert not second.is_open
    assert terminated == [first]
    assert "resource 'x' was left open by an event loop that is gone" in caplog.text
    assert registry.get_metrics()["resources"]["x"]["created"] == 2


def test_a_loop_that_stands_still_keeps_its_resources(registry, making):
    """Between two calls of `run_until_complete` nothing is closed."""
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(registry.get_resource("x"))
    other = asyncio.run(registry.get_resource("x"))
    again = loop.run_until_complete(registry.get_resource("x"))

    assert first is again is not other
    assert first.is_open
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert not first.is_open
    loop.close()


def test_the_task_that_is_making_one_when_the_loop_ends(registry, making):
    """It is cancelled with all others, and nothing is left open."""
    making.seconds = 60

    async def main():
        task = asyncio.create_task(registry.get_resource("x"))
        await until(lambda: making.begun)
        return task

    task = asyncio.run(main())
    assert task.cancelled()
    assert making.cancelled == 1


def test_a_main_that_is_interrupted_closes_everything():
    """A task that has been in the middle of closing when the loop cancels all of them."""
    log = []

    async def slow(thing):
        log.append("begun")
        await asyncio.sleep(0.01)
        log.append("closed")

    async def main():
        registry = ResourceRegistry()
        registry.register_factory("a", Making("a", log))
        registry.register_factory("x", Making("x", log), cleanup_handler=slow)
        for name in "ax":
            await registry.get_resource(name)
        kept.append(asyncio.create_task(registry.cleanup()))
        await until(lambda: log)

    kept = []
    asyncio.run(main())

    assert log == ["begun", "begun", "closed", "close a"]


def test_a_cleanup_that_was_cancelled_before_it_began_is_made_up_for():
    """The loop cancels all tasks just after they were made; what is open is closed all the same."""
    log, kept = [], []

    async def main():
        registry = ResourceRegistry()
        registry.register_factory("a", Making("a", log))
        registry.register_factory("b", Making("b", log))
        await registry.get_resource("a")
        await registry.get_resource("b")
        registry.register_factory("b", Making("new b", log))
        await registry.get_resource("b")  # the old one is about to be closed
        kept.append(asyncio.create_task(registry.cleanup()))

    asyncio.run(main())

    assert sorted(log) == ["close a", "close b", "close new b"]


def test_asking_while_the_loop_ends_is_refused(registry):
    """What were opened then, nobody would close."""
    errors = []

    async def late():
        try:
            yield
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            try:
                await registry.get_resource("x")
            except ResourceCreationError as error:
                errors.append(str(error))

    async def main():
        await registry.get_resource("x")
        generator = late()
        await anext(generator)
        kept.append(generator)

    kept = []
    asyncio.run(main())

    assert errors == ["Resource 'x' could not be made: the event loop is ending"]


async def test_a_registry_that_is_forgotten_closes_what_it_has():
    """Once the last reference is gone, on the loop that still runs."""
    making = Making("x")
    registry = ResourceRegistry()
    registry.register_factory("x", making)
    await registry.get_resource("x")

    del registry
    gc.collect()

    await until(lambda: not making.open)


def test_eight_threads_with_a_loop_each(registry, making):
    """Each has its own resource, all are closed, and the figures are of all of them."""
    barrier = threading.Barrier(8)

    async def main():
        barrier.wait()
        found = await asyncio.gather(*(registry.get_resource("x") for _ in range(100)))
        assert {thing.loop for thing in found} == {asyncio.get_running_loop()}
        return found[0]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asyncio.run(main()), range(8)))

    assert len(set(map(id, found))) == 8
    assert not making.open
    figures = registry.get_metrics()["resources"]["x"]
    assert (figures["created"], figures["accessed"], figures["closed"]) == (8, 800, 8)


def test_cleanup_closes_what_loops_in_other_threads_have_open(registry, making):
    """Each loop closes its own, in its own thread."""
    opened, leave = threading.Event(), threading.Event()
    closed_in = []

    async def handler(thing):
        assert asyncio.get_running_loop() is thing.loop
        closed_in.append(threading.current_thread().name)
        await thing.close()

    registry.register_factory("x", making, cleanup_handler=handler)

    async def other():
        await registry.get_resource("x")
        opened.set()
        await asyncio.to_thread(leave.wait, 10)

    async def main():
        await registry.get_resource("x")
        await registry.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(other()), name="other")
    thread.start()
    assert opened.wait(10)
    asyncio.run(main())
    assert not making.open
    leave.set()
    thread.join()

    assert sorted(closed_in) == sorted(["other", threading.current_thread().name])


def test_the_block_of_one_thread_leaves_the_others_alone(registry, making):
    """`async with registry:` closes what its own loop has opened."""
    opened, leave = threading.Event(), threading.Event()

    async def other():
        async with registry:
            thing = await registry.get_resource("x")
            opened.set()
            await asyncio.to_thread(leave.wait, 10)
            assert thing.is_open

    async def main():
        async with registry:
            await registry.get_resource("x")

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, other())
        assert opened.wait(10)
        asyncio.run(main())
        assert len(making.open) == 1
        leave.set()
        future.result()
    assert not making.open


def test_a_resource_is_open_on_this_loop_or_on_any(registry):
    """`has_resource` asks for the running loop; without one, for all."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(registry.get_resource("x"))

    async def here():
        return registry.has_resource("x")

    assert registry.has_resource("x")
    assert loop.run_until_complete(here())
    assert not asyncio.run(here())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert not registry.has_resource("x")
