"""The registry: made once, found by name, replaced when registered anew, and counted."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from contextvars import ContextVar

import pytest

from pocketflow_async import resources
from pocketflow_async.resources import (
    NoRegistryError,
    ResourceCreationError,
    ResourceFactory,
    ResourceNotFoundError,
    ResourceRegistry,
    ResourceUnavailableError,
)
from pocketflow_async.resources.current import get_resource
from tests.resources.registry_kit import Making, Thing, until


@pytest.fixture
async def registry():
    async with ResourceRegistry() as registry:
        yield registry


async def test_a_thousand_at_once_get_the_one_that_is_made(registry):
    """One creation, one object, whoever asks first; and the same one later."""
    making = Making(seconds=0.001)
    registry.register_factory("x", making)

    found = await asyncio.gather(*(registry.get_resource("x") for _ in range(1000)))

    assert set(map(id, found)) == {id(making.made[0])}
    assert await registry.get_resource("x") is making.made[0]
    assert making.begun == 1


async def test_a_slow_resource_holds_up_no_other(registry):
    """While one is being made, others are made and found."""
    slow, quick = Making("slow"), Making("quick")
    slow.gate = asyncio.Event()
    registry.register_factory("slow", slow)
    registry.register_factory("quick", quick)
    waiting = asyncio.create_task(registry.get_resource("slow"))
    await until(lambda: slow.begun)

    assert (await registry.get_resource("quick")).name == "quick"
    with pytest.raises(ResourceNotFoundError):
        await registry.get_resource("unknown")
    slow.gate.set()
    assert (await waiting).name == "slow"


async def test_nothing_is_made_before_it_is_asked_for():
    """Neither registering nor entering the registry makes anything."""
    making = Making()
    registry = ResourceRegistry()
    registry.register_factory("x", making)
    async with registry:
        assert registry.has_factory("x")
        assert not registry.has_resource("x")
        assert registry.list_resources() == {"x"}
        await registry.get_resource("x")
        assert registry.has_resource("x")
    assert not registry.has_resource("x")
    assert making.begun == 1


async def test_an_unknown_name_is_told_with_those_that_are_there(registry):
    """The message names what is known, and what may have been meant."""
    registry.register_factory("main_db", Making())

    with pytest.raises(ResourceNotFoundError) as caught:
        await registry.get_resource("maindb")

    assert str(caught.value).startswith("No factory registered for resource: maindb")
    assert "did you mean 'main_db'?" in str(caught.value)
    assert isinstance(caught.value, LookupError)
    assert caught.value.name == "maindb"


async def test_functions_make_resources_too(registry):
    """Synchronous, asynchronous, a lambda that returns an awaitable, an object with `create`."""

    class Own:
        async def create(self):
            return "own"

        def get_config(self):
            return {"secret": "no", "size": 3}

    async def later():
        return "later"

    registry.register_factory("plain", lambda: "plain")
    registry.register_factory("later", later)
    registry.register_factory("lambda", lambda: later())
    registry.register_factory("own", Own())

    found = [await registry.get_resource(name) for name in ("plain", "later", "lambda", "own")]
    assert found == ["plain", "later", "later", "own"]


async def test_a_factory_needs_no_get_config(registry):
    """Defining `create` is enough."""

    class Service(ResourceFactory):
        async def create(self):
            return "service"

    registry.register_factory("service", Service())

    assert await registry.get_resource("service") == "service"
    assert Service().get_config() == {}


async def test_what_is_falsy_is_a_resource_and_none_is_not(registry):
    """An empty dict is kept; None is an error that names the resource."""
    registry.register_factory("empty", dict)
    registry.register_factory("none", lambda: None)

    empty = await registry.get_resource("empty")
    assert empty == {}
    assert await registry.get_resource("empty") is empty
    with pytest.raises(ResourceCreationError, match=r"'none' could not be made.*returned None"):
        await registry.get_resource("none")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((5, len), TypeError, "the name of a resource"),
        (("", len), ValueError, "must not be empty"),
        (("x", 5), TypeError, "factory must be callable"),
        (("x", Making), TypeError, r"factory must be an object: Making\(…\)"),
        (("x", len, 5), TypeError, "health_check must be a function"),
        (("x", len, None, 5), TypeError, "cleanup_handler must be a function"),
        (("x", len, None, None, 5), TypeError, "metadata must be a dict"),
        (
            ("x", len, None, None, {"circuit_breaker_threshold": 0}),
            ValueError,
            "circuit_breaker_threshold must be 1 or more",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(arguments, error, text):
    """At once, with what is wrong."""
    with pytest.raises(error, match=text):
        ResourceRegistry().register_factory(*arguments)


@pytest.mark.parametrize("name", ["health_interval", "health_timeout", "close_timeout"])
def test_times_of_a_registry_are_checked(name):
    """They are numbers of seconds; only the interval may be none."""
    with pytest.raises(ValueError, match=name):
        ResourceRegistry(**{name: -1})
    with pytest.raises(TypeError, match=name):
        ResourceRegistry(**{name: "5"})


# Replacing.


async def test_registering_again_replaces_at_the_next_use(registry):
    """The new one is handed out at once; the old one is closed."""
    old, new = Making("old"), Making("new")
    registry.register_factory("x", old)
    assert (await registry.get_resource("x")).name == "old"

    registry.register_factory("x", new)

    assert (await registry.get_resource("x")).name == "new"
    await until(lambda: not old.open)


async def test_what_is_replaced_is_closed_when_the_last_lease_is_back(registry):
    """Two who use the old one keep it open, one after the other."""
    old, new = Making("old"), Making("new")
    registry.register_factory("x", old)
    first, second = registry.lease("x"), registry.lease("x")
    thing = await first.take()
    await second.take()
    registry.register_factory("x", new)

    async with registry.lease("x") as other:
        assert other.name == "new"
    first.release()
    first.release()  # once too often: nothing happens
    await asyncio.sleep(0)
    assert thing.is_open
    second.release()
    await until(lambda: not thing.is_open)
    assert len(new.open) == 1


async def test_what_was_being_made_when_it_was_replaced_goes_to_nobody(registry):
    """Who waits for it gets the new one, and it is closed."""
    old, new = Making("old"), Making("new")
    old.gate = asyncio.Event()
    registry.register_factory("x", old)
    waiting = asyncio.create_task(registry.get_resource("x"))
    await until(lambda: old.begun)

    registry.register_factory("x", new)
    later = await registry.get_resource("x")
    old.gate.set()

    assert await waiting is later
    assert later.name == "new"
    await until(lambda: old.made and not old.open)


async def test_a_lease_is_for_one_use(registry):
    """Taking it twice is an error; the resource stays as it is."""
    registry.register_factory("x", Making())
    lease = registry.lease("x")
    await lease.take()

    with pytest.raises(RuntimeError, match="taken already"):
        await lease.take()
    lease.release()
    assert registry.get_metrics()["resources"]["x"]["leases"] == 0


# Cancelling.


async def test_a_cancelled_caller_ends_nothing_for_the_others(registry):
    """The one who came first, and for whom it was begun, is cancelled; the others get it."""
    making = Making()
    making.gate = asyncio.Event()
    registry.register_factory("x", making)
    first, *others = [asyncio.create_task(registry.get_resource("x")) for _ in range(3)]
    await until(lambda: making.begun)

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    making.gate.set()

    assert set(await asyncio.gather(*others)) == {making.made[0]}
    assert (making.begun, making.cancelled) == (1, 0)


async def test_the_last_caller_who_is_cancelled_ends_it(registry):
    """The creation has ended when the caller has; the next one begins anew."""
    making = Making()
    making.gate = asyncio.Event()
    registry.register_factory("x", making)
    waiting = [asyncio.create_task(registry.get_resource("x")) for _ in range(3)]
    await until(lambda: making.begun)

    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert making.cancelled == 1
    making.gate.set()
    assert await registry.get_resource("x") is making.made[0]
    assert making.begun == 2


async def test_what_is_made_in_spite_of_the_cancellation_is_closed(registry):
    """A factory that catches it and goes on leaves nothing open."""
    log = []

    async def stubborn():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return Thing(log, "late")

    registry.register_factory("x", stubborn)
    task = asyncio.create_task(registry.get_resource("x"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: log)

    assert log == ["close late"]
    assert not registry.has_resource("x")


async def test_a_creation_that_was_cancelled_is_no_failure(registry):
    """The breaker does not count it."""
    making = Making()
    making.gate = asyncio.Event()
    registry.register_factory("x", making, metadata={"circuit_breaker_threshold": 1})
    task = asyncio.create_task(registry.get_resource("x"))
    await until(lambda: making.begun)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    making.gate.set()

    assert (await registry.get_resource("x")).is_open


async def test_a_timeout_around_it_is_a_timeout(registry):
    """`asyncio.timeout` around a creation that hangs ends both."""
    making = Making()
    making.gate = asyncio.Event()
    registry.register_factory("x", making)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await registry.get_resource("x")
    assert making.cancelled == 1


# Errors.


async def test_an_error_goes_to_all_who_wait_with_the_traceback_of_the_factory(registry):
    """The same error for each, as it came, not longer with each."""
    making = Making(errors=[ConnectionRefusedError("nobody there")], seconds=0.001)
    registry.register_factory("x", making)

    found = await asyncio.gather(
        *(registry.get_resource("x") for _ in range(50)), return_exceptions=True
    )

    assert {type(error) for error in found} == {ConnectionRefusedError}
    frames = []
    trace = found[-1].__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames.count("create") == 2  # the registration's, and the factory's own
    assert len(frames) < 15
    assert (await registry.get_resource("x")).is_open


async def test_resources_that_need_each_other_are_told(registry):
    """Also when both creations have begun on their own; a deadlock it would be."""
    registry.register_factory("a", lambda: get_resource("b"))
    registry.register_factory("b", lambda: get_resource("a"))
    registry.register_factory("self", lambda: get_resource("self"))

    async with asyncio.timeout(5):
        found = await asyncio.gather(
            registry.get_resource("a"), registry.get_resource("b"), return_exceptions=True
        )
        with pytest.raises(ResourceCreationError, match="need each other: self -> self"):
            await registry.get_resource("self")

    assert all(isinstance(error, ResourceCreationError) for error in found)
    assert "need each other" in str(found[0])


@pytest.mark.parametrize(
    "error",
    [
        ResourceNotFoundError("x", ["y"]),
        ResourceUnavailableError("x", 3.0, 5),
        ResourceCreationError("x", "why"),
        NoRegistryError("x"),
    ],
)
def test_errors_can_be_copied_and_pickled(error):
    """As they must be to come out of a process."""
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.name == "x"


# Resources that are made of others.


async def test_a_resource_can_be_made_of_another(registry):
    """Its factory asks for it; the other one is closed after it."""
    log = []
    registry.register_factory("db", Making("db", log))

    async def service():
        return Service(await get_resource("db"))

    class Service(Thing):
        def __init__(self, db):
            super().__init__(log, "service")
            self.db = db

    registry.register_factory("service", service)
    made = await registry.get_resource("service")
    assert made.db is await registry.get_resource("db")

    await registry.cleanup()
    assert log == ["close service", "close db"]


async def test_what_others_are_made_of_stays_open_as_long_as_they_do(registry):
    """The old database is closed after the service that was made of it."""
    log = []
    old = Making("db", log)
    registry.register_factory("db", old)

    async def service():
        await get_resource("db")
        return Thing(log, "service")

    registry.register_factory("service", service)
    await registry.get_resource("service")
    registry.register_factory("db", Making("new", log))
    await registry.get_resource("db")
    await asyncio.sleep(0.01)
    assert log == []

    registry.register_factory("service", service)
    await registry.get_resource("service")
    await until(lambda: not old.open)
    assert log == ["close service", "close db"]


async def test_a_failed_creation_lets_go_of_what_it_was_to_be_made_of(registry):
    """The other resource is closed when it is replaced, since nobody needs it."""
    old = Making("old")
    registry.register_factory("db", old)

    async def broken():
        await get_resource("db")
        raise ValueError("no")

    registry.register_factory("service", broken)
    with pytest.raises(ValueError, match="no"):
        await registry.get_resource("service")
    registry.register_factory("db", Making("new"))
    await registry.get_resource("db")

    await until(lambda: not old.open)


# The current registry.


async def test_code_anywhere_finds_the_registry_that_is_entered():
    """The innermost first, then those around it; outside there is none."""
    outer, inner = ResourceRegistry(), ResourceRegistry()
    outer.register_factory("a", lambda: "outer a")
    outer.register_factory("b", lambda: "outer b")
    inner.register_factory("a", lambda: "inner a")

    async with outer:
        assert await get_resource("a") == "outer a"
        async with inner:
            assert [await get_resource("a"), await get_resource("b")] == ["inner a", "outer b"]
            assert await asyncio.create_task(get_resource("a")) == "inner a"
            with pytest.raises(ResourceNotFoundError, match="There is: a, b"):
                await get_resource("c")
        assert await get_resource("a") == "outer a"
    with pytest.raises(NoRegistryError, match="no registry here to get 'a' from"):
        await get_resource("a")


async def test_a_registry_may_be_entered_by_several_tasks():
    """What is open is closed when the last block is left."""
    making = Making()
    registry = ResourceRegistry()
    registry.register_factory("x", making)
    leave = asyncio.Event()

    async def other():
        async with registry:
            await registry.get_resource("x")
            await leave.wait()

    async with registry:
        task = asyncio.create_task(other())
        await until(lambda: making.made)
    assert len(making.open) == 1
    leave.set()
    await task
    assert not making.open


async def test_a_resource_belongs_to_no_run_that_asked_for_it(registry):
    """The context of who asked first is not that of the resource."""
    tenant = ContextVar("tenant", default="nobody")
    tenant.set("alice")
    registry.register_factory("x", tenant.get)

    assert await registry.get_resource("x") == "nobody"


# Figures.


async def test_the_figures_of_a_registry(registry):
    """By name, also of what was never used; those of past scopes are kept."""
    registry.register_factory("x", Making(errors=[OSError("no")]))
    registry.register_factory("y", Making())
    with pytest.raises(OSError, match="no"):
        await registry.get_resource("x")
    failures = registry.get_metrics()["resources"]["x"]["circuit_breaker"]
    assert (failures["failures"], failures["last_failure"] is None) == (1, False)
    for _ in range(3):
        await registry.get_resource("x")
    await registry.cleanup()
    async with registry.lease("x"):
        figures = registry.get_metrics()["resources"]

    assert figures["x"] == {
        "created": 2,
        "accessed": 4,
        "health_failures": 0,
        "recreations": 0,
        "closed": 1,
        "close_failures": 0,
        "leases": 1,
        "circuit_breaker": {
            "failures": 0,
            "last_failure": None,
            "state": "closed",
            "threshold": 5,
            "timeout": 30.0,
        },
    }
    assert figures["y"]["created"] == 0
    assert ResourceRegistry(enable_metrics=False).get_metrics() == {}


async def test_creation_is_logged_by_name(registry, caplog):
    """Under the logger that the guide names."""
    registry.register_factory("x", Making())
    with caplog.at_level(logging.DEBUG, "pocketflow_async.resources"):
        await registry.get_resource("x")

    assert "resource 'x' made in" in caplog.text


def test_the_package_loads_what_is_asked_for():
    """What is not there is told as Python does."""
    assert resources.ResourceRegistry is ResourceRegistry
    assert "ResourceRegistry" in dir(resources)
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = resources.nothing_of_that_name
