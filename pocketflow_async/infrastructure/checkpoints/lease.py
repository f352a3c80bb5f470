"""Having a run: the lease is renewed while it is at work, and its loss ends the work."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any

from pocketflow_async.infrastructure.store.errors import LeaseLost, StoreError
from pocketflow_async.infrastructure.store.model import Store


class Lease:
    """Renews a lease while its block runs: `async with Lease(…):`.

    When another process has the run, or the store could not be reached until the lease was over,
    the block is cancelled, and that error raised in place of the cancellation.

    Args:
        store: Where the run is.
        run_id: The run.
        owner: Who has it.
        fence: Of the claim.
        seconds: How long it lasts; it is renewed three times in that time.
    """

    def __init__(self, store: Store, run_id: str, owner: str, fence: int, seconds: float) -> None:
        self.lost: StoreError | None = None
        self._renew = (run_id, owner, fence, seconds)
        self._store = store
        self._seconds = seconds
        self._body: asyncio.Task[Any] | None = None
        self._work: asyncio.Task[None] | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Lease:
        body = asyncio.current_task()
        assert body is not None
        self._body, self._cancelling = body, body.cancelling()
        self._work = asyncio.create_task(self._renewing())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._work is not None
        assert self._body is not None
        self._work.cancel()
        try:
            await asyncio.wait([self._work])
        finally:
            if self.lost is not None:
                # It was us who cancelled; whoever else has done so, too, is to see it.
                others = self._body.uncancel() > self._cancelling
                if isinstance(error, asyncio.CancelledError) and not others:
                    raise self.lost from None

    async def _renewing(self) -> None:
        until = time.monotonic() + self._seconds
        while True:
            await asyncio.sleep(self._seconds / 3)
            began = time.monotonic()
            try:
                await self._store.renew(*self._renew)
            except LeaseLost as error:
                return self._lose(error)
            except StoreError as error:
                if time.monotonic() >= until:
                    return self._lose(error)
            else:
                until = began + self._seconds

    def _lose(self, error: StoreError) -> None:
        self.lost = error
        assert self._body is not None
        self._body.cancel()
