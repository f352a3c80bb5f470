"""Events for browsers: server-sent events and a WebSocket, as a Starlette app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pocketflow_async.infrastructure.events.bus import WORKFLOW_EVENTS, Bus
from pocketflow_async.infrastructure.events.viewers import (
    FILTERS,
    Message,
    Past,
    View,
    Viewers,
)
from pocketflow_async.needing import need
from pocketflow_async.resilience.tasks import stopped

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket

    Allow = Callable[[HTTPConnection], bool | Awaitable[bool]]

_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_NOT_ALLOWED: Final = 1008
_TRY_LATER: Final = 1013


def event_app(
    bus: Bus,
    *,
    channels: Sequence[str] = (WORKFLOW_EVENTS,),
    store: Past | None = None,
    allow: Allow | None = None,
    origins: Sequence[str] = (),
    most: int = 100,
    size: int = 256,
    beat: float = 15.0,
    patience: float = 30.0,
) -> Starlette:
    """Return an app that shows the events of *bus*: `/events` by SSE, `/ws` by WebSocket.

    Both take `workflow_id`, `bot_id`, `strategy_id`, `execution_id` and `type` as filters in the
    query, `format=cloudevents`, and `after=execution_id/seq` to begin with what came after that;
    SSE takes `Last-Event-ID` instead, as browsers send it. Without a *store* only the last thousand
    events can be asked for again. A viewer that is too slow misses events and is told how many: an
    SSE event `missed`, or `{"type": "missed", "count": n}`.

    A page of another site may not connect, unless its origin is listed. Mounted or not, the app
    begins to listen with its first viewer; `app.state.viewers` has `start()` for earlier, and
    `close()`, which lets all viewers go: call it before a server that waits for its connections
    stops (uvicorn does, without `timeout_graceful_shutdown`).

    Args:
        bus: Where the events come from.
        channels: Which of its channels are shown.
        store: Where the events of runs are kept.
        allow: Says of a connection whether it may look; None: everybody may who can reach it.
        origins: Other sites whose pages may look, as `https://example.org`.
        most: How many may look at once.
        size: How many events may wait for one viewer.
        beat: Seconds of silence after which a sign of life is sent.
        patience: Seconds after which a viewer that takes nothing is let go.

    Raises:
        ImportError: Starlette is not installed; says how it is.
    """
    need("starlette", "ui")
    from starlette.applications import Starlette  # noqa: PLC0415 (starlette is an extra)
    from starlette.routing import Route, WebSocketRoute  # noqa: PLC0415 (likewise)

    viewers = Viewers(bus, channels, past=store, most=most, size=size, beat=beat)
    app = _EventApp(viewers, allow, frozenset(origins), patience)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None, None]:
        await viewers.start()
        yield
        await viewers.close()

    routes = [Route("/events", app.events), WebSocketRoute("/ws", app.websocket)]
    made = Starlette(routes=routes, lifespan=lifespan)
    made.state.viewers = viewers
    return made


class _EventApp:
    def __init__(
        self, viewers: Viewers, allow: Allow | None, origins: frozenset[str], patience: float
    ) -> None:
        self._viewers = viewers
        self._allow = allow
        self._origins = origins
        self._patience = patience

    async def events(self, request: Request) -> Any:
        """Answer `/events`."""
        from starlette.responses import PlainTextResponse  # noqa: PLC0415 (starlette is an extra)

        if not await self._may(request):
            return PlainTextResponse("not allowed", 403)
        if self._viewers.full:
            return PlainTextResponse("too many viewers; come back later", 503)
        view, headers = _view(request), list(_HEADERS)
        if (origin := request.headers.get("origin")) in self._origins:
            headers.append((b"access-control-allow-origin", str(origin).encode()))

        async def write(send: Send, text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await write(send, "retry: 2000\n\n")
            if await self._show(view, receive, lambda message: write(send, _sse(message))):
                await send({"type": "http.response.body"})

        return answer

    async def websocket(self, socket: WebSocket) -> None:
        """Answer `/ws`."""
        if not await self._may(socket):
            await socket.close(_NOT_ALLOWED)
            return
        await socket.accept()
        if self._viewers.full:
            await socket.close(_TRY_LATER, "too many viewers; come back later")
            return

        async def write(message: Message) -> None:
            if message.missed:
                await socket.send_text(f'{{"type":"missed","count":{message.missed}}}')
            if message.text:
                await socket.send_text(message.text)

        if await self._show(_view(socket), socket.receive, write):
            await socket.close()

    async def _show(
        self, view: View, receive: Receive, write: Callable[[Message], Awaitable[None]]
    ) -> bool:
        """Write what *view* shows; return whether the viewer is still there at its end."""

        async def write_all() -> bool:
            async with aclosing(self._viewers.messages(view)) as messages:
                async for message in messages:
                    async with asyncio.timeout(self._patience):
                        await write(message)
            return True

        async def gone() -> bool:
            while not (await receive())["type"].endswith(".disconnect"):
                pass  # viewers have nothing to say
            return False

        tasks = [asyncio.create_task(part()) for part in (gone, write_all)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return all(task.result() for task in tasks if task.done())
        except OSError:  # it takes nothing any more: late, or gone
            return False
        finally:
            await stopped(tasks)

    async def _may(self, connection: HTTPConnection) -> bool:
        # Browsers let pages of any site open WebSockets, and tell where such a page is from.
        origin = connection.headers.get("origin")
        same = origin is None or urlsplit(origin).netloc == connection.headers.get("host")
        if not same and origin not in self._origins:
            return False
        if self._allow is None:
            return True
        answer = self._allow(connection)
        return bool(await answer if isawaitable(answer) else answer)


def _view(connection: HTTPConnection) -> View:
    query = connection.query_params
    return View(
        {name: query[name] for name in FILTERS if name in query},
        query.get("after") or connection.headers.get("last-event-id"),
        query.get("format") == "cloudevents",
    )


def _sse(message: Message) -> str:
    if message.missed:
        return f'event: missed\ndata: {{"count":{message.missed}}}\n\n'
    if not message.text:
        return ":\n\n"
    name = "" if message.id is None else f"id: {message.id}\n"
    return f"{name}data: {message.text}\n\n"
