"""Addresses of databases as one text."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote, urlsplit

_SCHEMES: Final = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}


def parts(url: str) -> dict[str, Any]:
    """Return the arguments of a factory that *url* stands for.

    A scheme may name a driver after a `+`, which is ignored.

    Raises:
        ValueError: It is no address of a database, or asks for more; it is not repeated.
    """
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower().partition("+")[0]
    if scheme == "sqlite" and mark:
        name = unquote(rest.partition("?")[0])
        return {"backend": "sqlite", "database": _file(name)}
    if scheme not in _SCHEMES or not mark:
        raise ValueError("a database's URL begins with postgresql://, mysql:// or sqlite://")
    try:
        found = urlsplit(f"//{rest}")
        port = found.port
    except ValueError:
        raise ValueError("the database's URL has a port or host that is none") from None
    if found.query or found.fragment:
        raise ValueError("write options of the database's URL as arguments instead of `?…` or `#…`")
    given = {
        "host": unquote(found.hostname or ""),
        "port": port,
        "database": unquote(found.path[1:]),
        "user": None if found.username is None else unquote(found.username),
        "password": None if found.password is None else unquote(found.password),
    }
    return {"backend": _SCHEMES[scheme], **{key: value for key, value in given.items() if value}}


def _file(name: str) -> str:
    """Return the file: `/relative.db`, `//absolute.db` or `:memory:`, as SQLAlchemy writes it."""
    if name in ("", "/", ":memory:", "/:memory:"):
        return ":memory:"
    return name[1:] if name.startswith("/") else name
