"""What a target costs the flow: bursts and paced runs with and without one, in turn."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import comb, inf
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from chaos.faults import Trouble
from chaos.flow import SPANS
from chaos.program import Program
from chaos.receiver import Receiver
from tests.tracing.wire_kit import free_port


@dataclass
class Side:
    """What was measured with a target, or without one: what each process said, and its end.

    Attributes:
        facts: What each process said.
        exits: Seconds that the end of each took.
        warnings: Lines that each wrote to its standard error.
    """

    facts: list[dict[str, Any]] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    warnings: list[list[str]] = field(default_factory=list)

    def add(self, **said: Any) -> None:
        """Run the flow's program once."""
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            program = Program(Path(folder, "traces.db"), session="timed", **said)
            program.wait()
            self.facts.append(program.facts)
            self.exits.append(program.exit_seconds)
            self.warnings.append(program.warnings)

    @property
    def peak(self) -> int:
        """Megabytes of memory that the largest of the processes took."""
        return max(int(facts["peak"]) for facts in self.facts)


class Ratio(NamedTuple):
    """How much longer something takes with a target: the median of pairs, and what it may be.

    On a machine that is busy with other things single pairs say little; *low* and *high* are the
    bounds between which the median is with a probability of 95 %. It takes six pairs to have any.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs: list[tuple[float, float]]) -> Ratio:
        """Return that of pairs without and with the target."""
        ratios = sorted(aimed / bare for bare, aimed in pairs)
        count = len(ratios)
        skip = 0  # ratios at each end that are outside of the bounds, by the sign test
        while 2 * sum(comb(count, k) for k in range(skip + 1)) <= 0.05 * 2**count:
            skip += 1
        if not skip:
            return cls(statistics.median(ratios), 0.0, inf)
        return cls(statistics.median(ratios), ratios[skip - 1], ratios[-skip])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass
class Timed:
    """The two sides of one fault, measured in pairs."""

    trouble: Trouble
    bare: Side = field(default_factory=Side)
    aimed: Side = field(default_factory=Side)

    def of(self, measure: Callable[[dict[str, Any]], float]) -> Ratio:
        """Return the ratio of something that the processes said."""
        sides = zip(self.bare.facts, self.aimed.facts, strict=True)
        return Ratio.of([(measure(bare), measure(aimed)) for bare, aimed in sides])


def wall(facts: dict[str, Any]) -> float:
    """Return the seconds of a burst by the clock."""
    return float(facts["wall"])


def own(facts: dict[str, Any]) -> float:
    """Return the same without those in which other processes had all cores."""
    return float(facts["wall"]) - float(facts["queued"])


def p50(facts: dict[str, Any]) -> float:
    """Return the median of the seconds that paced runs took."""
    return float(statistics.median(facts["took"]))


def p99(facts: dict[str, Any]) -> float:
    """Return what one in a hundred of them exceeded."""
    return float(statistics.quantiles(facts["took"], n=100)[98])


class Meter:
    """Measures one fault, round by round, so that all faults share the weather.

    Args:
        trouble: What is wrong with the receiver, which stays as long as this is open.
        said: What the programs are to do.
    """

    def __init__(self, trouble: Trouble, **said: Any) -> None:
        self.timed = Timed(trouble)
        self._said = said

    def round(self, random: Random) -> None:
        """Run once without and once with the target, in an order of chance."""
        with ExitStack() as stack:
            port = free_port()
            if not self.timed.trouble.refuses:
                port = stack.enter_context(Receiver(0, self.timed.trouble.fault)).port
            turns: list[tuple[Side, dict[str, Any]]] = [
                (self.timed.bare, {}),
                (self.timed.aimed, {"endpoint": f"http://127.0.0.1:{port}"}),
            ]
            random.shuffle(turns)
            for side, more in turns:
                side.add(**self._said, **more)


def bursts(trouble: Trouble, spans: int) -> Meter:
    """Return what measures bursts of *spans*."""
    return Meter(trouble, runs=-(-spans // SPANS))


def latencies(trouble: Trouble, seconds: float, pause: float = 0.005) -> Meter:
    """Return what measures single runs, a *pause* of so many seconds between two of them."""
    return Meter(trouble, runs=int(seconds / pause), pause=pause, flush=1)
