"""Fixtures of the executors' tests."""

from __future__ import annotations

import pytest

from pocketflow_async.workflow.node_handlers import handlers
from tests.executor.executor_kit import infrastructure


@pytest.fixture
async def infra():
    async with infrastructure() as made:
        yield made


@pytest.fixture(autouse=True)
def _own_handlers():
    """Forget what a test registers for the whole process."""
    before = dict(handlers._works)
    yield
    handlers._works.clear()
    handlers._works.update(before)
