"""CacheAside: what is kept and how, who loads, and what happens when the cache fails."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async import AsyncNode
from pocketflow_async.hooks import observing
from pocketflow_async.resilience import CacheAside, CallTimeoutError, Hedge, SingleFlight
from tests.resilience.cache_kit import (
    Backend,
    Broken,
    Hanging,
    MillisecondCache,
    PlainCache,
    SetexCache,
    TtlCache,
)
from tests.workflow.runtime_kit import nothing_left
from tracing.testing import FakeClock

CACHES = [dict, PlainCache, SetexCache, TtlCache, MillisecondCache]


@pytest.mark.parametrize("make", CACHES)
@pytest.mark.parametrize("value", [None, 0, False, "", [], {}, 0.0, "text", "7", {"a": [1, None]}])
async def test_any_value_is_loaded_once_in_any_cache(make, value):
    """What is falsy, and None, is a value like any other; a text stays one."""
    backend = Backend(value)
    fetch = CacheAside(make(), key="k:{key}")(backend.__call__)

    assert [await fetch(1), await fetch(1)] == [value, value]
    assert type(await fetch(1)) is type(value)
    assert backend.calls == {1: 1}
    assert await fetch(2) == value
    assert backend.calls == {1: 1, 2: 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.booleans())
def test_what_comes_back_is_what_was_loaded(value, bare):
    """Any JSON, also what looks like another text, in caches that take a time and that do not."""
    cache = PlainCache()
    aside = CacheAside(cache, key="k", ttl=5 if bare else None)

    assert aside.get("k", lambda: value) == value
    assert aside.get("k", lambda: pytest.fail("loaded again")) == value


@pytest.mark.parametrize("make", [dict, SetexCache])
async def test_each_caller_has_a_value_of_its_own(make):
    """Whoever changes what it got changes nobody else's, whether loaded, shared or found."""
    backend, aside = Backend({"list": [1]}), CacheAside(make(), key="k")
    first, second = await asyncio.gather(aside.aget("k", backend), aside.aget("k", backend))
    for value in (first, second, await aside.aget("k", backend)):
        assert value == {"list": [1]}
        value["list"].append(2)

    assert backend.total == 1
    assert backend.value == {"list": [1]}


async def test_what_was_loaded_has_the_shape_that_the_cache_gives():
    """The first caller does not see a tuple and number keys that the second one would not."""
    aside = CacheAside({}, key="k")
    backend = Backend({1: (2, 3)})

    assert await aside.aget("k", backend) == {"1": [2, 3]}
    assert await aside.aget("k", backend) == {"1": [2, 3]}


async def test_what_cannot_be_text_is_passed_on_and_not_kept():
    """It is no failure of the call."""
    backend, cache = Backend(date(2024, 1, 2)), {}
    aside = CacheAside(cache, key="k")

    assert await aside.aget("k", backend) == date(2024, 1, 2)
    assert await aside.aget("k", backend) == date(2024, 1, 2)
    assert (backend.total, cache, aside.statistics().errors) == (2, {}, 2)
    circle = []
    circle.append(circle)
    assert await aside.aget("k", Backend(circle)) is circle


async def test_with_other_text_anything_can_be_kept():
    """`dumps` and `loads` may be those of another format."""
    aside = CacheAside({}, key="k", dumps=date.isoformat, loads=date.fromisoformat)

    assert await aside.aget("k", Backend(date(2024, 1, 2))) == date(2024, 1, 2)
    assert await aside.aget("k", Backend(None)) == date(2024, 1, 2)


async def test_values_are_kept_for_their_time():
    """In whole seconds where a cache takes those, in its own unit elsewhere."""
    setex, ttl, px = SetexCache(), TtlCache(), MillisecondCache()
    for seconds in (60, 1.5):
        for cache in (setex, ttl, px):
            await CacheAside(cache, key="k", ttl=seconds).aget(f"{seconds}", Backend())

    assert setex.times == {"60": 60, "1.5": 2}
    assert (ttl.ttl, px.ttl) == (1.5, 1500)
    forever = PlainCache()
    await CacheAside(forever, key="k", ttl=None).aget("k", Backend([1]))
    assert forever.data == {"k": "[1]"}


@pytest.mark.parametrize("make", [dict, PlainCache])
async def test_a_cache_without_times_forgets_too(make):
    """The moment until which a value is good is kept with it."""
    clock, backend = FakeClock(), Backend()
    aside = CacheAside(make(), key="k", ttl=10, clock=clock)
    await aside.aget("k", backend)
    clock.advance(9.9)
    await aside.aget("k", backend)
    assert backend.total == 1
    clock.advance(0.2)
    await aside.aget("k", backend)
    assert backend.total == 2


async def test_what_others_have_put_there_is_read():
    """As JSON, or as the object that it is; what is no text of ours is loaded again and healed."""
    cache = {"a": "[1]", "b": {"x": 1}, "c": "no json", "d": b"\xff", "e": memoryview(b"5"), "f": 0}
    aside, backend = CacheAside(cache, key="k"), Backend("new")
    found = [await aside.aget(key, backend) for key in "abcdef"]

    assert found == [[1], {"x": 1}, "new", "new", 5, 0]
    assert [await aside.aget(key, backend) for key in "cd"] == ["new", "new"]
    assert backend.total == 2


async def test_ten_thousand_callers_load_once_per_key():
    """And ask the cache once per key; all are told the value, and nothing is left behind."""
    cache, aside_of = SetexCache(), CacheAside
    backend = Backend(turns=5)
    aside = aside_of(cache, key="k:{key}")
    fetch = aside(backend.__call__)
    async with nothing_left():
        values = await asyncio.gather(*(fetch(number % 4) for number in range(10_000)))

    assert set(values) == {"value"}
    assert backend.calls == {0: 1, 1: 1, 2: 1, 3: 1}
    assert (cache.gets, cache.sets) == (4, 4)
    assert aside.statistics() == (0, 10_000, 4, 9_996, 0)


@pytest.mark.parametrize("make", CACHES)
async def test_callers_that_come_at_any_moment_load_once(make):
    """Also those that come in the turn in which the first one ends: the value is kept by then."""
    backend, aside = Backend(turns=3), CacheAside(make(), key="k")

    async def late(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await aside.aget("k", backend)

    await asyncio.gather(*(late(turns) for turns in range(40)))
    assert backend.total == 1


async def test_a_cancelled_caller_does_not_end_the_load_of_others():
    """The first one is cancelled; the others get the value, and it is kept."""
    cache, gate = SetexCache(), asyncio.Event()
    aside = CacheAside(cache, key="k")

    async def load():
        await gate.wait()
        return 1

    first, second = (asyncio.create_task(aside.aget("k", load)) for _ in range(2))
    for _ in range(10):
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set()
    assert await second == 1
    assert cache.data == {"k": b"1"}


async def test_the_last_cancelled_caller_ends_the_load():
    """Nothing is kept, and nothing goes on."""
    cache, ended = SetexCache(), []

    async def load():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async with nothing_left():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await CacheAside(cache, key="k").aget("k", load)
    assert (ended, cache.data) == ([1], {})


async def test_an_error_goes_to_all_and_is_not_kept():
    """The next call loads again."""
    backend, aside = Backend(ValueError("no"), turns=3), CacheAside(SetexCache(), key="k")
    errors = await asyncio.gather(
        *(aside.aget("k", backend) for _ in range(100)), return_exceptions=True
    )

    assert backend.total == 1
    assert {(type(error), str(error)) for error in errors} == {(ValueError, "no")}
    assert len({id(error) for error in errors}) == 100
    backend.value = 1
    assert await aside.aget("k", backend) == 1


async def test_a_cache_that_fails_is_one_that_has_nothing(caplog):
    """Callers still share a load; the log says it once, and when it is well again."""
    caplog.set_level(logging.INFO)
    cache = Broken(ConnectionError("redis://user:secret@host refused"))
    backend, aside = Backend(turns=3), CacheAside(cache, key="k", name="users")
    for _ in range(3):
        await asyncio.gather(*(aside.aget("k", backend) for _ in range(10)))

    assert backend.total == 3
    assert aside.statistics() == (0, 30, 3, 27, 6)
    assert [record.message for record in caplog.records] == [
        "users: the cache fails (ConnectionError); it goes on without"
    ]


async def test_a_cache_that_fails_once_is_used_again():
    """A failed look does not keep the value from being stored; nor a failed store the value."""
    cache, backend = SetexCache(OSError("a")), Backend()
    aside = CacheAside(cache, key="k")
    await aside.aget("k", backend)
    assert await aside.aget("k", backend) == "value"
    assert backend.total == 1

    cache = SetexCache(None, OSError("b"))
    aside = CacheAside(cache, key="k")
    assert [await aside.aget("k", backend) for _ in range(3)] == ["value"] * 3
    assert backend.total == 3


def test_a_cache_that_hangs_holds_nobody_up_for_long():
    """Each operation has its time; after one that ran out, the value is not stored."""
    clock, backend = FakeClock(), Backend()
    aside = CacheAside(Hanging(), key="k", timeout=2)

    assert clock.run(aside.aget("k", backend)) == "value"
    assert clock.monotonic() == pytest.approx(2)
    strict = CacheAside(Hanging(), key="k", timeout=2, on_error="raise")
    with pytest.raises(CallTimeoutError, match="the cache took longer than 2 s"):
        clock.run(strict.aget("k", backend))


async def test_errors_of_the_cache_are_raised_if_that_is_asked_for():
    """Before the call where it cannot be looked into, after it where it cannot store."""
    backend = Backend()
    with pytest.raises(ConnectionError, match="refused"):
        await CacheAside(Broken(), key="k", on_error="raise").aget("k", backend)
    assert backend.total == 0
    with pytest.raises(OSError, match="full"):
        await CacheAside(SetexCache(None, OSError("full")), key="k", on_error="raise").aget(
            "k", backend
        )
    with pytest.raises(ConnectionError):
        CacheAside(SyncBroken(), key="k", on_error="raise").get("k", int)
    assert CacheAside(SyncBroken(), key="k").get("k", lambda: 5) == 5


class SyncBroken(PlainCache):
    def get(self, key):
        raise ConnectionError("refused")


async def test_what_is_forgotten_is_loaded_again():
    """A load that is under way is not kept either: it may be older than the reason to forget."""
    cache, gate = SetexCache(), asyncio.Event()
    aside = CacheAside(cache, key="k")

    async def old():
        await gate.wait()
        return "old"

    waiting = asyncio.create_task(aside.aget("k", old))
    for _ in range(10):
        await asyncio.sleep(0)
    await aside.aforget("k")
    gate.set()
    assert await waiting == "old"
    assert cache.data == {}
    assert await aside.aget("k", Backend("new")) == "new"
    await aside.aforget("k")
    assert cache.data == {}
    plain = CacheAside({}, key="k")
    plain.get("k", int)
    plain.forget("k")
    assert plain.get("k", lambda: 5) == 5
    with pytest.raises(TypeError, match="a PlainCache cannot forget"):
        CacheAside(PlainCache(), key="k").forget("k")


def test_threads_load_once():
    """Those that come while another loads wait for it."""
    gate, calls = threading.Event(), []
    aside = CacheAside(PlainCache(), key="k:{x}")

    @aside
    def fetch(x):
        calls.append(x)
        gate.wait(10)
        return [x]

    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(1))) for _ in range(20)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert (calls, found) == ([1], [[1]] * 20)
    assert len({id(value) for value in found}) == 20


def test_event_loops_share_the_cache_and_not_the_load():
    """One after another, and two at the same time."""
    cache, backend = PlainCache(), Backend()
    aside = CacheAside(cache, key="k")
    asyncio.run(aside.aget("k", backend))
    asyncio.run(aside.aget("k", backend))
    assert backend.total == 1

    both = threading.Barrier(2, timeout=10)

    async def load():
        both.wait()
        return 1

    threads = [
        threading.Thread(target=lambda: asyncio.run(aside.aget("other", load))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert json.loads(cache.get("other").split(" ", 1)[1]) == 1


async def test_a_function_may_give_the_cache():
    """Also an asynchronous one, such as that of the event loop."""
    cache = SetexCache()

    async def of_the_loop():
        return cache

    assert await CacheAside(of_the_loop, key="k").aget("k", Backend(1)) == 1
    assert await CacheAside(lambda: cache, key="k").aget("k", Backend(2)) == 1
    with pytest.raises(TypeError, match="int has not"):
        await CacheAside(lambda: 5, key="k").aget("k", Backend())


async def test_a_cache_that_blocks_is_asked_in_threads():
    """The event loop goes on meanwhile."""
    seen = []

    class Blocking(PlainCache):
        def get(self, key):
            seen.append(threading.current_thread())
            return super().get(key)

        def set(self, key, value):
            seen.append(threading.current_thread())
            super().set(key, value)

    aside = CacheAside(Blocking(), key="k", in_thread=True)
    assert [await aside.aget("k", Backend()) for _ in range(2)] == ["value", "value"]
    assert len(seen) == 3
    assert threading.main_thread() not in seen


def test_an_asynchronous_cache_is_refused_where_nothing_can_be_awaited():
    """With words, and without a coroutine that nobody has awaited."""
    with pytest.raises(TypeError, match="the cache is asynchronous: use acall"):
        CacheAside(SetexCache(), key="k").get("k", int)


@pytest.mark.parametrize(
    ("cache", "options", "error", "words"),
    [
        (5, {}, TypeError, "int has not"),
        (object(), {}, TypeError, r"a cache has get\(key\)"),
        ({}, {"ttl": 0}, ValueError, "ttl"),
        ({}, {"ttl": "1"}, TypeError, "ttl"),
        ({}, {"timeout": -1}, ValueError, "timeout"),
        ({}, {"key": "{"}, ValueError, "no template"),
        ({}, {"on_error": "log"}, ValueError, "on_error is 'ignore' or 'raise'"),
    ],
)
def test_what_cannot_be_is_refused(cache, options, error, words):
    """When it is made, and not with the first call."""
    with pytest.raises(error, match=words):
        CacheAside(cache, **{"key": "k", **options})


async def test_a_key_must_be_a_text():
    """A function that returns something else is told so."""
    with pytest.raises(TypeError, match="the key of a cache must be a text, not 5"):
        await CacheAside({}, key=lambda: 5).acall(Backend())


async def test_who_watches_is_told_what_came_of_it():
    """Whether it was there, was stored, was another's; and which error the cache had."""
    told, backend = [], Backend(turns=3)
    fetch = CacheAside(SetexCache(), key="k", name="users")(backend.__call__)
    with observing(told.append):
        await asyncio.gather(fetch(), fetch())
        await fetch()
        await CacheAside(Broken(), key="k").acall(backend)
    facts = [
        {name.removeprefix("flow.cache_aside."): fact for name, fact in step.facts.items()}
        for step in told
    ]
    assert facts == [
        {"flow.policy": "cache_aside", "hit": False, "stored": True, "shared": False},
        {"flow.policy": "cache_aside", "hit": False, "stored": True, "shared": True},
        {"flow.policy": "cache_aside", "hit": True, "stored": False, "shared": False},
        {
            "flow.policy": "cache_aside",
            "hit": False,
            "stored": False,
            "shared": False,
            "error": "ConnectionError",
        },
    ]
    assert told[0].name == "users"


async def test_a_node_may_have_it_among_its_policies():
    """The key is made of what `exec` gets, also where other policies are around it or inside."""
    calls = []

    class Fetch(AsyncNode):
        async def prep_async(self, shared):
            return shared["id"]

        async def exec_async(self, item):
            calls.append(item)
            return item * 2

        async def post_async(self, shared, prep_res, exec_res):
            shared["value"] = exec_res

    aside = CacheAside({}, key="item:{item}")
    for policies in (aside, [Hedge(after=60), aside], [aside, SingleFlight("{item}")]):
        for item in (1, 2, 1):
            shared = {"id": item}
            await Fetch(policies=policies).run_async(shared)
            assert shared["value"] == item * 2
    assert calls == [1, 2]
