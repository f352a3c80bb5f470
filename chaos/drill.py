"""One fault, one kill, one new start, and then everything must have arrived."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from chaos.comparing import Compared, compare, finished, left
from chaos.faults import Trouble
from chaos.flow import SPANS, WARM
from chaos.program import Program, push
from chaos.receiver import Receiver
from tests.tracing.wire_kit import free_port

PATIENCE = 120.0
"""Seconds that the second process may take to send everything."""


@dataclass
class Drilled:
    """What one drill found.

    Attributes:
        trouble: What was wrong with the receiver.
        compared: What came, against the store.
        made: Spans that both processes finished.
        before: Spans that the receiver had taken when the first process was killed.
        killed_after: Seconds from the end of the burst to the kill.
        gone: Spans that the store had at the kill, and has no more.
        waiting: Records that are still to be sent.
        aside: Records that were set aside.
        open: Records that are still open in the store.
        warnings: Lines that the two processes wrote to their standard error.
        exit_seconds: What the end of the second one took.
        recovered: Seconds from the fault's end until all was sent.
    """

    trouble: Trouble
    compared: Compared = field(default_factory=Compared)
    made: int = 0
    before: int = 0
    killed_after: float = 0.0
    gone: int = 0
    waiting: int = 0
    aside: int = 0
    open: int = 0
    warnings: list[list[str]] = field(default_factory=list)
    exit_seconds: float = 0.0
    recovered: float = 0.0

    @property
    def unstored(self) -> int:
        """Spans that had ended but not reached the store when the process was killed."""
        return self.made - self.compared.finished

    def broken(self) -> list[str]:
        """Return the claims that do not hold, in words; those about time are not among them."""
        found, poison = self.compared, int(self.trouble.poisons)
        said = {
            f"{len(found.lost)} spans did not arrive, such as {found.lost[:3]}": (
                len(found.lost) != poison
            ),
            f"{len(found.strange)} spans are not as stored: {found.strange[:2]}": found.strange,
            f"{self.gone} spans were deleted from the store": self.gone,
            f"{self.waiting} records still wait": self.waiting,
            f"{self.aside} records were set aside, not {poison}": self.aside != poison,
            f"{self.open} records are still open in the store": self.open,
            "the span set aside was not reported": (
                poison and not any("set aside" in line for lines in self.warnings for line in lines)
            ),
        }
        said |= {
            f"a process wrote {len(lines)} lines: {lines}": len(lines) > 1 + poison
            for lines in self.warnings
        }
        return [f"{self.trouble.name}: {words}" for words, wrong in said.items() if wrong]


def drill(
    trouble: Trouble,
    folder: Path,
    spans: int,
    random: Random,
    longest: float = 2.5,
    lasts: float = 3.0,
) -> Drilled:
    """Have a process make *spans* against a faulty receiver, kill it, and have another go on.

    Args:
        trouble: What is wrong with the receiver.
        folder: For the store and what the receiver took.
        spans: How many the first process makes, about; the second makes a tenth.
        random: Says when the first one is killed and when the fault ends.
        longest: Seconds from the end of the burst to the latest kill, where nothing is taken.
        lasts: Seconds that the fault goes on for after the new start, at most.
    """
    place = _Place(folder / "traces.db", free_port())
    runs = -(-spans // SPANS)
    found = Drilled(trouble)
    with place.stack:
        if not trouble.refuses:
            place.serve(trouble.fault)
        _first(found, place, runs, random, longest)
        at_kill = finished(place.store).keys()
        if trouble.pushes:
            _pushed(found, place)
        else:
            _second(found, place, runs // 10, random.uniform(0.1, lasts))
        found.waiting, found.aside, found.open = left(place.store)
        found.gone = len(at_kill - finished(place.store).keys())
        found.compared = compare(place.store, place.receiver.taken(folder / "taken"))
    return found


class _Place:
    """Where a drill takes place: a store, a port, and whoever listens there."""

    def __init__(self, store: Path, port: int) -> None:
        self.store = store
        self.endpoint = f"http://127.0.0.1:{port}"
        self.stack = ExitStack()
        self.served: Receiver | None = None
        self._port = port

    def serve(self, fault: dict[str, Any]) -> None:
        """Have a receiver that behaves like this."""
        if self.served is None:
            self.served = self.stack.enter_context(Receiver(self._port, fault))
        else:
            self.served.misbehave(fault)

    @property
    def receiver(self) -> Receiver:
        """The receiver, once there is one."""
        assert self.served is not None
        return self.served

    def program(self, session: str, runs: int, **said: Any) -> Program:
        """Start the flow."""
        return Program(self.store, endpoint=self.endpoint, session=session, runs=runs, **said)


def _first(found: Drilled, place: _Place, runs: int, random: Random, longest: float) -> None:
    """Make the burst, and kill the process in the middle of the sending."""
    poison = runs // 2 if found.trouble.poisons else None
    first = place.program("one", runs, poison=poison, linger=600)
    first.until("wall")
    ended = time.monotonic()
    _moment(place.served if found.trouble.takes else None, runs * SPANS, random, longest)
    first.kill()
    found.killed_after = time.monotonic() - ended
    found.made = (runs + WARM) * SPANS
    found.warnings.append(first.warnings)
    if place.served is not None:
        found.before = place.served.seen()[1]


def _second(found: Drilled, place: _Place, runs: int, lasts: float) -> None:
    """Start it again, let the fault end after *lasts* seconds, and wait until all is sent."""
    second = place.program("two", runs, flush=PATIENCE)
    second.until("wall")
    if not found.trouble.stays:
        time.sleep(lasts)
        place.serve({})
    mended = time.monotonic()
    second.until("peak")
    found.recovered = time.monotonic() - mended
    second.wait()
    found.made += (runs + WARM) * SPANS
    found.exit_seconds = second.exit_seconds
    found.warnings.append(second.warnings)


def _pushed(found: Drilled, place: _Place) -> None:
    """Send the rest by hand, once the receiver is right."""
    place.serve({})
    mended = time.monotonic()
    found.warnings.append(push(place.store, place.endpoint))
    found.recovered = time.monotonic() - mended


def _moment(receiver: Receiver | None, spans: int, random: Random, longest: float) -> None:
    """Wait for a random moment of the sending: by what was taken, or else by the clock."""
    until = time.monotonic() + random.uniform(0.05, longest)
    share = random.uniform(0.05, 0.95)
    if receiver is None:
        time.sleep(max(0.0, until - time.monotonic()))
        return
    until = time.monotonic() + PATIENCE
    while receiver.seen()[1] < share * spans and time.monotonic() < until:
        time.sleep(0.05)
