"""Fixtures for tests of the engine: a clock that never waits, and a loop that must end tidy."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from pocketflow_async.clock import using_clock
from tests.engine.engine_kit import FakeClock

# The eager task factory came with Python 3.12.
FACTORIES = ["lazy", "eager"] if sys.version_info >= (3, 12) else ["lazy"]


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """Make waits instant, and list them."""
    clock = FakeClock()
    with using_clock(clock):
        yield clock


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """Give the texts of all UserWarnings so far; any other warning still fails the test."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", UserWarning)
        yield lambda: [str(warning.message) for warning in caught]


@pytest.fixture(params=FACTORIES)
async def tidy(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Run the test on lazy and eager tasks; afterwards none may be left and none forgotten."""
    loop = asyncio.get_running_loop()
    if request.param == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)
    forgotten: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: forgotten.append(context))
    yield
    loop.set_task_factory(None)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"still at work: {left}"
    gc.collect()
    await asyncio.sleep(0)
    assert not forgotten
