"""When the file cannot be written the run goes on, one is told once, and nothing is destroyed."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracing.store_kit import finish, flow, new_trace, start, wait_until
from tracing.store import Counts, TraceStore
from tracing.store.schema import VERSION
from tracing.store.trouble import FIRST_DELAY, LAST_DELAY, PATIENCE, Backoff

Make = Callable[..., TraceStore]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make stores that are closed in the end."""
    stores: list[TraceStore] = []

    def make(path: Any, **options: Any) -> TraceStore:
        stores.append(TraceStore(path, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close(0.5)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def store_one(store: TraceStore, timeout: float = 10) -> Counts:
    store.closed(finish(start(new_trace())))
    return store.flush(timeout)


def test_a_folder_that_cannot_be_made(make, tmp_path, caplog):
    """Where no folder can be made, one warning says where, why and what to do."""
    (tmp_path / "file").write_text("in the way")
    store = make(tmp_path / "file" / "traces.db", max_records=3)

    assert [store_one(store).failed for _ in range(4)] == [1, 2, 3, 3]

    assert store.counts() == Counts(0, 0, 3, 1)
    (said,) = warnings(caplog)
    for part in (
        str(tmp_path / "file"),
        "check its folder",
        "flow goes on",
        "up to 3 spans",
        "TRACE_STORE",
    ):
        assert part in said


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc, where none may write")
def test_a_read_only_folder(make, caplog):
    """A folder that takes no files is trouble like any other."""
    store = make("/proc/self/traces.db")

    assert store_one(store).failed == 1
    assert "cannot be opened or created" in warnings(caplog)[0]


@pytest.mark.parametrize("content", [b"this is a letter, not a database\n" * 200, b"\x00" * 5000])
def test_a_file_that_is_no_database_is_left_alone(make, tmp_path, caplog, content):
    """A file that we cannot read is not deleted, renamed or changed."""
    path = tmp_path / "traces.db"
    path.write_bytes(content)
    store = make(path)

    assert store_one(store) == Counts(0, 0, 1, 0)
    store.close()

    assert path.read_bytes() == content
    assert "it is not a database; move it away" in warnings(caplog)[0]
    assert "1 spans were lost" in warnings(caplog)[1]
    assert store.counts() == Counts(0, 0, 0, 1)


def test_a_damaged_store_is_left_alone(make, tmp_path, caplog):
    """A store whose pages are overwritten is trouble, and stays as it is."""
    path = tmp_path / "traces.db"
    store = make(path)
    store_one(store)
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[200:] = b"\xee" * (len(damaged) - 200)
    path.write_bytes(damaged)

    again = make(path)

    assert store_one(again).failed == 1
    assert path.read_bytes() == damaged
    assert len(warnings(caplog)) == 1


def test_another_programs_database_is_left_alone(make, tmp_path, caplog):
    """We make no tables in a database that is not ours."""
    path = tmp_path / "traces.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    before = path.read_bytes()

    assert store_one(make(path)).failed == 1
    assert path.read_bytes() == before
    assert "database of another program" in warnings(caplog)[0]


def test_a_newer_store_is_not_written(make, tmp_path, caplog):
    """A store made by a newer version is left to that version."""
    path = tmp_path / "traces.db"
    store = make(path)
    store_one(store)
    store.close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    newer.close()

    assert store_one(make(path)).failed == 1
    assert "upgrade pocketflow-async" in warnings(caplog)[0]


def test_recovery(make, tmp_path, caplog):
    """When the trouble is over, what waited is stored, and that is said once."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    store = make(folder / "traces.db")
    for _ in range(3):
        store_one(store)
    folder.unlink()

    wait_until(lambda: store.counts() == Counts(3, 0, 0, 0))

    assert len(store.reader().traces()) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "works again" in caplog.records[1].getMessage()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(make, small_disk, caplog):
    """A full disk costs no record while memory lasts; with room again everything is stored."""
    filler = small_disk / "filler"
    store = make(small_disk / "traces.db")
    assert store_one(store).stored == 1
    filler.write_bytes(b"x" * 4096 * 60)
    records = [record for _ in range(10) for record in flow(99)]
    for record in records:
        store.closed(record)

    counts = store.flush(10)
    assert (counts.failed, counts.dropped) == (1000, 0)
    assert "the disk is full" in warnings(caplog)[0]

    filler.unlink()
    for record in records:
        record.input = record.output = None
    wait_until(lambda: store.counts() == Counts(1001, 0, 0, 0))
    assert sum(trace.spans for trace in store.reader().traces()) == 1001


def test_a_lock_held_for_a_moment_is_no_trouble(make, tmp_path, caplog):
    """Waiting for another writer is everyday business, of which nothing is said."""
    path = tmp_path / "traces.db"
    store = make(path)
    store_one(store)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    counts = store_one(store, 0.6)
    took = time.monotonic() - began
    blocker.execute("COMMIT")
    blocker.close()

    assert counts == Counts(1, 0, 1, 0)
    assert 0.5 < took < 2
    assert store.flush(10) == Counts(2, 0, 0, 0)
    assert warnings(caplog) == []


def test_a_lock_held_for_long_is_trouble(make, tmp_path, caplog):
    """A flush does not wait for ever for a locked file, and the warning says that it is locked."""
    path = tmp_path / "traces.db"
    store = make(path)
    store_one(store)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    counts = store_one(store, 30)
    took = time.monotonic() - began
    blocker.execute("COMMIT")
    blocker.close()

    assert counts == Counts(1, 0, 1, 0)
    assert PATIENCE <= took < 10
    assert "another program keeps it locked" in warnings(caplog)[0]
    wait_until(lambda: store.counts().stored == 2)


EXIT = """
import sqlite3, sys, time
from tests.tracing.store_kit import finish, new_trace, start
from tracing.store import TraceStore
for path in sys.argv[1:]:
    store = TraceStore.at(path)
    store.closed(finish(start(new_trace())))
    assert store.flush(10).stored == 1
    globals()[path] = blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for _ in range(1000):
        store.closed(finish(start(new_trace())))
    store.opened(start(new_trace()))
print(time.time(), flush=True)
"""


def test_exit_is_bounded_with_locked_files(tmp_path, child_env):
    """A process ends within two seconds, and a little, although two stores are locked."""
    paths = [str(tmp_path / name) for name in ("a.db", "b.db")]
    child = subprocess.run(
        [sys.executable, "-c", EXIT, *paths],
        env=child_env,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    took = time.time() - float(child.stdout)

    assert took < 4
    assert child.stderr.count("1000 spans were lost") == 2
    assert "Traceback" not in child.stderr


QUIET_EXIT = """
import sys
from tests.tracing.store_kit import finish, new_trace, start
from tracing.store import TraceStore
store = TraceStore.at(sys.argv[1])
store.opened(start(new_trace()))
for _ in range(3000):
    store.closed(finish(start(new_trace())))
"""


def test_exit_stores_what_waits(tmp_path, child_env):
    """A process that simply ends loses nothing of what it recorded."""
    path = tmp_path / "traces.db"
    child = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", QUIET_EXIT, str(path)],
        env=child_env,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found = sqlite3.connect(path)
    count = found.execute("SELECT count(*), sum(outcome = 'interrupted') FROM records").fetchone()
    found.close()

    assert count == (3001, 1)
    assert child.stderr == ""


def test_backoff_doubles_up_to_its_limit():
    """Tries get rarer up to a limit; only the first failure and the first success are news."""
    backoff = Backoff()
    full = sqlite3.OperationalError("database or disk is full")

    news = [backoff.failed(full, 0.0)]
    delays = [backoff.retry_at]
    for _ in range(5):
        news.append(backoff.failed(full, 100.0))
        delays.append(backoff.retry_at - 100)

    assert delays == [FIRST_DELAY, 1.0, 2.0, 4.0, LAST_DELAY, LAST_DELAY]
    assert news == [True] + [False] * 5
    assert (backoff.succeeded(), backoff.succeeded()) == (True, False)


def test_a_mistake_of_ours_costs_one_record_and_not_the_store(make, tmp_path, caplog):
    """A record that breaks the writer is dropped and reported; those around it are stored."""
    store = make(tmp_path / "traces.db")
    good = [start(new_trace()) for _ in range(4)]
    bad = start(new_trace())
    bad.trace.tags = 5  # type: ignore[assignment]
    for record in (*good[:2], bad, *good[2:]):
        store.closed(finish(record))

    assert store.flush(10) == Counts(4, 0, 0, 1)
    assert warnings(caplog) == ["cannot store some spans"]
