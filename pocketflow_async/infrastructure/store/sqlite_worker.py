"""The thread that has the only connection to an SQLite file, and commits what waits together."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from pocketflow_async.infrastructure.store.errors import StoreUnavailable
from pocketflow_async.infrastructure.store.model import EmergencyRow
from pocketflow_async.infrastructure.store.sqlite_errors import is_busy, is_spoilt, meaning
from pocketflow_async.infrastructure.store.sqlite_look import Look
from pocketflow_async.infrastructure.store.sqlite_schema import connect, identity

MOST: Final = 256
"""Changes that are committed together, at most."""

_PAUSE: Final = 0.001
_LONGEST: Final = 0.008
"""Seconds between two looks whether others have ended. SQLite itself is not let wait: it could not
be asked anything meanwhile."""

Answer: TypeAlias = tuple[Any, BaseException | None]
"""What came of a job: a value, or an error that is not None."""


class Job:
    """Something to do in the thread.

    Args:
        function: What to do with the connection; again if it had to be undone.
        args: What it gets besides.
        writes: Whether it changes anything.

    Attributes:
        loop: The loop of who waits for it.
        answer: Gets what came of it, which is never an exception of the future itself: a future
            takes no StopIteration.
    """

    __slots__ = ("answer", "args", "function", "loop", "writes")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], writes: bool) -> None:
        self.function = function
        self.args = args
        self.writes = writes
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Answer] = self.loop.create_future()


class Worker:
    """Does jobs in a thread of its own, for any number of event loops.

    Reads see what is committed. Changes that wait at the same time become one transaction, with a
    savepoint for each: they share the wait for the disk, and one that fails takes no other with it.

    Args:
        path: The file.
        patience: Seconds to wait for other processes that write.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self.pid = os.getpid()
        self._path = path
        self._patience = patience
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        self._ended = False
        self._leavers: list[Job] = []
        self._later: list[Job] = []
        self._is_last = False
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._looking: Look | None = None
        # A daemon: a store that is left open keeps no program from ending.
        self._thread = threading.Thread(target=self._run, name=f"store {path}", daemon=True)
        self._thread.start()

    def ask(
        self, function: Callable[..., Any], args: tuple[Any, ...], *, writes: bool
    ) -> asyncio.Future[Answer]:
        """Let *function* be called; cancelling the future calls it off if it has not begun.

        Raises:
            StoreUnavailable: The worker has been stopped.
        """
        job = Job(function, args, writes)
        with self._lock:
            if self._stopped:
                raise StoreUnavailable(str(self._path), "is closed")
            self._jobs.put(job)
        return job.answer

    def look(self, controller_id: str) -> EmergencyRow | None:
        """Return the state of a controller if that can be had at once; None: ask for it."""
        look = self._looking
        return None if look is None or self._stopped else look.emergency(controller_id)

    def stop(self) -> None:
        """Let it end when it has done what it has been asked for. Does not wait; again is fine."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._jobs.put(None)

    async def end(self) -> None:
        """Let it end, and wait until it has; it ends also when this is cancelled."""
        job = Job(_nothing, (), writes=False)
        with self._lock:
            if not self._ended:
                self._leavers.append(job)
            else:
                job.answer.set_result((None, None))
        self.stop()
        await job.answer
        self._thread.join()  # it has nothing left to do

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, which has closed the file."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while jobs := self._next():
                self._do(jobs)
                del jobs  # else what was asked for last would be kept until the next
        finally:
            self._disconnect()
            with self._lock:
                self._ended = True
                leavers = self._leavers
            _tell([(job, (None, None)) for job in leavers])

    def _next(self) -> list[Job]:
        """Return all that is to be done next, when there is something; empty: it is to end."""
        if self._later:
            jobs, self._later = self._later, []
            return jobs
        return [] if self._is_last else self._arrived(None)

    def _arrived(self, timeout: float | None) -> list[Job]:
        """Return all jobs that wait; if there is none, wait for the first."""
        jobs: list[Job] = []
        with suppress(Empty):
            job = self._jobs.get(timeout=timeout)
            while job is not None:
                jobs.append(job)
                if len(jobs) == MOST:
                    return jobs
                job = self._jobs.get_nowait()
            self._is_last = True
        return jobs

    def _do(self, jobs: list[Job]) -> None:
        self._read([job for job in jobs if not job.writes])
        changes = [job for job in jobs if job.writes]
        if changes:
            self._write(changes)

    def _read(self, jobs: list[Job]) -> None:
        answers: list[tuple[Job, Answer]] = []
        for job in jobs:
            try:
                answers.append((job, (self._patiently(self._once, job), None)))
            except BaseException as error:  # noqa: BLE001 (it belongs to who waits)
                self._failed([job], error)
        _tell(answers)

    def _once(self, job: Job) -> Any:
        return job.function(self._connected(), *job.args)

    def _write(self, jobs: list[Job]) -> None:
        """Do all *jobs* in one transaction; one by one if that fails."""
        try:
            answers = self._together(self._connected(), jobs)
        except BaseException as error:  # noqa: BLE001 (it belongs to those who wait)
            if len(jobs) == 1 or is_busy(error):
                self._failed(jobs, error)
                return
            for job in jobs:
                self._write([job])
        else:
            _tell(answers)

    def _together(self, db: sqlite3.Connection, jobs: list[Job]) -> list[tuple[Job, Answer]]:
        self._begin(db, jobs)
        try:
            answers = [(job, self._step(db, job, alone=len(jobs) == 1)) for job in jobs]
            if db.in_transaction:
                db.execute("COMMIT").close()
        except BaseException:
            _undo(db)
            raise
        return answers

    def _begin(self, db: sqlite3.Connection, jobs: list[Job]) -> None:
        """Begin a transaction, for which other processes may have to be waited for."""
        end, pause = time.monotonic() + self._patience, _PAUSE
        while True:
            try:
                db.execute("BEGIN IMMEDIATE").close()
                return
            except sqlite3.OperationalError as error:
                wanted = not all(job.answer.cancelled() for job in jobs)
                if not is_busy(error) or not wanted or time.monotonic() >= end:
                    raise
            self._read_meanwhile(pause)
            pause = min(2 * pause, _LONGEST)

    def _read_meanwhile(self, pause: float) -> None:
        """Wait, and answer reads: a long change of another process holds up no halt check."""
        if self._is_last:
            time.sleep(pause)
            return
        jobs = self._arrived(pause)
        self._later += [job for job in jobs if job.writes]
        self._read([job for job in jobs if not job.writes])

    def _step(self, db: sqlite3.Connection, job: Job, *, alone: bool) -> Answer:
        """Do one job of a transaction; if it fails in itself, nothing of it remains."""
        if job.answer.cancelled():
            return None, None
        if not alone:
            db.execute("SAVEPOINT one").close()
        try:
            value = job.function(db, *job.args)
        except BaseException as error:
            if not is_spoilt(error) or not db.in_transaction:
                raise
            db.execute("ROLLBACK" if alone else "ROLLBACK TO one").close()
            answer: Answer = None, meaning(error, str(self._path))
        else:
            answer = value, None
        if not alone:
            db.execute("RELEASE one").close()
        return answer

    def _patiently(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do *step*, again and again while others are in the way."""
        # The real clock, whatever that of the store is: SQLite waits in real time.
        end = time.monotonic() + self._patience
        while True:
            try:
                return step(*args)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= end:
                    raise
                time.sleep(_PAUSE)

    def _failed(self, jobs: list[Job], error: BaseException) -> None:
        told = meaning(error, str(self._path))
        if isinstance(told, StoreUnavailable) and not is_busy(error):
            self._disconnect()  # the next job opens the file again, which may be well by then
        _tell([(job, (None, told)) for job in jobs])

    # the file

    def _connected(self) -> sqlite3.Connection:
        if self._file is not None and identity(self._path) != self._file:
            # Whatever is there now, it is not what the program has begun with: a halt that was
            # stored would be forgotten.
            raise StoreUnavailable(
                str(self._path),
                "has been removed or replaced while it was open",
                "Put the file back, or start the program again to begin with what is there now",
            )
        if self._db is None:
            self._db = self._patiently(connect, self._path)
            self._file = identity(self._path)
            with suppress(sqlite3.Error):  # without it all goes through this thread
                self._looking = Look(self._path, self._file)
        return self._db

    def _disconnect(self) -> None:
        look, self._looking = self._looking, None
        if look is not None:
            look.close()
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _nothing() -> None:
    """Stand for what is only waited for."""


def _undo(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # the error that has led here is the one to tell of
        if db.in_transaction:
            db.execute("ROLLBACK").close()


def _tell(answers: list[tuple[Job, Answer]]) -> None:
    """Wake who waits: each loop once, however many its jobs."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[Job, Answer]]] = defaultdict(list)
    for job, answer in answers:
        by_loop[job.loop].append((job, answer))
    for loop, told in by_loop.items():
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, told)


def _settle(told: list[tuple[Job, Answer]]) -> None:
    for job, answer in told:
        if not job.answer.done():
            job.answer.set_result(answer)
