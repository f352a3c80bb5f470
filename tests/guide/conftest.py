"""What the tests of the guide's blocks share: the traces that they leave, and a clock."""

import asyncio

import pytest

from pocketflow_async.clock import Clock, using_clock
from tests.tracing.conftest import Traces, find, phases, value

__all__ = ["find", "phases", "value"]


@pytest.fixture
def traces(store_path):
    return Traces(store_path)


class NoWait(Clock):
    """Takes note of waits and takes no time for them."""

    def __init__(self):
        self.waits = []

    async def asleep(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def no_wait():
    with using_clock(NoWait()) as clock:
        yield clock
