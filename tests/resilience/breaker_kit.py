"""What several tests of breakers share: a service that may be down, and both ways to call it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pocketflow_async.resilience.breaker import CircuitBreaker


class Service:
    """Answers its own calls' number, or raises *error* while there is one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls

    async def acall(self) -> int:
        """Do the same, asynchronously."""
        return self()


class Colour:
    """Calls through a policy, with `await` or without."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async

    def __call__(self, breaker: CircuitBreaker, function: Callable[[], Any]) -> Any:
        """Return what *function* returns, under the breaker."""
        if not self.is_async:
            return breaker.call(function)

        async def call() -> Any:
            return function()

        return asyncio.run(breaker.acall(call))

    def block(self, breaker: Any, function: Callable[[], Any]) -> Any:
        """Do the same in a `with` block of *breaker*, which may be a guard."""
        if not self.is_async:
            with breaker:
                return function()

        async def call() -> Any:
            async with breaker:
                return function()

        return asyncio.run(call())
