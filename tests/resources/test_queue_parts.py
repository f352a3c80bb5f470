"""Parts of message queues on their own: names, bodies, factories, and Redis that goes away."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources.queue_errors import (
    QueueClosedError,
    QueueUnreachableError,
    StaleMessageError,
)
from pocketflow_async.resources.queue_factory import MessageQueueFactory
from pocketflow_async.resources.queue_message import (
    Draft,
    Message,
    body_of,
    headers_of,
    name_of,
)
from tests.resources import queue_kit
from tests.resources.queue_kit import URLS, rest, take

own_nats = queue_kit.own_nats

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def message(body=b"", settle=None):
    return Message(Draft("q", body, {}, "id"), settle)


@given(json_values)
def test_json_comes_out_as_it_went_in(value):
    """Whatever JSON can say."""
    assert message(body_of(value)).json() == value


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary())
def test_texts_and_bytes_come_out_as_they_went_in(text, data):
    """Nothing is made of them."""
    assert message(body_of(text)).text() == text
    assert message(body_of(bytearray(data))).body == data


def test_what_cannot_be_published():
    """Names, headers and bodies that some broker does not take are refused by all."""
    for name in ("", "a b", "a..b", ".a", "a.", "a*", "a>", "ü", "a:b", "x" * 201, 5, None):
        with pytest.raises(ValueError, match="a queue must be of letters"):
            name_of("a queue", name)
    for name in ("a", "a.b-c_d.E9"):
        assert name_of("a queue", name) == name
    for headers in ({"": "x"}, {"a b": "x"}, {"a:": "x"}, {"Nats-Msg-Id": "x"}):
        with pytest.raises(ValueError, match="cannot be called"):
            headers_of(headers)
    for value in ("a\r\nb: c", " a", "a ", "\x00"):
        with pytest.raises(ValueError, match="must be one line"):
            headers_of({"a": value})
    assert headers_of({"a": 5, "b": ""}) == {"a": "5", "b": ""}
    with pytest.raises(TypeError):
        body_of(object())
    with pytest.raises(ValueError):
        body_of(float("nan"))


async def test_a_message_is_settled_once():
    """Saying it again does nothing; when the first time failed, it can be said again."""
    said, failing = [], [ConnectionError("gone")]

    async def settle(verdict):
        if failing:
            raise failing.pop()
        said.append(verdict)

    one = message(settle=settle)
    with pytest.raises(ConnectionError):
        await one.ack()
    assert one.settled is None
    await one.ack()
    await one.nack()
    assert (said, one.settled) == (["ack"], "ack")
    assert repr(one) == "<Message id of q, 0 bytes>"


def test_errors_travel():
    """They can be copied and pickled."""
    errors = [
        QueueClosedError("q"),
        QueueUnreachableError("q", "publish", 5.0, OSError()),
        StaleMessageError("id"),
    ]
    for error in errors:
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize("backend", list(URLS))
def test_no_secret_is_shown(backend):
    """Neither in the configuration nor in the repr."""
    option = "ssl_password" if backend == "redis" else "token"
    factory = MessageQueueFactory(backend, "h", None, "me", "hidden", **{option: "hidden"})
    by_url = MessageQueueFactory(backend, url="x://me:hidden@h:1/")
    assert "hidden" not in repr([factory, factory.get_config(), by_url, by_url.get_config()])
    assert factory.get_config()["port"] == {"redis": 6379, "rabbitmq": 5672, "nats": 4222}[backend]


def test_what_a_queue_cannot_be():
    """Unknown back ends and times are refused when the factory is made."""
    with pytest.raises(ValueError, match="Unsupported message queue backend: kafka"):
        MessageQueueFactory("kafka")
    for name in ("timeout", "ack_wait"):
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            MessageQueueFactory(**{name: 0})


@pytest.mark.parametrize("backend", list(URLS))
async def test_credentials_that_are_refused(backend, request):
    """It is said at once, and not tried for long; the password is not in it."""
    port = None
    if backend == "nats":
        port = request.getfixturevalue("own_nats").port
    else:
        request.getfixturevalue(URLS[backend])
    factory = MessageQueueFactory(backend, "127.0.0.1", port, "me", "hidden")
    async with asyncio.timeout(5):
        with pytest.raises(Exception) as caught:
            await factory.create()
    assert "hidden" not in repr(caught.value)


async def nats_queue(server, **options):
    factory = MessageQueueFactory("nats", "127.0.0.1", server.port, "test", "right", **options)
    return await factory.create()


async def redis_queue(server, **options):
    options = {"url": server.url, "prefix": "p:", "ack_wait": 0.5, **options}
    return await MessageQueueFactory("redis", **options).create()


OWN = {"redis": ("own_redis", redis_queue), "nats": ("own_nats", nats_queue)}


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("backend", list(OWN))
async def test_nothing_confirmed_is_lost_when_the_broker_is_restarted(backend, how, request):
    """Publishers and a consumer in mid-run; the server goes and comes back with what it kept."""
    fixture, make = OWN[backend]
    server = request.getfixturevalue(fixture)
    publisher, consumer = await make(server, ack_wait=1.0), await make(server, ack_wait=1.0)
    seen, sent, there = set(), set(), asyncio.Condition()

    async def consume():
        async for one in consumer.consume("jobs", prefetch=3):
            await one.ack()
            async with there:
                seen.add(one.id)
                there.notify_all()

    async def publish():
        for number in range(60):
            sent.add(await publisher.publish("jobs", number))

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        consuming = group.create_task(consume())
        publishing = group.create_task(publish())
        async with there:
            await there.wait_for(lambda: len(seen) >= 10)
        await asyncio.to_thread(getattr(server, how))
        await asyncio.to_thread(server.start)
        await publishing
        async with there:
            await there.wait_for(lambda: seen >= sent)
        consuming.cancel()
    assert len(sent) == 60
    await publisher.close()
    await consumer.close()


async def test_redis_without_its_script(own_redis):
    """A server that has forgotten the scripts is told them again."""
    import redis.asyncio

    queue = await redis_queue(own_redis)
    async with redis.asyncio.from_url(own_redis.url) as client:
        for number in range(3):
            await queue.publish("jobs", number)
            assert len(await take(queue, "jobs", 1)) == 1
            await client.script_flush()
        assert await client.xlen("p:jobs") == 0
    await queue.close()


async def test_redis_keeps_what_some_group_needs(own_redis):
    """A message is deleted when the last group that is known has finished it."""
    import redis.asyncio

    queue = await redis_queue(own_redis)
    await queue.declare("jobs", "one")
    await queue.declare("jobs", "two")
    await queue.publish("jobs", 1)
    async with redis.asyncio.from_url(own_redis.url) as client:
        await take(queue, "jobs", 1, "one")
        assert await client.xlen("p:jobs") == 1
        await take(queue, "jobs", 1, "two")
        assert await client.xlen("p:jobs") == 0
        groups = await client.xinfo_groups("p:jobs")
        assert [group["consumers"] for group in groups] == [0, 0]
    await queue.close()


async def test_redis_that_forgets_everything(own_redis):
    """A consumer goes on when the stream is deleted under it, and a foreign entry is a message."""
    import redis.asyncio

    queue = await redis_queue(own_redis)
    async with redis.asyncio.from_url(own_redis.url) as client:
        waiting = asyncio.create_task(take(queue, "jobs", 2))
        async with asyncio.timeout(5):
            await queue.declare("jobs")
            await queue.ping()
        await client.flushall()
        await queue.publish("jobs", "a")
        await client.xadd("p:jobs", {"body": "b"})
        found = await waiting
    assert [one.text() for one in found] == ["a", "b"]
    await queue.close()


async def test_a_consumer_that_hangs_is_relieved(own_redis):
    """After `ack_wait` its message goes to another; a late word of the first does no harm."""
    queue = await redis_queue(own_redis)
    await queue.publish("jobs", "x")
    async with queue.consume("jobs") as messages:
        slow = await anext(messages)
        (again,) = await take(queue, "jobs", 1)
        assert (again.id, again.redelivered) == (slow.id, True)
        await slow.ack()
    assert await rest(queue, "jobs", idle=1.2) == []
    await queue.close()


async def test_a_message_that_is_there_twice(own_redis):
    """After a publisher has said it again there are two of one id; both are delivered."""
    import redis.asyncio

    queue = await redis_queue(own_redis)
    await queue.declare("jobs")
    async with redis.asyncio.from_url(own_redis.url) as client:
        for _ in range(2):
            await client.xadd("p:jobs", {"id": "same", "body": "x", "headers": "{}"})
        found = await take(queue, "jobs", 2, prefetch=2)
        assert [one.id for one in found] == ["same", "same"]
        assert await client.xlen("p:jobs") == 0
    await queue.close()
