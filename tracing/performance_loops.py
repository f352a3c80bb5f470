"""What is at work in which event loop, of all monitored runs of the process."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from tracing.lifecycle_derived import name_of
from tracing.lifecycle_ring import KINDS
from tracing.performance_watchdog import Sample, Watchdog
from tracing.record import Record


class Owner(NamedTuple):
    """Who watches a record."""

    threshold: float
    """How long its loop may stand still, in seconds."""
    told: Callable[[Sample, float], None]
    """Told of a block, with its length in seconds."""


class _Place(NamedTuple):
    dog: Watchdog
    task: int
    owner: Owner


class Loops:
    """Open records by the task they are in, and one watchdog for each loop."""

    def __init__(self) -> None:
        self._dogs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watchdog] = (
            weakref.WeakKeyDictionary()
        )
        self._places: dict[Record, _Place] = {}
        self._stacks: dict[int, list[Record]] = {}

    def enter(self, record: Record, owner: Owner) -> None:
        """Note that *record* begins here; outside of a task there is nothing to watch."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return
        if task is None:
            return
        loop = task.get_loop()
        dog = self._dogs.get(loop)
        if dog is None:
            dog = self._dogs[loop] = Watchdog(loop, owner.threshold, self._find, self._over)
        self._places[record] = _Place(dog, id(task), owner)
        self._stacks.setdefault(id(task), []).append(record)
        dog.need(owner.threshold)

    def leave(self, record: Record) -> float | None:
        """Note that *record* ends; return for how many seconds it was found to block its loop."""
        place = self._places.get(record)
        if place is None:
            return None
        blocked = place.dog.settle(record)
        del self._places[record]
        stack = self._stacks.get(place.task, [])
        if record in stack:
            stack.remove(record)
        if not stack:
            self._stacks.pop(place.task, None)
        place.dog.release()
        return None if blocked is None or blocked < place.owner.threshold else blocked

    def _find(self, dog: Watchdog, task: asyncio.Task[Any] | None) -> tuple[str, Record | None]:
        """Return what is at work in *task*; called by the watchdog's thread."""
        records = [] if task is None else list(self._stacks.get(id(task), ()))
        if not records:  # a task of the user's own: whose can be told only if there is one node
            places = list(self._places.items())
            nodes = [r for r, place in places if place.dog is dog and r.kind in KINDS]
            records = nodes if len(nodes) == 1 else []
        if not records:
            return ("a callback" if task is None else f"the task {task.get_name()}"), None
        nodes = [record for record in records if record.kind in KINDS]
        record = (nodes or records)[-1]
        open_ = [phase.kind for phase in list(record.phases) if phase.end is None]
        phase = f" ({open_[-1]})" if open_ else ""
        return f"{record.kind} {name_of(record)}{phase}", record

    def _over(self, dog: Watchdog, sample: Sample, seconds: float) -> None:
        """Tell the owner of the record at work, or everybody in the loop if it is unknown."""
        place = None if sample.record is None else self._places.get(sample.record)
        if place is not None:
            owners = {place.owner}
        else:
            owners = {other.owner for other in list(self._places.values()) if other.dog is dog}
        for owner in owners:
            if seconds >= owner.threshold:
                owner.told(sample, seconds)


LOOPS = Loops()
"""Those of this process."""
