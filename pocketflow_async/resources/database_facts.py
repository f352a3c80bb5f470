"""What is told of a pool of database connections."""

from __future__ import annotations

from typing import Any, NamedTuple


class Where(NamedTuple):
    """Which database it is, without any secret."""

    system: str
    database: str
    host: str | None = None
    port: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        place = "" if self.host is None else f" at {self.host}:{self.port}"
        who = "" if self.user is None else f" as {self.user!r}"
        return f"{self.system}{place}, database {self.database!r}{who}"

    def facts(self) -> dict[str, Any]:
        """Return what a step tells of it."""
        facts = {"db.system.name": self.system, "db.namespace": self.database}
        if self.host is None:
            return facts
        return {**facts, "server.address": self.host, "server.port": self.port}


class PoolStatistics(NamedTuple):
    """What a pool does, and has done so far.

    Attributes:
        size: Connections that are open.
        idle: Those of them that nobody uses.
        leases: How many are in use, or being opened or put in order for that.
        waiting: How many wait for one.
        acquired: How often one was given out.
        waited: How often one had to be waited for, because all were in use.
        waited_seconds: Seconds from asking to having one, all together.
        timeouts: How often none was there in time.
    """

    size: int
    idle: int
    leases: int
    waiting: int
    acquired: int
    waited: int
    waited_seconds: float
    timeouts: int
