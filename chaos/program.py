"""The flow's process as whoever starts, watches and kills it sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_UNSET = ("OTEL_", "LANGFUSE_", "POCKETFLOW_")
_PUSH = """
import sys
from tracing.cli import main
sys.argv = ["pocketflow-async", "traces", "push", "--timeout", "120"]
main()
"""


def environment(store: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process that keeps its traces in *store*, and *more* of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_UNSET)}
    root = str(Path(__file__).parents[1])
    return {**kept, "POCKETFLOW_TRACE_STORE": str(store), "PYTHONPATH": root, **more}


def push(store: Path, endpoint: str) -> list[str]:
    """Have `pocketflow-async traces push` send what waits; return what it complained about."""
    done = subprocess.run(
        [sys.executable, "-c", _PUSH],
        env=environment(store, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint),
        capture_output=True,
        text=True,
        check=False,
    )
    failed = [] if done.returncode == 0 else [f"exit code {done.returncode}: {done.stdout}"]
    return failed + done.stderr.splitlines()


class Program:
    """A process of `chaos.flow`.

    Args:
        store: Where it keeps its traces.
        said: What it is to do.
    """

    def __init__(self, store: Path, **said: Any) -> None:
        self._errors = store.with_suffix(f".{time.monotonic_ns()}.err")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "chaos.flow", json.dumps(said)],
                env=environment(store),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.facts: dict[str, Any] = {}
        """All that it has said so far."""
        self.exit_seconds = 0.0
        """From its last line to its end."""

    def until(self, name: str) -> Any:
        """Wait until it has said something under *name*, and return it.

        Raises:
            RuntimeError: It ended without.
        """
        assert self._process.stdout is not None
        while name not in self.facts:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"the program ended early:\n{self._errors.read_text()}")
            self.facts.update(json.loads(line))
        return self.facts[name]

    def kill(self) -> None:
        """Kill it as nothing can be done about (SIGKILL)."""
        self._process.kill()
        self._process.communicate()

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            RuntimeError: It ended in an error.
        """
        end = self.until("end")
        self._process.communicate()
        self.exit_seconds = time.time() - end
        if self._process.returncode:
            raise RuntimeError(f"the program failed:\n{self._errors.read_text()}")

    @property
    def warnings(self) -> list[str]:
        """Lines that it wrote to its standard error."""
        lines = self._errors.read_text(errors="replace").splitlines()
        return [line for line in lines if line.strip()]
