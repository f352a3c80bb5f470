"""The event bus in Redis streams, with servers and consumers that are stopped and killed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal

import pytest

from pocketflow_async.infrastructure.events import (
    PublishError,
    RedisStreamsBus,
    SubscribeError,
    from_cloudevent,
)
from tests.infrastructure.events_kit import CHANNEL, Heard, member, numbered, until
from tests.service_kit import free_port


@pytest.fixture
async def buses(redis_url, redis_prefix):
    """Return what makes buses on the machine's Redis; they are closed after the test."""
    made = []

    def make(url=redis_url, **options):
        bus = RedisStreamsBus(url, **{"prefix": redis_prefix, "block": 0.2, **options})
        made.append(bus)
        return bus

    yield make
    for bus in made:
        await bus.close(0.5)


async def client_of(url):
    import redis.asyncio

    return redis.asyncio.from_url(url)


async def test_every_process_hears_everything_in_order(buses):
    """Each bus without a group hears all events once, in order; flush waits for one's own."""
    one, two, publisher = buses(), buses(), buses()
    heard = [Heard(), Heard()]
    await one.start_listening()  # before anybody subscribes (defect 13)
    await one.subscribe(CHANNEL, heard[0])
    await two.subscribe(CHANNEL, heard[1])
    await publisher.publish_many(CHANNEL, numbered(1, 300))
    await until(lambda: all(len(each.events) == 300 for each in heard))

    assert [each.numbers for each in heard] == [list(range(1, 301))] * 2
    own = Heard()
    await publisher.subscribe(CHANNEL, own)
    await publisher.publish(CHANNEL, {"n": 301})
    assert await publisher.flush()
    assert own.numbers == [301]


async def test_handlers_are_told_apart(buses, caplog):
    """One handler's error, change or slowness is not seen by another or by the publisher."""
    gate = asyncio.Event()
    slow, heard = Heard(gate), Heard()

    async def spoil(event):
        event.clear()
        raise ValueError("no")

    bus = buses()
    await bus.subscribe(CHANNEL, slow)
    failing = await bus.subscribe(CHANNEL, spoil)
    await bus.subscribe(CHANNEL, heard)
    with caplog.at_level(logging.WARNING):
        await bus.publish_many(CHANNEL, numbered(1, 5))
        await until(lambda: len(heard.events) == 5 and failing.failed == 5)

    assert slow.events == []
    assert "spoil" in caplog.text
    assert not await bus.flush(0.01)
    gate.set()
    assert await bus.flush()


async def test_wire_is_cloudevents_and_the_event_comes_back_as_it_was(
    buses, redis_url, redis_prefix
):
    """Others can read the stream; events without a type are untouched; NaN is null."""
    heard, bus = Heard(), buses()
    await bus.subscribe(CHANNEL, heard)
    event = {"type": "tick", "n": 1, "workflow_id": "w", "event_id": "e", "price": float("nan")}
    await bus.publish(CHANNEL, event)
    await bus.publish(CHANNEL, {"n": 2})
    await bus.flush()

    assert heard.events == [{**event, "price": None}, {"n": 2}]
    client = await client_of(redis_url)
    async with client:
        ((_, fields), *_) = await client.xrange(f"{redis_prefix}stream:{CHANNEL}")
    envelope = json.loads(fields[b"event"])
    assert (envelope["id"], envelope["source"]) == ("e", "/workflow/w")
    assert from_cloudevent(envelope) == {**event, "price": None}


async def test_pattern_hears_channels_that_come_later(buses):
    """A pattern hears all of a channel that is first used after it was subscribed."""
    heard, bus, other = Heard(), buses(), buses()
    await other.publish("workflow_old", {"n": 0})
    await bus.pattern_subscribe("workflow_*", heard)
    await other.publish("workflow_old", {"n": 1})
    await other.publish("health", {"n": 2})
    await other.publish_many("workflow_new", numbered(3, 4))
    await until(lambda: len(heard.events) == 3)

    assert sorted(heard.numbers) == [1, 3, 4]
    await bus.publish("workflow_newest", {"n": 5})
    assert await bus.flush()
    assert sorted(heard.numbers) == [1, 3, 4, 5]


async def test_stopped_bus_loses_nothing(buses):
    """What is published while listening is stopped is heard when it goes on."""
    heard, witness, bus = Heard(), Heard(), buses()
    await bus.subscribe(CHANNEL, heard)
    await buses().subscribe(CHANNEL, witness)
    await bus.stop_listening()
    await bus.publish_many(CHANNEL, numbered(1, 3))
    await until(lambda: len(witness.events) == 3)
    assert heard.events == []
    await bus.start_listening()
    assert await bus.flush()

    assert heard.numbers == [1, 2, 3]


async def test_unsubscribed_and_closed_ones_hear_nothing_more(buses):
    """After `unsubscribe` nothing is heard; `close` handles what there is, then refuses."""
    gone, heard, bus = Heard(), Heard(), buses()
    await bus.subscribe(CHANNEL, gone)
    await bus.subscribe(CHANNEL, heard)
    assert await bus.unsubscribe(CHANNEL, gone)
    await bus.publish_many(CHANNEL, numbered(1, 50))
    before = asyncio.get_running_loop().time()
    await bus.close()
    await bus.close()

    assert asyncio.get_running_loop().time() - before < 2
    assert gone.events == []
    assert heard.numbers == list(range(1, 51))
    with pytest.raises(PublishError, match="closed"):
        await bus.publish(CHANNEL, {})
    assert not await bus.ping()


async def test_handler_may_publish_flush_and_close(buses):
    """Nothing that a handler does with its bus locks it up."""
    bus, heard = buses(), []

    async def handler(event):
        heard.append(event["n"])
        if event["n"] < 3:
            await bus.publish(CHANNEL, {"n": event["n"] + 1})
            assert not await bus.flush()
        else:
            await bus.close()
            heard.append("closed")

    await bus.subscribe(CHANNEL, handler)
    await bus.publish(CHANNEL, {"n": 1})
    await until(lambda: heard[-1:] == ["closed"])


async def test_who_falls_behind_what_is_kept_is_told(buses, caplog):
    """A stream keeps about *keep* events; who has not read the others finds it in the log."""
    gate = asyncio.Event()
    heard, bus = Heard(gate), buses(keep=100)
    await bus.subscribe(CHANNEL, heard)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: heard.calls == 1)
    with caplog.at_level(logging.WARNING):
        for first in range(1, 2001, 100):
            await asyncio.gather(
                *(bus.publish(CHANNEL, event) for event in numbered(first, first + 99))
            )
        gate.set()
        assert await bus.flush()

    assert heard.numbers[-1] == 2000
    assert 100 <= len(heard.events) < 400
    assert "may have lost events" in caplog.text


async def test_what_is_no_event_is_left_out(buses, redis_url, redis_prefix, caplog):
    """Entries that others have written are logged and passed over."""
    heard, bus = Heard(), buses()
    await bus.subscribe(CHANNEL, heard)
    client = await client_of(redis_url)
    async with client:
        for fields in ({"a": "b"}, {"event": "{"}, {"event": '{"data": 1}'}):
            await client.xadd(f"{redis_prefix}stream:{CHANNEL}", fields)
    await bus.publish(CHANNEL, {"n": 1})
    await bus.flush()

    assert heard.numbers == [1]
    assert caplog.text.count("is no event") == 3


async def test_channel_that_is_no_stream_is_refused(buses, redis_url, redis_prefix):
    """A key of another type is an error for that channel alone."""
    bus, heard = buses(), Heard()
    client = await client_of(redis_url)
    async with client:
        await client.set(f"{redis_prefix}stream:taken", "x")
    await bus.subscribe(CHANNEL, heard)

    with pytest.raises(PublishError, match="refuses an event on 'taken'"):
        await bus.publish("taken", {})
    await bus.publish(CHANNEL, {"n": 1})
    await bus.flush()
    assert heard.numbers == [1]


async def test_server_that_is_not_there_is_named_without_its_password(buses):
    """Subscribing needs the server; publishing keeps what it can, then refuses."""
    port = free_port()
    bus = buses(f"redis://:hunter2@127.0.0.1:{port}/0", patience=0.02, size=3)

    with pytest.raises(SubscribeError, match=f"127.0.0.1:{port}") as caught:
        await bus.subscribe(CHANNEL, Heard())
    assert "hunter2" not in f"{caught.value!r} {bus!r}"
    assert bus.get_channels() == []
    assert not await bus.ping()
    await bus.publish_many(CHANNEL, numbered(1, 3))
    with pytest.raises(PublishError, match="so long that 3 wait"):
        await bus.publish(CHANNEL, {"n": 4})
    assert bus.unsent == 3


# --- lost servers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("group", [None, "g"])
async def test_nothing_is_lost_or_doubled_when_the_server_goes_and_comes(
    own_redis, buses, how, group
):
    """Through three ends of the server in mid-run every event is heard once, in order."""
    heard = Heard()
    bus, publisher = (
        buses(own_redis.url, group=each, patience=0.05, idle=60.0) for each in (group, None)
    )
    await bus.subscribe(CHANNEL, heard)

    async def publish():
        for event in numbered(1, 600):
            await publisher.publish(CHANNEL, event)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(publish())
    for count in (50, 200, 400):
        await until(lambda count=count: len(heard.events) >= count)
        await asyncio.to_thread(getattr(own_redis, how))
        await until(lambda: publisher.unsent > 0 or task.done())
        await asyncio.to_thread(own_redis.start)
    await task
    await until(lambda: len(heard.events) >= 600)
    await publisher.flush()

    assert heard.numbers == list(range(1, 601))


async def test_server_that_hangs_costs_the_publisher_its_patience_once(own_redis, buses):
    """While the server stands still, one event waits; all of them arrive when it goes on."""
    heard, bus = Heard(), buses(own_redis.url, patience=0.1)
    await bus.subscribe(CHANNEL, heard)
    await bus.publish(CHANNEL, {"n": 0})
    await until(lambda: heard.events)
    process = own_redis._process
    process.send_signal(signal.SIGSTOP)
    try:
        before = asyncio.get_running_loop().time()
        await bus.publish_many(CHANNEL, numbered(1, 100))
        spent = asyncio.get_running_loop().time() - before
    finally:
        process.send_signal(signal.SIGCONT)

    assert spent < 1
    assert await bus.flush()
    assert heard.numbers == list(range(101))


async def test_group_goes_on_after_its_server_has_lost_everything(own_redis, buses):
    """Emptied, or killed without its files, it gets its groups again, and they hear what comes."""
    heard, bus = Heard(), buses(own_redis.url, group="g")
    await bus.subscribe(CHANNEL, heard)
    await bus.publish(CHANNEL, {"n": 1})
    await bus.flush()
    client = await client_of(own_redis.url)
    async with client:
        await client.flushall()
        await bus.publish(CHANNEL, {"n": 2})
        await until(lambda: heard.numbers == [1, 2])
    own_redis.durable = False  # it comes back without its files
    await asyncio.to_thread(own_redis.kill)
    await asyncio.to_thread(own_redis.start)
    await bus.publish(CHANNEL, {"n": 3})
    await until(lambda: heard.numbers == [1, 2, 3])


# --- groups ---------------------------------------------------------------------------------------


async def test_each_event_goes_to_one_member_of_a_group(buses):
    """Members share the events; a second group gets all of them as well."""
    members, other = [Heard(), Heard(), Heard()], Heard()
    for each in members:
        await buses(group="work").subscribe(CHANNEL, each)
    await buses(group="audit").subscribe(CHANNEL, other)
    await buses().publish_many(CHANNEL, numbered(1, 200))
    await until(lambda: sum(len(each.events) for each in members) + len(other.events) == 400)

    assert sorted(n for each in members for n in each.numbers) == list(range(1, 201))
    assert other.numbers == list(range(1, 201))


async def test_group_hears_what_happened_while_it_had_no_members(buses):
    """A group that was there goes on where it was, in another process too."""
    first, second = Heard(), Heard()
    bus = buses(group="g")
    await bus.subscribe(CHANNEL, first)
    await bus.publish(CHANNEL, {"n": 1})
    assert await bus.flush()
    await bus.close()
    await buses().publish_many(CHANNEL, numbered(2, 5))
    await buses(group="g").subscribe(CHANNEL, second)
    await until(lambda: len(second.events) == 4)

    assert first.numbers == [1]
    assert second.numbers == [2, 3, 4, 5]


async def test_slow_member_that_lives_keeps_what_it_has(buses):
    """A handler that takes much longer than *idle* is not robbed of its event."""
    gate = asyncio.Event()
    slow, other = Heard(gate), Heard()
    await buses(group="g", idle=0.1).subscribe(CHANNEL, slow)
    await buses().publish(CHANNEL, {"n": 1})
    await until(lambda: slow.calls == 1)
    await buses(group="g", idle=0.1).subscribe(CHANNEL, other)
    await asyncio.sleep(0.6)  # six times as long
    gate.set()
    await until(lambda: slow.events)

    assert other.calls == 0


async def test_what_a_killed_member_has_left_is_handled_by_another(
    buses, redis_url, redis_prefix, tmp_path, child_env
):
    """Of a member killed by SIGKILL in mid-event nothing is lost, and what it did is not redone."""
    log = tmp_path / "log"
    with member(child_env, redis_url, redis_prefix, "g", log, "die") as process:
        await asyncio.to_thread(process.stdout.readline)
        await buses().publish_many(CHANNEL, numbered(1, 30))
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
    heard = Heard()
    await buses(group="g", idle=0.3).subscribe(CHANNEL, heard)
    await until(lambda: len(heard.events) == 28)

    assert log.read_text().split() == ["1", "2"]
    assert sorted(heard.numbers) == list(range(3, 31))


async def test_member_that_was_asleep_does_not_handle_what_another_has_taken(
    buses, redis_url, redis_prefix, tmp_path, child_env
):
    """A member stopped past *idle* goes on with new events only, besides the one in its hands."""
    log = tmp_path / "log"
    with member(child_env, redis_url, redis_prefix, "g", log) as process:
        try:
            await asyncio.to_thread(process.stdout.readline)
            publisher = buses()
            await publisher.publish(CHANNEL, {"n": 1})
            await until(lambda: log.exists() and log.read_text() == "1\n")
            os.kill(process.pid, signal.SIGSTOP)
            await publisher.publish_many(CHANNEL, numbered(2, 20))
            heard = Heard()
            await buses(group="g", idle=0.3).subscribe(CHANNEL, heard)
            await until(lambda: len(heard.events) >= 18)
            os.kill(process.pid, signal.SIGCONT)
            await publisher.publish_many(CHANNEL, numbered(21, 60))
            await until(lambda: len(heard.events) + len(log.read_text().split()) >= 60)
        finally:
            process.kill()

    handled = [*heard.numbers, *map(int, log.read_text().split())]
    assert set(handled) == set(range(1, 61))
    assert len(handled) <= 61


async def test_event_that_kills_its_handlers_is_put_aside(
    buses, redis_url, redis_prefix, unique, caplog
):
    """An event taken over again and again goes into the dead stream, and the rest goes on."""
    heard, key = Heard(), f"{redis_prefix}stream:{CHANNEL}"
    client = await client_of(redis_url)
    async with client:
        await client.xgroup_create(key, "g", id="0", mkstream=True)
        await buses().publish_many(CHANNEL, numbered(1, 2))
        await client.xreadgroup("g", "dead", {key: ">"}, count=1)
        for _ in range(2):
            ((entry, _),) = await client.xrange(key, count=1)
            await client.xclaim(key, "g", "dead", 0, [entry])
        await buses(group="g", idle=0.1, deliveries=3).subscribe(CHANNEL, heard)
        await until(lambda: "put aside" in caplog.text and heard.events)

        assert heard.numbers == [2]
        ((_, fields),) = await client.xrange(f"{redis_prefix}dead:{CHANNEL}")
        assert json.loads(fields[b"event"])["data"]["n"] == 1
        assert (await client.xpending(key, "g"))["pending"] == 0


async def test_client_of_the_callers_own_stays_open(redis_url, redis_prefix):
    """A client may be given, also one that decodes; closing the bus does not close it."""
    import redis.asyncio

    heard = Heard()
    async with redis.asyncio.from_url(redis_url, decode_responses=True) as client:
        for group in (None, "g"):
            bus = RedisStreamsBus(client, prefix=redis_prefix, group=group)
            await bus.subscribe(CHANNEL, heard)
            await bus.publish(CHANNEL, {"n": 1})
            assert await bus.flush()
            await bus.close()
        assert await client.ping()

    assert heard.numbers == [1, 1]
