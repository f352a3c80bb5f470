"""The event bus of one process."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.infrastructure.events import (
    EventBusError,
    MemoryBus,
    PublishError,
    SubscribeError,
    memory,
)
from tests.infrastructure.events_kit import CHANNEL, Heard, numbered, until


@pytest.fixture
async def bus():
    async with MemoryBus(patience=0.05) as made:
        yield made


async def test_guides_subscriber_hears_every_event_in_order(bus):
    """What is published is heard once, in order, and flush waits for it."""
    heard = Heard()
    await bus.subscribe(CHANNEL, heard)

    await bus.publish_many(CHANNEL, numbered(1, 100))

    assert await bus.flush()
    assert heard.numbers == list(range(1, 101))


async def test_listening_may_be_started_before_anybody_subscribes(bus):
    """Handlers subscribed after `start_listening` hear everything (defect 13)."""
    heard = Heard()
    await bus.start_listening()
    await bus.subscribe(CHANNEL, heard)
    await bus.publish(CHANNEL, {"n": 1})
    await bus.flush()

    assert heard.numbers == [1]


async def test_pattern_hears_all_channels_that_match(bus):
    """A pattern hears channels that match it, also new ones, and no others (defect 13)."""
    heard = Heard()
    await bus.pattern_subscribe("workflow_*", heard)
    await bus.publish("workflow_events", {"n": 1})
    await bus.publish("health_check", {"n": 2})
    await bus.publish("workflow_other", {"n": 3})
    await bus.flush()

    assert heard.numbers == [1, 3]
    assert bus.get_channels() == ["workflow_*"]
    assert bus.get_subscriber_count("workflow_new") == 1


async def test_slow_handler_does_not_slow_the_publisher(bus):
    """Publishing does not wait for a handler that is at work (defect 21)."""
    gate = asyncio.Event()
    slow, quick = Heard(gate), Heard()
    await bus.subscribe(CHANNEL, slow)
    await bus.subscribe(CHANNEL, quick)

    await bus.publish_many(CHANNEL, numbered(1, 50))
    await until(lambda: len(quick.events) == 50)

    assert slow.events == []
    gate.set()
    await bus.flush()
    assert slow.numbers == list(range(1, 51))


async def test_handler_that_empties_its_event_hurts_nobody(bus):
    """Each handler and the publisher have an event of their own, to its depth (defect 21)."""
    heard = Heard()

    async def spoil(event):
        event["outputs"]["list"].clear()
        event.clear()

    await bus.subscribe(CHANNEL, spoil)
    await bus.subscribe(CHANNEL, heard)
    event = {"n": 1, "outputs": {"list": [1, 2], "at": datetime(2026, 1, 1, tzinfo=UTC)}}
    before = {"n": 1, "outputs": {"list": [1, 2], "at": datetime(2026, 1, 1, tzinfo=UTC)}}
    await bus.publish(CHANNEL, event)
    assert event == before
    event["outputs"]["list"].append(3)
    await bus.flush()

    assert heard.events == [before]


async def test_handlers_are_called_in_the_order_in_which_they_came(bus):
    """With one event each, the first subscriber is called first (defect 21)."""
    order: list[int] = []
    for number in range(20):
        await bus.subscribe(CHANNEL, lambda _, number=number: order.append(number))
    await bus.publish(CHANNEL, {})
    await bus.flush()

    assert order == list(range(20))


async def test_error_of_a_handler_is_logged_with_its_name_and_goes_nowhere(bus, caplog):
    """A handler that raises is named in the log; publisher and other handlers see nothing."""
    heard = Heard()

    async def broken_handler(event):
        raise ValueError("no")

    failing = await bus.subscribe(CHANNEL, broken_handler)
    await bus.subscribe(CHANNEL, heard)
    with caplog.at_level(logging.WARNING):
        await bus.publish_many(CHANNEL, numbered(1, 2))
        await bus.flush()

    assert heard.numbers == [1, 2]
    assert (failing.handled, failing.failed) == (2, 2)
    assert "broken_handler" in caplog.text
    assert CHANNEL in caplog.text


async def test_cancellation_inside_a_handler_does_not_end_it(bus):
    """A handler that awaits something cancelled is called again with the next event."""
    heard = []

    async def unlucky(event):
        heard.append(event["n"])
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    subscription = await bus.subscribe(CHANNEL, unlucky)
    await bus.publish_many(CHANNEL, numbered(1, 3))
    await bus.flush()

    assert heard == [1, 2, 3]
    assert subscription.failed == 3


async def test_plain_function_may_be_a_handler(bus):
    """A handler need not be asynchronous."""
    heard: list[dict] = []
    await bus.subscribe(CHANNEL, heard.append)
    await bus.publish(CHANNEL, {"n": 1})
    await bus.flush()

    assert heard == [{"n": 1}]


# --- policies -------------------------------------------------------------------------------------


async def test_block_makes_publishers_wait_for_room_in_order():
    """A full queue stops its publishers until there is room; the order is theirs."""
    gate = asyncio.Event()
    heard = Heard(gate)
    async with MemoryBus(patience=None) as bus:
        await bus.subscribe(CHANNEL, heard, size=2)
        await bus.publish(CHANNEL, {"n": 0})
        await until(lambda: heard.calls == 1)
        await bus.publish_many(CHANNEL, numbered(1, 2))
        waiting = [asyncio.create_task(bus.publish(CHANNEL, event)) for event in numbered(3, 6)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)

        gate.set()
        await asyncio.gather(*waiting)
        await bus.flush()
        assert heard.numbers == list(range(7))


async def test_handler_that_hangs_costs_the_publisher_its_patience_once(bus, caplog):
    """After *patience* the event is lost to who hangs, counted, logged; nobody waits again."""
    gate = asyncio.Event()
    slow, quick = Heard(gate), Heard()
    subscription = await bus.subscribe(CHANNEL, slow, size=1)
    await bus.subscribe(CHANNEL, quick, size=1000)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: slow.calls == 1)
    loop = asyncio.get_running_loop()
    before = loop.time()

    with caplog.at_level(logging.WARNING):
        await bus.publish_many(CHANNEL, numbered(1, 200))

    assert loop.time() - before < 200 * 0.05 / 2
    assert subscription.dropped == 199
    assert caplog.text.count("does not keep up") == 3  # the first, the tenth, the hundredth
    gate.set()
    await bus.flush()
    assert slow.numbers == [0, 1]
    assert quick.numbers == list(range(201))
    await bus.publish(CHANNEL, {"n": 201})
    await bus.flush()
    assert slow.numbers == [0, 1, 201]


async def test_drop_oldest_keeps_the_newest_and_counts_the_others(bus):
    """A full queue drops what waited longest; the publisher never waits."""
    gate = asyncio.Event()
    heard = Heard(gate)
    subscription = await bus.subscribe(CHANNEL, heard, policy="drop_oldest", size=3)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: heard.calls == 1)
    await bus.publish_many(CHANNEL, numbered(1, 10))
    gate.set()

    assert await bus.flush()
    assert heard.numbers == [0, 8, 9, 10]
    assert subscription.dropped == 7


async def test_fail_tells_the_publisher_after_the_others_have_got_it(bus):
    """A full queue with "fail" raises, names who refused, and the others hear the event."""
    gate = asyncio.Event()
    full, other = Heard(gate), Heard()
    await bus.subscribe(CHANNEL, full, policy="fail", size=1, name="strict")
    await bus.subscribe(CHANNEL, other)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: full.calls == 1)
    await bus.publish(CHANNEL, {"n": 1})

    with pytest.raises(PublishError, match="strict did not take an event"):
        await bus.publish(CHANNEL, {"n": 2})

    gate.set()
    await bus.flush()
    assert full.numbers == [0, 1]
    assert other.numbers == [0, 1, 2]


async def test_cancelled_publisher_leaves_nothing_in_a_full_queue():
    """An event whose publisher gives up while it waits is not heard, and takes no room."""
    gate = asyncio.Event()
    heard = Heard(gate)
    async with MemoryBus(patience=None) as bus:
        await bus.subscribe(CHANNEL, heard, size=1)
        await bus.publish(CHANNEL, {"n": 0})
        await until(lambda: heard.calls == 1)
        await bus.publish(CHANNEL, {"n": 1})
        for _ in range(50):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await bus.publish(CHANNEL, {"n": 2})
        gate.set()
        await bus.flush()
        assert heard.numbers == [0, 1]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    publishers=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    policy=st.sampled_from(["block", "drop_oldest"]),
)
def test_events_of_each_publisher_stay_in_order(sizes, publishers, policy):
    """For any queues and publishers: per publisher the order holds, and "block" loses nothing."""

    async def run():
        heard = [Heard() for _ in sizes]
        async with MemoryBus(patience=None) as bus:
            made = [
                await bus.subscribe(CHANNEL, each, size=size, policy=policy)
                for each, size in zip(heard, sizes, strict=True)
            ]

            async def publish(who, count):
                for number in range(count):
                    await bus.publish(CHANNEL, {"who": who, "n": number})

            await asyncio.gather(*(publish(*each) for each in enumerate(publishers)))
            assert await bus.flush()
            for subscription, each in zip(made, heard, strict=True):
                assert subscription.dropped + len(each.events) == sum(publishers)
                assert policy != "block" or not subscription.dropped
                for who in range(len(publishers)):
                    own = [event["n"] for event in each.events if event["who"] == who]
                    assert own == sorted(set(own))

    asyncio.run(run())


# --- nothing can deadlock it ----------------------------------------------------------------------


async def test_handler_may_publish_on_its_own_full_channel(bus):
    """A handler that publishes to itself does not wait for itself; all of it is heard."""
    heard = []

    async def echo(event):
        heard.append(event["n"])
        if event["n"] < 5:
            await bus.publish_many(CHANNEL, [{"n": event["n"] + 1}] * 2)

    await bus.subscribe(CHANNEL, echo, size=1)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: len(heard) == 63)

    assert await bus.flush()
    assert sorted(set(heard)) == [0, 1, 2, 3, 4, 5]


async def test_two_handlers_that_publish_to_each_other_do_not_wait_for_each_other(bus):
    """Full queues in a circle do not lock up."""
    heard = []

    def handler(other):
        async def publish(event):
            heard.append(event["n"])
            if event["n"] < 6:
                await bus.publish_many(other, [{"n": event["n"] + 1}] * 2)

        return publish

    await bus.subscribe("a", handler("b"), size=1)
    await bus.subscribe("b", handler("a"), size=1)
    await bus.publish("a", {"n": 0})
    await until(lambda: len(heard) >= 127)

    assert await bus.flush()
    assert len(heard) == 2**7 - 1  # each but the last generation begets two


async def test_handler_that_never_waits_does_not_stop_the_rest(bus):
    """With a thousand events for plain functions, others get their turn in between."""
    turns = []
    await bus.subscribe(CHANNEL, lambda event: turns.append(event["n"]))
    await bus.publish_many(CHANNEL, numbered(1, 1000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert 0 < len(turns) < 100
    await bus.flush()
    assert len(turns) == 1000


async def test_circle_of_handlers_that_multiplies_events_is_bounded(bus, monkeypatch):
    """A handler that publishes without end fills its queue up to a limit, then loses events."""
    monkeypatch.setattr(memory, "BEYOND", 10)
    most = 0

    async def double(event):
        nonlocal most
        await bus.publish_many(CHANNEL, [{}, {}, {}])
        most = max(most, subscription.waiting)

    subscription = await bus.subscribe(CHANNEL, double, size=5)
    await bus.publish(CHANNEL, {})
    await until(lambda: subscription.dropped > 50)

    assert most <= 15
    await bus.unsubscribe(CHANNEL, double)


async def test_handler_may_flush_close_and_unsubscribe(bus):
    """None of these waits for the handler that calls it, and the bus still works or ends."""
    said = []

    async def handler(event):
        said.append(await bus.flush())
        await bus.unsubscribe(CHANNEL, handler)
        await bus.close()
        said.append("closed")

    await bus.subscribe(CHANNEL, handler)
    await bus.publish(CHANNEL, {})
    await until(lambda: "closed" in said)

    assert said == [False, "closed"]
    async with asyncio.timeout(5):
        await bus.close()


async def test_work_started_by_a_handler_does_not_wait_for_handlers_either(bus):
    """A task that a handler has started, and waits for, may publish to the handler and flush."""
    done = []

    async def work():
        await bus.publish_many(CHANNEL, [{"n": 1}] * 3)
        await bus.flush()

    async def handler(event):
        if event["n"] == 0:
            await asyncio.create_task(work())
        done.append(event["n"])

    await bus.subscribe(CHANNEL, handler, size=1)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: len(done) == 4)

    assert done == [0, 1, 1, 1]


# --- flush, close, unsubscribe --------------------------------------------------------------------


async def test_flush_gives_up_after_its_timeout(bus):
    """A handler that hangs makes flush return False, in time."""
    gate = asyncio.Event()
    await bus.subscribe(CHANNEL, Heard(gate))
    await bus.publish(CHANNEL, {})

    assert not await bus.flush(0.01)
    gate.set()
    assert await bus.flush()


async def test_flush_does_not_wait_for_what_comes_later(bus):
    """With events coming without end, flush returns when those before it are handled."""
    heard = Heard()
    await bus.subscribe(CHANNEL, heard, size=10)

    async def publish():
        while True:
            await bus.publish(CHANNEL, {"n": 0})
            await asyncio.sleep(0)

    task = asyncio.create_task(publish())
    await until(lambda: heard.events)
    assert await bus.flush(5)
    task.cancel()


async def test_close_lets_handlers_finish_and_then_refuses():
    """What was published before `close` is handled; afterwards nothing is taken; again is fine."""
    heard = Heard()
    bus = MemoryBus()
    await bus.subscribe(CHANNEL, heard)
    await bus.publish_many(CHANNEL, numbered(1, 20))
    await bus.close()
    await bus.close()

    assert heard.numbers == list(range(1, 21))
    assert not await bus.ping()
    with pytest.raises(PublishError, match="closed"):
        await bus.publish(CHANNEL, {})
    with pytest.raises(SubscribeError, match="closed"):
        await bus.subscribe(CHANNEL, heard)


async def test_close_cancels_a_handler_that_hangs():
    """After its timeout, `close` cancels what still runs, and no task is left."""
    before = asyncio.all_tasks()
    bus = MemoryBus()
    await bus.subscribe(CHANNEL, Heard(asyncio.Event()))
    await bus.publish_many(CHANNEL, numbered(1, 3))
    await bus.close(0.01)

    assert asyncio.all_tasks() == before


async def test_close_lets_publishers_go_that_wait_for_room():
    """A publisher that waits when the bus closes returns, and its event is handled."""
    gate = asyncio.Event()
    heard = Heard(gate)
    bus = MemoryBus(patience=None)
    await bus.subscribe(CHANNEL, heard, size=1)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: heard.calls == 1)
    await bus.publish(CHANNEL, {"n": 1})
    waiting = asyncio.create_task(bus.publish(CHANNEL, {"n": 2}))
    await asyncio.sleep(0)
    closing = asyncio.create_task(bus.close())
    await waiting
    gate.set()
    await closing

    assert heard.numbers == [0, 1, 2]


async def test_unsubscribed_handler_hears_nothing_more(bus):
    """What waits for it is dropped, and publishers that wait for it go on."""
    gate = asyncio.Event()
    heard, other = Heard(gate), Heard()
    await bus.subscribe(CHANNEL, heard)
    await bus.subscribe(CHANNEL, other)
    await bus.publish_many(CHANNEL, numbered(1, 3))
    await until(lambda: heard.calls == 1)

    assert await bus.unsubscribe(CHANNEL, heard)
    assert not await bus.unsubscribe(CHANNEL, heard)
    gate.set()
    await bus.publish(CHANNEL, {"n": 4})
    await bus.flush()

    assert heard.numbers == [1]
    assert other.numbers == [1, 2, 3, 4]
    await bus.unsubscribe_all()
    assert bus.get_channels() == []


async def test_same_handler_is_subscribed_once(bus):
    """Subscribing a handler again to a channel returns its subscription, as a set would."""
    heard = Heard()
    first = await bus.subscribe(CHANNEL, heard)

    assert await bus.subscribe(CHANNEL, heard) is first
    assert await bus.subscribe_many({"other": heard}) != [first]
    assert len(await bus.subscribe_many([CHANNEL, "third"], heard)) == 2
    assert bus.get_subscriber_count() == 3
    with pytest.raises(SubscribeError, match="needs a handler"):
        await bus.subscribe_many([CHANNEL])


async def test_stopped_bus_keeps_events_until_it_goes_on(bus):
    """`stop_listening` holds events back, as many as there is room for; nobody waits."""
    heard = Heard()
    subscription = await bus.subscribe(CHANNEL, heard, size=3)
    await bus.stop_listening()
    await bus.publish_many(CHANNEL, numbered(1, 5))

    assert await bus.flush()
    assert heard.events == []
    await bus.start_listening()
    await bus.flush()
    assert heard.numbers == [3, 4, 5]
    assert subscription.dropped == 2


async def test_wrong_subscriptions_and_events_are_refused(bus):
    """Each mistake is named at once."""
    with pytest.raises(SubscribeError, match="no handler"):
        await bus.subscribe(CHANNEL, "text")
    with pytest.raises(SubscribeError, match="no policy; there are block, drop_oldest, fail"):
        await bus.subscribe(CHANNEL, Heard(), policy="drop")
    with pytest.raises(SubscribeError, match="size"):
        await bus.subscribe(CHANNEL, Heard(), size=0)
    with pytest.raises(SubscribeError, match="channel"):
        await bus.subscribe("", Heard())
    with pytest.raises(PublishError, match="an event is a dict, not str"):
        await bus.publish(CHANNEL, "text")
    with pytest.raises(PublishError, match="channel"):
        await bus.publish(None, {})


async def test_event_that_cannot_be_copied_reaches_nobody(bus):
    """Something that cannot be copied, or contains itself, is refused before anybody hears it."""
    heard = Heard()
    await bus.subscribe(CHANNEL, heard)
    endless: dict = {}
    endless["self"] = endless

    with pytest.raises(PublishError, match="cannot be copied"):
        await bus.publish(CHANNEL, {"lock": threading.Lock()})
    with pytest.raises(PublishError, match="nested too deeply"):
        await bus.publish(CHANNEL, endless)
    await bus.flush()
    assert heard.events == []


def test_bus_goes_on_in_the_next_event_loop():
    """A bus whose loop has ended serves the next one, with what had waited."""
    heard = Heard()
    bus = MemoryBus()

    async def first():
        await bus.subscribe(CHANNEL, heard)
        await bus.publish(CHANNEL, {"n": 1})

    async def second():
        await bus.publish(CHANNEL, {"n": 2})
        await bus.flush()
        await bus.close()

    asyncio.run(first())
    asyncio.run(second())

    assert heard.numbers == [1, 2]


async def test_bus_of_another_running_loop_is_refused(bus):
    """Publishing from the loop of another thread is a clear error, not a race."""
    await bus.subscribe(CHANNEL, Heard())

    def publish():
        asyncio.run(bus.publish(CHANNEL, {}))

    with pytest.raises(EventBusError, match="belongs to another event loop"):
        await asyncio.to_thread(publish)


async def test_publishing_to_nobody_costs_next_to_nothing(bus):
    """Ten thousand events that nobody hears are not even copied."""
    event = {"lock": threading.Lock()}
    for _ in range(10_000):
        await bus.publish(CHANNEL, event)

    assert await bus.flush()
