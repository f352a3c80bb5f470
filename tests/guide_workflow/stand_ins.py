"""Stand-ins for what the blocks of the guides use and a test machine has not: services."""

from __future__ import annotations

import types
from contextlib import asynccontextmanager


class Registry:
    """A resource registry of objects that are there already."""

    def __init__(self, **resources):
        self.resources = resources
        self.cleanups = 0

    def register_factory(self, name, factory, **options):
        self.resources[name] = factory

    def has_factory(self, name):
        return name in self.resources

    def list_resources(self):
        return set(self.resources)

    async def get_resource(self, name):
        return self.resources[name]

    async def cleanup(self):
        self.cleanups += 1


class Pool:
    """A pool of database connections; every query gives the same rows."""

    def __init__(self, *rows):
        self.rows = list(rows)
        self.queries = []

    @asynccontextmanager
    async def acquire(self):
        yield self

    async def fetch(self, query):
        self.queries.append(query)
        return self.rows


class Response:
    """What a web server answers."""

    def __init__(self, data, status=200):
        self.data = data
        self.status = status

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def json(self):
        return self.data


class Getting:
    """What `session.get(url)` returns: both `await` and `async with` give the response."""

    def __init__(self, response):
        self.response = response

    def __await__(self):
        return self._get().__await__()

    async def __aenter__(self):
        return await self._get()

    async def __aexit__(self, *_):
        return None

    async def _get(self):
        if isinstance(self.response, Exception):
            raise self.response
        return self.response


class ClientError(Exception):
    """The root of aiohttp's errors; matched by its dotted name."""


ClientError.__module__ = "aiohttp"


class Aiohttp(types.ModuleType):
    """A module like aiohttp; it gives *responses* in turn, the last one again and again."""

    def __init__(self):
        super().__init__("aiohttp")
        self.ClientError = ClientError
        self.urls = []
        self.responses = [Response({"items": 3})]

    def ClientSession(self):
        return Session(self)


class Session:
    def __init__(self, module):
        self.module = module

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    def get(self, url):
        responses = self.module.responses
        self.module.urls.append(url)
        return Getting(responses.pop(0) if len(responses) > 1 else responses[0])
