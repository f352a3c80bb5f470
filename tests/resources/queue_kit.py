"""Brokers for tests of message queues: direct, or over a way that can be cut."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from pocketflow_async.resources.queue_factory import MessageQueueFactory
from tests.resources.proxy_kit import way_to
from tests.service_kit import OwnRedis, _wait_until


class OwnNats(OwnRedis):
    """A NATS server of a test's own; user test, password right; streams in a folder."""

    def start(self):
        """Start it, with the data that it had; it answers when this returns."""
        self.folder.mkdir(exist_ok=True)
        who = ["--user", "test", "--pass", "right"]
        place = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder)]
        command = ["nats-server", *place, *who, "-l", str(self.folder / "nats.log")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _wait_until(self.port, self._process)


@pytest.fixture
def own_nats(tmp_path):
    """Return a NATS server that runs, keeps what it is told, and may be stopped and killed."""
    if shutil.which("nats-server") is None:
        pytest.skip("nats-server is not installed")
    server = OwnNats(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


URLS = {"redis": "redis_url", "rabbitmq": "rabbitmq_url", "nats": "nats_url"}


class Broker:
    """One of the machine's brokers, and queues of the test's own in it."""

    def __init__(self, backend, url, name):
        self.backend, self.url, self.name = backend, url, name
        self._groups = ("default", "one", "two", "work")
        self._stack = AsyncExitStack()
        self._made = []

    async def queue(self, **options):
        """Return a queue that is closed after the test."""
        options = {"timeout": 5.0, "ack_wait": 30.0, "url": self.url, **options}
        made = await MessageQueueFactory(self.backend, **options).create()
        self._made.append(made)
        return made

    async def way(self):
        """Return a way to the broker, and the address of its beginning."""
        place = urlsplit(self.url)
        way = await self._stack.enter_async_context(way_to(place.hostname, place.port))
        user = place.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{way.port}" if user else f"127.0.0.1:{way.port}"
        return way, urlunsplit(place._replace(netloc=netloc))

    async def close(self):
        for made in self._made:
            await made.close()
        async with _opened(self.backend, self.url) as queue:
            await queue.delete(self.name, *self._groups)
        await self._stack.aclose()


@asynccontextmanager
async def _opened(backend, url):
    queue = await MessageQueueFactory(backend, url=url).create()
    try:
        yield queue
    finally:
        await queue.close()


async def take(queue, name, count, group="default", **options):
    """Return *count* messages, acknowledged."""
    found = []
    async with asyncio.timeout(20), queue.consume(name, group, **options) as messages:
        async for message in messages:
            found.append(message)
            await message.ack()
            if len(found) == count:
                return found
    return found


async def rest(queue, name, group="default", idle=0.3):
    """Return what is there now, acknowledged."""
    found = []
    async for message in queue.consume(name, group, idle=idle):
        await message.ack()
        found.append(message)
    return found
