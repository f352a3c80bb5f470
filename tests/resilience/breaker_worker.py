"""One of several processes that share a breaker: `python -m tests.resilience.breaker_worker`.

It makes calls at once that each wait until all calls of all processes are decided, and prints how
many were let through. With `die` it takes a probe, says so, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

import redis.asyncio

from pocketflow_async.resilience import CircuitBreaker, CircuitBreakerOpen, RedisBreakerState

PROCESSES = 4
LONGEST = 60


class Caller:
    """Makes calls that all end together, when the last one of all processes is decided."""

    def __init__(self, client: Any, prefix: str, breaker: CircuitBreaker, of_all: int) -> None:
        self._client = client
        self._prefix = prefix
        self._breaker = breaker
        self._of_all = of_all
        self._everybody = asyncio.Event()
        self.counted: Counter[str] = Counter()

    async def call(self, times: int) -> None:
        """Wait for the word to go, and call so often at once."""
        await self._client.rpush(f"{self._prefix}ready", 1)
        await self._client.blpop(f"{self._prefix}go", LONGEST)
        await asyncio.gather(self._wait_for_all(), *(self._one() for _ in range(times)))

    async def _one(self) -> None:
        try:
            await self._breaker.acall(self._probe)
        except CircuitBreakerOpen:
            await self._decided("refused")

    async def _probe(self) -> None:
        await self._decided("entered")
        await self._everybody.wait()

    async def _decided(self, what: str) -> None:
        self.counted[what] += 1
        if await self._client.incr(f"{self._prefix}decided") == self._of_all:
            await self._client.rpush(f"{self._prefix}all", *range(PROCESSES))

    async def _wait_for_all(self) -> None:
        await self._client.blpop(f"{self._prefix}all", LONGEST)
        self._everybody.set()


async def main(url: str, prefix: str, allowed: int, mine: int, of_all: int) -> None:
    """Make *mine* of *of_all* calls."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=20, timeout=LONGEST)
    async with redis.asyncio.Redis.from_pool(pool) as client:
        breaker = shared_breaker(client, prefix, allowed)
        caller = Caller(client, prefix, breaker, of_all)
        await caller.call(mine)
        print(caller.counted["entered"], caller.counted["refused"], breaker.state)


async def die(url: str, prefix: str, allowed: int) -> None:
    """Take a probe and hold it."""
    async with redis.asyncio.from_url(url) as client:

        async def hold() -> None:
            print("held", flush=True)
            await asyncio.Event().wait()

        await shared_breaker(client, prefix, allowed).acall(hold)


def shared_breaker(client: Any, prefix: str, allowed: int) -> CircuitBreaker:
    """Return the breaker that all processes have."""
    return CircuitBreaker(
        "venue",
        failure_threshold=3,
        reset_timeout=30,
        half_open_max_calls=allowed,
        success_threshold=allowed,
        shared=RedisBreakerState(client, prefix=prefix, timeout=LONGEST),
    )


if __name__ == "__main__":
    address, start, places, *counts = sys.argv[1:]
    if counts == ["die"]:
        asyncio.run(die(address, start, int(places)))
    else:
        asyncio.run(main(address, start, int(places), *map(int, counts)))
