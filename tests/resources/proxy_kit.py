"""A way to a server that a test can cut, block and open again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any


class Way:
    """Hands on what comes to its port, both ways, as long as the test lets it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.none_open = asyncio.Event()
        self.refusing = False
        self.passing = asyncio.Event()
        self.passing.set()
        self.bytes_in = 0  # what came, both ways
        self.moved = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()

    def cut(self) -> None:
        """Cut every connection, as a network does: with a reset."""
        for writer in list(self.open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        async with self.moved:
            self.accepted += 1
            self.moved.notify_all()
        self.open.add(writer)
        self.none_open.clear()
        try:
            if not self.refusing:
                there, back = await asyncio.open_connection(*self._target)
                try:
                    both = [
                        asyncio.ensure_future(self._pass(reader, back)),
                        asyncio.ensure_future(self._pass(there, writer)),
                    ]
                    try:
                        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for one in both:
                            one.cancel()
                        await asyncio.gather(*both, return_exceptions=True)
                finally:
                    back.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self.open.discard(writer)
            if not self.open:
                self.none_open.set()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            async with self.moved:
                self.bytes_in += len(data)
                self.moved.notify_all()
            await self.passing.wait()
            writer.write(data)
            await writer.drain()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def way_to(host: str, port: int) -> AsyncGenerator[Way, None]:
    """Open a way to a server for a block."""
    way = Way(host, port)
    listener = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    way.port = listener.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        listener.close()
        await way.stop()
        await listener.wait_closed()
