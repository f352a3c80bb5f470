"""The connections of a `PostgresStore`: a few for each event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeAlias

Connect: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]

_FAREWELL: Final = 5.0  # seconds for what is still under way when connections are closed


class Pool:
    """Up to *size* connections of one event loop; the one that was used last is used next.

    Args:
        connect: Opens a connection.
        size: Most connections at a time.

    Attributes:
        loop: The event loop.
        pid: The process; a forked one must not use the connections.
    """

    def __init__(self, connect: Connect, size: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self._connect = connect
        self._size = size
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._all: set[Any] = set()
        self._closing = False

    async def take(self) -> Any:
        """Return a connection that nobody else has, an open one if there is one."""
        await self._slots.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
                self._drop(connection)
            connection = await self._connect()
        except BaseException:
            self._slots.release()
            raise
        self._all.add(connection)
        return connection

    def give(self, connection: Any, *, clean: bool) -> None:
        """Take a connection back; what is not *clean* is cut."""
        if clean and not self._closing and not connection.is_closed():
            self._idle.append(connection)
        else:
            self._drop(connection)
        self._slots.release()

    def clear(self) -> None:
        """Cut the connections that nobody uses: the server has been away."""
        while self._idle:
            self._drop(self._idle.pop())

    async def close(self) -> None:
        """Close all, when what is under way has ended; after some seconds it is cut."""
        self._closing = True
        idle, self._idle = self._idle, []
        try:
            async with asyncio.timeout(_FAREWELL):
                for connection in idle:
                    with suppress(Exception):
                        await connection.close()
                for _ in range(self._size):
                    await self._slots.acquire()
        except TimeoutError:
            pass
        finally:
            self.terminate()

    def terminate(self) -> None:
        """Cut all; in the loop's own thread."""
        for connection in list(self._all):
            self._drop(connection)

    def sever(self) -> None:
        """Cut all, though the loop is closed and cannot do it any more."""
        while self._all:
            connection = self._all.pop()
            _shut(getattr(connection, "_transport", None))
            with suppress(Exception):
                connection.terminate()

    def _drop(self, connection: Any) -> None:
        self._all.discard(connection)
        with suppress(Exception):
            connection.terminate()


class Pools:
    """A pool for each event loop that uses a store.

    Args:
        connect: Opens a connection.
        size: Most connections of one loop.
    """

    def __init__(self, connect: Connect, size: int) -> None:
        self._connect = connect
        self._size = size
        self._pools: list[Pool] = []
        self._lock = threading.Lock()

    def here(self) -> Pool:
        """Return the pool of the running loop."""
        loop, pid = asyncio.get_running_loop(), os.getpid()
        for pool in self._pools:
            if pool.loop is loop and pool.pid == pid:
                return pool
        with self._lock:
            self._pools = [pool for pool in self._pools if _is_alive(pool)]
            pool = Pool(self._connect, self._size)
            self._pools.append(pool)
        return pool

    async def close(self) -> None:
        """Close all; those of other loops are cut."""
        with self._lock:
            pools, self._pools = [pool for pool in self._pools if _is_alive(pool)], []
        here = asyncio.get_running_loop()
        for pool in pools:
            if pool.loop is here:
                await pool.close()
            else:
                with suppress(RuntimeError):  # it has been closed in between
                    pool.loop.call_soon_threadsafe(pool.terminate)


_inherited: list[Pool] = []
"""Those of the process that this one was forked from; to close them would close them there too."""


def _is_alive(pool: Pool) -> bool:
    if pool.pid != os.getpid():
        _inherited.append(pool)
        return False
    if pool.loop.is_closed():
        pool.sever()
        return False
    return True


def _shut(transport: Any) -> None:
    """Close the socket of a transport whose loop is closed: by itself it would ask that loop."""
    if transport is None:
        return
    with suppress(Exception):
        shared = transport.get_extra_info("socket")
        if shared is not None:
            shared.shutdown(socket.SHUT_RDWR)
    with suppress(Exception):
        own = transport._sock
        transport._sock = None
        own.close()
