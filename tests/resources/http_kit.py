"""An HTTP server on this machine that does what a test tells it, also what no server should do."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Asked:
    """One request as the server has it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


@dataclass
class Answer:
    """What is sent back; *chunks* one by one, each when *gate* lets it."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    gate: asyncio.Event | None = None


class CutError(Exception):
    """A handler raises it to cut the connection."""


Handler = Callable[[Asked], Awaitable[Answer]]


class Server:
    """Answers by a handler; knows what was asked, and which connections are open."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        self.port = 0
        self.none_open = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open.add(writer)
        self.none_open.clear()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (CutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self.open.discard(writer)
            if not self.open:
                self.none_open.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await _body(reader, headers)
        asked = Asked(method, target, headers, body, writer)
        self.asked.append(asked)
        gone = asyncio.ensure_future(_gone(reader))
        work = asyncio.ensure_future(self._answer(asked, writer))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return False
            work.result()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        return True

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer = await self.handler(asked)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        length = len(body) if answer.length is None else answer.length
        lines = [f"HTTP/1.1 {answer.status} Word", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        if answer.gate is not None:
            await answer.gate.wait()
        writer.write(body)
        await writer.drain()
        if length > len(body):
            raise CutError

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _gone(reader: asyncio.StreamReader) -> None:
    # Clients here send nothing before they have an answer: what comes is the end.
    while not reader.at_eof():
        await reader._wait_for_data("gone")  # type: ignore[attr-defined]


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while size := int(await reader.readline(), 16):
            whole += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return whole
    return await reader.readexactly(int(headers.get("content-length", "0")))


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[Server, None]:
    """Run a server for a block; at its end it drops whoever is connected."""
    server = Server(handler)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()


@asynccontextmanager
async def untrusted(folder: Path) -> AsyncGenerator[int, None]:
    """Listen with a certificate that nobody has signed, for a block; yield the port."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=127.0.0.1",
    ]
    made = await asyncio.create_subprocess_exec(
        *command, "-keyout", key, "-out", certificate, stderr=asyncio.subprocess.DEVNULL
    )
    assert await made.wait() == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


async def echo(asked: Asked) -> Answer:
    """Answer with what was asked."""
    said = {
        "method": asked.method,
        "path": asked.path,
        "query": asked.query,
        "headers": asked.headers,
        "body": asked.body.decode("latin-1"),
    }
    return Answer(200, said, {"Content-Type": "application/json"})
