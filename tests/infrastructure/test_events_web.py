"""Events for browsers: a real server on loopback, and real clients."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
import websockets

from pocketflow_async.infrastructure.events import MemoryBus, event_app, from_cloudevent
from pocketflow_async.infrastructure.store.memory import MemoryStore
from pocketflow_async.infrastructure.store.model import EventRow, RunRow
from tests.infrastructure.events_kit import CHANNEL, Heard, until
from tests.service_kit import free_port

RUN = {"execution_id": "e1", "workflow_id": "w1", "bot_id": "b1"}


@asynccontextmanager
async def serving(app):
    """Serve *app* and yield its port; viewers are let go before the server stops."""
    port = free_port()
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield port
    finally:
        viewers = getattr(app.state, "viewers", None)
        if viewers is not None:
            await viewers.close()
        server.should_exit = True
        async with asyncio.timeout(10):
            await task


@pytest.fixture
async def bus():
    async with MemoryBus() as made:
        yield made


@asynccontextmanager
async def sse(port, query="", **headers):
    """Yield a function that returns the next block of an event stream, as a dict of its fields."""
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/events{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()

        async def block():
            found = {}
            async for line in lines:
                if not line:
                    return found
                name, _, value = line.partition(":")
                found[name] = value.strip()
            return None

        assert await block() == {"retry": "2000"}
        yield block


def ws(port, query="", **options):
    """Return a connection to the WebSocket."""
    return websockets.connect(f"ws://127.0.0.1:{port}/ws{query}", **options)


def event(seq, **more):
    """Return an event of a run."""
    return {"type": "node_started", **RUN, "seq": seq, "event_id": f"id-{seq}", **more}


async def test_sse_shows_events_as_they_come(bus):
    """Each event is one block with its place as its id and itself as JSON."""
    app = event_app(bus)
    async with serving(app) as port, sse(port) as block:
        await until(lambda: len(app.state.viewers) == 1)
        await bus.publish(CHANNEL, event(1, text="a\nb"))
        assert await block() == {
            "id": "e1/1",
            "data": json.dumps(event(1, text="a\nb")).replace(", ", ",").replace(": ", ":"),
        }
        await bus.publish(CHANNEL, {"event_id": "only"})
        assert (await block())["id"] == "only"
        await bus.publish(CHANNEL, {"event_id": "bad\nid: x", "n": 1})
        assert await block() == {"data": '{"event_id":"bad\\nid: x","n":1}'}


async def test_websocket_shows_events_as_they_come(bus):
    """Each event is one text message of JSON; what the viewer says is not listened to."""
    app = event_app(bus)
    async with serving(app) as port, ws(port) as socket:
        await socket.send("hello?")
        await until(lambda: len(app.state.viewers) == 1)
        await bus.publish(CHANNEL, event(1))
        assert json.loads(await socket.recv()) == event(1)


async def test_viewers_choose_what_they_see(bus):
    """Filters by workflow, bot, execution and type apply to terminal events too (defect 22)."""
    app = event_app(bus)
    async with (
        serving(app) as port,
        sse(port, "?bot_id=b1&type=execution_completed") as completed,
        sse(port, "?execution_id=e2&format=cloudevents") as second,
        ws(port, "?workflow_id=w2") as socket,
    ):
        await until(lambda: len(app.state.viewers) == 3)
        await bus.publish(CHANNEL, event(1))
        await bus.publish(CHANNEL, event(1, execution_id="e2"))
        await bus.publish(CHANNEL, event(2, type="execution_completed", workflow_id="w2"))
        assert json.loads((await completed())["data"])["seq"] == 2
        envelope = json.loads((await second())["data"])
        assert envelope["type"] == "pocketflow.node_started"
        assert from_cloudevent(envelope) == event(1, execution_id="e2")
        assert json.loads(await socket.recv())["workflow_id"] == "w2"


async def test_viewer_who_comes_back_misses_nothing(bus):
    """Last-Event-ID brings what came since, without gaps or doubles, and then goes on live."""
    store = MemoryStore()
    rows = [EventRow("e1", seq, "node_started", json.dumps(event(seq))) for seq in range(1, 6)]
    await store.create_run(RunRow("e1", "workflow", "w1", "hash"), events=rows)
    app = event_app(bus, store=store)
    async with serving(app) as port:
        async with sse(port, "?execution_id=e1", **{"last-event-id": "e1/2"}) as block:
            await until(lambda: len(app.state.viewers) == 1)
            await bus.publish(CHANNEL, event(5))
            await bus.publish(CHANNEL, event(6))
            seen = [(await block())["id"] for _ in range(4)]
        assert seen == ["e1/3", "e1/4", "e1/5", "e1/6"]
        async with ws(port, "?execution_id=e1&after=e1/0") as socket:
            seen = [json.loads(await socket.recv())["seq"] for _ in range(5)]
        assert seen == [1, 2, 3, 4, 5]
        async with ws(port, "?execution_id=e2&after=e1/0") as socket:
            await until(lambda: len(app.state.viewers) == 1)
            await bus.publish(CHANNEL, event(1, execution_id="e2"))
            assert json.loads(await socket.recv())["execution_id"] == "e2"


async def test_without_a_store_the_last_events_are_remembered(bus):
    """Who comes back soon gets what came since from memory, of all runs."""
    async with serving(event_app(bus)) as port:
        for number in range(3):
            await bus.publish(CHANNEL, {"event_id": f"x{number}"})
        await bus.flush()
        async with sse(port, **{"Last-Event-ID": "x0"}) as block:
            assert [(await block())["id"], (await block())["id"]] == ["x1", "x2"]


async def test_slow_viewer_slows_neither_the_bus_nor_other_viewers(bus):
    """Who does not read loses events, is told how many, and nobody waits for them."""
    app, heard = event_app(bus, size=50), Heard()
    await bus.subscribe(CHANNEL, heard)
    async with (
        serving(app) as port,
        ws(port, max_queue=1, compression=None) as slow,
        sse(port, "?type=small") as quick,
    ):
        await until(lambda: len(app.state.viewers) == 2)
        large = "x" * 100_000
        for seq in range(1, 401):
            await bus.publish(CHANNEL, event(seq, text=large))
            if seq % 20 == 0:
                await bus.flush()
        await bus.publish(CHANNEL, event(401, type="small"))
        assert await bus.flush(5)
        assert len(heard.events) == 401
        assert (await quick())["id"] == "e1/401"

        seen, missed = [], 0
        while not seen or seen[-1] != 401:
            message = json.loads(await slow.recv())
            if message["type"] == "missed":
                missed += message["count"]
            else:
                seen.append(message["seq"])
        assert missed > 0
        assert len(seen) + missed == 401
        assert seen == sorted(set(seen))


async def test_viewer_that_takes_nothing_is_let_go(bus, caplog):
    """After *patience* without progress the connection is given up."""
    app = event_app(bus, patience=0.1)
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(app.state.viewers) == 1)
        for seq in range(200):
            await bus.publish(CHANNEL, event(seq + 1, text="x" * 100_000))
        await until(lambda: len(app.state.viewers) == 0)
        writer.transport.abort()
        await reader.read(1)


async def test_quiet_stream_shows_that_it_lives(bus):
    """After *beat* seconds of silence a comment is sent."""
    async with serving(event_app(bus, beat=0.02)) as port, sse(port) as block:
        assert await block() == {"": ""}


async def test_viewers_that_leave_are_forgotten(bus):
    """A closed connection is noticed though nothing happens."""
    app = event_app(bus)
    async with serving(app) as port:
        async with sse(port), ws(port):
            await until(lambda: len(app.state.viewers) == 2)
        await until(lambda: len(app.state.viewers) == 0)


async def test_closing_lets_all_viewers_go(bus):
    """`close` ends every stream in good order, so that the server can stop."""
    app = event_app(bus)
    async with serving(app) as port, sse(port) as block, ws(port) as socket:
        await until(lambda: len(app.state.viewers) == 2)
        await app.state.viewers.close()
        assert await block() is None
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()
    assert bus.get_subscriber_count() == 0


async def test_pages_of_other_sites_may_not_look(bus):
    """A foreign origin is refused on both ways in, unless it is listed."""
    async with (
        serving(event_app(bus, origins=["https://friend.example"])) as port,
        httpx.AsyncClient() as client,
    ):
        url = f"http://127.0.0.1:{port}/events"
        refused = await client.get(url, headers={"origin": "https://evil.example"})
        assert refused.status_code == 403
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await ws(port, origin="https://evil.example")
        async with (
            ws(port, origin=f"http://127.0.0.1:{port}"),
            ws(port, origin="https://friend.example"),
            client.stream("GET", url, headers={"origin": "https://friend.example"}) as answer,
        ):
            assert answer.headers["access-control-allow-origin"] == "https://friend.example"


async def test_app_asks_who_may_look(bus):
    """`allow` is asked about each connection, asynchronous or not."""

    async def allow(connection):
        return connection.query_params.get("token") == "right"

    async with serving(event_app(bus, allow=allow)) as port, httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/events")).status_code == 403
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await ws(port, "?token=wrong")
        async with ws(port, "?token=right"):
            pass


async def test_there_are_no_more_viewers_than_there_may_be(bus):
    """One too many is told to come back later."""
    app = event_app(bus, most=1)
    async with serving(app) as port, sse(port), httpx.AsyncClient() as client:
        await until(lambda: len(app.state.viewers) == 1)
        assert (await client.get(f"http://127.0.0.1:{port}/events")).status_code == 503
        async with ws(port) as socket:
            with pytest.raises(websockets.ConnectionClosedError, match="1013"):
                await socket.recv()


async def test_app_works_mounted_in_another(bus):
    """Below a path of another app, whose lifespan it does not share, it listens all the same."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    inner = event_app(bus)
    outer = Starlette(routes=[Mount("/live", inner)])
    outer.state.viewers = inner.state.viewers
    async with (
        serving(outer) as port,
        websockets.connect(f"ws://127.0.0.1:{port}/live/ws") as socket,
    ):
        await until(lambda: bus.get_subscriber_count(CHANNEL) == 1)
        await bus.publish(CHANNEL, event(1))
        assert json.loads(await socket.recv()) == event(1)


def test_importing_events_imports_no_library(child_env):
    """Neither the package nor its buses import pydantic, redis or starlette on their own."""
    code = (
        "import sys, pocketflow_async.infrastructure.events as e\n"
        "e.MemoryBus, e.RedisStreamsBus, e.event_app, e.to_cloudevent\n"
        "print({'pydantic', 'redis', 'starlette'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_env, capture_output=True, text=True, check=True
    )

    assert done.stdout == "set()\n"
