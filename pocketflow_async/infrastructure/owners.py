"""Who has a run: a name for this process, and whether the process of another name is gone."""

from __future__ import annotations

import os
import socket
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import uuid4

_PROC: Final = Path("/proc")
_ENDED: Final = frozenset("ZXx")
"""States of a process that does nothing any more."""


def this_process() -> str:
    """Return the name of this process, which no other has or will have.

    `host:pid:start:place:random`. A process of the same number that comes later has another one,
    and so has a forked child.
    """
    return _named(os.getpid())


def is_gone(owner: str) -> bool:
    """Return whether the process of that name has surely ended.

    That can be told on Linux, of a process of this machine and this namespace of process numbers.
    Of all others it is false: their leases have to run out.
    """
    try:
        _, number, start, place, _ = owner.rsplit(":", 4)
        pid = int(number)
    except ValueError:
        return False
    if pid < 1 or not start or not place or place != _place():
        return False
    try:
        os.kill(pid, 0)  # /proc may hide the processes of other users
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    found = _stat(pid)
    return found is not None and (found[0] in _ENDED or found[1] != start)


@cache
def _named(pid: int) -> str:
    found = _stat(pid)
    start = "" if found is None else found[1]
    return f"{socket.gethostname()}:{pid}:{start}:{_place()}:{uuid4().hex[:16]}"


@cache
def _place() -> str:
    """Return a digest of where the number of a process means something; empty: not known."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return sha256(f"{boot} {os.readlink(_PROC / 'self/ns/pid')}".encode()).hexdigest()[:16]
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, str] | None:
    """Return the state of a process, and when it began, in the kernel's ticks; None: not known."""
    try:
        said = (_PROC / str(pid) / "stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = said.rpartition(")")[2].split()  # its name, in parentheses, may hold anything
    return fields[0], fields[19]
