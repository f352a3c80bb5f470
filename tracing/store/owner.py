"""Which process wrote an open row, and whether that process still lives."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SILENCE_NS: Final = 30_000_000_000
"""Heartbeats this old mean death, where the process itself cannot be looked at."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that writes, or wrote, into a store."""

    token: str
    """Random name; a process id alone is used again sooner or later."""
    pid: int
    host: str
    """Machine, boot and pid namespace: within one of them, process ids can be compared."""
    started: str | None
    """When the process started, in the kernel's own words; None where that is not to be had."""
    heartbeat_ns: int = 0
    """Unix time of its last sign of life, in nanoseconds."""
    ended: bool = False
    """Whether it said goodbye."""


COLUMNS: Final = "id, token, pid, host, started, heartbeat_ns, ended"
"""What `from_row` wants of the table of owners."""

Probe = Callable[[int], str | None]
"""Returns the start token of a living process ("" if that is hidden), None for a dead one."""


def current(wall_ns: Callable[[], int] = time.time_ns) -> Owner:
    """Return a new owner for this process."""
    pid = os.getpid()
    return Owner(secrets.token_hex(8), pid, here(), start_token(pid) or None, wall_ns())


def from_row(row: Sequence[Any]) -> tuple[int, Owner]:
    """Return the row number and the owner in a row of `COLUMNS`."""
    number, token, pid, host, started, heartbeat_ns, ended = row
    return number, Owner(token, pid, host, started, heartbeat_ns, bool(ended))


def is_alive(owner: Owner, host: str, now_ns: int, probe: Probe) -> bool:
    """Decide whether *owner* still runs, seen from *host* at the Unix time *now_ns*.

    Args:
        owner: The process in question.
        host: Where the caller runs, from `here()`.
        now_ns: Unix time in nanoseconds.
        probe: Looks at a process of this host, usually `start_token`.
    """
    if owner.ended:
        return False
    seen = probe(owner.pid) if owner.host == host else ""
    if seen and owner.started:
        return seen == owner.started
    return seen is not None and now_ns - owner.heartbeat_ns < SILENCE_NS


def here() -> str:
    """Return the name of the place in which process ids are unique."""
    return "|".join(
        (socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"))
    )


def start_token(pid: int) -> str | None:
    """Look at process *pid*: its start in clock ticks, "" if that is hidden, None if it is dead."""
    # The name in parentheses may hold spaces and parentheses itself; state and start follow it.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) >= 20:
        return None if fields[0] in ("Z", "X") else fields[19]
    return "" if _exists(pid) else None


def _exists(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 means Ctrl-C on Windows: rather wait for its heartbeats to stop
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process
        return True
    return True


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
