"""The fake clock: waits and timeouts take no real time, and happen in the order of their times."""

import asyncio
import socket
import threading
import time

import pytest

from pocketflow_async import (
    AsyncFlow,
    AsyncNode,
    Flow,
    FlowTimeoutError,
    Node,
    NodeTimeoutError,
    parallel,
)
from pocketflow_async.clock import using_clock
from tracing.testing import FakeClock, FakeLoop, fake_clock, run


async def now():
    return asyncio.get_running_loop().time()


def test_sleeps_take_no_real_time_and_keep_their_order():
    """A day of sleeping tasks ends in the order of their times."""
    ended = []

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        ended.append((seconds, await now()))

    async def main():
        await asyncio.gather(*(sleeper(seconds) for seconds in (86_400, 0.5, 3600, 0)))

    began = time.monotonic()
    run(main())

    assert ended == [(0, 0), (0.5, 0.5), (3600, 3600), (86_400, 86_400)]
    assert time.monotonic() - began < 10


def test_timeouts_come_in_virtual_time():
    """`asyncio.timeout` and `wait_for` end what is too long, and leave what is not."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(5.001)
        assert await now() == 5
        assert await asyncio.wait_for(asyncio.sleep(10, "done"), 10.5) == "done"
        assert await now() == 15

    run(main())


def test_what_never_ends_is_timed_out():
    """A future that nobody sets ends by its timeout."""

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 1e6)
        return await now()

    assert run(main()) == 1e6


def test_work_in_threads_is_waited_for():
    """While a thread is at work time stands still, so a short timeout does not end it."""
    release = threading.Event()

    async def main():
        work = asyncio.create_task(asyncio.to_thread(release.wait, 30))
        async with asyncio.timeout(1):
            await asyncio.sleep(0)
            threading.Timer(0.05, release.set).start()
            assert await work
        return await now()

    assert run(main()) == 0


def test_many_threads_and_their_results_come_before_time_moves():
    """A thousand calls in threads, each against the shortest timeout: all come back."""

    async def one(number):
        async with asyncio.timeout(1e-6):
            return await asyncio.to_thread(int, number)

    async def main():
        assert await asyncio.gather(*(one(number) for number in range(1000))) == list(range(1000))

    run(main())


def test_a_cancelled_thread_is_waited_for_at_the_end():
    """A task that gave up on its thread: the loop ends when the thread does, without a warning."""
    ended = []

    def work():
        time.sleep(0.05)
        ended.append(True)

    async def main():
        task = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert ended == []

    run(main())

    assert ended == [True]


def test_a_thread_that_waits_by_the_clock_lets_time_go_on():
    """Retries of a node in a thread wait in virtual time, beside other tasks."""

    class Threaded(Node):
        def exec(self, prep_res):
            if self.cur_retry < 2:
                raise ValueError

    class Waiting(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(15)
            self.params["log"].append(await now())

    async def main():
        branches = parallel(Threaded(3, wait=10, in_thread=True), Waiting())
        flow = AsyncFlow(branches)
        log = []
        flow.set_params({"log": log})
        await flow.run_async({})
        return log, await now()

    clock = FakeClock()
    assert clock.run(main()) == ([15], 20)
    assert clock.waits == [10, 10]


def test_an_executor_of_ones_own_is_waited_for_too():
    """Time stands still for whatever runs by `run_in_executor`."""
    from concurrent.futures import ThreadPoolExecutor

    async def main():
        with ThreadPoolExecutor(1) as pool:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(0.001):
                await loop.run_in_executor(pool, time.sleep, 0.05)
            return await now()

    assert run(main()) == 0


def test_sockets_are_given_a_moment():
    """A reply through a socket comes before the timeout that is next in line."""

    async def main():
        one, other = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=one)
        peer, answer = await asyncio.open_connection(sock=other)
        writer.write(b"ping\n")
        async with asyncio.timeout(0.001):
            answer.write((await peer.readline()).upper())
            assert await reader.readline() == b"PING\n"
        for each in (writer, answer):
            each.close()
            await each.wait_closed()

    run(main())


def test_retries_and_timeouts_of_nodes_and_flows():
    """Waits with backoff, a node's timeout and a flow's timeout, all at their exact times."""

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(100)

        async def exec_fallback_async(self, prep_res, exc):
            self.params["log"].append((type(exc), await now()))

    async def main():
        log = []
        flow = AsyncFlow(Slow(3, wait=1, timeout=10, backoff=2), timeout=1000)
        flow.set_params({"log": log})
        await flow.run_async({})
        assert log == [(NodeTimeoutError, 10 + 1 + 10 + 2 + 10)]
        began = await now()
        with pytest.raises(FlowTimeoutError):
            await AsyncFlow(Slow(1), timeout=7).run_async({})
        assert await now() - began == 7

    clock = FakeClock()
    clock.run(main())

    assert clock.waits == [1, 2]


def test_synchronous_flows_and_code_that_takes_its_time():
    """In sync code waits move the clock, `advance` stands for work, and timeouts see both."""

    class Work(Node):
        def exec(self, prep_res):
            clock.advance(3)

    with fake_clock() as clock, pytest.raises(NodeTimeoutError):
        Flow(Work(2, wait=5, timeout=2)).run({})

    assert clock.monotonic() == 3 + 5 + 3


def test_jitter_is_what_luck_says():
    """Random waits are at the low end, the high end or in between, as told."""

    class Failing(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError

        async def exec_fallback_async(self, prep_res, exc):
            return None

    for luck, wait in ((0, 5), (0.5, 7.5), (1, 10)):
        clock = FakeClock(luck)
        clock.run(AsyncFlow(Failing(2, wait=10, jitter=0.5)).run_async({}))
        assert clock.waits == [wait]


async def test_on_a_real_loop_the_engines_waits_take_no_time():
    """Without a fake loop retries are instant all the same."""

    class Flaky(AsyncNode):
        async def exec_async(self, prep_res):
            if not self.cur_retry:
                raise ValueError

    clock = FakeClock()
    with using_clock(clock):
        await AsyncFlow(Flaky(2, wait=86_400)).run_async({})

    assert clock.monotonic() == 86_400


def test_cancellation_works_at_an_exact_moment():
    """A task cancelled in the middle of a wait ends then, and not at the end of the wait."""

    async def main():
        task = asyncio.create_task(asyncio.sleep(10))
        asyncio.get_running_loop().call_later(4, task.cancel)
        await asyncio.wait([task])
        return task.cancelled(), await now()

    assert run(main()) == (True, 4)


def test_a_fake_loop_is_one_for_any_runner():
    """`asyncio.Runner` takes the class as its factory."""
    with asyncio.Runner(loop_factory=FakeLoop) as runner:
        runner.run(asyncio.sleep(50))
        assert runner.get_loop().time() == 50
