"""Policies against tenacity, aiolimiter, pyrate-limiter, purgatory and code written by hand.

CPU time, medians of interleaved rounds in one process, so that a busy machine disturbs all alike.
Read the ratios. Then three promises are kept, or the script fails: how many probes a half-open
breaker admits, how many calls a limiter lets through in its fullest window, and how often runs with
a cache-aside node call what is behind the cache. What the peers do is printed beside it.

A limiter in Redis is measured where one answers, at `TEST_REDIS_URL` or on this machine.

    python -P benchmarks/resilience.py [ROUNDS]
"""

import asyncio
import gc
import json
import os
import platform
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import aiolimiter
import purgatory
import pyrate_limiter
import redis.asyncio
import tenacity

from pocketflow_async.clock import Clock
from pocketflow_async.resilience import (
    Bulkhead,
    CacheAside,
    CircuitBreaker,
    CircuitBreakerOpen,
    Fallback,
    Hedge,
    RateLimiter,
    RedisRateLimiter,
    Retry,
    Timeout,
    compose,
)
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncPatterns, AsyncWorkflowBuilder
from tracing.testing import FakeClock

CALLS, MANY = 2_000, 10**7
CONCURRENT, PROBES = 1_000, 3
TAKEN, LIMIT, PER = 100_000, 100, 0.25
RUNS, KEYS, AT_ONCE = 10_000, 10, 1_000

Call = Callable[[], Awaitable[Any]]
Case = tuple[str, Call | None, Call, int]
"""What the peer is called, one call of the peer and of ours, and how often it is measured."""


class Hasty(Clock):
    """Does not sleep, so that what a retry costs is seen."""

    async def asleep(self, seconds: float) -> None:
        """Return at once."""


async def work() -> dict[str, int]:
    return {"n": 1}


async def failing() -> dict[str, int]:
    raise ConnectionError("down")


def fails_first() -> Call:
    """Return a call that fails every other time."""
    failed = False

    async def call() -> dict[str, int]:
        nonlocal failed
        failed = not failed
        return await (failing if failed else work)()

    return call


def guarded(policy: Any, call: Call = work) -> Call:
    return lambda: policy.acall(call)


async def at_once(seconds: float) -> None:
    """Stand for tenacity's sleep."""


def retries() -> Iterator[tuple[str, Case]]:
    wait = tenacity.wait_random_exponential(multiplier=0.1, max=30)
    theirs = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(3), wait=wait, sleep=at_once, reraise=True
    )
    ours, first, other = Retry(3, clock=Hasty()), fails_first(), fails_first()
    yield "retry", ("tenacity", lambda: theirs(work), guarded(ours), CALLS)
    yield "  one failure", ("tenacity", lambda: theirs(first), guarded(ours, other), CALLS // 4)


def by_hand() -> Iterator[tuple[str, Case]]:
    slots, cache = asyncio.Semaphore(10), {"key": '{"n": 1}'}

    async def timeout() -> Any:
        async with asyncio.timeout(5):
            return await work()

    async def bulkhead() -> Any:
        async with slots:
            return await work()

    async def fallback() -> Any:
        try:
            return await failing()
        except ConnectionError:
            return 0

    async def cached() -> Any:
        if (found := cache.get("key")) is not None:
            return json.loads(found)
        cache["key"] = json.dumps(found := await work())
        return found

    async def hedged() -> Any:
        task = asyncio.ensure_future(work())
        await asyncio.wait([task], timeout=5)
        return await task

    aside = CacheAside(dict(cache), key="key", ttl=None)
    yield "timeout", ("by hand", timeout, guarded(Timeout(5)), CALLS)
    yield "bulkhead", ("by hand", bulkhead, guarded(Bulkhead(10)), CALLS)
    yield "fallback, used", ("by hand", fallback, guarded(Fallback(0), failing), CALLS)
    yield "cache-aside, a hit", ("by hand", cached, guarded(aside), CALLS)
    yield "hedge, not needed", ("by hand", hedged, guarded(Hedge(after=5)), CALLS // 2)


async def breakers() -> list[tuple[str, Case]]:
    theirs = await purgatory.AsyncCircuitBreakerFactory(5, 60).get_breaker("bench")

    async def purgatory_call() -> Any:
        async with theirs:
            return await work()

    return [("breaker, closed", ("purgatory", purgatory_call, guarded(CircuitBreaker()), CALLS))]


def limiters(stack: AsyncExitStack) -> Iterator[tuple[str, Case]]:
    paced = aiolimiter.AsyncLimiter(MANY, 1)
    rate = pyrate_limiter.Rate(MANY, pyrate_limiter.Duration.SECOND)
    exact = pyrate_limiter.Limiter(pyrate_limiter.InMemoryBucket([rate]))
    stack.callback(exact.close)
    bucket, window = RateLimiter(MANY, MANY), RateLimiter.window(MANY, 1.0)

    async def aiolimiter_call() -> Any:
        async with paced:
            return await work()

    async def pyrate_call() -> Any:
        await exact.try_acquire_async("bench")
        return await work()

    yield "limiter, bucket", ("aiolimiter", aiolimiter_call, guarded(bucket), CALLS)
    yield "limiter, exact", ("pyrate-limiter", pyrate_call, guarded(window), CALLS // 4)


def composed() -> Iterator[tuple[str, Case]]:
    """Return four policies around one call; the sum of the peers is not made."""
    four = compose(Bulkhead(10), RateLimiter(MANY, MANY), CircuitBreaker(), Timeout(5))
    yield "four as one", ("", None, guarded(four), CALLS)


async def in_redis(stack: AsyncExitStack) -> list[tuple[str, Case]]:
    url = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
    client = await stack.enter_async_context(redis.asyncio.from_url(url))
    try:
        await client.ping()
    except (redis.RedisError, OSError):
        print("no Redis answers: the limiter in it is left out\n")
        return []
    name = f"pf_bench_{uuid.uuid4().hex}"
    rate = pyrate_limiter.Rate(MANY, pyrate_limiter.Duration.SECOND)
    theirs = pyrate_limiter.Limiter(
        await pyrate_limiter.RedisBucket.init([rate], client, f"{name}:theirs")
    )
    ours = RedisRateLimiter(client, MANY, 1.0, prefix=name)
    stack.push_async_callback(client.delete, f"{name}:theirs")
    stack.push_async_callback(ours.reset)
    stack.callback(theirs.close)

    async def pyrate_call() -> Any:
        await theirs.try_acquire_async("bench")
        return await work()

    async def get() -> Any:
        await client.get(name)
        return await work()

    return [
        ("limiter in Redis", ("pyrate-limiter", pyrate_call, guarded(ours), CALLS // 10)),
        ("  against one GET", ("redis.asyncio", get, guarded(ours), CALLS // 10)),
    ]


async def spent(call: Call, count: int) -> float:
    """Return the microseconds of CPU of one call."""
    gc.collect()
    began = time.process_time()
    for _ in range(count):
        await call()
    return (time.process_time() - began) / count * 1e6


async def overhead(rounds: int) -> None:
    async with AsyncExitStack() as stack:
        cases = [
            *retries(),
            *by_hand(),
            *await breakers(),
            *limiters(stack),
            *composed(),
            *await in_redis(stack),
        ]
        print("CPU microseconds a call; what is added is above that of the bare call\n")
        head = ("", "bare", "peer", "", "ours", "added", "of the peer")
        print("{:20} {:>6} {:>16} {:>8} {:>8} {:>8} {:>12}".format(*head))
        for name, case in cases:
            await show(name, case, rounds)


async def show(name: str, case: Case, rounds: int) -> None:
    """Measure a bare call, the peer and ours in turn, and print the medians."""
    peer, theirs, ours, count = case
    calls = [call for call in (work, theirs, ours) if call is not None]
    for call in calls:
        await spent(call, 10)
    table = [[await spent(call, count) for call in calls] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*table, strict=True)]
    bare, mine = medians[0], medians[-1]
    figure = f"{medians[1]:8.2f}" if theirs else f"{'-':>8}"
    ratio = f"{mine / medians[1]:11.2f}x" if theirs else f"{'-':>12}"
    print(f"{name:20} {bare:6.2f} {peer:>16} {figure} {mine:8.2f} {mine - bare:8.2f} {ratio}")


def check(said: str, found: int, expected: int) -> None:
    print(said)
    if found != expected:
        raise SystemExit(f"{found} instead of {expected}")


async def admitted(call: Call, entered: list[int], refusal: type[Exception]) -> int:
    """Return how many of many concurrent calls are let in before the first one comes back."""

    async def one() -> None:
        with suppress(refusal):
            await call()

    tasks = [asyncio.ensure_future(one()) for _ in range(CONCURRENT)]
    await asyncio.sleep(0.01)
    count = len(entered)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return count


async def half_open() -> None:
    clock = FakeClock()
    ours = CircuitBreaker(
        failure_threshold=1, reset_timeout=0.1, half_open_max_calls=PROBES, clock=clock
    )
    theirs = await purgatory.AsyncCircuitBreakerFactory(1, 0.1).get_breaker("bench")
    entered: tuple[list[int], list[int]] = [], []

    async def probe(into: list[int]) -> None:
        into.append(1)
        await asyncio.Event().wait()

    async def theirs_around(call: Call) -> None:
        async with theirs:
            await call()

    with suppress(ConnectionError):
        await ours.acall(failing)
    with suppress(ConnectionError):
        await theirs_around(failing)
    clock.advance(0.2)
    await asyncio.sleep(0.2)
    mine = await admitted(
        lambda: ours.acall(lambda: probe(entered[0])), entered[0], CircuitBreakerOpen
    )
    peer = await admitted(
        lambda: theirs_around(lambda: probe(entered[1])),
        entered[1],
        purgatory.domain.model.OpenedState,
    )
    check(
        f"half-open, {CONCURRENT:,} concurrent calls, {PROBES} allowed: "
        f"ours admits {mine}, purgatory {peer}",
        mine,
        PROBES,
    )


def fullest(moments: list[float]) -> int:
    """Return how many calls there are in the fullest half-open window; they are in order."""
    most = first = 0
    for place, moment in enumerate(moments):
        while moment - moments[first] >= PER:
            first += 1
        most = max(most, place - first + 1)
    return most


def passing(
    make: Callable[[], Any], count: int, clock: Clock, run: Callable[[Any], Any]
) -> tuple[int, float]:
    """Return the calls in the fullest window of *count*, and how many seconds all took."""
    moments = list[float]()

    async def caller(take: Call) -> None:
        while len(moments) < count:
            await take()
            moments.append(clock.monotonic())

    async def main() -> None:
        take = make()
        async with asyncio.TaskGroup() as group:
            for _ in range(LIMIT):
                group.create_task(caller(take))

    began = clock.monotonic()
    run(main())
    return fullest(moments), clock.monotonic() - began


def windows() -> None:
    clock = FakeClock()
    mine, took = passing(lambda: RateLimiter.window(LIMIT, PER).take, TAKEN, clock, clock.run)
    peer, _ = passing(  # in real time, and so not as many
        lambda: aiolimiter.AsyncLimiter(LIMIT, PER).acquire, 5 * LIMIT, Clock(), asyncio.run
    )
    ideal = (TAKEN - 1) // LIMIT * PER
    check(
        f"limiter, {TAKEN:,} calls at {LIMIT} in {PER} s: in the fullest window ours has {mine}, "
        f"aiolimiter {peer}; ours took {took / ideal:.3f} of the least time",
        mine,
        LIMIT,
    )


def cache_aside() -> None:
    builder, calls = AsyncWorkflowBuilder("cached"), list[int]()
    builder.with_cache(backend="memory")

    async def fetch(item_id: int) -> dict[str, int]:
        calls.append(item_id)
        await asyncio.sleep(0.05)
        return {"item": item_id}

    AsyncPatterns.cache_aside(builder, "check", "fetch", "store", fetch)
    workflow = builder.build()

    async def main() -> float:
        async with AsyncLocalRuntime(max_concurrent_nodes=AT_ONCE) as runtime:
            slots = asyncio.Semaphore(AT_ONCE)

            async def run(number: int) -> None:
                async with slots:
                    found = await runtime.execute_workflow_async(
                        workflow, {"item_id": number % KEYS}
                    )
                if found["results"]["store"]["data"] != {"item": number % KEYS}:
                    raise SystemExit(f"wrong: {found}")

            began = time.perf_counter()
            await asyncio.gather(*(run(number) for number in range(RUNS)))
            return time.perf_counter() - began

    took = asyncio.run(main())
    check(
        f"cache-aside, {RUNS:,} runs, {AT_ONCE:,} at once, {KEYS} keys: "
        f"{len(calls)} calls of what is behind it; {took / RUNS * 1e6:.0f} us a run",
        len(calls),
        KEYS,
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {rounds} rounds")
    asyncio.run(overhead(rounds))
    print()
    asyncio.run(half_open())
    windows()
    cache_aside()


if __name__ == "__main__":
    main()
