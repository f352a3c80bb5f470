"""Caches of several kinds for tests, and a backend that counts its calls."""

from __future__ import annotations

import asyncio


class SetexCache:
    """Has only asynchronous `get` and `setex`; *errors* are raised in turn, None is none."""

    def __init__(self, *errors):
        self.data = {}
        self.times = {}
        self.errors = list(errors)
        self.gets = self.sets = 0

    def fail(self):
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error

    async def get(self, key):
        self.gets += 1
        await asyncio.sleep(0)
        self.fail()
        return self.data.get(key)

    async def setex(self, key, seconds, text):
        self.sets += 1
        await asyncio.sleep(0)
        self.fail()
        self.data[key] = text.encode()
        self.times[key] = seconds

    async def delete(self, key):
        self.data.pop(key, None)


class PlainCache:
    """Has only `get` and `set`, and neither is asynchronous nor takes a time."""

    def __init__(self):
        self.data = {}

    def get(self, key):
        return self.data.get(key)

    def set(self, key, value):
        self.data[key] = value


class TtlCache(PlainCache):
    """Its `set` takes a time to live."""

    async def set(self, key, value, ttl=None):
        self.data[key] = value
        self.ttl = ttl


class MillisecondCache(PlainCache):
    """Its `set` takes it in whole milliseconds."""

    async def set(self, key, value, *, px=None, nx=False):
        self.data[key] = value
        self.ttl = px


class Broken:
    """A cache that fails in all it is asked."""

    def __init__(self, error=None):
        self.error = error or ConnectionError("refused")

    async def get(self, key):
        raise self.error

    async def setex(self, key, seconds, text):
        raise self.error


class Hanging:
    """A cache that never answers."""

    async def get(self, key):
        await asyncio.Event().wait()

    set = get


class Backend:
    """Gives *value* for any key, or raises it; counts its calls by key."""

    def __init__(self, value="value", turns=1):
        self.value = value
        self.turns = turns
        self.calls = {}

    async def __call__(self, key="key"):
        self.calls[key] = self.calls.get(key, 0) + 1
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    @property
    def total(self):
        return sum(self.calls.values())
