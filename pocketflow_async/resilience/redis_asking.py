"""How the window in Redis is asked, by a synchronous or asynchronous client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from typing import Any, Final

from pocketflow_async.needing import need
from pocketflow_async.offloading import offload
from pocketflow_async.resilience.errors import CallTimeoutError
from pocketflow_async.resilience.redis_away import telling
from pocketflow_async.resilience.redis_window import DIGEST, SCRIPT, Answer, answer, micros
from pocketflow_async.resilience.window import Window

_NAP: Final = 1.0
"""Seconds after which one that waits asks again at the latest: others may have given up."""

_LATE: Final = 1.0
"""Seconds by which one that waits may ask too late before it has lost its place."""


_WHAT: Final = "rate limiter"


class RedisAsking:
    """Asks the script, and gives back what it has given.

    Args:
        client: A `redis.asyncio.Redis` or a `redis.Redis`.
        window: What it shall hold to.
        prefix: What keys in Redis begin with.
        name: What it is called there.
        timeout: Seconds that an asynchronous client may take for an answer.

    Raises:
        TypeError: It is no such client.
    """

    def __init__(self, client: Any, window: Window, prefix: str, name: str, timeout: float) -> None:
        if not callable(getattr(client, "evalsha", None)):
            raise TypeError(
                f"client must be a redis.Redis or a redis.asyncio.Redis, not {type(client)!r:.80}"
            )
        self.is_async = inspect.iscoroutinefunction(client.execute_command)
        self._client = client
        self._prefix = prefix
        self._name = name
        self._timeout = timeout
        span, short = micros(window.per), micros(window.per * window.burst / window.limit)
        self._figures = (window.limit, span, window.burst, short)
        self._missing: Any = need("redis.exceptions", "workflow").NoScriptError

    async def ask(
        self, key: Hashable, ticket: str, patience: float | None, seconds: float | None = None
    ) -> Answer:
        """Return what the script says.

        Args:
            key: Under which limit.
            ticket: Of one that waits, or would; empty if it would not.
            patience: Seconds that it would wait; None: any time.
            seconds: In place of the timeout.

        Raises:
            RedisUnreachableError: There is no connection.
            CallTimeoutError: There was no answer in time; the call may be counted all the same.
            Exception: What the client raises.
        """
        if not self.is_async:
            said: Answer = await offload(self.ask_blocking, key, ticket, patience)
            return said
        arguments = self._arguments(key, ticket, patience)
        async with self._in_time(seconds):
            try:
                reply = await self._client.evalsha(DIGEST, *arguments)
            except self._missing:
                reply = await self._client.eval(SCRIPT, *arguments)
        return answer(reply)

    def ask_blocking(self, key: Hashable, ticket: str, patience: float | None) -> Answer:
        """Do what `ask` does, by a synchronous client, which has its own timeout."""
        self._check_blocking()
        arguments = self._arguments(key, ticket, patience)
        with telling(_WHAT, self._name):
            try:
                said = self._client.evalsha(DIGEST, *arguments)
            except self._missing:
                said = self._client.eval(SCRIPT, *arguments)
        return answer(said)

    async def give_back(self, key: Hashable, ticket: str, at: int | None) -> None:
        """Leave the queue; and take back the call that was let through at the moment *at*."""
        if not self.is_async:
            await offload(self.give_back_blocking, key, ticket, at)
            return
        async with self._in_time():
            await self._giving_back(key, ticket, at).execute()

    def give_back_blocking(self, key: Hashable, ticket: str, at: int | None) -> None:
        """Do what `give_back` does, by a synchronous client."""
        with telling(_WHAT, self._name):
            self._giving_back(key, ticket, at).execute()

    async def forget(self, key: Hashable) -> None:
        """Forget all calls of *key*, and who waits."""
        if not self.is_async:
            await offload(self.forget_blocking, key)
            return
        async with self._in_time():
            await self._client.delete(*self._keys(key))

    def forget_blocking(self, key: Hashable) -> None:
        """Do what `forget` does, by a synchronous client."""
        self._check_blocking()
        with telling(_WHAT, self._name):
            self._client.delete(*self._keys(key))

    def _arguments(self, key: Hashable, ticket: str, patience: float | None) -> tuple[Any, ...]:
        keys = self._keys(key)
        times = (micros(patience), micros(_NAP), micros(_LATE))
        return (len(keys), *keys, *self._figures, ticket, *times)

    def _keys(self, key: Hashable) -> tuple[str, str, str]:
        """Return the names of what is kept; in braces, by which a cluster keeps them together."""
        tag = self._name if key is None else f"{self._name}:{key}"
        own = f"{self._prefix}{{{tag}}}"
        return f"{own}:calls", f"{own}:tickets", f"{own}:leases"

    def _giving_back(self, key: Hashable, ticket: str, at: int | None) -> Any:
        calls, tickets, leases = self._keys(key)
        commands = self._client.pipeline(transaction=False)
        commands.zrem(tickets, ticket)
        commands.zrem(leases, ticket)
        if at is not None:
            commands.lrem(calls, -1, str(at))
        return commands

    def _check_blocking(self) -> None:
        if self.is_async:
            raise TypeError(
                "the limiter has a client of redis.asyncio, which blocks nobody: "
                "await it, or make one with a redis.Redis"
            )

    @asynccontextmanager
    async def _in_time(self, given: float | None = None) -> AsyncGenerator[None, None]:
        """Make what takes longer a CallTimeoutError, and tell of a connection that is not there."""
        allowed = self._timeout if given is None else given
        limit = asyncio.timeout(allowed)
        with telling(_WHAT, self._name):
            try:
                async with limit:
                    yield
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise CallTimeoutError(allowed, "an answer of Redis") from error
