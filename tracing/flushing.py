"""Waiting for what was recorded so far to be stored, over all stores of this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from tracing.store import Counts, open_stores


def flush(timeout: float = 5.0) -> Counts:
    """Wait until every record finished so far is stored; block for at most *timeout* seconds.

    Not needed for a record to be kept: the stores write on their own, and at the end of the
    process. In a coroutine use `aflush`.

    Returns:
        How many records were stored, sent to targets, could not be stored yet, and were dropped.
    """
    deadline = time.monotonic() + timeout
    return _sum(store.flush(max(0.0, deadline - time.monotonic())) for store in open_stores())


async def aflush(timeout: float = 5.0) -> Counts:
    """Do what `flush` does without blocking the event loop.

    When this is cancelled, writing goes on in the background.
    """
    return await asyncio.to_thread(flush, timeout)


def counts() -> Counts:
    """Return what became of the records of this process so far, without waiting."""
    return _sum(store.counts() for store in open_stores())


def _sum(each: Iterable[Counts]) -> Counts:
    totals = [sum(column) for column in zip(*each, strict=True)]
    return Counts(*totals) if totals else Counts(0, 0, 0, 0)
