"""The circuit breaker in several processes that share it through Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest
import redis

from pocketflow_async.resilience import CircuitBreakerOpen
from tests.resilience.breaker_kit import Service
from tests.resilience.breaker_worker import PROCESSES, shared_breaker

MANY = 1000
WORKER = [sys.executable, "-W", "error", "-m", "tests.resilience.breaker_worker"]


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, socket_timeout=10) as client:
        yield client


def half_open(client, prefix, allowed):
    """Let the breaker of all wait for its probes."""
    breaker = shared_breaker(client, prefix, allowed)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            breaker.call(Service(ConnectionError("down")))
    assert breaker.is_open
    client.hincrby(f"{prefix}{{venue}}:state", "skew", 30_000_000)
    return breaker


def start(env, *arguments):
    command = [*WORKER, *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("allowed", [1, 5])
def test_a_thousand_calls_of_four_processes_get_just_the_allowed_probes(
    client, redis_url, redis_prefix, child_env, allowed
):
    """All at once, half-open: so many are let through in all, and their success closes it."""
    breaker = half_open(client, redis_prefix, allowed)
    mine = MANY // PROCESSES
    arguments = (redis_url, redis_prefix, allowed, mine, MANY)
    workers = [start(child_env, *arguments) for _ in range(PROCESSES)]
    try:
        for _ in workers:
            while not client.blpop(f"{redis_prefix}ready", 1):
                assert all(worker.poll() is None for worker in workers)
        client.rpush(f"{redis_prefix}go", *range(PROCESSES))
        told = [worker.communicate(timeout=100)[0].split() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()

    assert sum(int(entered) for entered, *_ in told) == allowed
    assert sum(int(refused) for _, refused, _ in told) == MANY - allowed
    assert asyncio.run(breaker.refresh()) == "closed"


@pytest.mark.timeout(60)
def test_a_process_that_dies_with_a_probe_blocks_nobody_for_ever(
    client, redis_url, redis_prefix, child_env
):
    """Killed, it says nothing more: after 60 seconds its place is free."""
    breaker = half_open(client, redis_prefix, 1)
    holder = start(child_env, redis_url, redis_prefix, 1, "die")
    try:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    for seconds in (0, 58):
        client.hincrby(f"{redis_prefix}{{venue}}:state", "skew", seconds * 1_000_000)
        with pytest.raises(CircuitBreakerOpen) as caught:
            breaker.call(Service())
        assert caught.value.state == "half_open"
    client.hincrby(f"{redis_prefix}{{venue}}:state", "skew", 2_000_000)
    assert breaker.call(Service()) == 1
    assert breaker.is_closed
