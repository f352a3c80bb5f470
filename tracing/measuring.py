"""Metrics of a store: its records as they are stored, and how it stands whenever somebody asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tracing.metrics import observe, watch
from tracing.store.schema import NotAStore

if TYPE_CHECKING:
    from tracing.store.store import TraceStore

_RUNS: Final = frozenset({"flow", "workflow"})
_TROUBLE: Final = (sqlite3.Error, OSError, NotAStore)


class Gauges:
    """How a store stands, for `tracing.metrics.Source`."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    def in_flight(self) -> int:
        """Return the number of runs that go on now."""
        return sum(record.kind in _RUNS for record in self._store.open_records())

    def queued(self) -> int:
        """Return the number of finished spans that are not in the store yet."""
        counts = self._store.counts()
        return max(0, self._store.arrived() - counts.stored - counts.dropped)

    def dropped(self) -> int:
        """Return the number of spans that were lost."""
        return self._store.counts().dropped

    def waiting(self) -> Mapping[str, int]:
        """Return the number of stored spans that are still to be sent, by target."""
        if not self._store.couriers:
            return {}
        try:
            return {told.name: told.waiting for told in self._store.outbox.waiting()}
        except _TROUBLE:
            return {}

    def sent(self) -> Mapping[str, int]:
        """Return the number of spans that were sent, by target."""
        return {courier.name: courier.sent() for courier in self._store.couriers}


def measure(store: TraceStore) -> None:
    """Have metrics made of what *store* gets; once for each store."""
    if observe not in store.watchers:
        store.watchers.append(observe)
        store.gauges = Gauges(store)  # `watch` alone would let it go
        watch(store.gauges)
