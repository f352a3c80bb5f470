"""What the store knows of targets: the one place here that reads the tables of the spool."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from tracing.store.schema import connect_readonly

_HAS_SPOOL: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'parcels'"
_SHAPE: Final = """
SELECT shape FROM routes WHERE id = (
    SELECT route FROM records
    WHERE trace = (SELECT id FROM traces WHERE trace_id = ?) AND route IS NOT NULL LIMIT 1
)
"""
_TARGETS: Final = "SELECT id, key, name, address FROM targets ORDER BY name, id"
_WAITING: Final = """
SELECT owner, sum(count - done), min(made_ns) FROM parcels
WHERE target = ? AND reason IS NULL GROUP BY owner
"""
_ASIDE: Final = """
SELECT reason, sum(count - done) FROM parcels
WHERE target = ? AND reason IS NOT NULL GROUP BY reason ORDER BY 2 DESC
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one target is still to get."""

    key: str
    """`Target.key`."""
    name: str
    address: str
    records: int
    since_ns: int | None
    """Unix time of the oldest of them, in nanoseconds."""
    aside: dict[str, int] = field(default_factory=dict)
    """Records that were set aside for good, by reason."""
    by_owner: dict[int, int] = field(default_factory=dict)
    """How the records are shared out among the processes that are to send them, by row number."""


def shape(path: str, trace_id: str) -> str | None:
    """Return how the spans of a trace were to look when it was recorded, as `Route.shape` has it.

    None: they were to be sent nowhere, or the store is older than that.
    """
    with closing(connect_readonly(path)) as connection:
        if connection.execute(_HAS_SPOOL).fetchone() is None:
            return None
        found = connection.execute(_SHAPE, (bytes.fromhex(trace_id),)).fetchone()
        return None if found is None else str(found[0])


def waiting(connection: sqlite3.Connection) -> list[Waiting]:
    """Return every target that the store at *connection* knows; none in an older store."""
    if connection.execute(_HAS_SPOOL).fetchone() is None:
        return []
    found = []
    for number, key, name, address in connection.execute(_TARGETS).fetchall():
        left = connection.execute(_WAITING, (number,)).fetchall()
        by_owner = {owner: int(records) for owner, records, _ in left}
        since = min((made for _, _, made in left), default=None)
        aside = dict(connection.execute(_ASIDE, (number,)).fetchall())
        found.append(Waiting(key, name, address, sum(by_owner.values()), since, aside, by_owner))
    return found
