"""A store in a file: its disk, its locks, its thread, and the processes it is shared by."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pocketflow_async.infrastructure.store import (
    SqliteStore,
    StoreUnavailable,
    UnstorableError,
    sqlite_schema,
)
from tests.infrastructure.store_kit import Program, a_run, an_entry, until


@pytest.fixture
def path(tmp_path):
    """Return where the file is to be."""
    return tmp_path / "store.db"


@pytest.fixture
async def store(path):
    """Return an open store that does not wait long for others."""
    async with SqliteStore(path, busy_timeout=0.2) as store:
        yield store


def threads(path):
    return [thread for thread in threading.enumerate() if thread.name == f"store {path}"]


def open_files(path):
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one of this list, or another thread's
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if name.startswith(str(path))]


def length(path):
    return os.stat(path).st_size


async def in_thread(store, function):
    """Do something with the store's own connection."""
    return await store._read(function)


def pragma(name):
    return lambda db: db.execute(f"PRAGMA {name}").fetchone()[0]


class Blocked:
    """Keeps a store's thread busy with a change, so that what comes meanwhile has to wait."""

    def __init__(self, store):
        self._store = store
        self._began, self._go_on = threading.Event(), threading.Event()

    async def __aenter__(self):
        def change(row):
            self._began.set()
            assert self._go_on.wait(10)

        self._task = asyncio.create_task(self._store.change_emergency("blocked", change))
        await asyncio.to_thread(self._began.wait, 10)

    async def __aexit__(self, *_):
        self._go_on.set()
        await self._task


# --- the file -------------------------------------------------------------------------------------


async def test_what_is_acknowledged_is_on_the_disk(store):
    """The log is written through at each commit, which is what `synchronous = FULL` says."""
    assert await in_thread(store, pragma("journal_mode")) == "wal"
    assert await in_thread(store, pragma("synchronous")) == 2
    assert await in_thread(store, pragma("fullfsync")) == 1


async def test_nothing_is_touched_before_the_first_use(tmp_path):
    """A store that is only made makes no file and no thread; its folder is made with the file."""
    path = tmp_path / "new" / "folder" / "a b?#%.db"
    store = SqliteStore(path)
    assert not path.parent.exists()
    assert threads(path) == []

    await store.put("a", b"1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await store.close()


async def test_the_file_stays_where_it_was_when_the_store_was_made(tmp_path, monkeypatch):
    """A relative path goes by the folder of that time."""
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("store.db")
    monkeypatch.chdir("/")

    async with store:
        assert (tmp_path / "store.db").exists()


async def test_closing_leaves_nothing_open(path):
    """No thread, no open file, and all in one file; a closed store says so when it is shown."""
    async with SqliteStore(path) as store:
        await store.put("a", b"1")
        assert len(threads(path)) == 1
        assert open_files(path)

    assert threads(path) == []
    assert open_files(path) == []
    assert [file.name for file in path.parent.iterdir()] == ["store.db"]
    assert "closed" in repr(store)


async def test_closers_all_wait_for_the_end(path):
    """Whoever closes a store at the same time returns when it is closed."""
    store = SqliteStore(path)
    await store.put("a", b"1")

    async def close():
        await store.close()
        assert open_files(path) == []

    await asyncio.gather(*(close() for _ in range(5)))


async def test_commits_need_not_make_the_log_longer(path):
    """The log has its length from the beginning: to overwrite takes the disk half the time."""
    log = f"{path}-wal"
    async with SqliteStore(path) as store:
        first = length(log)
        assert first > 4_000_000
        for number in range(20):
            await store.put(f"k{number}", bytes(1000))
        assert length(log) == first
        async with SqliteStore(path) as other:  # begins at the end of what is there
            assert len(await other.keys()) == 20
            await other.put("a", b"1")
        assert length(log) == first
        assert await store.get("a") == b"1"


async def test_values_whose_time_is_over_are_deleted(path):
    """They do not fill the file for ever."""
    now = 1000.0
    async with SqliteStore(path, clock=lambda: now) as store:
        await store.put_many({f"k{n}": b"" for n in range(10)}, 5)
        now += 100
        await store.put("new", b"", 5)

        count = "SELECT count(*) FROM state"
        assert (await in_thread(store, lambda db: db.execute(count).fetchone()))[0] == 1


async def test_many_may_open_a_new_file_at_once(path):
    """Ten that are the first do not get in each other's way, and all see one store."""
    stores = [SqliteStore(path) for _ in range(10)]
    await asyncio.gather(*(store.add("n", 1) for store in stores))

    assert await stores[0].get("n") == b"10"
    await asyncio.gather(*(store.close() for store in stores))


async def test_older_files_are_upgraded(path, monkeypatch):
    """A newer program changes the tables at once and keeps what is there; twice does no harm."""
    async with SqliteStore(path) as store:
        await store.create_run(a_run())
    newer = (*sqlite_schema.UPGRADES, ("CREATE TABLE more (x)", "INSERT INTO more VALUES (1)"))

    def more(db):
        return db.execute("SELECT * FROM more").fetchall()

    monkeypatch.setattr(sqlite_schema, "UPGRADES", newer)

    for _ in range(2):
        async with SqliteStore(path) as store:
            assert (await store.run("r")).run_id == "r"
            assert await in_thread(store, more) == [(1,)]


async def test_upgrades_that_fail_leave_the_file_as_it_was(path, monkeypatch):
    """Half an upgrade is none."""
    async with SqliteStore(path) as store:
        await store.put("a", b"1")
    with monkeypatch.context() as patch:
        newer = (*sqlite_schema.UPGRADES, ("CREATE TABLE more (x)", "CREATE TABLE state (x)"))
        patch.setattr(sqlite_schema, "UPGRADES", newer)
        with pytest.raises(StoreUnavailable, match="state already exists"):
            await SqliteStore(path).put("a", b"2")

    async with SqliteStore(path) as store:
        assert await store.get("a") == b"1"


# --- trouble with the file ------------------------------------------------------------------------


async def test_newer_files_are_left_alone(path):
    """A program that is too old for the file says so."""
    async with SqliteStore(path) as store:
        await in_thread(store, lambda db: db.execute("PRAGMA user_version = 99").close())

    with pytest.raises(StoreUnavailable, match=r"store\.db is of version 99.*Upgrade"):
        async with SqliteStore(path):
            pass
    assert threads(path) == []


async def test_databases_of_something_else_are_left_alone(path):
    """A file with other tables is not mixed with ours, and not changed."""
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(StoreUnavailable, match=r"store\.db is a database of something else"):
        await SqliteStore(path).get("a")

    assert path.read_bytes() == before


async def test_files_that_are_no_database_are_left_alone(path):
    """The error names the file, and what to do."""
    path.write_bytes(b"Dear diary, " * 100)

    with pytest.raises(StoreUnavailable, match=r"store\.db is no SQLite database.*Move"):
        await SqliteStore(path).get("a")

    assert path.read_bytes() == b"Dear diary, " * 100


async def test_damaged_files_are_told(path):
    """The error names the file and how to mend it; nothing is acknowledged."""
    async with SqliteStore(path) as store:
        await store.put_many({f"k{n}": bytes(3000) for n in range(200)})
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2, size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(200))

    store = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match=r"store\.db is damaged.*\.recover"):
        await store.get_many([f"k{n}" for n in range(200)])
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.put_many({f"k{n}": b"" for n in range(200)})
    await store.close()


@pytest.mark.parametrize("below", ["", "x/"])
async def test_folders_and_files_in_the_way_are_told(tmp_path, below):
    """A path that is a folder, or that goes through a file, names itself."""
    path = tmp_path / "way"
    path.write_text("") if below else path.mkdir()

    with pytest.raises(StoreUnavailable, match=r"way.*(cannot be made|cannot be opened)"):
        await SqliteStore(path / below.strip("/")).get("a")


READER = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from pocketflow_async.infrastructure.store import SqliteStore, StoreUnavailable
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    for path in sys.argv[1:]:
        store = SqliteStore(path)
        try:
            await store.put("a", b"1")
        except StoreUnavailable as error:
            print(error)
        await store.close()
asyncio.run(main())
"""


async def test_places_that_may_not_be_written_are_told(tmp_path):
    """A folder that is not ours, and a file that is read-only, are named, with who is to write."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    open_ = tmp_path / "open"
    open_.mkdir()
    async with SqliteStore(open_ / "there.db") as store:
        await store.put("a", b"1")
    (open_ / "there.db").chmod(0o444)
    open_.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith("pytest"):
            folder.chmod(0o755)
    program = READER.format(root=str(Path(__file__).parents[2]))

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(locked / "new.db"), str(open_ / "there.db")],
        stdout=subprocess.PIPE,
        check=True,
    )

    new, there = done.stdout.decode().splitlines()
    assert f"{locked}/new.db cannot be made: Permission denied" in new
    assert f"{open_}/there.db" in there
    assert "must be able to write to it and to its folder" in new
    assert "must be able to write to it and to its folder" in there


async def test_full_disks_are_told(store):
    """What does not fit is refused, what fits is kept, and when there is room all is well again."""
    await store.put("a", b"1")
    pages = await in_thread(store, pragma("page_count"))
    await in_thread(store, pragma(f"max_page_count = {pages + 20}"))

    results = await asyncio.gather(
        *(store.put(f"k{n}", bytes(30_000)) for n in range(5)),
        store.put("small", b"1"),
        return_exceptions=True,
    )

    refused = [result for result in results if isinstance(result, StoreUnavailable)]
    assert refused
    assert "store.db has no room left: the disk is full. Make room" in str(refused[0])
    kept = len(results) - len(refused)
    assert len(await store.keys("k")) + len(await store.keys("s")) == kept >= 1
    await store.put("k", bytes(1_000_000))


def test_limits_of_the_process_are_told(path):
    """Where no larger file may be written, nothing that was acknowledged is lost."""
    with Program("fill", str(path), "x", 8_000_000) as program:
        (_, (kept, found, *words)) = program.rest()

    assert kept == found
    assert str(path) in words


async def test_files_that_are_taken_away_are_told(store, path):
    """A store whose file is removed or replaced acknowledges nothing, and makes no new file."""
    await store.put("halt", b"1")
    path.rename(path.with_name("away.db"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.put("a", b"1")
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.get("halt")
    assert not path.exists()

    path.with_name("away.db").rename(path)
    assert await store.get("halt") == b"1"


async def test_values_that_are_too_large_are_refused_alone(store):
    """SQLite's limit is not the file's trouble: the others are kept."""
    await in_thread(store, lambda db: db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))

    results = await asyncio.gather(
        store.put("a", b"1"), store.put("b", bytes(20_000)), store.put("c", b"1"),
        return_exceptions=True,
    )  # fmt: skip

    assert [type(result) for result in results] == [type(None), UnstorableError, type(None)]
    assert await store.keys() == ["a", "c"]


# --- locks ----------------------------------------------------------------------------------------


@pytest.fixture
def other(store, path):
    """Return a connection of somebody else."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield other
    other.close()


async def test_locked_files_are_told(store, other, path):
    """Who waits in vain learns which file it is; when the lock is gone all is well."""
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*(store.put("a", b"1") for _ in "123"), return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert f"{path} is locked by another process" in str(results[0])
    assert "fuser" in str(results[0])
    other.execute("ROLLBACK")

    assert await store.get("a") is None
    await store.put("a", b"2")


async def test_reads_do_not_wait_for_other_writers(path):
    """While another process writes, and our changes wait for it, a halt is still seen at once."""
    async with SqliteStore(path) as store:
        await store.change_emergency("c", lambda row: replace(row, state="halt"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(store.add("n", 1)) for _ in range(3)]
        await asyncio.sleep(0)

        for _ in range(20):
            assert (await store.emergency("c")).state == "halt"

        assert not any(task.done() for task in waiting)
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*waiting)
        assert await store.get("n") == b"3"


async def test_who_gives_up_waiting_changes_nothing(path):
    """A change that is cancelled while another process has the lock is not made later."""
    async with SqliteStore(path) as store:
        await store.put("a", b"1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(store.put("a", b"2"))
        await store.get("a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other.execute("ROLLBACK")
        other.close()

        assert await store.get("a") == b"1"
        await store.put("b", b"1")
        assert await store.get("a") == b"1"


async def test_closing_does_not_hang_on_a_lock(path, monkeypatch):
    """What waits for a lock while the store is closed waits no longer than it would have."""
    store = SqliteStore(path, busy_timeout=0.1)
    await store.put("a", b"1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(store.put("a", b"2"))
    await asyncio.sleep(0)

    await store.close()

    with pytest.raises(StoreUnavailable, match="locked"):
        await task
    other.close()


# --- its thread -----------------------------------------------------------------------------------


async def test_changes_that_wait_share_a_commit(store):
    """50 at once need the disk once or twice, and not 50 times."""
    for number in range(50):
        await store.create_run(a_run(f"r{number}"), lease=60)
    said = []
    await in_thread(store, lambda db: db.set_trace_callback(said.append))
    async with Blocked(store):
        tasks = [
            asyncio.create_task(store.append(f"r{n}", "me", 1, entries=[an_entry(1)]))
            for n in range(50)
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    await in_thread(store, lambda db: db.set_trace_callback(None))

    assert said.count("COMMIT") <= 2
    assert {run.places for run in await store.runs()} == {1}


async def test_what_is_called_off_before_it_begins_is_not_done(store):
    """Cancelling something that waits in the queue takes it out."""
    async with Blocked(store):
        task = asyncio.create_task(store.put("a", b"1"))
        await asyncio.sleep(0)
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.get("a") is None


async def test_a_commit_that_fails_takes_only_the_guilty_with_it(store, monkeypatch):
    """Changes that cannot be committed together are tried one by one."""
    await in_thread(store, lambda db: db.execute("CREATE TABLE parents (x PRIMARY KEY)").close())
    child = "CREATE TABLE children (x REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    await in_thread(store, lambda db: db.execute(child).close())
    await in_thread(store, lambda db: db.execute("PRAGMA foreign_keys = ON").close())

    def orphan(db):  # an error of the file that only its commit shows
        db.execute("INSERT INTO children VALUES (1)").close()

    async with Blocked(store):
        tasks = [
            asyncio.create_task(one)
            for one in (store.put("a", b"1"), store._write(orphan), store.put("b", b"1"))
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [type(None), StoreUnavailable, type(None)]
    assert await store.keys() == ["a", "b"]


async def test_loops_that_are_closed_are_not_waited_for(path):
    """A loop that ends while something is under way takes nothing with it."""
    store = SqliteStore(path)

    def cut_off():
        loop = asyncio.new_event_loop()
        task = loop.create_task(store.put("a", b"1"))
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        task._log_destroy_pending = False
        loop.close()

    await asyncio.to_thread(cut_off)

    assert await store.get("a") in (None, b"1")
    await store.put("b", b"1")
    await store.close()


def test_one_store_may_be_used_by_one_loop_after_another(path):
    """`asyncio.run` twice, with the same store: the second goes on where the first has been."""
    store = SqliteStore(path)
    assert [asyncio.run(store.add("n", 1)) for _ in range(3)] == [1, 2, 3]

    asyncio.run(store.close())
    assert threads(path) == []


def test_stores_that_nobody_has_any_more_are_closed(path):
    """A store that was left open and is collected leaves no thread and no open file."""
    store = SqliteStore(path)
    asyncio.run(store.put("a", b"1"))

    del store
    gc.collect()

    assert threads(path) == []
    assert open_files(path) == []


def test_stores_left_open_keep_no_program_from_ending(path):
    """The program ends at once, without an error, and what it had acknowledged is kept."""
    with Program("leave", str(path), "k") as program:
        assert program.rest()[-1] == ["left"]
        assert program.process.returncode == 0

    async def look():
        async with SqliteStore(path) as store:
            return await store.get("k")

    assert asyncio.run(look()) == b"1"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_processes_open_the_file_anew(path):
    """Parent and child go on with the same store, and neither spoils the other's file."""
    store = SqliteStore(path)
    asyncio.run(store.add("n", 1))
    child = os.fork()
    if not child:
        code = 1
        try:
            assert asyncio.run(store.add("n", 10)) >= 11
            asyncio.run(store.close())
            code = 0
        finally:
            os._exit(code)
    asyncio.run(store.add("n", 100))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asyncio.run(store.get("n")) == b"111"
    assert asyncio.run(store.add("n", 1000)) == 1111
    asyncio.run(store.close())
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_killed_writer_leaves_a_sound_file(path):
    """After kill -9 SQLite itself finds nothing wrong with the file."""
    for _ in range(3):
        with Program("write", str(path), "w") as program:
            for _ in range(60):
                await asyncio.to_thread(program.line)
            program.kill()
        async with SqliteStore(path) as store:
            assert await in_thread(store, pragma("integrity_check")) == "ok"
            for run in await store.runs(limit=1000):
                run_left = await store.claim(run.run_id, "me", 60)
                assert run_left is None or run_left.fence > 1
        path.unlink()


async def test_halts_of_another_process_are_seen(store, path):
    """What another process has committed is in the next read."""

    async def halted():
        return (await store.emergency("c")).version >= 5

    with Program("count", str(path), "p", 5) as program:
        await until(halted)
        program.rest()

    assert (await store.emergency("c")).metadata == {"n": 5}
