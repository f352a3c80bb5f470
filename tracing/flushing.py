"""Waiting for what was recorded so far to be stored and sent, over all stores of this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from tracing.store import Counts, TraceStore, open_stores


def flush(timeout: float = 5.0) -> Counts:
    """Wait until all finished so far is stored and sent; block for at most *timeout* seconds.

    Not needed for a record to be kept: stores write and send on their own, also at the end of the
    process. In a coroutine use `aflush`. Where a target is in trouble this returns after one more
    try; what was not sent stays in the store, and goes out as soon as that works.

    Returns:
        How many records of this process were stored, were sent (for each target), could not be
        stored or sent yet, and were dropped.
    """
    deadline = time.monotonic() + timeout
    stores = open_stores()
    for store in stores:
        store.flush(max(0.0, deadline - time.monotonic()))
    for store in stores:
        for courier in store.couriers:
            courier.flush(deadline)
    return counts()


async def aflush(timeout: float = 5.0) -> Counts:
    """Do what `flush` does without blocking the event loop.

    When this is cancelled, writing goes on in the background.
    """
    return await asyncio.to_thread(flush, timeout)


def counts() -> Counts:
    """Return what became of the records of this process so far, without waiting."""
    return _sum(_counts(store) for store in open_stores())


def _counts(store: TraceStore) -> Counts:
    found = store.counts()
    couriers = store.couriers
    return Counts(
        found.stored,
        sum(courier.sent() for courier in couriers),
        found.failed + sum(courier.failed() for courier in couriers),
        found.dropped + sum(courier.dropped() for courier in couriers),
    )


def _sum(each: Iterable[Counts]) -> Counts:
    totals = [sum(column) for column in zip(*each, strict=True)]
    return Counts(*totals) if totals else Counts(0, 0, 0, 0)
