"""The spool as a sender sees it: what one target is still to get, taken in loads and settled.

A load stays in the store until it is settled, so it is sent again after any kind of death; whoever
receives it twice gets the same ids.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tracing.store import owner as owners
from tracing.store.schema import connect, transaction

if TYPE_CHECKING:
    from tracing.store.load import Load
    from tracing.store.store import TraceStore


class Waiting(NamedTuple):
    """How much of the spool is for one target."""

    key: str
    name: str
    address: str
    waiting: int
    """Records that are still to be sent."""
    aside: int
    """Records that the target will not take."""
    reason: str | None
    """Why, for the last of these."""
    oldest_ns: int | None
    """Unix time, in nanoseconds, since which the oldest one waits."""


class Outbox:
    """Hands out what a store has for targets. For one thread at a time for each target.

    The file is opened for each operation and closed again, so that a fork finds it closed.

    Args:
        store: The store, of this process.
        probe: Looks whether a process of this machine lives.
        wall_ns: Unix time in nanoseconds.
    """

    def __init__(
        self,
        store: TraceStore,
        *,
        probe: owners.Probe = owners.start_token,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._probe = probe
        self._wall_ns = wall_ns
        self.lock = threading.Lock()
        """Held while the file is open, so that a fork can wait for a quiet moment."""

    def take(self, key: str, most: int, room: int) -> Load:
        """Return what this process is to send next to the target *key*; it stays in the store.

        Args:
            key: Identifies the target.
            most: Most records.
            room: Most bytes of content, about; one record is returned however large it is.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        with self._opened() as connection:
            from tracing.store.load import read  # noqa: PLC0415 (only who sends; not while forking)

            return read(connection, key, self._store.number, most, room)

    def settle(self, key: str, load: Load, done: int) -> None:
        """Forget the first *done* items of *load*: they have arrived, or are lost.

        Raises:
            sqlite3.Error: The store cannot be written.
        """
        arrived = {item.row for item in load.items[:done]}
        rest = {item.row for item in load.items[done:]}
        with self._opened() as connection, transaction(connection):
            for parcel, before, numbers in load.parts:
                kept = next((at for at, row in enumerate(numbers) if row in rest), len(numbers))
                _advance(connection, parcel, before + kept)
            if self._store.is_transit and arrived:
                _discard(connection)

    def set_aside(self, key: str, rows: Sequence[int], reason: str) -> None:
        """Note that the target will never take the records *rows*.

        Raises:
            sqlite3.Error: The store cannot be written.
        """
        with self._opened() as connection, transaction(connection):
            connection.execute(
                "INSERT INTO parcels (target, owner, records, count, made_ns, reason)"
                " SELECT id, ?, ?, ?, ?, ? FROM targets WHERE key = ?",
                (
                    self._store.number,
                    array("q", rows).tobytes(),
                    len(rows),
                    self._wall_ns(),
                    reason,
                    key,
                ),
            )

    def adopt(self, key: str) -> int:
        """Take over what dead processes have left for the target; return how many records.

        Raises:
            sqlite3.Error: The store cannot be written.
        """
        with self._opened() as connection:
            me = self._store.number
            left = _left_by(connection, key, me)
            dead = [owner for owner in left if not self._lives(connection, owner)]
            if not me or not dead:
                return 0
            with transaction(connection):
                for owner in dead:
                    connection.execute(
                        "UPDATE parcels SET owner = ? WHERE owner = ? AND reason IS NULL"
                        " AND target = (SELECT id FROM targets WHERE key = ?)",
                        (me, owner, key),
                    )
            return sum(left[owner] for owner in dead)

    def know(self, key: str, name: str, address: str) -> None:
        """Make sure that the store has heard of a target, so that `readdress` finds it.

        Raises:
            sqlite3.Error: The store cannot be written.
        """
        with self._opened() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO targets (key, name, address) VALUES (?, ?, ?)",
                (key, name, address),
            )

    def readdress(self, from_keys: Iterable[str], to_key: str) -> int:
        """Let what waits for some targets go to another one; return how many records.

        Living processes keep what is theirs to send. What the other one has already had goes there
        once more, with the same ids.

        Args:
            from_keys: Of the targets that get none of it any more.
            to_key: Of the target that gets it; one that the store knows.

        Raises:
            LookupError: The store does not know that one.
            sqlite3.Error: The store cannot be written.
        """
        with self._opened() as connection, transaction(connection):
            found = connection.execute("SELECT id FROM targets WHERE key = ?", (to_key,)).fetchone()
            if found is None:
                raise LookupError(to_key)
            free = self._free(connection, set(from_keys) - {to_key})
            for parcel, _ in free:
                connection.execute("UPDATE parcels SET target = ? WHERE id = ?", (*found, parcel))
            return sum(left for _, left in free)

    def forget(self, keys: Iterable[str]) -> int:
        """Let what waits for some targets be sent to none of them; return how many records.

        They stay in the store. Living processes keep what is theirs to send.

        Raises:
            sqlite3.Error: The store cannot be written.
        """
        with self._opened() as connection, transaction(connection):
            free = self._free(connection, set(keys))
            for parcel, _ in free:
                connection.execute("DELETE FROM parcels WHERE id = ?", (parcel,))
            return sum(left for _, left in free)

    def held(self) -> dict[str, int]:
        """Return how many records other living processes are to send, by key of their target.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        with self._opened() as connection:
            found: dict[str, int] = {}
            lives: dict[int, bool] = {}
            for key, owner, left in connection.execute(
                "SELECT key, owner, sum(count - done) FROM parcels"
                " JOIN targets ON targets.id = parcels.target"
                " WHERE reason IS NULL AND owner != ? GROUP BY key, owner",
                (self._store.number,),
            ).fetchall():
                if owner not in lives:
                    lives[owner] = self._lives(connection, owner)
                if lives[owner]:
                    found[key] = found.get(key, 0) + left
            return found

    def own(self, key: str) -> int:
        """Return how many records this process is still to send to the target.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        with self._opened() as connection:
            found = connection.execute(
                "SELECT coalesce(sum(count - done), 0) FROM parcels WHERE owner = ?"
                " AND reason IS NULL AND target = (SELECT id FROM targets WHERE key = ?)",
                (self._store.number, key),
            ).fetchone()
            return int(found[0])

    def waiting(self) -> list[Waiting]:
        """Return what is in the spool for every target that was ever named in it.

        Raises:
            sqlite3.Error: The store cannot be read.
        """
        with self._opened() as connection:
            return everything_waiting(connection)

    def _free(self, connection: sqlite3.Connection, keys: Collection[str]) -> list[tuple[int, int]]:
        """Return number and size of the parcels for *keys* that no other living process has."""
        rows = [
            row
            for key in keys
            for row in connection.execute(
                "SELECT id, owner, count - done FROM parcels WHERE reason IS NULL"
                " AND target = (SELECT id FROM targets WHERE key = ?)",
                (key,),
            ).fetchall()
        ]
        taken = {
            owner
            for owner in {row[1] for row in rows} - {self._store.number}
            if self._lives(connection, owner)
        }
        return [(parcel, left) for parcel, owner, left in rows if owner not in taken]

    def _lives(self, connection: sqlite3.Connection, number: int) -> bool:
        row = connection.execute(
            f"SELECT {owners.COLUMNS} FROM owners WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            return False
        owner = owners.from_row(row)[1]
        return owners.is_alive(owner, owners.here(), self._wall_ns(), self._probe)

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection, None, None]:
        path = self._store.path
        if path is None:
            with self._store.shared() as connection:
                yield connection
            return
        with self.lock, closing(connect(path)) as connection:
            yield connection


def everything_waiting(connection: sqlite3.Connection) -> list[Waiting]:
    """Return what is in the spool for every target that was ever named in it."""
    rows = connection.execute(
        """
        SELECT targets.key, targets.name, targets.address,
               coalesce(sum(CASE WHEN reason IS NULL THEN count - done END), 0),
               coalesce(sum(CASE WHEN reason IS NOT NULL THEN count END), 0),
               (SELECT reason FROM parcels AS last WHERE last.target = targets.id
                    AND reason IS NOT NULL ORDER BY id DESC LIMIT 1),
               min(CASE WHEN reason IS NULL THEN made_ns END)
        FROM targets LEFT JOIN parcels ON parcels.target = targets.id
        GROUP BY targets.id ORDER BY targets.id
        """
    )
    return [Waiting(*row) for row in rows.fetchall()]


def _left_by(connection: sqlite3.Connection, key: str, me: int) -> dict[int, int]:
    rows = connection.execute(
        "SELECT owner, sum(count - done) FROM parcels WHERE reason IS NULL AND owner != ?"
        " AND target = (SELECT id FROM targets WHERE key = ?) GROUP BY owner",
        (me, key),
    )
    return dict(rows.fetchall())


def _advance(connection: sqlite3.Connection, parcel: int, done: int) -> None:
    connection.execute("UPDATE parcels SET done = ? WHERE id = ?", (done, parcel))
    connection.execute("DELETE FROM parcels WHERE id = ? AND done >= count", (parcel,))


def _discard(connection: sqlite3.Connection) -> None:
    """Delete what has been sent, in a store that nobody reads; once nothing waits any more."""
    if connection.execute("SELECT 1 FROM parcels WHERE reason IS NULL LIMIT 1").fetchone():
        return
    connection.execute("DELETE FROM records WHERE duration_ns IS NOT NULL")
    connection.execute(
        "DELETE FROM traces WHERE NOT EXISTS (SELECT 1 FROM records WHERE trace = traces.id)"
        " AND duration_ns IS NOT NULL"
    )
