"""Durable runs over the death of processes: real ones, killed with SIGKILL and stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pocketflow_async.infrastructure.store import SqliteStore

WORKER = Path(__file__).with_name("resume_worker.py")
LONGEST = 30.0
BUSY, SUSPENDED, LOST = 3, 4, 5

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL and SIGSTOP")


class Program:
    """The worker, its store and what it has done."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.store = folder / "runs.db"
        self.env = env
        self.started: list[subprocess.Popen[str]] = []

    def start(self, mode: str, point: str = "", **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", WORKER, mode, self.store, self.folder, point]
        process = subprocess.Popen(
            command,
            env=self.env | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def run(self, mode: str, point: str = "", **env: str) -> tuple[int, Any]:
        """Run it to its end; return its code, and what it says of a run that is completed."""
        process = self.start(mode, point, **env)
        out, err = process.communicate(timeout=LONGEST)
        if process.returncode not in (0, BUSY, SUSPENDED, LOST, -signal.SIGKILL):
            raise AssertionError(err)
        return process.returncode, json.loads(out) if out else None

    @property
    def effects(self) -> Counter[str]:
        file = self.folder / "effects"
        lines = file.read_text().splitlines() if file.exists() else []
        return Counter(line.split()[0] for line in lines)

    def stored(self) -> tuple[Any, list[Any]]:
        """Return the run and its journal."""

        async def read() -> tuple[Any, list[Any]]:
            async with SqliteStore(self.store) as store:
                return await store.run("r"), await store.entries("r")

        return asyncio.run(read())

    def committed(self) -> set[str]:
        """Return the nodes that are stored as done."""
        return {entry.node_id for entry in self.stored()[1] if entry.phase == "completed"}


@pytest.fixture
def program(tmp_path, child_env):
    found = Program(tmp_path, child_env)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(true: Callable[[], bool]) -> None:
    """Poll until it is *true*."""
    end = time.monotonic() + LONGEST
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


WRITES = 9
POINTS = [f"{side}:{write}" for write in range(1, WRITES) for side in ("before", "after")]


@pytest.mark.parametrize(
    "point", ["after:0", *POINTS, *(f"effect:{name}" for name in ("a", "b", "c", "sell", "d"))]
)
def test_killed_anywhere_the_run_goes_on(program, point):
    """Committed nodes never again, the one at work at most once more, one that reconciles never.

    A second kill, of the process that resumes, changes nothing about that.
    """
    code, _ = program.run("run", point)
    assert code == -signal.SIGKILL
    before, committed = program.effects, program.committed()

    second = "after:1" if point == "effect:a" else ""
    code, said = program.run("resume", second)
    if second:
        assert code == -signal.SIGKILL
        code, said = program.run("resume")

    row, entries = program.stored()
    assert code == 0
    assert said == {"trail": ["a", "b", "c", "sell", "d"], "sum": "0.5"}
    assert (row.status, row.owner) == ("completed", None)
    assert [entry.place for entry in entries] == list(range(1, row.places + 1))
    effects = program.effects
    assert set(effects) == {"a", "b", "c", "sell", "d"}
    assert all(effects[name] == before[name] == 1 for name in committed - {"in", "Worked"})
    assert effects["sell"] == 1
    assert effects.total() <= 6


def test_killed_before_it_is_stored_there_is_no_run(program):
    """Nothing has happened, and the program begins it again."""
    code, _ = program.run("run", "before:0")
    assert code == -signal.SIGKILL
    assert program.stored()[0] is None
    assert program.effects == {}

    code, said = program.run("run")
    assert (code, said["sum"]) == (0, "0.5")


def test_a_whole_run_writes_as_often_as_kills_are_tried(program):
    """So no write is left out of the matrix."""
    program.run("run")
    _, entries = program.stored()

    # Each write adds one line: five nodes, the flow inside, the intent to sell, and the end.
    assert len(entries) == WRITES - 1


def test_of_two_processes_that_resume_one_gets_the_run(program):
    """The other is told that it is busy; each effect is had once."""
    nodes = {"NODES": "a slow b"}
    code, _ = program.run("run", "effect:a", **nodes)
    assert code == -signal.SIGKILL

    both = [program.start("resume", **nodes) for _ in range(2)]
    until(lambda: any(process.poll() is not None for process in both))
    assert sorted(process.poll() or 0 for process in both) == [0, BUSY]
    (program.folder / "go").touch()
    until(lambda: all(process.poll() is not None for process in both))

    assert sorted(process.returncode for process in both) == [0, BUSY]
    assert program.effects == {"a": 2, "slow": 1, "b": 1}


def test_a_process_that_stood_still_is_fenced_off(program):
    """Stopped for longer than its lease, it finds the run taken: it stores and does no more."""
    nodes = {"NODES": "a slow b", "LEASE": "0.5"}
    zombie = program.start("run", **nodes)
    until(lambda: (program.folder / f"slow.{zombie.pid}").exists())
    zombie.send_signal(signal.SIGSTOP)

    codes = []

    def resumed() -> bool:
        heir = program.start("resume", **nodes)
        until(lambda: heir.poll() is not None or (program.folder / f"slow.{heir.pid}").exists())
        if heir.poll() is None:
            (program.folder / "go").touch()
            heir.wait(LONGEST)
        codes.append(heir.returncode)
        return heir.returncode == 0

    until(resumed)
    row, entries = program.stored()
    zombie.send_signal(signal.SIGCONT)
    zombie.wait(LONGEST)

    assert set(codes[:-1]) <= {BUSY}
    assert zombie.returncode == LOST
    assert program.stored() == (row, entries)
    assert (row.status, row.fence) == ("completed", 2)
    assert program.effects == {"a": 1, "slow": 2, "b": 1}


def test_an_approval_over_three_processes(program):
    """One asks and ends, one answers, one goes on; the question is listed in between."""
    nodes = {"NODES": "a ask b"}
    code, _ = program.run("run", **nodes)
    assert code == SUSPENDED
    listed = cli(program, "runs", "--status", "suspended", "--json")
    (run,) = json.loads(listed.stdout)
    assert (run["run_id"], run["waits_for"][0]["question"]) == ("r", "go on?")
    code, _ = program.run("resume", **nodes)
    assert code == SUSPENDED

    answered = cli(program, "approve", "r", "--value", "true", "--by", "ann")
    assert answered.returncode == 0, answered.stderr
    code, said = program.run("resume", **nodes)

    assert (code, said["trail"]) == (0, ["a", "ask", "b"])
    assert program.effects == {"a": 1, "ask": 1, "b": 1}
    (line,) = [entry for entry in program.stored()[1] if entry.phase == "answered"]
    assert json.loads(line.output)["by"] == "ann"


def cli(program: Program, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command line on the program's store."""
    command = [sys.executable, "-P", "-m", "tracing", *args, "--store", str(program.store)]
    return subprocess.run(
        command, env=program.env, text=True, capture_output=True, timeout=LONGEST, check=False
    )
