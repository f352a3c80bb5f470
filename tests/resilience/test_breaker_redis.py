"""The circuit breaker with its state in Redis: a real server, its clock, and its absence."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import signal
import time

import pytest
import redis
import redis.asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from pocketflow_async.resilience import CircuitBreaker, CircuitBreakerOpen, RedisBreakerState
from pocketflow_async.resilience import redis_breaker as module
from pocketflow_async.resilience.breaker_shared import Question
from pocketflow_async.resilience.breaker_states import Machine, Settings, Ticket
from pocketflow_async.resilience.redis_breaker_script import SCRIPTS
from tests.resilience.breaker_kit import Service
from tracing.testing import FakeClock


@pytest.fixture
async def client(redis_url):
    async with redis.asyncio.from_url(redis_url) as client:
        yield client


@pytest.fixture
def blocking(redis_url):
    with redis.Redis.from_url(redis_url, socket_timeout=10) as client:
        yield client


@pytest.fixture
def share(client, redis_prefix):
    """Return a maker of breakers that stand for processes of their own: they share only Redis."""

    def share(name="venue", *, heard=None, **options):
        on_event = None if heard is None else heard.append
        options = {"failure_threshold": 3, "reset_timeout": 30, **options}
        shared = RedisBreakerState(client, prefix=redis_prefix, timeout=30)
        return CircuitBreaker(name, shared=shared, on_event=on_event, **options)

    return share


async def fail(breaker, times=1):
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await breaker.acall(Service(ConnectionError("down")).acall)


async def refused(breaker):
    with pytest.raises(CircuitBreakerOpen) as caught:
        await breaker.acall(Service().acall)
    return caught.value


async def pass_time(client, prefix, seconds, name="venue"):
    """Let time pass in Redis, as if its clock had."""
    await client.hincrby(f"{prefix}{{{name}}}:state", "skew", round(seconds * 1e6))


def quick(server, kind=redis.asyncio.Redis):
    """Return a client that finds out at once that its server has gone, or is back."""
    return kind.from_url(server.url, retry=AsyncRetry(NoBackoff(), 3))


async def back(shared, breaker, clock):
    """Wait until Redis answers again; it may still be reading its data."""
    async with asyncio.timeout(30):
        while not shared.is_there:
            clock.advance(5)
            await breaker.refresh()


# The script decides as the machine does


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(-30, 30)),
        st.tuples(st.just("call"), st.just(0)),
        st.tuples(st.sampled_from(["success", "failure", "failure", "nothing"]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["force_open", "force_close", "reset", "look"]), st.just(0)),
    ),
    max_size=60,
)
KINDS = [
    Settings(failure_threshold=2, window=20, reset_timeout=10, probe_timeout=15),
    Settings(
        failure_threshold=2,
        window=None,
        window_calls=4,
        reset_timeout=5,
        half_open_max_calls=2,
        success_threshold=3,
        probe_timeout=1000,
    ),
    Settings(
        failure_threshold=1,
        window=40,
        window_calls=6,
        minimum_calls=4,
        failure_rate=0.5,
        reset_timeout=7,
        half_open_max_calls=3,
        success_threshold=2,
        probe_timeout=9,
    ),
]
NEIGHBOURS = [
    *[("call", 0)] * 3,
    ("success", 0),
    ("wait", 1),
    ("failure", 0),
    ("wait", 19),
    ("failure", 0),
]
"""A failure a second after a success is still in a window that the success has just left."""
numbers = itertools.count()


class Twins:
    """A breaker in Redis and a machine, which are told the same."""

    def __init__(self, state, kind):
        self._state, self._kind = state, kind
        self._name = f"b{next(numbers)}"
        self._at_work = []
        self.machine = Machine(kind)

    def step(self, step, place, now):
        """Take a step in both; return the answer of Redis."""
        if step == "call":
            return self._call(now)
        if step in ("success", "failure", "nothing"):
            return self._come_back(step, place, now)
        if step in ("force_open", "force_close", "reset"):
            self.machine.command(step, now)
        else:
            step = "look"
            self.machine.look(now)
            self.machine.forget_old(now)
        return self._ask("command", command=step)

    def _call(self, now):
        call = f"{next(numbers)}"
        answer, ticket = self._ask("admit", call=call), self.machine.admit(now)
        assert answer.granted == (type(ticket) is Ticket)
        if answer.granted:
            assert answer.probe == (ticket.probe is not None)
            self._at_work.append((call, answer.generation, ticket))
        return answer

    def _come_back(self, outcome, place, now):
        if not self._at_work:
            return self.step("look", 0, now)
        call, generation, ticket = self._at_work.pop(place % len(self._at_work))
        answer = self._ask("record", call=call, generation=generation, outcome=outcome)
        assert answer.opened == self.machine.record(ticket, outcome, now)
        return answer

    def _ask(self, verb, **said):
        answer = self._state.ask(Question(verb, self._name, self._kind, **said))
        assert answer is not None
        return answer


@pytest.mark.parametrize("kind", KINDS, ids=["time", "calls", "rate"])
def test_redis_decides_as_the_machine_does(blocking, redis_prefix, monkeypatch, kind):
    """The same steps at the same times, with a clock that also goes back: the same answers."""
    moment = f"{redis_prefix}time"
    texts = {
        verb: text.replace("redis.call('TIME')", f"redis.call('LRANGE', '{moment}', 0, 1)")
        for verb, text in SCRIPTS.items()
    }
    monkeypatch.setattr(module, "SCRIPTS", texts)
    digests = {verb: hashlib.sha1(text.encode()).hexdigest() for verb, text in texts.items()}
    monkeypatch.setattr(module, "_SHA", digests)
    state = RedisBreakerState(blocking, prefix=redis_prefix)

    @settings(max_examples=150, deadline=None)
    @given(STEPS)
    @example(NEIGHBOURS)
    def compare(steps):
        twins, now = Twins(state, kind), 1_000_000
        for step, value in steps:
            now += value if step == "wait" else 0
            blocking.delete(moment)
            blocking.rpush(moment, now, 0)
            answer, machine = twins.step(step, value, now), twins.machine
            assert (answer.state, answer.failures) == (machine.state, machine.failures)
            if machine.state == "open":
                waits = kind.reset_timeout - answer.open_for
                assert max(0, waits) == pytest.approx(machine.retry_after(now))

    compare()


def test_the_window_in_redis_stays_small(blocking, redis_prefix):
    """Calls close to each other share an entry, as in the window of one process."""
    state = RedisBreakerState(blocking, prefix=redis_prefix)
    ask = Question("admit", "venue", Settings(failure_threshold=10**6, window=3600))
    for n in range(500):
        answer = state.ask(ask._replace(call=f"{n}"))
        said = {"generation": answer.generation, "outcome": "failure", "verb": "record"}
        answer = state.ask(ask._replace(call=f"{n}", **said))
    assert answer.failures == 500
    assert blocking.llen(state.keys("venue")[1]) <= 3


# One breaker for many


async def test_failures_of_all_add_up_and_all_are_refused(share):
    """Three processes with a failure each; a fourth that has seen none is refused."""
    ones = [share() for _ in range(4)]
    for one in ones[:3]:
        await fail(one)
    error = await refused(ones[3])
    assert (error.state, error.failures) == ("open", 3)
    assert 29 < error.retry_after <= 30
    assert ones[3].is_open
    assert ones[3].statistics().failures == 3
    assert await ones[0].refresh() == "open"


async def test_breakers_of_other_names_and_prefixes_are_others(share, client, redis_prefix):
    """A dead venue blocks no other."""
    await fail(share("dead"), 3)
    assert await share("healthy").acall(Service().acall) == 1
    elsewhere = RedisBreakerState(client, prefix=f"{redis_prefix}other:", timeout=30)
    assert await CircuitBreaker("dead", shared=elsewhere).acall(Service().acall) == 1


async def test_a_probe_of_one_closes_it_for_all(share, client, redis_prefix):
    """Each hears of it with its next call; nobody else is let through meanwhile."""
    one_heard, other_heard = [], []
    one, other = share(heard=one_heard), share(heard=other_heard)
    await fail(one, 3)
    await refused(other)
    await pass_time(client, redis_prefix, 30)

    async def probe():
        error = await refused(other)
        assert (error.state, error.retry_after) == ("half_open", None)

    await one.acall(probe)
    assert await other.acall(Service().acall) == 1
    told = [[(event.after, event.reason) for event in heard] for heard in (one_heard, other_heard)]
    assert told[0] == told[1]
    assert told[0] == [
        ("open", "too many calls failed"),
        ("half_open", "reset_timeout is over"),
        ("closed", "the probes succeeded"),
    ]


async def test_a_failed_probe_opens_it_for_all_again(share, client, redis_prefix):
    """For its whole time, by the clock of the server."""
    one, other = share(), share()
    await fail(one, 3)
    await pass_time(client, redis_prefix, 30.5)
    guard = other.guard()
    with pytest.raises(ConnectionError):
        async with guard:
            raise ConnectionError
    assert (guard.opened, guard.state, guard.failures) == (True, "open", 4)
    assert 29 < (await refused(one)).retry_after <= 30


async def test_a_thousand_concurrent_calls_get_just_the_allowed_probes(share, client, redis_prefix):
    """From ten breakers that share only Redis; the rest is refused while they are at work."""
    ones = [share(half_open_max_calls=5, success_threshold=5) for _ in range(10)]
    await fail(ones[0], 3)
    await pass_time(client, redis_prefix, 30)
    counted = {"entered": 0, "refused": 0}
    decided = asyncio.Event()

    def decide(what):
        counted[what] += 1
        if sum(counted.values()) == 1000:
            decided.set()

    async def probe():
        decide("entered")
        await decided.wait()

    async def one(n):
        try:
            await ones[n % 10].acall(probe)
        except CircuitBreakerOpen:
            decide("refused")

    await asyncio.gather(*(one(n) for n in range(1000)))
    assert counted == {"entered": 5, "refused": 995}
    assert {await breaker.refresh() for breaker in ones} == {"closed"}


async def test_what_comes_late_counts_no_more(share, client, redis_prefix):
    """A call of before the outage that fails after it opens nothing."""
    one, other = share(failure_threshold=1), share(failure_threshold=1)
    entered, go = asyncio.Event(), asyncio.Event()

    async def hangs():
        entered.set()
        await go.wait()
        raise ConnectionError

    late = asyncio.create_task(one.acall(hangs))
    await entered.wait()
    await fail(other)
    await pass_time(client, redis_prefix, 30)
    assert await other.acall(Service().acall) == 1
    go.set()
    with pytest.raises(ConnectionError):
        await late
    assert await one.refresh() == "closed"


async def test_forced_by_one_it_is_forced_for_all(share, client, redis_prefix):
    """It holds at once where it was said, elsewhere once that one has called or refreshed."""
    one, other = share(), share()
    one.force_open()
    assert one.state == "forced_open"
    assert await one.refresh() == "forced_open"
    assert (await refused(other)).state == "forced_open"
    assert await client.ttl(one._shared.shared.keys("venue")[0]) == -1  # however long nobody calls
    other.force_close()
    assert other.is_closed
    assert await other.acall(Service().acall) == 1
    assert await one.acall(Service().acall) == 1
    assert one.is_closed
    await fail(one, 2)
    other.reset()
    await other.refresh()
    await fail(one, 2)
    assert one.is_closed


async def test_keys_expire_and_share_a_slot(share, client, redis_prefix):
    """A breaker that nobody uses any more leaves nothing behind for ever."""
    one = share()
    await fail(one, 1)
    keys = [key.decode() async for key in client.scan_iter(f"{redis_prefix}*")]
    assert sorted(keys) == [f"{redis_prefix}{{venue}}:{what}" for what in ("state", "window")]
    for key in keys:
        assert 86_000 < await client.ttl(key) < 90_000


async def test_a_client_that_decodes_is_one_too(redis_url, redis_prefix):
    """Answers may be bytes or texts."""
    async with redis.asyncio.from_url(redis_url, decode_responses=True) as client:
        one = CircuitBreaker(
            "venue",
            failure_threshold=1,
            shared=RedisBreakerState(client, prefix=redis_prefix, timeout=30),
        )
        await fail(one)
        assert (await refused(one)).state == "open"


# Probes whose holders go away


async def test_a_cancelled_probe_gives_its_place_back_to_all(share, client, redis_prefix):
    """At work, and also while it is just being let in."""
    one, other = share(), share()
    await fail(one, 3)
    await pass_time(client, redis_prefix, 30)
    entered = asyncio.Event()

    async def hangs():
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(one.acall(hangs))
    await entered.wait()
    assert (await refused(other)).state == "half_open"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    service, probes = Service(), one._shared.shared.keys("venue")[2]
    for turns in range(30):
        task = asyncio.create_task(one.acall(service.acall))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await client.zcard(probes) == 0
        if service.calls:
            break
    assert len(asyncio.all_tasks()) == 1
    assert await other.acall(Service().acall) == 1
    assert other.is_closed


async def test_a_probe_that_is_thrown_away_has_a_lease(share, client, redis_prefix):
    """Nothing can be awaited any more then: its place is free once the lease has run out."""
    one = share(probe_timeout=20)
    await fail(one, 3)
    await pass_time(client, redis_prefix, 30)
    guard = one.guard()
    await guard.__aenter__()
    await guard.__aexit__(GeneratorExit, GeneratorExit(), None)
    assert one.statistics().probes == 0
    assert (await refused(one)).state == "half_open"
    await pass_time(client, redis_prefix, 20)
    assert await one.acall(Service().acall) == 1


async def test_a_server_clock_that_goes_back_holds_nothing_up(share, client, redis_prefix):
    """An hour back: what was waited is waited, and the rest is as long as it was."""
    one = share()
    state = one._shared.shared.keys("venue")[0]
    await fail(one, 3)
    await pass_time(client, redis_prefix, 20)
    await client.hincrby(state, "latest", round(3600 * 1e6))
    await client.hincrby(state, "opened", round(3600 * 1e6))
    assert 9 < (await refused(one)).retry_after <= 10
    await pass_time(client, redis_prefix, 10)
    assert await one.acall(Service().acall) == 1
    assert one.is_closed


async def test_a_clock_that_jumps_in_a_process_does_not_matter(client, redis_prefix):
    """Time is that of the server, also for what is told of it."""
    clock = FakeClock()
    shared = RedisBreakerState(client, prefix=redis_prefix, timeout=30)
    one = CircuitBreaker("venue", failure_threshold=1, reset_timeout=30, clock=clock, shared=shared)
    await fail(one)
    clock.advance(1e6)
    assert one.is_open
    assert 29 < (await refused(one)).retry_after <= 30
    clock.advance(-2e6)
    assert 29 < (await refused(one)).retry_after <= 30
    assert one.is_open


# Redis loses its script, hangs, stops, and comes back


async def test_without_its_script_redis_is_told_again(own_redis):
    """SCRIPT FLUSH at any time: no call notices, and nothing is counted twice."""
    async with quick(own_redis) as client:
        shared = RedisBreakerState(client, timeout=30)
        one = CircuitBreaker("venue", failure_threshold=100, shared=shared)
        for n in range(20):
            if n % 3 == 0:
                await client.script_flush()

            async def flushes(n=n):
                if n % 4 == 0:
                    await client.script_flush()
                raise ConnectionError

            with pytest.raises(ConnectionError):
                await one.acall(flushes)
        await client.script_flush()
        one.force_open()
        await one.refresh()
        assert shared.is_there
        assert one.statistics().failures == 20
        assert one.state == "forced_open"


async def test_redis_stopped_in_mid_run(own_redis, caplog):
    """Calls go on from where all stood, by themselves; when it is back its state holds again."""
    clock = FakeClock()
    async with quick(own_redis) as client:
        shared = RedisBreakerState(client, timeout=30, pause=5, clock=clock)
        options = {"failure_threshold": 3, "reset_timeout": 30, "clock": clock, "shared": shared}
        one, other = CircuitBreaker("venue", **options), CircuitBreaker("other", **options)
        await fail(one, 3)
        await fail(other, 1)
        entered, go = asyncio.Event(), asyncio.Event()

        async def through_the_outage():
            entered.set()
            await go.wait()
            raise ConnectionError

        at_work = asyncio.create_task(other.acall(through_the_outage))
        await entered.wait()
        own_redis.stop()

        assert (await refused(one)).state == "open"
        assert not shared.is_there
        assert repr(shared) == "<RedisBreakerState 'pocketflow:breaker:', away>"
        go.set()
        with pytest.raises(ConnectionError):
            await at_work
        assert other.statistics().failures == 2
        await fail(other, 1)
        assert other.is_open
        clock.advance(30)
        assert await one.acall(Service().acall) == 1
        assert one.is_closed

        own_redis.start()
        await back(shared, one, clock)
        assert (await refused(one)).state == "open"
        assert await other.acall(Service().acall) == 1
        assert other.is_closed
        assert other.statistics().failures == 1
        assert shared.is_there
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("Redis does not answer (ConnectionError")
    assert said[1].startswith("Redis answers again")


async def test_redis_that_has_lost_its_data_begins_anew(own_redis):
    """Calls of before count nowhere; nobody takes the new state for an old one."""
    async with quick(own_redis) as client:
        one = CircuitBreaker(
            "venue", failure_threshold=2, shared=RedisBreakerState(client, timeout=30)
        )
        await fail(one, 1)
        entered, go = asyncio.Event(), asyncio.Event()

        async def hangs():
            entered.set()
            await go.wait()
            raise ConnectionError

        late = asyncio.create_task(one.acall(hangs))
        await entered.wait()
        await fail(one, 1)
        assert one.is_open
        await client.flushall()
        assert await one.acall(Service().acall) == 1
        assert one.is_closed
        go.set()
        with pytest.raises(ConnectionError):
            await late
        assert one.statistics().failures == 0


async def test_redis_that_hangs_costs_no_call_more_than_the_timeout(own_redis):
    """And that once in a pause; afterwards no answer is taken for that of another question."""
    clock = FakeClock()
    async with quick(own_redis) as client:
        shared = RedisBreakerState(client, timeout=0.2, pause=5, clock=clock)
        one = CircuitBreaker("venue", failure_threshold=1000, shared=shared)
        await one.acall(Service().acall)
        own_redis._process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            async with asyncio.timeout(10):
                made = await asyncio.gather(*(one.acall(Service().acall) for _ in range(200)))
            took = time.monotonic() - began
            assert made == [1] * 200
            assert 0.2 <= took < 5
            async with asyncio.timeout(0.15):
                await one.acall(Service().acall)
        finally:
            own_redis._process.send_signal(signal.SIGCONT)
        await back(shared, one, clock)
        for _ in range(50):
            await fail(one, 1)
        assert shared.is_there
        assert one.statistics().failures == 50


async def test_only_one_call_asks_after_a_pause(own_redis):
    """While Redis is away the others do not wait for its question."""
    clock = FakeClock()
    asked = []

    class Counting(redis.asyncio.Redis):
        async def execute_command(self, *args, **options):
            asked.append(args[0])
            return await super().execute_command(*args, **options)

    async with quick(own_redis, Counting) as client:
        one = CircuitBreaker("venue", shared=RedisBreakerState(client, clock=clock, timeout=30))
        own_redis.stop()
        await asyncio.gather(*(one.acall(Service().acall) for _ in range(50)))
        assert len(asked) <= 8  # those that were on their way
        asked[:] = ["one"]
        await asyncio.gather(*(one.acall(Service().acall) for _ in range(50)))
        assert len(asked) == 1
        clock.advance(5)
        await asyncio.gather(*(one.acall(Service().acall) for _ in range(50)))
        assert len(asked) == 2


async def test_half_open_without_redis_each_process_has_its_own_probes(own_redis):
    """The last known state goes on: probes that were out before keep their place here."""
    clock = FakeClock()
    async with quick(own_redis) as client:
        shared = RedisBreakerState(client, timeout=30, clock=clock)
        one = CircuitBreaker(
            "venue", failure_threshold=1, reset_timeout=0, clock=clock, shared=shared
        )
        await fail(one)

        async def probe():
            own_redis.stop()
            assert (await refused(one)).state == "half_open"

        await one.acall(probe)
        assert one.is_closed
        assert one.statistics().probes == 0


async def test_what_is_forced_while_redis_is_away_is_told_when_it_is_back(own_redis):
    """It holds here meanwhile, and for all afterwards."""
    clock = FakeClock()
    async with quick(own_redis) as client:
        shared = RedisBreakerState(client, timeout=30, pause=5, clock=clock)
        one, other = (CircuitBreaker("venue", clock=clock, shared=shared) for _ in range(2))
        assert await one.acall(Service().acall) == 1
        own_redis.stop()
        one.force_open()
        assert (await refused(one)).state == "forced_open"
        own_redis.start()
        await back(shared, one, clock)
        assert (await refused(one)).state == "forced_open"
        assert (await refused(other)).state == "forced_open"


async def test_no_connection_is_left_and_no_secret_is_told(own_redis, caplog):
    """Neither by a wrong password, which is as if it was away, nor in what it is called."""
    url = own_redis.url.replace("redis://", "redis://somebody:s3cret@")
    async with redis.asyncio.from_url(url) as client:
        shared = RedisBreakerState(client)
        one = CircuitBreaker("venue", shared=shared)
        assert await one.acall(Service().acall) == 1
        assert not shared.is_there
    assert "s3cret" not in caplog.text + repr(shared) + repr(one) + str(one.get_stats())


# Clients


def test_a_client_that_blocks_serves_both_kinds_of_calls(blocking, redis_prefix):
    """Asynchronous ones ask in a thread; all of them count together."""
    shared = RedisBreakerState(blocking, prefix=redis_prefix)
    one = CircuitBreaker("venue", failure_threshold=2, shared=shared)
    with pytest.raises(ConnectionError):
        one.call(Service(ConnectionError("down")))
    asyncio.run(fail(one))
    with pytest.raises(CircuitBreakerOpen):
        one.call(Service())
    assert asyncio.run(refused(one)).failures == 2
    with pytest.raises(CircuitBreakerOpen), one:
        raise AssertionError
    one.force_close()
    assert one.call(Service()) == 1
    assert asyncio.run(one.refresh()) == "closed"


def test_a_client_that_blocks_may_lose_its_server(own_redis):
    """Calls go on by themselves."""
    clock = FakeClock()
    retry = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(own_redis.url, socket_timeout=0.5, retry=retry) as client:
        shared = RedisBreakerState(client, clock=clock)
        one = CircuitBreaker("venue", failure_threshold=2, shared=shared)
        with pytest.raises(ConnectionError):
            one.call(Service(ConnectionError("down")))
        client.script_flush()
        with pytest.raises(ConnectionError):
            one.call(Service(ConnectionError("down")))
        own_redis.stop()
        with pytest.raises(CircuitBreakerOpen):
            one.call(Service())
        own_redis.start()
        asyncio.run(back(shared, one, clock))
        with pytest.raises(CircuitBreakerOpen) as caught:
            one.call(Service())
        assert caught.value.failures == 2
        assert shared.is_there


async def test_a_synchronous_call_cannot_ask_an_asynchronous_client(share):
    """It says what to do; the function is not called."""
    service = Service()
    with pytest.raises(TypeError, match="acall"):
        share().call(service)
    assert service.calls == 0


def test_each_event_loop_may_have_its_own_client(redis_url, redis_prefix):
    """A function gives the client of the loop that asks; the breaker goes on in the next loop."""
    clients = []
    shared = RedisBreakerState(lambda: clients[-1], prefix=redis_prefix, timeout=30)
    one = CircuitBreaker("venue", failure_threshold=3, shared=shared)

    async def in_a_loop():
        async with redis.asyncio.from_url(redis_url) as client:
            clients.append(client)
            await fail(one)
            assert shared.is_there

    for _ in range(3):
        asyncio.run(in_a_loop())
    assert one.is_open
    assert one.statistics().failures == 3


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"client": 7}, TypeError),
        ({"prefix": b"x"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"pause": -1}, ValueError),
        ({"connections": 0}, ValueError),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, error):
    """When it is made."""
    with pytest.raises(error):
        RedisBreakerState(**{"client": object, **options})


async def test_answers_that_come_in_another_order_change_nothing_back(share, client):
    """Calls at random, side by side: each breaker hears a life that makes sense."""
    heard = []
    one = share(heard=heard, failure_threshold=5, reset_timeout=0, half_open_max_calls=3)
    chance = random.Random(7)

    async def call():
        service = Service(ConnectionError("x") if chance.random() < 0.5 else None)
        for _ in range(30):
            try:
                await one.acall(service.acall)
            except (ConnectionError, CircuitBreakerOpen):
                continue

    await asyncio.gather(*(call() for _ in range(10)))
    states = ["closed", *(event.after for event in heard)]
    assert [event.before for event in heard] == states[:-1]
    stands = await client.hget(one._shared.shared.keys("venue")[0], "state")
    assert states[-1] == one.state == stands.decode()
    assert one.statistics().probes == 0
