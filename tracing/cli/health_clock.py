"""Whether the clocks of this machine can be trusted, and what of Python's own settings matters."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from tracing.cli import words
from tracing.cli.findings import Section
from tracing.cli.health_targets import Asked
from tracing.cli.health_versions import Read, installed
from tracing.export.address import without_user
from tracing.export.model import Target

_MOST: Final = 5.0  # seconds that two clocks may differ
_TIMEOUT: Final = 3.0
_SAMPLE: Final = 0.05  # seconds over which both clocks are compared
_RELEASED: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()

AskDate = Callable[[Target], float | None]
"""Returns what a target's server takes for the Unix time, in seconds; None: it does not say."""


def look(
    asked: Iterable[Asked],
    ask_date: AskDate | None = None,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Section:
    """Return what is to be said about clocks.

    Args:
        asked: The targets and what they answered; only those that did are asked for the time.
        ask_date: Asks a target for the time.
        now: Unix time in seconds.
        sleep: Waits so many seconds.
    """
    section = Section("clocks")
    _own(section, now, sleep)
    for one in asked:
        if one.answer is None or one.answer.status is None or one.target.protocol == "grpc":
            continue
        theirs = (ask_date or date)(one.target)
        if theirs is not None:
            _compare(section, one.target.name, now() - theirs)
    return section


def _own(section: Section, now: Callable[[], float], sleep: Callable[[float], None]) -> None:
    wall, steady = now(), time.perf_counter()
    sleep(_SAMPLE)
    apart = abs((now() - wall) - (time.perf_counter() - steady))
    said = datetime.fromtimestamp(now(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    fix = "set the clock, and run a time service (chrony, systemd-timesyncd)"
    if wall < _RELEASED:
        section.add("this machine", f"{said} is long ago", "wrong", fix)
    elif apart > _SAMPLE:
        lost = words.duration(round(apart * 1e9))
        section.add("this machine", f"the clock was set by {lost} meanwhile", "warning", fix)
    else:
        section.add("this machine", said)
    steps = time.get_clock_info("perf_counter")
    if not steps.monotonic or steps.resolution > 1e-3:
        grain = words.duration(round(steps.resolution * 1e9))
        section.add("durations", f"the clock has steps of {grain}", "warning")


def _compare(section: Section, name: str, ahead: float) -> None:
    apart = abs(ahead)
    if apart <= _MOST:
        section.add(name, "its clock and ours agree, as far as its seconds tell")
        return
    length = words.duration(round(apart * 1e9))
    fix = "spans of several machines will not line up: run a time service on both"
    direction = "ahead of" if ahead > 0 else "behind"
    section.add(name, f"our clock is {length} {direction} its clock", "warning", fix)


def date(target: Target) -> float | None:
    """Ask the server of *target* for the time, without credentials."""
    import requests  # noqa: PLC0415 (only for those who ask)

    try:
        with requests.Session() as session:
            session.auth = lambda request: request  # or it would look into ~/.netrc
            answer = session.head(
                without_user(target.endpoint)[0],
                timeout=_TIMEOUT,
                allow_redirects=False,
                verify=target.certificate or True,
            )
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() + 0.5
    except (requests.RequestException, KeyError, ValueError, TypeError, OSError):
        return None


def python(read: Read = installed) -> Section:
    """Return what of Python and asyncio matters for traced programs."""
    section = Section("python")
    if (uvloop := read("uvloop")) is not None:
        section.add("event loop", f"asyncio's own, or uvloop {uvloop} if you choose it", "note")
    else:
        section.add("event loop", "asyncio's own; uvloop is not installed", "note")
    method = multiprocessing.get_start_method(allow_none=True) or "the platform's default"
    forks = hasattr(os, "fork")
    after = "; traces go on in a child after a fork" if forks else ""
    section.add("new processes", f"{method}{after}", "note")
    if os.environ.get("PYTHONASYNCIODEBUG") or sys.flags.dev_mode:
        said = "asyncio's debug mode is on: everything is slower"
        section.add("debug", said, "warning", "unset PYTHONASYNCIODEBUG, and -X dev")
    if sys.flags.optimize >= 2:
        section.add("python -OO", "docstrings are gone", "note")
    return section
