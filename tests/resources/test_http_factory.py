"""What HTTP clients are made of: checked when the factory is made, and shown without secrets."""

from __future__ import annotations

import sys

import pytest

from pocketflow_async import needing
from pocketflow_async.resources.http_factory import HttpClientFactory
from pocketflow_async.resources.queue_factory import MessageQueueFactory


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"backend": "curl"}, ValueError, "Unsupported HTTP client backend: curl"),
        ({"headers": "X"}, TypeError, "headers must be a dict"),
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be above 0"),
        ({"max_connections": 0}, ValueError, "max_connections must be at least 1"),
        ({"base_url": "nowhere"}, ValueError, "base_url must begin with"),
    ],
)
def test_what_a_client_cannot_be(given, error, text):
    """Wrong arguments are refused at once, before anything is made."""
    with pytest.raises(error, match=text):
        HttpClientFactory(**given)


@pytest.mark.parametrize("backend", ["httpx", "aiohttp"])
async def test_no_secret_is_shown(backend):
    """Neither headers, nor credentials in the address, nor options that may be secret."""
    factory = HttpClientFactory(
        backend,
        "https://me:hidden@api.example.com/v1",
        headers={"X-API-Key": "hidden", "Authorization": "Bearer hidden"},
        cookies={"session": "hidden"},
    )
    config = factory.get_config()
    assert config["headers"] == {"X-API-Key": "***", "Authorization": "***"}
    assert config["base_url"] == "https://***@api.example.com/v1"
    assert (config["backend"], config["timeout"]) == (backend, 30)
    client = await factory.create()
    assert await factory.check(client)
    assert "hidden" not in repr([config, factory, client])
    await factory.close(client)
    assert not await factory.check(client)


@pytest.mark.parametrize(
    ("factory", "library", "extra"),
    [
        (HttpClientFactory("httpx"), "httpx", "workflow"),
        (HttpClientFactory("aiohttp"), "aiohttp", "resources"),
        (MessageQueueFactory("rabbitmq"), "aio_pika", "resources"),
        (MessageQueueFactory("nats"), "nats", "resources"),
    ],
)
async def test_a_library_that_is_missing(factory, library, extra, monkeypatch):
    """The error says how it is installed."""
    needing.need.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install 'pocketflow-async\[{extra}\]'"):
        await factory.create()
    monkeypatch.undo()
    needing.need.cache_clear()
