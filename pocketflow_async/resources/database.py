"""What makes pools of database connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike, fspath
from typing import Any, Final

from pocketflow_async.resources.database_facts import Where
from pocketflow_async.resources.database_pool import DatabasePool
from pocketflow_async.resources.database_urls import parts
from pocketflow_async.resources.factory import ResourceFactory, masked
from pocketflow_async.resources.mysql import MysqlPool, open_mysql
from pocketflow_async.resources.postgresql import open_postgresql
from pocketflow_async.resources.signatures import (
    Known,
    check_options,
    parameters_of,
    taken_by,
)
from pocketflow_async.resources.sqlite import SqlitePool, open_sqlite

_PORTS: Final[Mapping[str, int | None]] = {"postgresql": 5432, "mysql": 3306, "sqlite": None}
_USERS: Final[Mapping[str, str | None]] = {"postgresql": "postgres", "mysql": "root"}
_SQLITE: Final = frozenset({"cached_statements", "check_same_thread", "detect_types", "factory"})
"""What `sqlite3.connect` takes, which has no signature; those aside that are given to it anyway."""

_SAID: Final = ("dsn", "host", "port", "db", "database", "user", "password", "min_size", "max_size")


class DatabasePoolFactory(ResourceFactory[DatabasePool]):
    """Makes pools of connections to one database, all with the same face.

    User and password are given to the driver as they are, so they may hold any signs.

    Args:
        backend: "postgresql" (asyncpg), "sqlite" (aiosqlite) or "mysql" (aiomysql; MariaDB too).
        host: Name or address of the server.
        port: Its port; the usual one when left out.
        database: Name of the database; of SQLite the file, or ":memory:" for one that the
            connections of a pool share and that ends with it.
        user: Who connects; "postgres" or "root" when left out.
        password: Never shown; of PostgreSQL also a function that returns it, for each connection.
        min_size: Connections that are kept open.
        max_size: Most connections at a time; who needs another one waits.
        acquire_timeout: Seconds to wait for a connection, unless `acquire` says otherwise; None:
            any time.
        connect_timeout: Seconds that opening a connection may take.
        **options: What `asyncpg.create_pool`, `aiomysql.connect` or `SqlitePool` take besides.

    Raises:
        TypeError: An argument is of a wrong type, or the driver takes no such option.
        ValueError: There is no such backend, or a value is out of range.
    """

    def __init__(
        self,
        backend: str = "postgresql",
        host: str = "localhost",
        port: int | None = None,
        database: str | PathLike[str] | None = "test",
        user: str | None = None,
        password: str | Callable[[], Any] | None = None,
        min_size: int = 5,
        max_size: int = 20,
        *,
        acquire_timeout: float | None = None,
        connect_timeout: float = 10.0,
        **options: Any,
    ) -> None:
        if backend not in _PORTS:
            raise ValueError(
                f"Unsupported database backend: {backend}. Use one of: {', '.join(_PORTS)}"
            )
        _check_sizes(min_size, max_size)
        _check_seconds("acquire_timeout", acquire_timeout)
        _check_seconds("connect_timeout", connect_timeout)
        for name in _SAID:
            if name in options:
                raise TypeError(f"{name} is no option: see host=, database= … and from_url()")
        check_options(
            f"DatabasePoolFactory({backend!r})",
            options,
            lambda: _taken(backend),
            parameters_of(DatabasePoolFactory),
        )
        self._backend = backend
        self._database = _database(database)
        self._where = _where(backend, host, port, self._database, user)
        self._password = _checked_password(backend, password)
        self._sizes = (min_size, max_size)
        self._acquire_timeout = acquire_timeout
        self._connect_timeout = connect_timeout
        self._options = options

    @classmethod
    def from_url(cls, url: str, **options: Any) -> DatabasePoolFactory:
        """Return the factory for `postgresql://user:password@host:5432/name`, `mysql://…`,
        `sqlite:///file.db` or `sqlite://:memory:`; odd signs in it are written as `%40`.

        Args:
            url: Where the database is.
            **options: What the factory takes besides.

        Raises:
            ValueError: It is no such address; the message does not repeat it.
        """  # noqa: D205 (the addresses belong together)
        return cls(**{**parts(url), **options})

    async def create(self) -> DatabasePool:
        """Open the pool, with its first connections.

        Raises:
            ImportError: The driver is not installed; says what to install.
            DatabaseUnreachableError: Nobody answers there.
            Exception: What the server has against it, with a note of where that was.
        """
        sizes, options = (*self._sizes, self._acquire_timeout), dict(self._options)
        if self._backend == "sqlite":
            return await open_sqlite(self._where, self._database, *sizes, **options)
        if self._backend == "mysql":
            password, timeout = self._password, self._connect_timeout
            return await open_mysql(self._where, password, *sizes, timeout, options)
        return await open_postgresql(
            self._where, self._password, *sizes, self._connect_timeout, options
        )

    def get_config(self) -> dict[str, Any]:
        """Return what the pool is made of, without the password."""
        where, (min_size, max_size) = self._where, self._sizes
        return {
            "backend": self._backend,
            **masked({"host": where.host, "port": where.port}),
            "database": where.database,
            **masked({"user": where.user}),
            "min_size": min_size,
            "max_size": max_size,
            **masked(self._options),
        }

    async def close(self, resource: DatabasePool) -> None:
        """Close the pool, once its connections are back."""
        await resource.close()

    async def check(self, resource: DatabasePool) -> bool:
        """Say whether the database answers; a pool with no connection to spare is well."""
        return await resource.check()

    def terminate(self, resource: DatabasePool) -> None:
        """Cut the connections of the pool, also when its event loop is closed."""
        resource.terminate()


def _taken(backend: str) -> Known:
    """Return the options that the back end takes."""
    if backend == "postgresql":
        return taken_by("asyncpg:create_pool", "asyncpg:connect")
    if backend == "mysql":
        return taken_by(MysqlPool, "aiomysql:connect", extra="resources")
    own = taken_by(SqlitePool, "aiosqlite:connect", lambda: None)
    return None if own is None else own | _SQLITE


def _database(database: Any) -> str:
    name = "test" if database is None else fspath(database)
    if not isinstance(name, str) or not name:
        raise ValueError("database must be the name of a database, or a file")
    return name


def _where(backend: str, host: Any, port: Any, name: str, user: Any) -> Where:
    if backend == "sqlite":  # what a URI asks for may be secret
        return Where("sqlite", name.partition("?")[0] if name.startswith("file:") else name)
    if not isinstance(host, str) or not host:
        raise TypeError("host must be the name or address of a server")
    for what, text in (("host", host), ("database", name)):
        if "://" in text:  # it may hold a password: it is not repeated
            raise ValueError(f"{what} must be a name, not a URL: use from_url()")
    if port is not None and (type(port) is not int or not 0 < port < 65536):
        raise ValueError(f"port must be a number from 1 to 65535, not {port!r:.80}")
    if user is not None and not isinstance(user, str):
        raise TypeError(f"user must be a text, not {type(user).__name__}")
    return Where(backend, name, host, port or _PORTS[backend], user or _USERS[backend])


def _checked_password(backend: str, password: Any) -> Any:
    if password is None or isinstance(password, str):
        return password
    if callable(password) and backend == "postgresql":
        return password
    raise TypeError(f"password must be a text, not {type(password).__name__}")


def _check_sizes(min_size: Any, max_size: Any) -> None:
    for name, value, least in (("min_size", min_size, 0), ("max_size", max_size, 1)):
        if type(value) is not int or value < least:
            raise ValueError(f"{name} must be a whole number from {least}, not {value!r:.80}")
    if min_size > max_size:
        raise ValueError(f"min_size ({min_size}) must not be above max_size ({max_size})")


def _check_seconds(name: str, value: Any) -> None:
    if value is None and name == "acquire_timeout":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r:.80}")
