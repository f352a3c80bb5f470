"""Executions are killed with kill -9, and go on: a short version of `make crash`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crash.oracle import broken, halt_lost
from crash.places import available
from crash.traps import NODES

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs fork and SIGKILL")


def crash(*options):
    """Run `python -m crash` in a process of its own, since it forks; return its end and output."""
    done = subprocess.run(
        [sys.executable, "-m", "crash", "--seed", "7", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_done_twice_on_sqlite():
    """One round of each kind."""
    code, said = crash("--on", "sqlite", "--rounds", "23")

    assert "nothing that we claim was refuted" in said
    assert code == 0, said


@pytest.mark.timeout(240)
@pytest.mark.skipif("postgres+redis" not in available(), reason="no initdb or redis-server")
def test_nothing_is_lost_or_done_twice_on_servers():
    """Some rounds with PostgreSQL and Redis, which are stopped and killed as well."""
    kinds = ["effect:after", "result:after", "end:after", "recovery, twice", "zombie (SIGSTOP)"]
    code, said = crash(
        *("--on", "postgres+redis", "--rounds", "8", "--only"),
        *(*kinds, "halt:after", "server away", "bus away"),
    )

    assert "nothing that we claim was refuted" in said
    assert code == 0, said


@pytest.mark.timeout(120)
def test_new_interpreters_do_as_forked_ones():
    """The processes of a round need not be forked."""
    code, said = crash("--on", "sqlite", "--rounds", "1", "--only", "effect:after", "--anew")

    assert code == 0, said


# --- the judge ------------------------------------------------------------------------------------


def judged(change):
    """Return what the oracle says of a run that is as it should be, but for *change*."""
    entries = [
        {"place": place, "node_id": node, "phase": phase, "attempt": 1}
        for place, (node, phase) in enumerate(
            ((node, phase) for node in NODES for phase in ("started", "completed")), 1
        )
    ]
    kinds = ["execution_started", *["node_completed"] * len(NODES), "execution_completed"]
    events = [{"seq": seq, "type": kind, "event_id": str(seq)} for seq, kind in enumerate(kinds, 1)]
    run = {
        "run_id": "r",
        "status": "completed",
        "owner": None,
        "error": None,
        "seq": len(events),
        "entries": entries,
        "events": events,
    }
    lines = [{"what": "begun", "run": "r", "pid": 1}]
    for node in NODES:
        lines += [
            {"what": what, "run": "r", "node": node, "pid": 1} for what in ("effect", "committed")
        ]
    told = {event["event_id"] for event in events}
    found = {"runs": [run], "untold": [], "state": "normal"}
    change(run, lines, told, found)
    return " ".join(broken(found, lines, told=told))


CHANGES = {
    "": lambda run, lines, told, found: None,
    "forgotten": lambda run, lines, told, found: found["runs"].clear(),
    "its status is running": lambda run, *_: run.update(status="running"),
    "somebody still has it": lambda run, *_: run.update(owner="x"),
    "journal has gaps": lambda run, *_: run["entries"][3].update(place=40),
    "the attempts of": lambda run, *_: run["entries"][0].update(attempt=2),
    "were committed": lambda run, *_: run["entries"].append(
        {**run["entries"][1], "place": len(run["entries"]) + 1}
    ),
    "buy has taken effect 2 times": lambda run, lines, *_: lines.append(
        {"what": "effect", "run": "r", "node": "buy", "pid": 2}
    ),
    "hedge has taken effect 0 times": lambda run, lines, *_: lines.remove(
        {"what": "effect", "run": "r", "node": "hedge", "pid": 1}
    ),
    "price was done again": lambda run, lines, *_: lines.append(
        {"what": "effect", "run": "r", "node": "price", "pid": 2}
    ),
    "are numbered": lambda run, *_: run["events"][2].update(seq=2),
    "its events are": lambda run, *_: run["events"][1].update(type="execution_completed"),
    "nobody was told": lambda run, lines, told, found: told.remove("4"),
    "still untold": lambda run, lines, told, found: found["untold"].append("r"),
}


@pytest.mark.parametrize("words", CHANGES)
def test_the_judge_is_not_blind(words):
    """It sees each thing that may be wrong, and nothing where all is well."""
    said = judged(CHANGES[words])

    assert words in said
    assert bool(said) == bool(words)


def test_the_judge_sees_a_halt_that_was_lost():
    """One that was acknowledged holds, and nothing is traded under it."""
    lines = [{"what": "halted"}, {"what": "committed", "node": "buy"}]

    assert len(halt_lost({"state": "normal"}, lines, 0)) == 2
    assert halt_lost({"state": "halt"}, lines, 1) == []
    assert halt_lost({"state": "normal"}, [], 0) == []
