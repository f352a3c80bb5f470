"""What a node may be told about its attempts: timeout, retry_on, backoff, jitter and the rest."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async import (
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchNode,
    BatchNode,
    Flow,
    FlowError,
    Node,
    NodeTimeoutError,
)
from pocketflow_async.clock import using_clock
from pocketflow_async.options import NodeOptions
from tests.engine.engine_kit import FLOWS, NODES, FakeClock, Flaky, run, subclass, turns

both = pytest.mark.parametrize("colour", ["sync", "async"])
every_node = pytest.mark.parametrize(
    "base", [Node, BatchNode, AsyncNode, AsyncBatchNode, AsyncParallelBatchNode]
)


def one_item(base: type, title: str = "Made", **phases):
    """Subclass *base*; a batch gets one item, so that all kinds can be used alike."""
    if issubclass(base, BatchNode):
        phases.setdefault("prep", lambda self, shared: [shared])
    else:
        phases.setdefault("prep", lambda self, shared: shared)
    phases.setdefault("post", lambda self, shared, prep_res, exec_res: exec_res)
    return subclass(base, title, **phases)


def unwrapped(base: type, result):
    return result[0] if issubclass(base, BatchNode) else result


# --- waits ----------------------------------------------------------------------------------------


@every_node
@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, [2.0, 2.0, 2.0, 2.0]),
        ({"backoff": 1}, [2.0, 2.0, 2.0, 2.0]),
        ({"backoff": 3}, [2.0, 6.0, 18.0, 54.0]),
        ({"backoff": 1.5}, [2.0, 3.0, 4.5, 6.75]),
        ({"backoff": 3, "max_wait": 10}, [2.0, 6.0, 10.0, 10.0]),
        ({"max_wait": 0.5}, [0.5, 0.5, 0.5, 0.5]),
        ({"jitter": 1.0}, [0.0, 0.0, 0.0, 0.0]),
        ({"jitter": 0.25}, [1.5, 1.5, 1.5, 1.5]),
        ({"backoff": 2, "jitter": 0.5, "max_wait": 6}, [1.0, 2.0, 3.0, 3.0]),
    ],
)
def test_the_waits_are_exactly_as_asked(base, options, waits, fake_clock):
    """Between attempts n and n+1 lie `wait * backoff**n`, at most max_wait, less the jitter."""
    flaky = Flaky(4)

    result = run(one_item(base, exec=flaky.phase)(max_retries=5, wait=2.0, **options), "in")

    assert unwrapped(base, result) == "in"
    assert fake_clock.waits == [wait for wait in waits if wait]


@both
def test_jitter_draws_between_what_remains_and_the_full_wait(colour, fake_clock):
    """With `jitter=0.25` each wait is drawn from its last quarter."""
    fake_clock.luck = 1.0
    node = one_item(NODES[colour], exec=Flaky(2).phase)(3, 4.0, jitter=0.25, backoff=2)

    run(node, "in")

    assert fake_clock.asked == [(3.0, 4.0), (6.0, 8.0)]
    assert fake_clock.waits == [4.0, 8.0]


@both
def test_there_is_no_wait_after_the_last_attempt(colour, fake_clock):
    """A node that gives up does so at once."""
    with pytest.raises(ValueError, match="try 3"):
        run(one_item(NODES[colour], exec=Flaky(9).phase)(3, 5, backoff=2), "in")

    assert fake_clock.waits == [5, 10]


async def test_each_item_of_a_parallel_batch_waits_for_itself(fake_clock):
    """Attempts, waits and backoff are counted per item."""
    calls: dict[int, int] = {}

    def exec_(self, item):
        calls[item] = calls.get(item, 0) + 1
        if calls[item] <= item:
            raise ValueError(item)
        return (item, self.cur_retry)

    node = subclass(
        AsyncParallelBatchNode,
        prep=lambda self, shared: range(4),
        exec=exec_,
        post=lambda s, a, b, c: c,
    )(max_retries=4, wait=1, backoff=2)

    assert await node.run_async(None) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert sorted(fake_clock.waits) == [1, 1, 1, 2, 2, 4]


shares = st.floats(0, 1)
seconds = st.floats(0, 1e6)
factors = st.floats(1, 1e6)
attempts = st.integers(0, 3000)
bounds = st.floats(0.001, 1e9)


@given(wait=seconds, attempt=attempts)
def test_without_options_every_delay_is_the_wait(wait, attempt):
    """Off by default: a constant wait, and chance is not asked."""
    clock = FakeClock()

    assert NodeOptions().delay(wait, attempt, clock) == wait
    assert clock.asked == []


@given(wait=seconds, backoff=factors, attempt=attempts, cap=bounds, jitter=shares, luck=shares)
def test_a_delay_lies_between_zero_and_max_wait(wait, backoff, attempt, cap, jitter, luck):
    """Whatever the factor and however late the attempt, `max_wait` holds and nothing overflows."""
    chosen = NodeOptions(backoff=backoff, max_wait=cap, jitter=jitter)

    delay = chosen.delay(wait, attempt, FakeClock(luck))

    assert 0 <= delay <= cap


@given(
    wait=seconds, backoff=st.floats(1, 4), attempt=st.integers(0, 50), jitter=shares, luck=shares
)
def test_jitter_takes_no_more_than_its_share(wait, backoff, attempt, jitter, luck):
    """The delay is at most the full one, and at least the share of it that is not random."""
    full = NodeOptions(backoff=backoff).delay(wait, attempt, FakeClock())
    delay = NodeOptions(backoff=backoff, jitter=jitter).delay(wait, attempt, FakeClock(luck))

    assert full == pytest.approx(wait * backoff**attempt)
    assert full * (1 - jitter) * (1 - 1e-12) <= delay <= full * (1 + 1e-12)


@given(wait=seconds, backoff=factors, cap=st.none() | bounds, attempt=st.integers(0, 300))
def test_delays_never_shrink_from_attempt_to_attempt(wait, backoff, cap, attempt):
    """Without jitter the next delay is at least as long as this one."""
    chosen = NodeOptions(backoff=backoff, max_wait=cap)
    clock = FakeClock()

    if wait:
        assert chosen.delay(wait, attempt, clock) <= chosen.delay(wait, attempt + 1, clock)


def test_a_wait_of_zero_stays_zero_however_many_attempts():
    """No wait asked, no wait made: `wait=0, backoff=2.0, max_retries=2000` never sleeps."""
    assert NodeOptions(backoff=2.0).delay(0, 1999, FakeClock()) == 0


def test_an_overflown_delay_with_full_jitter_is_a_number():
    """A delay is a number, so that a sleep understands it."""
    assert not math.isnan(NodeOptions(backoff=10.0, jitter=1.0).delay(1, 400, FakeClock(0.5)))


# --- retry_on -------------------------------------------------------------------------------------


@every_node
@pytest.mark.parametrize(
    ("retry_on", "tries"),
    [
        (None, 3),
        (ValueError, 3),
        (Exception, 3),
        (KeyError, 1),
        ((KeyError, ValueError), 3),
        ((KeyError, OSError), 1),
        ((), 1),
        (lambda error: "try" in str(error), 3),
        (lambda error: str(error) == "try 1", 2),
        (lambda error: False, 1),
    ],
)
def test_retry_on_decides_whether_there_is_another_attempt(base, retry_on, tries, fake_clock):
    """Types (subclasses too), a tuple of them, or a predicate on the error."""
    flaky = Flaky(9, type("Odd", (ValueError,), {}))

    with pytest.raises(ValueError, match=f"try {tries}"):
        run(one_item(base, exec=flaky.phase)(3, 1, retry_on=retry_on), "in")

    assert flaky.calls == tries
    assert fake_clock.waits == [1] * (tries - 1)


@every_node
def test_an_error_not_worth_retrying_goes_to_the_fallback_at_once(base, fake_clock):
    """The fallback gets that error; no wait, no further attempt."""
    flaky, told = Flaky(9, KeyError), []

    def fallback(self, prep_res, exc):
        told.append((prep_res, type(exc), self.cur_retry))
        return "instead"

    node = one_item(base, exec=flaky.phase, exec_fallback=fallback)(5, 1, retry_on=ValueError)

    assert unwrapped(base, run(node, "in")) == "instead"
    assert (flaky.calls, told, fake_clock.waits) == (1, [("in", KeyError, 0)], [])


@both
def test_an_error_of_the_predicate_itself_reaches_the_caller(colour):
    """A predicate that fails is a bug to be seen: no retry, its error leaves, exec's as context."""

    def predicate(error):
        raise RuntimeError("bad predicate")

    flaky = Flaky(9)

    with pytest.raises(RuntimeError, match="bad predicate") as caught:
        run(one_item(NODES[colour], exec=flaky.phase)(3, retry_on=predicate), "in")

    assert flaky.calls == 1
    assert isinstance(caught.value.__context__, ValueError)


@both
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]
)
def test_what_is_no_exception_is_never_retried(colour, error):
    """KeyboardInterrupt, SystemExit and cancellation pass: no retry, no predicate, no fallback."""
    flaky, asked = Flaky(9, error), []

    def fallback(self, prep_res, exc):
        asked.append(exc)

    node = one_item(NODES[colour], exec=flaky.phase, exec_fallback=fallback)(
        3, retry_on=lambda e: asked.append(e) or True
    )

    async def main():
        try:
            return await node.run_async("in")
        except error as caught:  # caught here, so that the loop does not see KeyboardInterrupt
            return caught

    if colour == "async":
        assert isinstance(asyncio.run(main()), error)
    else:
        with pytest.raises(error):
            node.run("in")
    assert flaky.calls == 1
    assert asked == []


async def test_cancellation_during_an_attempt_is_not_retried():
    """Cancelling the task ends the node with CancelledError, whatever its retries and fallback."""
    started, calls = asyncio.Event(), []

    async def exec_(self, prep_res):
        calls.append("exec")
        started.set()
        await asyncio.Event().wait()

    node = one_item(
        AsyncNode, exec=exec_, exec_fallback=lambda self, p, e: calls.append("fallback")
    )(5, timeout=60, retry_on=Exception)
    task = asyncio.create_task(node.run_async("in"))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == ["exec"]


async def test_cancellation_during_a_wait_ends_the_node():
    """A node that waits for its next attempt can be cancelled; the attempt is not made."""
    flaky, waiting = Flaky(9), asyncio.Event()

    class Waits(FakeClock):
        async def asleep(self, seconds):
            waiting.set()
            await asyncio.Event().wait()

    with using_clock(Waits()):
        task = asyncio.create_task(one_item(AsyncNode, exec=flaky.phase)(5, 1).run_async("in"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert flaky.calls == 1


# --- timeout --------------------------------------------------------------------------------------


class Stuck:
    """An async exec that never comes back for its first *times* calls; counts cancellations."""

    def __init__(self, times: int) -> None:
        self.times, self.calls, self.cancelled = times, 0, 0

    async def __call__(self, node, prep_res):
        self.calls += 1
        if self.calls <= self.times:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return prep_res

    @property
    def phase(self):
        async def exec_(node, prep_res):
            return await self(node, prep_res)

        return exec_


@pytest.mark.parametrize("base", [AsyncNode, AsyncBatchNode, AsyncParallelBatchNode])
async def test_a_timeout_cancels_the_attempt_and_the_next_one_is_made(base, fake_clock):
    """Too late is a failure like any other: the attempt is cancelled, the next one made."""
    stuck = Stuck(2)
    node = one_item(base, exec=stuck.phase)(3, 7, timeout=0.01)

    assert unwrapped(base, await node.run_async("in")) == "in"
    assert (stuck.calls, stuck.cancelled, fake_clock.waits) == (3, 2, [7, 7])


@pytest.mark.parametrize("base", [AsyncNode, AsyncBatchNode, AsyncParallelBatchNode])
async def test_a_timeout_on_the_last_attempt_is_a_node_timeout_error(base):
    """It is a TimeoutError of the engine, names the node and what to do, and has the note."""
    flow = AsyncFlow(one_item(base, "Slow", exec=Stuck(9).phase)(2, timeout=0.01), name="outer")

    with pytest.raises(NodeTimeoutError) as caught:
        await flow.run_async("in")

    error = caught.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error, FlowError)
    assert (error.name, error.seconds) == ("Slow", 0.01)
    assert str(error).startswith("Slow: exec took longer than 0.01 s.")
    assert error.__notes__ == ["in flow outer, node Slow, exec, attempt 2 of 2"]


async def test_a_timed_out_attempt_may_have_a_fallback():
    """The fallback gets the NodeTimeoutError."""
    told = []
    node = one_item(
        AsyncNode,
        exec=Stuck(9).phase,
        exec_fallback=lambda self, p, e: told.append(type(e)) or "late",
    )(timeout=0.01)

    assert await node.run_async("in") == "late"
    assert told == [NodeTimeoutError]


async def test_retry_on_tells_timeouts_from_other_errors():
    """`retry_on=TimeoutError` retries what took too long and nothing else."""
    stuck = Stuck(1)

    async def exec_(self, prep_res):
        await stuck(self, prep_res)
        raise ValueError("now it fails")

    with pytest.raises(ValueError, match="now it fails"):
        await one_item(AsyncNode, exec=exec_)(9, timeout=0.01, retry_on=TimeoutError).run_async(
            "in"
        )
    assert stuck.calls == 2


async def test_a_timeout_error_of_exec_itself_stays_what_it_is():
    """Only the engine's own limit makes a NodeTimeoutError."""
    mine = TimeoutError("from the library")

    def exec_(self, prep_res):
        raise mine

    with pytest.raises(TimeoutError) as caught:
        await one_item(AsyncNode, exec=exec_)(timeout=60).run_async("in")
    assert caught.value is mine


async def test_a_timeout_leaves_prep_post_and_waits_alone(fake_clock):
    """The limit is on one attempt: prep, post, the fallback and the waits take what they take."""
    order = []

    async def slow(*_):
        order.append("slow")
        async with asyncio.timeout(None):
            loop = asyncio.get_running_loop()
            late = loop.time() + 0.03
            over = asyncio.Event()
            loop.call_at(late, over.set)
            await over.wait()
        return "x"

    node = subclass(AsyncNode, prep=slow, exec=Flaky(9).phase, exec_fallback=slow, post=slow)(
        2, 1000, timeout=0.01
    )

    assert await node.run_async(None) == "x"
    assert order == ["slow"] * 3
    assert fake_clock.waits == [1000]


async def test_cancellation_wins_over_a_timeout_that_is_due():
    """A node cancelled from outside in the very turn its time is up is cancelled, not retried."""
    calls, cleaning = [], asyncio.Event()

    async def exec_(self, prep_res):
        calls.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await turns(3)

    task = asyncio.create_task(one_item(AsyncNode, exec=exec_)(9, timeout=0.01).run_async("in"))
    await cleaning.wait()  # the timeout has struck
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == [1]


@pytest.mark.parametrize("base", [Node, BatchNode])
def test_a_synchronous_attempt_that_comes_back_late_has_failed(base, fake_clock):
    """Sync code cannot be interrupted: what it returns too late is dropped, then tried again."""
    durations = [5.1, 5.0]

    def exec_(self, prep_res):
        fake_clock.now += durations[self.cur_retry]
        return self.cur_retry

    assert unwrapped(base, run(one_item(base, exec=exec_)(3, timeout=5), "in")) == 1


def test_a_synchronous_node_that_is_late_for_good_raises_node_timeout_error(fake_clock):
    """The same error and note as of an async node."""

    def exec_(self, prep_res):
        fake_clock.now += 6

    with pytest.raises(NodeTimeoutError, match="Slow: exec took longer than 5 s") as caught:
        Flow(one_item(Node, "Slow", exec=exec_)(2, timeout=5)).run("in")

    assert caught.value.__notes__ == ["in flow Flow, node Slow, exec, attempt 2 of 2"]


def test_a_late_error_of_synchronous_code_stays_the_error(fake_clock):
    """What fails late fails with its own error."""

    def exec_(self, prep_res):
        fake_clock.now += 6
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        one_item(Node, exec=exec_)(timeout=5).run("in")


# --- names, bad options ---------------------------------------------------------------------------


@both
def test_the_name_is_what_errors_say(colour):
    """`name=` takes the place of the class's name in notes."""
    node = one_item(NODES[colour], exec=Flaky(9).phase)(name="fetch prices")

    with pytest.raises(ValueError, match="try 1") as caught:
        run(FLOWS[colour](node, name="daily"), "in")

    assert caught.value.__notes__ == ["in flow daily, node fetch prices, exec, attempt 1 of 1"]


@every_node
def test_a_node_without_options_has_only_pocketflows_attributes(base):
    """Off by default means not there: users' own attributes of these names stay theirs."""
    assert set(vars(base(2, 1))) == {"params", "successors", "max_retries", "wait"}


@both
def test_users_own_attributes_are_not_the_engines_options(colour, fake_clock):
    """`self.timeout = …` in a user's class means nothing to the engine."""

    class Mine(one_item(NODES[colour], exec=Flaky(1).phase)):
        def __init__(self):
            super().__init__(2, 1)
            self.timeout = self.backoff = self.jitter = self.max_wait = "mine"
            self.retry_on = self.name = self.concurrency = self.on_error = self.in_thread = "mine"

    assert run(Mine(), "in") == "in"
    assert fake_clock.waits == [1]


@every_node
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("timeout", 0, ValueError),
        ("timeout", -1, ValueError),
        ("timeout", "1", ValueError),
        ("timeout", math.nan, ValueError),
        ("max_wait", 0, ValueError),
        ("max_wait", -0.1, ValueError),
        ("max_wait", [1], ValueError),
        ("backoff", 0.9, ValueError),
        ("backoff", "2", ValueError),
        ("backoff", None, ValueError),
        ("backoff", math.nan, ValueError),
        ("jitter", -0.1, ValueError),
        ("jitter", 1.1, ValueError),
        ("jitter", "1", ValueError),
        ("jitter", None, ValueError),
        ("name", "", ValueError),
        ("name", 3, ValueError),
        ("retry_on", KeyboardInterrupt, ValueError),
        ("retry_on", asyncio.CancelledError, ValueError),
        ("retry_on", BaseException, ValueError),
        ("retry_on", (ValueError, SystemExit), ValueError),
        ("retry_on", int, ValueError),
        ("retry_on", 5, TypeError),
        ("retry_on", "ValueError", TypeError),
        ("retry_on", [ValueError], TypeError),
        ("retry_on", ValueError(), TypeError),
        ("retry_on", (ValueError, 5), TypeError),
        ("retry_on", (ValueError, lambda e: True), TypeError),
        ("retry_on", ((ValueError,),), TypeError),
        pytest.param(
            "retry_on",
            (ValueError, None),
            TypeError,
        ),
    ],
)
def test_a_bad_value_is_refused_when_the_node_is_made(base, name, value, error):
    """The error names the option and shows the value, before anything has run."""
    with pytest.raises(error, match=name):
        base(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_bad_concurrency_is_refused(value):
    """`concurrency` counts workers."""
    with pytest.raises(ValueError, match="concurrency must be a whole number above 0"):
        AsyncParallelBatchNode(concurrency=value)


@pytest.mark.parametrize("value", ["ignore", "", None, True])
def test_a_bad_on_error_is_refused(value):
    """The two choices are in the message."""
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'collect'"):
        AsyncParallelBatchNode(on_error=value)


COMMON = "backoff, jitter, max_wait, name, policies, retry_on, timeout"


@pytest.mark.parametrize(
    ("base", "option", "takes"),
    [
        (
            Node,
            "retries",
            "backoff, in_thread, jitter, max_wait, name, policies, retry_on, timeout",
        ),
        (
            Node,
            "concurrency",
            "backoff, in_thread, jitter, max_wait, name, policies, retry_on, timeout",
        ),
        (
            BatchNode,
            "on_error",
            "backoff, in_thread, jitter, max_wait, name, policies, retry_on, timeout",
        ),
        (AsyncNode, "in_thread", COMMON),
        (AsyncBatchNode, "concurrency", COMMON),
        (
            AsyncParallelBatchNode,
            "in_thread",
            "backoff, concurrency, jitter, max_wait, name, on_error, policies, retry_on, timeout",
        ),
    ],
)
def test_an_unknown_option_is_refused_with_the_list_of_known_ones(base, option, takes):
    """A typo, or an option of another kind of node, is a TypeError that says what is taken."""
    with pytest.raises(TypeError) as caught:
        subclass(base, "Mine")(**{option: 1})

    assert str(caught.value) == f"Mine has no option {option!r}; it takes {takes}"


@every_node
def test_options_are_keyword_only(base):
    """The two positional parameters are PocketFlow's; there is no third."""
    with pytest.raises(TypeError):
        base(1, 0, 5)
