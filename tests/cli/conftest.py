"""Hand-made traces, and the command line as a function and as a process."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracing.cli.render import trace_page
from tracing.cli.view import View
from tracing.record import COMPLETED, Failure
from tracing.store.model import PhaseSpan, Span, TraceSummary, TraceTree

START = 1_700_000_000_000_000_000
TRACE = "3f2a91bc0d4e4c4e8a8b8c8d8e8f9091"


def ns(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)


class Make:
    """Builds parts of a trace; times are in milliseconds after its start, None for open ends."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def _place(self, at: float, took: float | None) -> dict[str, Any]:
        end = None if took is None else START + ns(at + took)
        return {"span_id": f"{next(self._ids):016x}", "start_ns": START + ns(at), "end_ns": end}

    def span(
        self,
        name: str = "Node",
        kind: str = "node",
        *,
        at: float = 0,
        took: float | None = 10,
        **fields: Any,
    ) -> Span:
        known = {"parent_id": None, "index": None, "outcome": COMPLETED, **fields}
        known["children"] = tuple(known.get("children", ()))
        known["phases"] = tuple(known.get("phases", ()))
        return Span(trace_id=TRACE, name=name, kind=kind, **self._place(at, took), **known)

    def phase(
        self, kind: str = "exec", *, at: float = 0, took: float | None = 1, **fields: Any
    ) -> PhaseSpan:
        known = {"attempt": 0, "outcome": COMPLETED, **fields}
        return PhaseSpan(kind=kind, **self._place(at, took), **known)

    def failure(self, message: str = "boom", type: str = "ValueError") -> Failure:
        return Failure(type, message, (("/srv/app/main.py", 7, "main"), ("/srv/lib/x.py", 42, "f")))

    def summary(self, **fields: Any) -> TraceSummary:
        known = {
            "trace_id": TRACE,
            "name": "Flow",
            "outcome": COMPLETED,
            "started_ns": START,
            "duration_ns": ns(10),
            "spans": 1,
        }
        return TraceSummary(**{**known, **fields})

    def tree(self, *roots: Span, dropped: int = 0, **fields: Any) -> TraceTree:
        return TraceTree(self.summary(**fields), roots, dropped)


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def view() -> Callable[..., View]:
    """Build a view in which the trace is one minute old."""
    return lambda **fields: View(**{"now_ns": START + ns(60_000), **fields})


@pytest.fixture
def page(view) -> Callable[..., list[str]]:
    """Return the lines of a trace's page as plain text."""

    def page(tree: TraceTree, **fields: Any) -> list[str]:
        return [line.plain for line in trace_page(tree, view(**fields))]

    return page


@pytest.fixture
def command(child_env, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a process in an empty folder, its output in pipes."""

    def command(
        *args: str, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tracing", *args],
            cwd=cwd or tmp_path,
            env={**child_env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=50,
            check=False,
        )

    return command


@pytest.fixture
def plain_env(monkeypatch) -> None:
    """Take away what would colour or narrow the output of a command run in this process."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert os.environ.get("COLUMNS") is None
