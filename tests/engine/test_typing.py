"""The types of the public API: mypy --strict agrees with every line of tests/typing."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import pocketflow_async as pf

ROOT = Path(__file__).parents[2]
NODES = ["BaseNode", "Node", "BatchNode", "AsyncNode", "AsyncBatchNode", "AsyncParallelBatchNode"]
FLOWS = ["Flow", "BatchFlow", "AsyncFlow", "AsyncBatchFlow", "AsyncParallelBatchFlow"]


def mypy(path: Path, cache: Path) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--warn-unused-ignores",
            "--no-error-summary",
            "--no-incremental",
            "--cache-dir",
            str(cache),
            str(path),
        ],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.mark.timeout(300)  # mypy without a cache
@pytest.mark.parametrize("name", ["api.py", "traced.py"])
def test_mypy_agrees_with_every_line(name, tmp_path):
    """What should be typed is, and what should be an error is one."""
    if name == "traced.py":
        assert importlib.import_module("tracing").trace_flow

    assert mypy(ROOT / "tests" / "typing" / name, tmp_path) == ""


@pytest.mark.parametrize("name", NODES + FLOWS)
def test_every_class_can_be_subscripted_at_run_time(name):
    """`AsyncNode[list[str], str]` is a base like the bare class: same MRO, pickles, copies."""
    base = getattr(pf, name)
    parameters = base[int, str]

    assert typing.get_origin(parameters) is base
    assert typing.get_args(parameters) == (int, str)

    class Typed(base[int, str]):
        pass

    class Bare(base):
        pass

    assert Typed.__mro__[1:] == Bare.__mro__[1:]
    assert isinstance(Typed(), base)
    assert vars(Typed()).keys() == vars(Bare()).keys()


@pytest.mark.parametrize("name", NODES + FLOWS)
def test_a_parametrised_class_makes_plain_objects(name):
    """`Node[int, str]()` is a Node, and pickles as one."""
    base = getattr(pf, name)

    node = base[int, str]()
    twin = pickle.loads(pickle.dumps(node))

    assert type(node) is type(twin) is base
