"""The names of processes that have runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pocketflow_async.infrastructure.owners import is_gone, this_process

SAY = (
    "import sys; from pocketflow_async.infrastructure.owners import this_process;"
    "print(this_process(), flush=True); sys.stdin.read()"
)


@pytest.fixture
def other():
    """A process that says its name, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def test_a_process_has_one_name_that_no_other_has(other):
    """It stays the same; another process has another one."""
    assert this_process() == this_process()
    assert this_process() != other.stdout.readline().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_process_is_gone_once_it_was_killed(other):
    """Also before its parent has looked: it does nothing any more."""
    name = other.stdout.readline().strip()
    assert not is_gone(name)

    other.kill()
    other.stdout.read()  # until it has ended
    while not is_gone(name):  # its end is being seen to by the kernel
        pass
    other.wait()

    assert is_gone(name)
    assert not is_gone(this_process())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_number_that_was_given_again_is_another_process(other):
    """A process of the same number that began at another time is gone."""
    host, pid, start, place, chance = other.stdout.readline().strip().rsplit(":", 4)

    assert is_gone(f"{host}:{pid}:{int(start) - 1}:{place}:{chance}")


def test_nobody_else_is_taken_for_gone():
    """A process of another machine, or a name of another make, may well be alive."""
    host, _, start, _, chance = this_process().rsplit(":", 4)

    for name in (
        f"{host}:4194305:{start}:0123456789abcdef:{chance}",
        f"{host}:4194305:::{chance}",
        f"{host}:x:{start}::{chance}",
        "somebody",
        "",
        f"{host}:0:1:{this_process().rsplit(':', 2)[1]}:x",
    ):
        assert not is_gone(name)
