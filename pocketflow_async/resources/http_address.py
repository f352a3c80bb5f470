"""Addresses of requests: a base, what comes after it, and what is asked."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from pocketflow_async.resources.factory import without_credentials

Params: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]] | str | None
"""What is asked: by name, or pairs, or written out already. A list is several values of one name,
None is left out, and True is `true`."""

_FULL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


class Base(NamedTuple):
    """What addresses begin with.

    Attributes:
        url: Without a slash at its end, and without credentials; None: there is none.
        authorization: The header that the credentials stand for.
    """

    url: str | None = None
    authorization: str | None = None


def base(url: str | None) -> Base:
    """Return what *url* says, with its credentials apart.

    Raises:
        ValueError: It is no address of a server, or it asks something.
    """
    if url is None:
        return Base()
    parts = urlsplit(str(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url must begin with http:// or https://: {_shown(url)!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"base_url must have no query: give params= instead: {_shown(url)!r}")
    place = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
    if parts.username is None:
        return Base(bare)
    user, password = unquote(parts.username), unquote(parts.password or "")
    return Base(bare, "Basic " + b64encode(f"{user}:{password}".encode()).decode())


def _shown(url: object) -> str:
    return without_credentials(str(url))[:200]


def address(start: str | None, url: str, params: Params = None) -> str:
    """Return the whole address: *url* itself if it is one, else *start* and *url* after it.

    Raises:
        ValueError: There is no whole address.
    """
    if not _FULL.match(url):
        if start is None:
            raise ValueError(f"{_shown(url)!r} is no full address: give the client a base_url")
        tail = url.lstrip("/")
        url = f"{start}{'' if tail[:1] == '?' else '/'}{tail}" if url else start
    asked = query(params)
    if not asked:
        return url
    place, mark, fragment = url.partition("#")
    joint = "" if place.endswith(("?", "&")) else "&" if "?" in place else "?"
    return f"{place}{joint}{asked}{mark}{fragment}"


def query(params: Params) -> str:
    """Return *params* written out."""
    if params is None or isinstance(params, str):
        return (params or "").lstrip("?")
    given = params.items() if isinstance(params, Mapping) else params
    pairs = [(name, _text(one)) for name, value in given for one in _several(value)]
    return urlencode(pairs, quote_via=quote)


def form(data: Mapping[str, Any]) -> bytes:
    """Return *data* as a form is sent."""
    pairs = [(name, _text(one)) for name, value in data.items() for one in _several(value)]
    return urlencode(pairs).encode()


def _several(value: Any) -> list[Any]:
    values = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    return [one for one in values if one is not None]


def _text(value: Any) -> str | bytes:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (str, bytes)) else str(value)
