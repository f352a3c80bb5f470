"""The pattern `rate_limited` with a limiter of its own, or one that others use too."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio

from pocketflow_async.resilience import RateLimiter, RateLimitExceeded, RedisRateLimiter
from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import AsyncPatterns, AsyncWorkflowBuilder
from tracing.testing import FakeClock


async def run(workflow, inputs=None):
    result = await AsyncLocalRuntime().execute_workflow_async(workflow, inputs or {})
    return result["results"], result["errors"]


def test_nodes_may_share_a_limiter():
    """Two nodes, of two workflows, together run no more often than one may."""
    clock, limiter, noted = FakeClock(), RateLimiter.window(2, 1.0), []
    workflows = []
    for name in ("one", "two"):
        builder = AsyncWorkflowBuilder(name)
        for node in ("a", "b"):
            AsyncPatterns.rate_limited(builder, node, "note()", limiter=limiter)
        workflows.append(builder.build())

    async def main():
        inputs = {"note": lambda: noted.append(clock.monotonic())}
        await asyncio.gather(*(run(workflow, inputs) for workflow in workflows))

    clock.run(main())
    assert noted == pytest.approx([0, 0, 1, 1], abs=1e-5)
    assert workflows[0].nodes["a"].work.limiter is limiter
    workflows[0].nodes["a"].work.reset()
    assert limiter.tokens == 2


def test_a_window_tells_of_itself():
    """Its figures are those of the answer."""
    clock = FakeClock()
    builder = AsyncWorkflowBuilder("w")
    limiter = RateLimiter.window(2, 60.0)
    AsyncPatterns.rate_limited(builder, "node", "result = {'n': 1}", limiter=limiter)
    workflow = builder.build()

    async def main():
        return [(await run(workflow))[0]["node"]["_rate_limit_info"] for _ in range(3)]

    infos = clock.run(main())
    assert [info["requests_in_window"] for info in infos] == [1, 2, 1]
    assert [info["tokens_remaining"] for info in infos] == [1, 0, 1]
    assert infos[2]["waited"] == pytest.approx(60.0)


async def test_one_that_refuses_fails_the_run():
    """Where there is no room, the node has failed with what says when there is."""
    builder = AsyncWorkflowBuilder("w")
    limiter = RateLimiter.window(1, 60.0, wait=False, name="mail")
    AsyncPatterns.rate_limited(builder, "node", "result = 1", limiter=limiter)
    workflow = builder.build()

    assert (await run(workflow))[0] == {"node": 1}
    _, errors = await run(workflow)
    assert "RateLimitExceeded: rate limiter 'mail' has no room; try again in" in errors["node"]


@pytest.mark.parametrize("key", ["{user}", lambda user, **_: user])
async def test_a_key_is_made_of_the_inputs(key):
    """Each user has a limit of its own."""
    builder = AsyncWorkflowBuilder("w")
    limiter = RateLimiter.window(1, 60.0, wait=False, key=key)
    AsyncPatterns.rate_limited(builder, "node", "result = user", limiter=limiter)
    workflow = builder.build()

    for user in ("ann", "bob"):
        assert (await run(workflow, {"user": user, "text": "x"}))[0] == {"node": user}
    _, errors = await run(workflow, {"user": "ann", "text": "x"})
    assert RateLimitExceeded.__name__ in errors["node"]


async def test_processes_may_share_one(redis_url, redis_prefix):
    """With the limiter in Redis, two workflows of two clients hold to one limit."""
    async with redis.asyncio.from_url(redis_url) as one, redis.asyncio.from_url(redis_url) as two:
        workflows = []
        for client in (one, two):
            builder = AsyncWorkflowBuilder("w")
            limiter = RedisRateLimiter(client, 2, 0.3, prefix=redis_prefix)
            AsyncPatterns.rate_limited(builder, "node", "result = {}", limiter=limiter)
            workflows.append(builder.build())
        began = time.monotonic()
        results = await asyncio.gather(*(run(workflows[number % 2]) for number in range(6)))
        assert time.monotonic() - began >= 0.6
        infos = [each["node"]["_rate_limit_info"] for each, _ in results]
        assert max(info["requests_in_window"] for info in infos) == 2
        await workflows[0].nodes["node"].work.reset()
        assert await limiter.try_take() is not None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"limiter": 5}, "node 'n': limiter must be a RateLimiter or a RedisRateLimiter, not 5"),
        ({"limiter": RateLimiter(1), "burst_size": 2}, "give them to it"),
        ({"limiter": RateLimiter(1), "requests_per_second": 2}, "give them to it"),
    ],
)
def test_wrong_limiters_are_named(options, text):
    """The error names the node."""
    with pytest.raises(TypeError, match=text):
        AsyncPatterns.rate_limited(AsyncWorkflowBuilder("w"), "n", "result = 1", **options)
