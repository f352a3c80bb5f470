"""Watches runs for slow nodes and for code that stops the event loop; only where it is on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import zip_longest
from typing import NamedTuple

from tracing.lifecycle_derived import id_of, name_of, pauses
from tracing.lifecycle_ring import KINDS
from tracing.performance_loops import LOOPS, Owner
from tracing.performance_watchdog import Sample
from tracing.record import Record
from tracing.recorder import add

logger = logging.getLogger(__name__)


class Block(NamedTuple):
    """A time that the event loop stood still."""

    who: str
    """What was at work, in words."""
    seconds: float
    """How long, at least."""
    where: str
    """File, line and function at work."""
    node_id: str | None = None
    node_name: str | None = None
    flow_name: str | None = None


class Monitor:
    """A listener of the ring that reports slow nodes, and blocks of the event loop.

    A slow node, or item of a batch, is logged as a warning and has the attribute `flow.slow`: the
    seconds it ran, waits and suspensions not counted. A node that blocked the loop is logged, once
    a block, and has the attribute `flow.blocked`, in seconds.

    Each loop in which something runs has a daemon thread that asks it for a sign of life; it ends
    a second after the last run has ended. Blocks that last less than 1.25 times the threshold may
    pass unseen.

    Args:
        slow_seconds: How long a node may run, in seconds.
        block_seconds: How long a loop may stand still, in seconds.
    """

    def __init__(self, slow_seconds: float = 1.0, block_seconds: float = 0.1) -> None:
        self.slow_seconds = slow_seconds
        self.block_seconds = block_seconds
        self._told: list[Callable[[Block], None]] = []
        self._owner = Owner(block_seconds, self._blocked)

    def on_block(self, tell: Callable[[Block], None]) -> None:
        """Call *tell* for each block, on the thread of the loop where it can be."""
        if tell not in self._told:
            self._told.append(tell)

    def opened(self, record: Record) -> None:
        """Watch the loop that *record* runs in, if there is one."""
        LOOPS.enter(record, self._owner)

    def closed(self, record: Record) -> None:
        """Judge how long *record* ran, and stop watching for it."""
        blocked = LOOPS.leave(record)
        if blocked is not None:
            _note(record, "flow.blocked", blocked)
        if record.kind == "node" or (record.kind == "item" and record.phases):
            ran = running_seconds(record)
            if ran >= self.slow_seconds:
                _note(record, "flow.slow", ran)
                logger.warning(
                    "node %s of %s is slow: it ran %.3f s (span %s)",
                    name_of(record),
                    record.trace.name,
                    ran,
                    id_of(record),
                )

    def _blocked(self, sample: Sample, seconds: float) -> None:
        record = sample.record
        block = Block(sample.who, seconds, sample.where)
        if record is not None:
            block = block._replace(
                node_id=id_of(record) if record.kind in KINDS else None,
                node_name=name_of(record),
                flow_name=record.trace.name,
            )
        for tell in self._told:
            try:
                tell(block)
            except Exception:
                logger.exception("%r failed at a block of the event loop", tell)


def _note(record: Record, name: str, seconds: float) -> None:
    add(record, {name: round(seconds, 6)})


def running_seconds(record: Record) -> float:
    """Return how long a finished *record* ran, without waits for attempts and suspensions."""
    end = record.end or record.start
    idle = sum((pause.end or end) - pause.start for pause in pauses(record))
    work = [phase for phase in record.phases if phase.kind != "suspended"]
    for phase, following in zip_longest(work, work[1:]):
        if phase.wait is not None and phase.end is not None:
            idle += (following.start if following is not None else end) - phase.end
    return max(0, end - record.start - idle) / 1e9
