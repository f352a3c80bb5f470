"""What the tests of the guides' blocks share: the block that a test is named after, and time."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.guide_workflow import stand_ins
from tests.guide_workflow.guide_blocks import BLOCKS
from tracing.testing import FakeClock


@pytest.fixture
def block(request):
    """The block that the test is named after; what follows `__` in the name is the test's own."""
    return BLOCKS[request.node.originalname.removeprefix("test_").partition("__")[0]]


@pytest.fixture
def clock(monkeypatch):
    """Virtual time: `clock.run` is `asyncio.run` in it, for the blocks too that call that."""
    clock = FakeClock()
    monkeypatch.setattr(asyncio, "run", clock.run)
    return clock


@pytest.fixture
def aiohttp(monkeypatch):
    """A module `aiohttp` that answers without a network."""
    module = stand_ins.Aiohttp()
    monkeypatch.setitem(sys.modules, "aiohttp", module)
    # The provided modules are looked up once; what is looked up here must not stay.
    from pocketflow_async.workflow import provided

    provided.provided.cache_clear()
    yield module
    provided.provided.cache_clear()
