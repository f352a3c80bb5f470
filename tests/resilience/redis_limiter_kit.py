"""A process of its own that goes through a limiter in Redis, and what tests of that share.

As a script: `URL PREFIX LIMIT PER CALLERS CALLS`; prints the server's moments, in microseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager

import redis.asyncio

from pocketflow_async.resilience import RedisRateLimiter
from pocketflow_async.resilience.redis_window import ADMITTED


@asynccontextmanager
async def limiter_at(url, prefix, *figures, **options):
    """Make a limiter with a client of its own, which is closed in the end."""
    async with redis.asyncio.from_url(url) as client:
        yield RedisRateLimiter(client, *figures, prefix=prefix, **options)


def noting(limiter):
    """Return a list that gets the server's moment of each call that *limiter* lets through."""
    moments, ask = [], limiter._asking.ask

    async def noted(*arguments):
        said = await ask(*arguments)
        if said.state == ADMITTED:
            moments.append(said.at)
        return said

    limiter._asking.ask = noted
    return moments


async def until(condition):
    """Let others go on until it holds; *condition* may be async."""
    # What happens in Redis sets no event here.
    while not (met := condition()) or (asyncio.iscoroutine(met) and not await met):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def has_loaded(client):
    """Return whether a server that has just been started has read its data."""
    try:
        return await client.ping()
    except redis.exceptions.BusyLoadingError:
        return False


def fullest(moments, per):
    """Return how many calls there are in the fullest half-open window of *per* microseconds."""
    moments, most, first = sorted(moments), 0, 0
    for place, moment in enumerate(moments):
        while moment - moments[first] >= per:
            first += 1
        most = max(most, place - first + 1)
    return most


async def main(url, prefix, limit, per, callers, calls):
    async with limiter_at(url, prefix, int(limit), float(per)) as limiter:
        moments = noting(limiter)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

        async def several():
            for _ in range(int(calls)):
                await limiter.take()

        await asyncio.gather(*(several() for _ in range(int(callers))))
        print(json.dumps(moments), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
