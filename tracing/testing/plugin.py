"""The pytest plugin: the fixtures `traces` and `fake_clock`. It loads nothing until one is used.

With pytest-asyncio, asynchronous tests get a loop in virtual time by this in conftest.py::

    def pytest_asyncio_loop_factories(config, item):
        fake = "fake_clock" in item.fixturenames
        return {"fake": FakeLoop} if fake else {"real": asyncio.new_event_loop}

With anyio: `anyio_backend = ("asyncio", {"loop_factory": FakeLoop})`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracing.testing.capturing import Traces
    from tracing.testing.clock import FakeClock


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Capture in memory what is traced in this test."""
    from tracing.testing.capturing import capture  # noqa: PLC0415 (only for those who use it)

    with capture() as captured:
        yield captured


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """Let waits and timeouts take no real time: `fake_clock.run(flow.run_async(shared))`."""
    from tracing.testing import clock  # noqa: PLC0415 (it needs the engine)

    with clock.fake_clock() as fake:
        yield fake
