"""`make crash`: kills executions at every step, on every store; prints a table.

    python -m crash [--rounds N] [--seed N] [--only NAME …] [--on BACKEND …] [--anew] [--keep]

The exit code is 1 if something that we claim does not hold.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from crash.places import BACKENDS, Servers, available
from crash.rounds import SCENARIOS, Round, Scenario


@dataclass
class Row:
    """What came of the rounds of one kind on one backend."""

    rounds: int = 0
    kills: int = 0
    stops: int = 0
    restarts: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play(scenario: Scenario, backend: str, servers: Servers, seed: str, anew: bool) -> Round:
    """Play one round; what fails in it is broken, too."""
    now = Round(servers.place(backend), Random(seed), anew)
    try:
        scenario.play(now)
    except Exception as error:  # noqa: BLE001 (the other rounds are played all the same)
        now.broken.append(f"{type(error).__name__}: {error}")
    return now


def plan(scenarios: list[Scenario], backends: list[str], rounds: int) -> list[tuple[Scenario, str]]:
    """Return the rounds to play: every kind on every backend in turn."""
    pairs = [
        (scenario, backend)
        for backend in backends
        for scenario in scenarios
        if backend in scenario.backends
    ]
    return [pairs[number % len(pairs)] for number in range(rounds)] if pairs else []


def campaign(
    rounds: list[tuple[Scenario, str]],
    seed: int,
    *,
    anew: bool = False,
    keep: bool = False,
    note: Callable[[int, int], None] = lambda *_: None,
) -> dict[tuple[str, str], Row]:
    """Play all *rounds*; return what came of them by scenario and backend.

    Args:
        rounds: See `plan`.
        seed: Says what is left to chance.
        anew: Whether processes are interpreters of their own.
        keep: Whether the files of broken rounds are kept.
        note: Told of how many are played, and of how many are broken.
    """
    rows: dict[tuple[str, str], Row] = {}
    broken = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-")))
        servers = Servers(stack, folder, sorted({backend for _, backend in rounds}))
        for number, (scenario, backend) in enumerate(rounds, 1):
            began = time.monotonic()
            now = play(scenario, backend, servers, f"{seed}/{number}", anew)
            row = rows.setdefault((scenario.name, backend), Row())
            row.rounds += 1
            row.kills += now.kills
            row.stops += now.stops
            row.restarts += now.restarts
            row.seconds += time.monotonic() - began
            row.broken += [f"round {number}: {words}" for words in now.broken]
            broken += bool(now.broken)
            if now.broken and keep:
                shutil.copytree(now.place.folder, Path(f"crash-{seed}-{number}"))
            shutil.rmtree(now.place.folder, ignore_errors=True)
            note(number, broken)
    return rows


def show(rows: dict[tuple[str, str], Row]) -> None:
    """Print the table."""
    say(
        f"\n{'killed or stopped':24} {'on':15} {'rounds':>6} {'kill -9':>7} {'SIGSTOP':>7}"
        f" {'restarts':>8} {'s/round':>7} {'broken':>6}"
    )
    for (name, backend), row in sorted(rows.items(), key=lambda one: BACKENDS.index(one[0][1])):
        say(
            f"{name:24} {backend:15} {row.rounds:6} {row.kills:7} {row.stops:7} {row.restarts:8}"
            f" {row.seconds / row.rounds:7.2f} {len(row.broken):6}"
        )
    total = rows.values()
    say(
        f"{'all':24} {'':15} {sum(row.rounds for row in total):6} {sum(r.kills for r in total):7}"
        f" {sum(r.stops for r in total):7} {sum(r.restarts for r in total):8}"
        f" {'':7} {sum(len(r.broken) for r in total):6}"
    )


def main() -> int:
    """Do all of it; return the exit code."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m crash", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=130)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--only", nargs="+", choices=names)
    parser.add_argument("--on", nargs="+", choices=BACKENDS, default=None)
    parser.add_argument("--anew", action="store_true", help="no forks: new interpreters")
    parser.add_argument("--keep", action="store_true", help="keep the files of broken rounds")
    said = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # our servers have to end with us
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    backends = said.on or available()
    say(f"seed {said.seed}, on {', '.join(backends)}")
    for absent in [backend for backend in said.on or BACKENDS if backend not in available()]:
        say(f"not here: {absent} (it needs initdb, and redis-server for events)")
    chosen = [one for one in SCENARIOS if said.only is None or one.name in said.only]
    rows = campaign(
        plan(chosen, backends, said.rounds),
        said.seed,
        anew=said.anew,
        keep=said.keep,
        note=lambda number, bad: sys.stderr.write(f"round {number}, {bad} broken\r") and None,
    )
    show(rows)
    broken = [
        f"{name} on {on}: {words}" for (name, on), row in rows.items() for words in row.broken
    ]
    say("\nsomething is broken:" if broken else "\nnothing that we claim was refuted")
    for line in broken:
        say(f"BROKEN: {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
