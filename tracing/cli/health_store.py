"""Whether the store can be written, what it holds, and what waits in it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tracing.cli import reading, words
from tracing.cli.findings import Section
from tracing.cli.waiting import Waiting, waiting
from tracing.errors import StoreError
from tracing.export.pushing import unconfigured
from tracing.store import owner as owners
from tracing.store.location import is_memory, resolve
from tracing.store.schema import check, connect_readonly

_LOW: Final = 1 << 30
_EMPTY: Final = 100 << 20
_PATIENCE: Final = 2.0  # seconds that the probe waits for another process's lock
_AHEAD_NS: Final = 5 * 10**9


def look(given: Path | None, targets: Mapping[str, str], now_ns: int) -> Section:
    """Return what is to be said about the store.

    Args:
        given: Its path; None: as the environment has it.
        targets: Name of each target that is configured, by its `Target.key`.
        now_ns: Unix time in nanoseconds.
    """
    section = Section("store")
    path = resolve(given)
    if path is None:
        section.add("path", "off: traces are not recorded at all", "note")
        return section
    if is_memory(path):
        said = "memory: traces live and die with their process, and no command sees them"
        section.add("path", said, "note")
        return section
    section.add("path", path)
    if not os.path.exists(path):
        _missing(section, path)
        return section
    try:
        facts = reading.facts(path)
    except StoreError as error:
        section.add("readable", str(error), "wrong", "name another file, or move this one away")
        return section
    with closing(connect_readonly(path)) as connection:
        ready = check(connection)
    if not ready:
        _empty(section, path, is_writable=facts.writable)
        return section
    _probe(section, path)
    held = f"{words.count(facts.traces, 'trace')}, {words.count(facts.spans, 'record')}"
    section.add("holds", f"{held}, {words.size(facts.bytes)}")
    _disk(section, path)
    if facts.dropped:
        lost = f"{words.count(facts.dropped, 'record')} could not be kept"
        section.add("dropped", lost, "warning", "see the log of the program for the reason")
    with closing(connect_readonly(path)) as connection:
        alive = _owners(section, connection, now_ns)
        _times(section, connection, now_ns)
        for one in waiting(connection):
            _waiting(section, one, alive, targets, now_ns)
            _aside(section, one)
    return section


def _empty(section: Section, path: str, *, is_writable: bool) -> None:
    """Say of a file of no bytes that it is one: no process has made a store of it yet."""
    section.add("holds", "nothing: the file is empty; the first traced run makes a store of it")
    if is_writable:
        section.add("writable", "yes")
    else:
        fix = "check the permissions of the file and its folder"
        section.add("writable", "no: the file cannot be written", "wrong", fix)
    _disk(section, path)


def _missing(section: Section, path: str) -> None:
    if reading.facts(path).writable:
        section.add("writable", "yes; the first traced run makes the file")
        _disk(section, path)
    else:
        fix = f"make {Path(path).parent} writable, or name another file in POCKETFLOW_TRACE_STORE"
        section.add("writable", "no: the file cannot be made there", "wrong", fix)


def _probe(section: Section, path: str) -> None:
    """Write a row and read it back, in a transaction that is rolled back."""
    started = time.perf_counter()
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    "INSERT INTO owners (token, pid, host, heartbeat_ns, ended)"
                    " VALUES ('doctor', 0, 'doctor', 0, 1)"
                )
                found = connection.execute("SELECT count(*) FROM owners WHERE token = 'doctor'")
                back = found.fetchone()[0] == 1
            finally:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            fix = "another process holds it; runs wait with their records in memory meanwhile"
            section.add("writable", f"not within {_PATIENCE:g} s: {error}", "warning", fix)
        else:
            fix = "check the permissions of the file and its folder, and the room on the disk"
            section.add("writable", f"no: {error}", "wrong", fix)
        return
    took = words.duration(round((time.perf_counter() - started) * 1e9))
    if back:
        section.add("writable", f"yes: a row was written, read back and undone in {took}")
    else:
        section.add("writable", "no: a row that was written is not there", "wrong", "copy the file")


def _disk(section: Section, path: str) -> None:
    folder = Path(path).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{words.size(free)} free"
    if free < _EMPTY:
        section.add("disk", said, "wrong", f"make room on the disk of {folder}")
    elif free < _LOW:
        section.add("disk", said, "warning", f"make room on the disk of {folder}")
    else:
        section.add("disk", said)


def _owners(section: Section, connection: sqlite3.Connection, now_ns: int) -> frozenset[int]:
    """Say which processes write; return their numbers."""
    rows = connection.execute(f"SELECT {owners.COLUMNS} FROM owners WHERE NOT ended").fetchall()
    here = owners.here()
    found = [owners.from_row(row) for row in rows]
    alive = [one for one in found if owners.is_alive(one[1], here, now_ns, owners.start_token)]
    pids = ", ".join(str(one.pid) for _, one in alive[:5])
    said = f"{words.count(len(alive), 'process', 'processes')} at work"
    section.add("writers", f"{said}: {pids}" if alive else "none at work", "note")
    return frozenset(number for number, _ in alive)


def _times(section: Section, connection: sqlite3.Connection, now_ns: int) -> None:
    latest = connection.execute("SELECT max(started_ns) FROM traces").fetchone()[0]
    if latest is not None and latest - now_ns > _AHEAD_NS:
        ahead = words.duration(latest - now_ns)
        fix = "the clock of this or another machine was wrong: check its time service"
        section.add("latest trace", f"began {ahead} in the future", "warning", fix)


def _waiting(
    section: Section,
    one: Waiting,
    alive: Collection[int],
    targets: Mapping[str, str],
    now_ns: int,
) -> None:
    label = f"for {one.name}"
    if not one.records or one.since_ns is None:
        section.add(label, f"nothing waits to be sent to {one.address}")
        return
    number, age = words.count(one.records, "record"), words.age(now_ns - one.since_ns)
    said = f"{number} to be sent to {one.address}, the oldest {age} old"
    held = sum(left for owner, left in one.by_owner.items() if owner in alive)
    if held == one.records:
        section.add(label, f"{said}; the process that still runs sends them", "note")
        return
    if held:
        said += f"; the process that still runs sends {held:,} of them"
    if one.key not in targets:
        fix = unconfigured(one.address, list(targets.values()))
        section.add(label, said, "warning", fix)
    else:
        which = "the others" if held else "them"
        section.add(label, f"{said}; `traces push` sends {which} now", "note")


def _aside(section: Section, one: Waiting) -> None:
    for reason, records in one.aside.items():
        said = f"{words.count(records, 'record')} set aside: {reason}"
        fix = "the server refused these for good; they stay in the store, and `show` has them"
        section.add(f"for {one.name}", said, "warning", fix)
