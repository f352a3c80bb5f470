"""Message queues, with each broker: what is published arrives, whatever happens on the way."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest

from pocketflow_async.resources.queue_errors import QueueClosedError, QueueUnreachableError
from pocketflow_async.resources.queue_factory import MessageQueueFactory
from tests.resources.queue_kit import URLS, Broker, rest, take
from tests.service_kit import free_port


@pytest.fixture(params=list(URLS))
async def broker(request, unique):
    """Return a broker; what a test has made in it is deleted after it."""
    url = request.getfixturevalue(URLS[request.param])
    made = Broker(request.param, url, unique)
    yield made
    await made.close()


async def test_bytes_texts_and_json(broker):
    """What is published comes out, with its headers and the id that publishing returned."""
    queue = await broker.queue()
    bodies = [b"\x00\xff", "ü", {"a": [1, None, "ü"]}, [1], 5, None, b""]
    ids = [await queue.publish(broker.name, body, {"X-A": n}) for n, body in enumerate(bodies)]

    found = await take(queue, broker.name, len(bodies))

    assert [message.id for message in found] == ids
    assert [message.headers["X-A"] for message in found] == [str(n) for n in range(len(bodies))]
    assert found[0].body == b"\x00\xff"
    assert found[1].text() == "ü"
    assert [message.json() for message in found[2:6]] == bodies[2:6]
    assert found[6].body == b""
    assert not any(message.redelivered for message in found)
    assert found[0].queue == broker.name
    assert await rest(queue, broker.name) == []


async def test_consumers_of_a_group_share(broker):
    """Each of 200 messages goes to one of four consumers, and each has some."""
    queue = await broker.queue()
    for number in range(200):
        await queue.publish(broker.name, number)
    shares = [[] for _ in range(4)]

    async def consume(share):
        async for message in queue.consume(broker.name, idle=1.0):
            share.append(message.json())
            await message.ack()

    async with asyncio.TaskGroup() as group:
        for share in shares:
            group.create_task(consume(share))
    assert sorted(number for share in shares for number in share) == list(range(200))
    assert all(shares)


async def test_groups_have_everything_each(broker):
    """Groups that are known get every message, each its own; finishing one is not the other's."""
    queue = await broker.queue()
    await queue.declare(broker.name, "one")
    await queue.declare(broker.name, "two")
    for number in range(5):
        await queue.publish(broker.name, number)

    for group in ("one", "two"):
        found = await take(queue, broker.name, 5, group)
        assert [message.json() for message in found] == [0, 1, 2, 3, 4]
        assert await rest(queue, broker.name, group) == []


async def test_what_is_published_before_anybody_listens(broker):
    """It is kept for the group that comes first, whatever it is called."""
    queue = await broker.queue()
    for number in range(3):
        await queue.publish(broker.name, number)

    found = await take(queue, broker.name, 3, "work")

    assert [message.json() for message in found] == [0, 1, 2]


async def test_a_consumer_waits_for_what_comes(broker):
    """One that waits gets a message at once; many fetched at a time come in order."""
    queue = await broker.queue()
    waiting = asyncio.create_task(take(queue, broker.name, 20, prefetch=8))
    await asyncio.sleep(0)
    for number in range(20):
        await queue.publish(broker.name, number)

    assert sorted(message.json() for message in await waiting) == list(range(20))


async def test_nack_delivers_again_and_drop_does_not(broker):
    """Given back, it comes again and says so; given up, it is gone. Only the first word counts."""
    queue = await broker.queue()
    await queue.publish(broker.name, "again")
    seen = []
    async with asyncio.timeout(20), queue.consume(broker.name) as messages:
        async for message in messages:
            seen.append((message.text(), message.redelivered))
            if len(seen) == 1:
                await message.nack()
                await message.ack()
                assert message.settled == "nack"
            else:
                await message.nack(requeue=False)
                break
    assert seen == [("again", False), ("again", True)]
    assert await rest(queue, broker.name, idle=1.5) == []


async def test_a_message_as_a_block(broker):
    """Done at its end; given back when it fails."""
    queue = await broker.queue()
    await queue.publish(broker.name, "x")
    async with asyncio.timeout(20), queue.consume(broker.name) as messages:
        with pytest.raises(KeyError):
            async with await anext(messages):
                raise KeyError
        async with await anext(messages) as message:
            assert message.redelivered
    assert message.settled == "ack"
    assert await rest(queue, broker.name, idle=1.5) == []


async def test_a_consumer_that_dies_loses_nothing(broker):
    """What it had is delivered to another: its connection is cut, and it never says a word."""
    way, url = await broker.way()
    dying, living = await broker.queue(url=url, ack_wait=1.0), await broker.queue(ack_wait=1.0)
    for number in range(10):
        await living.publish(broker.name, number)
    messages = dying.consume(broker.name, prefetch=5)
    had = [await anext(messages) for _ in range(3)]
    way.refusing = True
    way.cut()

    found = await take(living, broker.name, 10)

    assert sorted(message.json() for message in found) == list(range(10))
    again = {message.id for message in found if message.redelivered}
    assert {message.id for message in had} <= again
    way.refusing = False
    await messages.aclose()


async def test_a_consumer_that_is_cancelled_gives_back(broker):
    """What it has fetched ahead goes to others soon, long before its time is up."""
    queue = await broker.queue(ack_wait=30.0)
    for number in range(10):
        await queue.publish(broker.name, number)
    got = asyncio.Event()

    async def consume():
        async with queue.consume(broker.name, prefetch=8) as messages:
            async for message in messages:
                await message.ack()
                got.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await got.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    found = await take(queue, broker.name, 9)

    assert len({message.id for message in found}) == 9


async def test_consumers_cancelled_while_they_wait(broker):
    """Fifty that were cancelled while waiting take nothing away from who comes after."""
    queue = await broker.queue(ack_wait=30.0)
    for _ in range(50):
        messages = queue.consume(broker.name)
        task = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await messages.aclose()
    for number in range(5):
        await queue.publish(broker.name, number)

    found = await take(queue, broker.name, 5)

    assert [message.json() for message in found] == [0, 1, 2, 3, 4]


async def test_leaving_a_loop_gives_back(broker):
    """`break` without a block around it: what was fetched ahead comes to others."""
    queue = await broker.queue()
    for number in range(5):
        await queue.publish(broker.name, number)
    async for message in queue.consume(broker.name, prefetch=4):
        await message.ack()
        break
    gc.collect()

    found = await take(queue, broker.name, 4)

    assert sorted(one.json() for one in found) == [1, 2, 3, 4]


async def test_a_message_outlives_its_consumer(broker):
    """What was handed out can be acknowledged after the loop has ended."""
    queue = await broker.queue(ack_wait=2.0)
    await queue.publish(broker.name, "x")
    async with queue.consume(broker.name) as messages:
        message = await anext(messages)
    await message.ack()

    assert await rest(queue, broker.name, idle=2.5) == []


async def test_connections_cut_in_mid_run(broker):
    """Publishers and consumers go on; everything that was confirmed arrives."""
    way, url = await broker.way()
    publisher, consumer = await broker.queue(url=url), await broker.queue(url=url, ack_wait=1.0)
    await consumer.declare(broker.name)
    seen, there, cuts = set(), asyncio.Condition(), {7, 27, 47, 67, 87}

    async def consume():
        async for message in consumer.consume(broker.name, prefetch=4):
            with suppress(ConnectionError):  # then it comes again
                await message.ack()
                async with there:
                    seen.add(message.id)
                    there.notify_all()
                if len(seen) in cuts:
                    cuts.discard(len(seen))
                    way.cut()

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        consuming = group.create_task(consume())
        sent = set()
        for number in range(100):
            sent.add(await publisher.publish(broker.name, number))
            if number % 25 == 24:
                way.cut()
        async with there:
            await there.wait_for(lambda: seen >= sent)
        consuming.cancel()
    assert seen >= sent


async def test_a_broker_that_does_not_answer(broker):
    """Publishing gives up in time and says so; when it answers again, all is well."""
    way, url = await broker.way()
    queue = await broker.queue(url=url, timeout=0.5)
    await queue.publish(broker.name, "first")
    way.passing.clear()
    with pytest.raises(QueueUnreachableError, match=r"no publish within 0\.5 s") as caught:
        await queue.publish(broker.name, "lost perhaps")
    assert isinstance(caught.value, ConnectionError)
    way.cut()
    way.passing.set()
    await queue.publish(broker.name, "last")

    found = await rest(await broker.queue(), broker.name)

    assert {"first", "last"} <= {message.text() for message in found}


async def test_publishing_waits_for_a_broker_that_comes_back(broker):
    """A message that is published while nobody answers is there when somebody does."""
    way, url = await broker.way()
    queue = await broker.queue(url=url, timeout=10.0)
    await queue.ping()
    way.refusing = True
    way.cut()
    refused = way.accepted
    task = asyncio.create_task(queue.publish(broker.name, "x"))
    async with asyncio.timeout(10):
        async with way.moved:
            await way.moved.wait_for(lambda: way.accepted >= refused + 2)
    way.refusing = False
    await task

    assert [message.text() for message in await rest(queue, broker.name)] == ["x"]


async def test_closing_ends_consumers_and_leaves_nothing_open(broker):
    """Waiting consumers end, those at work can finish, and no connection stays."""
    way, url = await broker.way()
    queue = await broker.queue(url=url)
    await queue.publish(broker.name, 1)
    await queue.publish(broker.name, 2)
    waiting = [asyncio.create_task(rest(queue, f"{broker.name}", idle=None)) for _ in range(3)]
    async with asyncio.timeout(5):
        await queue.ping()
        await queue.close()
        found = [one for some in await asyncio.gather(*waiting) for one in some]
        await way.none_open.wait()
        await queue.close()
    assert len(found) <= 2
    assert queue.is_closed
    with pytest.raises(QueueClosedError):
        await queue.publish(broker.name, "x")
    assert [message async for message in queue.consume(broker.name)] == []


async def test_a_slow_close_is_bounded(broker):
    """A broker that says nothing does not hold `close` up for ever."""
    way, url = await broker.way()
    queue = await broker.queue(url=url)
    await queue.ping()
    way.passing.clear()
    async with asyncio.timeout(15):
        await queue.close()
    way.cut()
    way.passing.set()


@pytest.mark.parametrize("backend", list(URLS))
async def test_nobody_there(backend):
    """A closed port and an unknown name: one error for all, with place and cause, no secret."""
    port = free_port()
    scheme = {"redis": "redis", "rabbitmq": "amqp", "nats": "nats"}[backend]
    for place, options in (
        (f"127.0.0.1:{port}", {"host": "127.0.0.1", "port": port}),
        (f"127.0.0.1:{port}", {"url": f"{scheme}://me:hidden@127.0.0.1:{port}"}),
        ("no-such-host.invalid", {"host": "no-such-host.invalid"}),
    ):
        who = {} if "url" in options else {"username": "me", "password": "hidden"}
        factory = MessageQueueFactory(backend, **options, **who, timeout=5.0)
        with pytest.raises(QueueUnreachableError, match="cannot connect to") as caught:
            await factory.create()
        assert isinstance(caught.value, ConnectionError)
        assert place in str(caught.value)
        assert caught.value.__cause__ is not None
        assert "hidden" not in str(caught.value)
        chain, error = [], caught.value
        while error is not None:
            chain.append(repr(error))
            error = error.__cause__ or error.__context__
        assert "hidden" not in repr(chain)


def test_a_new_loop_after_one_that_is_closed(rabbitmq_url, nats_url, redis_url):
    """What belongs to a closed loop is let go of: the server sees it, and nothing complains."""
    for backend, url in (("rabbitmq", rabbitmq_url), ("nats", nats_url), ("redis", redis_url)):
        asyncio.run(_abandoned(backend, url))


async def _abandoned(backend, url):
    broker = Broker(backend, url, "unused")
    way, url = await broker.way()

    async def use():
        factory = MessageQueueFactory(backend, url=url)
        return factory, await factory.create()

    async def end():
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)  # the libraries' tasks start others when they end

    loop = asyncio.new_event_loop()
    factory, queue = await asyncio.to_thread(loop.run_until_complete, use())
    await asyncio.to_thread(loop.run_until_complete, end())
    loop.close()
    factory.terminate(queue)
    await asyncio.wait_for(way.none_open.wait(), 5)
    del queue
    gc.collect()
    await broker._stack.aclose()


async def test_a_ping_that_is_cancelled_costs_nothing(broker):
    """Whoever is cancelled at any moment of a ping leaves the connection as good as it was."""
    queue = await broker.queue()
    for steps in range(8):
        ping = asyncio.create_task(queue.ping())
        for _ in range(steps):
            await asyncio.sleep(0)
        ping.cancel()
        await asyncio.wait({ping})

    async with asyncio.timeout(3):
        await queue.publish(broker.name, "x")
        assert [message.text() for message in await rest(queue, broker.name)] == ["x"]
