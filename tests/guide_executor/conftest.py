"""What the tests of the guide's blocks share: the block, and infrastructures with no server."""

from __future__ import annotations

import asyncio

import pytest

from pocketflow_async.infrastructure.factory import Infrastructure
from pocketflow_async.infrastructure.logging import reset_logging
from tests.guide_executor.executor_guide import BLOCKS


@pytest.fixture
def block(request):
    """The block that the test is named after; what follows `__` in the name is the test's own."""
    return BLOCKS[request.node.originalname.removeprefix("test_").partition("__")[0]]


@pytest.fixture
def made(monkeypatch):
    """The infrastructures that a test and its blocks have made, in order."""
    made = []
    create = Infrastructure.create.__func__

    async def noted(cls, *args, **more):
        infra = await create(cls, *args, **more)
        made.append(infra)
        return infra

    monkeypatch.setattr(Infrastructure, "create", classmethod(noted))
    return made


@pytest.fixture(autouse=True)
def _on_this_disk(tmp_path, monkeypatch):
    """Production has its file in the user's data folder, which is the test's here."""
    for variable in ("ENV", "STATE_URL", "STATE__URL", "REDIS_URL", "EVENTS_URL", "STATE_BACKEND"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    yield
    reset_logging()


@pytest.fixture(autouse=True)
async def _closed(made):
    """Close what the blocks leave open, as far as it is of this event loop."""
    yield
    for infra in made:
        await infra.close()


@pytest.fixture
def run_closing(made):
    """Run a block that calls `asyncio.run` itself, and close what it has made in there."""
    run = asyncio.run

    def run_closing(main):
        async def all_of_it():
            try:
                return await main
            finally:
                for infra in made:
                    await infra.close()
                made.clear()

        return run(all_of_it())

    return run_closing
