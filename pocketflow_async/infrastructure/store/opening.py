"""Which store an address means."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from pocketflow_async.infrastructure.store.model import Store

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # one letter is a drive of Windows
_FORMS: Final = (
    "memory:, sqlite:///relative.db, sqlite:////absolute.db, a path, "
    "or postgresql://user@host/database?schema=name"
)


def open_store(where: str | os.PathLike[str]) -> Store:
    """Return the store at an address; it is opened by `async with`, or when it is first used.

    Args:
        where: `memory:`; `sqlite:///relative.db`, `sqlite:////absolute.db` or a path, where
            `?busy_timeout=` takes seconds; or `postgresql://…`, where `?schema=` takes the name of
            the schema, and the rest is what asyncpg knows.

    Raises:
        ValueError: It is none of these. The message has no password in it.
    """
    text = os.fspath(where)
    found = _SCHEME.match(text) if isinstance(where, str) else None
    if found is None:
        return _sqlite(text, {}) if text else _unknown("an empty text")
    scheme = found[1].lower().partition("+")[0]  # what follows names a driver, as in SQLAlchemy's
    if scheme == "memory":
        return _memory(text)
    if scheme == "sqlite":
        return _sqlite_of(text)
    if scheme in ("postgresql", "postgres"):
        return _postgres(text)
    return _unknown(f"{found[1]}:")


def _memory(text: str) -> Store:
    from pocketflow_async.infrastructure.store.memory import MemoryStore  # noqa: PLC0415

    if text.partition(":")[2].strip("/"):
        raise ValueError("memory: has nothing after it")
    return MemoryStore()


def _sqlite_of(text: str) -> Store:
    parts = urlsplit(text)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise ValueError(
            "sqlite: is followed by three slashes and a relative path, or by four and an absolute "
            "one"
        )
    if path[1:] in ("", ":memory:"):
        raise ValueError("sqlite: needs the path of a file; for one in memory take memory:")
    return _sqlite(path[1:], dict(parse_qsl(parts.query)))


def _sqlite(path: str, options: dict[str, str]) -> Store:
    from pocketflow_async.infrastructure.store.sqlite import SqliteStore  # noqa: PLC0415

    timeout = options.pop("busy_timeout", "30")
    if options:
        raise ValueError(f"sqlite: does not know {', '.join(sorted(options))}")
    try:
        seconds = float(timeout)
    except ValueError:
        raise ValueError(f"busy_timeout is a number of seconds, and not {timeout!r}") from None
    return SqliteStore(Path(path).expanduser(), busy_timeout=seconds)


def _postgres(text: str) -> Store:
    from pocketflow_async.infrastructure.store.postgres import PostgresStore  # noqa: PLC0415

    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query))
    schema = options.pop("schema", "pocketflow")
    bare = parts._replace(scheme="postgresql", query=urlencode(options))
    return PostgresStore(bare.geturl(), schema=schema)


def _unknown(what: str) -> Store:
    raise ValueError(f"{what} is no place for a store; what there is: {_FORMS}")
