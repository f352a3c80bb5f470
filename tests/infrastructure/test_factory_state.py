"""State: JSON by key on a store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.infrastructure.state import State
from pocketflow_async.infrastructure.store.errors import (
    NotANumberError,
    StoreUnavailable,
    UnstorableError,
)
from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.infrastructure.store.sqlite import SqliteStore
from pocketflow_async.resilience import CircuitBreaker, CircuitBreakerOpen


class Time:
    """A wall clock that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", "sqlite"])
async def state(request, tmp_path, time):
    store: Any
    if request.param == "memory":
        store = MemoryStore(clock=time)
    else:
        store = SqliteStore(tmp_path / "state.db", clock=time)
    async with store:
        yield State(store)


async def test_values_come_back_as_json_has_them(state):
    """Numbers, texts, lists and dicts are kept; a tuple is a list and keys are texts."""
    await state.set("a", {"price": 1.5, "rows": (1, 2), 3: "é\ud800", "none": None})

    assert await state.get("a") == {
        "price": 1.5,
        "rows": [1, 2],
        "3": "é\ud800",
        "none": None,
    }


async def test_values_are_copies(state):
    """What is changed after it was kept, or after it was got, changes nothing there."""
    value = {"rows": [1]}
    await state.set("a", value)
    value["rows"].append(2)
    (await state.get("a"))["rows"].append(3)

    assert await state.get("a") == {"rows": [1]}


async def test_none_is_a_value(state):
    """A stored None is there, and not the default."""
    await state.set("a", None)

    assert await state.exists("a")
    assert await state.get_or_default("a", 5) is None
    assert await state.get_many(["a", "b"]) == {"a": None}
    assert await state.set_if_not_exists("a", 1) is False
    assert await state.delete("a") is True
    assert await state.get_or_default("a", 5) == 5
    assert await state.get("a") is None
    assert await state.delete("a") is False


@pytest.mark.parametrize("ttl", [timedelta(seconds=10), 10, 10.0])
async def test_values_may_end(state, time, ttl):
    """A ttl is a timedelta or seconds; adding to a number keeps it."""
    await state.set("a", 1, ttl)
    assert await state.increment("a", 4) == 5
    assert await state.decrement("a") == 4
    await state.set_many({"b": 1}, ttl)

    time.now += 9
    assert await state.get_many(["a", "b"]) == {"a": 4, "b": 1}
    time.now += 2

    assert await state.get_many(["a", "b"]) == {}
    assert await state.set_if_not_exists("a", "new", ttl) is True


@pytest.mark.parametrize("ttl", [0, -1, timedelta(0), float("nan")])
async def test_ttl_that_is_none_is_refused(state, ttl):
    """A value that would be gone at once is a mistake."""
    with pytest.raises(ValueError, match="ttl must be above 0"):
        await state.set("a", 1, ttl)


async def test_counting_is_exact_however_many_count(state):
    """A hundred at once lose nothing."""
    await asyncio.gather(*(state.increment("n") for _ in range(100)))

    assert await state.get("n") == 100
    with pytest.raises(TypeError, match="int"):
        await state.increment("n", 0.5)
    await state.set("t", "text")
    with pytest.raises(NotANumberError):
        await state.increment("t")


async def test_one_of_many_takes_a_value(state):
    """`get_and_delete` gives a value to one only."""
    await state.set("job", {"id": 1})

    found = await asyncio.gather(*(state.get_and_delete("job") for _ in range(10)))

    assert [value for value in found if value is not None] == [{"id": 1}]
    assert await state.keys("job") == []


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", float("nan"), float("inf"), {(1, 2): 3}])
async def test_what_is_no_json_is_refused_by_its_key(state, value):
    """Nothing of it is kept, of several values neither."""
    with pytest.raises(UnstorableError, match="the value of 'bad' is no JSON"):
        await state.set_many({"good": 1, "bad": value})

    assert await state.keys() == []


async def test_dead_store_is_not_asked_for_ever():
    """After some failures calls fail at once; what is wrong with a value counts for nothing."""
    store = MemoryStore()
    breaker = CircuitBreaker("state", failure_threshold=2, is_failure=(StoreUnavailable,))
    state = State(store, breaker)
    for _ in range(5):
        with pytest.raises(UnstorableError):
            await state.set("nul\0", 1)
    assert breaker.is_closed
    await state.close()
    await state.close()

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await state.get("a")
    with pytest.raises(CircuitBreakerOpen):
        await state.get("a")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_any_json_comes_back(value):
    """Whatever is JSON is the same afterwards."""

    async def there_and_back() -> Any:
        state = State(MemoryStore())
        await state.set("a", value)
        return await state.get("a")

    assert asyncio.run(there_and_back()) == value
