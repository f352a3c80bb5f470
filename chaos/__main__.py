"""`make chaos`: 100,000 spans against each fault, with a kill in the middle; prints a table.

    python -m chaos [--spans N] [--rounds N] [--seed N] [--only NAME …]

The exit code is 1 if something that we claim does not hold. Times are measured in pairs, with and
without a target; a claim about them is broken when 95 % of the evidence is against it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from chaos.drill import Drilled, drill
from chaos.faults import TROUBLES, Trouble, named
from chaos.flow import RECORDS, WARM
from chaos.timing import Meter, Ratio, Timed, bursts, latencies, own, p50, p99, wall

SHARE = 1.05
"""How much longer a flow may take with a target than without."""
EXIT = 2.0
"""Seconds that the end of a process may take."""
ROOM = 64
"""Megabytes of memory that sending may take."""
LATENCIES = ("none", "refuse", "hang")
SECONDS = 3.0
"""Of paced runs, in one process."""
_open: list[str] = []
"""What the bounds of the times leave undecided."""


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def drills(troubles: list[Trouble], spans: int, random: Random) -> tuple[list[Drilled], list[str]]:
    """Hold the drills and print their table; return what is broken, too."""
    say(f"\n{spans:,} spans in a burst, kill -9 in the middle of the sending, started again")
    say(
        f"{'fault':18} {'finished':>9} {'received':>9} {'distinct':>9} {'duplic.':>8} {'lost':>5}"
        f" {'aside':>5} {'taken before kill':>17} {'kill after s':>12} {'all sent after s':>16}"
        f" {'exit s':>6} {'lines':>5} {'unstored':>8}"
    )
    done, broken = [], []
    for trouble in troubles:
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            found = drill(trouble, Path(folder), spans, random)
        said = found.compared
        lines = "+".join(str(len(each)) for each in found.warnings)
        say(
            f"{trouble.name:18} {said.finished:9,} {said.received:9,} {said.distinct:9,}"
            f" {said.duplicates:8,} {len(said.lost):5} {found.aside:5} {found.before:17,}"
            f" {found.killed_after:12.2f} {found.recovered:16.1f} {found.exit_seconds:6.2f}"
            f" {lines:>5} {found.unstored:8,}"
        )
        done.append(found)
        broken += found.broken()
    return done, broken


def measure(meters: list[Meter], rounds: int, random: Random) -> list[Timed]:
    """Measure all in turn, so that they share the weather."""
    for number in range(rounds):
        for meter in meters:
            meter.round(random)
        sys.stderr.write(f"round {number + 1} of {rounds}\r")
    return [meter.timed for meter in meters]


def judged(ratio: Ratio, said: str) -> list[str]:
    """Return *said* if *ratio* shows that a target costs more than it may; note if it may."""
    if ratio.low <= SHARE < ratio.high:
        _open.append(said)
    return [said] if ratio.low > SHARE else []


def common(timed: Timed, expected: int, sends: bool) -> list[str]:
    """Return which claims on exit, memory, warnings and counts do not hold."""
    found = []
    name = timed.trouble.name
    if max(timed.aimed.exits) > EXIT:
        found.append(f"{name}: the end took {max(timed.aimed.exits):.2f} s")
    if timed.aimed.peak > timed.bare.peak + ROOM:
        found.append(f"{name}: {timed.aimed.peak} MB instead of {timed.bare.peak}")
    found += [f"{name}: {lines}" for lines in timed.aimed.warnings if len(lines) > 1]
    for facts in timed.aimed.facts:
        counts = {key: facts[key] for key in ("stored", "sent", "failed", "dropped")}
        wanted = {"stored": expected, "sent": 0, "failed": 0, "dropped": 0}
        wanted["sent" if sends else "failed"] = expected
        if "took" in facts and counts != wanted:
            found.append(f"{name}: counts are {counts} instead of {wanted}")
    return found


def show_bursts(found: list[Timed]) -> list[str]:
    """Print what a target costs a burst; return what is broken."""
    say("\nflow time of the burst with the target: ratio to none, of pairs (95 % bounds)")
    say(
        f"{'fault':18} {'by the clock':>18} {'without other processes':>24} {'exit s, max':>11}"
        f" {'bare':>5} {'peak MB':>8} {'bare':>5} {'lines, max':>10}"
    )
    broken = []
    for timed in found:
        clock, mine = timed.of(wall), timed.of(own)
        say(
            f"{timed.trouble.name:18} {clock!s:>18} {mine!s:>24} {max(timed.aimed.exits):11.2f}"
            f" {max(timed.bare.exits):5.2f} {timed.aimed.peak:8} {timed.bare.peak:5}"
            f" {max(map(len, timed.aimed.warnings)):10}"
        )
        for ratio, how in ((clock, "by the clock"), (mine, "without other processes")):
            broken += judged(ratio, f"{timed.trouble.name}: a burst takes {ratio} of it, {how}")
        broken += common(timed, 0, sends=False)
    return broken


def show_latencies(found: list[Timed], runs: int) -> list[str]:
    """Print what a target costs single runs; return what is broken."""
    say(f"\nlatency of single runs of {RECORDS} records, one every 5 ms: ratio to none, of pairs")
    say(
        f"{'fault':18} {'p50':>18} {'p99':>18} {'exit s, max':>11} {'peak MB':>8} {'bare':>5}"
        f" {'lines, max':>10} {'stored':>8} {'sent':>8} {'failed':>8}"
    )
    broken = []
    for timed in found:
        half, last = timed.of(p50), timed.of(p99)
        facts = timed.aimed.facts[-1]
        say(
            f"{timed.trouble.name:18} {half!s:>18} {last!s:>18} {max(timed.aimed.exits):11.2f}"
            f" {timed.aimed.peak:8} {timed.bare.peak:5} {max(map(len, timed.aimed.warnings)):10}"
            f" {facts['stored']:8,} {facts['sent']:8,} {facts['failed']:8,}"
        )
        sends = timed.trouble.name == "none"
        broken += common(timed, (runs + WARM) * RECORDS, sends)
        if not sends:  # the claim is about a target that is dead or hangs
            for name, ratio in (("p50", half), ("p99", last)):
                said = f"{timed.trouble.name}: {name} of single runs is {ratio} of that without"
                broken += judged(ratio, said)
    return broken


def main() -> int:
    """Do all of it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9, help="pairs for each time; 0: no times")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--only", nargs="+", choices=[trouble.name for trouble in TROUBLES])
    said = parser.parse_args()
    random = Random(said.seed)
    troubles = [named(name) for name in said.only] if said.only else list(TROUBLES)
    say(f"seed {said.seed}")
    _, broken = drills(troubles, said.spans, random)
    if said.rounds:
        timed = [trouble for trouble in troubles if not trouble.pushes]
        meters = [bursts(trouble, said.spans) for trouble in timed]
        broken += show_bursts(measure(meters, said.rounds, random))
        paced = [latencies(named(name), SECONDS) for name in LATENCIES]
        runs = int(SECONDS / 0.005)
        broken += show_latencies(measure(paced, said.rounds, random), runs)
    say("\nsomething is broken:" if broken else "\nnothing that we claim was refuted")
    for line in _open:
        say(f"undecided, for the bounds are too wide (more --rounds, a quiet machine): {line}")
    for line in broken:
        say(f"BROKEN: {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
