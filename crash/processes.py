"""Processes: forked from one that has loaded everything, or started anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from crash import worker

PATIENCE = 120.0
"""Seconds that a process may take."""


class Process:
    """A process that does a job.

    Forked by default, which takes milliseconds: this process has neither threads nor an event loop
    that a child could inherit.

    Args:
        folder: For what it answers and complains about.
        said: The job.
        anew: Whether it is started as an interpreter of its own.
    """

    def __init__(self, folder: Path, said: dict[str, Any], *, anew: bool = False) -> None:
        self._name = f"{said['job']}-{time.monotonic_ns()}"
        self.answer_file = folder / f"{self._name}.json"
        self.errors = folder / f"{self._name}.err"
        said = {**said, "answer": str(self.answer_file)}
        self.status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = self._started(said) if anew else self._forked(said)

    def _started(self, said: dict[str, Any]) -> int:
        root = str(Path(__file__).parents[1])
        with self.errors.open("wb") as errors:
            popen = subprocess.Popen(
                [sys.executable, "-m", "crash.worker", json.dumps(said)],
                env={**os.environ, "PYTHONPATH": root},
                stderr=errors,
            )
        popen.returncode = 0  # we wait for it ourselves
        return popen.pid

    def _forked(self, said: dict[str, Any]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            worker.main(said)
            code = 0
        except BaseException:  # noqa: BLE001 (nothing may leave a forked process but its end)
            self.errors.write_text(traceback.format_exc())
        finally:
            os._exit(code)

    def wait(self) -> Any:
        """Wait for its end; return what it answered, or None if it was killed.

        Raises:
            RuntimeError: It failed, or takes too long.
        """
        self._until(0)
        assert self.status is not None
        if os.WIFSIGNALED(self.status):
            return None
        if os.WEXITSTATUS(self.status):
            raise RuntimeError(f"{self._name} failed:\n{self.errors.read_text()}")
        return json.loads(self.answer_file.read_text())

    @property
    def was_killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return (
            self.status is not None
            and os.WIFSIGNALED(self.status)
            and os.WTERMSIG(self.status) == signal.SIGKILL
        )

    def until_stopped(self) -> bool:
        """Wait until it has stopped itself; return whether it has, and not ended."""
        self._until(os.WUNTRACED)
        stopped = self.status is not None and os.WIFSTOPPED(self.status)
        if stopped:
            self.status = None
        return stopped

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        if self.status is None:
            os.kill(self.pid, number)

    def _until(self, options: int) -> None:
        end = time.monotonic() + PATIENCE
        while self.status is None:
            pid, status = os.waitpid(self.pid, options | os.WNOHANG)
            if pid:
                self.status = status
            elif time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise RuntimeError(f"{self._name} takes more than {PATIENCE:.0f} s")
            else:
                time.sleep(0.002)
