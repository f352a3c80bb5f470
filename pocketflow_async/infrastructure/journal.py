"""A run that this process has: what it writes, in order, for as long as the run is its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pocketflow_async.infrastructure.owners import is_gone, this_process
from pocketflow_async.infrastructure.store.errors import (
    LeaseLost,
    RunExists,
    StoreError,
    UnstorableError,
)
from pocketflow_async.infrastructure.store.model import Entry, EventRow, RunRow, Store
from pocketflow_async.resilience.tasks import stopped

logger = logging.getLogger(__name__)

LEASE: Final = 30.0
"""Seconds for which a process has a run, if it does not say that it goes on having it."""
_HARMLESS: Final = (LeaseLost, RunExists, UnstorableError)
"""Errors after which it is known that nothing was written."""


class Line(NamedTuple):
    """One line of a run's journal, before it has its place.

    Attributes:
        node_id: The node.
        phase: started, completed, failed or skipped.
        attempt: Number of the attempt, from 1.
        key: The node's idempotency key.
        output: What it yielded, as JSON.
        error: What went wrong, or why it was skipped.
    """

    node_id: str
    phase: str
    attempt: int = 1
    key: str | None = None
    output: bytes | None = None
    error: str | None = None


class RunJournal:
    """Writes one run, for as long as this process has it.

    The run is this process's for *lease* seconds, and a task renews that. A process that stands
    still for longer loses the run to whoever claims it: all that it writes afterwards is refused.
    One task writes at a time. After an error that leaves open whether something was written,
    nothing more is: the run stays as it is, to be taken up when its lease is over.

    Args:
        store: Where it is kept.
        lease: Seconds for which the run is ours after each renewal.
        owner: Who we are; None: this process.
        monotonic: Returns seconds, for the lease.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease: float = LEASE,
        owner: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.owner = owner or this_process()
        self.is_released = True
        self._lease = lease
        self._monotonic = monotonic
        self._until = 0.0
        self._run_id = ""
        self._fence = 0
        self._places = 0
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._failure: StoreError | None = None

    def __repr__(self) -> str:
        return f"<RunJournal of {self._run_id}: {'released' if self.is_released else self.owner}>"

    async def create(
        self,
        run: RunRow,
        lines: Sequence[Line] = (),
        *,
        events: Sequence[EventRow] = (),
        state: Mapping[str, bytes] | None = None,
    ) -> RunRow:
        """Keep a new run, which is ours.

        Raises:
            RunExists: There is a run of that id.
            StoreError: It could not be kept, or that is not known.
        """
        asked = self._monotonic()
        entries = _placed(run.run_id, lines, run.places)
        kept = await self.store.create_run(
            run, lease=self._lease, entries=entries, events=events, state=state
        )
        self._hold(kept, asked)
        return kept

    async def take(self, run_id: str) -> RunRow | None:
        """Take a run that nobody has; return it as it is now, or None if somebody has it.

        That of a process of this machine which has surely ended is taken at once, others when their
        lease is over.

        Raises:
            StoreError: The store cannot be used.
        """
        asked = self._monotonic()
        taken = await self.store.claim(run_id, self.owner, self._lease)
        if taken is None and await self._freed(run_id):
            asked = self._monotonic()
            taken = await self.store.claim(run_id, self.owner, self._lease)
        if taken is not None:
            self._hold(taken, asked)
        return taken

    async def write(
        self,
        lines: Sequence[Line] = (),
        events: Sequence[EventRow] = (),
        *,
        state: Mapping[str, bytes] | None = None,
        status: str | None = None,
        result: str | None = None,
        error: str | None = None,
        release: bool = False,
    ) -> None:
        """Write all of it, or nothing; with *release* the run is given back.

        Must not be cancelled in the middle, since it would not be known what was written.

        Raises:
            LeaseLost: The run is another's, or may be.
            StoreError: It could not be written.
        """
        self._check()
        try:
            await self.store.append(
                self._run_id,
                self.owner,
                self._fence,
                entries=_placed(self._run_id, lines, self._places),
                events=events,
                state=state,
                status=status,
                result=result,
                error=error,
                release=release,
            )
        except StoreError as failure:
            if not isinstance(failure, _HARMLESS) or isinstance(failure, LeaseLost):
                self._failure = failure
            raise
        except BaseException:  # it was cancelled after all
            self._failure = LeaseLost(self._run_id)
            raise
        self._places += len(lines)
        self.is_released = release

    async def still_ours(self) -> None:
        """Make sure that the run is ours: to be asked before something has an effect.

        Raises:
            LeaseLost: It is another's.
            StoreError: The store cannot be used.
        """
        self._check()
        if self._monotonic() >= self._until:  # this process has stood still
            asked = self._monotonic()
            await self.store.renew(self._run_id, self.owner, self._fence, self._lease)
            self._until = asked + self._lease

    async def close(self) -> None:
        """Renew the lease no more. A run that has not been released stays so until it is over."""
        if self._timer is not None:
            self._timer.cancel()
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            await stopped([renewing])

    def _hold(self, run: RunRow, asked: float) -> None:
        self._run_id, self._fence, self._places = run.run_id, run.fence, run.places
        self._until = asked + self._lease
        self.is_released = False
        self._failure = None
        # Most runs end before: they need no task.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._lease / 3, self._start_renewing)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.is_released:
            raise LeaseLost(self._run_id)

    def _start_renewing(self) -> None:
        self._renewing = asyncio.create_task(self._renew(), name=f"lease of {self._run_id}")

    async def _renew(self) -> None:
        while True:
            asked = self._monotonic()
            try:
                await self.store.renew(self._run_id, self.owner, self._fence, self._lease)
                self._until = asked + self._lease
            except LeaseLost as error:
                if not self.is_released:
                    self._failure = error
                    logger.error("run %s was taken by another process", self._run_id)
                return
            except StoreError as error:
                logger.warning("the lease of run %s is not renewed: %s", self._run_id, error)
            await asyncio.sleep(self._lease / 3)

    async def _freed(self, run_id: str) -> bool:
        """Give the run back in the name of a process that has ended; return whether it was."""
        run = await self.store.run(run_id)
        if run is None or run.owner is None or not is_gone(run.owner):
            return False
        try:
            await self.store.append(run_id, run.owner, run.fence, release=True)
        except LeaseLost:  # another was quicker
            return False
        return True


def _placed(run_id: str, lines: Sequence[Line], last: int) -> list[Entry]:
    return [Entry(run_id, place, *line) for place, line in enumerate(lines, last + 1)]


def event_rows(
    run_id: str, events: Sequence[Mapping[str, Any]], text: Callable[[Any], str]
) -> list[EventRow]:
    """Return the rows of *events*, which have a `seq` and a `type`; *text* makes them JSON."""
    return [EventRow(run_id, event["seq"], event["type"], text(event)) for event in events]
