"""What pools of database connections raise themselves; the database's own errors pass as they are.

ResourceError
├── DatabaseUnreachableError (ConnectionError)   nobody answers there
├── PoolTimeoutError (TimeoutError)              no connection was free in time
├── PoolClosedError (RuntimeError)               the pool gives out no more connections
└── ConnectionReleasedError (RuntimeError)       the connection has been given back already
"""

from __future__ import annotations

from pocketflow_async.resources.errors import ResourceError


class DatabaseUnreachableError(ResourceError, ConnectionError):
    """Raised when no connection to the database can be made: name, network or server.

    What was the matter is its cause.

    Attributes:
        where: The database, without any secret.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"cannot connect to {where}: {reason}")
        self.where = where


class PoolTimeoutError(ResourceError, TimeoutError):
    """Raised when no connection of a pool was there in time.

    Attributes:
        name: Name of the pool.
        seconds: What there was.
    """

    def __init__(self, name: str, seconds: float, leases: int, size: int, waiting: int) -> None:
        super().__init__(
            f"no connection of {name!r} was there within {seconds:g} s: {leases} of {size} are in "
            f"use, and {waiting} more wait. Give connections back sooner (`async with "
            "pool.acquire()`), or raise max_size= or the timeout."
        )
        self.name = name
        self.seconds = seconds


class PoolClosedError(ResourceError, RuntimeError):
    """Raised when a connection is asked for, or waited for, and the pool is closed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the pool {name!r} is closed: ask the registry for a new one")
        self.name = name


class ConnectionReleasedError(ResourceError, RuntimeError):
    """Raised when a connection is used that has been given back to its pool."""

    def __init__(self) -> None:
        super().__init__(
            "this connection has been given back to its pool: use it inside `async with "
            "pool.acquire() as connection:`"
        )
